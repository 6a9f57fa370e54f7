"""CRC-32C (Castagnoli) and its masked form in TFRecords, by google-crc32c. This module does no I/O.

TFRecords: a length, its checksum, the data, their checksum. This module does no I/O.

    uint64 length | uint32 masked CRC-32C of those 8 bytes | data | uint32 masked CRC-32C of the data

Numbers are little endian. Source: TensorFlow, lib/io/record_writer.h (the layout), record_reader.cc (the errors).

RecordIO as MXNet and SageMaker's own algorithms write it: parts with a magic number. This module does no I/O.

    uint32 magic | uint32 kind << 29 | length | data | zeros up to a multiple of 4     (little endian)

A record is one part, or several where its data hold the magic number at a multiple of 4: there the writer cuts, and
leaves the number out; the reader puts it back between the parts. Source: dmlc-core, include/dmlc/recordio.h (the
layout) and src/recordio.cc (`WriteRecord`, `NextRecord`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from struct import Struct
from typing import Final

from tritonforge.errors import EncodeError, MissingExtraError
from tritonforge.records.stream import (
    Buffer,
    ChunkReader,
    Record,
    RecordError,
    as_bytes_view,
    make_size_error,
    suggest_cause,
)

__all__ = ["compute_crc32c", "frame_recordio", "frame_tfrecord", "mask_checksum", "read_recordio", "read_tfrecords"]

#: google-crc32c reads ``bytes`` only. A view is copied in pieces of this size, which stay in the processor's cache.
_PIECE: Final = 256 * 1024

#: Source: TensorFlow, lib/hash/crc32c.h, `kMaskDelta` and `Mask`.
_MASK_DELTA: Final = 0xA282EAD8


@lru_cache(maxsize=1)
def _extend() -> Callable[[int, bytes], int]:
    try:
        from google_crc32c import extend
    except ImportError as error:
        raise MissingExtraError("google-crc32c", extra="transform") from error
    function: Callable[[int, bytes], int] = extend
    return function


def compute_crc32c(data: Buffer) -> int:
    """The CRC-32C of the data. Raises MissingExtraError where google-crc32c is not installed."""
    extend = _extend()
    if len(data) <= _PIECE:
        return extend(0, bytes(data))
    crc = 0
    for start in range(0, len(data), _PIECE):
        crc = extend(crc, bytes(data[start : start + _PIECE]))
    return crc


def mask_checksum(crc: int) -> int:
    """The checksum as a TFRecord stores it: rotated right by 15 bits, plus a constant."""
    return (((crc >> 15) | (crc << 17)) + _MASK_DELTA) & 0xFFFFFFFF


_LENGTH: Final = Struct("<Q")
_CRC: Final = Struct("<I")
_TFRECORD_HEADER: Final = Struct("<QI")


def frame_tfrecord(payload: Buffer) -> bytes:
    """The payload as one TFRecord. Raises MissingExtraError where google-crc32c is not installed."""
    payload = as_bytes_view(payload)
    length = _LENGTH.pack(len(payload))
    checks = _CRC.pack(mask_checksum(compute_crc32c(length))), _CRC.pack(mask_checksum(compute_crc32c(payload)))
    return b"".join((length, checks[0], payload, checks[1]))


def read_tfrecords(chunks: Iterable[Buffer], *, max_record: int, offset: int, number: int) -> Iterator[Record]:
    """The records of a stream of TFRecords; both checksums of each are checked before it is given out.

    Raises RecordError at the first record that is cut off, damaged, or has more than ``max_record`` bytes of data. A
    stream that ends inside of a header is cut off too; TensorFlow's reader takes that for the end without a word.
    """
    window = ChunkReader(chunks, offset=offset)
    while reached := window.reach(_TFRECORD_HEADER.size):
        if reached < _TFRECORD_HEADER.size:
            raise _tfrecord_end(number, window.offset, reached, _TFRECORD_HEADER.size, "header")
        at = window.at
        length, stored = _TFRECORD_HEADER.unpack_from(window.view, at)
        found = mask_checksum(compute_crc32c(window.view[at : at + _LENGTH.size]))
        if found != stored:
            hint = suggest_cause(window.view[at:], window.offset, "TFRecords")
            raise _mismatch(number, window.offset, "length", stored, found, hint)
        if length > max_record:
            raise make_size_error(number, window.offset, max_record, size=length)
        size = _TFRECORD_HEADER.size + length + _CRC.size
        if (reached := window.reach(size)) < size:
            raise _tfrecord_end(number, window.offset, reached, size, f"{length} bytes of data")
        framed = window.view[window.at : window.at + size]
        payload = framed[_TFRECORD_HEADER.size : size - _CRC.size]
        (stored,) = _CRC.unpack_from(framed, size - _CRC.size)
        found = mask_checksum(compute_crc32c(payload))
        if found != stored:
            raise _mismatch(number, window.offset, "data", stored, found, "they are damaged")
        start = window.offset
        window.advance(size)
        yield Record(payload, framed, start, number)
        number += 1


def _tfrecord_end(number: int, offset: int, reached: int, size: int, what: str) -> RecordError:
    sentence = f"the stream ends in it; with its {what} it has {size} bytes, and {reached} are there"
    return RecordError(f"record {number} at byte {offset}: {sentence}", offset=offset)


def _mismatch(number: int, offset: int, what: str, stored: int, found: int, hint: str) -> RecordError:
    sentence = f"its {what} should have the masked CRC-32C 0x{stored:08x}, found 0x{found:08x}; {hint}"
    return RecordError(f"record {number} at byte {offset}: {sentence}", offset=offset)


_MAGIC: Final = 0xCED7230A
_PART_HEADER: Final = Struct("<II")
_SEPARATOR: Final = _MAGIC.to_bytes(4, "little")
_LENGTH_BITS: Final = 29
_LENGTH_MASK: Final = (1 << _LENGTH_BITS) - 1

#: Bytes of a payload whose search is worth numpy's call.
_LARGE: Final = 1 << 13

#: The kinds of a part.
_WHOLE, _FIRST, _MIDDLE, _LAST = range(4)
_KINDS: Final = ("a whole record", "the first part of a record", "a middle part", "a last part")


def frame_recordio(payload: Buffer) -> bytes:
    """The payload as one RecordIO record. Raises EncodeError for 2**29 bytes or more, which the format cannot say."""
    view = as_bytes_view(payload)
    if len(view) > _LENGTH_MASK:
        raise EncodeError(f"a RecordIO record has fewer than 2**29 bytes, found {len(view)}")
    data = bytes(view)
    cuts = _cuts(data)
    pieces: list[bytes] = []
    start = 0
    for cut in cuts:
        pieces += (_header(_MIDDLE if start else _FIRST, cut - start), data[start:cut])
        start = cut + len(_SEPARATOR)
    pieces += (_header(_LAST if cuts else _WHOLE, len(data) - start), data[start:], bytes(-len(data) % 4))
    return b"".join(pieces)


def _cuts(data: bytes) -> list[int]:
    """Where the magic number stands at a multiple of 4."""
    if len(data) >= _LARGE:
        import numpy as np  # words are compared ten times as fast as text is searched

        words = np.frombuffer(data, "<u4", len(data) // 4)
        found: list[int] = (np.flatnonzero(words == _MAGIC) * 4).tolist()
        return found
    cuts = []
    cut = data.find(_SEPARATOR)
    while cut >= 0:
        if cut % 4 == 0:
            cuts.append(cut)
        cut = data.find(_SEPARATOR, cut + 1)
    return cuts


def _header(kind: int, length: int) -> bytes:
    return _PART_HEADER.pack(_MAGIC, kind << _LENGTH_BITS | length)


def read_recordio(chunks: Iterable[Buffer], *, max_record: int, offset: int, number: int) -> Iterator[Record]:
    """The records of a stream of RecordIO; what stands in the padding is not looked at, as the format's reader does.

    Raises RecordError at the first record that is cut off, out of order, or has more than ``max_record`` bytes of data.
    """
    window = ChunkReader(chunks, offset=offset)
    while window.reach(1):
        size, parts = _measure(window, number, max_record)
        framed = window.view[window.at : window.at + size]
        payload = _joined(framed) if parts > 1 else framed[_PART_HEADER.size : _PART_HEADER.size + _length(framed, 0)]
        start = window.offset
        window.advance(size)
        yield Record(payload, framed, start, number)
        number += 1


def _length(framed: memoryview, at: int) -> int:
    """The length of the data of the part that starts at this byte."""
    length: int = _PART_HEADER.unpack_from(framed, at)[1] & _LENGTH_MASK
    return length


def _joined(framed: memoryview) -> memoryview:
    """The data of all parts with the magic number between them; a record may have very many parts."""
    payload = bytearray()
    at = 0
    while at < len(framed):
        length = _length(framed, at)
        if at:
            payload += _SEPARATOR
        at += _PART_HEADER.size
        payload += framed[at : at + length]
        at += length + -length % 4
    return memoryview(payload)


def _measure(window: ChunkReader, number: int, max_record: int) -> tuple[int, int]:
    """How many bytes the next record has, all reached, and how many parts."""
    parts, size, data = 0, 0, -len(_SEPARATOR)
    while True:
        at = size
        size += _PART_HEADER.size
        if (reached := window.reach(size)) < size:
            raise _recordio_end(number, window.offset, reached, size)
        magic, field = _PART_HEADER.unpack_from(window.view, window.at + at)
        kind, length = field >> _LENGTH_BITS, field & _LENGTH_MASK
        if magic != _MAGIC:
            hint = suggest_cause(window.view[window.at + at :], window.offset + at, "RecordIO")
            found = f"the magic number 0x{_MAGIC:08x}, found 0x{magic:08x}; {hint}"
            raise _recordio_error(number, window.offset, at, found)
        expected = (_MIDDLE, _LAST) if parts else (_WHOLE, _FIRST)
        if kind not in expected:
            found = _KINDS[kind] if kind < len(_KINDS) else f"the unknown kind {kind}"
            raise _recordio_error(
                number, window.offset, at, f"{_KINDS[expected[0]]} or {_KINDS[expected[1]]}, found {found}"
            )
        data += len(_SEPARATOR) + length
        if data > max_record:
            raise make_size_error(number, window.offset, max_record, size=data if kind in (_WHOLE, _LAST) else None)
        parts += 1
        size += length + -length % 4
        if (reached := window.reach(size)) < size:
            raise _recordio_end(number, window.offset, reached, size)
        if kind in (_WHOLE, _LAST):
            return size, parts


def _recordio_end(number: int, offset: int, reached: int, size: int) -> RecordError:
    sentence = f"the stream ends in it; it has at least {size} bytes, and {reached} are there"
    return RecordError(f"record {number} at byte {offset}: {sentence}", offset=offset)


def _recordio_error(number: int, offset: int, at: int, sentence: str) -> RecordError:
    return RecordError(f"record {number} at byte {offset}: byte {offset + at} should start {sentence}", offset=offset)
