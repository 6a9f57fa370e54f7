"""The members of a model archive: read as a stream, and safe to unpack.

Everything that a later step could stumble over is rejected here: names and links that lead out of the directory,
devices, two members of one name, archives that unpack to too much, are damaged or cut off.

What passes can be put into an empty directory in the archive's order without following a link. That links stay inside
follows from three rules together: nothing lies under a link, no target climbs above the archive's top from where the
link lies, and none climbs after it went down (``a/../..`` may leave when ``a`` is a link itself).
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final, Literal

from tritonforge.errors import PackageError
from tritonforge.sagemaker.package.archive_stream import (
    BLOCK,
    DEFAULT_LIMITS,
    ArchiveLimits,
    Gunzip,
    Header,
    Headers,
    Source,
)

__all__ = ["Content", "Member", "Names", "list_members", "open_archive", "read_members"]

_FILES: Final = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)
_REFUSED: Final[Mapping[bytes, str]] = MappingProxyType(
    {
        tarfile.CHRTYPE: "a device",
        tarfile.BLKTYPE: "a device",
        tarfile.FIFOTYPE: "a pipe",
        tarfile.GNUTYPE_SPARSE: "a sparse file of GNU tar (pack it without --sparse)",
    }
)

#: Linux takes no longer names: NAME_MAX and PATH_MAX of limits.h.
_MAXIMAL_NAME: Final = 255
_MAXIMAL_PATH: Final = 4095
#: How much of a hostile name a sentence shows.
_SHOWN: Final = 200


@dataclass(frozen=True, slots=True)
class Member:
    """One member that is safe to unpack: its path without ``./``, and what it is.

    ``size`` is in bytes. ``target`` is where a link leads: of a ``"link"`` (symbolic) its text, of a ``"hardlink"`` the
    path of the file before it that it shares. ``executable`` says that somebody may execute it.
    """

    path: str
    kind: Literal["directory", "file", "hardlink", "link"]
    size: int = 0
    target: str = ""
    executable: bool = False


class Names:
    """The names that an archive has used so far; ``archive`` stands for it in errors."""

    def __init__(self, *, archive: str, limits: ArchiveLimits) -> None:
        self._archive, self._limits = archive, limits
        self._kinds: dict[str, str] = {}
        self._members = self._links = self._link_bytes = self._bytes = 0

    def member(self, header: Header) -> Member | None:
        """The member of a header; None for the folder itself, and for a directory that is known already.

        Raises:
            PackageError: it must not be unpacked; the sentence names it.
        """
        self._members += 1  # of every header: a directory may be there any number of times, and costs time each time
        if self._members > self._limits.members:
            raise self._too_many()
        if header.type in _REFUSED:
            raise self._refused(header.name, f"it is {_REFUSED[header.type]}; a model archive holds files only")
        if header.type == tarfile.DIRTYPE and header.size == 0 and _is_top(header.name):
            return None
        parts = self._parts(header.name, header.name, "it")
        if header.type in _FILES:
            if header.size > self._limits.size:
                raise self._refused(header.name, f"it has {header.size} bytes; the limit is {self._limits.size}")
            member = Member("/".join(parts), "file", header.size, executable=bool(header.mode & 0o111))
        elif header.size:
            raise self._refused(header.name, "it has content, but is no file")
        elif header.type == tarfile.DIRTYPE:
            member = Member("/".join(parts), "directory")
        elif header.type == tarfile.SYMTYPE:
            self._check_link(header, parts)
            member = Member("/".join(parts), "link", target=header.link)
        elif header.type == tarfile.LNKTYPE:
            member = Member("/".join(parts), "hardlink", target=self._shared(header))
        else:
            raise self._refused(header.name, f"it is of a kind that readers do not agree on ({header.type!r})")
        if not parts:
            raise self._refused(header.name, "it has the place of the folder itself")
        if member.kind != "directory" and header.name.endswith("/"):
            raise self._refused(header.name, "it is no directory, but has the name of one; readers do not agree on it")
        return member if self._add(member, header.name, len(parts)) else None

    def _parts(self, text: str, name: str, what: str) -> list[str]:
        """The directories and the name of a path; ``what`` the sentence calls it, ``name`` is the member's."""
        if not text or "\0" in text:
            raise self._refused(name, f"{what} has no name" if not text else f"{what} has a zero byte in its name")
        try:
            encoded = text.encode()
        except UnicodeEncodeError as error:
            raise self._refused(name, f"{what} has a name that is not UTF-8") from error
        if text.startswith("/"):
            raise self._refused(name, f"{what} has an absolute name, which leads out of the folder")
        parts = [part for part in text.split("/") if part not in ("", ".")]
        if ".." in parts:
            raise self._refused(name, f"{what} has '..' in its name, which may lead out of the folder")
        if len(encoded) > _MAXIMAL_PATH or any(len(part.encode()) > _MAXIMAL_NAME for part in parts):
            raise self._refused(name, f"{what} has a longer name than Linux takes")
        return parts

    def _check_link(self, header: Header, parts: list[str]) -> None:
        target = header.link
        self._links += 1
        self._link_bytes += len(target)
        if self._links > self._limits.links or self._link_bytes > self._limits.link_bytes:
            raise PackageError(
                f"{self._archive}: it has more than {self._limits.links} links, or they have more than "
                f"{self._limits.link_bytes} bytes, the limits"
            )
        if not target or "\0" in target or len(target.encode("utf-8", "surrogateescape")) > _MAXIMAL_PATH:
            raise self._refused(header.name, "it is a link with a wrong target")
        if target.startswith("/"):
            raise self._refused(header.name, f"it is a link to the absolute path {_shown(target)}, out of the folder")
        steps = [step for step in target.split("/") if step not in ("", ".")]
        climbs = next((index for index, step in enumerate(steps) if step != ".."), len(steps))
        if climbs > len(parts) - 1:
            raise self._refused(header.name, f"it is a link to {_shown(target)}, out of the folder")
        if ".." in steps[climbs:]:
            raise self._refused(header.name, f"it is a link to {_shown(target)}, which may lead out of the folder")

    def _shared(self, header: Header) -> str:
        path = "/".join(self._parts(header.link, header.name, "the file that it is a hard link to"))
        if self._kinds.get(path) not in ("file", "hardlink"):
            raise self._refused(header.name, f"it is a hard link to {_shown(path)}, which is no file before it")
        return path

    def _add(self, member: Member, name: str, depth: int) -> bool:
        """Note a member; whether it is new."""
        if depth > self._limits.depth:
            raise self._refused(name, f"it lies more than {self._limits.depth} directories deep")
        above = member.path
        while above := above.rpartition("/")[0]:
            kind = self._kinds.get(above)
            if kind == "directory":
                break
            if kind is not None:
                raise self._refused(name, f"it lies under {_shown(above)}, which is a {kind}, not a directory")
            self._note(above, "directory")
        known = self._kinds.get(member.path)
        if known is None:
            self._note(member.path, member.kind)
        elif (known, member.kind) != ("directory", "directory"):
            raise self._refused(name, f"there are two of this name, a {known} and a {member.kind}")
        return known is None

    def _note(self, path: str, kind: str) -> None:
        self._kinds[path] = kind
        self._bytes += len(path)
        if len(self._kinds) > self._limits.members:
            raise self._too_many()
        if self._bytes > self._limits.names:
            raise PackageError(f"{self._archive}: its members' names have more than {self._limits.names} bytes")

    def _too_many(self) -> PackageError:
        return PackageError(f"{self._archive}: it has more than {self._limits.members} members, the limit")

    def _refused(self, name: str, sentence: str) -> PackageError:
        return PackageError(f"{self._archive}: {_shown(name)}: {sentence}")


