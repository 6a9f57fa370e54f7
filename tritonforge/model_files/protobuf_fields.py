"""Fields of a serialised protobuf message, one after another, without its schema and without its large values.

Source: protobuf.dev/programming-guides/encoding. Groups (wire types 3 and 4) occur in no format that is read here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from tritonforge.model_files.source import HeaderTooLargeError, ModelFileError, Source

__all__ = ["Field", "read_fields", "read_message", "read_packed", "to_signed"]

_VARINT: Final = 0
_FIXED64: Final = 1
_LENGTH: Final = 2
_FIXED32: Final = 5


class Field(NamedTuple):
    """One field: its number, its value if it is a varint, and where its bytes are if it has a length."""

    number: int
    value: int
    start: int
    end: int
    has_length: bool

    @property
    def span(self) -> tuple[int, int]:
        """Where the message in the field begins and ends. Raises ModelFileError for a field without a length."""
        if not self.has_length:
            raise ModelFileError(f"field {self.number} is a number, but it must be a message")
        return self.start, self.end

    def bytes(self, source: Source) -> bytes:
        """Return the bytes of a field with a length. Raises ModelFileError for a field without one."""
        if not self.has_length:
            raise ModelFileError(f"field {self.number} is a number, but it must be a string or a message")
        return source.read_at(self.start, self.end - self.start)

    def text(self, source: Source) -> str:
        """Return the text of a string field; what is not UTF-8 is replaced. Raises ModelFileError."""
        return self.bytes(source).decode("utf-8", "replace")


def read_message(source: Source, field: Field) -> Iterator[Field]:
    """Yield the fields of the message in a field. Raises ModelFileError, also for a field without a length."""
    return read_fields(source, *field.span)


def read_fields(source: Source, start: int = 0, end: int | None = None) -> Iterator[Field]:
    """Yield the fields of the message between two offsets; the bytes of fields with a length are not read.

    Raises:
        ModelFileError: the bytes are not a protobuf message.
    """
    position, end = start, source.size if end is None else end
    while position < end:
        source.fields_left -= 1
        if source.fields_left < 0:
            raise HeaderTooLargeError("its header has more fields than are read of one file")
        tag, position = _read_varint(source, position)
        number, wire_type = tag >> 3, tag & 7
        if number == 0:
            raise ModelFileError(f"a field at {position} has the number 0")
        if wire_type == _LENGTH:
            length, position = _read_varint(source, position)
            if position + length > end:
                raise ModelFileError(f"field {number} has {length} bytes at {position}, but its message ends at {end}")
            yield Field(number, 0, position, position + length, has_length=True)
            position += length
        elif wire_type == _VARINT:
            value, position = _read_varint(source, position)
            yield Field(number, value, position, position, has_length=False)
        elif wire_type in (_FIXED32, _FIXED64):
            size = 4 if wire_type == _FIXED32 else 8
            value = int.from_bytes(source.read_at(position, size), "little")
            position += size
            yield Field(number, value, position, position, has_length=False)
        else:
            raise ModelFileError(f"a field at {position} has the wire type {wire_type}, which is not used")
    if position > end:
        raise ModelFileError(f"a field ends at {position}, but its message at {end}")


def read_packed(source: Source, field: Field) -> Iterator[int]:
    """Yield the numbers of a repeated number field: one, or several in a field with a length."""
    if not field.has_length:
        yield field.value
        return
    position = field.start
    while position < field.end:
        value, position = _read_varint(source, position)
        yield value


def to_signed(value: int) -> int:
    """Return the int64 of a varint's 64 bits.

    >>> to_signed(7), to_signed(2**64 - 1)
    (7, -1)
    """
    return value - (1 << 64) if value >= 1 << 63 else value


def _read_varint(source: Source, position: int) -> tuple[int, int]:
    """Return a varint and the offset after it."""
    buffer, base = source.window(position)
    byte = buffer[position - base]
    if byte < 0x80:
        return byte, position + 1
    value, shift = byte & 0x7F, 7
    while shift < 70:
        position += 1
        buffer, base = source.window(position)
        byte = buffer[position - base]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, position + 1
        shift += 7
    raise ModelFileError(f"a number at {position} has more than ten bytes")
