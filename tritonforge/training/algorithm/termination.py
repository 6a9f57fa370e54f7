"""How a training program ends: the flag that SIGTERM sets, and the failure file. An edge.

SageMaker stops a training job with SIGTERM, and with SIGKILL 120 seconds later. Source: API_StopTrainingJob.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from pathlib import Path
from types import FrameType, TracebackType
from typing import Final

from tritonforge.errors import StoppedError

__all__ = ["FAILURE_LENGTH", "POLL_SECONDS", "STOP_SECONDS", "FailureFile", "Stopping", "shorten_failure"]

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
