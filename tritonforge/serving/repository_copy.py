"""A copy of a model repository with nothing to run: names, configurations, labels and sizes only.

Model files are empty in the copy, links are what they lead to, pipes and devices are empty files, and libraries and
programs that Triton would load are left out. The number of entries, bytes and seconds is bounded, whatever the
repository holds. A configuration is copied without what makes tritonserver run, load or read anything else (`disarm`):
that cannot change what Triton's core reports about the rest; what it may change is noted.
"""

from __future__ import annotations

import itertools
import math
import os
import re
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Final

from google.protobuf import text_format

from tritonforge.datatypes import BY_CONFIG
from tritonforge.errors import LaunchError
from tritonforge.files import describe_error
from tritonforge.serving import repository_overlay
from tritonforge.triton.schema import new_model_config

__all__ = ["RepositoryCopy", "copy_repository", "disarm", "is_plain_name", "read_regular_file"]


_CONFIG: Final = "config.pbtxt"
#: Bytes of one configuration, and of all label, warm-up and initial-state files together.
_LARGEST_CONFIG: Final = 4 * 2**20
_LARGEST_FILES: Final = 128 * 2**20
_MOST_ENTRIES: Final = 50_000
_MOST_MODELS: Final = 128
_SECONDS: Final = 20.0
#: Directories below the repository: a model, its version, a model file that is a directory.
_DEPTH: Final = 3

#: Names that tritonserver loads or runs where they lie in a model's or a version's directory.
_EXECUTED: Final = ("triton_python_backend_stub", "triton_python_backend_utils.py", "batchstrategy.so")
_ENVIRONMENT_PREFIX: Final = "pb_exec_env_"
#: What every parser refuses, for a text that only Python's is known to refuse.
_INVALID_CONFIG: Final = b"{"


@dataclass(slots=True)
class RepositoryCopy:
    """The copy in ``folder``, and what it lacks.

    ``undecided`` has, by model, what is not copied and may change the server's verdict; ``hidden`` are the models whose
    whole configuration is not copied. ``configs`` are the configurations as they were read, by model. ``backends`` are
    the names of backends that models bring themselves.
    """

    folder: Path
    undecided: dict[str, list[str]] = field(default_factory=dict)
    hidden: set[str] = field(default_factory=set)
    configs: dict[str, Any] = field(default_factory=dict)
    backends: set[str] = field(default_factory=set)

    def note(self, model: str, reason: str) -> None:
        """Add a reason why a model cannot be decided."""
        self.undecided.setdefault(model, []).append(reason)


def copy_repository(repository: Path, folder: Path) -> RepositoryCopy:
    """Copy a repository into a new ``folder``.

    Raises:
        LaunchError: the repository cannot be read, or is too large.
    """
    folder.mkdir()
    copier = _Copier(repository, folder)
    try:
        names = _list_names(repository)
    except OSError as error:
        raise LaunchError(f"{repository}: cannot read: {describe_error(error)}") from error
    models = 0
    for name in names:
        if copier.copy_entry(repository / name, folder / name) == "directory":
            models += 1
            if models > _MOST_MODELS:
                raise LaunchError(f"{repository}: too many models (expected at most {_MOST_MODELS})")
            copier.copy_model(name)
    return copier.copy


