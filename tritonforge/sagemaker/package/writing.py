"""The writing of a package: a repository becomes a ``model.tar.gz`` that has the same bytes wherever it is made.

The archive is what the `serve` script of SageMaker's Triton images wants in /opt/ml/model: the model directories at its
top, sorted, without times and owners. Which files may be executed follows from their content (an ELF program or a
``#!`` line), so that the digest of paths and contents says everything about it.
"""

from __future__ import annotations

import hashlib
import os
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Final

from tritonforge.errors import PackageError
from tritonforge.sagemaker.package.compression import Gzip
from tritonforge.sagemaker.package.contents import Contents, Moved, digest, recorded
from tritonforge.sagemaker.package.listing import Item, listing
from tritonforge.sagemaker.package.placing import placed

__all__ = ["Package", "pack", "write"]

_BLOCK: Final = tarfile.BLOCKSIZE
_FILE_MODE: Final = 0o644
_PROGRAM_MODE: Final = 0o755
_DIRECTORY_MODE: Final = 0o755
#: How an executable file begins: execve(2), "Executable formats".
_PROGRAMS: Final = (b"\x7fELF", b"#!")


@dataclass(frozen=True, slots=True)
class Package:
    """A written archive: where it is, the digest of what it holds (``sha256:...``), and its own size in bytes.

    ``files`` has the sizes of the files in it by path, ``left_out`` what of the repository is not in it.
    """

    path: Path
    digest: str
    size: int
    files: Mapping[str, int]
    left_out: tuple[str, ...] = ()

    @property
    def contents(self) -> Contents:
        """What the package holds."""
        return Contents(self.files, self.digest, self.left_out)


def pack(folder: Path, destination: Path) -> None:
    """Write a folder as it is, hidden files and empty folders too: what a training job leaves in /opt/ml/model.

    Raises as `write`.
    """
    write(folder, destination, everything=True)


def write(
    repository: Path,
    destination: Path,
    *,
    dereference: bool = False,
    everything: bool = False,
    workers: int | None = None,
    progress: Moved | None = None,
) -> Package:
    """Write the package of a repository, all of it or nothing; whether an image takes it is `prepare`'s to say.

    The digest is of the bytes that went into the archive; they are hashed, but for files that were not touched since a
    build hashed them. ``everything`` leaves nothing of the folder out. ``workers`` is the number of threads that
    compress; the archive does not depend on it. ``progress`` is told the bytes of the files that are done.

    Raises:
        PackageError: as `contents`, or a file changed while it was read, or the archive cannot be written.
        MissingExtraError: isal is not installed.
    """
    listed = listing(repository, dereference=dereference, everything=everything)
    if _lies_inside(destination, repository):
        raise PackageError(
            f"{destination}: it lies inside the repository that it is to hold; name a file outside of it"
        )
    hashes: dict[str, str] = {}
    with placed(destination) as sink:
        with Gzip(sink, workers=workers) as stream:
            known = recorded(repository, listed.files, untouched=True)
            archive = _Archive(stream, sum(item.size for item in listed.files), known, progress)
            for item in listed.items:
                if item.kind == "directory":
                    stream.write(_header(item, _DIRECTORY_MODE))
                else:
                    hashes[item.path] = archive.file(item)
            stream.write(bytes(2 * _BLOCK))
            stream.finish()
        size = sink.tell()
    return Package(
        destination,
        digest(hashes, listed.bare),
        size,
        {item.path: item.size for item in listed.files},
        listed.left_out,
    )


class _Archive:
    """The archive under way: files go in, and progress is told."""

    def __init__(self, stream: Gzip, total: int, known: Mapping[str, str], progress: Moved | None) -> None:
        self._stream, self._total, self._known, self._progress = stream, total, known, progress
        self._done = 0

    def file(self, item: Item) -> str:
        """Put a file with its header, and give the SHA-256 of what was put."""
        with _opened(item) as file:
            with _reading(item):
                _check_unchanged(item, file)
                program = os.pread(file.fileno(), 4, 0).startswith(_PROGRAMS)
            self._stream.write(_header(item, _PROGRAM_MODE if program else _FILE_MODE))
            sha256 = self._content(item, file)
            with _reading(item):
                _check_unchanged(item, file)
        self._stream.write(bytes(-item.size % _BLOCK))
        return sha256

    def _content(self, item: Item, file: FileIO) -> str:
        known = self._known.get(item.path)
        whole = hashlib.sha256()
        left = item.size
        while left:
            space = self._stream.space()[:left]
            with _reading(item):
                size = file.readinto(space)
            if not size:
                raise _changed(item)
            if known is None:
                whole.update(space[:size])
            self._stream.advance(size)
            left -= size
            self._done += size
            if self._progress is not None:
                self._progress(self._done, self._total)
        return whole.hexdigest() if known is None else known


def _opened(item: Item) -> FileIO:
    with _reading(item):
        return Path(item.source).open("rb", buffering=0)


@contextmanager
def _reading(item: Item) -> Iterator[None]:
    """Errors of reading, told of the file; those of writing are `placed`'s to tell."""
    try:
        yield
    except OSError as error:
        raise PackageError(f"{item.source}: it cannot be read: {error.strerror}") from error


def _header(item: Item, mode: int) -> bytes:
    """The headers of a directory or file; a name that is too long for ustar comes with a pax header."""
    info = tarfile.TarInfo(item.path)
    info.type = tarfile.DIRTYPE if item.kind == "directory" else tarfile.REGTYPE
    info.size, info.mode = item.size, mode
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict")


def _check_unchanged(item: Item, file: FileIO) -> None:
    status = os.fstat(file.fileno())
    if (status.st_size, status.st_mtime_ns) != (item.size, item.mtime_ns):
        raise _changed(item)


def _changed(item: Item) -> PackageError:
    return PackageError(f"{item.source}: it changed while it was packaged; run this again when nothing writes to it")


def _lies_inside(destination: Path, repository: Path) -> bool:
    folder, root = os.path.realpath(destination.parent), os.path.realpath(repository)
    return folder == root or folder.startswith(f"{root}/")
