"""Checkpoints: saved whole or not at all, and the newest one that is whole is found again. An edge.

SageMaker copies /opt/ml/checkpoints to S3 file by file while the job runs, and back when it is started anew, so a
rename on this side does not make a checkpoint whole on that one. Each says in a list, written last, which files it has
with their sizes and SHA-256; one whose list is missing or does not fit is passed over. Source: SageMaker developer
guide, "Checkpoints in Amazon SageMaker".
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tritonforge.errors import DefinitionError

__all__ = ["Checkpoint", "Checkpoints"]

#: The list of a checkpoint's files.
_LIST: Final = "checkpoint.json"
_NAME: Final = re.compile(r"checkpoint-(\d{9,})(?:-(\d+))?")
_PIECE: Final = 2**20


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A whole checkpoint: the step that it was saved at, and the folder of its files."""

    step: int
    folder: Path


class Checkpoints:
    """The checkpoints of a folder; the newest ``keep`` stay, older ones are removed."""

    def __init__(self, folder: Path, *, keep: int = 2) -> None:
        if keep < 1:
            raise DefinitionError(f"keep is {keep}; at least one checkpoint stays")
        self.folder = folder
        self.keep = keep

    def save(self, step: int, write: Callable[[Path], None]) -> Checkpoint:
        """Save a checkpoint: ``write`` fills an empty folder, which takes its name only when everything is on the disk.

        One that is saved again at the same step replaces the one before. Raises what ``write`` raises, and OSError;
        then, and after a kill, the checkpoints before are as they were.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self._sweep()
        saving = self.folder / f".saving-{step}"
        saving.mkdir()
        try:
            write(saving)
            files = {
                each.relative_to(saving).as_posix(): {"size": each.stat().st_size, "sha256": _sha256(each, sync=True)}
                for each in sorted(saving.rglob("*"))
                if each.is_file()
            }
            listed = saving / _LIST
            with listed.open("w", encoding="utf-8") as opened:
                json.dump({"step": step, "files": files}, opened, indent=1)
                opened.flush()
                os.fsync(opened.fileno())
            _sync(saving)
            found = [turn for at, turn, _ in self._named() if at == step]
            name = f"checkpoint-{step:09d}" + (f"-{max(found) + 1}" if found else "")
            saving.rename(self.folder / name)
        except BaseException:
            shutil.rmtree(saving, ignore_errors=True)
            raise
        _sync(self.folder)
        saved = self.folder / name
        self._forget(saved, step)
        return Checkpoint(step, saved)

    def newest(self) -> Checkpoint | None:
        """The newest checkpoint that is whole, None where there is none: what a program goes on from."""
        for step, _, folder in sorted(self._named(), reverse=True):
            if _whole(folder, step):
                return Checkpoint(step, folder)
        return None

    def _named(self) -> list[tuple[int, int, Path]]:
        """The step, the turn at this step, and the folder of all that are named as checkpoints."""
        if not self.folder.is_dir():
            return []
        found = ((_NAME.fullmatch(each.name), each) for each in self.folder.iterdir())
        return [(int(name[1]), int(name[2] or 0), each) for name, each in found if name and each.is_dir()]

    def _forget(self, saved: Path, step: int) -> None:
        """Remove what is older than those that stay, and what is of a later step: of a course that was given up."""
        earlier = sorted({at for at, _, _ in self._named() if at < step}, reverse=True)
        for at, _, folder in self._named():
            if folder != saved and at not in earlier[: self.keep - 1]:
                shutil.rmtree(folder, ignore_errors=True)

    def _sweep(self) -> None:
        """Remove what a kill in mid-save left."""
        for each in self.folder.glob(".saving-*"):
            shutil.rmtree(each, ignore_errors=True)


def _whole(folder: Path, step: int) -> bool:
    """Whether a checkpoint has its list, and every file as its list says."""
    try:
        listed = json.loads((folder / _LIST).read_bytes())
        files = listed["files"]
        if listed["step"] != step or not isinstance(files, dict):
            return False
        for name, facts in files.items():
            path = folder / name
            if path.stat().st_size != facts["size"] or _sha256(path) != facts["sha256"]:
                return False
    except (OSError, ValueError, TypeError, KeyError):
        return False
    return True


def _sha256(path: Path, *, sync: bool = False) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as opened:
        while piece := opened.read(_PIECE):
            digest.update(piece)
        if sync:
            os.fsync(opened.fileno())
    return digest.hexdigest()


def _sync(folder: Path) -> None:
    """Bring a folder's entries to the disk, where its file system can."""
    with contextlib.suppress(OSError):
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)
