"""Whether the program is told to stop: SIGTERM is heard, remembered, and kills nothing. An edge.

SageMaker stops a training job with SIGTERM, and with SIGKILL 120 seconds later. Source: API_StopTrainingJob.

The failure file of a training job, which can be written on a full disk too. An edge.

SageMaker shows its first 1024 characters as the job's FailureReason. Room for them is taken when the job begins and
given back when it ends well: on a full volume (SageMaker's /opt/ml is one volume with the model in it) a new file gets
no room any more, while bytes that a file has can be written again.
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

__all__ = ["FAILURE_LENGTH", "STOP_SECONDS", "FailureFile", "Stopping", "shorten_failure"]

#: Seconds between SIGTERM and SIGKILL for a training container. Source: API_StopTrainingJob.
STOP_SECONDS: Final = 120

#: Seconds between two looks at the flag while something is waited for.
POLL_SECONDS: Final = 0.05


class Stopping:
    """A flag that SIGTERM sets, once and for all; a second SIGTERM changes nothing.

    Not a `threading.Event`: its `set` takes a lock, which the interrupted thread may hold when the signal comes.
    """

    __slots__ = ("_set",)

    def __init__(self) -> None:
        self._set = False

    def set(self) -> None:
        """Tell everybody to stop."""
        self._set = True

    def is_set(self) -> bool:
        """Whether the program is told to stop."""
        return self._set

    __bool__ = is_set  #: so that ``if stopping:`` means what it says

    def raise_if_set(self) -> None:
        """Raise StoppedError when the program is told to stop."""
        if self._set:
            raise StoppedError("stopped by SIGTERM")

    def wait(self, seconds: float) -> bool:
        """Wait until the program is told to stop, or seconds have passed; whether it is told."""
        until = time.monotonic() + seconds
        while not self._set and (left := until - time.monotonic()) > 0:
            time.sleep(min(POLL_SECONDS, left))
        return self._set

    def listen(self) -> None:
        """Hear SIGTERM from now on; outside the main thread, where Python allows no handlers, this does nothing."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._heard)

    def _heard(self, signum: int, frame: FrameType | None) -> None:
        self.set()


#: Characters of the file that SageMaker reads. Source: API_DescribeTrainingJob, `FailureReason`.
FAILURE_LENGTH: Final = 1024

#: Bytes that so many characters may have in UTF-8.
_ROOM: Final = 4 * FAILURE_LENGTH


class FailureFile:
    """The place of the failure file; a context that holds room for it, and removes what an earlier run left."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._room = path.with_name(".failure")

    def __enter__(self) -> FailureFile:
        with contextlib.suppress(OSError):  # a job that does not fail needs no failure file
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.unlink(missing_ok=True)
            self._room.write_bytes(bytes(_ROOM))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            self._room.unlink(missing_ok=True)

    def write(self, sentence: str) -> None:
        """Write a sentence, `shortened`. Raises OSError when even this cannot be written."""
        text = shorten_failure(sentence).encode()
        if self._room.exists():
            with self._room.open("r+b") as opened:
                opened.write(text)
                opened.truncate()
            self._room.replace(self.path)
        else:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_bytes(text)


def shorten_failure(text: str) -> str:
    """A text as one line of at most 1024 characters that UTF-8 can say."""
    line = " ".join(text.encode("utf-8", "backslashreplace").decode().split())
    return line if len(line) <= FAILURE_LENGTH else f"{line[: FAILURE_LENGTH - 3]}..."
