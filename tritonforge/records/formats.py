"""Formats of records: TFRecord with its checksums and the `tf.train.Example` in it, and RecordIO. No I/O.

TFRecord::

    uint64 length | uint32 masked CRC-32C of those 8 bytes | data | uint32 masked CRC-32C of the data

RecordIO, as MXNet and SageMaker's own algorithms write it::

    uint32 magic | uint32 kind << 29 | length | data | zeros up to a multiple of 4

Numbers are little endian. A RecordIO record has several parts if its data contain the magic number at a multiple of 4:
the writer cuts there and leaves the number out, the reader inserts it between the parts.

An Example has named features, each a list of bytes, floats or integers. It is read and written without TensorFlow.

Sources: TensorFlow, lib/io/record_writer.h (the layout), record_reader.cc (the errors), core/example/example.proto and
feature.proto; dmlc-core, include/dmlc/recordio.h (the layout) and src/recordio.cc (`WriteRecord`, `NextRecord`).
"""

from __future__ import annotations

import numbers
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from struct import Struct
from typing import Any, Final, TypeAlias

from google.protobuf.message import DecodeError as ProtobufDecodeError

from tritonforge.errors import DecodeError, EncodeError, MissingExtraError
from tritonforge.records.stream import (
    Buffer,
    ChunkReader,
    Record,
    RecordError,
    as_bytes_view,
    make_size_error,
    suggest_cause,
)
from tritonforge.triton.schema import OPTIONAL, REPEATED, Field, build_message_class

__all__ = [
    "Feature", "FeatureValue", "compute_crc32c", "decode_example", "encode_example", "frame_recordio", "frame_tfrecord",
    "mask_checksum", "read_recordio", "read_tfrecords",
]  # fmt: skip

#: google-crc32c accepts only ``bytes``. A view is copied in pieces of this size, which stay in the processor's cache.
_CHECKSUM_PIECE: Final = 256 * 1024

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
    """Compute the CRC-32C (Castagnoli). Raises MissingExtraError if google-crc32c is not installed."""
    extend = _extend()
    if len(data) <= _CHECKSUM_PIECE:
        return extend(0, bytes(data))
    crc = 0
    for start in range(0, len(data), _CHECKSUM_PIECE):
        crc = extend(crc, bytes(data[start : start + _CHECKSUM_PIECE]))
    return crc


def mask_checksum(crc: int) -> int:
    """Return a checksum as a TFRecord stores it: rotated right by 15 bits, plus a constant."""
    return (((crc >> 15) | (crc << 17)) + _MASK_DELTA) & 0xFFFFFFFF


_LENGTH: Final = Struct("<Q")
_CRC: Final = Struct("<I")
_TFRECORD_HEADER: Final = Struct("<QI")


def frame_tfrecord(payload: Buffer) -> bytes:
    """Frame a payload as one TFRecord. Raises MissingExtraError if google-crc32c is not installed."""
    payload = as_bytes_view(payload)
    length = _LENGTH.pack(len(payload))
    checks = _CRC.pack(mask_checksum(compute_crc32c(length))), _CRC.pack(mask_checksum(compute_crc32c(payload)))
    return b"".join((length, checks[0], payload, checks[1]))


