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
from typing import Final, Literal, TypeAlias

from tritonforge.errors import PackageError
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
    """One directory or file of a package: its path there, its size in bytes, and where its content lies.

    ``mtime_ns`` is the content's modification time, by which a change is noticed, ``ctime_ns`` the time of the last
    change of any kind; ``linked`` says that the repository has a link at this path, or above it.
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
    """The items of a package sorted by path, and the paths that are left out, sorted (directories with a ``/``)."""

    items: tuple[Item, ...]
    left_out: tuple[str, ...]

    @property
    def files(self) -> tuple[Item, ...]:
        """The items that are files."""
        return tuple(item for item in self.items if item.kind == "file")

    @property
    def bare(self) -> tuple[str, ...]:
        """The directories without a file that are in the package all the same, see `find_bare_directories`."""
        directories = (item.path for item in self.items if item.kind == "directory")
        return find_bare_directories(directories, (file.path for file in self.files))


def list_package(repository: Path, *, dereference: bool = False, everything: bool = False) -> Listing:
    """What of a repository goes into a package; ``dereference`` takes what links lead to outside of it, too.

    ``everything`` leaves nothing out: a folder that is no repository, but what a training job has left.

    Raises:
        PackageError: the folder cannot be read, or it holds what no package can: a pipe, a link to nowhere or out of
            the repository, a name that is not UTF-8.
    """
    if not repository.is_dir():
        raise PackageError(f"{repository}: there is no such folder; give a built or hand-written model repository")
    walk = _Walk(repository, dereference, everything)
    walk.directory(walk.root, "", (), linked=False)
    files = [item for item in walk.items if item.kind == "file"]
    directories = [item for item in walk.items if item.kind == "directory"]
    if everything:
        return Listing(tuple(sorted(walk.items, key=lambda item: item.path)), ())
    kept = set(find_bare_directories((item.path for item in directories), (item.path for item in files)))
    kept |= {above for path in (*kept, *(item.path for item in files)) for above in _above(path)}
    empty = [f"{item.path}/" for item in directories if item.path not in kept]
    items = [*files, *(item for item in directories if item.path in kept)]
    return Listing(tuple(sorted(items, key=lambda item: item.path)), tuple(sorted([*walk.left_out, *empty])))


def find_bare_directories(directories: Iterable[str], files: Iterable[str]) -> tuple[str, ...]:
    """The directories that count though no file lies below them: of a model, or directly in one, as versions are.

    Deeper ones, such as the ``assets`` of a SavedModel, mean nothing to the server, and nothing else keeps them: they
    are in no digest, in no package, and S3 has none.
    """
    holding = {above for path in files for above in _above(path)}
    bare = {path for path in directories if path not in holding and path.count("/") <= 1}
    return tuple(sorted(bare - {above for path in bare for above in _above(path)}))


def _above(path: str) -> Iterator[str]:
    while path := path.rpartition("/")[0]:
        yield path


def is_left_out(name: str, kind: str, *, top: bool) -> bool:
    """Whether a directory or file of this name stays out of packages; ``top``: it lies in the repository itself.

    Hidden directories stay out everywhere, hidden files at the top; inside a model only what is known for a leftover
    does, since a model's code may read any file beside it.
    """
    if kind == "directory":
        return name.startswith(".") or name in _LEFTOVER_DIRECTORIES
    if name in _KEEPERS:
        return False
    if name in _LEFTOVERS or name.startswith(_LEFTOVER_STARTS) or name.endswith(_LEFTOVER_ENDS):
        return True
    return top and (name == MANIFEST or name.startswith("."))


class _Walk:
    """One walk through one repository."""

    def __init__(self, repository: Path, dereference: bool, everything: bool) -> None:
        self.items: list[Item] = []
        self.left_out: list[str] = []
        self.root = os.path.realpath(repository)
        self._shown = repository
        self._dereference = dereference
        self._everything = everything

    def directory(self, folder: str, path: str, above: tuple[tuple[int, int], ...], *, linked: bool) -> None:
        """List a directory and those below it; ``above`` are the device and inode numbers of those around it."""
        if len(above) > MAXIMAL_DEPTH:
            raise self._error(path, f"it lies more than {MAXIMAL_DEPTH} directories deep; no model repository does")
        try:
            status = Path(folder).stat()
            with os.scandir(folder) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError as error:
            raise self._error(path, f"it cannot be read: {error.strerror}") from error
        here = (status.st_dev, status.st_ino)
        if here in above:
            raise self._error(path, "it is a link to a directory that holds it, so the package would have no end")
        for entry in entries:
            self._entry(entry, f"{path}/{entry.name}" if path else entry.name, (*above, here), linked=linked)

    def _entry(self, entry: os.DirEntry[str], path: str, above: tuple[tuple[int, int], ...], *, linked: bool) -> None:
        if not _is_text(entry.name):
            raise self._error(repr(path), "its name is not UTF-8; rename it")
        is_link = entry.is_symlink()
        source = self._target(entry, path) if is_link and not self._is_leftover(entry, path) else entry.path
        try:
            status = Path(source).lstat()
        except OSError as error:
            raise self._error(path, f"it cannot be read: {error.strerror}") from error
        if stat.S_ISDIR(status.st_mode):
            if self._is_left_out(entry.name, "directory", path):
                self.left_out.append(f"{path}/")
                return
            self._add(Item(path, "directory", 0, 0, 0, source, linked or is_link))
            self.directory(source, path, above, linked=linked or is_link)
        elif self._is_left_out(entry.name, "file", path):
            self.left_out.append(path)
        elif stat.S_ISREG(status.st_mode):
            times = (status.st_mtime_ns, status.st_ctime_ns)
            self._add(Item(path, "file", status.st_size, *times, source, linked or is_link))
        else:
            raise self._error(path, "it is neither a file nor a directory; move it out of the repository")

    def _is_leftover(self, entry: os.DirEntry[str], path: str) -> bool:
        """Whether a link stays out by its name, wherever it leads."""
        kind = "directory" if Path(entry.path).is_dir() else "file"
        return self._is_left_out(entry.name, kind, path)

    def _is_left_out(self, name: str, kind: str, path: str) -> bool:
        return not self._everything and is_left_out(name, kind, top="/" not in path)

    def _target(self, entry: os.DirEntry[str], path: str) -> str:
        try:
            target = os.path.realpath(entry.path, strict=True)
        except OSError as error:
            text = str(Path(entry.path).readlink())
            raise self._error(path, f"it is a link that leads nowhere ({text}); mend or remove it") from error
        if target != self.root and not target.startswith(f"{self.root}/") and not self._dereference:
            raise self._error(
                path, f"it is a link out of the repository, to {target}; copy that in, or package with --dereference"
            )
        return target

    def _add(self, item: Item) -> None:
        if len(self.items) >= MAXIMAL_ENTRIES:
            raise PackageError(f"{self._shown}: it has more than {MAXIMAL_ENTRIES} files; no model repository does")
        self.items.append(item)

    def _error(self, path: str, sentence: str) -> PackageError:
        return PackageError(f"{self._shown / path}: {sentence}")


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


#: Told while bytes are moved: how many so far, of how many.
OnBytes: TypeAlias = Callable[[int, int], None]

_BLOCK: Final = 1 << 20
_MAXIMAL_THREADS: Final = 8
_EMPTY: Final = hashlib.sha256().hexdigest()


@dataclass(frozen=True, slots=True)
class Contents:
    """What a package of a repository holds: its files with their sizes in bytes by path, and the digest of all.

    ``left_out`` names what of the repository is not in the package (directories end in ``/``), ``hashes`` has the
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
    """What a package of this repository would hold, and its digest, without making it.

    A file that has the size and the modification time of the build's record is not read again; every other file is.

    Raises:
        PackageError: as `list_package`, or a file cannot be read.
    """
    listed = list_package(repository, dereference=dereference)
    known = read_recorded_hashes(repository, listed.files)
    hashes = known | _hashed([item for item in listed.files if item.path not in known], on_progress)
    return Contents(
        {item.path: item.size for item in listed.files}, compute_digest(hashes, listed.bare), listed.left_out, hashes
    )


