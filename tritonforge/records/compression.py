"""Compression: gzip as a stream, any number of members one after another. This module does no I/O.

Damage is found at the same byte whatever the chunks are, and everything that the data say before it is given out.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Final

from tritonforge.records.record import Buffer, RecordError
from tritonforge.records.window import as_bytes_view

__all__ = ["gunzip"]

#: At most so many compressed bytes go to zlib at once, and at most so many bytes come out: a small stream can say much.
_INPUT: Final = 256 * 1024
_FEW: Final = 1024
_OUTPUT: Final = 1024 * 1024

#: zlib's `windowBits` for gzip alone, with the largest window.
_GZIP: Final = 16 + zlib.MAX_WBITS


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
                self.decoder = zlib.decompressobj(_GZIP)
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
