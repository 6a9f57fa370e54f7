"""Object stores: where a job reads its objects and writes its outputs. `LocalStore` is directories of this machine.

The addresses of a store are strings: ``s3://bucket/key`` or paths. An output appears whole or not at all.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import sqlite3
import stat
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Protocol, TypeAlias

from tritonforge.errors import TritonForgeError
from tritonforge.files import describe_error, sync_directory
from tritonforge.records import Buffer

__all__ = [
    "CHUNK", "MARKER", "LocalStore", "ObjectStore", "OutputNaming", "StoreError", "StoredObject", "build_output_uri",
    "build_relative_key",
]  # fmt: skip

#: Bytes that are read from a file at a time.
CHUNK: Final = 256 << 10

#: How the output of an object is named. "relative": by the key below the prefix, as the listings of jobs show it.
#: "whole": with the last part of the prefix, as the one example in API_TransformOutput has it.
OutputNaming: TypeAlias = Literal["relative", "whole"]

#: Errors of a target that every other output meets too.
_PERMANENT: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM})

_TEMPORARY: Final = ".tritonforge-"

#: The name of a file by which the nodes of a cluster see that an output directory is the same one. No listing has it.
MARKER: Final = f"{_TEMPORARY}cluster"


class StoreError(TritonForgeError):
    """An object cannot be read or an output cannot be written. ``permanent``: every other one fails in the same way."""

    def __init__(self, message: str, *, permanent: bool = False) -> None:
        super().__init__(message)
        self.permanent = permanent


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object of a store: its address, its size in bytes, and a text that changes when its content does."""

    uri: str
    size: int
    etag: str


class ObjectStore(Protocol):
    """The interface of a store that a job uses. Safe for use by several threads. All methods raise StoreError."""

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """Yield the objects whose address begins with the prefix, sorted by the bytes of the key."""
        ...

    def find(self, uri: str) -> StoredObject | None:
        """Return the object at an address, None if it does not exist."""
        ...

    def open(self, uri: str, offset: int = 0) -> Iterator[Buffer]:
        """Yield the content of an object from a byte on, in chunks of bounded size. Close it unless it is exhausted."""
        ...

    def put(self, content: Path | bytes, uri: str) -> None:
        """Write an output whole or not at all, replacing an existing one. A file may be moved away.

        When this returns, the output survives a crash of the machine.
        """
        ...

    def check(self, uri: str) -> None:
        """Check that outputs can be written below an address."""
        ...


class LocalStore:
    """Directories of this machine as a store; addresses are paths. Symbolic links are followed.

    ``partial`` is a directory for outputs that are being written, so that a killed process leaves nothing beside
    finished outputs. Without it, or if it is on another file system, they are written beside their target under a
    hidden name.
    """

    def __init__(self, partial: Path | None = None) -> None:
        self._partial = partial

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """Yield all files below a directory, or the one file of this path, in the order of S3: by the path's bytes.

        The names are sorted on disk, so that memory does not limit the size of a directory.
        """
        top = Path(prefix)
        if not top.is_dir():
            file = self.find(prefix)
            if file is None:
                raise StoreError(f"{prefix}: no such file or directory", permanent=True)
            yield file
            return
        # A name of "" is SQLite's own temporary database, which needs memory for a few pages only.
        with contextlib.closing(sqlite3.connect("", isolation_level=None, check_same_thread=False)) as names:
            names.execute("PRAGMA cache_size = -1024")
            names.execute("CREATE TABLE names (name BLOB PRIMARY KEY, size INTEGER, etag TEXT) WITHOUT ROWID")
            names.execute("BEGIN")
            names.executemany("INSERT OR IGNORE INTO names VALUES (?, ?, ?)", _walk(top))
            names.execute("COMMIT")
            for name, size, etag in names.execute("SELECT name, size, etag FROM names ORDER BY name"):
                uri = os.path.join(prefix, os.fsdecode(name))  # noqa: PTH118 - Path would normalise the prefix
                yield StoredObject(uri, size, etag)

    def find(self, uri: str) -> StoredObject | None:
        """Return the file of this path, None if it does not exist."""
        try:
            status = Path(uri).stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise _read_error(uri, error) from error
        return None if stat.S_ISDIR(status.st_mode) else StoredObject(uri, status.st_size, _build_etag(status))

    def open(self, uri: str, offset: int = 0) -> Iterator[Buffer]:
        """Yield the content of a file from a byte on."""
        try:
            with open(uri, "rb", buffering=0) as file:  # noqa: PTH123 - a Path costs as much as opening does
                left = os.fstat(file.fileno()).st_size - file.seek(offset)
                # As much memory as the file needs, and no more; then what was written to it meanwhile.
                while chunk := file.read(max(1, min(CHUNK, left))):
                    left -= len(chunk)
                    yield chunk
        except OSError as error:
            raise _read_error(uri, error) from error

    def put(self, content: Path | bytes, uri: str) -> None:
        """Write a file under another name, flush it to the disk, and move it to its path."""
        target = Path(uri)
        if ".." in target.parts:
            raise StoreError(f"{uri}: the output would lie outside of the output directory")
        try:
            if isinstance(content, Path):
                with content.open("rb") as file:
                    os.fsync(file.fileno())
                if _move(content, target):
                    return
            elif self._partial is not None:
                partial = self._partial / _partial_name()
                _write(content, partial)
                if _move(partial, target):
                    return
                partial.unlink()
            _write_beside(content, target)
        except OSError as error:
            raise StoreError(
                f"{uri}: cannot write: {describe_error(error)}", permanent=error.errno in _PERMANENT
            ) from error

    def check(self, uri: str) -> None:
        """Create the directory and a probe file in it; remove the probe and what a killed process left behind."""
        directory = Path(uri)
        probe = directory / _partial_name()
        try:
            directory.mkdir(parents=True, exist_ok=True)
            probe.write_bytes(b"x")
            probe.unlink()
            if self._partial is not None:
                self._partial.mkdir(parents=True, exist_ok=True)
                for partial in self._partial.glob(f"{_TEMPORARY}*"):
                    partial.unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(f"{uri}: cannot write: {describe_error(error)}", permanent=True) from error


