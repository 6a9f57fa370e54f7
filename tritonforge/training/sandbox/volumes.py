"""What ``docker run`` mounts for an algorithm image, as SageMaker's guide tests one on a machine of one's own.

    docker run --volume INPUT:/opt/ml/input:ro --volume MODEL:/opt/ml/model --volume OUTPUT:/opt/ml/output IMAGE train
    docker run --publish 8080:8080/tcp --volume MODEL:/opt/ml/model:ro IMAGE serve

Source: SageMaker developer guide, "Create algorithm images", steps 2: "Build and test the image locally".
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tritonforge.training.sandbox.process import PROGRAM, Bind, BindError

__all__ = ["Volumes", "program_bind", "serving", "training"]

_INPUT: Final = "/opt/ml/input"
_CONFIG: Final = f"{_INPUT}/config"
_NONE: Final[Mapping[str, str]] = {}

#: One host, as in a job on one instance. Source: SageMaker developer guide, "Distributed Training Configuration".
_RESOURCES: Final = {
    "current_host": "algo-1",
    "current_instance_type": "local",
    "current_group_name": "homogeneousCluster",
    "hosts": ["algo-1"],
    "instance_groups": [
        {"instance_group_name": "homogeneousCluster", "instance_type": "local", "hosts": ["algo-1"]},
    ],
    "network_interface_name": "eth0",
}


@dataclass(frozen=True, slots=True)
class Volumes:
    """What `start` binds and writes; ``made`` names the files of the job's settings that the input folder lacks."""

    binds: tuple[Bind, ...]
    files: Mapping[str, str] = field(default_factory=dict)
    made: tuple[str, ...] = ()


def program_bind(program: Path, command: str) -> Bind:
    """The program folder, read-only at /opt/program.

    Raises:
        BindError: it is no folder, or has no executable file of the command's name.
    """
    file = program / command
    if not program.is_dir():
        raise BindError(f"{program} is not a folder; give the one that holds the program {command!r}")
    if not file.is_file():
        raise BindError(f"{program} has no program {command!r}; an image's command is {command}")
    if not os.access(file, os.X_OK):
        raise BindError(f"{file} is not executable; run: chmod 755 {file}")
    return Bind(program, PROGRAM, read_only=True)


def training(
    program: Path,
    *,
    input: Path,  # noqa: A002 - SageMaker's word for it
    model: Path,
    output: Path,
    checkpoints: Path | None = None,
    hyperparameters: Mapping[str, str] = _NONE,
) -> Volumes:
    """The volumes of ``train``: input read-only, the model's and the output's folder, and checkpoints where given.

    ``hyperparameters`` are added to those of ``input``'s config/hyperparameters.json. What SageMaker always gives and
    ``input`` lacks of config/ is made: the channels are the folders (and FIFOs) of data/.

    Raises:
        BindError: a folder is not there, or a file of the settings is not what it must be.
    """
    binds = [program_bind(program, "train")]
    for folder in (input, model, output, checkpoints):
        if folder is not None and not folder.is_dir():
            raise BindError(f"{folder} is not a folder; make it first")
    given = _hyperparameters(input)
    wanted = {
        "hyperparameters.json": {**(given or {}), **hyperparameters},
        "inputdataconfig.json": _channels(input),
        "resourceconfig.json": _RESOURCES,
    }
    config = input / "config"
    made = [name for name in wanted if not (config / name).exists()]
    if not made and not hyperparameters:
        binds.append(Bind(input, _INPUT, read_only=True))
        files = {}
    else:  # what is made stands beside what is there, and nothing is written to the folder
        kept = [each for each in sorted(input.iterdir()) if each.name != "config"]
        kept += [each for each in sorted(config.iterdir()) if each.name not in made] if config.is_dir() else []
        binds += [Bind(each, f"{_INPUT}/{each.relative_to(input)}", read_only=True) for each in kept]
        written = {*made, *(["hyperparameters.json"] if hyperparameters else [])}
        binds = [each for each in binds if each.target not in {f"{_CONFIG}/{name}" for name in written}]
        files = {f"{_CONFIG}/{name}": json.dumps(wanted[name], indent=2) for name in sorted(written)}
    binds += [Bind(model, "/opt/ml/model"), Bind(output, "/opt/ml/output")]
    if checkpoints is not None:
        binds.append(Bind(checkpoints, "/opt/ml/checkpoints"))
    return Volumes(tuple(binds), files, tuple(made))


def serving(program: Path, *, model: Path) -> Volumes:
    """The volumes of ``serve``: the model's folder, read-only.

    Raises:
        BindError: a folder is not there.
    """
    bind = program_bind(program, "serve")
    if not model.is_dir():
        raise BindError(f"{model} is not a folder; give the one that training left, unpacked")
    return Volumes((bind, Bind(model, "/opt/ml/model", read_only=True)))


def _hyperparameters(given: Path) -> dict[str, str] | None:
    path = given / "config" / "hyperparameters.json"
    if not path.exists():
        return None
    try:
        values = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise BindError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(values, dict) or not all(isinstance(each, str) for each in values.values()):
        raise BindError(f'{path} is not an object of strings; SageMaker gives every value as one: {{"epochs": "5"}}')
    return values


def _channels(given: Path) -> dict[str, dict[str, str]]:
    """The channels that are there: a folder is one in File mode, FIFOs <name>_<epoch> are one in Pipe mode."""
    data = given / "data"
    modes: dict[str, str] = {}
    for each in sorted(data.iterdir()) if data.is_dir() else ():
        name, _, epoch = each.name.rpartition("_")
        if each.is_dir():
            modes[each.name] = "File"
        elif each.is_fifo() and name and epoch.isdigit():
            modes[name] = "Pipe"
    fixed = {"S3DistributionType": "FullyReplicated", "RecordWrapperType": "None"}
    return {name: {"TrainingInputMode": mode, **fixed} for name, mode in modes.items()}
