"""The inspection of archives: what one holds, without unpacking it, and the unpacking into a directory.

`Snapshot` collects the tree that the rules check, before a package is written or while an archive is read.

Unpacking is all or nothing. The directory must be empty, files are created anew and never through a link, and links are
created last; so nothing is written outside of it, whatever the archive contains.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Final

from tritonforge.errors import PackageError
from tritonforge.files import describe_error
from tritonforge.sagemaker.package.archive_stream import DEFAULT_LIMITS, ArchiveLimits, Source
from tritonforge.sagemaker.package.contents import Listing, compute_digest, find_bare_directories
from tritonforge.sagemaker.package.members import Content, Member, open_archive, read_members
from tritonforge.validation.header_reader import add_headers
from tritonforge.validation.tree import DIRECTORY, MAXIMAL_TEXT, Entry, Tree, link
from tritonforge.validation.tree_reader import add_sums

__all__ = ["Inspection", "Snapshot", "inspect", "read_snapshot", "unpack"]

#: Files whose content the rules read, as `validation.tree_reader` does: texts, and files directly in a model.
_TEXTS: Final = (".pbtxt", ".txt", ".py")
_PIPELINES: Final = (".dali",)
_MAXIMAL_PIPELINE: Final = 16 << 20
#: Bytes of content that are kept at once; a file that does not fit any more is checked without its content.
_MAXIMAL_CONTENT: Final = 32 << 20


class Snapshot:
    """A tree while it is read: a member is added with a function that reads its content, called if rules need it."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}
        self._size = 0
        self._truncated = ""

    def add(self, member: Member, read: Callable[[], bytes]) -> bytes | None:
        """Add a member, and return its content if it was read."""
        content = None
        if member.kind == "directory":
            entry = DIRECTORY
        elif member.kind == "link":
            entry = link(member.target)
        elif member.kind == "hardlink":
            entry = self._entries[member.target]
        else:
            content = read() if self._needs_content(member) else None
            entry = Entry("file", member.size, content=content)
        self._entries[member.path] = entry
        return content

    def build_tree(self) -> Tree:
        """Return the tree of the members."""
        return Tree(self._entries, truncated=self._truncated)

    def _needs_content(self, member: Member) -> bool:
        if member.path.endswith((*_PIPELINES, "/dali.py")):
            limit = _MAXIMAL_PIPELINE
        elif member.path.endswith(_TEXTS) or member.path.count("/") == 1:
            limit = MAXIMAL_TEXT
        else:
            return False
        if member.size > limit:
            return False
        if self._size + member.size > _MAXIMAL_CONTENT:
            self._truncated = f"its texts and pipelines have more than {_MAXIMAL_CONTENT >> 20} MiB"
            return False
        self._size += member.size
        return True


def read_snapshot(listed: Listing) -> Tree:
    """Read the tree that will be in a package."""
    taken = Snapshot()
    sources: dict[str, str] = {}
    for item in listed.items:
        taken.add(Member(item.path, item.kind, item.size), partial(_read, Path(item.source)))
        sources[item.path] = str(item.source)
    tree = taken.build_tree()
    entries = add_headers(add_sums(tree.entries, sources.__getitem__), sources.__getitem__)
    return Tree(entries, truncated=tree.truncated)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise PackageError(f"{path}: cannot read: {describe_error(error)}") from error


@dataclass(frozen=True, slots=True)
class Inspection:
    """The content of an archive: its members in their order, sizes of files by path, the digest of paths and contents.

    A link counts as its target, as it does in a package. ``size`` is the archive's own, in bytes; ``tree`` is what the
    rules check.
    """

    size: int
    members: tuple[Member, ...]
    files: Mapping[str, int]
    digest: str
    tree: Tree


def inspect(source: Source | Path, *, limits: ArchiveLimits = DEFAULT_LIMITS) -> Inspection:
    """Read an archive once, from a file or a stream; raises as `unpack` does on what it reads."""
    taken, found, hashes = Snapshot(), [], {}
    with open_archive(source) as (file, name):
        counted = _Counted(file)
        for member, content in read_members(counted, name=name, limits=limits):
            found.append(member)
            whole = hashlib.sha256()
            read = taken.add(member, partial(_join, content))
            for piece in (read,) if read is not None else content:
                whole.update(piece)
            if member.kind == "file":
                hashes[member.path] = whole.hexdigest()
            elif member.kind == "hardlink":
                hashes[member.path] = hashes[member.target]
    tree = taken.build_tree()
    files, directories = _follow_links(tree, name=name, limits=limits)
    return Inspection(
        counted.size,
        tuple(found),
        {path: tree.entries[real].size for path, real in files.items()},
        compute_digest({path: hashes[real] for path, real in files.items()}, find_bare_directories(directories, files)),
        tree,
    )


