"""The compression of an archive: one gzip member, made in blocks on all cores, the same bytes on any number of them.

Each block is compressed for itself, with the 32 KiB before it as the dictionary, and ends on a byte (a sync flush), so
that the blocks joined are one deflate stream. Which bytes a block becomes follows from its own bytes, those 32 KiB and
its place in the stream alone.

Weights are noise to any compressor: igzip's fastest level finds in them what `gzip` finds, at twenty times its speed.
Text and graphs are another matter, there `gzip` makes a fifth less of them. So the blocks at the beginning of the
stream that turn out to be compressible are compressed with zlib as well, as `gzip` does, and the smaller one is kept;
further on speed counts for more.
"""

from __future__ import annotations

import os
import struct
import zlib
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from io import RawIOBase
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Final

from tritonforge.sagemaker.package.igzip import igzip

__all__ = ["Gzip"]

#: Bytes compressed at a time. Larger blocks gain nothing (0.03 % from 1 MiB to 2 MiB) and cost memory.
_BLOCK: Final = 1 << 20
#: Bytes handed to a compressor at a time: results of this size come from memory that is at hand, larger ones from fresh
#: pages of the system, which costs a quarter of the time.
_PIECE: Final = 1 << 17
#: How far back deflate refers (RFC 1951, 2).
_WINDOW: Final = 1 << 15
#: Eight workers compress 5 GB/s, several times what one thread reads and digests. Memory is needed for the blocks under
#: way, each with its result: one a worker, and those that wait.
_MAXIMAL_WORKERS: Final = 8
_WAITING: Final = 4

_IGZIP_LEVEL: Final = 1
_ZLIB_LEVEL: Final = 6  # gzip's own default
#: zlib's default. One more makes igzip faster by 6 %, and takes 3 MB more for each worker.
_MEMORY_LEVEL: Final = 8

#: Blocks from the beginning of the stream that are always tried with zlib too, and those that are when compressible.
_ALWAYS_TWICE: Final = 1
_PERHAPS_TWICE: Final = 16
_COMPRESSIBLE: Final = 0.7

#: RFC 1952, 2.3: deflate, no name, no time, no operating system.
_HEADER: Final = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
#: An empty final block, fixed codes.
_END: Final = b"\x03\x00"


@dataclass(frozen=True, slots=True)
class _Block:
    """One block: the window before it and its bytes in one buffer, how many they are, and which of all it is."""

    buffer: bytearray
    size: int
    number: int


class Gzip:
    """A gzip member that is written to ``sink``: fill `space`, tell how much with `advance`, and `finish`.

    Memory is bounded by the number of workers, not by what is written.
    """

    def __init__(self, sink: RawIOBase, *, workers: int | None = None) -> None:
        """``workers`` is the number of threads that compress; left out, one for each core of this process."""
        igzip()
        wanted = len(os.sched_getaffinity(0)) if workers is None else workers
        count = min(wanted, _MAXIMAL_WORKERS)
        self._sink = sink
        self._compressors = ThreadPoolExecutor(count)
        self._writer = ThreadPoolExecutor(1)
        self._failure: BaseException | None = None
        self._free: SimpleQueue[bytearray] = SimpleQueue()
        for _ in range(count + _WAITING):
            self._free.put(bytearray(_WINDOW + _BLOCK))
        self._buffer = bytearray(_WINDOW + _BLOCK)
        self._filled = self._blocks = self._crc = self._size = 0
        self._write(_HEADER)

    def __enter__(self) -> Gzip:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._compressors.shutdown(wait=True, cancel_futures=True)
        self._writer.shutdown(wait=True, cancel_futures=True)

    def space(self) -> memoryview:
        """Where the next bytes may be put: never empty."""
        return memoryview(self._buffer)[_WINDOW + self._filled :]

    def advance(self, size: int) -> None:
        """So many bytes of `space` are filled."""
        self._filled += size
        if self._filled == _BLOCK:
            self._submit()

    def write(self, data: bytes) -> None:
        """Put these bytes."""
        rest = memoryview(data)
        while rest:
            space = self.space()
            size = min(len(space), len(rest))
            space[:size] = rest[:size]
            self.advance(size)
            rest = rest[size:]

    def finish(self) -> None:
        """Compress what is left, and end the member."""
        if self._filled:
            self._submit()
        self._writer.shutdown(wait=True)
        self._check()
        self._write(_END + struct.pack("<II", self._crc, self._size & 0xFFFFFFFF))

    def _submit(self) -> None:
        """Hand the filled buffer on; where all buffers are under way, wait for one."""
        block = _Block(self._buffer, self._filled, self._blocks)
        following = self._free.get()
        self._check()
        following[:_WINDOW] = memoryview(block.buffer)[-_WINDOW:]
        self._writer.submit(self._put, block, self._compressors.submit(_compressed, block))
        self._buffer, self._filled = following, 0
        self._blocks += 1

    def _put(self, block: _Block, compressed: Future[tuple[list[bytes], int]]) -> None:
        """Write a block behind the one before it."""
        try:
            deflated, crc = compressed.result()
            if self._failure is None:
                for piece in deflated:
                    self._write(piece)
                self._crc = igzip().crc32_combine(self._crc, crc, block.size)
                self._size += block.size
        except BaseException as error:  # whatever it is, the thread that fills buffers raises it
            self._failure = error
        finally:
            self._free.put(block.buffer)

    def _write(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[self._sink.write(rest) :]

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure


def _compressed(block: _Block) -> tuple[list[bytes], int]:
    """A block as a part, in pieces, of a deflate stream that ends on a byte, and the CRC-32 of what it holds."""
    codec = igzip()
    whole = memoryview(block.buffer)
    window = whole[:_WINDOW] if block.number else whole[:0]
    data = whole[_WINDOW : _WINDOW + block.size]
    deflated = _deflated(codec, _IGZIP_LEVEL, data, window)
    compressible = _length(deflated) < _COMPRESSIBLE * block.size
    if block.number < _ALWAYS_TWICE or (compressible and block.number < _PERHAPS_TWICE):
        deflated = min(deflated, _deflated(zlib, _ZLIB_LEVEL, data, window), key=_length)
    return deflated, codec.crc32(data)


def _deflated(codec: Any, level: int, data: memoryview, window: memoryview) -> list[bytes]:
    arguments = (level, codec.DEFLATED, -15, _MEMORY_LEVEL, codec.Z_DEFAULT_STRATEGY)
    compressor = codec.compressobj(*arguments, window) if window else codec.compressobj(*arguments)
    pieces = [compressor.compress(data[at : at + _PIECE]) for at in range(0, len(data), _PIECE)]
    return [*pieces, compressor.flush(codec.Z_SYNC_FLUSH)]


def _length(pieces: list[bytes]) -> int:
    return sum(len(piece) for piece in pieces)
