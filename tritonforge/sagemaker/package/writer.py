"""The writer of packages: a repository becomes a ``model.tar.gz`` that has the same bytes wherever it is made.

The archive is what the `serve` script of SageMaker's Triton images expects in /opt/ml/model: the model directories at
its top, sorted, without times and owners. Which files are executable follows from their content (an ELF program or a
``#!`` line), so that the digest of paths and contents identifies everything about it.

The gzip member is compressed in blocks on all cores. Each block is compressed on its own, with the 32 KiB before it as
the dictionary, and ends on a byte (a sync flush), so that the joined blocks are one deflate stream. The bytes of a
block depend on its content, those 32 KiB and its place in the stream only, so they are the same on any number of cores.

Weights are noise to any compressor: igzip's fastest level finds in them what `gzip` finds, at twenty times its speed.
Text and graphs differ: `gzip` makes a fifth less of them. So the compressible blocks at the beginning of the stream are
compressed with zlib as well, as `gzip` does, and the smaller result is kept; later, speed counts for more.
"""

from __future__ import annotations

import hashlib
import os
import struct
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType
from typing import IO, Any, Final

from tritonforge.errors import MissingExtraError, PackageError
from tritonforge.files import describe_error, replace_file
from tritonforge.sagemaker.package.contents import (
    Contents,
    Item,
    OnBytes,
    compute_digest,
    list_package,
    read_recorded_hashes,
)

__all__ = ["Gzip", "Package", "pack", "write_package"]

#: Bytes compressed at a time. Larger blocks gain nothing (0.03 % from 1 MiB to 2 MiB) and cost memory.
_GZIP_BLOCK: Final = 1 << 20
#: Bytes passed to a compressor at a time: results of this size reuse memory, larger ones need fresh pages of the
#: system, which costs a quarter of the time.
_PIECE: Final = 1 << 17
#: How far back deflate refers (RFC 1951, 2).
_WINDOW: Final = 1 << 15
#: Eight workers compress 5 GB/s, several times what one thread reads and hashes. Memory is needed for the blocks in
#: progress, each with its result: one per worker, and those that wait.
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


def load_igzip() -> Any:
    """Import ``isal.isal_zlib``; raises MissingExtraError if it is not installed."""
    try:
        from isal import isal_zlib
    except ImportError as error:
        raise MissingExtraError("isal", extra="aws") from error
    return isal_zlib


@dataclass(frozen=True, slots=True)
class _Block:
    """One block: a buffer with the window before it and its bytes, their number, and the block's index."""

    buffer: bytearray
    size: int
    number: int


class Gzip:
    """A gzip member that is written to ``sink``: fill `space`, pass the number of bytes to `advance`, then `finish`.

    Memory is bounded by the number of workers, not by what is written.
    """

    def __init__(self, sink: IO[bytes], *, workers: int | None = None) -> None:
        """``workers`` is the number of threads that compress; None means one for each core of this process."""
        load_igzip()
        wanted = len(os.sched_getaffinity(0)) if workers is None else workers
        count = min(wanted, _MAXIMAL_WORKERS)
        self._sink = sink
        self._compressors = ThreadPoolExecutor(count)
        self._writer = ThreadPoolExecutor(1)
        self._failure: BaseException | None = None
        self._free: SimpleQueue[bytearray] = SimpleQueue()
        for _ in range(count + _WAITING):
            self._free.put(bytearray(_WINDOW + _GZIP_BLOCK))
        self._buffer = bytearray(_WINDOW + _GZIP_BLOCK)
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
        """Return the buffer for the next bytes; it is never empty."""
        return memoryview(self._buffer)[_WINDOW + self._filled :]

    def advance(self, size: int) -> None:
        """Take the first bytes of `space` as filled."""
        self._filled += size
        if self._filled == _GZIP_BLOCK:
            self._submit()

    def write(self, data: bytes) -> None:
        """Write bytes."""
        rest = memoryview(data)
        while rest:
            space = self.space()
            size = min(len(space), len(rest))
            space[:size] = rest[:size]
            self.advance(size)
            rest = rest[size:]

    def finish(self) -> None:
        """Compress the rest, and end the member."""
        if self._filled:
            self._submit()
        self._writer.shutdown(wait=True)
        self._check()
        self._write(_END + struct.pack("<II", self._crc, self._size & 0xFFFFFFFF))

    def _submit(self) -> None:
        """Pass the filled buffer on; wait for a free one if all are in use."""
        block = _Block(self._buffer, self._filled, self._blocks)
        following = self._free.get()
        self._check()
        following[:_WINDOW] = memoryview(block.buffer)[-_WINDOW:]
        self._writer.submit(self._put, block, self._compressors.submit(_compress, block))
        self._buffer, self._filled = following, 0
        self._blocks += 1

    def _put(self, block: _Block, compressed: Future[tuple[list[bytes], int]]) -> None:
        """Write a block after the one before it."""
        try:
            deflated, crc = compressed.result()
            if self._failure is None:
                for piece in deflated:
                    self._write(piece)
                self._crc = load_igzip().crc32_combine(self._crc, crc, block.size)
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


