"""The contents of a package: which files of a repository go into it, their sizes, and the digest of all.

A package holds directories and files only. A link inside the repository becomes what it leads to; hard links become
files of their own; a link out of the repository is rejected unless ``dereference`` is set.

The digest is of the sorted paths and the SHA-256 of each content, as a build records it, so that it is the same before
and after packaging, and whatever compressed the archive. A model or version directory without a file counts as an empty
file ``<path>/``.
"""

from __future__ import annotations

import hashlib
import os
import stat
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final, Literal, TypeAlias

from tritonforge.errors import PackageError
from tritonforge.files import describe_error, hash_stream
from tritonforge.repository.build_tree import MANIFEST, BuildManifest, FileEntry
from tritonforge.repository.build_tree import hash_tree as record_digest
from tritonforge.validation.tree_reader import MAXIMAL_DEPTH, MAXIMAL_ENTRIES

__all__ = ["Contents", "Item", "Listing", "OnBytes", "compute_digest", "find_bare_directories", "is_left_out",
           "list_objects", "list_package", "read_contents", "read_recorded_hashes"]  # fmt: skip

#: Files that only keep a directory in version control, as the version directory of an ensemble needs one.
_KEEPERS: Final = frozenset({".empty", ".gitkeep", ".keep", ".placeholder"})

#: What file managers, editors, version control and Python leave behind. The server reads none of them.
_LEFTOVERS: Final = frozenset({".DS_Store", ".gitattributes", ".gitignore", ".localized", "Thumbs.db", "desktop.ini"})
_LEFTOVER_STARTS: Final = ("._", ".nfs")
_LEFTOVER_ENDS: Final = (".pyc", ".pyo", ".swp", "~")
_LEFTOVER_DIRECTORIES: Final = frozenset({"__MACOSX", "__pycache__"})


@dataclass(frozen=True, slots=True)
class Item:
    """One directory or file of a package: its path there, its size in bytes, and the path of its content.

    ``mtime_ns`` is the content's modification time, by which a change is noticed, ``ctime_ns`` the time of the last
    change of any kind; ``linked`` is True if the repository has a link at this path, or above it.
    """

    path: str
    kind: Literal["directory", "file"]
    size: int
    mtime_ns: int
    ctime_ns: int
    source: str
    linked: bool


@dataclass(frozen=True, slots=True)
class Listing:
    """The items of a package and the paths that are left out (directories end in ``/``), each sorted."""

    items: tuple[Item, ...]
    left_out: tuple[str, ...]

    @property
    def files(self) -> tuple[Item, ...]:
        """The items that are files."""
        return tuple(item for item in self.items if item.kind == "file")

    @property
    def bare(self) -> tuple[str, ...]:
        """The directories without a file that are part of the package, see `find_bare_directories`."""
        directories = (item.path for item in self.items if item.kind == "directory")
        return find_bare_directories(directories, (file.path for file in self.files))


def list_package(repository: Path, *, dereference: bool = False, everything: bool = False) -> Listing:
    """Return what of a repository goes into a package.

    Args:
        repository: the directory.
        dereference: include the targets of links that lead out of the repository.
        everything: leave nothing out; for a directory that is not a repository, such as the output of a training job.

    Raises:
        PackageError: the directory cannot be read, or it has what a package cannot have: a pipe, a link to nothing or
            out of the repository, a name that is not UTF-8.
    """
    if not repository.is_dir():
        raise PackageError(f"{repository}: not a directory; give a built or hand-written model repository")
    walk = _Walk(repository, dereference, everything)
    walk.walk(walk.root, "", (), linked=False)
    files = [item for item in walk.items if item.kind == "file"]
    directories = [item for item in walk.items if item.kind == "directory"]
    if everything:
        return Listing(tuple(sorted(walk.items, key=lambda item: item.path)), ())
    kept = set(find_bare_directories((item.path for item in directories), (item.path for item in files)))
    kept |= {above for path in (*kept, *(item.path for item in files)) for above in _list_parents(path)}
    empty = [f"{item.path}/" for item in directories if item.path not in kept]
    items = [*files, *(item for item in directories if item.path in kept)]
    return Listing(tuple(sorted(items, key=lambda item: item.path)), tuple(sorted([*walk.left_out, *empty])))


def find_bare_directories(directories: Iterable[str], files: Iterable[str]) -> tuple[str, ...]:
    """Return the directories that count although no file lies below them: models, and versions directly in them.

    Deeper ones, such as the ``assets`` of a SavedModel, mean nothing to the server: they are neither in the digest nor
    in the package, and S3 has no directories.
    """
    holding = {above for path in files for above in _list_parents(path)}
    bare = {path for path in directories if path not in holding and path.count("/") <= 1}
    return tuple(sorted(bare - {above for path in bare for above in _list_parents(path)}))