def _is_top(name: str) -> bool:
    """Whether a directory's name is of the folder itself: empty, ``/`` or ``./``, as `tarfile` and GNU tar read it."""
    return all(part in ("", ".") for part in name.split("/"))


def _shown(name: str) -> str:
    shown = name if name.isprintable() and name else repr(name)
    return shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}..."


class Content:
    """The content of the member at hand, valid until the next one is asked for: pieces of at most 1 MiB."""

    def __init__(self, stream: Gunzip, member: str, size: int) -> None:
        self._stream, self._member, self._left = stream, member, size

    def __iter__(self) -> Iterator[memoryview]:
        """The pieces that were not taken yet."""
        while self._left:
            piece = self._stream.read(self._left)
            if not piece:
                raise PackageError(f"{self._member}: it ends in the middle; the upload or the copy was cut off")
            self._left -= len(piece)
            yield piece


def list_members(source: Source | Path, *, limits: ArchiveLimits = DEFAULT_LIMITS) -> Iterator[Member]:
    """The members of an archive in their order, each safe to unpack; raises as `read_members`."""
    with open_archive(source) as (file, name):
        for member, _ in read_members(file, name=name, limits=limits):
            yield member


def read_members(
    source: Source, *, name: str, limits: ArchiveLimits = DEFAULT_LIMITS
) -> Iterator[tuple[Member, Content]]:
    """The members with their contents; ``name`` stands for the archive in errors.

    Raises:
        PackageError: the archive is damaged or not what SageMaker takes, or a member must not be unpacked.
        MissingExtraError: isal is not installed.
    """
    stream = Gunzip(source, name=name, limits=limits)
    headers, names = Headers(stream, archive=name, limits=limits), Names(archive=name, limits=limits)
    while (header := headers.following()) is not None:
        member = names.member(header)
        if member is None:
            continue
        content = Content(stream, f"{name}: {member.path}", member.size)
        yield member, content
        for _ in content:
            pass
        for _ in Content(stream, f"{name}: {member.path}", -member.size % BLOCK):
            pass


@contextmanager
def open_archive(source: Source | Path) -> Iterator[tuple[Source, str]]:
    """The file of a path, or the stream as it is, and what to call it."""
    if not isinstance(source, Path):
        yield source, "the archive"
        return
    try:
        file = source.open("rb", buffering=0)
    except OSError as error:
        raise PackageError(f"{source}: it cannot be read: {error.strerror}") from error
    with file:
        yield file, str(source)