def _compress(block: _Block) -> tuple[list[bytes], int]:
    """Return a block as a part of a deflate stream that ends on a byte, in pieces, and the CRC-32 of its bytes."""
    codec = load_igzip()
    whole = memoryview(block.buffer)
    window = whole[:_WINDOW] if block.number else whole[:0]
    data = whole[_WINDOW : _WINDOW + block.size]
    deflated = _deflate(codec, _IGZIP_LEVEL, data, window)
    compressible = _count_bytes(deflated) < _COMPRESSIBLE * block.size
    if block.number < _ALWAYS_TWICE or (compressible and block.number < _PERHAPS_TWICE):
        deflated = min(deflated, _deflate(zlib, _ZLIB_LEVEL, data, window), key=_count_bytes)
    return deflated, codec.crc32(data)


def _deflate(codec: Any, level: int, data: memoryview, window: memoryview) -> list[bytes]:
    arguments = (level, codec.DEFLATED, -15, _MEMORY_LEVEL, codec.Z_DEFAULT_STRATEGY)
    compressor = codec.compressobj(*arguments, window) if window else codec.compressobj(*arguments)
    pieces = [compressor.compress(data[at : at + _PIECE]) for at in range(0, len(data), _PIECE)]
    return [*pieces, compressor.flush(codec.Z_SYNC_FLUSH)]


def _count_bytes(pieces: list[bytes]) -> int:
    return sum(len(piece) for piece in pieces)


_TAR_BLOCK: Final = tarfile.BLOCKSIZE
_FILE_MODE: Final = 0o644
_PROGRAM_MODE: Final = 0o755
_DIRECTORY_MODE: Final = 0o755
#: How an executable file begins: execve(2), "Executable formats".
_PROGRAMS: Final = (b"\x7fELF", b"#!")


@dataclass(frozen=True, slots=True)
class Package:
    """A written archive: its path, the digest of its content (``sha256:...``), and its own size in bytes.

    ``files`` has the sizes of the files in it by path, ``left_out`` what of the repository is not in it.
    """

    path: Path
    digest: str
    size: int
    files: Mapping[str, int]
    left_out: tuple[str, ...] = ()

    @property
    def contents(self) -> Contents:
        """The content of the package."""
        return Contents(self.files, self.digest, self.left_out)


def pack(folder: Path, destination: Path) -> None:
    """Write a directory as it is, with hidden files and empty directories, such as /opt/ml/model of a training job.

    Raises as `write_package`.
    """
    write_package(folder, destination, everything=True)