def _list_parents(path: str) -> Iterator[str]:
    while path := path.rpartition("/")[0]:
        yield path


def is_left_out(name: str, kind: str, *, top: bool) -> bool:
    """Return True if a directory or file of this name is left out; ``top`` is True in the repository itself.

    Hidden directories are left out everywhere, hidden files at the top; inside a model only known leftovers are, since
    a model's code may read any file beside it.
    """
    if kind == "directory":
        return name.startswith(".") or name in _LEFTOVER_DIRECTORIES
    if name in _KEEPERS:
        return False
    if name in _LEFTOVERS or name.startswith(_LEFTOVER_STARTS) or name.endswith(_LEFTOVER_ENDS):
        return True
    return top and (name == MANIFEST or name.startswith("."))


class _Walk:
    """The walk through a repository."""

    def __init__(self, repository: Path, dereference: bool, everything: bool) -> None:
        self.items: list[Item] = []
        self.left_out: list[str] = []
        self.root = os.path.realpath(repository)
        self._shown = repository
        self._dereference = dereference
        self._everything = everything

    def walk(self, folder: str, path: str, above: tuple[tuple[int, int], ...], *, linked: bool) -> None:
        """List a directory and those below it; ``above`` has the device and inode numbers of those above it."""
        if len(above) > MAXIMAL_DEPTH:
            raise self._build_error(path, f"it lies more than {MAXIMAL_DEPTH} directories deep, the limit")
        try:
            status = Path(folder).stat()
            with os.scandir(folder) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError as error:
            raise self._build_error(path, f"cannot read: {describe_error(error)}") from error
        here = (status.st_dev, status.st_ino)
        if here in above:
            raise self._build_error(
                path, "it is a link to a directory that contains it, so the package would have no end"
            )
        for entry in entries:
            self._add_entry(entry, f"{path}/{entry.name}" if path else entry.name, (*above, here), linked=linked)

    def _add_entry(
        self, entry: os.DirEntry[str], path: str, above: tuple[tuple[int, int], ...], *, linked: bool
    ) -> None:
        if not _is_text(entry.name):
            raise self._build_error(repr(path), "its name is not UTF-8; rename it")
        is_link = entry.is_symlink()
        source = self._resolve_link(entry, path) if is_link and not self._is_leftover(entry, path) else entry.path
        try:
            status = Path(source).lstat()
        except OSError as error:
            raise self._build_error(path, f"cannot read: {describe_error(error)}") from error
        if stat.S_ISDIR(status.st_mode):
            if self._is_left_out(entry.name, "directory", path):
                self.left_out.append(f"{path}/")
                return
            self._add(Item(path, "directory", 0, 0, 0, source, linked or is_link))
            self.walk(source, path, above, linked=linked or is_link)
        elif self._is_left_out(entry.name, "file", path):
            self.left_out.append(path)
        elif stat.S_ISREG(status.st_mode):
            times = (status.st_mtime_ns, status.st_ctime_ns)
            self._add(Item(path, "file", status.st_size, *times, source, linked or is_link))
        else:
            raise self._build_error(path, "it is neither a file nor a directory; move it out of the repository")

    def _is_leftover(self, entry: os.DirEntry[str], path: str) -> bool:
        """Return True if a link is left out by its name, whatever its target."""
        kind = "directory" if Path(entry.path).is_dir() else "file"
        return self._is_left_out(entry.name, kind, path)

    def _is_left_out(self, name: str, kind: str, path: str) -> bool:
        return not self._everything and is_left_out(name, kind, top="/" not in path)

    def _resolve_link(self, entry: os.DirEntry[str], path: str) -> str:
        try:
            target = os.path.realpath(entry.path, strict=True)
        except OSError as error:
            text = str(Path(entry.path).readlink())
            raise self._build_error(path, f"it is a link to nothing ({text}); fix or remove it") from error
        if target != self.root and not target.startswith(f"{self.root}/") and not self._dereference:
            raise self._build_error(
                path, f"it is a link out of the repository, to {target}; copy that in, or package with --dereference"
            )
        return target

    def _add(self, item: Item) -> None:
        if len(self.items) >= MAXIMAL_ENTRIES:
            raise PackageError(f"{self._shown}: it has more than {MAXIMAL_ENTRIES} files, the limit")
        self.items.append(item)

    def _build_error(self, path: str, sentence: str) -> PackageError:
        return PackageError(f"{self._shown / path}: {sentence}")


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


