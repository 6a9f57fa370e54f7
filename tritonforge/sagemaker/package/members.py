"""The members of a model archive: read as a stream, and safe to unpack.

Everything that would be unsafe or ambiguous to unpack is rejected here: names and links that lead out of the directory,
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
from tritonforge.files import describe_error
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
_REJECTED: Final[Mapping[bytes, str]] = MappingProxyType(
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
#: Characters of a hostile name in a sentence.
_SHOWN: Final = 200


@dataclass(frozen=True, slots=True)
class Member:
    """A member that is safe to unpack: its path without ``./``, and its kind.

    ``size`` is in bytes. ``target`` of a ``"link"`` (symbolic) is its text, of a ``"hardlink"`` the path of the earlier
    file that it shares. ``executable`` is True if a permission to execute it is set.
    """

    path: str
    kind: Literal["directory", "file", "hardlink", "link"]
    size: int = 0
    target: str = ""
    executable: bool = False


class Names:
    """The names that an archive has used so far; ``archive`` is its name in errors."""

    def __init__(self, *, archive: str, limits: ArchiveLimits) -> None:
        self._archive, self._limits = archive, limits
        self._kinds: dict[str, str] = {}
        self._members = self._links = self._link_bytes = self._bytes = 0

    def check(self, header: Header) -> Member | None:
        """Check a header and return its member; None for the root itself, and for a directory that is known already.

        Raises:
            PackageError: it must not be unpacked; the sentence names it.
        """
        self._members += 1  # of every header: a directory may be there any number of times, and costs time each time
        if self._members > self._limits.members:
            raise self._build_count_error()
        if header.type in _REJECTED:
            raise self._build_error(header.name, f"it is {_REJECTED[header.type]}; a model archive has files only")
        if header.type == tarfile.DIRTYPE and header.size == 0 and _is_top(header.name):
            return None
        parts = self._split_path(header.name, header.name, "it")
        if header.type in _FILES:
            if header.size > self._limits.size:
                raise self._build_error(header.name, f"it has {header.size} bytes; the limit is {self._limits.size}")
            member = Member("/".join(parts), "file", header.size, executable=bool(header.mode & 0o111))
        elif header.size:
            raise self._build_error(header.name, "it has content, but is not a file")
        elif header.type == tarfile.DIRTYPE:
            member = Member("/".join(parts), "directory")
        elif header.type == tarfile.SYMTYPE:
            self._check_link(header, parts)
            member = Member("/".join(parts), "link", target=header.link)
        elif header.type == tarfile.LNKTYPE:
            member = Member("/".join(parts), "hardlink", target=self._find_shared(header))
        else:
            raise self._build_error(
                header.name, f"it is of a kind that readers interpret differently ({header.type!r})"
            )
        if not parts:
            raise self._build_error(header.name, "it has the name of the root directory")
        if member.kind != "directory" and header.name.endswith("/"):
            raise self._build_error(
                header.name, "it is not a directory, but has the name of one; readers interpret it differently"
            )
        return member if self._add(member, header.name, len(parts)) else None

    def _split_path(self, text: str, name: str, what: str) -> list[str]:
        """Split a path into its directories and name; ``what`` is its name in the sentence, ``name`` the member's."""
        if not text or "\0" in text:
            raise self._build_error(name, f"{what} has no name" if not text else f"{what} has a zero byte in its name")
        try:
            encoded = text.encode()
        except UnicodeEncodeError as error:
            raise self._build_error(name, f"{what} has a name that is not UTF-8") from error
        if text.startswith("/"):
            raise self._build_error(name, f"{what} has an absolute name, which leads out of the directory")
        parts = [part for part in text.split("/") if part not in ("", ".")]
        if ".." in parts:
            raise self._build_error(name, f"{what} has '..' in its name, which may lead out of the directory")
        if len(encoded) > _MAXIMAL_PATH or any(len(part.encode()) > _MAXIMAL_NAME for part in parts):
            raise self._build_error(name, f"{what} has a longer name than Linux allows")
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
            raise self._build_error(header.name, "it is a link with an invalid target")
        if target.startswith("/"):
            raise self._build_error(
                header.name, f"it is a link to the absolute path {_shorten(target)}, out of the directory"
            )
        steps = [step for step in target.split("/") if step not in ("", ".")]
        climbs = next((index for index, step in enumerate(steps) if step != ".."), len(steps))
        if climbs > len(parts) - 1:
            raise self._build_error(header.name, f"it is a link to {_shorten(target)}, out of the directory")
        if ".." in steps[climbs:]:
            raise self._build_error(
                header.name, f"it is a link to {_shorten(target)}, which may lead out of the directory"
            )

    def _find_shared(self, header: Header) -> str:
        path = "/".join(self._split_path(header.link, header.name, "the file that it is a hard link to"))
        if self._kinds.get(path) not in ("file", "hardlink"):
            raise self._build_error(header.name, f"it is a hard link to {_shorten(path)}, which is not an earlier file")
        return path

    def _add(self, member: Member, name: str, depth: int) -> bool:
        """Add a member; return True if it is new."""
        if depth > self._limits.depth:
            raise self._build_error(name, f"it lies more than {self._limits.depth} directories deep")
        above = member.path
        while above := above.rpartition("/")[0]:
            kind = self._kinds.get(above)
            if kind == "directory":
                break
            if kind is not None:
                raise self._build_error(name, f"it lies under {_shorten(above)}, which is a {kind}, not a directory")
            self._note(above, "directory")
        known = self._kinds.get(member.path)
        if known is None:
            self._note(member.path, member.kind)
        elif (known, member.kind) != ("directory", "directory"):
            raise self._build_error(name, f"two members have this name, a {known} and a {member.kind}")
        return known is None

    def _note(self, path: str, kind: str) -> None:
        self._kinds[path] = kind
        self._bytes += len(path)
        if len(self._kinds) > self._limits.members:
            raise self._build_count_error()
        if self._bytes > self._limits.names:
            raise PackageError(f"{self._archive}: its members' names have more than {self._limits.names} bytes")

    def _build_count_error(self) -> PackageError:
        return PackageError(f"{self._archive}: it has more than {self._limits.members} members, the limit")

    def _build_error(self, name: str, sentence: str) -> PackageError:
        return PackageError(f"{self._archive}: {_shorten(name)}: {sentence}")


