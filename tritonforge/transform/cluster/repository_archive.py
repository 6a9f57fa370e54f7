"""A model repository that travels to nodes that do not see it: a tar in chunks, unpacked once on each node."""

from __future__ import annotations

import hashlib
import shutil
import tarfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Final, cast

from tritonforge.errors import LaunchError
from tritonforge.files import cache_directory, describe_error, lock_file

__all__ = ["ARCHIVE_CHUNK", "unpack_repository", "write_archive"]

#: Bytes of a chunk: large beside what a call costs, small beside the memory of a node.
ARCHIVE_CHUNK: Final = 8 << 20

#: Seconds between two looks at whether another worker has unpacked the same archive.
_PERIOD: Final = 0.2


class _ChunkWriter:
    """A file that passes on what is written in chunks, and hashes it."""

    def __init__(self, on_chunk: Callable[[bytes], None]) -> None:
        self._on_chunk = on_chunk
        self._buffer = bytearray()
        self.digest = hashlib.sha256()

    def write(self, content: bytes) -> int:
        self.digest.update(content)
        self._buffer += content
        while len(self._buffer) >= ARCHIVE_CHUNK:
            self._on_chunk(bytes(self._buffer[:ARCHIVE_CHUNK]))
            del self._buffer[:ARCHIVE_CHUNK]
        return len(content)

    def flush_rest(self) -> None:
        if self._buffer:
            self._on_chunk(bytes(self._buffer))
            self._buffer.clear()


class _ChunkReader:
    """A file of chunks, which hashes what is read."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._buffer = b""
        self.digest = hashlib.sha256()

    def read(self, size: int) -> bytes:
        while len(self._buffer) < size and (chunk := next(self._chunks, None)) is not None:
            self.digest.update(chunk)
            self._buffer += chunk
        content, self._buffer = self._buffer[:size], self._buffer[size:]
        return content


def write_archive(repository: Path, on_chunk: Callable[[bytes], None]) -> str:
    """Pass a directory as a tar to ``on_chunk``, piece by piece, and return the SHA-256 of it. Links are followed.

    Raises:
        OSError: a file cannot be read.
    """
    writer = _ChunkWriter(on_chunk)
    with tarfile.open(fileobj=cast("IO[bytes]", writer), mode="w|", dereference=True) as archive:
        for path in sorted(repository.rglob("*")):
            if path.is_file() or path.is_dir():
                archive.add(path, path.relative_to(repository).as_posix(), recursive=False)
    writer.flush_rest()
    return writer.digest.hexdigest()


def unpack_repository(digest: str, chunks: Iterable[bytes]) -> Path:
    """Return the directory of an archive in this node's cache; ``chunks`` are read only if it is not there yet.

    Raises:
        LaunchError: the archive is damaged or the cache cannot be written.
    """
    target = cache_directory() / "transform-models" / digest
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.with_suffix(".lock").open("w") as lock:
            while not _try_lock(lock):
                time.sleep(_PERIOD)
            if not target.is_dir():
                _unpack(digest, chunks, target)
    except OSError as error:
        raise LaunchError(f"{target}: cannot unpack the model repository: {describe_error(error)}") from error
    return target


def _try_lock(lock: IO[str]) -> bool:
    try:
        lock_file(lock)
    except BlockingIOError:
        return False
    return True


def _unpack(digest: str, chunks: Iterable[bytes], target: Path) -> None:
    partial = target.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    reader = _ChunkReader(chunks)
    try:
        with tarfile.open(fileobj=cast("IO[bytes]", reader), mode="r|") as archive:
            for member, file in _read_members(archive):
                path = partial / member.name
                path.parent.mkdir(parents=True, exist_ok=True)
                if file is None:
                    path.mkdir(exist_ok=True)
                    continue
                with path.open("xb") as output:
                    shutil.copyfileobj(file, output)
                path.chmod(0o755 if member.mode & 0o100 else 0o644)
    except tarfile.TarError as error:
        raise LaunchError(f"{target}: the archive of the model repository is damaged: {error}") from error
    while reader.read(ARCHIVE_CHUNK):  # what follows the end of the tar counts in the digest
        pass
    if reader.digest.hexdigest() != digest:
        raise LaunchError(f"{target}: the archive of the model repository is damaged: its SHA-256 differs")
    partial.rename(target)


def _read_members(archive: tarfile.TarFile) -> Iterator[tuple[tarfile.TarInfo, IO[bytes] | None]]:
    """Yield files and directories (None) whose names stay below the target; refuse all others."""
    for member in archive:
        path = PurePosixPath(member.name)
        if path.is_absolute() or ".." in path.parts or not (member.isreg() or member.isdir()):
            raise tarfile.TarError(f"it has the member {member.name!r}, which no repository has")
        yield member, archive.extractfile(member) if member.isreg() else None
