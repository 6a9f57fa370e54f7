"""The stream of an archive that may come from anywhere: gzip members, then tar headers, in bounded memory.

RFC 1952, 2.2: a gzip file is members, one after the other; a reader that stops after the first loses the rest.
Headers come one at a time, with what pax and GNU tar put before them. Sources: IEEE Std 1003.1-2017, pax, "ustar
Interchange Format" and "pax Extended Header"; GNU tar manual, "Basic Tar Format" (types L and K).
"""

from __future__ import annotations

import tarfile
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

from tritonforge.errors import MissingExtraError, PackageError
from tritonforge.validation.tree_reader import MAXIMAL_DEPTH, MAXIMAL_ENTRIES

__all__ = ["BLOCK", "DEFAULT_LIMITS", "ArchiveLimits", "Gunzip", "Header", "Headers", "Source", "load_igzip_lib"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveLimits:
    """The limits of an archive that is read; they protect against archives that would fill the disk or the memory.

    ``size`` is in bytes of everything unpacked, ``ratio`` the unpacked bytes for each compressed one, checked only
    beyond ``ratio_from`` unpacked bytes (deflate reaches 1030 on zeros, weights stay below 20). ``members`` counts
    files, links and directories, each as often as the archive has it, and extended headers as well; ``depth`` counts
    the directories around one. ``names`` is in bytes of all paths, and of all extended headers; ``header`` in bytes of
    one extended header. ``links`` counts symbolic links, ``link_bytes`` is in bytes of their targets: the look-up of
    one path may follow forty of them.
    """

    size: int = 512 << 30
    ratio: int = 250
    ratio_from: int = 256 << 20
    members: int = MAXIMAL_ENTRIES
    depth: int = MAXIMAL_DEPTH
    names: int = 64 << 20
    header: int = 1 << 20
    links: int = 20_000
    link_bytes: int = 2 << 20


#: The limits of a reader without limits of its own; the size of the disk is another limit.
DEFAULT_LIMITS: Final = ArchiveLimits()


def load_igzip_lib() -> Any:
    """Import ``isal.igzip_lib``; raises MissingExtraError if it is not installed."""
    try:
        from isal import igzip_lib
    except ImportError as error:
        raise MissingExtraError("isal", extra="aws") from error
    return igzip_lib


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
        """Return up to ``size`` bytes; none at the end."""


class Gunzip:
    """The decompressed stream of a gzip file; ``name`` is the file's name in errors.

    Raises:
        PackageError: the file is not in gzip format, is damaged or cut off, or exceeds the limits.
    """

    def __init__(self, source: Source, *, name: str, limits: ArchiveLimits) -> None:
        self._igzip = load_igzip_lib()
        self._source, self._name, self._limits = source, name, limits
        self._taken = self._given = self._members = 0
        self._compressed, self._at, self._step = self._read_chunk(), 0, _FIRST
        if not self._compressed.startswith(_MAGIC):
            raise PackageError(f"{name}: not a gzip file; SageMaker requires a tar archive in gzip: model.tar.gz")
        self._member: Any = self._begin_member()
        self._piece = memoryview(b"")

    def read(self, size: int) -> memoryview:
        """Return up to ``size`` bytes; none at the end."""
        if not self._piece:
            self._piece = memoryview(self._decompress())
        piece, self._piece = self._piece[:size], self._piece[size:]
        return piece

    def read_exactly(self, size: int) -> bytes:
        """Return the next ``size`` bytes; fewer only at the end."""
        parts = []
        while size and (part := self.read(size)):
            parts.append(bytes(part))
            size -= len(part)
        return b"".join(parts)

    def _decompress(self) -> bytes:
        """Return the next bytes of this or the following members; none at the end of the last."""
        while self._member is not None:
            if self._member.eof:
                self._member = self._open_next_member()
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
        """Return the next compressed bytes, a few at first; none at the end of the file."""
        if self._at >= len(self._compressed):
            self._compressed, self._at = self._read_chunk(), 0
        given = self._compressed[self._at : self._at + self._step]
        self._at += len(given)
        self._step = min(2 * self._step, _CHUNK)
        return given

    def _open_next_member(self) -> Any:
        """Return the decompressor of the next member; None at the end, or if only zeros follow."""
        self._at -= len(self._member.unused_data)
        if len(self._compressed) - self._at < len(_MAGIC):
            self._compressed, self._at = self._compressed[self._at :] + self._read_chunk(), 0
        if self._compressed.startswith(_MAGIC, self._at):
            self._step = _FIRST
            return self._begin_member()
        rest = self._compressed[self._at :]
        while rest:
            if rest.strip(b"\0"):
                raise PackageError(f"{self._name}: data that is not gzip follows the archive")
            rest = self._read_chunk()
        return None

    def _begin_member(self) -> Any:
        self._members += 1
        if self._members > _FREE_MEMBERS + self._given // _MEMBER_BYTES:
            raise PackageError(f"{self._name}: it has more gzip members than a compressor writes; pack the files again")
        return self._igzip.IgzipDecompressor(self._igzip.DECOMP_GZIP)

    def _read_chunk(self) -> bytes:
        chunk = self._source.read(_CHUNK)
        self._taken += len(chunk)
        return chunk

    def _count(self, size: int) -> None:
        self._given += size
        if self._given > self._limits.size:
            raise PackageError(f"{self._name}: it unpacks to more than {self._limits.size} bytes, the limit")
        if self._given > self._limits.ratio_from and self._given > self._taken * self._limits.ratio:
            raise PackageError(
                f"{self._name}: it unpacks to more than {self._limits.ratio} times its own size, the limit"
            )


BLOCK: Final = tarfile.BLOCKSIZE

_USTAR: Final = b"ustar\0"
_TRAILING: Final = "something follows the end of the archive, as when two archives are joined; pack the files again"
#: The records of an extended header that change what a member is; all others are times, owners and comments.
_RECORDS: Final = (b"path", b"linkpath", b"size")
#: The digits of a record's length that are read; more would be a record larger than any header may be.
_LENGTH_DIGITS: Final = 20
#: Records that are read for each member that an archive may have: times, owners and attributes are about ten.
_RECORDS_PER_MEMBER: Final = 5


@dataclass(frozen=True, slots=True)
class Header:
    """The header of a member; checked is only that names are text and that numbers are not negative."""

    name: str
    type: bytes
    size: int
    link: str
    mode: int


class Headers:
    """The headers of a stream; ``archive`` is its name in errors."""

    def __init__(self, stream: Gunzip, *, archive: str, limits: ArchiveLimits) -> None:
        self._stream, self._archive, self._limits = stream, archive, limits
        self._extended_headers = self._extended_bytes = self._record_count = 0

    def read_next(self) -> Header | None:
        """Return the header of the next member, whose content follows in the stream; None at the end of the archive.

        Raises:
            PackageError: the archive is damaged, cut off, or of a form that readers interpret differently.
        """
        records: dict[bytes, bytes] = {}
        while (block := self._stream.read_exactly(BLOCK)) and block.strip(b"\0"):
            info = self._parse(block)
            if info.type in (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE):
                records |= self._parse_records(self._read_extension(info))
            elif info.type == tarfile.XGLTYPE:
                if self._parse_records(self._read_extension(info)):
                    raise self._build_error("a global header names or sizes members; pack the files again")
            elif info.type == tarfile.GNUTYPE_LONGNAME:
                records[b"path"] = self._read_extension(info).partition(b"\0")[0]
            elif info.type == tarfile.GNUTYPE_LONGLINK:
                records[b"linkpath"] = self._read_extension(info).partition(b"\0")[0]
            else:
                return self._apply_records(info, records)
        if records:
            raise self._build_error("an extended header has no member")
        self._check_end()
        return None

    def _parse(self, block: bytes) -> Header:
        """Parse the header of a block as `tarfile` does, in a third of its time."""
        if len(block) < BLOCK:
            raise self._build_error("it ends within a header")
        try:
            checksum = _parse_number(block[148:156])
            header = Header(
                _decode_text(block[0:100]),
                block[156:157],
                _parse_number(block[124:136]),
                _decode_text(block[157:257]),
                _parse_number(block[100:108]),
            )
        except ValueError as error:
            raise self._build_error("a header is invalid (a number is malformed)") from error
        total = sum(block) - sum(block[148:156]) + 8 * ord(" ")
        if checksum != total and checksum != total - 256 * _count_negative(block[:148] + block[156:]):
            raise self._build_error("a header is invalid (its checksum differs)")
        if header.size < 0:
            raise self._build_error("a member has a negative size")
        if header.type == tarfile.AREGTYPE and header.name.endswith("/"):  # how v7 writes a directory
            header = replace(header, type=tarfile.DIRTYPE)
        if header.type == tarfile.DIRTYPE:
            header = replace(header, name=header.name.rstrip("/"))
        # GNU tar's own format has times where ustar and pax have the beginning of a long name.
        prefix = "" if block[257:265] == tarfile.GNU_MAGIC else _decode_text(block[345:500])
        if prefix and not block.startswith(_USTAR, 257):
            raise self._build_error(
                "a member has a name in two parts, but is not in ustar format; pack the files again"
            )
        return replace(header, name=f"{prefix}/{header.name}") if prefix else header

    def _read_extension(self, info: Header) -> bytes:
        """Read the content of a header that extends the next one."""
        limits = self._limits
        if info.size > limits.header:
            raise self._build_error(f"an extended header has {info.size} bytes; {limits.header} are allowed")
        self._extended_headers += 1
        self._extended_bytes += info.size
        if self._extended_headers > limits.members:
            raise self._build_error(f"it has more than {limits.members} extended headers, the limit")
        if self._extended_bytes > limits.names:
            raise self._build_error(f"its extended headers have more than {limits.names} bytes, the limit")
        data = self._stream.read_exactly(info.size + -info.size % BLOCK)
        if len(data) < info.size:
            raise self._build_error("it ends within an extended header")
        return data[: info.size]

    def _parse_records(self, data: bytes) -> dict[bytes, bytes]:
        """Return the records of a pax header (lines ``<length> <key>=<value>``) that change what a member is."""
        records: dict[bytes, bytes] = {}
        at = 0  # an offset: to cut off each record would copy the rest each time
        while at < len(data):
            self._record_count += 1
            if self._record_count > _RECORDS_PER_MEMBER * self._limits.members:
                raise self._build_error(
                    "its extended headers have more records than the members of an archive can need"
                )
            blank = data.find(b" ", at, at + _LENGTH_DIGITS + 1)
            digits = data[at:blank] if blank > at else b""
            end = at + int(digits) if digits.isdigit() else 0
            sign = data.find(b"=", blank, end)
            if sign < 0 or end > len(data) or data[end - 1 : end] != b"\n":
                raise self._build_error("an extended header is wrong")
            key = data[blank + 1 : sign]
            if key.startswith(b"GNU.sparse."):
                raise self._build_error("a member is a sparse file of GNU tar; pack it without --sparse")
            if key in _RECORDS:
                records[key] = data[sign + 1 : end - 1]
            at = end
        return records

    def _apply_records(self, info: Header, records: dict[bytes, bytes]) -> Header:
        header = info
        if not all(
            records.get(key, b"x") for key in (b"path", b"linkpath")
        ):  # some delete the name, some make it empty
            raise self._build_error("an extended header gives a member an empty name; pack the files again")
        if b"path" in records:
            header = replace(header, name=_decode_text(records[b"path"]))
        if b"linkpath" in records:
            header = replace(header, link=_decode_text(records[b"linkpath"]))
        if b"size" in records:
            if not records[b"size"].isdigit() or len(records[b"size"]) > 20:
                raise self._build_error("an extended header is wrong")
            header = replace(header, size=int(records[b"size"]))
        return header

    def _check_end(self) -> None:
        """Read the stream to its end, so that its checksums are verified; only zeros may follow."""
        while rest := self._stream.read(1 << 20):
            if bytes(rest).strip(b"\0"):
                raise self._build_error(_TRAILING)

    def _build_error(self, sentence: str) -> PackageError:
        return PackageError(f"{self._archive}: {sentence}")


def _decode_text(field: bytes) -> str:
    """Return the text of a field, which a zero byte ends if it is shorter."""
    return field.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def _count_negative(data: bytes) -> int:
    """Return the number of bytes that are negative as signed ones, which old tars added up."""
    return sum(byte > 127 for byte in data)


def _parse_number(field: bytes) -> int:
    """Parse a number: octal digits, or binary after a byte 0x80 or 0xff, as GNU tar writes large ones."""
    if field[0] in (0x80, 0xFF):
        return int.from_bytes(field[1:], "big") - (256 ** (len(field) - 1) if field[0] == 0xFF else 0)
    digits = field.partition(b"\0")[0].strip()
    if digits.strip(b"01234567"):  # `int` takes signs and underscores, too
        raise ValueError(digits)
    return int(digits or b"0", 8)
