"""Streams of bytes in chunks: records, the reader of chunks that splits them, and gzip. No I/O.

Words as in SageMaker's CreateTransformJob: an object (here a stream of bytes) is split into records by a *split type*,
and records are joined into requests by a *batch strategy*.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Final, Literal, NamedTuple, TypeAlias

from tritonforge.errors import DecodeError

__all__ = [
    "MAX_RECORD", "BatchStrategy", "Buffer", "ChunkReader", "Record", "RecordError", "SplitType", "as_bytes_view",
    "gunzip", "make_size_error", "suggest_cause",
]  # fmt: skip

#: Any bytes-like object. Views of it are returned, so it must not change after it is passed in.
Buffer: TypeAlias = "bytes | bytearray | memoryview"

#: Source: API_TransformInput, `SplitType`, and API_CreateTransformJob, `BatchStrategy`.
SplitType: TypeAlias = Literal["None", "Line", "RecordIO", "TFRecord"]
BatchStrategy: TypeAlias = Literal["SingleRecord", "MultiRecord"]

#: Bytes of the largest payload of a request. Source: API_CreateTransformJob, `MaxPayloadInMB`: at most 100.
MAX_RECORD: Final = 100 * 2**20

#: How gzip starts. Source: RFC 1952, section 2.3.1.
_GZIP_MAGIC: Final = b"\x1f\x8b"

#: Limits of one call of zlib, in bytes: its input, its input among very small members, and its output, since a small
#: stream can expand to a large content.
_MAX_INPUT: Final = 256 * 1024
_MIN_INPUT: Final = 1024
_MAX_OUTPUT: Final = 1024 * 1024

#: zlib's `windowBits` for gzip alone, with the largest window.
_GZIP_WINDOW: Final = 16 + zlib.MAX_WBITS


class Record(NamedTuple):
    """One record of a stream; a tuple, since a stream has millions.

    Attributes:
        payload: the record without its framing (what SingleRecord sends).
        framed: the record as it is in the stream (what MultiRecord sends). Both may be views, which keep their chunk.
        offset: the position of its first byte in the stream.
        number: its number in the stream, counted from 0.
    """

    payload: Buffer
    framed: Buffer
    offset: int
    number: int = 0


class RecordError(DecodeError):
    """A stream is damaged, cut off, or has a record above the limit. Every record before it was yielded.

    ``offset`` is the first byte that is not part of a valid record, in the stream as it is split (decompressed).
    """

    def __init__(self, message: str, *, offset: int) -> None:
        super().__init__(message)
        self.offset = offset


def make_size_error(number: int, offset: int, limit: int, *, size: int | None = None) -> RecordError:
    """Build the error of a record above ``limit`` bytes; ``size`` is None if the record's end was not read."""
    excess = f"has {size} bytes, more than" if size is not None else "has more than"
    return RecordError(
        f"record {number} at byte {offset} {excess} the {limit} bytes that one payload may have; "
        "raise MaxPayloadInMB, or make the record smaller",
        offset=offset,
    )


def suggest_cause(head: Buffer, offset: int, what: str) -> str:
    """Say why a record may not start as its format requires; ``head`` is how it starts instead."""
    if not offset and bytes(head[:2]) == _GZIP_MAGIC:
        return "it starts as gzip does: set CompressionType to Gzip"
    return f"the stream is damaged here, or holds no {what}"


def as_bytes_view(chunk: Buffer) -> memoryview:
    """Return a view of a chunk whose items are bytes."""
    view = memoryview(chunk)
    return view if view.format == "B" and view.ndim == 1 else view.cast("B")


class ChunkReader:
    """Reads a stream of chunks in contiguous pieces; bytes are copied only where a piece spans two chunks.

    ``reach`` makes bytes available, ``view[at:]`` shows them, ``advance`` consumes them. ``offset`` is the position in
    the stream. At most one chunk and the bytes of one record are in memory.
    """

    __slots__ = ("_chunks", "_gathered", "_rest", "at", "offset", "view")

    def __init__(self, chunks: Iterable[Buffer], *, offset: int) -> None:
        self.view = memoryview(b"")
        self.at = 0
        self.offset = offset
        self._chunks = iter(chunks)
        self._rest = memoryview(b"")  # the part of the current chunk that comes after `view`
        self._gathered: bytearray | None = None  # the memory of `view` unless it is a chunk's own

    def reach(self, size: int) -> int:
        """Make the next ``size`` bytes available as ``view[at : at + size]``; return how many there are.

        They are fewer than ``size`` only at the end of the stream. Views taken since the last ``advance`` are invalid.
        """
        if len(self.view) - self.at < size:
            self._gather(size)
        return min(size, len(self.view) - self.at)

    def advance(self, size: int) -> None:
        """Consume bytes that were reached."""
        self.at += size
        self.offset += size

    def _gather(self, size: int) -> None:
        if self.at == len(self.view) and not self._show_next():
            return
        if len(self.view) - self.at >= size:
            return
        gathered = self._gathered  # if at its start, the same record needs more bytes: copy nothing twice
        if gathered is None or self.at:
            gathered = bytearray(self.view[self.at :])
        # Release the chunk, and the gathered bytes, which cannot grow while a view exists.
        self.view, self.at = memoryview(b""), 0
        # Copy what this record needs; the rest of its last chunk stays in place.
        while (missing := size - len(gathered)) > 0:
            if not self._rest and not self._fetch_chunk():
                break
            gathered += self._rest[:missing]
            self._rest = self._rest[missing:]
        self._gathered, self.view = gathered, memoryview(gathered)

    def _show_next(self) -> bool:
        """Show the bytes after `view`; return False at the end of the stream."""
        self.view, self.at, self._gathered = memoryview(b""), 0, None
        if not self._rest and not self._fetch_chunk():
            return False
        self.view, self._rest = self._rest, memoryview(b"")
        return True

    def _fetch_chunk(self) -> bool:
        """Fetch the next chunk that is not empty; return False at the end of the stream."""
        self._rest = memoryview(b"")
        for chunk in self._chunks:
            if len(chunk):
                self._rest = as_bytes_view(chunk)
                return True
        return False


