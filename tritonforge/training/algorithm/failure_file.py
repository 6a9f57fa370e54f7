"""The failure file of a training job, which can be written on a full disk too. An edge.

SageMaker shows its first 1024 characters as the job's FailureReason. Room for them is taken when the job begins and
given back when it ends well: on a full volume (SageMaker's /opt/ml is one volume with the model in it) a new file gets
no room any more, while bytes that a file has can be written again.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from types import TracebackType
from typing import Final

__all__ = ["MOST", "FailureFile", "shortened"]

#: Characters of the file that SageMaker reads. Source: API_DescribeTrainingJob, `FailureReason`.
MOST: Final = 1024

#: Bytes that so many characters may have in UTF-8.
_ROOM: Final = 4 * MOST


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
        text = shortened(sentence).encode()
        if self._room.exists():
            with self._room.open("r+b") as opened:
                opened.write(text)
                opened.truncate()
            self._room.replace(self.path)
        else:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_bytes(text)


def shortened(text: str) -> str:
    """A text as one line of at most 1024 characters that UTF-8 can say."""
    line = " ".join(text.encode("utf-8", "backslashreplace").decode().split())
    return line if len(line) <= MOST else f"{line[: MOST - 3]}..."
