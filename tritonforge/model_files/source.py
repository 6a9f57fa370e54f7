"""Bounded reading of a model file: the readers of this package see a file through a `Source`, never as a whole.

A reader of headers jumps over weights. A `Source` reads small blocks where it jumps and larger ones where it does not,
and counts: a file whose header needs more than the budget is refused (`HeaderTooLargeError`), so that a hostile file
costs a bounded time and memory.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from tritonforge.errors import ArtifactError

__all__ = ["BUDGET", "FIELDS", "HeaderTooLargeError", "ModelFileError", "Source", "UnknownHeaderError",
           "name_format"]  # fmt: skip

#: Bytes that may be read of one file.
BUDGET: Final = 8 * 1024 * 1024
#: Fields of messages that may be read of one file, in a fifth of a second: 100,000 nodes of ONNX, 30,000 of TensorFlow.
FIELDS: Final = 100_000
_SMALLEST: Final = 512
_LARGEST: Final = 256 * 1024


class ModelFileError(ArtifactError):
    """A model file is damaged, or not of the format that its name promises."""


class UnknownHeaderError(ModelFileError):
    """The header of a model file is not one that the reader understands; a framework may read it all the same."""


class HeaderTooLargeError(UnknownHeaderError):
    """The header of a model file needs more bytes or fields than may be read; nothing is wrong with the file."""


@contextmanager
def name_format(text: str) -> Iterator[None]:
    """Begin each ModelFileError of the block with ``this is not <text>``, except an UnknownHeaderError."""
    try:
        yield
    except UnknownHeaderError:
        raise
    except ModelFileError as error:
        raise ModelFileError(f"this is not {text}: {error}") from error


class Source:
    """The bytes of a file at any position.

    Args:
        read: returns up to ``size`` bytes at an offset: a pread of a file, a slice of bytes. Raises OSError.
        size: the size of the file in bytes.
        budget: bytes that may be read in total.
        fields: fields of messages that may be read in total.
    """

    __slots__ = ("_block", "_buffer", "_read", "_start", "bytes_left", "fields_left", "size")

    def __init__(
        self, read: Callable[[int, int], bytes], size: int, *, budget: int = BUDGET, fields: int = FIELDS
    ) -> None:
        self.size = size
        self._read = read
        self.bytes_left = budget
        self._buffer = b""
        self._start = 0
        self._block = _SMALLEST
        self.fields_left = fields

    @classmethod
    def from_bytes(cls, data: bytes, *, budget: int = BUDGET) -> Source:
        """Return a source of bytes in memory."""
        return cls(lambda offset, size: data[offset : offset + size], len(data), budget=budget)

    def read_at(self, offset: int, size: int) -> bytes:
        """Return exactly ``size`` bytes at an offset.

        Raises:
            ModelFileError: the file ends before.
            HeaderTooLargeError: the budget is used up.
            OSError: the file cannot be read.
        """
        if offset < 0 or size < 0 or offset + size > self.size:
            raise ModelFileError(f"the file ends within its header: {size} bytes at {offset}, but it has {self.size}")
        start = offset - self._start
        if start >= 0 and start + size <= len(self._buffer):
            return self._buffer[start : start + size]
        self._fill(offset, size)
        return self._buffer[:size]

    def unpack(self, layout: str, offset: int) -> tuple[Any, ...]:
        """Return the values of a `struct` layout at an offset. Raises as `read_at` does."""
        return struct.unpack(layout, self.read_at(offset, struct.calcsize(layout)))

    def window(self, offset: int) -> tuple[bytes, int]:
        """Return the buffered bytes that include an offset and where they start. Raises as `read_at` does."""
        if offset >= self.size:
            raise ModelFileError(f"the file ends within its header, after {self.size} bytes")
        if not self._start <= offset < self._start + len(self._buffer):
            self._fill(offset, min(16, self.size - offset))
        return self._buffer, self._start

    def _fill(self, offset: int, size: int) -> None:
        near = self._start <= offset <= self._start + len(self._buffer)
        self._block = min(self._block * 2, _LARGEST) if near else _SMALLEST
        wanted = max(size, min(self._block, self.size - offset))
        if wanted > self.bytes_left:
            wanted = size
        if wanted > self.bytes_left:
            raise HeaderTooLargeError("its header has more bytes than are read of one file")
        self.bytes_left -= wanted
        self._buffer, self._start = self._read(offset, wanted), offset
        if len(self._buffer) < size:
            raise ModelFileError(f"the file ends within its header, after {offset + len(self._buffer)} bytes")
