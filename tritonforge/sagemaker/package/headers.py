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

_TRAILING: Final = "something follows the end of the archive, as when two archives are joined; pack the files anew"
#: The records of an extended header that change what a member is; all others are times, owners and comments.
_RECORDS: Final = (b"path", b"linkpath", b"size")


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

    def _parsed(self, block: bytes) -> tarfile.TarInfo:
        if len(block) < BLOCK:
            raise self._damaged("it ends within a header")
        try:
            info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except (tarfile.HeaderError, ValueError) as error:
            raise self._damaged(f"what should be a header is none ({error})") from error
        if info.size < 0:
            raise self._damaged("a member has a negative size")
        return info

    def _extended(self, info: tarfile.TarInfo) -> bytes:
        """The content of a header that extends the next one."""
        if info.size > self._limits.header:
            raise self._damaged(f"an extended header has {info.size} bytes; {self._limits.header} are allowed")
        data = self._stream.exactly(info.size + -info.size % BLOCK)
        if len(data) < info.size:
            raise self._damaged("it ends within an extended header")
        return data[: info.size]

    def _records(self, data: bytes) -> dict[bytes, bytes]:
        """The records of a pax header (``<length> <key>=<value>``, each a line) that matter here."""
        found: dict[bytes, bytes] = {}
        while data:
            length, blank, _ = data[:20].partition(b" ")
            if not blank or not length.isdigit():
                raise self._damaged("an extended header is wrong")
            record, data = data[: int(length)], data[int(length) :]
            key, sign, value = record[len(length) + 1 : -1].partition(b"=")
            if len(record) != int(length) or not record.endswith(b"\n") or not sign:
                raise self._damaged("an extended header is wrong")
            if key.startswith(b"GNU.sparse."):
                raise self._damaged("a member is a sparse file of GNU tar; pack it without --sparse")
            if key in _RECORDS:
                found[key] = value
        return found

    def _header(self, info: tarfile.TarInfo, records: dict[bytes, bytes]) -> Header:
        header = Header(info.name, info.type, info.size, info.linkname, info.mode)
        if b"path" in records:
            header = replace(header, name=self._text(records[b"path"]))
        if b"linkpath" in records:
            header = replace(header, link=self._text(records[b"linkpath"]))
        if b"size" in records:
            if not records[b"size"].isdigit() or len(records[b"size"]) > 20:
                raise self._damaged("an extended header is wrong")
            header = replace(header, size=int(records[b"size"]))
        return header

    def _text(self, data: bytes) -> str:
        return data.decode("utf-8", "surrogateescape")

    def _check_end(self) -> None:
        """Read the stream to its end, so that its checksums are verified; only zeros may follow."""
        while rest := self._stream.read(1 << 20):
            if bytes(rest).strip(b"\0"):
                raise self._damaged(_TRAILING)

    def _damaged(self, sentence: str) -> PackageError:
        return PackageError(f"{self._archive}: {sentence}")
