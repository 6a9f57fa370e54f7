"""The entries of a channel in Pipe mode: objects, or lines of an augmented manifest, kept in a file. An edge.

A channel is listed once, before the program starts: so every epoch has the same entries, whatever happens in S3, a
manifest that is wrong is told at once, and no epoch reads it again. The entries lie on the disk; a shuffle holds 8
bytes of each, and some 100 while it orders them.

The stream of an epoch: entries become bytes, fetched ahead by a few threads, in order and bounded. An edge.
"""

from __future__ import annotations

import marshal
import os
import threading
from array import array
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final, TypeAlias

from tritonforge.errors import EncodeError, ManifestError
from tritonforge.records import Buffer, RecordError, frame_recordio, gunzip
from tritonforge.records.manifest import read_manifest_uris
from tritonforge.training.job.objects import ChannelError, JobStoppedError, read_object
from tritonforge.training.job.training_job import Channel, S3Data
from tritonforge.training.manifest import (
    Reference,
    check_attribute_names,
    parse_line,
    select_attributes,
    shuffle_order,
    split_lines,
)
from tritonforge.transform.object_store import ObjectStore, StoredObject, StoreError, build_relative_key

__all__ = ["THREADS", "Ahead", "ChannelIndex", "Entry", "EpochStreams", "Part", "build_index", "list_objects"]

#: Bytes that are read from the file at once, in its order and in another one.
_BUFFER: Final = 1 << 20
_SMALL_BUFFER: Final = 1 << 12

#: A part of an entry: a value as it is written to the pipe, or an object's address, with its size in bytes where it was
#: listed. The address is kept as bytes, since a path is not always text.
Part: TypeAlias = "bytes | tuple[bytes, int | None]"
Entry: TypeAlias = tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class ChannelIndex:
    """The entries of a channel, in a file; ``is_far`` says that some of their objects are in another store."""

    path: Path
    count: int
    is_far: bool
    offsets: array[int] | None
    seed: int | None

    def epoch(self, number: int) -> Iterator[tuple[int, Entry]]:
        """The entries of an epoch, each with its number, counted from 1; in the order of the listing, or shuffled.

        Epochs count from 0. The order of each follows from the seed and its number alone: `manifest.order`.
        """
        with self.path.open("rb", buffering=_BUFFER if self.seed is None else _SMALL_BUFFER) as file:
            if self.seed is None or self.offsets is None:
                for index in range(self.count):
                    yield index + 1, marshal.load(file)  # noqa: S302 - this process wrote it
                return
            for index in shuffle_order(self.count, seed=self.seed, epoch=number):
                file.seek(self.offsets[index])
                yield index + 1, marshal.load(file)  # noqa: S302 - this process wrote it


def build_index(channel: Channel, data: S3Data, place: ObjectStore, path: Path, ended: threading.Event) -> ChannelIndex:
    """List a channel into a file. Raises ChannelError, StoppedError, and OSError where the file cannot be written."""
    seed = None if channel.shuffle is None else channel.shuffle.seed
    offsets: array[int] | None = None if seed is None else array("Q")
    count, offset, is_far = 0, 0, False
    with path.open("wb", buffering=_BUFFER) as file:
        for entry in _entries(channel, data, place, ended):
            if ended.is_set():
                raise JobStoppedError
            if offsets is not None:
                offsets.append(offset)
            is_far = is_far or any(not isinstance(part, bytes) and b"://" in part[0] for part in entry)
            offset += file.write(marshal.dumps(entry))
            count += 1
    if not count:
        raise ChannelError(f"{data.uri}: there is nothing in it")
    return ChannelIndex(path, count, is_far, offsets, seed)


def list_objects(data: S3Data, place: ObjectStore, ended: threading.Event) -> Iterator[tuple[StoredObject | str, str]]:
    """The objects of a prefix, or of a manifest, each with its path below the channel's folder.

    Raises ChannelError where nothing can be listed, or the manifest is wrong.
    """
    try:
        if data.data_type == "ManifestFile":
            with closing(read_object(place, data.uri, ended)) as chunks:
                for uri, prefix in read_manifest_uris(chunks):
                    yield uri, build_relative_key(uri, prefix)
            return
        for found in place.list(data.uri):
            if not (found.uri.endswith("/") and not found.size):  # S3's mark of an empty folder
                yield found, build_relative_key(found.uri, data.uri)
    except ManifestError as error:
        raise ChannelError(f"{data.uri}: {error}") from error
    except StoreError as error:
        raise ChannelError(str(error)) from error


