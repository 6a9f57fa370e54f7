"""Objects of a training job: read with retries, copied to files (File mode), from S3 or this machine. An edge."""

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

#: Attempts to read an object, and seconds before the second one, doubled before each further one.
_ATTEMPTS: Final = 3
_DELAY: Final = 0.1

#: Objects that are copied at the same time, and copies that wait for a thread.
_COPY_THREADS: Final = 8
_MAX_WAITING_COPIES: Final = 64


class ChannelError(TritonForgeError):
    """A channel's data are missing, damaged, or not what the job declares."""

    exit_code = 2


class JobStoppedError(Exception):
    """The job was stopped; the current work is cancelled."""


def read_object(
    store: ObjectStore, source: StoredObject | str, ended: threading.Event
) -> Generator[Buffer, None, None]:
    """Yield the content of an object; a read that is cut off resumes at its position.

    ``source`` is an address, or a listed object, whose size must not have changed. Raises ChannelError for an object
    that is missing, or cannot be read in three attempts; JobStoppedError once ``ended`` is set.
    """
    uri, size = (source, None) if isinstance(source, str) else (source.uri, source.size)
    offset = 0
    for attempt in range(_ATTEMPTS):
        problem: TritonForgeError
        try:
            for chunk in store.open(uri, offset):
                if ended.is_set():
                    raise JobStoppedError
                offset += len(chunk)
                yield chunk
            if size is None or offset >= size:
                return
            problem = ChannelError(f"{uri}: cut off after {offset} of {size} bytes")
        except StoreError as error:
            problem = error
            if error.permanent or _is_missing(store, uri):
                break
        if attempt < _ATTEMPTS - 1 and ended.wait(_DELAY * 2**attempt):
            raise JobStoppedError
    if _is_missing(store, uri):
        raise ChannelError(f"{uri}: no such object") from problem
    raise ChannelError(str(problem)) from problem


def _is_missing(store: ObjectStore, uri: str) -> bool:
    try:
        return store.find(uri) is None
    except StoreError:
        return False


class SchemeStore(LocalStore):
    """A store of paths of this machine, and of ``s3://`` addresses through another store, opened at first use."""

    def __init__(self, open_store: Callable[[], ObjectStore]) -> None:
        super().__init__()
        self._open_store = open_store
        self._remote: ObjectStore | None = None
        self._lock = threading.Lock()

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """List as `ObjectStore.list`."""
        return self._get_remote().list(prefix) if _is_remote(prefix) else super().list(prefix)

    def find(self, uri: str) -> StoredObject | None:
        """Find as `ObjectStore.find`."""
        return self._get_remote().find(uri) if _is_remote(uri) else super().find(uri)

    def open(self, uri: str, offset: int = 0) -> Iterator[Buffer]:
        """Open as `ObjectStore.open`."""
        return self._get_remote().open(uri, offset) if _is_remote(uri) else super().open(uri, offset)

    def put(self, content: Path | bytes, uri: str) -> None:
        """Write as `ObjectStore.put`."""
        return self._get_remote().put(content, uri) if _is_remote(uri) else super().put(content, uri)

    def check(self, uri: str) -> None:
        """Check as `ObjectStore.check`."""
        return self._get_remote().check(uri) if _is_remote(uri) else super().check(uri)

    def _get_remote(self) -> ObjectStore:
        with self._lock:
            if self._remote is None:
                self._remote = self._open_store()
            return self._remote


def _is_remote(uri: str) -> bool:
    return uri.startswith("s3://")


def copy_objects(
    sources: Iterable[tuple[StoredObject | str, str]], store: ObjectStore, target: Path, ended: threading.Event
) -> int:
    """Copy objects to their paths below a folder; return their number.

    Raises ChannelError for an object that cannot be read, or whose key is not a valid path; JobStoppedError; OSError if
    the folder cannot be written.
    """
    count = 0
    waiting: deque[Future[None]] = deque()
    with ThreadPoolExecutor(_COPY_THREADS, "training-copy") as pool:
        try:
            for source, path in sources:
                if ended.is_set():
                    raise JobStoppedError
                waiting.append(pool.submit(_copy_object, store, source, _resolve_path(target, path, source), ended))
                count += 1
                if len(waiting) > _MAX_WAITING_COPIES:
                    waiting.popleft().result()
            while waiting:
                waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
    return count


def find_local_folder(store: ObjectStore, uri: str) -> Path | None:
    """Return the folder of this machine at an address, None for another address."""
    path = Path(uri)
    return path if isinstance(store, LocalStore) and "://" not in uri and path.is_dir() else None


def _copy_object(store: ObjectStore, source: StoredObject | str, path: Path, ended: threading.Event) -> None:
    uri = source if isinstance(source, str) else source.uri
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise ChannelError(f"{uri}: another object lies at its path, or at a part of it") from error
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise ChannelError(f"{uri}: a part of its key is longer than a file's name may be") from error
        raise
    with os.fdopen(descriptor, "wb", buffering=0) as file, closing(read_object(store, source, ended)) as chunks:
        for chunk in chunks:
            left = memoryview(chunk)
            while left:
                left = left[file.write(left) :]


def _resolve_path(target: Path, path: str, source: StoredObject | str) -> Path:
    parts = [part for part in path.split("/") if part and part != "."]
    if not parts or ".." in parts or "\0" in path:
        uri = source if isinstance(source, str) else source.uri
        raise ChannelError(f"{uri}: its key is not a valid path of a file")
    return target.joinpath(*parts)
