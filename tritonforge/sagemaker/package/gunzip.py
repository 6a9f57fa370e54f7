"""The content of a gzip file of any number of members, as a stream in bounded memory. It trusts nothing.

RFC 1952, 2.2: a gzip file is members, one after the other; a reader that stops after the first loses the rest.
"""

from __future__ import annotations

from typing import Any, Final, Protocol

from tritonforge.errors import PackageError
from tritonforge.sagemaker.package.igzip import igzip_decompressors
from tritonforge.sagemaker.package.limits import Limits

__all__ = ["Gunzip", "Source"]

_MAGIC: Final = b"\x1f\x8b"
_CHUNK: Final = 1 << 17
_PIECE: Final = 1 << 20
#: What a gzip member is fed first; then twice as much each time. What it leaves of that is copied, so a file of many
#: tiny members would be copied whole for each of them.
_FIRST: Final = 1 << 10
#: gzip members may be this many, and then as many as have this many bytes of content each, on average: `bgzip` writes
#: one for each 64 KiB, other parallel compressors larger ones.
_FREE_MEMBERS: Final = 100_000
_MEMBER_BYTES: Final = 4096


class Source(Protocol):
    """A stream of bytes: a file, standard input, the body of an S3 object."""

    def read(self, size: int, /) -> bytes:
        """At most ``size`` bytes that follow; fewer do not mean the end, none do."""


class Gunzip:
    """A readable stream of what a gzip file holds; ``name`` stands for the file in errors.

    Raises:
        PackageError: the file is no gzip file, is damaged or cut off, or holds more than the limits allow.
    """

    def __init__(self, source: Source, *, name: str, limits: Limits) -> None:
        self._igzip = igzip_decompressors()
        self._source, self._name, self._limits = source, name, limits
        self._taken = self._given = self._members = 0
        self._compressed, self._at, self._step = self._chunk(), 0, _FIRST
        if not self._compressed.startswith(_MAGIC):
            raise PackageError(f"{name}: it is no gzip file; SageMaker takes a tar archive in gzip: model.tar.gz")
        self._member: Any = self._new_member()
        self._piece = memoryview(b"")

    def read(self, size: int) -> memoryview:
        """At most ``size`` bytes that follow; fewer do not mean the end, none do."""
        if not self._piece:
            self._piece = memoryview(self._next())
        found, self._piece = self._piece[:size], self._piece[size:]
        return found

    def exactly(self, size: int) -> bytes:
        """The bytes that follow; fewer than ``size`` only at the end."""
        parts = []
        while size and (part := self.read(size)):
            parts.append(bytes(part))
            size -= len(part)
        return b"".join(parts)

    def _next(self) -> bytes:
        """The next bytes of this or the following members; none at the end of the last."""
        while self._member is not None:
            if self._member.eof:
                self._member = self._following()
                continue
            given = b""
            if self._member.needs_input:
                given = self._feed()
                if not given:
                    raise PackageError(f"{self._name}: it ends in the middle; the upload or the copy was cut off")
            try:
                piece: bytes = self._member.decompress(given, _PIECE)
            except self._igzip.error as error:
                raise PackageError(f"{self._name}: it is damaged: {error}") from error
            if piece:
                self._count(len(piece))
                return piece
        return b""

    def _feed(self) -> bytes:
        """The compressed bytes that follow, a few at first; none at the end of the file."""
        if self._at >= len(self._compressed):
            self._compressed, self._at = self._chunk(), 0
        given = self._compressed[self._at : self._at + self._step]
        self._at += len(given)
        self._step = min(2 * self._step, _CHUNK)
        return given

    def _following(self) -> Any:
        """The decompressor of the member behind this one; None at the end, or where only zeros follow."""
        self._at -= len(self._member.unused_data)
        if len(self._compressed) - self._at < len(_MAGIC):
            self._compressed, self._at = self._compressed[self._at :] + self._chunk(), 0
        if self._compressed.startswith(_MAGIC, self._at):
            self._step = _FIRST
            return self._new_member()
        rest = self._compressed[self._at :]
        while rest:
            if rest.strip(b"\0"):
                raise PackageError(f"{self._name}: something that is no gzip data follows the archive")
            rest = self._chunk()
        return None

    def _new_member(self) -> Any:
        self._members += 1
        if self._members > _FREE_MEMBERS + self._given // _MEMBER_BYTES:
            raise PackageError(f"{self._name}: it has more gzip members than a compressor writes; pack the files anew")
        return self._igzip.IgzipDecompressor(self._igzip.DECOMP_GZIP)

    def _chunk(self) -> bytes:
        chunk = self._source.read(_CHUNK)
        self._taken += len(chunk)
        return chunk

    def _count(self, size: int) -> None:
        self._given += size
        if self._given > self._limits.size:
            raise PackageError(f"{self._name}: it unpacks to more than {self._limits.size} bytes, the limit")
        if self._given > self._limits.ratio_from and self._given > self._taken * self._limits.ratio:
            raise PackageError(
                f"{self._name}: it unpacks to more than {self._limits.ratio} times its own size, as no model does"
            )