def write_package(
    repository: Path,
    destination: Path,
    *,
    dereference: bool = False,
    everything: bool = False,
    workers: int | None = None,
    on_progress: OnBytes | None = None,
) -> Package:
    """Write the package of a repository, all of it or nothing; `check_package` reports whether an image can serve it.

    Args:
        repository: the directory.
        destination: the archive; it lies outside of the repository.
        dereference: include the targets of links that lead out of the repository.
        everything: leave nothing of the directory out.
        workers: the number of threads that compress; the archive does not depend on it.
        on_progress: called with the bytes of the files that are done, and of all files.

    Raises:
        PackageError: as `read_contents`, or a file changed while it was read, or the archive cannot be written.
        MissingExtraError: isal is not installed.
    """
    listed = list_package(repository, dereference=dereference, everything=everything)
    directory, root = os.path.realpath(destination.parent), os.path.realpath(repository)
    if directory == root or directory.startswith(f"{root}/"):
        raise PackageError(f"{destination}: it lies inside the repository; name a file outside of it")
    if destination.exists() and not destination.is_file():
        raise PackageError(f"{destination}: not a file; name the archive to write, for example model.tar.gz")
    # Files that were not changed since a build hashed them are not hashed again.
    known = read_recorded_hashes(repository, listed.files, untouched=True)
    hashes: dict[str, str] = {}
    try:
        # A package can be made again, so it is not forced to the disk.
        with replace_file(destination, sync=False) as sink:
            with Gzip(sink, workers=workers) as stream:
                archive = _Archive(stream, sum(item.size for item in listed.files), known, on_progress)
                for item in listed.items:
                    if item.kind == "directory":
                        stream.write(_build_header(item, _DIRECTORY_MODE))
                    else:
                        hashes[item.path] = archive.add_file(item)
                stream.write(bytes(2 * _TAR_BLOCK))
                stream.finish()
            size = sink.tell()
    except OSError as error:
        raise PackageError(f"{destination}: cannot write: {describe_error(error)}") from error
    sizes = {item.path: item.size for item in listed.files}
    return Package(destination, compute_digest(hashes, listed.bare), size, sizes, listed.left_out)


class _Archive:
    """The archive while it is written."""

    def __init__(self, stream: Gzip, total: int, known: Mapping[str, str], on_progress: OnBytes | None) -> None:
        self._stream, self._total, self._known, self._on_progress = stream, total, known, on_progress
        self._done = 0

    def add_file(self, item: Item) -> str:
        """Write a file with its header, and return the SHA-256 of its content."""
        with _open_source(item) as file:
            with _map_read_errors(item):
                _check_unchanged(item, file)
                is_program = os.pread(file.fileno(), 4, 0).startswith(_PROGRAMS)
            self._stream.write(_build_header(item, _PROGRAM_MODE if is_program else _FILE_MODE))
            sha256 = self._add_content(item, file)
            with _map_read_errors(item):
                _check_unchanged(item, file)
        self._stream.write(bytes(-item.size % _TAR_BLOCK))
        return sha256

    def _add_content(self, item: Item, file: FileIO) -> str:
        known = self._known.get(item.path)
        digest = hashlib.sha256()
        left = item.size
        while left:
            space = self._stream.space()[:left]
            with _map_read_errors(item):
                size = file.readinto(space)
            if not size:
                raise _build_change_error(item)
            if known is None:
                digest.update(space[:size])
            self._stream.advance(size)
            left -= size
            self._done += size
            if self._on_progress is not None:
                self._on_progress(self._done, self._total)
        return digest.hexdigest() if known is None else known


def _open_source(item: Item) -> FileIO:
    with _map_read_errors(item):
        return Path(item.source).open("rb", buffering=0)


@contextmanager
def _map_read_errors(item: Item) -> Iterator[None]:
    """Raise errors of reading as PackageError of the file; those of writing concern the destination."""
    try:
        yield
    except OSError as error:
        raise PackageError(f"{item.source}: cannot read: {describe_error(error)}") from error


def _build_header(item: Item, mode: int) -> bytes:
    """Return the headers of a directory or file; a name that is too long for ustar comes with a pax header."""
    info = tarfile.TarInfo(item.path)
    info.type = tarfile.DIRTYPE if item.kind == "directory" else tarfile.REGTYPE
    info.size, info.mode = item.size, mode
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict")


def _check_unchanged(item: Item, file: FileIO) -> None:
    status = os.fstat(file.fileno())
    if (status.st_size, status.st_mtime_ns) != (item.size, item.mtime_ns):
        raise _build_change_error(item)


def _build_change_error(item: Item) -> PackageError:
    return PackageError(f"{item.source}: it changed while it was packaged; run this again when nothing writes to it")