def build_relative_key(uri: str, prefix: str, naming: OutputNaming = "relative") -> str:
    """Return the key that the output of an object is named after: the object's key below the prefix.

    A prefix is a directory, an object, or the beginning of names: then what follows its last slash is part of them.

    >>> build_relative_key("s3://b/in/a/1.jpg", "s3://b/in/"), build_relative_key("s3://b/in/a/1.jpg", "s3://b/in")
    ('a/1.jpg', 'a/1.jpg')
    >>> build_relative_key("s3://b/in/1.jpg", "s3://b/in/1.jpg"), build_relative_key("s3://b/in/part-1", "s3://b/in/p")
    ('1.jpg', 'part-1')
    >>> build_relative_key("s3://b/in/a/1.jpg", "s3://b/in/", "whole")
    'in/a/1.jpg'
    """
    rest = uri[len(prefix) :]
    if prefix.endswith("/"):
        directory, key = prefix[:-1], rest
    elif rest.startswith("/"):
        directory, key = prefix, rest[1:]
    else:
        directory, slash, _ = prefix.rpartition("/")
        key = uri[len(directory) + len(slash) :]
    if naming == "relative":
        return key
    below = directory.partition("://")[2].partition("/")[2] if "://" in directory else directory  # without the bucket
    last = below.rpartition("/")[2]
    return f"{last}/{key}" if last else key


def build_output_uri(key: str, directory: str, suffix: str = ".out") -> str:
    """Return the address of the output of a key.

    >>> build_output_uri("a/1.jpg", "s3://b/out")
    's3://b/out/a/1.jpg.out'
    """
    return f"{directory.rstrip('/')}/{key}{suffix}"


def _walk(top: Path) -> Iterator[tuple[bytes, int, str]]:
    """Yield path below the directory, size and etag of every file in it."""
    waiting = [os.fsencode(top)]
    visited = set()
    start = len(os.path.join(waiting[0], b""))  # noqa: PTH118 - bytes, since a name is not always text
    while waiting:
        directory = waiting.pop()
        try:
            with os.scandir(directory) as entries:
                for entry in entries:
                    if entry.is_dir():
                        identity = entry.stat().st_dev, entry.stat().st_ino
                        if identity not in visited:  # a link to a parent directory would never end
                            visited.add(identity)
                            waiting.append(entry.path)
                    elif entry.is_file() and not entry.name.startswith(_TEMPORARY.encode()):
                        status = entry.stat()
                        yield entry.path[start:], status.st_size, _build_etag(status)
        except OSError as error:
            raise _read_error(os.fsdecode(directory), error) from error


def _build_etag(status: os.stat_result) -> str:
    return f"{status.st_ino:x}-{status.st_size:x}-{status.st_mtime_ns:x}"


def _read_error(uri: str, error: OSError) -> StoreError:
    return StoreError(f"{uri}: cannot read: {describe_error(error)}")


def _partial_name() -> str:
    """Return a name for an output that is being written: one per thread, as each writes one at a time."""
    return f"{_TEMPORARY}{os.getpid()}-{threading.get_ident()}"


def _write_beside(content: Path | bytes, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(_partial_name())
    try:
        _write(content, partial)
        _move(partial, target)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise


def _move(partial: Path, target: Path) -> bool:
    """Move a file to its path for good. Return False if that is on another file system."""
    try:
        partial.replace(target)
    except FileNotFoundError:
        target.parent.mkdir(parents=True, exist_ok=True)
        partial.replace(target)
        sync_directory(target.parent.parent)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        return False
    sync_directory(target.parent)
    return True


def _write(content: Path | bytes, path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        if isinstance(content, Path):
            with content.open("rb") as source:
                shutil.copyfileobj(source, file, CHUNK)
        else:
            rest = memoryview(content)
            while rest:
                rest = rest[file.write(rest) :]
        os.fsync(file.fileno())
