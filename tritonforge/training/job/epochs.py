"""The stream of an epoch: entries become bytes, fetched ahead by a few threads, in order and bounded. An edge."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import Final, TypeAlias

from tritonforge.errors import EncodeError
from tritonforge.records import Buffer, RecordError, frame_recordio, gunzip
from tritonforge.training.job.channel import Channel, S3Data
from tritonforge.training.job.contents import ChannelError, content
from tritonforge.training.job.entries import Entries, Entry
from tritonforge.transform.places import Found, Place

__all__ = ["THREADS", "Ahead", "Epochs"]

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
class Epochs:
    """The epochs of a channel: its entries as bytes, wrapped and decompressed as the channel says."""

    channel: Channel
    data: S3Data
    entries: Entries
    place: Place
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
                yield from self._object(uri if size is None else Found(uri, size, ""))
            except ChannelError as error:
                if self.data.data_type == "AugmentedManifestFile":
                    raise ChannelError(f"{self.data.uri}: line {number}: {error}") from error
                raise

    def _object(self, found: Found | str) -> Iterator[Buffer]:
        with closing(content(self.place, found, self.ended)) as chunks:
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