def read_tfrecords(chunks: Iterable[Buffer], *, max_record: int, offset: int, number: int) -> Iterator[Record]:
    """Yield the records of a stream of TFRecords, after checking both checksums of each.

    Raises RecordError at the first record that is cut off, damaged, or has more than ``max_record`` bytes of data. A
    stream that ends inside a header is cut off too; TensorFlow's reader takes that for the end of the stream.
    """
    reader = ChunkReader(chunks, offset=offset)
    while reached := reader.reach(_TFRECORD_HEADER.size):
        if reached < _TFRECORD_HEADER.size:
            raise _tfrecord_cut_off(number, reader.offset, reached, _TFRECORD_HEADER.size, "header")
        at = reader.at
        length, stored = _TFRECORD_HEADER.unpack_from(reader.view, at)
        found = mask_checksum(compute_crc32c(reader.view[at : at + _LENGTH.size]))
        if found != stored:
            hint = suggest_cause(reader.view[at:], reader.offset, "TFRecords")
            raise _checksum_error(number, reader.offset, "length", stored, found, hint)
        if length > max_record:
            raise make_size_error(number, reader.offset, max_record, size=length)
        size = _TFRECORD_HEADER.size + length + _CRC.size
        if (reached := reader.reach(size)) < size:
            raise _tfrecord_cut_off(number, reader.offset, reached, size, f"{length} bytes of data")
        framed = reader.view[reader.at : reader.at + size]
        payload = framed[_TFRECORD_HEADER.size : size - _CRC.size]
        (stored,) = _CRC.unpack_from(framed, size - _CRC.size)
        found = mask_checksum(compute_crc32c(payload))
        if found != stored:
            raise _checksum_error(number, reader.offset, "data", stored, found, "they are damaged")
        start = reader.offset
        reader.advance(size)
        yield Record(payload, framed, start, number)
        number += 1


def _tfrecord_cut_off(number: int, offset: int, reached: int, size: int, what: str) -> RecordError:
    sentence = f"the stream ends in it; with its {what} it has {size} bytes, and {reached} are there"
    return RecordError(f"record {number} at byte {offset}: {sentence}", offset=offset)


def _checksum_error(number: int, offset: int, what: str, stored: int, found: int, hint: str) -> RecordError:
    sentence = f"its {what} should have the masked CRC-32C 0x{stored:08x}, found 0x{found:08x}; {hint}"
    return RecordError(f"record {number} at byte {offset}: {sentence}", offset=offset)


_MAGIC: Final = 0xCED7230A
_PART_HEADER: Final = Struct("<II")
_SEPARATOR: Final = _MAGIC.to_bytes(4, "little")
_LENGTH_BITS: Final = 29
_LENGTH_MASK: Final = (1 << _LENGTH_BITS) - 1

#: Payloads of at least this many bytes are searched with numpy.
_NUMPY_MINIMUM: Final = 1 << 13

#: The kinds of a part.
_WHOLE, _FIRST, _MIDDLE, _LAST = range(4)
_KIND_NAMES: Final = ("a whole record", "the first part of a record", "a middle part", "a last part")


def frame_recordio(payload: Buffer) -> bytes:
    """Frame a payload as one RecordIO record. Raises EncodeError for 2**29 bytes or more, the limit of the format."""
    view = as_bytes_view(payload)
    if len(view) > _LENGTH_MASK:
        raise EncodeError(f"a RecordIO record has fewer than 2**29 bytes, found {len(view)}")
    data = bytes(view)
    cuts = _find_cuts(data)
    pieces: list[bytes] = []
    start = 0
    for cut in cuts:
        pieces += (_pack_header(_MIDDLE if start else _FIRST, cut - start), data[start:cut])
        start = cut + len(_SEPARATOR)
    pieces += (_pack_header(_LAST if cuts else _WHOLE, len(data) - start), data[start:], bytes(-len(data) % 4))
    return b"".join(pieces)


def _find_cuts(data: bytes) -> list[int]:
    """Return the positions of the magic number that are multiples of 4."""
    if len(data) >= _NUMPY_MINIMUM:
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


def _pack_header(kind: int, length: int) -> bytes:
    return _PART_HEADER.pack(_MAGIC, kind << _LENGTH_BITS | length)