#: Called while bytes are read: how many so far, of how many.
OnBytes: TypeAlias = Callable[[int, int], None]

_MAXIMAL_THREADS: Final = 8
_EMPTY: Final = hashlib.sha256().hexdigest()


@dataclass(frozen=True, slots=True)
class Contents:
    """The content of a package: its files with their sizes in bytes by path, and the digest of all.

    ``left_out`` are paths of the repository that are not in the package (directories end in ``/``), ``hashes`` the
    SHA-256 of each file by path.
    """

    files: Mapping[str, int]
    digest: str
    left_out: tuple[str, ...] = ()
    hashes: Mapping[str, str] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """The bytes of all files."""
        return sum(self.files.values())


def read_contents(repository: Path, *, dereference: bool = False, on_progress: OnBytes | None = None) -> Contents:
    """Return what a package of this repository would contain, and its digest, without writing it.

    A file that has the size and the modification time of the build's record is not read again.

    Raises:
        PackageError: as `list_package`, or a file cannot be read.
    """
    listed = list_package(repository, dereference=dereference)
    known = read_recorded_hashes(repository, listed.files)
    hashes = known | _hash_files([item for item in listed.files if item.path not in known], on_progress)
    return Contents(
        {item.path: item.size for item in listed.files}, compute_digest(hashes, listed.bare), listed.left_out, hashes
    )


def read_recorded_hashes(repository: Path, files: Iterable[Item], *, untouched: bool = False) -> dict[str, str]:
    """Return the SHA-256 of the files whose size and modification time are those of the build's record, by path.

    ``untouched`` requires more: nothing about the file has changed after the record was written, by the system's own
    clock, so that an edit cannot hide behind an old modification time.
    """
    record = BuildManifest.read(repository)
    if record is None:
        return {}
    written = (repository / MANIFEST).stat().st_mtime_ns
    hashes = {}
    for item in files:
        noted = record.files.get(item.path)
        if noted is None or item.linked or (noted.size, noted.mtime_ns) != (item.size, item.mtime_ns):
            continue
        if not untouched or item.ctime_ns < written:
            hashes[item.path] = noted.sha256
    return hashes


def compute_digest(hashes: Mapping[str, str], bare: Iterable[str] = ()) -> str:
    """Return the digest of files by path and SHA-256, and of the bare directories that count."""
    entries = {path: FileEntry(0, 0, sha256) for path, sha256 in hashes.items()}
    entries |= {f"{path}/": FileEntry(0, 0, _EMPTY) for path in bare}
    return record_digest(entries)


def list_objects(repository: Path, *, dereference: bool = False) -> list[tuple[str, Path]]:
    """Return the objects of a repository below an S3 prefix, sorted: the key below the prefix, and the file.

    SageMaker puts an object at ``/opt/ml/model/<key below the prefix>`` (`ModelDataSource`, S3Prefix, None).

    Raises:
        PackageError: as `list_package`, or a directory is empty: S3 has objects only.
    """
    listed = list_package(repository, dereference=dereference)
    for path in listed.bare:
        raise PackageError(
            f"{repository / path}: the directory is empty, and S3 has no directories; put a file .gitkeep into it"
        )
    return [(item.path, Path(item.source)) for item in listed.files]


def _hash_files(items: list[Item], on_progress: OnBytes | None) -> dict[str, str]:
    """Return the SHA-256 of each item's content by its path, computed on several cores."""
    if not items:
        return {}
    total, done, lock = sum(item.size for item in items), 0, threading.Lock()

    def count(size: int) -> None:
        nonlocal done
        with lock:
            done += size
            if on_progress is not None:
                on_progress(done, total)

    with ThreadPoolExecutor(min(_MAXIMAL_THREADS, len(os.sched_getaffinity(0)))) as pool:
        futures = {item.path: pool.submit(_hash_file, item, count) for item in items}
        try:
            return {path: future.result() for path, future in futures.items()}
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


class _CountingFile:
    """A file that reports the bytes that are read from it."""

    def __init__(self, file: IO[bytes], count: Callable[[int], None]) -> None:
        self._file, self._count = file, count

    def read(self, size: int, /) -> bytes:
        """Return the next bytes."""
        data = self._file.read(size)
        self._count(len(data))
        return data


def _hash_file(item: Item, count: Callable[[int], None]) -> str:
    try:
        with Path(item.source).open("rb", buffering=0) as file:
            return hash_stream(_CountingFile(file, count))
    except OSError as error:
        raise PackageError(f"{item.source}: cannot read: {describe_error(error)}") from error
