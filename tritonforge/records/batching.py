"""Batching: records become the bodies of requests, and the answers one object again. This module does no I/O."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, get_args

from tritonforge.errors import DefinitionError
from tritonforge.records.record import BatchStrategy, Buffer, Record, RecordError, too_large

__all__ = ["AssembleWith", "Batch", "assemble", "batches"]

#: Source: API_TransformOutput, `AssembleWith`.
AssembleWith: TypeAlias = Literal["None", "Line"]

_NEWLINE: Final = b"\n"


@dataclass(frozen=True, slots=True)
class Batch:
    """The body of one request: ``count`` records, from record ``number`` on, which starts at byte ``offset``.

    ``body`` is a view of the stream's chunk where the batch has one record, else memory of its own.
    """

    body: Buffer
    number: int
    count: int
    offset: int


def batches(records: Iterable[Record], strategy: BatchStrategy, max_payload: int) -> Iterator[Batch]:
    """The records as bodies of at most ``max_payload`` bytes, in order.

    SingleRecord gives each record's payload without its framing; MultiRecord joins as many framed records as fit.
    Source: API_TransformInput, `SplitType`: padding is removed for SingleRecord, and not for MultiRecord.

    Raises RecordError for a record that does not fit alone, and what ``records`` raises: in both cases after the
    records before were given out.
    """
    if strategy not in get_args(BatchStrategy):
        raise DefinitionError(f"strategy must be one of {', '.join(get_args(BatchStrategy))}, found {strategy!r}")
    if max_payload < 1:
        raise DefinitionError(f"max_payload must be 1 byte or more, found {max_payload}")
    return (_single if strategy == "SingleRecord" else _multiple)(records, max_payload)


def _single(records: Iterable[Record], max_payload: int) -> Iterator[Batch]:
    for record in records:
        size = len(record.payload)
        if size > max_payload:
            raise too_large(record.number, record.offset, max_payload, size=size)
        yield Batch(record.payload, record.number, 1, record.offset)


def _multiple(records: Iterable[Record], max_payload: int) -> Iterator[Batch]:
    first: Record | None = None  # of the batch that is being filled
    body = bytearray()  # empty while the first record is the only one, which is not copied
    count = size = 0
    iterator = iter(records)
    while True:
        failure: RecordError | None = None
        try:
            record = next(iterator, None)
        except RecordError as error:
            record, failure = None, error
        if record is not None and len(record.framed) > max_payload:
            failure = too_large(record.number, record.offset, max_payload, size=len(record.framed))
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
    r"""The answers of an object's requests as the pieces of its output, to be written one after another.

    "None" adds nothing, "Line" a ``\n`` after every answer. Source: API_TransformOutput, `AssembleWith`.
    """
    if assemble_with not in get_args(AssembleWith):
        found = f"found {assemble_with!r}"
        raise DefinitionError(f"assemble_with must be one of {', '.join(get_args(AssembleWith))}, {found}")
    return _assembled(parts, assemble_with == "Line")


def _assembled(parts: Iterable[Buffer], lines: bool) -> Iterator[Buffer]:
    for part in parts:
        yield part
        if lines:
            yield _NEWLINE
