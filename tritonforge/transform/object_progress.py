"""An object that is being transformed: its answers are put in order and become its output when all are there.

`OutputSpool` keeps the answers: small ones in memory, others in a file of the work directory. What the journal records
of that file survives a crash; what follows is cut off by the next run.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

from tritonforge.errors import TritonForgeError
from tritonforge.files import describe_error
from tritonforge.transform.journal import FinishedObject, Journal
from tritonforge.transform.object_store import StoredObject
from tritonforge.transform.output_formats import OutputFormat, build_npy_header, read_dtype

__all__ = ["ObjectInProgress", "OutputSpool", "RequestOutput", "SpoolError"]

#: Seconds between two times that the answers of a large object are flushed to the disk.
_SYNC_PERIOD: Final = 1.0

#: Bytes that a spool keeps in memory.
_IN_MEMORY: Final = 256 * 1024


class SpoolError(TritonForgeError):
    """The work directory cannot be written."""


class OutputSpool:
    """The output of one object as far as it is complete, used by one thread at a time. Methods raise SpoolError.

    It becomes a file once it has more than ``in_memory`` bytes.
    """

    def __init__(self, directory: Path, key: str, *, in_memory: int | None = None) -> None:
        self._in_memory = _IN_MEMORY if in_memory is None else in_memory
        self.path = directory / hashlib.sha256(os.fsencode(key)).hexdigest()
        self._pieces: list[bytes] = []
        self._file: BinaryIO | None = None
        self.length = 0

    def resume(self, length: int) -> bool:
        """Continue after the first ``length`` bytes that an earlier run left. Return False if they are missing."""
        with self._map_errors():
            if not length or not self.path.exists() or self.path.stat().st_size < length:
                self.path.unlink(missing_ok=True)
                return False
            self._file = self.path.open("r+b")
            self._file.truncate(length)
            self._file.seek(length)
            self.length = length
            return True

    def append(self, pieces: Sequence[bytes]) -> None:
        """Add bytes at the end."""
        self.length += sum(map(len, pieces))
        if self._file is None and self.length <= self._in_memory:
            self._pieces += pieces
            return
        with self._map_errors():
            self._open_file().writelines(pieces)

    def sync(self) -> int:
        """Flush everything to the disk and return its length."""
        with self._map_errors():
            file = self._open_file()
            file.flush()
            os.fsync(file.fileno())
        return self.length

    def finish(self) -> bytes | Path:
        """Return everything: bytes, or a file that the caller may move away."""
        if self._file is None:
            return b"".join(self._pieces)
        with self._map_errors():
            self._file.close()
        return self.path

    def discard(self) -> None:
        """Remove everything."""
        self._pieces = []
        with contextlib.suppress(OSError):
            if self._file is not None:
                self._file.close()
            self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the file and leave it for the next run."""
        with contextlib.suppress(OSError):
            if self._file is not None:
                self._file.close()

    def _open_file(self) -> BinaryIO:
        if self._file is None:
            self._file = self.path.open("wb")
            self._file.writelines(self._pieces)
            self._pieces = []
        return self._file

    @contextlib.contextmanager
    def _map_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise SpoolError(f"{self.path.parent}: cannot write: {describe_error(error)}") from error


@dataclass(frozen=True, slots=True)
class RequestOutput:
    """The output of one request: ``count`` records; the next one begins at byte ``end`` of the object.

    ``size`` is what the request counts in the `InFlightLimiter`; ``dtype`` are the columns of a table's rows.
    """

    pieces: tuple[bytes, ...]
    count: int
    end: int
    size: int
    dtype: Any = None


