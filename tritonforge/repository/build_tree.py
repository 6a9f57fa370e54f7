"""A model repository on disk: written beside its destination, recorded in a manifest, and put in place at once.

The manifest is a plain file at the top of the repository: Triton reads only directories there, and so does SageMaker's
`serve` script. It does not count for the digest, and packages leave it out.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any, Final

from tritonforge.errors import DefinitionError
from tritonforge.files import describe_error, hash_file, lock_file, write_file
from tritonforge.validation.tree import GITKEEP, GITKEEP_TEXT

__all__ = ["MANIFEST", "BuildManifest", "BuiltVersion", "FileEntry", "TreeWriter", "hash_tree", "is_intact",
           "open_tree", "read_previous", "replace_tree", "stage_tree"]  # fmt: skip

MANIFEST: Final = ".tritonforge.json"

_EMPTY: Final = hashlib.sha256().hexdigest()
_GITKEEP: Final = hashlib.sha256(GITKEEP_TEXT).hexdigest()

#: Increased when the meaning of a manifest changes.
_FORMAT: Final = 1
_NOTES: Final = "said"  # the key in manifests of this format

_AT_FDCWD: Final = -100
_RENAME_EXCHANGE: Final = 2  # linux/fs.h


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file: its size in bytes, its modification time in nanoseconds, and the SHA-256 of its content."""

    size: int
    mtime_ns: int
    sha256: str

    @classmethod
    def read(cls, path: Path) -> FileEntry:
        """Return the entry of a file."""
        status = path.stat()
        return cls(status.st_size, status.st_mtime_ns, hash_file(path))

    def is_unchanged(self, path: Path) -> bool:
        """Return True if the file still has this size and modification time."""
        try:
            status = path.lstat()
        except OSError:
            return False
        return (status.st_size, status.st_mtime_ns) == (self.size, self.mtime_ns)