def read_recordio(chunks: Iterable[Buffer], *, max_record: int, offset: int, number: int) -> Iterator[Record]:
    """Yield the records of a stream of RecordIO. Padding is not checked, as in the format's own reader.

    Raises RecordError at the first record that is cut off, out of order, or has more than ``max_record`` bytes of data.
    """
    reader = ChunkReader(chunks, offset=offset)
    while reader.reach(1):
        size, parts = _measure_record(reader, number, max_record)
        framed = reader.view[reader.at : reader.at + size]
        payload = (
            _join_parts(framed)
            if parts > 1
            else framed[_PART_HEADER.size : _PART_HEADER.size + _part_length(framed, 0)]
        )
        start = reader.offset
        reader.advance(size)
        yield Record(payload, framed, start, number)
        number += 1


def _part_length(framed: memoryview, at: int) -> int:
    """Return the length of the data of the part at this position."""
    length: int = _PART_HEADER.unpack_from(framed, at)[1] & _LENGTH_MASK
    return length


def _join_parts(framed: memoryview) -> memoryview:
    """Join the data of all parts, with the magic number between them; a record may have very many parts."""
    payload = bytearray()
    at = 0
    while at < len(framed):
        length = _part_length(framed, at)
        if at:
            payload += _SEPARATOR
        at += _PART_HEADER.size
        payload += framed[at : at + length]
        at += length + -length % 4
    return memoryview(payload)


def _measure_record(reader: ChunkReader, number: int, max_record: int) -> tuple[int, int]:
    """Return the size of the next record, whose bytes are then available, and the number of its parts."""
    parts, size, data = 0, 0, -len(_SEPARATOR)
    while True:
        at = size
        size += _PART_HEADER.size
        if (reached := reader.reach(size)) < size:
            raise _recordio_cut_off(number, reader.offset, reached, size)
        magic, field = _PART_HEADER.unpack_from(reader.view, reader.at + at)
        kind, length = field >> _LENGTH_BITS, field & _LENGTH_MASK
        if magic != _MAGIC:
            hint = suggest_cause(reader.view[reader.at + at :], reader.offset + at, "RecordIO")
            found = f"the magic number 0x{_MAGIC:08x}, found 0x{magic:08x}; {hint}"
            raise _recordio_error(number, reader.offset, at, found)
        expected = (_MIDDLE, _LAST) if parts else (_WHOLE, _FIRST)
        if kind not in expected:
            found = _KIND_NAMES[kind] if kind < len(_KIND_NAMES) else f"the unknown kind {kind}"
            raise _recordio_error(
                number, reader.offset, at, f"{_KIND_NAMES[expected[0]]} or {_KIND_NAMES[expected[1]]}, found {found}"
            )
        data += len(_SEPARATOR) + length
        if data > max_record:
            raise make_size_error(number, reader.offset, max_record, size=data if kind in (_WHOLE, _LAST) else None)
        parts += 1
        size += length + -length % 4
        if (reached := reader.reach(size)) < size:
            raise _recordio_cut_off(number, reader.offset, reached, size)
        if kind in (_WHOLE, _LAST):
            return size, parts


def _recordio_cut_off(number: int, offset: int, reached: int, size: int) -> RecordError:
    sentence = f"the stream ends in it; it has at least {size} bytes, and {reached} are there"
    return RecordError(f"record {number} at byte {offset}: {sentence}", offset=offset)


def _recordio_error(number: int, offset: int, at: int, sentence: str) -> RecordError:
    return RecordError(f"record {number} at byte {offset}: byte {offset + at} should start {sentence}", offset=offset)


#: A decoded feature.
Feature: TypeAlias = "tuple[bytes, ...] | tuple[int, ...] | tuple[float, ...]"

#: A feature to encode: one value, or a sequence of values of one kind. Text is encoded as UTF-8.
FeatureValue: TypeAlias = "Buffer | str | int | float | Sequence[Buffer | str] | Sequence[int] | Sequence[float]"

_TEXT: Final = (bytes, bytearray, memoryview, str)
_KINDS: Final = ("bytes_list", "float_list", "int64_list")

