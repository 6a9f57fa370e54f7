"""The headers of a tar archive, one member at a time, with what pax and GNU tar put before them. It trusts nothing.

Sources: IEEE Std 1003.1-2017, pax, "ustar Interchange Format" and "pax Extended Header"; GNU tar manual, "Basic Tar
Format" (types L and K).
"""

from __future__ import annotations

import tarfile
from dataclasses import dataclass, replace
from typing import Final

from tritonforge.errors import PackageError
from tritonforge.sagemaker.package.gunzip import Gunzip
from tritonforge.sagemaker.package.limits import Limits

__all__ = ["BLOCK", "Header", "Headers"]

BLOCK: Final = tarfile.BLOCKSIZE

_USTAR: Final = b"ustar\0"
_TRAILING: Final = "something follows the end of the archive, as when two archives are joined; pack the files anew"
#: The records of an extended header that change what a member is; all others are times, owners and comments.
_RECORDS: Final = (b"path", b"linkpath", b"size")
#: The digits of a record's length that are read; more would be a record larger than any header may be.
_LENGTH_DIGITS: Final = 20
#: Records that are read for each member that an archive may have: times, owners and attributes are about ten.
_RECORDS_PER_MEMBER: Final = 5


@dataclass(frozen=True, slots=True)
class Header:
    """What an archive says of a member: nothing of it is checked but that it is text and that no number is negative."""

    name: str
    type: bytes
    size: int
    link: str
    mode: int


