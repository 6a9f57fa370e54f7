"""The content of objects, read with patience: what cannot be read is one sentence that names the object. An edge.

A place of two kinds of addresses: paths are this machine's, ``s3://`` is handed in. An edge.

File mode: the objects of a channel as files of this machine, copied before the program starts. An edge.
"""

from __future__ import annotations

import errno
import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Final

from tritonforge.errors import TritonForgeError
from tritonforge.records import Buffer
from tritonforge.transform.object_store import LocalStore, ObjectStore, StoredObject, StoreError

__all__ = ["ChannelError", "JobStoppedError", "SchemeStore", "copy_objects", "find_local_folder", "read_object"]

#: How often an object is tried in all, and seconds before the second time; twice as many before each further one.
_TRIES: Final = 3
_PAUSE: Final = 0.1


class ChannelError(TritonForgeError):
    """A channel's data are missing, damaged, or not what the job says."""

    exit_code = 2


class JobStoppedError(Exception):
    """The job is over; what was under way is given up."""


def read_object(place: ObjectStore, found: StoredObject | str, ended: threading.Event) -> Generator[Buffer, None, None]:
    """The content of an object; a read that is cut off goes on where it was.

    ``found`` is an address, or the object as it was listed, which then has to be as long as it was. Raises ChannelError
    for an object that is not there, or cannot be read in three tries; StoppedError once ``ended`` is set.
    """
    uri, size = (found, None) if isinstance(found, str) else (found.uri, found.size)
    offset = 0
    for attempt in range(_TRIES):
        problem: TritonForgeError
        try:
            for chunk in place.open(uri, offset):
                if ended.is_set():
                    raise JobStoppedError
                offset += len(chunk)
                yield chunk
            if size is None or offset >= size:
                return
            problem = ChannelError(f"{uri}: it was cut off after {offset} of {size} bytes")
        except StoreError as error:
            problem = error
            if error.permanent or _is_missing(place, uri):
                break
        if attempt < _TRIES - 1 and ended.wait(_PAUSE * 2**attempt):
            raise JobStoppedError
    if _is_missing(place, uri):
        raise ChannelError(f"{uri}: there is no such object") from problem
    raise ChannelError(str(problem)) from problem


def _is_missing(place: ObjectStore, uri: str) -> bool:
    try:
        return place.find(uri) is None
    except StoreError:
        return False


class SchemeStore(LocalStore):
    """LocalStore of this machine, and a store for what begins with ``s3://``, opened when it is first asked for."""

    def __init__(self, store: Callable[[], ObjectStore]) -> None:
        super().__init__()
        self._store = store
        self._opened: ObjectStore | None = None
        self._lock = threading.Lock()

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """As `Place.list`."""
        return self._far().list(prefix) if _is_far(prefix) else super().list(prefix)

    def find(self, uri: str) -> StoredObject | None:
        """As `Place.find`."""
        return self._far().find(uri) if _is_far(uri) else super().find(uri)

    def open(self, uri: str, offset: int = 0) -> Iterator[Buffer]:
        """As `Place.open`."""
        return self._far().open(uri, offset) if _is_far(uri) else super().open(uri, offset)

    def put(self, content: Path | bytes, uri: str) -> None:
        """As `Place.put`."""
        return self._far().put(content, uri) if _is_far(uri) else super().put(content, uri)

    def check(self, uri: str) -> None:
        """As `Place.check`."""
        return self._far().check(uri) if _is_far(uri) else super().check(uri)

    def _far(self) -> ObjectStore:
        with self._lock:
            if self._opened is None:
                self._opened = self._store()
            return self._opened


def _is_far(uri: str) -> bool:
    return uri.startswith("s3://")


_THREADS: Final = 8
_WAITING: Final = 64


def copy_objects(
    listed: Iterable[tuple[StoredObject | str, str]], place: ObjectStore, target: Path, ended: threading.Event
) -> int:
    """Copy objects to their paths below a folder; how many there were.

    Raises ChannelError for what cannot be read, or has a path that no file can have; StoppedError; OSError where the
    folder cannot be written.
    """
    count = 0
    waiting: deque[Future[None]] = deque()
    with ThreadPoolExecutor(_THREADS, "training-copy") as pool:
        try:
            for found, path in listed:
                if ended.is_set():
                    raise JobStoppedError
                waiting.append(pool.submit(_copied, place, found, _inside(target, path, found), ended))
                count += 1
                if len(waiting) > _WAITING:
                    waiting.popleft().result()
            while waiting:
                waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
    return count


def find_local_folder(place: ObjectStore, uri: str) -> Path | None:
    """The folder of this machine that an address is, None where it is none."""
    path = Path(uri)
    return path if isinstance(place, LocalStore) and "://" not in uri and path.is_dir() else None


def _copied(place: ObjectStore, found: StoredObject | str, path: Path, ended: threading.Event) -> None:
    uri = found if isinstance(found, str) else found.uri
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise ChannelError(f"{uri}: another object lies at its path, or at a part of it") from error
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise ChannelError(f"{uri}: a part of its key is longer than a file's name may be") from error
        raise
    with open(opened, "wb", buffering=0) as file, closing(read_object(place, found, ended)) as chunks:  # noqa: PTH123 - a descriptor
        for chunk in chunks:
            left = memoryview(chunk)
            while left:
                left = left[file.write(left) :]


def _inside(target: Path, path: str, found: StoredObject | str) -> Path:
    parts = [each for each in path.split("/") if each and each != "."]
    if not parts or ".." in parts or "\0" in path:
        uri = found if isinstance(found, str) else found.uri
        raise ChannelError(f"{uri}: its key is no path of a file")
    return target.joinpath(*parts)
