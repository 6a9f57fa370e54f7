"""A record: one unit of input, the bytes that frame it, and where it stood; and the one error of damaged input. No I/O.

Words as in SageMaker's CreateTransformJob: an object (a stream of bytes here) is split into records by a *split type*,
and records go into requests by a *batch strategy*.

A window on a stream of chunks: the next bytes in one piece, copied only where they lie in two chunks. No I/O here.

At most one chunk and the bytes of one record are held; a size that the stream cannot fill asks for no memory.

Compression: gzip as a stream, any number of members one after another. This module does no I/O.

Damage is found at the same byte whatever the chunks are, and everything that the data say before it is given out.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Final, Literal, NamedTuple, TypeAlias

from tritonforge.errors import DecodeError

__all__ = [
    "MAX_RECORD",
    "BatchStrategy",
    "Buffer",
    "ChunkReader",
    "Record",
    "RecordError",
    "SplitType",
    "as_bytes_view",
    "gunzip",
    "make_size_error",
    "suggest_cause",
]

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


def make_size_error(number: int, offset: int, limit: int, *, size: int | None = None) -> RecordError:
    """The error of a record above ``limit`` bytes; ``size`` is None where its end was not seen."""
    found = f"has {size} bytes, more than" if size is not None else "has more than"
    return RecordError(
        f"record {number} at byte {offset} {found} the {limit} bytes that one payload may have; "
        "raise MaxPayloadInMB, or make the record smaller",
        offset=offset,
    )


def suggest_cause(head: Buffer, offset: int, what: str) -> str:
    """What to do where a record does not start as its format says; ``head`` is how it starts instead."""
    if not offset and bytes(head[:2]) == _GZIP:
        return "it starts as gzip does: set CompressionType to Gzip"
    return f"the stream is damaged here, or holds no {what}"


def as_bytes_view(chunk: Buffer) -> memoryview:
    """The chunk as a view whose items are bytes."""
    view = memoryview(chunk)
    return view if view.format == "B" and view.ndim == 1 else view.cast("B")


class ChunkReader:
    """The bytes of a stream from a position on.

    ``reach`` brings bytes into the window, ``view[at:]`` shows them, ``advance`` moves on. ``offset`` is the position
    in the stream.
    """

    __slots__ = ("_chunks", "_gathered", "_rest", "at", "offset", "view")

    def __init__(self, chunks: Iterable[Buffer], *, offset: int) -> None:
        self.view = memoryview(b"")
        self.at = 0
        self.offset = offset
        self._chunks = iter(chunks)
        self._rest = memoryview(b"")  # of the chunk at hand, what comes after `view`
        self._gathered: bytearray | None = None  # the memory of `view` where it is not a chunk's own

    def reach(self, size: int) -> int:
        """Make the next ``size`` bytes one piece, ``view[at : at + size]``; fewer than that only where the stream ends.

        Views that were taken before since the last ``advance`` are invalid.
        """
        if len(self.view) - self.at < size:
            self._gather(size)
        return min(size, len(self.view) - self.at)

    def advance(self, size: int) -> None:
        """Move on by bytes that were reached."""
        self.at += size
        self.offset += size

    def _gather(self, size: int) -> None:
        if self.at == len(self.view) and not self._next():
            return
        if len(self.view) - self.at >= size:
            return
        gathered = self._gathered  # at its start: more of the same record is asked for, and nothing is copied twice
        if gathered is None or self.at:
            gathered = bytearray(self.view[self.at :])
        # Lets go of the chunk, and of what is gathered already, which cannot grow while a view shows it.
        self.view, self.at = memoryview(b""), 0
        # Only what this record needs is copied; the rest of its last chunk stays where it is.
        while (missing := size - len(gathered)) > 0:
            if not self._rest and not self._pull():
                break
            gathered += self._rest[:missing]
            self._rest = self._rest[missing:]
        self._gathered, self.view = gathered, memoryview(gathered)

    def _next(self) -> bool:
        """Show the next bytes that are in memory, or the next chunk; False at the end of the stream."""
        self.view, self.at, self._gathered = memoryview(b""), 0, None
        if not self._rest and not self._pull():
            return False
        self.view, self._rest = self._rest, memoryview(b"")
        return True

    def _pull(self) -> bool:
        """Fetch the next chunk that is not empty; False at the end of the stream."""
        self._rest = memoryview(b"")
        for chunk in self._chunks:
            if len(chunk):
                self._rest = as_bytes_view(chunk)
                return True
        return False


#: At most so many compressed bytes go to zlib at once, and at most so many bytes come out: a small stream can say much.
_INPUT: Final = 256 * 1024
_FEW: Final = 1024
_OUTPUT: Final = 1024 * 1024

#: zlib's `windowBits` for gzip alone, with the largest window.
_GZIP_WINDOW: Final = 16 + zlib.MAX_WBITS


def gunzip(chunks: Iterable[Buffer]) -> Iterator[bytes]:
    """The content of a gzip stream, in chunks of at most 1 MiB; zeros after a member are padding, as gzip has it.

    Raises RecordError where the data are damaged, cut off, or not gzip; its ``offset`` counts the content that was
    given out before, its sentence says where that is in the compressed stream.
    """
    return _Stream().read(chunks)


class _Stream:
    """Where in a gzip stream we are: bytes of it that were read, content that was given out, members that began."""

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
            start, size = 0, _INPUT
            while start < len(view):
                members = self.members
                yield from self._inflate(bytes(view[start : start + size]))
                start += size
                # zlib copies what follows the end of each member: of many small members little is given at once.
                size = _FEW if self.members > members + 1 else min(size * 2, _INPUT)
        if self.decoder is not None:
            yield from self._given(self.decoder.flush())
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
            # zlib keeps nothing of what a failing call has read, so that it is repeated from here, byte by byte.
            before = self.decoder.copy()
            try:
                content = self.decoder.decompress(data, _OUTPUT)
            except zlib.error as error:
                yield from self._up_to_the_damage(before, data, error)
            left = self.decoder.unused_data if self.decoder.eof else self.decoder.unconsumed_tail
            self.position += len(data) - len(left)
            data = left
            if self.decoder.eof:
                self.decoder = None
            yield from self._given(content)

    def _given(self, content: bytes) -> Iterator[bytes]:
        if content:
            self.content += len(content)
            yield content

    def _up_to_the_damage(self, decoder: zlib._Decompress, data: bytes, error: zlib.error) -> Iterator[bytes]:
        """Give out what the data say before the byte at which they are wrong, then raise."""
        pieces, at = [], 0
        with suppress(zlib.error):
            for at in range(len(data)):
                pieces.append(decoder.decompress(data[at : at + 1]))
        yield from self._given(b"".join(pieces))
        raise self._damaged(self.position + at, str(error).partition(": ")[2]) from error

    def _damaged(self, at: int, reason: str) -> RecordError:
        if at < self.member_start + 4 and reason in ("incorrect header check", "unknown compression method"):
            if self.members == 1:
                return self._error(f"the stream is no gzip ({reason}); set CompressionType to None if it is as it was")
            return self._error(
                f"no gzip member follows at byte {self.member_start} of the compressed stream ({reason});"
                f" {self.members - 1} were read"
            )
        return self._error(f"gzip member {self.members} is damaged at byte {at} of the compressed stream ({reason})")

    def _error(self, sentence: str) -> RecordError:
        return RecordError(f"{sentence}; {self.content} bytes of content came before", offset=self.content)