def _entries(channel: Channel, data: S3Data, place: ObjectStore, ended: threading.Event) -> Iterator[Entry]:
    if data.data_type != "AugmentedManifestFile":
        for found, _ in list_objects(data, place, ended):
            uri, size = (found, None) if isinstance(found, str) else (found.uri, found.size)
            yield ((os.fsencode(uri), size),)
        return
    is_wrapped = channel.record_wrapper_type == "RecordIO"
    names = check_attribute_names(data.attribute_names or ())
    try:
        with closing(read_object(place, data.uri, ended)) as chunks:
            for number, text in split_lines(chunks):
                parts: list[Part] = []
                for each in select_attributes(parse_line(text, number), names):
                    if isinstance(each, Reference):
                        parts.append((os.fsencode(_resolved(each.uri, data.uri)), None))
                    else:
                        parts.append(frame_recordio(each.data) if is_wrapped else each.data)
                yield tuple(parts)
    except ManifestError as error:
        raise ChannelError(f"{data.uri}: {error}") from error


def _resolved(reference: str, manifest: str) -> str:
    """The address of a reference of a manifest; on this machine it may be a path from the manifest's folder on.

    >>> _resolved("s3://b/1.jpg", "in/a.manifest"), _resolved("images/1.jpg", "in/a.manifest")
    ('s3://b/1.jpg', 'in/images/1.jpg')
    """
    if "://" in reference or "://" in manifest:
        return reference
    return os.path.join(os.path.dirname(manifest), reference)  # noqa: PTH118, PTH120 - the address as it is written


#: Entries that are fetched at once, and entries that wait to be written.
THREADS: Final = 8
_WAITING: Final = 16

#: Bytes of an entry that are fetched ahead; the rest of a larger one is read while it is written.
_AHEAD: Final = 4 << 20

#: The beginning of an entry, and what gives the rest of it, None where there is none.
_Begun: TypeAlias = "tuple[list[Buffer], Generator[Buffer, None, None] | None]"
#: The same, and whether the next entry can be had without waiting for it.
Ahead: TypeAlias = "tuple[list[Buffer], Generator[Buffer, None, None] | None, bool]"


@dataclass(frozen=True, slots=True)
class EpochStreams:
    """The epochs of a channel: its entries as bytes, wrapped and decompressed as the channel says."""

    channel: Channel
    data: S3Data
    entries: ChannelIndex
    place: ObjectStore
    ended: threading.Event

    def stream(self, number: int, pool: ThreadPoolExecutor | None) -> Generator[Ahead, None, None]:
        """What is written in an epoch, an entry at a time; without a pool nothing is fetched ahead.

        Raises ChannelError, which names the entry, after everything before it was given out; StoppedError.
        """
        entries = self.entries.epoch(number)
        if pool is None:
            for entry in entries:
                pieces, rest = _ahead(self._pieces(*entry))
                yield pieces, rest, rest is None
            return
        waiting: deque[Future[_Begun]] = deque()
        try:
            while True:
                for entry in islice(entries, _WAITING - len(waiting)):
                    waiting.append(pool.submit(_ahead, self._pieces(*entry)))
                if not waiting:
                    return
                pieces, rest = waiting.popleft().result()
                yield pieces, rest, rest is None and bool(waiting) and waiting[0].done()
        finally:
            for future in waiting:
                future.cancel()

    def _pieces(self, number: int, entry: Entry) -> Generator[Buffer, None, None]:
        """One entry as it is written: each object or value whole where it is wrapped, else as it is read."""
        for part in entry:
            if isinstance(part, bytes):
                yield part
                continue
            uri, size = os.fsdecode(part[0]), part[1]
            try:
                yield from self._object(uri if size is None else StoredObject(uri, size, ""))
            except ChannelError as error:
                if self.data.data_type == "AugmentedManifestFile":
                    raise ChannelError(f"{self.data.uri}: line {number}: {error}") from error
                raise

    def _object(self, found: StoredObject | str) -> Iterator[Buffer]:
        with closing(read_object(self.place, found, self.ended)) as chunks:
            try:
                read: Iterator[Buffer] = gunzip(chunks) if self.channel.compression_type == "Gzip" else chunks
                if not self._is_wrapped:
                    yield from read
                    return
                pieces = list(read)
                yield frame_recordio(pieces[0] if len(pieces) == 1 else b"".join(pieces))
            except (RecordError, EncodeError) as error:
                raise ChannelError(f"{found if isinstance(found, str) else found.uri}: {error}") from error

    @property
    def _is_wrapped(self) -> bool:
        return self.channel.record_wrapper_type == "RecordIO"


def _ahead(pieces: Generator[Buffer, None, None]) -> _Begun:
    """Take the beginning of an entry."""
    taken: list[Buffer] = []
    size = 0
    for piece in pieces:
        taken.append(piece)
        size += len(piece)
        if size >= _AHEAD:
            return taken, pieces
    return taken, None
