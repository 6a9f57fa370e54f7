"""Checkpoints: there again at the start, and copied to their place as they appear and at the end. An edge.

A file is copied when two looks found it the same, so that one which is being written is not; the last look takes all.
What a program removes stays where it was copied to. Source: SageMaker developer guide, "Use Checkpoints in Amazon
SageMaker".
"""

from __future__ import annotations

import shutil
import threading
from pathlib import Path
from typing import Final, TypeAlias

from tritonforge.errors import TritonForgeError
from tritonforge.training.job.channel import S3Data
from tritonforge.training.job.copying import copy
from tritonforge.training.job.entries import listing
from tritonforge.training.job.folders import plain_files
from tritonforge.transform.places import Place

__all__ = ["Checkpoints"]

#: Seconds between two looks.
_PERIOD: Final = 2.0

#: What changes when a file does: its inode, size in bytes, and time of change.
_Seen: TypeAlias = tuple[int, int, int]


class Checkpoints:
    """Keeps a folder of this machine and an address alike; a context manager is around the program's run."""

    def __init__(self, folder: Path, uri: str, place: Place, scratch: Path, *, period: float = _PERIOD) -> None:
        self._folder = folder
        self._uri = uri if uri.endswith("/") else f"{uri}/"
        self._place = place
        self._scratch = scratch
        self._period = period
        self._over = threading.Event()
        self._before: dict[str, _Seen] = {}
        self._kept: dict[str, _Seen] = {}
        self._thread = threading.Thread(target=self._watch, name="training-checkpoints", daemon=True)
        self.problem = ""

    def restore(self, ended: threading.Event) -> int:
        """Copy what is kept into the folder: how many files. Raises ChannelError, StoppedError, OSError, PlaceError."""
        self._place.check(self._uri)
        count = copy(listing(S3Data(uri=self._uri), self._place, ended), self._place, self._folder, ended)
        self._kept = {path: _seen(file) for path, file in plain_files(self._folder)}
        return count

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def end(self) -> None:
        """End, whatever is new."""
        self._over.set()

    def finish(self) -> None:
        """Copy everything that is new, and end; ``problem`` says what could not be kept."""
        self._over.set()
        self._thread.join()
        self._look(last=True)

    def _watch(self) -> None:
        while not self._over.wait(self._period):
            self._look(last=False)

    def _look(self, *, last: bool) -> None:
        try:
            found = {path: _seen(file) for path, file in plain_files(self._folder)}
            for path, seen in found.items():
                if self._kept.get(path) != seen and (last or self._before.get(path) == seen):
                    self._keep(path, seen)
            self._before = found
            self.problem = ""
        except (OSError, TritonForgeError) as error:  # it may be there again at the next look
            self.problem = f"checkpoints cannot be kept: {error}"

    def _keep(self, path: str, seen: _Seen) -> None:
        file, copied = self._folder / path, self._scratch / "checkpoint"
        try:
            shutil.copyfile(file, copied, follow_symlinks=False)
            if _seen(file) == seen:  # else it was written meanwhile
                self._place.put(copied, self._uri + path)
                self._kept[path] = seen
        except FileNotFoundError:  # the program removed it
            pass
        finally:
            copied.unlink(missing_ok=True)


def _seen(path: Path) -> _Seen:
    try:
        status = path.lstat()
    except FileNotFoundError:
        return 0, 0, 0
    return status.st_ino, status.st_size, status.st_mtime_ns
