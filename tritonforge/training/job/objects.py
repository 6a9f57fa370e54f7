"""Objects of a training job: copied to files (File mode), or the epochs of a channel as streams (Pipe mode). An edge.

They are read with retries, from S3 or this machine. An entry of an epoch is an object or a line of an augmented
manifest. A channel is listed once, into a file, before the program starts: every epoch has the same entries, whatever
happens in S3, an invalid manifest is reported at once, and no epoch reads it again. The entries are on the disk; a
shuffle needs 8 bytes of memory per entry, and about 100 while it sorts them.
"""

from __future__ import annotations

import errno
import marshal
import os
import threading
from array import array
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final, TypeAlias

from tritonforge.errors import EncodeError, ManifestError, TritonForgeError
from tritonforge.records import Buffer, RecordError, frame_recordio, gunzip
from tritonforge.records.manifest import read_manifest_uris
from tritonforge.training.job.training_job import Channel, S3Data
from tritonforge.training.manifest import (
    Reference,
    check_attribute_names,
    parse_line,
    select_attributes,
    shuffle_order,
    split_lines,
)
from tritonforge.transform.object_store import LocalStore, ObjectStore, StoredObject, StoreError, build_relative_key

__all__ = [
    "THREADS", "Ahead", "ChannelError", "ChannelIndex", "Entry", "EpochStreams", "JobStoppedError", "Part",
    "SchemeStore", "build_index", "copy_objects", "find_local_folder", "list_objects", "read_object",
]  # fmt: skip

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


#: Bytes that are read from the file at once, in its order and in another one.
_BUFFER: Final = 1 << 20
_SMALL_BUFFER: Final = 1 << 12

#: Entries that are fetched at the same time, and entries that wait to be written.
THREADS: Final = 8
_MAX_WAITING: Final = 16

#: Bytes of an entry that are fetched ahead; the rest of a larger one is read while it is written.
_MAX_AHEAD: Final = 4 << 20

#: A part of an entry: a value as it is written to the pipe, or an object's address, with its size in bytes if it was
#: listed. The address is bytes, since a path need not be text.
Part: TypeAlias = "bytes | tuple[bytes, int | None]"
Entry: TypeAlias = tuple[Part, ...]

#: The first buffers of an entry, and a generator of the others, None if these are all.
_Begun: TypeAlias = "tuple[list[Buffer], Generator[Buffer, None, None] | None]"
#: The same, and True if the next entry is available without a wait.
Ahead: TypeAlias = "tuple[list[Buffer], Generator[Buffer, None, None] | None, bool]"


@dataclass(frozen=True, slots=True)
class ChannelIndex:
    """The entries of a channel, in a file; ``is_remote`` is True if some of their objects are in another store."""

    path: Path
    count: int
    is_remote: bool
    offsets: array[int] | None
    seed: int | None

    def read_epoch(self, number: int) -> Iterator[tuple[int, Entry]]:
        """Yield the entries of an epoch with their numbers, counted from 1, in the order of the listing or shuffled.

        Epochs are counted from 0. The order depends on the seed and the epoch alone: `shuffle_order`.
        """
        with self.path.open("rb", buffering=_BUFFER if self.seed is None else _SMALL_BUFFER) as file:
            if self.seed is None or self.offsets is None:
                for index in range(self.count):
                    yield index + 1, marshal.load(file)  # noqa: S302 - this process wrote it
                return
            for index in shuffle_order(self.count, seed=self.seed, epoch=number):
                file.seek(self.offsets[index])
                yield index + 1, marshal.load(file)  # noqa: S302 - this process wrote it


def build_index(channel: Channel, data: S3Data, store: ObjectStore, path: Path, ended: threading.Event) -> ChannelIndex:
    """List a channel into a file. Raises ChannelError, JobStoppedError, and OSError if the file cannot be written."""
    seed = None if channel.shuffle is None else channel.shuffle.seed
    offsets: array[int] | None = None if seed is None else array("Q")
    count, offset, is_remote = 0, 0, False
    with path.open("wb", buffering=_BUFFER) as file:
        for entry in _list_entries(channel, data, store, ended):
            if ended.is_set():
                raise JobStoppedError
            if offsets is not None:
                offsets.append(offset)
            is_remote = is_remote or any(not isinstance(part, bytes) and b"://" in part[0] for part in entry)
            offset += file.write(marshal.dumps(entry))
            count += 1
    if not count:
        raise ChannelError(f"{data.uri}: it is empty")
    return ChannelIndex(path, count, is_remote, offsets, seed)