def gunzip(chunks: Iterable[Buffer]) -> Iterator[bytes]:
    """Decompress a gzip stream of one or more members, in chunks of at most 1 MiB; zeros after a member are padding.

    Damage is found at the same byte whatever the chunks are, and all content before it is yielded.

    Raises RecordError for data that are damaged, cut off, or not gzip; its ``offset`` counts the content that was
    yielded, its message gives the position in the compressed stream.
    """
    return _GzipReader().read(chunks)


class _GzipReader:
    """The state of decompression: compressed bytes read, content yielded, members begun."""

    __slots__ = ("content", "decoder", "member_start", "members", "position")

    def __init__(self) -> None:
        self.position = 0
        self.content = 0
        self.members = 0
        self.member_start = 0
        self.decoder: zlib._Decompress | None = None  # None between members

    def read(self, chunks: Iterable[Buffer]) -> Iterator[bytes]:
        for chunk in chunks:
            view = as_bytes_view(chunk)
            start, size = 0, _MAX_INPUT
            while start < len(view):
                members = self.members
                yield from self._inflate(bytes(view[start : start + size]))
                start += size
                # zlib copies what follows the end of each member, so pass little at a time among many small members.
                size = _MIN_INPUT if self.members > members + 1 else min(size * 2, _MAX_INPUT)
        if self.decoder is not None:
            yield from self._count(self.decoder.flush())
        if self.decoder is not None or not self.members:
            where = f"in member {self.members}" if self.members else "before any gzip data"
            raise self._error(f"the gzip stream ends {where} at byte {self.position}; it was cut off")

    def _inflate(self, data: bytes) -> Iterator[bytes]:
        while data:
            if self.decoder is None:
                if self.members:
                    padded, data = len(data), data.lstrip(b"\0")
                    self.position += padded - len(data)
                    if not data:
                        return
                self.decoder = zlib.decompressobj(_GZIP_WINDOW)
                self.members += 1
                self.member_start = self.position
            # zlib discards all output of a call that fails, so the call is repeated from here, byte by byte.
            before = self.decoder.copy()
            try:
                content = self.decoder.decompress(data, _MAX_OUTPUT)
            except zlib.error as error:
                yield from self._fail(before, data, error)
            left = self.decoder.unused_data if self.decoder.eof else self.decoder.unconsumed_tail
            self.position += len(data) - len(left)
            data = left
            if self.decoder.eof:
                self.decoder = None
            yield from self._count(content)

    def _count(self, content: bytes) -> Iterator[bytes]:
        if content:
            self.content += len(content)
            yield content

    def _fail(self, decoder: zlib._Decompress, data: bytes, error: zlib.error) -> Iterator[bytes]:
        """Yield the content before the first damaged byte, then raise."""
        pieces, at = [], 0
        with suppress(zlib.error):
            for at in range(len(data)):
                pieces.append(decoder.decompress(data[at : at + 1]))
        yield from self._count(b"".join(pieces))
        at, reason = self.position + at, str(error).partition(": ")[2]
        if at >= self.member_start + 4 or reason not in ("incorrect header check", "unknown compression method"):
            sentence = f"gzip member {self.members} is damaged at byte {at} of the compressed stream ({reason})"
        elif self.members == 1:
            sentence = f"the stream is not gzip ({reason}); set CompressionType to None if it is not compressed"
        else:
            sentence = (
                f"no gzip member follows at byte {self.member_start} of the compressed stream ({reason});"
                f" {self.members - 1} were read"
            )
        raise self._error(sentence) from error

    def _error(self, sentence: str) -> RecordError:
        return RecordError(f"{sentence}; {self.content} bytes of content came before", offset=self.content)
