"""How a training program ends, and continues: the flag that SIGTERM sets, the failure file, checkpoints. An edge.

SageMaker stops a training job with SIGTERM, and with SIGKILL 120 seconds later. Source: API_StopTrainingJob.

A checkpoint is saved completely or not at all, and the newest complete one is found again. SageMaker copies
/opt/ml/checkpoints to S3 file by file while the job runs, and back when the job restarts, so a rename here does not
make a checkpoint complete there. Every checkpoint has a list of its files with sizes and SHA-256, written last; a
checkpoint whose list is missing or does not match is skipped. Source: SageMaker developer guide, "Checkpoints in Amazon
SageMaker".
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import Final

from tritonforge.errors import DefinitionError, StoppedError
from tritonforge.files import hash_file, hash_stream, sync_directory, write_file

__all__ = [
    "FAILURE_LENGTH", "POLL_SECONDS", "STOP_SECONDS", "Checkpoint", "Checkpoints", "FailureFile", "Stopping",
    "shorten_failure",
]  # fmt: skip

#: Seconds between SIGTERM and SIGKILL for a training container. Source: API_StopTrainingJob.
STOP_SECONDS: Final = 120

#: Seconds between two checks of the flag during a wait.
POLL_SECONDS: Final = 0.05

#: Characters of the failure file that SageMaker reads. Source: API_DescribeTrainingJob, `FailureReason`.
FAILURE_LENGTH: Final = 1024


class Stopping:
    """A flag that SIGTERM sets once; a second SIGTERM changes nothing.

    Not a `threading.Event`: its `set` takes a lock, which the interrupted thread may hold when the signal arrives.
    """

    __slots__ = ("_set",)

    def __init__(self) -> None:
        self._set = False

    def set(self) -> None:
        """Request the stop of the program."""
        self._set = True

    def is_set(self) -> bool:
        """Return True once the stop of the program is requested."""
        return self._set

    __bool__ = is_set  #: for ``if stopping:``

    def raise_if_set(self) -> None:
        """Raise StoppedError once the stop of the program is requested."""
        if self._set:
            raise StoppedError("stopped by SIGTERM")

    def wait(self, seconds: float) -> bool:
        """Wait for a request to stop, for some seconds at most; return True if it came."""
        deadline = time.monotonic() + seconds
        while not self._set and (left := deadline - time.monotonic()) > 0:
            time.sleep(min(POLL_SECONDS, left))
        return self._set

    def listen(self) -> None:
        """Handle SIGTERM from now on; does nothing outside the main thread, where Python allows no handlers."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._handle)

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        self.set()


class FailureFile:
    """The failure file of a training job, whose first 1024 characters SageMaker shows as the job's FailureReason.

    A context: it removes the file of an earlier run and reserves disk space, so that the file can be written on a full
    volume as well. (SageMaker's /opt/ml is one volume with the model in it. A full volume has no space for a new file,
    but the bytes of an existing file can be overwritten.)
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._reserved = path.with_name(".failure")

    def __enter__(self) -> FailureFile:
        with contextlib.suppress(OSError):  # a job that does not fail needs no failure file
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.unlink(missing_ok=True)
            self._reserved.write_bytes(bytes(4 * FAILURE_LENGTH))  # a character has 4 bytes of UTF-8 at most
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            self._reserved.unlink(missing_ok=True)

    def write(self, sentence: str) -> None:
        """Write a sentence, shortened by `shorten_failure`. Raises OSError if even this cannot be written."""
        text = shorten_failure(sentence).encode()
        if self._reserved.exists():  # not `files.write_file`, which needs space for a second file
            with self._reserved.open("r+b") as file:
                file.write(text)
                file.truncate()
            self._reserved.replace(self.path)
        else:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_bytes(text)


def shorten_failure(text: str) -> str:
    """Return a text as one line of at most 1024 characters that can be encoded in UTF-8."""
    line = " ".join(text.encode("utf-8", "backslashreplace").decode().split())
    return line if len(line) <= FAILURE_LENGTH else f"{line[: FAILURE_LENGTH - 3]}..."


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