def list_objects(data: S3Data, store: ObjectStore, ended: threading.Event) -> Iterator[tuple[StoredObject | str, str]]:
    """Yield the objects of a prefix or a manifest, with their paths relative to the channel's folder.

    Raises ChannelError if nothing can be listed, or the manifest is invalid.
    """
    try:
        if data.data_type == "ManifestFile":
            with closing(read_object(store, data.uri, ended)) as chunks:
                for uri, prefix in read_manifest_uris(chunks):
                    yield uri, build_relative_key(uri, prefix)
            return
        for stored in store.list(data.uri):
            if not (stored.uri.endswith("/") and not stored.size):  # S3's marker of an empty folder
                yield stored, build_relative_key(stored.uri, data.uri)
    except ManifestError as error:
        raise ChannelError(f"{data.uri}: {error}") from error
    except StoreError as error:
        raise ChannelError(str(error)) from error


def _list_entries(channel: Channel, data: S3Data, store: ObjectStore, ended: threading.Event) -> Iterator[Entry]:
    if data.data_type != "AugmentedManifestFile":
        for source, _ in list_objects(data, store, ended):
            uri, size = (source, None) if isinstance(source, str) else (source.uri, source.size)
            yield ((os.fsencode(uri), size),)
        return
    is_wrapped = channel.record_wrapper_type == "RecordIO"
    names = check_attribute_names(data.attribute_names or ())
    try:
        with closing(read_object(store, data.uri, ended)) as chunks:
            for number, text in split_lines(chunks):
                parts: list[Part] = []
                for attribute in select_attributes(parse_line(text, number), names):
                    if isinstance(attribute, Reference):
                        parts.append((os.fsencode(_resolve_reference(attribute.uri, data.uri)), None))
                    else:
                        parts.append(frame_recordio(attribute.data) if is_wrapped else attribute.data)
                yield tuple(parts)
    except ManifestError as error:
        raise ChannelError(f"{data.uri}: {error}") from error


def _resolve_reference(reference: str, manifest: str) -> str:
    """Return the address of a reference; on this machine it may be a path relative to the manifest's folder.

    >>> _resolve_reference("s3://b/1.jpg", "in/a.manifest"), _resolve_reference("images/1.jpg", "in/a.manifest")
    ('s3://b/1.jpg', 'in/images/1.jpg')
    """
    if "://" in reference or "://" in manifest:
        return reference
    return os.path.join(os.path.dirname(manifest), reference)  # noqa: PTH118, PTH120 - the address as it is written


@dataclass(frozen=True, slots=True)
class EpochStreams:
    """The streams of a channel's epochs: its entries as bytes, fetched ahead by a few threads, in order and bounded."""

    channel: Channel
    data: S3Data
    index: ChannelIndex
    store: ObjectStore
    ended: threading.Event

    def stream(self, number: int, pool: ThreadPoolExecutor | None) -> Generator[Ahead, None, None]:
        """Yield the bytes of an epoch, one entry at a time; without a pool nothing is fetched ahead.

        Raises ChannelError, which names the entry, after everything before it was yielded; JobStoppedError.
        """
        entries = self.index.read_epoch(number)
        if pool is None:
            for entry in entries:
                pieces, rest = _read_ahead(self._read_entry(*entry))
                yield pieces, rest, rest is None
            return
        waiting: deque[Future[_Begun]] = deque()
        try:
            while True:
                for entry in islice(entries, _MAX_WAITING - len(waiting)):
                    waiting.append(pool.submit(_read_ahead, self._read_entry(*entry)))
                if not waiting:
                    return
                pieces, rest = waiting.popleft().result()
                yield pieces, rest, rest is None and bool(waiting) and waiting[0].done()
        finally:
            for future in waiting:
                future.cancel()

    def _read_entry(self, number: int, entry: Entry) -> Generator[Buffer, None, None]:
        """Yield the bytes of an entry: each object or value in one piece if it is wrapped, else as it is read."""
        for part in entry:
            if isinstance(part, bytes):
                yield part
                continue
            uri, size = os.fsdecode(part[0]), part[1]
            try:
                yield from self._read_object(uri if size is None else StoredObject(uri, size, ""))
            except ChannelError as error:
                if self.data.data_type == "AugmentedManifestFile":
                    raise ChannelError(f"{self.data.uri}: line {number}: {error}") from error
                raise

    def _read_object(self, source: StoredObject | str) -> Iterator[Buffer]:
        with closing(read_object(self.store, source, self.ended)) as chunks:
            try:
                content: Iterator[Buffer] = gunzip(chunks) if self.channel.compression_type == "Gzip" else chunks
                if self.channel.record_wrapper_type != "RecordIO":
                    yield from content
                    return
                pieces = list(content)
                yield frame_recordio(pieces[0] if len(pieces) == 1 else b"".join(pieces))
            except (RecordError, EncodeError) as error:
                raise ChannelError(f"{source if isinstance(source, str) else source.uri}: {error}") from error


def _read_ahead(pieces: Generator[Buffer, None, None]) -> _Begun:
    """Read the beginning of an entry."""
    beginning: list[Buffer] = []
    size = 0
    for piece in pieces:
        beginning.append(piece)
        size += len(piece)
        if size >= _MAX_AHEAD:
            return beginning, pieces
    return beginning, None