class _Copier:
    """One copy in progress, with what is left of its limits."""

    def __init__(self, repository: Path, folder: Path) -> None:
        self.copy = RepositoryCopy(folder)
        self._repository = repository
        self._entries = _MOST_ENTRIES
        self._bytes = _LARGEST_FILES
        self._deadline = time.monotonic() + _SECONDS

    def copy_entry(self, source: Path, target: Path) -> str:
        """Create an empty copy of one path and return its kind: "directory", "file", or "missing" for a dead link."""
        self._entries -= 1
        if self._entries < 0 or time.monotonic() > self._deadline:
            raise LaunchError(
                f"{self._repository}: too large (expected at most {_MOST_ENTRIES} entries, read within {_SECONDS:g} s)"
            )
        try:
            mode = source.stat().st_mode
        except OSError:
            target.symlink_to("missing/target")
            return "missing"
        if stat.S_ISDIR(mode):
            target.mkdir()
            return "directory"
        target.touch()
        return "file"

    def copy_model(self, name: str) -> None:
        """Copy the content of one model's directory."""
        source, target = self._repository / name, self.copy.folder / name
        config = self._copy_config(name, source, target)
        skipped = self._list_libraries(config, source)
        self._copy_names(source, target, depth=1, skipped=skipped)
        for path, label in _list_read_files(config):
            self._copy_content(source / path, target / path, name, label)

    def _copy_config(self, name: str, source: Path, target: Path) -> Any:
        """Write a model's configuration; return the original, empty where it is missing or invalid."""
        content = read_regular_file(source / _CONFIG, _LARGEST_CONFIG)
        config: Any = new_model_config()
        if content is None:
            if os.path.lexists(source / _CONFIG) and not (source / _CONFIG).is_dir():
                self.copy.hidden.add(name)
                self.copy.note(name, f"its {_CONFIG} is not a file of at most {_LARGEST_CONFIG >> 20} MiB")
        elif (parsed := repository_overlay.parse_config(content)) is None:
            if b"\\" in content or b"/" in content or b".." in content:
                self.copy.hidden.add(name)
                self.copy.note(name, f"its {_CONFIG} is refused by protobuf's Python parser")
                content = _INVALID_CONFIG
        else:
            config = parsed
            shown: Any = new_model_config()
            shown.CopyFrom(parsed)
            for reason in disarm(shown, source, target):
                self.copy.note(name, reason)
            self._replace_own_backend(shown, source)
            # Python's parser and the server's own may read escapes differently.
            if shown != parsed or b"\\" in content:
                content = text_format.MessageToString(shown).encode()
        self.copy.configs[name] = config
        if content is not None:
            (target / _CONFIG).write_bytes(content)
        return config

    def _replace_own_backend(self, shown: Any, source: Path) -> None:
        """Replace the backend whose library is in the model's own directory."""
        own = shown.runtime or f"libtriton_{shown.backend}.so"
        if not is_plain_name(shown.backend) or "/" in own or own == "model.py":
            return
        if any((place / own).exists() for place in (source, *_list_versions(source))):
            self.copy.backends.add(shown.backend)
            shown.runtime = ""

    def _list_libraries(self, config: Any, source: Path) -> frozenset[str]:
        """Return the names of files that tritonserver would load or run for this model."""
        for place in (source, *_list_versions(source)):
            if (place / "batchstrategy.so").exists():
                self.copy.note(source.name, "its batchstrategy.so is not loaded")
        return frozenset((*_EXECUTED, f"libtriton_{config.backend}.so", config.runtime or _EXECUTED[0]))

    def _copy_names(self, source: Path, target: Path, *, depth: int, skipped: frozenset[str]) -> None:
        try:
            names = _list_names(source)
        except OSError as error:
            self.copy.note(source.relative_to(self._repository).parts[0], f"{source}: {describe_error(error)}")
            return
        for name in names:
            if (
                name in skipped
                or name.startswith(_ENVIRONMENT_PREFIX)
                or (depth == 1 and name == _CONFIG and self._has_config(target))
            ):
                continue
            kind = self.copy_entry(source / name, target / name)
            if kind == "directory" and depth < _DEPTH:
                self._copy_names(source / name, target / name, depth=depth + 1, skipped=skipped)

    def _has_config(self, target: Path) -> bool:
        """Return True if the configuration is written already, or must not be."""
        return (target / _CONFIG).exists() or target.name in self.copy.hidden

    def _copy_content(self, source: Path, target: Path, model: str, label: str) -> None:
        """Copy the content of a file that the server reads."""
        if not target.is_file() or ".." in source.relative_to(self._repository).parts:
            return
        content = read_regular_file(source, self._bytes)
        if content is None:
            self.copy.note(model, f"{label} cannot be read, or is too large")
            return
        self._bytes -= len(content)
        target.write_bytes(content)


