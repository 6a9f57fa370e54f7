"""Checkpoints of a training program: saved completely or not at all, and the newest complete one found again. An edge.

SageMaker copies /opt/ml/checkpoints to S3 file by file while the job runs, and back when the job restarts, so a rename
here does not make a checkpoint complete there. Every checkpoint has a list of its files with sizes and SHA-256, written
last; a checkpoint whose list is missing or does not match is skipped. Source: SageMaker developer guide, "Checkpoints
in Amazon SageMaker".
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tritonforge.errors import DefinitionError
from tritonforge.files import hash_file, hash_stream, sync_directory, write_file

__all__ = ["Checkpoint", "Checkpoints"]

#: The list of a checkpoint's files.
_LIST: Final = "checkpoint.json"

#: A checkpoint's step, and a counter for checkpoints that were saved again at the same step.
_NAME: Final = re.compile(r"checkpoint-(\d{9,})(?:-(\d+))?")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A complete checkpoint: the step at which it was saved, and the folder of its files."""

    step: int
    folder: Path


class Checkpoints:
    """The checkpoints of a folder; the newest ``keep`` are kept, older ones are removed."""

    def __init__(self, folder: Path, *, keep: int = 2) -> None:
        if keep < 1:
            raise DefinitionError(f"keep is {keep}; it must be at least 1")
        self.folder = folder
        self.keep = keep

    def save(self, step: int, write: Callable[[Path], None]) -> Checkpoint:
        """Save a checkpoint: ``write`` fills an empty folder, which gets its name when everything is on the disk.

        A checkpoint that is saved again at the same step replaces the one before. Raises what ``write`` raises, and
        OSError; then, and after a kill, the earlier checkpoints are unchanged.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        for unfinished in self.folder.glob(".saving-*"):  # of a program that was killed
            shutil.rmtree(unfinished, ignore_errors=True)
        saving = self.folder / f".saving-{step}"
        saving.mkdir()
        try:
            write(saving)
            files = {
                path.relative_to(saving).as_posix(): {"size": path.stat().st_size, "sha256": _hash_and_sync(path)}
                for path in sorted(saving.rglob("*"))
                if path.is_file()
            }
            write_file(saving / _LIST, json.dumps({"step": step, "files": files}, indent=1).encode())
            sync_directory(saving)
            counters = [counter for saved_step, counter, _ in self._list_folders() if saved_step == step]
            saved = self.folder / (f"checkpoint-{step:09d}" + (f"-{max(counters) + 1}" if counters else ""))
            saving.rename(saved)
        except BaseException:
            shutil.rmtree(saving, ignore_errors=True)
            raise
        sync_directory(self.folder)
        # Checkpoints of later steps belong to a run that was abandoned.
        earlier = sorted({saved_step for saved_step, _, _ in self._list_folders() if saved_step < step}, reverse=True)
        for saved_step, _, folder in self._list_folders():
            if folder != saved and saved_step not in earlier[: self.keep - 1]:
                shutil.rmtree(folder, ignore_errors=True)
        return Checkpoint(step, saved)

    def newest(self) -> Checkpoint | None:
        """Return the newest complete checkpoint, from which a program resumes; None if none is complete."""
        for step, _, folder in sorted(self._list_folders(), reverse=True):
            if _is_complete(folder, step):
                return Checkpoint(step, folder)
        return None

    def _list_folders(self) -> list[tuple[int, int, Path]]:
        """List the step, the counter and the folder of everything that is named as a checkpoint."""
        if not self.folder.is_dir():
            return []
        named = ((_NAME.fullmatch(path.name), path) for path in self.folder.iterdir())
        return [(int(name[1]), int(name[2] or 0), path) for name, path in named if name and path.is_dir()]


def _is_complete(folder: Path, step: int) -> bool:
    """Return True if a checkpoint has its list, and every file is as listed."""
    try:
        document = json.loads((folder / _LIST).read_bytes())
        files = document["files"]
        if document["step"] != step or not isinstance(files, dict):
            return False
        for name, facts in files.items():
            path = folder / name
            if path.stat().st_size != facts["size"] or hash_file(path) != facts["sha256"]:
                return False
    except (OSError, ValueError, TypeError, KeyError):
        return False
    return True


def _hash_and_sync(path: Path) -> str:
    with path.open("rb") as file:
        digest = hash_stream(file)
        os.fsync(file.fileno())
    return digest
