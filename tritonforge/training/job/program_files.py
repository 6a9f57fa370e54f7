"""Files that a program wrote below a directory of the host, such as /opt/ml: read without following links. An edge.

A program may replace any file or directory by a symbolic link, also while the host reads. A link may point to any path
of the host, where this process may have more rights than the program. So no part of a path below the program's
directory is followed if it is a link, and only regular files are opened (open(2), O_NOFOLLOW; a FIFO could block).
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Final

__all__ = ["copy_file", "list_regular_files", "open_directory", "open_file", "read_start"]

_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

#: The longest path in bytes that is read (limits.h, PATH_MAX), so that a chain of directories has an end.
_MAX_PATH: Final = 4096


def open_directory(base: Path, path: str | PurePosixPath = "") -> int:
    """Open a directory below ``base``, or ``base`` itself; return the descriptor.

    Raises FileNotFoundError, NotADirectoryError (also for a link), or another OSError.
    """
    if len(os.fsencode(str(path))) > _MAX_PATH:
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), str(path)[:80])
    directory = os.open(base, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    for name in PurePosixPath(path).parts:
        try:
            below = os.open(name, _FLAGS | os.O_DIRECTORY, dir_fd=directory)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(path)) from error
        finally:
            os.close(directory)
        directory = below
    return directory


def open_file(base: Path, path: str | PurePosixPath) -> int:
    """Open a regular file below ``base`` for reading; return the descriptor. Raises OSError, also for a link."""
    relative = PurePosixPath(path)
    directory = open_directory(base, relative.parent)
    try:
        descriptor = os.open(relative.name, _FLAGS, dir_fd=directory)
    finally:
        os.close(directory)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return descriptor


def read_start(base: Path, path: str | PurePosixPath, size: int) -> bytes:
    """Return up to ``size`` bytes of a regular file below ``base``, b"" if it cannot be read."""
    try:
        descriptor = open_file(base, path)
    except OSError:
        return b""
    with os.fdopen(descriptor, "rb") as file:
        return file.read(size)


def copy_file(base: Path, path: str | PurePosixPath, target: Path) -> tuple[os.stat_result, os.stat_result]:
    """Copy a regular file below ``base`` to a path; return its status before and after. Raises OSError."""
    with os.fdopen(open_file(base, path), "rb") as source, target.open("wb") as copied:
        before = os.fstat(source.fileno())
        shutil.copyfileobj(source, copied, 1 << 20)
        return before, os.fstat(source.fileno())


def list_regular_files(base: Path, folder: str | PurePosixPath = "") -> Iterator[tuple[str, os.stat_result]]:
    """Yield the regular files below a folder of ``base``: their paths relative to the folder, sorted, and their status.

    Links are left out, and so are directories that disappear. Raises NotADirectoryError if the folder, or a part of its
    path, is not a directory or is a link; OSError.
    """
    files = []
    waiting = [PurePosixPath()]
    while waiting:
        relative = waiting.pop()
        try:
            directory = open_directory(base, folder / relative)
        except FileNotFoundError:
            continue
        except NotADirectoryError:
            if relative.parts:  # it was a directory when it was listed
                continue
            raise
        try:
            with os.scandir(directory) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(relative / entry.name)
                    elif entry.is_file(follow_symlinks=False):
                        with contextlib.suppress(FileNotFoundError):
                            status = entry.stat(follow_symlinks=False)
                            files.append(((relative / entry.name).as_posix(), status))
        finally:
            os.close(directory)
    yield from sorted(files)
