"""The contents of a package: its paths with their sizes, and their digest.

The digest is of the sorted paths and the SHA-256 of each content, as a build records it, so that it is the same before
and after packaging, and whatever compressed the archive. A model or version
directory without a file counts as an empty file ``<path>/``.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeAlias

from tritonforge.errors import PackageError
from tritonforge.repository.build.manifest import RECORD, Entry, Record
from tritonforge.repository.build.manifest import digest as record_digest
from tritonforge.sagemaker.package.listing import Item, listing

__all__ = ["Contents", "Moved", "contents", "digest", "recorded", "uncompressed"]

#: Told while bytes are moved: how many so far, of how many.
Moved: TypeAlias = Callable[[int, int], None]

_BLOCK: Final = 1 << 20
_MAXIMAL_THREADS: Final = 8
_EMPTY: Final = hashlib.sha256().hexdigest()


@dataclass(frozen=True, slots=True)
class Contents:
    """What a package of a repository holds: its files with their sizes in bytes by path, and the digest of all.

    ``left_out`` names what of the repository is not in the package (directories end in ``/``), ``hashes`` has the
    SHA-256 of each file by path.
    """

    files: Mapping[str, int]
    digest: str
    left_out: tuple[str, ...] = ()
    hashes: Mapping[str, str] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """The bytes of all files."""
        return sum(self.files.values())


def contents(repository: Path, *, dereference: bool = False, progress: Moved | None = None) -> Contents:
    """What a package of this repository would hold, and its digest, without making it.

    A file that has the size and the modification time of the build's record is not read again; every other file is.

    Raises:
        PackageError: as `listing`, or a file cannot be read.
    """
    listed = listing(repository, dereference=dereference)
    known = recorded(repository, listed.files)
    hashes = known | _hashed([item for item in listed.files if item.path not in known], progress)
    return Contents(
        {item.path: item.size for item in listed.files}, digest(hashes, listed.bare), listed.left_out, hashes
    )


def recorded(repository: Path, files: Iterable[Item], *, untouched: bool = False) -> dict[str, str]:
    """The SHA-256 of the files that the build's record still fits, by path.

    Size and modification time must be the recorded ones. ``untouched`` asks for more: nothing about the file changed
    after the record was written, as the system's own clock says, so that no edit can hide behind an old time.
    """
    record = Record.read(repository)
    if record is None:
        return {}
    written = (repository / RECORD).stat().st_mtime_ns
    found = {}
    for item in files:
        noted = record.files.get(item.path)
        if noted is None or item.linked or (noted.size, noted.mtime_ns) != (item.size, item.mtime_ns):
            continue
        if not untouched or item.ctime_ns < written:
            found[item.path] = noted.sha256
    return found


def digest(hashes: Mapping[str, str], bare: Iterable[str] = ()) -> str:
    """The digest of files by path and SHA-256, and of directories that count though they are bare."""
    entries = {path: Entry(0, 0, sha256) for path, sha256 in hashes.items()}
    entries |= {f"{path}/": Entry(0, 0, _EMPTY) for path in bare}
    return record_digest(entries)


def uncompressed(repository: Path, *, dereference: bool = False) -> list[tuple[str, Path]]:
    """The objects of a repository under an S3 prefix: key below the prefix, and the file with its content, sorted.

    SageMaker puts each object at ``/opt/ml/model/<key below the prefix>`` (`ModelDataSource`, S3Prefix, None).

    Raises:
        PackageError: as `listing`, or a directory is empty: S3 has objects only.
    """
    listed = listing(repository, dereference=dereference)
    for path in listed.bare:
        raise PackageError(
            f"{repository / path}: the directory is empty, and S3 has no empty directories; put a file .gitkeep into it"
        )
    return [(item.path, Path(item.source)) for item in listed.files]


def _hashed(items: list[Item], progress: Moved | None) -> dict[str, str]:
    """The SHA-256 of each item's content by its path, on several cores."""
    if not items:
        return {}
    total, done, lock = sum(item.size for item in items), 0, threading.Lock()

    def moved(size: int) -> None:
        nonlocal done
        with lock:
            done += size
            if progress is not None:
                progress(done, total)

    with ThreadPoolExecutor(min(_MAXIMAL_THREADS, len(os.sched_getaffinity(0)))) as pool:
        futures = {item.path: pool.submit(_sha256, item, moved) for item in items}
        try:
            return {path: future.result() for path, future in futures.items()}
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _sha256(item: Item, moved: Callable[[int], None]) -> str:
    whole, block = hashlib.sha256(), memoryview(bytearray(min(_BLOCK, max(item.size, 1))))
    try:
        with Path(item.source).open("rb", buffering=0) as file:
            while size := file.readinto(block):
                whole.update(block[:size])
                moved(size)
    except OSError as error:
        raise PackageError(f"{item.source}: it cannot be read: {error.strerror}") from error
    return whole.hexdigest()
