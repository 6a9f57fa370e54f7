"""A definition with new settings: the edited source, proof that it gives the configurations, and the file written.

The edited source is built, with the files beside it, into a copy of the repository before anything is written: so the
settings are what the definition gives, not what the edit was meant to give.
"""

from __future__ import annotations

import difflib
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from tritonforge import temporary
from tritonforge.building import build_definitions
from tritonforge.errors import TritonForgeError
from tritonforge.files import describe_error, write_file
from tritonforge.repository.definition.loading import Definitions, load
from tritonforge.serving.repository_overlay import read_configs
from tritonforge.triton.schema import ModelConfig
from tritonforge.tuning.definition_editor import ModelSettings, edit_definition

__all__ = ["DefinitionUpdate", "plan_update", "write_update"]

#: Directories beside a definition that it does not read and that may be large.
_SKIPPED: Final = frozenset({"__pycache__", ".git", "build"})


@dataclass(frozen=True, slots=True)
class DefinitionUpdate:
    """The old and the new source of a definition, and sentences on settings to set by hand.

    ``problem`` is why the new source does not give the configurations; "" if it does.
    """

    path: Path
    before: str
    after: str
    manual: tuple[str, ...] = ()
    problem: str = ""

    @property
    def diff(self) -> str:
        """The unified diff of the source."""
        lines = difflib.unified_diff(
            self.before.splitlines(keepends=True),
            self.after.splitlines(keepends=True),
            str(self.path),
            f"{self.path} (tuned)",
        )
        return "".join(line if line.endswith("\n") else f"{line}\n" for line in lines)

    @property
    def can_be_written(self) -> bool:
        """Whether the new source differs and gives exactly the configurations."""
        return not self.problem and not self.manual and self.after != self.before


def plan_update(
    definitions: Definitions, repository: Path, settings: ModelSettings, wanted: Mapping[str, ModelConfig]
) -> DefinitionUpdate:
    """Edit the definition's source in memory, build it, and compare its configurations with the wanted ones.

    Args:
        definitions: the definition as it is.
        repository: the repository that was built from it.
        settings: the new values of settings.
        wanted: the configurations of all models.

    Raises:
        TritonForgeError: the source cannot be read.
    """
    try:
        before = definitions.path.read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        reason = describe_error(error) if isinstance(error, OSError) else "it is not UTF-8"
        raise TritonForgeError(f"{definitions.path}: cannot read: {reason}") from error
    edited = edit_definition(before, settings)
    if edited.manual or edited.text == before:
        return DefinitionUpdate(definitions.path, before, edited.text, edited.manual)
    problem = _check_source(definitions, repository, edited.text, wanted)
    return DefinitionUpdate(definitions.path, before, edited.text, problem=problem)


def write_update(update: DefinitionUpdate) -> None:
    """Write the new source.

    Raises:
        TritonForgeError: the file changed since it was read, or cannot be written.
    """
    try:
        if update.path.read_bytes() != update.before.encode():
            raise TritonForgeError(
                f"{update.path}: it changed while it was tuned, so nothing was written to it. Apply the diff by hand."
            )
        write_file(update.path, update.after.encode(), mode=update.path.stat().st_mode & 0o777)
    except OSError as error:
        raise TritonForgeError(f"{update.path}: cannot write: {describe_error(error)}") from error


def _check_source(definitions: Definitions, repository: Path, source: str, wanted: Mapping[str, ModelConfig]) -> str:
    """Return why a source does not give the wanted configurations, "" if it does."""
    with temporary.open_directory("tune") as folder:
        beside = folder / "definition"
        beside.mkdir()
        for entry in definitions.folder.iterdir():
            if entry.name not in _SKIPPED and entry != definitions.path:
                (beside / entry.name).symlink_to(entry)
        file = beside / definitions.path.name
        file.write_bytes(source.encode())
        copy = folder / "repository"
        _copy_links(repository, copy)
        try:
            # Its files are where the definition is: also those of "../models".
            build_definitions(replace(load(file), path=definitions.path), copy)
        except TritonForgeError as error:
            return f"the edited definition does not build: {error}"
        built = read_configs(copy)
    if built.keys() != wanted.keys():
        return f"the edited definition has the models {', '.join(built)} (expected {', '.join(wanted)})"
    different = [name for name in wanted if built[name] != wanted[name]]
    return f"the edited definition gives other settings of {', '.join(different)}" if different else ""


def _copy_links(source: Path, target: Path) -> None:
    """Copy a directory as hard links; files where the file system has none between the two."""

    def link(path: str, other: str) -> None:
        try:
            os.link(path, other)
        except OSError:
            shutil.copy2(path, other)

    shutil.copytree(source, target, copy_function=link, symlinks=True)