def _follow_links(tree: Tree, *, name: str, limits: ArchiveLimits) -> tuple[dict[str, str], list[str]]:
    """Return the files of a tree with links followed, each with its path without links, and the directories."""
    files: dict[str, str] = {}
    directories: list[str] = []
    visits = length = 0

    @cache  # a directory of many links is visited once for each link to it
    def resolve(path: str) -> tuple[str | None, bool]:
        real = tree.real(path)
        return real, real is not None and tree.is_dir(real)

    def walk(path: str, real: str, above: tuple[str, ...]) -> None:
        nonlocal visits, length
        if real in above:
            raise PackageError(
                f"{name}: {path}: it is a link to a directory that contains it, so its files have no end"
            )
        for child in tree.children(real):
            here = f"{path}/{child}" if path else child
            visits += 1
            length += len(here)
            if len(above) >= limits.depth or visits > limits.members or length > limits.names:
                raise PackageError(f"{name}: {here}: its links lead to more files than the limits of an archive allow")
            place, is_directory = resolve(f"{real}/{child}" if real else child)
            if place is None:
                continue  # a link to nothing, which the rules report
            if is_directory:
                directories.append(here)
                walk(here, place, (*above, real))
            else:
                files[here] = place

    walk("", "", ())
    return dict(sorted(files.items())), directories


def _join(content: Iterable[memoryview]) -> bytes:
    return b"".join(bytes(piece) for piece in content)


class _Counted:
    """A stream that counts the bytes that are read from it."""

    def __init__(self, file: Source) -> None:
        self._file, self.size = file, 0

    def read(self, size: int, /) -> bytes:
        """Return the next bytes."""
        data = self._file.read(size)
        self.size += len(data)
        return data


def unpack(source: Source | Path, folder: Path, *, limits: ArchiveLimits = DEFAULT_LIMITS) -> None:
    """Unpack an archive, from a file or a stream, into a directory that is empty or does not exist yet.

    Files get the mode 644, or 755 if the archive makes them executable; times and owners are the current ones.

    Raises:
        PackageError: as `read_members`, or the directory is not empty or cannot be written; nothing is left then.
        MissingExtraError: isal is not installed.
    """
    with open_archive(source) as (file, name), _open_empty(folder):
        links = []
        for member, content in read_members(file, name=name, limits=limits):
            if member.kind == "link":
                links.append(member)
            else:
                _create(folder, member, content)
        for member in links:
            with _map_write_errors(folder, member):
                (folder / member.path).parent.mkdir(mode=0o755, parents=True, exist_ok=True)
                (folder / member.path).symlink_to(member.target)


@contextmanager
def _open_empty(folder: Path) -> Iterator[None]:
    """Create an empty directory, and restore the state before if the context raises."""
    with _map_write_errors(folder, None):
        is_new = not folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise PackageError(f"{folder}: not empty; an archive is unpacked into an empty directory")
    try:
        yield
    except BaseException:
        for path in folder.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        if is_new:
            folder.rmdir()
        raise


def _create(folder: Path, member: Member, content: Content) -> None:
    """Create a directory, a file, or a hard link to an earlier file."""
    path = folder / member.path
    with _map_write_errors(folder, member):
        (path if member.kind == "directory" else path.parent).mkdir(mode=0o755, parents=True, exist_ok=True)
        if member.kind == "hardlink":
            os.link(folder / member.target, path, follow_symlinks=False)
    if member.kind != "file":
        return
    with _map_write_errors(folder, member):
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(path, flags, 0o755 if member.executable else 0o644)
    with open(descriptor, "wb") as file:  # noqa: PTH123  # a descriptor has no path
        for piece in content:
            with _map_write_errors(folder, member):
                file.write(piece)
        with _map_write_errors(folder, member):
            file.flush()


@contextmanager
def _map_write_errors(folder: Path, member: Member | None) -> Iterator[None]:
    """Raise errors of the file system as PackageError of the member."""
    try:
        yield
    except OSError as error:
        place = folder / member.path if member is not None else folder
        raise PackageError(f"{place}: cannot write: {describe_error(error)}") from error
