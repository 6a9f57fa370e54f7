"""The records of a trace file that Triton writes, read from pieces of its text in bounded memory. No I/O.

The file is one JSON array; a record has the ``id`` of a model's execution and either its model and parent or one
timestamp in nanoseconds of a steady clock. Triton writes names and request ids without escaping them, so that a record
may be invalid JSON; such a record is read by its form. Records of tensors (level TENSORS) are skipped.
Source: server/docs/user_guide/trace.md; server/src/tracer.cc, TraceActivity and CaptureTimestamp.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from tritonforge.errors import TraceError

__all__ = [
    "BOUNDARY",
    "MOST_UNREADABLE",
    "ExecutionRecord",
    "Record",
    "RecordReader",
    "TimestampRecord",
    "render_records",
]

#: The text between two requests in a file of `tritonforge serve --trace`. JSON ignores the line break; with it
#: a reader need not guess where the records of a request end.
BOUNDARY: Final = "\n,"

#: Characters that one record may have; a longer one is skipped.
_LONGEST: Final = 1 << 16

#: Records that are not of a trace; after these the rest of the text is not read, so that reading ends.
MOST_UNREADABLE: Final = 100_000

#: Nanoseconds and ids are unsigned 64-bit integers.
_LARGEST: Final = 2**64 - 1

_LONGEST_NAME: Final = 1000
_LONGEST_TIMESTAMP: Final = 100

_START: Final = re.compile(r'\{"id":\d')
#: The end of a record whose last brace is missing: the bracket is not that of the array.
_OPEN_TIMESTAMPS: Final = re.compile(r'"timestamps":\[[^\]]*\]$')
_TENSOR: Final = re.compile(r'\{"id":\d{1,20},"activity":')
_TENSOR_END: Final = re.compile(r'\}\}(?=\s*(?:,\s*\{"id":|\]))')

#: A record of one timestamp as Triton writes it, or of none: nine of ten records have this form.
_TIMESTAMP: Final = re.compile(
    r',?\{"id":(\d{1,19}),"timestamps":\[(?:\{"name":"([A-Z_]{1,100})","ns":(\d{1,19})\})?\]\}'
)

#: An object that holds flat objects at most, so that a search for its end takes one pass over it.
_OBJECT: Final = re.compile(r"\{(?:[^{}]|\{[^{}]*\})*\}")

#: An execution with a request id, which may hold any character, and what Triton writes behind it.
_IDENTIFIED: Final = re.compile(
    r'\{"id":(\d{1,20}),"model_name":"([^"\\]{0,1000})","model_version":(-?\d{1,19}),"request_id":"'
)
_IDENTIFIED_END: Final = re.compile(r'"(?:,"parent_id":(\d{1,20}))?\},\{"id":\d{1,20},"timestamps":\[')

#: Characters of a request id that is read if it is not escaped.
_LONGEST_REQUEST_ID: Final = 2500


@dataclass(frozen=True, slots=True)
class ExecutionRecord:
    """The execution of a model for a request; ``parent_id`` is that of the ensemble or model that caused it."""

    id: int
    model: str
    version: int
    request_id: str = ""
    parent_id: int | None = None


@dataclass(frozen=True, slots=True)
class TimestampRecord:
    """A point in the execution ``id``; ``time`` is in nanoseconds of the server's steady clock."""

    id: int
    name: str
    time: int


#: None is the border between two requests.
Record: TypeAlias = "ExecutionRecord | TimestampRecord | None"


