"""Trace files of Triton: read them in bounded memory, and find the wall clock of their timestamps."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from tritonforge.errors import TraceError
from tritonforge.files import describe_error
from tritonforge.profiling.trace_records import MOST_UNREADABLE, RecordReader
from tritonforge.profiling.traces import RequestTrace, assemble_traces

__all__ = ["TraceFiles"]

#: Bytes that are read at a time.
_PIECE: Final = 1 << 20


class TraceFiles:
    """The requests of one or more trace files, in the order of the files; every iteration reads them again.

    ``on_progress`` is called with the bytes that an iteration has read, and with those of all files.

    Raises:
        TraceError: a file cannot be read, or is not a trace of Triton.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = tuple(paths)
        self.on_progress: Callable[[int, int], None] = lambda done, total: None
        self._done = self._total = 0
        #: What the last iteration could not read, a sentence each.
        self.problems: list[str] = []

    def __iter__(self) -> Iterator[RequestTrace]:
        self.problems = []
        self._done, self._total = 0, self.measure_size()
        for path in self._paths:
            reader = RecordReader(self._read_pieces(path), where=str(path))
            count = 0
            last: RequestTrace | None = None
            for trace in assemble_traces(reader):
                if last is not None:
                    count += 1
                    yield last
                last = trace
            if last is not None and not reader.is_cut_off:
                yield last
            if reader.is_cut_off:
                self.problems.append(f"{path}: the file is cut off after {count} complete requests")
            if reader.has_stopped:
                self.problems.append(
                    f"{path}: stopped after {MOST_UNREADABLE:,} records that are not records of a trace; the rest of "
                    "the file is not read"
                )
            elif reader.unreadable:
                self.problems.append(f"{path}: skipped {reader.unreadable} records that are not records of a trace")

    def measure_clock_offset(self, traces: Iterable[RequestTrace]) -> int:
        """Return the nanoseconds to add to timestamps to obtain the time since 1970.

        Triton's timestamps are of a clock that starts with the machine. The last one is as old as the newest file is:
        its time of modification is when the server wrote that request.

        Raises:
            TraceError: a file cannot be read.
        """
        newest = max((trace.end for trace in traces), default=0)
        try:
            return max(path.stat().st_mtime_ns for path in self._paths) - newest
        except OSError as error:
            raise TraceError(f"{self._paths[0]}: cannot read: {describe_error(error)}") from error

    def measure_size(self) -> int:
        """Return the bytes of all files. Raises TraceError."""
        try:
            return sum(path.stat().st_size for path in self._paths)
        except OSError as error:
            raise TraceError(f"{self._paths[0]}: cannot read: {describe_error(error)}") from error

    def _read_pieces(self, path: Path) -> Iterator[str]:
        """Yield the text of a file in pieces; bytes that are not UTF-8 become U+FFFD."""
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        try:
            with path.open("rb") as file:
                while data := file.read(_PIECE):
                    yield decoder.decode(data)
                    self._done += len(data)
                    self.on_progress(self._done, self._total)
        except OSError as error:
            raise TraceError(f"{path}: cannot read: {describe_error(error)}") from error
        yield decoder.decode(b"", final=True)
