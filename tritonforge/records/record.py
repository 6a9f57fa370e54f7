"""A record: one unit of input, the bytes that frame it, and where it stood; and the one error of damaged input. No I/O.

Words as in SageMaker's CreateTransformJob: an object (a stream of bytes here) is split into records by a *split type*,
and records go into requests by a *batch strategy*.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple, TypeAlias

from tritonforge.errors import DecodeError

__all__ = ["MAX_RECORD", "BatchStrategy", "Buffer", "Record", "RecordError", "SplitType", "not_framed", "too_large"]

#: Anything with bytes in it; what is handed out stays valid, so what is handed in must not change afterwards.
Buffer: TypeAlias = "bytes | bytearray | memoryview"

#: Source: API_TransformInput, `SplitType`, and API_CreateTransformJob, `BatchStrategy`.
SplitType: TypeAlias = Literal["None", "Line", "RecordIO", "TFRecord"]
BatchStrategy: TypeAlias = Literal["SingleRecord", "MultiRecord"]

#: Bytes of the largest payload of a request. Source: API_CreateTransformJob, `MaxPayloadInMB`: at most 100.
MAX_RECORD: Final = 100 * 2**20

#: How gzip starts. Source: RFC 1952, section 2.3.1.
_GZIP: Final = b"\x1f\x8b"


class Record(NamedTuple):
    """One record of a stream; a tuple, since a stream has millions.

    ``payload`` is the record without its framing (what SingleRecord sends), ``framed`` as it stood in the stream (what
    MultiRecord sends); both may be views, which keep the chunk they lie in. ``offset`` is its first byte in the stream,
    ``number`` counts the records of the stream from 0.
    """

    payload: Buffer
    framed: Buffer
    offset: int
    number: int = 0


class RecordError(DecodeError):
    """A stream is damaged, cut off, or holds a record above the limit.

    ``offset`` is a byte of the stream as it is split, after any decompression: the first one that is not part of a good
    record. Every record before it was given out.
    """

    def __init__(self, message: str, *, offset: int) -> None:
        super().__init__(message)
        self.offset = offset


def too_large(number: int, offset: int, limit: int, *, size: int | None = None) -> RecordError:
    """The error of a record above ``limit`` bytes; ``size`` is None where its end was not seen."""
    found = f"has {size} bytes, more than" if size is not None else "has more than"
    return RecordError(
        f"record {number} at byte {offset} {found} the {limit} bytes that one payload may have; "
        "raise MaxPayloadInMB, or make the record smaller",
        offset=offset,
    )


def not_framed(head: Buffer, offset: int, what: str) -> str:
    """What to do where a record does not start as its format says; ``head`` is how it starts instead."""
    if not offset and bytes(head[:2]) == _GZIP:
        return "it starts as gzip does: set CompressionType to Gzip"
    return f"the stream is damaged here, or holds no {what}"
