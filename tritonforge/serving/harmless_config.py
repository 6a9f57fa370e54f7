"""A model's configuration without what makes tritonserver run, load or read anything beside the configuration itself.

What is taken out cannot change what Triton's core says of the rest; what it may change is noted. Pure, but for looking
at whether a path exists.
"""

from __future__ import annotations

import math
import os
import re
from pathlib import Path, PurePosixPath
from typing import Any, Final

from tritonforge.datatypes import BY_CONFIG

__all__ = ["disarm", "is_plain_name"]

_ENVIRONMENT: Final = "EXECUTION_ENV_PATH"
_STRATEGY: Final = "TRITON_BATCH_STRATEGY_PATH"
_MODEL_DIRECTORY: Final = "$$TRITON_MODEL_DIRECTORY"
#: The agent that NVIDIA's images carry; every other one is looked for and not found, as on a server without it.
_CHECKSUM: Final = "checksum"

_LARGEST: Final = 64 * 2**20
_MOST_INSTANCES: Final = 2
_MOST_GROUPS: Final = 16
_MOST_SLOTS: Final = 65536
_MOST_WARMUPS: Final = 2


def is_plain_name(name: str) -> bool:
    """Whether a name, put into a path, leads nowhere else."""
    return re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*", name) is not None and ".." not in name


def disarm(config: Any, model: Path, copy: Path) -> list[str]:
    """Change a ModelConfig in place; what was taken out and may matter to the verdict, one phrase each.

    ``model`` is the model's directory, ``copy`` the directory that tritonserver is going to read in its place.
    """
    notes = [
        *_parameters(config, model, copy),
        *_backend(config),
        *_agents(config),
        *_files(config),
        *_sizes(config),
    ]
    for group in config.instance_group:
        group.count = min(group.count, _MOST_INSTANCES)
    for sample in config.model_warmup:
        sample.count = min(sample.count, _MOST_WARMUPS)
    return notes


def _parameters(config: Any, model: Path, copy: Path) -> list[str]:
    notes = []
    if _ENVIRONMENT in config.parameters:
        given = config.parameters[_ENVIRONMENT].string_value
        python = config.backend in ("", "python")
        exists = any(os.path.lexists(given.replace(_MODEL_DIRECTORY, str(place))) for place in (model, copy))
        if exists or not python:  # a missing one is refused before anything is opened
            del config.parameters[_ENVIRONMENT]
        if exists and python:
            notes.append(f"{_ENVIRONMENT} is not opened")
    if _STRATEGY in config.parameters:
        if config.HasField("sequence_batching"):  # refused, whatever the path is
            config.parameters[_STRATEGY].string_value = ""
        elif os.path.lexists(config.parameters[_STRATEGY].string_value):
            del config.parameters[_STRATEGY]
            notes.append(f"the library of {_STRATEGY} is not loaded")
    return notes


def _backend(config: Any) -> list[str]:
    notes = []
    if config.backend and not is_plain_name(config.backend):
        config.backend = "python"
        notes.append("a backend whose name is a path is not looked for")
    parts = PurePosixPath(config.runtime).parts
    if ".." in parts[1:] or parts[:1] == ("/",):
        config.runtime = ""
        notes.append("a runtime that leads out of the model's directory is not looked for")
    elif config.runtime == f"libtriton_{config.backend}.so":
        config.runtime = ""  # the default, which the stand-in is found by
    return notes


def _agents(config: Any) -> list[str]:
    agents = config.model_repository_agents.agents
    kept = [agent.name for agent in agents if agent.name != _CHECKSUM]
    if len(kept) == len(agents):
        return []
    for index in reversed(range(len(agents))):
        if agents[index].name == _CHECKSUM:
            del agents[index]
    return ["the checksum agent is not run"]


def _files(config: Any) -> list[str]:
    notes = []
    for output in config.output:
        if ".." in PurePosixPath(output.label_filename).parts:
            output.label_filename = ""
            notes.append("a label file outside of the model's directory is not read")
    for sample in list(config.model_warmup):
        names = [value.input_data_file for value in sample.inputs.values()]
        if any(".." in PurePosixPath(name).parts for name in names):
            config.model_warmup.remove(sample)
            notes.append("warm-up data outside of the model's directory are not read")
    for state in config.sequence_batching.state if config.HasField("sequence_batching") else ():
        if any(".." in PurePosixPath(initial.data_file).parts for initial in state.initial_state):
            del state.initial_state[:]
            notes.append("an initial state outside of the model's directory is not read")
    return notes


def _sizes(config: Any) -> list[str]:
    """Tensors that tritonserver would make while it loads, and queues that it would fill."""
    notes = []
    enum = config.DESCRIPTOR.file.pool.FindEnumTypeByName("inference.DataType").values_by_number

    def is_large(dims: Any, data_type: int, batch: int = 1) -> bool:
        known = BY_CONFIG.get(enum[data_type].name) if data_type in enum else None
        width = (known.size if known is not None else None) or 8
        return bool(math.prod(abs(extent) for extent in dims) * width * max(batch, 1) > _LARGEST)

    outputs = any(is_large(output.dims, output.data_type) for output in config.output)
    for sample in list(config.model_warmup):
        values = sample.inputs.values()
        if outputs or any(is_large(value.dims, value.data_type, sample.batch_size) for value in values):
            config.model_warmup.remove(sample)
            notes.append("a warm-up with tensors of more than 64 MiB is not run")
    if config.HasField("sequence_batching"):
        batching = config.sequence_batching
        for state in batching.state:
            if any(is_large(initial.dims, initial.data_type) for initial in state.initial_state):
                del state.initial_state[:]
                notes.append("an initial state of more than 64 MiB is not made")
        if max(config.max_batch_size, batching.oldest.max_candidate_sequences) > _MOST_SLOTS:
            config.ClearField("sequence_batching")
            notes.append(f"more than {_MOST_SLOTS} sequences are not tried")
    levels = [config.dynamic_batching.priority_levels if config.HasField("dynamic_batching") else 0]
    if max(levels) > _MOST_SLOTS:
        config.ClearField("dynamic_batching")
        notes.append(f"more than {_MOST_SLOTS} priority levels are not tried")
    if len(config.instance_group) > _MOST_GROUPS:
        del config.instance_group[_MOST_GROUPS:]
        notes.append(f"of the instance groups {_MOST_GROUPS} are tried")
    return notes
