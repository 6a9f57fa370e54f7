"""Places: where objects are read and where their outputs go. `Folders` are this machine's; S3 is handed in.

A place's addresses are strings of its own, ``s3://bucket/key`` or paths. An output appears whole, or not at all.
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
from typing import Final, Protocol

from tritonforge.errors import TritonForgeError
from tritonforge.records import Buffer

__all__ = ["CHUNK", "Folders", "Found", "Place", "PlaceError"]

#: Bytes of a piece that is read from a file at once.
CHUNK: Final = 256 << 10

#: Errors of a target that will not get better with the next object.
_HOPELESS: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM})

_TEMPORARY: Final = ".tritonforge-"


class PlaceError(TritonForgeError):
    """An object cannot be read, or an output not be written; ``hopeless`` says that no other one can be either."""

    def __init__(self, message: str, *, hopeless: bool = False) -> None:
        super().__init__(message)
        self.hopeless = hopeless


@dataclass(frozen=True, slots=True)
class Found:
    """An object: its whole address, its size in bytes, and a text that changes when its content does."""

    uri: str
    size: int
    etag: str


class Place(Protocol):
    """What a job needs of where its objects are; safe for use by many threads. All methods raise PlaceError."""

    def list(self, prefix: str) -> Iterator[Found]:
        """The objects whose address begins with the prefix, sorted by the bytes of the key, one after another."""
        ...

    def find(self, uri: str) -> Found | None:
        """The object at an address, None where there is none."""
        ...

    def open(self, uri: str, offset: int = 0) -> Iterator[Buffer]:
        """The content of an object from a byte on, in chunks of bounded size; to be closed where it is not read up."""
        ...

    def put(self, content: Path | bytes, uri: str) -> None:
        """Put an output at an address, whole or not at all, over what is there. A file may be moved away by this.

        When this returns, the output outlasts a crash of the machine.
        """
        ...

    def check(self, uri: str) -> None:
        """Find out whether outputs can be put below an address."""
        ...


class Folders:
    """Folders of this machine as a place; addresses are paths. Links are followed, as a user sees the folder.

    ``halves`` is a folder for outputs that are being written, of which nothing is left where they belong when this
    process is killed; without it, or on another file system, they lie beside their place, under a hidden name.
    """

    def __init__(self, halves: Path | None = None) -> None:
        self._halves = halves

    def list(self, prefix: str) -> Iterator[Found]:
        """All files below a folder, or the one file of this path, in the order of S3: by the bytes of the path.

        The names of a folder of any size are sorted on disk.
        """
        top = Path(prefix)
        if not top.is_dir():
            found = self.find(prefix)
            if found is None:
                raise PlaceError(f"{prefix}: no such file or folder", hopeless=True)
            yield found
            return
        # A name of "" is SQLite's own temporary database, which needs memory for a few pages only.
        with contextlib.closing(sqlite3.connect("", isolation_level=None, check_same_thread=False)) as names:
            names.execute("PRAGMA cache_size = -1024")
            names.execute("CREATE TABLE names (name BLOB PRIMARY KEY, size INTEGER, etag TEXT) WITHOUT ROWID")
            names.execute("BEGIN")
            names.executemany("INSERT OR IGNORE INTO names VALUES (?, ?, ?)", _walked(top))
            names.execute("COMMIT")
            for name, size, etag in names.execute("SELECT name, size, etag FROM names ORDER BY name"):
                yield Found(os.path.join(prefix, os.fsdecode(name)), size, etag)  # noqa: PTH118 - the prefix as it was

    def find(self, uri: str) -> Found | None:
        """The file of this path, None where there is none."""
        try:
            status = Path(uri).stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise _unreadable(uri, error) from error
        return None if stat.S_ISDIR(status.st_mode) else Found(uri, status.st_size, _etag(status))

    def open(self, uri: str, offset: int = 0) -> Iterator[Buffer]:
        """The content of a file from a byte on."""
        try:
            with open(uri, "rb", buffering=0) as file:  # noqa: PTH123 - a Path costs as much as opening does
                left = os.fstat(file.fileno()).st_size - file.seek(offset)
                # As much memory as the file needs, and no more; then what was written to it meanwhile.
                while chunk := file.read(max(1, min(CHUNK, left))):
                    left -= len(chunk)
                    yield chunk
        except OSError as error:
            raise _unreadable(uri, error) from error

    def put(self, content: Path | bytes, uri: str) -> None:
        """Write a file aside, bring it to the disk, and give it its place."""
        target = Path(uri)
        if ".." in target.parts:
            raise PlaceError(f"{uri}: the output would lie outside of the folder for outputs")
        try:
            if isinstance(content, Path):
                _sync(content)
                if _moved(content, target):
                    return
            elif self._halves is not None:
                half = self._halves / _half_name()
                _write(content, half)
                if _moved(half, target):
                    return
                half.unlink()
            self._beside(content, target)
        except OSError as error:
            raise PlaceError(
                f"{uri}: the output cannot be written: {error.strerror or error}", hopeless=error.errno in _HOPELESS
            ) from error

    def check(self, uri: str) -> None:
        """Make the folder, and a file in it, which is removed again; clear away what a killed process left half."""
        folder = Path(uri)
        probe = folder / _half_name()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            probe.write_bytes(b"x")
            probe.unlink()
            if self._halves is not None:
                self._halves.mkdir(parents=True, exist_ok=True)
                for half in self._halves.glob(f"{_TEMPORARY}*"):
                    half.unlink(missing_ok=True)
        except OSError as error:
            raise PlaceError(
                f"{uri}: outputs cannot be written there: {error.strerror or error}", hopeless=True
            ) from error

    def _beside(self, content: Path | bytes, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        half = target.with_name(_half_name())
        try:
            _write(content, half)
            _moved(half, target)
        except BaseException:
            with contextlib.suppress(OSError):
                half.unlink(missing_ok=True)
            raise


def _walked(top: Path) -> Iterator[tuple[bytes, int, str]]:
    """Every file below a folder: its path from there on, its size, its etag."""
    waiting = [os.fsencode(top)]
    seen = set()
    start = len(os.path.join(waiting[0], b""))  # noqa: PTH118 - bytes, since a name is not always text
    while waiting:
        folder = waiting.pop()
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.is_dir():
                        identity = entry.stat().st_dev, entry.stat().st_ino
                        if identity not in seen:  # a link to a folder above would never end
                            seen.add(identity)
                            waiting.append(entry.path)
                    elif entry.is_file() and not entry.name.startswith(_TEMPORARY.encode()):
                        status = entry.stat()
                        yield entry.path[start:], status.st_size, _etag(status)
        except OSError as error:
            raise _unreadable(os.fsdecode(folder), error) from error


def _etag(status: os.stat_result) -> str:
    return f"{status.st_ino:x}-{status.st_size:x}-{status.st_mtime_ns:x}"


def _unreadable(uri: str, error: OSError) -> PlaceError:
    return PlaceError(f"{uri}: it cannot be read: {error.strerror or error}")


def _half_name() -> str:
    """A name for an output that is being written: one a thread, as each writes one at a time."""
    return f"{_TEMPORARY}{os.getpid()}-{threading.get_ident()}"


def _moved(half: Path, target: Path) -> bool:
    """Give a file on the disk its place, for good; False where that is on another file system."""
    try:
        half.replace(target)
    except FileNotFoundError:
        target.parent.mkdir(parents=True, exist_ok=True)
        half.replace(target)
        _sync(target.parent.parent)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        return False
    _sync(target.parent)
    return True


def _write(content: Path | bytes, half: Path) -> None:
    with half.open("wb", buffering=0) as file:
        if isinstance(content, Path):
            with content.open("rb") as source:
                shutil.copyfileobj(source, file, CHUNK)
        else:
            rest = memoryview(content)
            while rest:
                rest = rest[file.write(rest) :]
        os.fsync(file.fileno())


def _sync(path: Path) -> None:
    """Bring a file, or the names in a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