def read_regular_file(path: Path, most: int) -> bytes | None:
    """Return the content of a regular file of at most ``most`` bytes; None for a larger one and whatever else it is."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError):  # ValueError: a NUL in a name
        return None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size > most:
            return None
        with os.fdopen(descriptor, "rb", closefd=False) as file:  # which refuses a directory
            content = file.read(most + 1)
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return content if len(content) <= most else None


def _list_names(folder: Path) -> list[str]:

    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in itertools.islice(entries, _MOST_ENTRIES + 1))


def _list_versions(model: Path) -> Iterator[Path]:
    try:
        names = _list_names(model)
    except OSError:
        return
    for name in names:
        if (model / name).is_dir():
            yield model / name


def _list_read_files(config: Any) -> Iterator[tuple[str, str]]:
    """Yield the files of a model that the server reads besides its configuration: path and description."""
    files: dict[str, str] = {}
    for output in config.output:
        if output.label_filename:
            files[output.label_filename] = "a label file"
    for sample in config.model_warmup:
        for value in sample.inputs.values():
            if value.input_data_file:
                files[f"warmup/{value.input_data_file}"] = "a file of warm-up data"
    for state in config.sequence_batching.state:
        for initial in state.initial_state:
            if initial.data_file:
                files[f"initial_state/{initial.data_file}"] = "a file of an initial state"
    for path, label in files.items():
        if "\0" not in path:
            yield path.lstrip("/"), label


_ENVIRONMENT_PARAMETER: Final = "EXECUTION_ENV_PATH"
_STRATEGY: Final = "TRITON_BATCH_STRATEGY_PATH"
_MODEL_DIRECTORY: Final = "$$TRITON_MODEL_DIRECTORY"
#: The agent that NVIDIA's images carry; every other one is looked for and not found, as on a server without it.
_CHECKSUM: Final = "checksum"

_LARGEST_TENSOR: Final = 64 * 2**20
_MOST_INSTANCES: Final = 2
_MOST_GROUPS: Final = 16
_MOST_SLOTS: Final = 65536
_MOST_WARMUPS: Final = 2


def is_plain_name(name: str) -> bool:
    """Return True if a name stays in its folder when it is put into a path."""
    return re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*", name) is not None and ".." not in name


def disarm(config: Any, model: Path, copy: Path) -> list[str]:
    """Change a ModelConfig in place; return a phrase for each removed part that may matter to the verdict.

    ``model`` is the model's directory, ``copy`` the directory that tritonserver reads instead.
    """
    notes = [
        *_disarm_parameters(config, model, copy),
        *_disarm_backend(config),
        *_disarm_agents(config),
        *_disarm_files(config),
        *_limit_sizes(config),
    ]
    for group in config.instance_group:
        group.count = min(group.count, _MOST_INSTANCES)
    for sample in config.model_warmup:
        sample.count = min(sample.count, _MOST_WARMUPS)
    return notes


def _disarm_parameters(config: Any, model: Path, copy: Path) -> list[str]:
    notes = []
    if _ENVIRONMENT_PARAMETER in config.parameters:
        given = config.parameters[_ENVIRONMENT_PARAMETER].string_value
        python = config.backend in ("", "python")
        exists = any(os.path.lexists(given.replace(_MODEL_DIRECTORY, str(place))) for place in (model, copy))
        if exists or not python:  # a missing one is refused before anything is opened
            del config.parameters[_ENVIRONMENT_PARAMETER]
        if exists and python:
            notes.append(f"{_ENVIRONMENT_PARAMETER} is not opened")
    if _STRATEGY in config.parameters:
        if config.HasField("sequence_batching"):  # refused, whatever the path is
            config.parameters[_STRATEGY].string_value = ""
        elif os.path.lexists(config.parameters[_STRATEGY].string_value):
            del config.parameters[_STRATEGY]
            notes.append(f"the library of {_STRATEGY} is not loaded")
    return notes


def _disarm_backend(config: Any) -> list[str]:
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


def _disarm_agents(config: Any) -> list[str]:
    agents = config.model_repository_agents.agents
    kept = [agent.name for agent in agents if agent.name != _CHECKSUM]
    if len(kept) == len(agents):
        return []
    for index in reversed(range(len(agents))):
        if agents[index].name == _CHECKSUM:
            del agents[index]
    return ["the checksum agent is not run"]


def _disarm_files(config: Any) -> list[str]:
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


def _limit_sizes(config: Any) -> list[str]:
    """Limit the tensors that tritonserver would allocate while it loads, and the queues that it would fill."""
    notes = []
    enum = config.DESCRIPTOR.file.pool.FindEnumTypeByName("inference.DataType").values_by_number

    def is_large(dims: Any, data_type: int, batch: int = 1) -> bool:
        known = BY_CONFIG.get(enum[data_type].name) if data_type in enum else None
        width = (known.size if known is not None else None) or 8
        return bool(math.prod(abs(extent) for extent in dims) * width * max(batch, 1) > _LARGEST_TENSOR)

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
