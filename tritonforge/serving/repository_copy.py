"""A copy of what tritonserver may see of a model repository: names, configurations, labels, sizes; nothing to run.

Model files are empty in the copy, links are what they lead to, pipes and devices are empty files, and libraries and
programs that Triton would load are left out. The number of entries, bytes and seconds is bounded, whatever the
repository holds.
"""

from __future__ import annotations

import itertools
import os
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from google.protobuf import text_format

from tritonforge.errors import LaunchError
from tritonforge.serving import repository_overlay
from tritonforge.serving.harmless_config import disarm, is_plain_name
from tritonforge.triton.schema import new_model_config

__all__ = ["RepositoryCopy", "copy_repository", "read_regular"]

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
_RUN: Final = ("triton_python_backend_stub", "triton_python_backend_utils.py", "batchstrategy.so")
_ENVIRONMENTS: Final = "pb_exec_env_"
#: What every parser refuses, for a text that only Python's is known to refuse.
_REFUSED: Final = b"{"


@dataclass(slots=True)
class RepositoryCopy:
    """What was copied.

    ``undecided`` says by model what is not shown to the server and may change its verdict; ``hidden`` are the models
    whose whole configuration is not shown. ``configs`` are the configurations as they were read, by model.
    ``backends`` are the names of backends that models bring themselves.
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
    """Copy a repository into ``folder``, which is made.

    Raises:
        LaunchError: the repository cannot be read, or is larger than what is copied.
    """
    folder.mkdir()
    copier = _Copier(repository, folder)
    try:
        names = _listed(repository)
    except OSError as error:
        raise LaunchError(f"{repository}: cannot be read: {error.strerror}") from error
    models = 0
    for name in names:
        if copier.entry(repository / name, folder / name) == "directory":
            models += 1
            if models > _MOST_MODELS:
                raise LaunchError(f"{repository}: more than {_MOST_MODELS} models are not loaded at once here")
            copier.model(name)
    return copier.copy


class _Copier:
    """One copying, with what is left of its bounds."""

    def __init__(self, repository: Path, folder: Path) -> None:
        self.copy = RepositoryCopy(folder)
        self._repository = repository
        self._entries = _MOST_ENTRIES
        self._bytes = _LARGEST_FILES
        self._deadline = time.monotonic() + _SECONDS

    def entry(self, source: Path, target: Path) -> str:
        """Make the counterpart of one path: "directory" (empty so far), "file" (empty), or "missing" (a dead link)."""
        self._entries -= 1
        if self._entries < 0 or time.monotonic() > self._deadline:
            raise LaunchError(
                f"{self._repository}: more than {_MOST_ENTRIES} entries, or {_SECONDS:g} s of reading, are not copied"
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

    def model(self, name: str) -> None:
        """Fill in one model."""
        source, target = self._repository / name, self.copy.folder / name
        config = self._config(name, source, target)
        skipped = self._libraries(config, source)
        self._names(source, target, depth=1, skipped=skipped)
        for path, label in _read_files(config):
            self._content(source / path, target / path, name, label)

    def _config(self, name: str, source: Path, target: Path) -> Any:
        """Write a model's configuration; gives the one that was read, empty where there is none that counts."""
        content = read_regular(source / _CONFIG, _LARGEST_CONFIG)
        config: Any = new_model_config()
        if content is None:
            if os.path.lexists(source / _CONFIG) and not (source / _CONFIG).is_dir():
                self.copy.hidden.add(name)
                self.copy.note(name, f"its {_CONFIG} is not a file of at most {_LARGEST_CONFIG >> 20} MiB")
        elif (parsed := repository_overlay.parse(content)) is None:
            if b"\\" in content or b"/" in content or b".." in content:
                self.copy.hidden.add(name)
                self.copy.note(name, f"its {_CONFIG} is refused by protobuf's Python parser")
                content = _REFUSED
        else:
            config = parsed
            shown: Any = new_model_config()
            shown.CopyFrom(parsed)
            for reason in disarm(shown, source, target):
                self.copy.note(name, reason)
            self._own_backend(shown, source)
            # Python's parser and the server's own may read escapes differently.
            if shown != parsed or b"\\" in content:
                content = text_format.MessageToString(shown).encode()
        self.copy.configs[name] = config
        if content is not None:
            (target / _CONFIG).write_bytes(content)
        return config

    def _own_backend(self, shown: Any, source: Path) -> None:
        """Have a stand-in for the backend whose library lies in the model's own directory."""
        own = shown.runtime or f"libtriton_{shown.backend}.so"
        if not is_plain_name(shown.backend) or "/" in own or own == "model.py":
            return
        if any((place / own).exists() for place in (source, *_versions(source))):
            self.copy.backends.add(shown.backend)
            shown.runtime = ""

    def _libraries(self, config: Any, source: Path) -> frozenset[str]:
        """The names of files that tritonserver would load or run for this model."""
        for place in (source, *_versions(source)):
            if (place / "batchstrategy.so").exists():
                self.copy.note(source.name, "its batchstrategy.so is not loaded")
        return frozenset((*_RUN, f"libtriton_{config.backend}.so", config.runtime or _RUN[0]))

    def _names(self, source: Path, target: Path, *, depth: int, skipped: frozenset[str]) -> None:
        """Copy the names in a directory, and in those below it."""
        try:
            names = _listed(source)
        except OSError as error:
            self.copy.note(source.relative_to(self._repository).parts[0], f"{source}: {error.strerror}")
            return
        for name in names:
            if (
                name in skipped
                or name.startswith(_ENVIRONMENTS)
                or (depth == 1 and name == _CONFIG and self._has(target))
            ):
                continue
            kind = self.entry(source / name, target / name)
            if kind == "directory" and depth < _DEPTH:
                self._names(source / name, target / name, depth=depth + 1, skipped=skipped)

    def _has(self, target: Path) -> bool:
        """Whether the configuration is written already; and one that is not shown is not there."""
        return (target / _CONFIG).exists() or target.name in self.copy.hidden

    def _content(self, source: Path, target: Path, model: str, label: str) -> None:
        """Fill in a file whose content or size the server looks at."""
        if not target.is_file() or ".." in source.relative_to(self._repository).parts:
            return
        content = read_regular(source, self._bytes)
        if content is None:
            self.copy.note(model, f"{label} cannot be read, or is larger than what is copied")
            return
        self._bytes -= len(content)
        target.write_bytes(content)


def read_regular(path: Path, most: int) -> bytes | None:
    """The content of a regular file of at most so many bytes; None for anything else, a pipe or a device."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError):  # ValueError: a NUL in a name
        return None
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_size > most:
            return None
        try:
            content = file.read(most + 1)
        except OSError:
            return None
    return content if len(content) <= most else None


def _listed(folder: Path) -> list[str]:
    """The names in a directory, no more than are copied at all."""
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in itertools.islice(entries, _MOST_ENTRIES + 1))


def _versions(model: Path) -> Iterator[Path]:
    try:
        names = _listed(model)
    except OSError:
        return
    for name in names:
        if (model / name).is_dir():
            yield model / name


def _read_files(config: Any) -> Iterator[tuple[str, str]]:
    """The files of a model that the server reads besides its configuration, by their paths in its directory."""
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
