"""TFRecords: a length, its checksum, the data, their checksum. This module does no I/O.

    uint64 length | uint32 masked CRC-32C of those 8 bytes | data | uint32 masked CRC-32C of the data

Numbers are little endian. Source: TensorFlow, lib/io/record_writer.h (the layout), record_reader.cc (the errors).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from struct import Struct
from typing import Final

from tritonforge.records.checksum import crc32c, masked
from tritonforge.records.record import Buffer, Record, RecordError, not_framed, too_large
from tritonforge.records.window import Window, as_bytes_view

__all__ = ["frame_tfrecord", "read_tfrecords"]

_LENGTH: Final = Struct("<Q")
_CRC: Final = Struct("<I")
_HEADER: Final = Struct("<QI")


def frame_tfrecord(payload: Buffer) -> bytes:
    """The payload as one TFRecord. Raises MissingExtraError where google-crc32c is not installed."""
    payload = as_bytes_view(payload)
    length = _LENGTH.pack(len(payload))
    checks = _CRC.pack(masked(crc32c(length))), _CRC.pack(masked(crc32c(payload)))
    return b"".join((length, checks[0], payload, checks[1]))


def read_tfrecords(chunks: Iterable[Buffer], *, max_record: int, offset: int, number: int) -> Iterator[Record]:
    """The records of a stream of TFRecords; both checksums of each are checked before it is given out.

    Raises RecordError at the first record that is cut off, damaged, or has more than ``max_record`` bytes of data. A
    stream that ends inside of a header is cut off too; TensorFlow's reader takes that for the end without a word.
    """
    window = Window(chunks, offset=offset)
    while reached := window.reach(_HEADER.size):
        if reached < _HEADER.size:
            raise _cut_off(number, window.offset, reached, _HEADER.size, "header")
        at = window.at
        length, stored = _HEADER.unpack_from(window.view, at)
        found = masked(crc32c(window.view[at : at + _LENGTH.size]))
        if found != stored:
            hint = not_framed(window.view[at:], window.offset, "TFRecords")
            raise _mismatch(number, window.offset, "length", stored, found, hint)
        if length > max_record:
            raise too_large(number, window.offset, max_record, size=length)
        size = _HEADER.size + length + _CRC.size
        if (reached := window.reach(size)) < size:
            raise _cut_off(number, window.offset, reached, size, f"{length} bytes of data")
        framed = window.view[window.at : window.at + size]
        payload = framed[_HEADER.size : size - _CRC.size]
        (stored,) = _CRC.unpack_from(framed, size - _CRC.size)
        found = masked(crc32c(payload))
        if found != stored:
            raise _mismatch(number, window.offset, "data", stored, found, "they are damaged")
        start = window.offset
        window.advance(size)
        yield Record(payload, framed, start, number)
        number += 1


def _cut_off(number: int, offset: int, reached: int, size: int, what: str) -> RecordError:
    sentence = f"the stream ends in it; with its {what} it has {size} bytes, and {reached} are there"
    return RecordError(f"record {number} at byte {offset}: {sentence}", offset=offset)


def _mismatch(number: int, offset: int, what: str, stored: int, found: int, hint: str) -> RecordError:
    sentence = f"its {what} should have the masked CRC-32C 0x{stored:08x}, found 0x{found:08x}; {hint}"
    return RecordError(f"record {number} at byte {offset}: {sentence}", offset=offset)
