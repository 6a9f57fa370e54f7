"""Put a finished tree in the place of an old one, so that no moment shows half of either."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tritonforge.errors import DefinitionError

__all__ = ["put_in_place", "staging"]

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2  # linux/fs.h


@contextmanager
def staging(destination: Path) -> Iterator[Path]:
    """A new folder beside the destination, held alone and removed at the end; leftovers of killed builds go first.

    Raises:
        DefinitionError: another build writes to this destination, or the folder cannot be written.
    """
    parent = destination.parent
    try:
        parent.mkdir(parents=True, exist_ok=True)
        lock = (parent / f".{destination.name}.lock").open("w")
    except OSError as error:
        raise DefinitionError(f"{parent}: cannot be written: {error.strerror}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DefinitionError(f"{destination}: another build is writing it; wait for that one") from error
        partial, old = parent / f".{destination.name}.partial", parent / f".{destination.name}.old"
        if old.exists() and not destination.exists():
            # Killed between the two renames of a file system without exchange.
            old.rename(destination)
        for leftover in (partial, old):
            shutil.rmtree(leftover, ignore_errors=True)
        partial.mkdir()
        try:
            yield partial
        finally:
            shutil.rmtree(partial, ignore_errors=True)
            shutil.rmtree(old, ignore_errors=True)
            (parent / f".{destination.name}.lock").unlink(missing_ok=True)


def put_in_place(partial: Path, destination: Path) -> None:
    """Make the finished tree the destination: by one exchange of names where the system has it, else by two renames."""
    if not destination.exists():
        partial.rename(destination)
        return
    old = destination.parent / f".{destination.name}.old"
    if _exchange(partial, destination):
        partial.rename(old)
    else:
        destination.rename(old)
        partial.rename(destination)


def _exchange(left: Path, right: Path) -> bool:
    """Exchange two names in one step (renameat2); False where the C library or the file system cannot."""
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:
        return False
    if renameat2(_AT_FDCWD, os.fsencode(left), _AT_FDCWD, os.fsencode(right), _RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP):
        return False
    raise OSError(code, os.strerror(code), str(right))
