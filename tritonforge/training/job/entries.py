"""The entries of a channel in Pipe mode: objects, or lines of an augmented manifest, kept in a file. An edge.

A channel is listed once, before the program starts: so every epoch has the same entries, whatever happens in S3, a
manifest that is wrong is told at once, and no epoch reads it again. The entries lie on the disk; a shuffle holds 8
bytes of each, and some 100 while it orders them.
"""

from __future__ import annotations

import marshal
import os
import threading
from array import array
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

from tritonforge.errors import ManifestError
from tritonforge.records import frame_recordio
from tritonforge.records.manifest import manifest_uris
from tritonforge.training.job.channel import Channel, S3Data
from tritonforge.training.job.contents import ChannelError, StoppedError, content
from tritonforge.training.manifest import Reference, attribute_names, order, parse, raw_lines, selected
from tritonforge.transform.naming import relative_key
from tritonforge.transform.places import Found, Place, PlaceError

__all__ = ["Entries", "Entry", "Part", "collect", "listing"]

#: Bytes that are read from the file at once, in its order and in another one.
_BUFFER: Final = 1 << 20
_SMALL_BUFFER: Final = 1 << 12

#: A part of an entry: a value as it is written to the pipe, or an object's address, with its size in bytes where it was
#: listed. The address is kept as bytes, since a path is not always text.
Part: TypeAlias = "bytes | tuple[bytes, int | None]"
Entry: TypeAlias = tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Entries:
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
            for index in order(self.count, seed=self.seed, epoch=number):
                file.seek(self.offsets[index])
                yield index + 1, marshal.load(file)  # noqa: S302 - this process wrote it


def collect(channel: Channel, data: S3Data, place: Place, path: Path, ended: threading.Event) -> Entries:
    """List a channel into a file. Raises ChannelError, StoppedError, and OSError where the file cannot be written."""
    seed = None if channel.shuffle is None else channel.shuffle.seed
    offsets: array[int] | None = None if seed is None else array("Q")
    count, offset, is_far = 0, 0, False
    with path.open("wb", buffering=_BUFFER) as file:
        for entry in _entries(channel, data, place, ended):
            if ended.is_set():
                raise StoppedError
            if offsets is not None:
                offsets.append(offset)
            is_far = is_far or any(not isinstance(part, bytes) and b"://" in part[0] for part in entry)
            offset += file.write(marshal.dumps(entry))
            count += 1
    if not count:
        raise ChannelError(f"{data.uri}: there is nothing in it")
    return Entries(path, count, is_far, offsets, seed)


def listing(data: S3Data, place: Place, ended: threading.Event) -> Iterator[tuple[Found | str, str]]:
    """The objects of a prefix, or of a manifest, each with its path below the channel's folder.

    Raises ChannelError where nothing can be listed, or the manifest is wrong.
    """
    try:
        if data.data_type == "ManifestFile":
            with closing(content(place, data.uri, ended)) as chunks:
                for uri, prefix in manifest_uris(chunks):
                    yield uri, relative_key(uri, prefix)
            return
        for found in place.list(data.uri):
            if not (found.uri.endswith("/") and not found.size):  # S3's mark of an empty folder
                yield found, relative_key(found.uri, data.uri)
    except ManifestError as error:
        raise ChannelError(f"{data.uri}: {error}") from error
    except PlaceError as error:
        raise ChannelError(str(error)) from error


def _entries(channel: Channel, data: S3Data, place: Place, ended: threading.Event) -> Iterator[Entry]:
    if data.data_type != "AugmentedManifestFile":
        for found, _ in listing(data, place, ended):
            uri, size = (found, None) if isinstance(found, str) else (found.uri, found.size)
            yield ((os.fsencode(uri), size),)
        return
    is_wrapped = channel.record_wrapper_type == "RecordIO"
    names = attribute_names(data.attribute_names or ())
    try:
        with closing(content(place, data.uri, ended)) as chunks:
            for number, text in raw_lines(chunks):
                parts: list[Part] = []
                for each in selected(parse(text, number), names):
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