@dataclass(frozen=True, slots=True)
class BuiltVersion:
    """One version directory: the fingerprint of what it was built from, and what came of it.

    ``signature`` is plain JSON: the inputs and outputs of its file, or the facts of its conversion. ``notes`` are the
    sentences for the user.
    """

    fingerprint: str
    signature: Any
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BuildManifest:
    """The files and the built version directories of a tree, by path; ``digest`` is of its paths and contents."""

    digest: str = ""
    files: Mapping[str, FileEntry] = field(default_factory=dict)
    versions: Mapping[str, BuiltVersion] = field(default_factory=dict)

    @classmethod
    def read(cls, repository: Path) -> BuildManifest | None:
        """Return the manifest of a repository; None where it has none, or one of another format."""
        try:
            content = json.loads((repository / MANIFEST).read_bytes())
            if content["format"] != _FORMAT:
                return None
            versions = {
                path: BuiltVersion(version["fingerprint"], version["signature"], tuple(version[_NOTES]))
                for path, version in content["made"].items()
            }
            return cls(
                content["digest"], {path: FileEntry(**entry) for path, entry in content["files"].items()}, versions
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write(self, repository: Path) -> None:
        """Write the manifest into a repository."""
        content = {
            "format": _FORMAT,
            "digest": self.digest,
            "files": {path: asdict(entry) for path, entry in self.files.items()},
            "made": {
                path: {"fingerprint": version.fingerprint, "signature": version.signature, _NOTES: version.notes}
                for path, version in self.versions.items()
            },
        }
        text = json.dumps(content, indent=1, sort_keys=True) + "\n"
        write_file(repository / MANIFEST, text.encode(), sync=False)


def hash_tree(files: Mapping[str, FileEntry]) -> str:
    """Return the digest of a tree: SHA-256 over its sorted paths and the SHA-256 of each content, without times.

    A .gitkeep with the text that a build writes counts as the empty one of earlier builds: no server reads it.
    """
    digest = hashlib.sha256()
    for path in sorted(files):
        sha256 = files[path].sha256
        if sha256 == _GITKEEP and path.endswith(f"/{GITKEEP}"):
            sha256 = _EMPTY
        digest.update(f"{path}\0{sha256}\n".encode())
    return f"sha256:{digest.hexdigest()}"


def _list_hashes(files: Mapping[str, FileEntry]) -> dict[str, str]:
    return {path: entry.sha256 for path, entry in files.items()}


def read_previous(destination: Path) -> BuildManifest:
    """Return the manifest of the tree that a build replaces; an empty one where the destination is empty or missing.

    Raises:
        DefinitionError: the destination holds something that no build wrote.
    """
    if not destination.exists():
        return BuildManifest()
    manifest = BuildManifest.read(destination) if destination.is_dir() else None
    if manifest is None:
        if destination.is_dir() and not any(destination.iterdir()):
            return BuildManifest()
        raise DefinitionError(
            f"{destination}: it holds something that no tritonforge build wrote; give an empty or a new directory"
        )
    return manifest


def is_intact(repository: Path, manifest: BuildManifest) -> bool:
    """Return True if a tree still holds exactly the files of its manifest."""
    present = {
        path.relative_to(repository).as_posix()
        for path in repository.rglob("*")
        if (path.is_file() or path.is_symlink()) and path.parent != repository
    }
    return present == set(manifest.files) and all(
        entry.is_unchanged(repository / path) for path, entry in manifest.files.items()
    )


class TreeWriter:
    """Writes a new tree, linking what it shares with the old one.

    Attributes:
        old: the manifest of the tree at the destination.
        partial: the directory of the new tree.
        files: the files written so far, by path.
        versions: the version directories written so far, by path.
        rebuilt: those of them that were built anew.
    """

    def __init__(self, destination: Path, partial: Path) -> None:
        self.destination, self.partial = destination, partial
        self.old = read_previous(destination)
        self.files: dict[str, FileEntry] = {}
        self.versions: dict[str, BuiltVersion] = {}
        self.rebuilt: list[str] = []

    def write(self, path: str, data: bytes) -> None:
        """Write a file whose bytes are known."""
        known, old = self.old.files.get(path), self.destination / path
        if known is not None and known.size == len(data) and known.is_unchanged(old) and old.read_bytes() == data:
            self.link({path: known})
            return
        target = self.partial / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
        self.record(path)

    def copy(self, path: str, source: Path, sha256: str) -> None:
        """Copy a file whose digest is known."""
        known = self.old.files.get(path)
        if known is not None and known.sha256 == sha256 and self.link({path: known}):
            return
        target = self.partial / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        self.record(path)

    def link(self, files: Mapping[str, FileEntry]) -> bool:
        """Link files of the old tree into the new one; return False if one of them is missing or was changed."""
        if not all(entry.is_unchanged(self.destination / path) for path, entry in files.items()):
            return False
        for path, entry in files.items():
            target = self.partial / path
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(self.destination / path, target)
            except OSError:
                # A file system without hard links: the copy keeps its time, by which the next build recognises it.
                shutil.copy2(self.destination / path, target)
            self.files[path] = entry
        return True

    def record(self, path: str) -> None:
        """Record a file that was written to the new tree."""
        self.files[path] = FileEntry.read(self.partial / path)

    def reuse_version(self, directory: str, fingerprint: str) -> BuiltVersion | None:
        """Link a version directory of the old tree that has this fingerprint; return None without one."""
        known = self.old.versions.get(directory)
        files = {path: entry for path, entry in self.old.files.items() if path.startswith(f"{directory}/")}
        if known is None or known.fingerprint != fingerprint or not files or not self.link(files):
            return None
        self.versions[directory] = known
        return known

    def add_version(self, directory: str, version: BuiltVersion) -> None:
        """Record a version directory that was built anew, with all its files."""
        for path in sorted(path for path in (self.partial / directory).rglob("*") if path.is_file()):
            self.record(path.relative_to(self.partial).as_posix())
        self.versions[directory] = version
        self.rebuilt.append(directory)

    def build_manifest(self) -> BuildManifest:
        """Return the manifest of the new tree."""
        files = dict(sorted(self.files.items()))
        return BuildManifest(hash_tree(files), files, dict(sorted(self.versions.items())))

    def is_changed(self) -> bool:
        """Return True if the new tree differs from what is at the destination."""
        return (
            hash_tree(self.files) != self.old.digest
            or _list_hashes(self.files) != _list_hashes(self.old.files)
            or not (self.destination.exists() and is_intact(self.destination, self.old))
        )

    def commit(self) -> None:
        """Put the new tree in place, or if it is equal to the old one only its manifest."""
        manifest = self.build_manifest()
        if self.is_changed():
            manifest.write(self.partial)
            replace_tree(self.partial, self.destination)
        elif manifest.versions != self.old.versions:
            BuildManifest(self.old.digest, self.old.files, manifest.versions).write(self.destination)


@contextmanager
def open_tree(destination: Path) -> Iterator[TreeWriter]:
    """Open a destination for a new tree, as `stage_tree` does; nothing is replaced before `TreeWriter.commit`."""
    with stage_tree(destination) as partial:
        yield TreeWriter(destination, partial)


@contextmanager
def stage_tree(destination: Path) -> Iterator[Path]:
    """Yield a new directory beside the destination, which is locked meanwhile; what killed builds left is removed.

    Raises:
        DefinitionError: another build writes to this destination, or the directory cannot be written.
    """
    parent = destination.parent
    partial, old = parent / f".{destination.name}.partial", parent / f".{destination.name}.old"
    with _lock(destination, parent / f".{destination.name}.lock"):
        if old.exists() and not destination.exists():
            # Killed between the two renames of a file system without exchange.
            old.rename(destination)
        for leftover in (partial, old):
            shutil.rmtree(leftover, ignore_errors=True)
        partial.mkdir()
        try:
            yield partial
        finally:
            shutil.rmtree(partial, ignore_errors=True)
            shutil.rmtree(old, ignore_errors=True)


@contextmanager
def _lock(destination: Path, path: Path) -> Iterator[None]:
    """Hold the lock of a destination, whose file is removed at the end.

    A lock is only valid on the file that has the name: whoever opened the file before its holder removed it would get
    a lock that no other build tries to get.
    """
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = path.open("w")
        except OSError as error:
            raise DefinitionError(f"{path.parent}: cannot write: {describe_error(error)}") from error
        with file:
            try:
                lock_file(file)
            except BlockingIOError as error:
                raise DefinitionError(f"{destination}: another build is writing it; wait for that one") from error
            if not _has_name(file, path):
                continue
            try:
                yield
            finally:
                with suppress(PermissionError):  # Windows removes no open file: there the next build uses it again
                    path.unlink(missing_ok=True)
            return


def _has_name(file: IO[str], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def replace_tree(partial: Path, destination: Path) -> None:
    """Make a finished tree the destination: by one exchange of names where the system has it, else by two renames."""
    if not destination.exists():
        partial.rename(destination)
        return
    old = destination.parent / f".{destination.name}.old"
    if _exchange(partial, destination):
        partial.rename(old)
    else:
        destination.rename(old)
        partial.rename(destination)


def _exchange(left: Path, right: Path) -> bool:
    """Exchange two names in one step (renameat2); False where the C library or the file system cannot."""
    try:
        library = ctypes.CDLL(None, use_errno=True)
    except TypeError:  # Windows, where a library has a name
        return False
    renameat2 = getattr(library, "renameat2", None)
    if renameat2 is None:
        return False
    if renameat2(_AT_FDCWD, os.fsencode(left), _AT_FDCWD, os.fsencode(right), _RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP):
        return False
    raise OSError(code, os.strerror(code), str(right))