class RecordReader:
    """An iterator over the records in a text that comes in pieces; it has counts of what it could not read.

    ``where`` begins the messages of errors.

    Raises:
        TraceError: the text is not a trace of Triton.
    """

    def __init__(self, pieces: Iterable[str], *, where: str = "trace") -> None:
        self.where = where
        #: Records that are not of a trace, or too long.
        self.unreadable = 0
        #: Records of tensors, which are skipped.
        self.tensors = 0
        #: True when the text ends before the array does.
        self.is_cut_off = False
        #: True when the rest was not read, after `MOST_UNREADABLE` records that are not of a trace.
        self.has_stopped = False
        self._pieces = iter(pieces)
        self._text = ""
        self._place = 0
        self._has_ended = False

    def __iter__(self) -> Iterator[Record]:
        self._begin()
        while True:
            character = self._skip_separators()
            if character == "{":
                match = _TIMESTAMP.match(self._text, self._place)
                if match is None:
                    yield from self._read_record()
                while match is not None:
                    self._place = match.end()
                    if match[3] is not None:
                        yield TimestampRecord(int(match[1]), match[2], int(match[3]))
                    match = _TIMESTAMP.match(self._text, self._place)
            elif character == "\n":  # the border between two requests
                yield None
            elif character == "]":
                return
            elif character == "":
                self.is_cut_off = True
                return
            else:
                self._skip_unreadable()
            if self.unreadable >= MOST_UNREADABLE:
                self.has_stopped = True
                return

    def _begin(self) -> None:
        while not self._text.strip() and self._extend():
            pass
        self._text = self._text.lstrip("\ufeff \t\r\n")
        if not self._text:
            raise TraceError(
                f"{self.where}: the file is empty. tritonserver writes traces when requests are answered; send one"
            )
        if not re.match(r'\[\s*(?:\{\s*"id"|\]|\{?\s*$)', self._text):
            raise TraceError(
                f"{self.where}: not a trace of Triton (expected a JSON array of records with an id, got "
                f"{self._text[:24]!a}). Write one with tritonforge serve --trace FILE"
            )
        self._place = 1

    def _extend(self) -> bool:
        """Read a further piece; return False at the end of the text."""
        if self._has_ended:
            return False
        piece = next(self._pieces, None)
        if piece is None:
            self._has_ended = True
            return False
        self._text = self._text[self._place :] + piece
        self._place = 0
        return True

    def _skip_separators(self) -> str:
        """Skip spaces and commas; return the next character, a line break for the border, "" at the end."""
        while True:
            while self._place < len(self._text):
                if self._text.startswith(BOUNDARY, self._place):
                    self._place += len(BOUNDARY)
                    return "\n"
                character = self._text[self._place]
                if character == "\n" and self._place + 1 == len(self._text) and self._extend():
                    continue
                if character not in ", \t\r\n":
                    return character
                self._place += 1
            if not self._extend():
                return ""

    def _read_record(self) -> Iterator[Record]:
        while len(self._text) - self._place < _LONGEST and self._extend():
            pass
        if _TENSOR.match(self._text, self._place):
            self._skip_tensor()
            return
        if (record := self._read_request_id()) is not None:
            yield record
            return
        if (match := _OBJECT.match(self._text, self._place, self._place + _LONGEST)) is not None:
            try:
                records = _parse_record(json.loads(match[0], strict=False))
            except (ValueError, RecursionError):
                records = None
            if records is not None:
                self._place = match.end()
                yield from records
                return
        self._skip_unreadable()

    def _read_request_id(self) -> ExecutionRecord | None:
        """Return an execution with a request id, escaped or not; None if the record is not one in Triton's form."""
        match = _IDENTIFIED.match(self._text, self._place)
        if match is None:
            return None
        end = _IDENTIFIED_END.search(self._text, match.end(), match.end() + _LONGEST_REQUEST_ID)
        if end is None:
            return None
        request_id = self._text[match.end() : end.start()]
        try:
            text = json.loads(f'"{request_id}"', strict=False)
        except ValueError:
            text = request_id
        self._place = self._text.index("}", end.end(1) if end[1] else end.start()) + 1
        parent = int(end[1]) if end[1] else None
        return ExecutionRecord(int(match[1]), match[2], int(match[3]), text[:_LONGEST_NAME], parent)

    def _skip_tensor(self) -> None:
        self.tensors += 1
        while (match := _TENSOR_END.search(self._text, self._place)) is None:
            self._place = max(self._place, len(self._text) - 64)
            if not self._extend():
                self._place = len(self._text)
                return
        self._place = match.end()

    def _skip_unreadable(self) -> None:
        """Continue at the next record."""
        self.unreadable += 1
        self._place += 1
        while (match := _START.search(self._text, self._place)) is None:
            self._place = max(self._place, len(self._text) - 16)
            if not self._extend():
                # What is left is a record that the text does not end, or the end of the array.
                rest = self._text[-300:].rstrip()
                is_array_end = rest.endswith("]") and not _OPEN_TIMESTAMPS.search(rest)
                self._place = len(self._text.rstrip()) - 1 if is_array_end else len(self._text)
                self.unreadable -= not is_array_end
                return
        self._place = match.start()


def _parse_record(document: Any) -> list[Record] | None:
    """Return the records of an object of the file; None if it is not one of Triton's."""
    if not isinstance(document, dict) or not _is_unsigned(document.get("id")):
        return None
    number = document["id"]
    if "activity" in document:
        return []
    if "timestamps" in document:
        rows = document["timestamps"]
        if not isinstance(rows, list):
            return None
        records: list[Record] = []
        for row in rows:
            if not isinstance(row, dict) or not _is_unsigned(row.get("ns")) or not isinstance(row.get("name"), str):
                return None
            records.append(TimestampRecord(number, row["name"][:_LONGEST_TIMESTAMP], row["ns"]))
        return records
    model, version = document.get("model_name"), document.get("model_version")
    request_id, parent = document.get("request_id", ""), document.get("parent_id")
    if not isinstance(model, str) or not isinstance(version, int) or not isinstance(request_id, str):
        return None
    if parent is not None and not _is_unsigned(parent):
        return None
    return [ExecutionRecord(number, model[:_LONGEST_NAME], version, request_id[:_LONGEST_NAME], parent or None)]


def _is_unsigned(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _LARGEST


def render_records(records: Iterable[Record]) -> str:
    """Return the records of a request as Triton writes them, with escaped names, without the array's brackets."""
    rows = []
    for record in records:
        if isinstance(record, ExecutionRecord):
            row: dict[str, Any] = {"id": record.id, "model_name": record.model, "model_version": record.version}
            if record.request_id:
                row["request_id"] = record.request_id
            if record.parent_id:
                row["parent_id"] = record.parent_id
        elif record is not None:
            row = {"id": record.id, "timestamps": [{"name": record.name, "ns": record.time}]}
        else:
            continue
        rows.append(json.dumps(row, separators=(",", ":")))
    return ",".join(rows)