def _is_top(name: str) -> bool:
    """Return True if a directory's name is the root's: empty, ``/`` or ``./``, as `tarfile` and GNU tar read it."""
    return all(part in ("", ".") for part in name.split("/"))


def _shorten(name: str) -> str:
    text = name if name.isprintable() and name else repr(name)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


class Content:
    """The content of the current member, valid until the next one is read: pieces of at most 1 MiB."""

    def __init__(self, stream: Gunzip, member: str, size: int) -> None:
        self._stream, self._member, self._left = stream, member, size

    def __iter__(self) -> Iterator[memoryview]:
        """Yield the pieces that were not read yet."""
        while self._left:
            piece = self._stream.read(self._left)
            if not piece:
                raise PackageError(f"{self._member}: it ends in the middle; the upload or the copy was cut off")
            self._left -= len(piece)
            yield piece


def list_members(source: Source | Path, *, limits: ArchiveLimits = DEFAULT_LIMITS) -> Iterator[Member]:
    """Yield the members of an archive in their order, each safe to unpack; raises as `read_members`."""
    with open_archive(source) as (file, name):
        for member, _ in read_members(file, name=name, limits=limits):
            yield member


def read_members(
    source: Source, *, name: str, limits: ArchiveLimits = DEFAULT_LIMITS
) -> Iterator[tuple[Member, Content]]:
    """Yield the members with their contents; ``name`` is the archive's name in errors.

    Raises:
        PackageError: the archive is damaged or not in SageMaker's format, or a member must not be unpacked.
        MissingExtraError: isal is not installed.
    """
    stream = Gunzip(source, name=name, limits=limits)
    headers, names = Headers(stream, archive=name, limits=limits), Names(archive=name, limits=limits)
    while (header := headers.read_next()) is not None:
        member = names.check(header)
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
    """Open a path, or pass a stream as it is, with its name for errors."""
    if not isinstance(source, Path):
        yield source, "the archive"
        return
    try:
        file = source.open("rb", buffering=0)
    except OSError as error:
        raise PackageError(f"{source}: cannot read: {describe_error(error)}") from error
    with file:
        yield file, str(source)