class Headers:
    """The headers of a stream; ``archive`` stands for it in errors."""

    def __init__(self, stream: Gunzip, *, archive: str, limits: Limits) -> None:
        self._stream, self._archive, self._limits = stream, archive, limits
        self._extended_headers = self._extended_bytes = self._record_count = 0

    def following(self) -> Header | None:
        """The header of the next member, whose content follows in the stream; None at the end of the archive.

        Raises:
            PackageError: the archive is damaged, cut off, or of a form that readers do not agree on.
        """
        records: dict[bytes, bytes] = {}
        while (block := self._stream.exactly(BLOCK)) and block.strip(b"\0"):
            info = self._parsed(block)
            if info.type in (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE):
                records |= self._records(self._extended(info))
            elif info.type == tarfile.XGLTYPE:
                if self._records(self._extended(info)):
                    raise self._damaged("a global header names or sizes members; pack the files anew")
            elif info.type == tarfile.GNUTYPE_LONGNAME:
                records[b"path"] = self._extended(info).partition(b"\0")[0]
            elif info.type == tarfile.GNUTYPE_LONGLINK:
                records[b"linkpath"] = self._extended(info).partition(b"\0")[0]
            else:
                return self._header(info, records)
        if records:
            raise self._damaged("an extended header has no member")
        self._check_end()
        return None

    def _parsed(self, block: bytes) -> Header:
        """The header of a block, read as `tarfile` reads it, in a third of its time."""
        if len(block) < BLOCK:
            raise self._damaged("it ends within a header")
        try:
            checksum = _number(block[148:156])
            header = Header(
                _text(block[0:100]),
                block[156:157],
                _number(block[124:136]),
                _text(block[157:257]),
                _number(block[100:108]),
            )
        except ValueError as error:
            raise self._damaged("what should be a header is none (it has a number that is none)") from error
        total = sum(block) - sum(block[148:156]) + 8 * ord(" ")
        if checksum != total and checksum != total - 256 * _negative(block[:148] + block[156:]):
            raise self._damaged("what should be a header is none (its checksum is another)")
        if header.size < 0:
            raise self._damaged("a member has a negative size")
        if header.type == tarfile.AREGTYPE and header.name.endswith("/"):  # how v7 writes a directory
            header = replace(header, type=tarfile.DIRTYPE)
        if header.type == tarfile.DIRTYPE:
            header = replace(header, name=header.name.rstrip("/"))
        # GNU tar's own format has times where ustar and pax have the beginning of a long name.
        prefix = "" if block[257:265] == tarfile.GNU_MAGIC else _text(block[345:500])
        if prefix and not block.startswith(_USTAR, 257):
            raise self._damaged("a member has a name in two parts, but is not in ustar format; pack the files anew")
        return replace(header, name=f"{prefix}/{header.name}") if prefix else header

    def _extended(self, info: Header) -> bytes:
        """The content of a header that extends the next one."""
        limits = self._limits
        if info.size > limits.header:
            raise self._damaged(f"an extended header has {info.size} bytes; {limits.header} are allowed")
        self._extended_headers += 1
        self._extended_bytes += info.size
        if self._extended_headers > limits.members:
            raise self._damaged(f"it has more than {limits.members} extended headers, the limit")
        if self._extended_bytes > limits.names:
            raise self._damaged(f"its extended headers have more than {limits.names} bytes, the limit")
        data = self._stream.exactly(info.size + -info.size % BLOCK)
        if len(data) < info.size:
            raise self._damaged("it ends within an extended header")
        return data[: info.size]

    def _records(self, data: bytes) -> dict[bytes, bytes]:
        """The records of a pax header (``<length> <key>=<value>``, each a line) that matter here."""
        found: dict[bytes, bytes] = {}
        at = 0  # an offset: to cut off each record would copy the rest each time
        while at < len(data):
            self._record_count += 1
            if self._record_count > _RECORDS_PER_MEMBER * self._limits.members:
                raise self._damaged("its extended headers have more records than the members of an archive can need")
            blank = data.find(b" ", at, at + _LENGTH_DIGITS + 1)
            digits = data[at:blank] if blank > at else b""
            end = at + int(digits) if digits.isdigit() else 0
            sign = data.find(b"=", blank, end)
            if sign < 0 or end > len(data) or data[end - 1 : end] != b"\n":
                raise self._damaged("an extended header is wrong")
            key = data[blank + 1 : sign]
            if key.startswith(b"GNU.sparse."):
                raise self._damaged("a member is a sparse file of GNU tar; pack it without --sparse")
            if key in _RECORDS:
                found[key] = data[sign + 1 : end - 1]
            at = end
        return found

    def _header(self, info: Header, records: dict[bytes, bytes]) -> Header:
        header = info
        if not all(
            records.get(key, b"x") for key in (b"path", b"linkpath")
        ):  # some delete the name, some make it empty
            raise self._damaged("an extended header gives a member an empty name; pack the files anew")
        if b"path" in records:
            header = replace(header, name=_text(records[b"path"]))
        if b"linkpath" in records:
            header = replace(header, link=_text(records[b"linkpath"]))
        if b"size" in records:
            if not records[b"size"].isdigit() or len(records[b"size"]) > 20:
                raise self._damaged("an extended header is wrong")
            header = replace(header, size=int(records[b"size"]))
        return header

    def _check_end(self) -> None:
        """Read the stream to its end, so that its checksums are verified; only zeros may follow."""
        while rest := self._stream.read(1 << 20):
            if bytes(rest).strip(b"\0"):
                raise self._damaged(_TRAILING)

    def _damaged(self, sentence: str) -> PackageError:
        return PackageError(f"{self._archive}: {sentence}")


def _text(field: bytes) -> str:
    """The text of a field, which a zero byte ends if it is shorter."""
    return field.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def _negative(data: bytes) -> int:
    """The number of bytes that are negative when they are read as signed ones, as old tars added them up."""
    return sum(byte > 127 for byte in data)


def _number(field: bytes) -> int:
    """The number of a field: octal digits, or binary after a byte 0x80 or 0xff, as GNU tar writes large ones."""
    if field[0] in (0x80, 0xFF):
        return int.from_bytes(field[1:], "big") - (256 ** (len(field) - 1) if field[0] == 0xFF else 0)
    digits = field.partition(b"\0")[0].strip()
    if digits.strip(b"01234567"):  # `int` takes signs and underscores, too
        raise ValueError(digits)
    return int(digits or b"0", 8)
