"""Splitting a stream of chunks into records, and joining records into the bodies of requests. No I/O.

Records follow from the stream alone: the same bytes in other chunks give the same records and the same error. At most
one chunk and one record are in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal, TypeAlias, get_args

from tritonforge.errors import DefinitionError
from tritonforge.records.formats import read_recordio, read_tfrecords
from tritonforge.records.stream import (
    MAX_RECORD,
    BatchStrategy,
    Buffer,
    Record,
    RecordError,
    SplitType,
    as_bytes_view,
    make_size_error,
)

__all__ = ["AssembleWith", "Batch", "assemble", "build_batches", "split"]

#: Source: API_TransformOutput, `AssembleWith`.
AssembleWith: TypeAlias = Literal["None", "Line"]


def split(
    chunks: Iterable[Buffer],
    split_type: SplitType,
    *,
    max_record: int = MAX_RECORD,
    offset: int = 0,
    number: int = 0,
) -> Iterator[Record]:
    r"""Split a stream into records, each yielded as soon as it is complete.

    Records are views of the chunks, so a chunk must not be modified afterwards. A payload of more than ``max_record``
    bytes is an error, found before memory is allocated for it. ``offset`` and ``number`` are the position and the
    number of the first record, for a stream that is resumed.

    "Line" splits at ``\n`` alone, so that ``\r`` stays in the payload; the payload is the line without its ``\n``, an
    empty line is a record, and the last line needs no ``\n``. "None" yields the whole stream as one record, even an
    empty one.

    Raises RecordError, after every record before the damage was yielded, and whatever ``chunks`` raises.
    """
    if split_type not in _READERS:
        raise DefinitionError(f"split_type must be one of {', '.join(_READERS)}, found {split_type!r}")
    return _READERS[split_type](chunks, max_record=max_record, offset=offset, number=number)


def _read_whole(chunks: Iterable[Buffer], *, max_record: int, offset: int, number: int) -> Iterator[Record]:
    first: memoryview | None = None
    gathered: bytearray | None = None
    for chunk in chunks:
        if not len(chunk):
            continue
        if first is None:
            first = as_bytes_view(chunk)
        else:
            if gathered is None:
                gathered = bytearray(first)
            gathered += chunk
        if len(first if gathered is None else gathered) > max_record:
            raise make_size_error(number, offset, max_record)
    view = memoryview(gathered) if gathered is not None else first if first is not None else memoryview(b"")
    yield Record(view, view, offset, number)


def _read_lines(chunks: Iterable[Buffer], *, max_record: int, offset: int, number: int) -> Iterator[Record]:
    begun = bytearray()  # of a line that started in an earlier chunk; `offset` is where it starts
    for chunk in chunks:
        data = chunk if isinstance(chunk, bytes) else bytes(chunk)
        view = memoryview(data)
        start, end = 0, data.find(b"\n")
        if begun:
            piece = view[: end + 1] if end >= 0 else view
            if len(begun) + len(piece) - (end >= 0) > max_record:
                raise make_size_error(number, offset, max_record)
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
                raise make_size_error(number, offset, max_record)
            yield Record(view[start:end], view[start : end + 1], offset, number)
            offset += end + 1 - start
            number += 1
            start = end + 1
            end = data.find(b"\n", start)
        if len(data) - start > max_record:
            raise make_size_error(number, offset, max_record)
        begun += view[start:]
    if begun:
        line = memoryview(begun)
        yield Record(line, line, offset, number)


_READERS: Final[Mapping[str, Callable[..., Iterator[Record]]]] = MappingProxyType(
    {"None": _read_whole, "Line": _read_lines, "RecordIO": read_recordio, "TFRecord": read_tfrecords}
)


@dataclass(frozen=True, slots=True)
class Batch:
    """The body of one request: ``count`` records, from record ``number`` at byte ``offset`` on.

    ``body`` is a view of the stream's chunk if the batch has one record, else memory of its own.
    """

    body: Buffer
    number: int
    count: int
    offset: int


def build_batches(records: Iterable[Record], strategy: BatchStrategy, max_payload: int) -> Iterator[Batch]:
    """Join records into bodies of at most ``max_payload`` bytes, in order.

    SingleRecord yields each record's payload without its framing; MultiRecord joins as many framed records as fit.
    Source: API_TransformInput, `SplitType`: padding is removed for SingleRecord, and not for MultiRecord.

    Raises RecordError for a record that does not fit alone, and what ``records`` raises: in both cases after the
    records before were yielded.
    """
    if strategy not in get_args(BatchStrategy):
        raise DefinitionError(f"strategy must be one of {', '.join(get_args(BatchStrategy))}, found {strategy!r}")
    if max_payload < 1:
        raise DefinitionError(f"max_payload must be 1 byte or more, found {max_payload}")
    return (_batch_singly if strategy == "SingleRecord" else _batch_together)(records, max_payload)


def _batch_singly(records: Iterable[Record], max_payload: int) -> Iterator[Batch]:
    for record in records:
        size = len(record.payload)
        if size > max_payload:
            raise make_size_error(record.number, record.offset, max_payload, size=size)
        yield Batch(record.payload, record.number, 1, record.offset)


def _batch_together(records: Iterable[Record], max_payload: int) -> Iterator[Batch]:
    first: Record | None = None  # of the batch that is being filled
    body = bytearray()  # empty while the batch has one record, which is not copied
    count = size = 0
    iterator = iter(records)
    while True:
        failure: RecordError | None = None
        try:
            record = next(iterator, None)
        except RecordError as error:
            record, failure = None, error
        if record is not None and len(record.framed) > max_payload:
            failure = make_size_error(record.number, record.offset, max_payload, size=len(record.framed))
            record = None
        if first is not None and (record is None or size + len(record.framed) > max_payload):
            yield Batch(first.framed if count == 1 else body, first.number, count, first.offset)
            first, body, count, size = None, bytearray(), 0, 0
        if failure is not None:
            raise failure
        if record is None:
            return
        if first is None:
            first = record
        elif count == 1:
            body += first.framed
        if count:
            body += record.framed
        count += 1
        size += len(record.framed)


def assemble(parts: Iterable[Buffer], assemble_with: AssembleWith) -> Iterator[Buffer]:
    r"""Yield the pieces of an object's output, made of the responses to its requests.

    "None" adds nothing, "Line" a ``\n`` after every response. Source: API_TransformOutput, `AssembleWith`.
    """
    if assemble_with not in get_args(AssembleWith):
        allowed = ", ".join(get_args(AssembleWith))
        raise DefinitionError(f"assemble_with must be one of {allowed}, found {assemble_with!r}")
    return (piece for part in parts for piece in ((part, b"\n") if assemble_with == "Line" else (part,)))
