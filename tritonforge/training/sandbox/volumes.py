"""The mounts and variables of a container: binds, this Python, and the volumes of an algorithm's `train` and `serve`.

    docker run --volume INPUT:/opt/ml/input:ro --volume MODEL:/opt/ml/model --volume OUTPUT:/opt/ml/output IMAGE train
    docker run --publish 8080:8080/tcp --volume MODEL:/opt/ml/model:ro IMAGE serve

Source: SageMaker developer guide, "Create algorithm images", step 2: "Build and test the image locally". An edge.
"""

from __future__ import annotations

import contextlib
import json
import os
import site
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Final

from tritonforge.errors import TritonForgeError
from tritonforge.training.sandbox.root import SYSTEM, BindSpec

__all__ = [
    "PROGRAM", "Bind", "BindError", "SandboxError", "Volumes", "bind_program", "build_environment",
    "build_serving_volumes", "build_training_volumes", "find_package_folder", "list_interpreter_binds",
    "read_resolver", "resolve_bind", "resolve_target",
]  # fmt: skip

#: The path of the program folder in a container; first on PATH, as in the Dockerfiles of SageMaker's guide.
PROGRAM: Final = "/opt/program"


#: The folders of this machine in every container, see `root`.
_SYSTEM_FOLDERS: Final = tuple(Path("/", name) for name in SYSTEM)


class SandboxError(TritonForgeError):
    """This machine does not allow a container's namespaces, or its port."""


class BindError(SandboxError):
    """The source of a bind is missing, or its target is invalid."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Bind:
    """A folder or file of this machine, ``source``, that is at ``target`` (an absolute path) in the container."""

    source: Path
    target: str
    read_only: bool = False


def build_environment(hostname: str = "algo-1") -> dict[str, str]:
    """Build the variables of every container; no variable of this process is inherited.

    PATH begins with the program folder, followed by the folder of this Python, so that ``python3`` has the packages of
    an image.
    """
    places = [PROGRAM, str(Path(sys.executable).parent)]
    places += ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"]
    return {
        "PATH": ":".join(places),
        "PYTHONPATH": str(find_package_folder()),
        "PYTHONUNBUFFERED": "1",  # as in SageMaker's images: lines at once
        "LANG": "C.UTF-8",
        "HOME": "/tmp",  # noqa: S108 - the container's own, which the program may write to
        "HOSTNAME": hostname,
    }


def find_package_folder() -> Path:
    """Return the folder that contains tritonforge."""
    return Path(__file__).resolve().parents[3]


def list_interpreter_binds() -> list[Bind]:
    """List the binds of this Python and its packages, unless the container's system folders contain them."""
    named = {Path(sys.prefix), Path(sys.base_prefix), find_package_folder() / "tritonforge", *_find_package_folders()}
    # A link is needed as well as its target; a folder inside another one is shown with that.
    needed = {
        path
        for path in named | {path.resolve() for path in named}
        if path.exists() and not any(folder in (path, *path.parents) for folder in _SYSTEM_FOLDERS)
    }
    return [Bind(path, str(path), read_only=True) for path in sorted(needed) if needed.isdisjoint(path.parents)]


def _find_package_folders() -> Iterator[Path]:
    """Yield folders of packages outside of this Python: the user's own, and editable installations.

    Source: the documentation of Python's module site, for .pth files.
    """
    users = Path(site.getusersitepackages())
    if site.ENABLE_USER_SITE:
        yield users
    for folder in (*site.getsitepackages(), *([str(users)] if site.ENABLE_USER_SITE else [])):
        for file in Path(folder).glob("*.pth"):
            with contextlib.suppress(OSError, UnicodeDecodeError):
                for line in file.read_text(encoding="utf-8").splitlines():
                    path = Path(line.strip())
                    if path.is_absolute() and path.is_dir() and path != find_package_folder():
                        yield path


def read_resolver() -> str:
    """Read the machine's resolv.conf, which may be a link to a path that the container does not have."""
    try:
        return Path("/etc/resolv.conf").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def resolve_bind(bind: Bind) -> BindSpec:
    """Check a bind and resolve its source. Raises BindError."""
    source = Path(os.path.realpath(bind.source))
    if not source.exists():
        raise BindError(f"{bind.source} does not exist; it cannot be {bind.target} in the container")
    return {"source": str(source), "target": resolve_target(bind.target), "read_only": bind.read_only}


def resolve_target(path: str) -> str:
    """Check a path of the container: absolute, without "..", and not the root. Raises BindError."""
    pure = PurePosixPath(path)
    if not pure.is_absolute() or ".." in pure.parts or len(pure.parts) < 2:
        raise BindError(f"{path!r} is not an absolute path below /; in a container it is one like /opt/ml/model")
    return str(pure)