class ObjectInProgress:
    """One object from its first record to its output. Safe for use by several threads.

    The object is complete when every request counted by `add_request` is settled and `end_requests` was called;
    ``records`` of it are then in order, up to byte ``offset`` of its content. ``failure`` is why it has no output, and
    the number of the record. ``interrupted`` is True if the run ended before the object was complete. ``on_release`` is
    called with the sizes of requests that no longer count in the `InFlightLimiter`, ``on_fatal`` with the reason why
    the run cannot continue: the work directory cannot be written.
    """

    def __init__(
        self,
        stored: StoredObject,
        key: str,
        journal: Journal,
        *,
        output_format: OutputFormat,
        on_release: Callable[[int], None],
        on_fatal: Callable[[str], None],
    ) -> None:
        self.stored = stored
        self.key = key
        self.failure: tuple[str, int | None] | None = None
        self.interrupted = False
        self.records = 0
        self.offset = 0
        self._journal = journal
        self._is_table = output_format in ("npy", "parquet")
        self._on_release = on_release
        self._on_fatal = on_fatal
        self._spool = OutputSpool(journal.spools, key)
        self._lock = threading.Lock()
        self._waiting: dict[int, RequestOutput] = {}
        self._next = 0
        self._requests = 0
        self._settled = 0
        self._all_requested = False
        self._spool_failed = False
        self._dtype: Any = None
        self._synced = time.monotonic()

    def resume(self, records: int, offset: int, length: int) -> bool:
        """Continue where an earlier run ended. Return False if its spool is missing. Raises SpoolError."""
        if not records or not self._spool.resume(length):
            return False
        if self._is_table:
            self._dtype = read_dtype(self._spool.path)
        self.records, self.offset = records, offset
        return True

    def add_request(self) -> int:
        """Count a request and return its number."""
        with self._lock:
            self._requests += 1
            return self._requests - 1

    def settle(self, number: int, output: RequestOutput | None, size: int) -> bool:
        """Take the output of a request of ``size`` bytes, None if it has none.

        Return True if this completed the object.
        """
        with self._lock:
            self._settled += 1
            if output is None or self.failure is not None or self._spool_failed:
                self._on_release(size)
                return self._is_complete()
            self._waiting[number] = output
            try:
                self._append_in_order()
            except TritonForgeError as error:  # of the spool or of the journal
                self.interrupted = self._spool_failed = True
                self._on_fatal(str(error))
            if self.failure is not None or self._spool_failed:
                self._drop_waiting()
            return self._is_complete()

    def interrupt(self) -> None:
        """Mark the object as not complete in this run."""
        with self._lock:
            self.interrupted = True

    def fail(self, reason: str, record: int | None) -> None:
        """Mark the object as failed; of several reasons that of the earliest record is kept."""
        with self._lock:
            known = self.failure
            if known is None or (record is not None and known[1] is not None and record < known[1]):
                self.failure = reason, record
            self._drop_waiting()

    def end_requests(self) -> bool:
        """Note that no more requests follow. Return True if the object is complete."""
        with self._lock:
            self._all_requested = True
            return self._is_complete()

    def finish(self) -> bytes | Path:
        """Return the output, as bytes or as a file that may be moved away. Raises SpoolError."""
        return self._spool.finish()

    def suspend(self) -> None:
        """Keep the answers that are in order for the next run. Raises SpoolError and JournalError."""
        with self._lock:
            self._drop_waiting()
            if self.records and not self._spool_failed:
                self._sync()
            self._spool.close()

    def discard(self) -> None:
        """Remove what was spooled."""
        self._spool.discard()

    def describe(self, reason: str | None = None, record: int | None = None) -> FinishedObject:
        """Return what the journal records of the object; with a ``reason`` it failed."""
        return FinishedObject(
            key=self.key,
            uri=self.stored.uri,
            etag=self.stored.etag,
            size=self.stored.size,
            records=self.records,
            reason=reason,
            record=record,
        )

    def _append_in_order(self) -> None:
        while (output := self._waiting.pop(self._next, None)) is not None:
            self._next += 1
            self._on_release(output.size)
            if self._is_table and not self._check_columns(output):
                return
            self._spool.append(output.pieces)
            self.records += output.count
            self.offset = output.end
        if time.monotonic() - self._synced > _SYNC_PERIOD and not self._is_complete():
            self._sync()

    def _check_columns(self, output: RequestOutput) -> bool:
        """Return False, and fail the object, if the columns differ from those of the rows before."""
        if self._dtype is None:
            self._dtype = output.dtype
            self._spool.append([build_npy_header(output.dtype)])
        elif self._dtype != output.dtype:
            reason = f"its outputs are {output.dtype}, those before {self._dtype}; a table has one type for all rows"
            self.failure = reason, self.records
        return self.failure is None

    def _sync(self) -> None:
        length = self._spool.sync()
        self._journal.record_progress(self.key, self.records, self.offset, length)
        self._synced = time.monotonic()

    def _drop_waiting(self) -> None:
        for output in self._waiting.values():
            self._on_release(output.size)
        self._waiting.clear()

    def _is_complete(self) -> bool:
        return self._all_requested and self._settled == self._requests
