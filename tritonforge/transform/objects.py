"""Objects under way: the answers of each are put in order, and become its output when it is whole."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tritonforge.errors import TritonForgeError
from tritonforge.transform import tables
from tritonforge.transform.forms import Form
from tritonforge.transform.journal import Journal
from tritonforge.transform.places import Found
from tritonforge.transform.stages import Stage

__all__ = ["Answered", "Underway"]

#: Seconds between two times that the answers of a large object go to the disk.
_PERIOD: Final = 1.0


@dataclass(frozen=True, slots=True)
class Answered:
    """What is written for one request: ``count`` records, after which the object goes on at byte ``end``.

    ``size`` is what the request took of the window; ``dtype`` are the columns of a table's rows.
    """

    pieces: tuple[bytes, ...]
    count: int
    end: int
    size: int
    dtype: Any = None


class Underway:
    """One object from its first record to its output; for use by many threads.

    It is over when every request that was `asked` is settled and `read_up` was called; ``records`` of it are in order
    then, up to byte ``offset`` of its content. ``failure`` is why it has no output, and the number of the record.
    ``interrupted`` says that the run ended before it was whole. ``leave`` is told what of the window is free again,
    ``end`` why the run cannot go on: where the work folder cannot be written.
    """

    def __init__(
        self,
        found: Found,
        key: str,
        journal: Journal,
        *,
        form: Form,
        leave: Callable[[int], None],
        end: Callable[[str], None],
    ) -> None:
        self.found = found
        self.key = key
        self.failure: tuple[str, int | None] | None = None
        self.interrupted = False
        self.records = 0
        self.offset = 0
        self._journal = journal
        self._table = form in ("npy", "parquet")
        self._leave = leave
        self._end = end
        self._stage = Stage(journal.stages, key)
        self._lock = threading.Lock()
        self._waiting: dict[int, Answered] = {}
        self._next = 0
        self._asked = 0
        self._settled = 0
        self._read_up = False
        self._broken = False
        self._dtype: Any = None
        self._synced = time.monotonic()

    def resume(self, records: int, offset: int, length: int) -> bool:
        """Go on where an earlier run was; False where what it left is not there. Raises StageError."""
        if not records or not self._stage.resume(length):
            return False
        if self._table:
            self._dtype = tables.dtype_of(self._stage.path)
        self.records, self.offset = records, offset
        return True

    def asked(self) -> int:
        """A request is on its way: its number."""
        with self._lock:
            self._asked += 1
            return self._asked - 1

    def settle(self, number: int, answer: Answered | None, size: int) -> bool:
        """A request of ``size`` bytes has its answer, or will have none; whether the object is over by this."""
        with self._lock:
            self._settled += 1
            if answer is None or self.failure is not None or self._broken:
                self._leave(size)
                return self._is_over()
            self._waiting[number] = answer
            try:
                self._put_in_order()
            except TritonForgeError as error:  # of the stage, or of the journal
                self.interrupted = self._broken = True
                self._end(str(error))
            if self.failure is not None or self._broken:
                self._drop()
            return self._is_over()

    def interrupt(self) -> None:
        """The run ends before the object is whole."""
        with self._lock:
            self.interrupted = True

    def fail(self, reason: str, record: int | None) -> None:
        """The object has no output; of several reasons that of the earliest record is kept."""
        with self._lock:
            known = self.failure
            if known is None or (record is not None and known[1] is not None and record < known[1]):
                self.failure = reason, record
            self._drop()

    def read_up(self) -> bool:
        """No more requests will be asked; whether the object is over by this."""
        with self._lock:
            self._read_up = True
            return self._is_over()

    def output(self) -> bytes | Path:
        """What was put together, as bytes or as a file that may be moved away. Raises StageError."""
        return self._stage.finish()

    def suspend(self) -> None:
        """Leave what is in order for the next run. Raises StageError and JournalError."""
        with self._lock:
            self._drop()
            if self.records and not self._broken:
                self._sync()
            self._stage.close()

    def forget(self) -> None:
        """Remove what was put together."""
        self._stage.discard()

    def _put_in_order(self) -> None:
        while (answer := self._waiting.pop(self._next, None)) is not None:
            self._next += 1
            self._leave(answer.size)
            if self._table and not self._has_columns(answer):
                return
            self._stage.append(answer.pieces)
            self.records += answer.count
            self.offset = answer.end
        if time.monotonic() - self._synced > _PERIOD and not self._is_over():
            self._sync()

    def _has_columns(self, answer: Answered) -> bool:
        if self._dtype is None:
            self._dtype = answer.dtype
            self._stage.append([tables.header(answer.dtype)])
        elif self._dtype != answer.dtype:
            reason = f"its outputs are {answer.dtype}, those before {self._dtype}; a table has one type for all rows"
            self.failure = reason, self.records
        return self.failure is None

    def _sync(self) -> None:
        length = self._stage.sync()
        self._journal.reached(self.key, self.records, self.offset, length)
        self._synced = time.monotonic()

    def _drop(self) -> None:
        """Nobody waits for these answers any more."""
        for answer in self._waiting.values():
            self._leave(answer.size)
        self._waiting.clear()

    def _is_over(self) -> bool:
        return self._read_up and self._settled == self._asked
