"""Splitting: a stream of chunks becomes records, by TFRecord or RecordIO framing, by lines, or not at all. No I/O here.

What is a record follows from the stream alone: the same bytes in other chunks give the same records and the same error.
At most one chunk and one record are held.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Final

from tritonforge.errors import DefinitionError
from tritonforge.records.record import MAX_RECORD, Buffer, Record, SplitType, too_large
from tritonforge.records.recordio import read_recordio
from tritonforge.records.tfrecord import read_tfrecords
from tritonforge.records.window import as_bytes_view

__all__ = ["split"]


def split(
    chunks: Iterable[Buffer],
    split_type: SplitType,
    *,
    max_record: int = MAX_RECORD,
    offset: int = 0,
    number: int = 0,
) -> Iterator[Record]:
    r"""The records of a stream, one after another, as soon as they are there.

    Records are views of the chunks, so a chunk must not be written to again. A payload of more than ``max_record``
    bytes is an error, found before memory is asked for it. ``offset`` and ``number`` say where in the stream the chunks
    start, for one that is resumed.

    "Line" cuts at ``\n`` alone, so that ``\r`` stays in the payload; the payload is the line without its ``\n``, an
    empty line is a record, and the last line needs no ``\n``. "None" gives the whole stream as one record, even an
    empty one.

    Raises RecordError, after every record before the damage was given out; and whatever ``chunks`` raises.
    """
    if split_type not in _READERS:
        raise DefinitionError(f"split_type must be one of {', '.join(_READERS)}, found {split_type!r}")
    return _READERS[split_type](chunks, max_record=max_record, offset=offset, number=number)


def _whole(chunks: Iterable[Buffer], *, max_record: int, offset: int, number: int) -> Iterator[Record]:
    first: memoryview | None = None
    gathered: bytearray | None = None
    for chunk in chunks:
        if not len(chunk):
            continue
        if first is None:
            first = as_bytes_view(chunk)
        elif gathered is None:
            gathered = bytearray(first)
            gathered += chunk
        else:
            gathered += chunk
        if len(first if gathered is None else gathered) > max_record:
            raise too_large(number, offset, max_record)
    view = memoryview(gathered) if gathered is not None else first if first is not None else memoryview(b"")
    yield Record(view, view, offset, number)


def _lines(chunks: Iterable[Buffer], *, max_record: int, offset: int, number: int) -> Iterator[Record]:
    begun = bytearray()  # of a line that started in an earlier chunk; `offset` is where it starts
    for chunk in chunks:
        data = chunk if isinstance(chunk, bytes) else bytes(chunk)
        view = memoryview(data)
        start, end = 0, data.find(b"\n")
        if begun:
            piece = view[: end + 1] if end >= 0 else view
            if len(begun) + len(piece) - (end >= 0) > max_record:
                raise too_large(number, offset, max_record)
            begun += piece
            if end < 0:
                continue
            line = memoryview(begun)
            yield Record(line[:-1], line, offset, number)
            offset += len(begun)
            number += 1
            begun = bytearray()
            start = end + 1
            end = data.find(b"\n", start)
        while end >= 0:
            if end - start > max_record:
                raise too_large(number, offset, max_record)
            yield Record(view[start:end], view[start : end + 1], offset, number)
            offset += end + 1 - start
            number += 1
            start = end + 1
            end = data.find(b"\n", start)
        if len(data) - start > max_record:
            raise too_large(number, offset, max_record)
        begun += view[start:]
    if begun:
        line = memoryview(begun)
        yield Record(line, line, offset, number)


_READERS: Final[Mapping[str, Callable[..., Iterator[Record]]]] = MappingProxyType(
    {"None": _whole, "Line": _lines, "RecordIO": read_recordio, "TFRecord": read_tfrecords}
)