def read_recorded_hashes(repository: Path, files: Iterable[Item], *, untouched: bool = False) -> dict[str, str]:
    """The SHA-256 of the files that the build's record still fits, by path.

    Size and modification time must be the recorded ones. ``untouched`` asks for more: nothing about the file changed
    after the record was written, as the system's own clock says, so that no edit can hide behind an old time.
    """
    record = BuildManifest.read(repository)
    if record is None:
        return {}
    written = (repository / MANIFEST).stat().st_mtime_ns
    found = {}
    for item in files:
        noted = record.files.get(item.path)
        if noted is None or item.linked or (noted.size, noted.mtime_ns) != (item.size, item.mtime_ns):
            continue
        if not untouched or item.ctime_ns < written:
            found[item.path] = noted.sha256
    return found


def compute_digest(hashes: Mapping[str, str], bare: Iterable[str] = ()) -> str:
    """The digest of files by path and SHA-256, and of directories that count though they are bare."""
    entries = {path: FileEntry(0, 0, sha256) for path, sha256 in hashes.items()}
    entries |= {f"{path}/": FileEntry(0, 0, _EMPTY) for path in bare}
    return record_digest(entries)


def list_objects(repository: Path, *, dereference: bool = False) -> list[tuple[str, Path]]:
    """The objects of a repository under an S3 prefix: key below the prefix, and the file with its content, sorted.

    SageMaker puts each object at ``/opt/ml/model/<key below the prefix>`` (`ModelDataSource`, S3Prefix, None).

    Raises:
        PackageError: as `list_package`, or a directory is empty: S3 has objects only.
    """
    listed = list_package(repository, dereference=dereference)
    for path in listed.bare:
        raise PackageError(
            f"{repository / path}: the directory is empty, and S3 has no empty directories; put a file .gitkeep into it"
        )
    return [(item.path, Path(item.source)) for item in listed.files]


def _hashed(items: list[Item], on_progress: OnBytes | None) -> dict[str, str]:
    """The SHA-256 of each item's content by its path, on several cores."""
    if not items:
        return {}
    total, done, lock = sum(item.size for item in items), 0, threading.Lock()

    def moved(size: int) -> None:
        nonlocal done
        with lock:
            done += size
            if on_progress is not None:
                on_progress(done, total)

    with ThreadPoolExecutor(min(_MAXIMAL_THREADS, len(os.sched_getaffinity(0)))) as pool:
        futures = {item.path: pool.submit(_sha256, item, moved) for item in items}
        try:
            return {path: future.result() for path, future in futures.items()}
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _sha256(item: Item, moved: Callable[[int], None]) -> str:
    whole, block = hashlib.sha256(), memoryview(bytearray(min(_BLOCK, max(item.size, 1))))
    try:
        with Path(item.source).open("rb", buffering=0) as file:
            while size := file.readinto(block):
                whole.update(block[:size])
                moved(size)
    except OSError as error:
        raise PackageError(f"{item.source}: it cannot be read: {error.strerror}") from error
    return whole.hexdigest()