_EMPTY: Final[Mapping[str, str]] = {}


_INPUT: Final = "/opt/ml/input"
_CONFIG: Final = f"{_INPUT}/config"

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
    """The binds and files of a container; ``made`` names the settings files that the input folder lacks."""

    binds: tuple[Bind, ...]
    files: Mapping[str, str] = field(default_factory=dict)
    made: tuple[str, ...] = ()


def bind_program(program: Path, command: str) -> Bind:
    """Return the bind of the program folder, read-only at /opt/program.

    Raises:
        BindError: the folder is missing, or has no executable file of the command's name.
    """
    file = program / command
    if not program.is_dir():
        raise BindError(f"{program} is not a folder; give the one that holds the program {command!r}")
    if not file.is_file():
        raise BindError(f"{program} has no program {command!r}; an image's command is {command}")
    if not os.access(file, os.X_OK):
        raise BindError(f"{file} is not executable; run: chmod 755 {file}")
    return Bind(program, PROGRAM, read_only=True)


def build_training_volumes(
    program: Path,
    *,
    input: Path,  # noqa: A002 - SageMaker's word for it
    model: Path,
    output: Path,
    checkpoints: Path | None = None,
    hyperparameters: Mapping[str, str] = _EMPTY,
) -> Volumes:
    """Build the volumes of ``train``: input read-only, the folders of model and output, and checkpoints if given.

    ``hyperparameters`` are added to those of ``input``'s config/hyperparameters.json. Settings that SageMaker always
    provides and ``input`` lacks are generated: the channels are the folders (and FIFOs) of data/.

    Raises:
        BindError: a folder is missing, or a settings file is invalid.
    """
    binds = [bind_program(program, "train")]
    for folder in (input, model, output, checkpoints):
        if folder is not None and not folder.is_dir():
            raise BindError(f"{folder} is not a folder; make it first")
    given = _read_hyperparameters(input)
    settings = {
        "hyperparameters.json": {**(given or {}), **hyperparameters},
        "inputdataconfig.json": _find_channels(input),
        "resourceconfig.json": _RESOURCES,
    }
    config = input / "config"
    made = [name for name in settings if not (config / name).exists()]
    if not made and not hyperparameters:
        binds.append(Bind(input, _INPUT, read_only=True))
        files = {}
    else:  # generated files are beside the existing ones, and nothing is written to the folder
        kept = [path for path in sorted(input.iterdir()) if path.name != "config"]
        kept += [path for path in sorted(config.iterdir()) if path.name not in made] if config.is_dir() else []
        binds += [Bind(path, f"{_INPUT}/{path.relative_to(input)}", read_only=True) for path in kept]
        written = {*made, *(["hyperparameters.json"] if hyperparameters else [])}
        binds = [bind for bind in binds if bind.target not in {f"{_CONFIG}/{name}" for name in written}]
        files = {f"{_CONFIG}/{name}": json.dumps(settings[name], indent=2) for name in sorted(written)}
    binds += [Bind(model, "/opt/ml/model"), Bind(output, "/opt/ml/output")]
    if checkpoints is not None:
        binds.append(Bind(checkpoints, "/opt/ml/checkpoints"))
    return Volumes(tuple(binds), files, tuple(made))


def build_serving_volumes(program: Path, *, model: Path) -> Volumes:
    """Build the volumes of ``serve``: the model's folder, read-only.

    Raises:
        BindError: a folder is missing.
    """
    bind = bind_program(program, "serve")
    if not model.is_dir():
        raise BindError(f"{model} is not a folder; give the one that training left, unpacked")
    return Volumes((bind, Bind(model, "/opt/ml/model", read_only=True)))


def _read_hyperparameters(given: Path) -> dict[str, str] | None:
    path = given / "config" / "hyperparameters.json"
    if not path.exists():
        return None
    try:
        values = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise BindError(f"{path} is not JSON: {error}") from error
    if not isinstance(values, dict) or not all(isinstance(value, str) for value in values.values()):
        raise BindError(f'{path} is not an object of strings; SageMaker gives every value as one: {{"epochs": "5"}}')
    return values


def _find_channels(given: Path) -> dict[str, dict[str, str]]:
    """Find the channels: a folder is one in File mode, FIFOs <name>_<epoch> are one in Pipe mode."""
    data = given / "data"
    modes: dict[str, str] = {}
    for path in sorted(data.iterdir()) if data.is_dir() else ():
        name, _, epoch = path.name.rpartition("_")
        if path.is_dir():
            modes[path.name] = "File"
        elif path.is_fifo() and name and epoch.isdigit():
            modes[name] = "Pipe"
    fixed = {"S3DistributionType": "FullyReplicated", "RecordWrapperType": "None"}
    return {name: {"TrainingInputMode": mode, **fixed} for name, mode in modes.items()}