_SCHEMA: Final[Mapping[str, Sequence[Field]]] = {
    "BytesList": [(1, REPEATED, "bytes", "value", None)],
    "FloatList": [(1, REPEATED, "float", "value", None)],
    "Int64List": [(1, REPEATED, "int64", "value", None)],
    "Feature": [
        (1, OPTIONAL, "BytesList", "bytes_list", None),
        (2, OPTIONAL, "FloatList", "float_list", None),
        (3, OPTIONAL, "Int64List", "int64_list", None),
    ],
    "Entry": [(1, OPTIONAL, "bytes", "key", None), (2, OPTIONAL, "Feature", "value", None)],
    "Features": [(1, REPEATED, "Entry", "feature", None)],
    "Example": [(1, OPTIONAL, "Features", "features", None)],
}


@lru_cache(maxsize=1)
def _example_class() -> Any:
    return build_message_class("tensorflow", _SCHEMA, "Example")


def encode_example(features: Mapping[str, FeatureValue]) -> bytes:
    """Serialise features as one Example, in the order of their names: equal features give equal bytes.

    Integers (and booleans) become an Int64List, other numbers a FloatList, bytes and text a BytesList; an empty
    sequence becomes a feature without a kind. Raises EncodeError.
    """
    message = _example_class()()
    name = ""
    try:
        for name in sorted(features):
            entry = message.features.feature.add(key=name.encode())
            entry.value.SetInParent()
            _fill_feature(entry.value, features[name])
    except (AttributeError, TypeError, ValueError, OverflowError) as error:  # of protobuf, and of _fill_feature
        raise EncodeError(f"feature {name!r}: {error}") from error
    encoded: bytes = message.SerializeToString(deterministic=True)
    return encoded


def _fill_feature(feature: Any, value: Any) -> None:
    if isinstance(value, (*_TEXT, numbers.Real)):
        value = (value,)
    if not isinstance(value, Iterable):
        raise TypeError(f"expected a value or a sequence of values, found {type(value).__name__}")
    kinds: set[str] = set()
    plain: list[Any] = []
    for item in value:
        if isinstance(item, _TEXT):
            kinds.add("bytes_list")
            plain.append(item.encode() if isinstance(item, str) else bytes(item))
        elif isinstance(item, numbers.Integral):
            kinds.add("int64_list")
            plain.append(int(item))
        elif isinstance(item, numbers.Real):
            kinds.add("float_list")
            plain.append(float(item))
        else:
            raise TypeError(f"expected bytes, text or numbers, found {type(item).__name__}")
    if kinds == {"int64_list", "float_list"}:
        kinds = {"float_list"}  # protobuf converts the integers among them to floats
    if len(kinds) > 1:
        raise TypeError(f"its values are of more than one kind: {', '.join(sorted(kinds))}")
    for kind in kinds:
        getattr(feature, kind).value.extend(plain)


def decode_example(data: Buffer) -> dict[str, Feature]:
    """Parse the features of a serialised Example, each as a tuple; a feature without a kind is empty.

    Of features with the same name the last one counts, as in any protobuf map. Raises DecodeError.
    """
    try:
        message = _example_class().FromString(bytes(data))
    except ProtobufDecodeError as error:
        raise DecodeError(f"expected a serialised tf.train.Example, found {len(data)} other bytes") from error
    features: dict[str, Feature] = {}
    for entry in message.features.feature:
        kinds = [kind for kind in _KINDS if entry.value.HasField(kind)]
        if len(kinds) > 1:
            raise DecodeError(f"feature {_decode_name(entry.key)!r} is of more than one kind: {', '.join(kinds)}")
        features[_decode_name(entry.key)] = tuple(getattr(entry.value, kinds[0]).value) if kinds else ()
    return features


def _decode_name(key: bytes) -> str:
    try:
        return key.decode()
    except UnicodeDecodeError as error:
        raise DecodeError(f"expected a serialised tf.train.Example, found a feature whose name is {key!r}") from error
