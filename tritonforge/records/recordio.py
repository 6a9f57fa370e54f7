"""RecordIO as MXNet and SageMaker's own algorithms write it: parts with a magic number. This module does no I/O.

    uint32 magic | uint32 kind << 29 | length | data | zeros up to a multiple of 4     (little endian)

A record is one part, or several where its data hold the magic number at a multiple of 4: there the writer cuts, and
leaves the number out; the reader puts it back between the parts. Source: dmlc-core, include/dmlc/recordio.h (the
layout) and src/recordio.cc (`WriteRecord`, `NextRecord`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from struct import Struct
from typing import Final

from tritonforge.errors import EncodeError
from tritonforge.records.record import Buffer, Record, RecordError, not_framed, too_large
from tritonforge.records.window import Window, as_bytes_view

__all__ = ["frame_recordio", "read_recordio"]

_MAGIC: Final = 0xCED7230A
_HEADER: Final = Struct("<II")
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
    return _HEADER.pack(_MAGIC, kind << _LENGTH_BITS | length)


def read_recordio(chunks: Iterable[Buffer], *, max_record: int, offset: int, number: int) -> Iterator[Record]:
    """The records of a stream of RecordIO; what stands in the padding is not looked at, as the format's reader does.

    Raises RecordError at the first record that is cut off, out of order, or has more than ``max_record`` bytes of data.
    """
    window = Window(chunks, offset=offset)
    while window.reach(1):
        size, parts = _measure(window, number, max_record)
        framed = window.view[window.at : window.at + size]
        payload = _joined(framed) if parts > 1 else framed[_HEADER.size : _HEADER.size + _length(framed, 0)]
        start = window.offset
        window.advance(size)
        yield Record(payload, framed, start, number)
        number += 1


def _length(framed: memoryview, at: int) -> int:
    """The length of the data of the part that starts at this byte."""
    length: int = _HEADER.unpack_from(framed, at)[1] & _LENGTH_MASK
    return length


def _joined(framed: memoryview) -> memoryview:
    """The data of all parts with the magic number between them; a record may have very many parts."""
    payload = bytearray()
    at = 0
    while at < len(framed):
        length = _length(framed, at)
        if at:
            payload += _SEPARATOR
        at += _HEADER.size
        payload += framed[at : at + length]
        at += length + -length % 4
    return memoryview(payload)


def _measure(window: Window, number: int, max_record: int) -> tuple[int, int]:
    """How many bytes the next record has, all reached, and how many parts."""
    parts, size, data = 0, 0, -len(_SEPARATOR)
    while True:
        at = size
        size += _HEADER.size
        if (reached := window.reach(size)) < size:
            raise _cut_off(number, window.offset, reached, size)
        magic, field = _HEADER.unpack_from(window.view, window.at + at)
        kind, length = field >> _LENGTH_BITS, field & _LENGTH_MASK
        if magic != _MAGIC:
            hint = not_framed(window.view[window.at + at :], window.offset + at, "RecordIO")
            found = f"the magic number 0x{_MAGIC:08x}, found 0x{magic:08x}; {hint}"
            raise _wrong(number, window.offset, at, found)
        expected = (_MIDDLE, _LAST) if parts else (_WHOLE, _FIRST)
        if kind not in expected:
            found = _KINDS[kind] if kind < len(_KINDS) else f"the unknown kind {kind}"
            raise _wrong(number, window.offset, at, f"{_KINDS[expected[0]]} or {_KINDS[expected[1]]}, found {found}")
        data += len(_SEPARATOR) + length
        if data > max_record:
            raise too_large(number, window.offset, max_record, size=data if kind in (_WHOLE, _LAST) else None)
        parts += 1
        size += length + -length % 4
        if (reached := window.reach(size)) < size:
            raise _cut_off(number, window.offset, reached, size)
        if kind in (_WHOLE, _LAST):
            return size, parts


def _cut_off(number: int, offset: int, reached: int, size: int) -> RecordError:
    sentence = f"the stream ends in it; it has at least {size} bytes, and {reached} are there"
    return RecordError(f"record {number} at byte {offset}: {sentence}", offset=offset)


def _wrong(number: int, offset: int, at: int, sentence: str) -> RecordError:
    return RecordError(f"record {number} at byte {offset}: byte {offset + at} should start {sentence}", offset=offset)
