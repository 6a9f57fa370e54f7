"""The placing of a finished file: under its name all at once, or not at all.

Where the system has files without a name (O_TMPFILE), even a process that is killed leaves nothing behind.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

from tritonforge.errors import PackageError

__all__ = ["placed"]

_DESCRIPTORS = Path("/proc/self/fd")


@contextmanager
def placed(destination: Path) -> Iterator[FileIO]:
    """A file to write to; when the block ends it is the destination, and by an error nothing is.

    It is not forced to the disk: the rename orders it behind its content on the file systems in use, and a package can
    be made again.

    Raises:
        PackageError: the folder is missing or cannot be written, the disk is full, or the destination is no file.
    """
    if destination.exists() and not destination.is_file():
        raise PackageError(f"{destination}: it is no file; name the archive to write, for example model.tar.gz")
    partial = destination.with_name(f".{destination.name}.{os.getpid()}.partial")
    try:
        with _told(destination):
            file, named = _opened(partial)
        with file:
            try:
                yield file
            except OSError as error:
                if error.filename is not None:
                    raise  # it is of another file
                raise _error(destination, error) from error
            with _told(destination):
                if not named:
                    _name(file.fileno(), partial)
        with _told(destination):
            partial.replace(destination)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def _told(destination: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _error(destination, error) from error


def _error(destination: Path, error: OSError) -> PackageError:
    return PackageError(f"{destination}: it cannot be written: {error.strerror}")


def _opened(partial: Path) -> tuple[FileIO, bool]:
    """A new file in the folder, and whether it has its name already."""
    if hasattr(os, "O_TMPFILE") and _DESCRIPTORS.is_dir():
        try:
            descriptor = os.open(partial.parent, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o666)
        except FileNotFoundError:
            raise
        except OSError:
            # The file system has no files without a name (NFS, FUSE), or the folder cannot be written: the next line
            # says which.
            pass
        else:
            return open(descriptor, "wb", buffering=0), False  # noqa: PTH123  # a descriptor has no path
    return partial.open("wb", buffering=0), True


def _name(descriptor: int, partial: Path) -> None:
    """Give a file without a name one."""
    folder = os.open(partial.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        # With the descriptor of a folder Python calls linkat, which follows /proc's link to the file itself.
        os.link(_DESCRIPTORS / str(descriptor), partial.name, dst_dir_fd=folder, follow_symlinks=True)
    finally:
        os.close(folder)
