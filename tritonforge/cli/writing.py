"""Files and folders that are there when they are whole, or not at all; errors name them by their own paths."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import click

from tritonforge.errors import ManifestError, TritonForgeError

__all__ = ["Target", "folder_written", "written"]


class Target:
    """A file that is being written; its errors name it by the path that it will have."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self._file = file
        self._path = path

    def write(self, data: bytes) -> None:
        """Write bytes. Raises TritonForgeError."""
        with _told(self._path):
            self._file.write(data)


@contextmanager
def written(path: Path) -> Iterator[Target]:
    """A file that is there when it is whole, or not at all. Raises TritonForgeError where it cannot be written."""
    with _told(path):
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:100]}.")
    file = os.fdopen(handle, "wb")
    try:
        yield Target(file, path)
        with _told(path):
            file.flush()
            os.fsync(handle)
            mask = os.umask(0)
            os.umask(mask)
            Path(name).chmod(0o666 & ~mask)
            Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    finally:
        with contextlib.suppress(OSError):  # what is left in its buffer on a full disk
            file.close()


@contextmanager
def folder_written(path: Path) -> Iterator[Callable[[str, bytes], None]]:
    """A folder that is there when all of it is: gives what writes a file of a name below it, each name once."""
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise click.UsageError(f"{path} exists already; name a new folder")
    with _told(path):
        half = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name[:100]}."))

        def write(name: str, data: bytes) -> None:
            target = half / name
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                with target.open("xb") as file:
                    file.write(data)
            except FileExistsError as error:
                raise ManifestError(f"two images would have the document {name}") from error

        try:
            yield write
            half.chmod(0o755)
            with contextlib.suppress(FileNotFoundError):
                path.rmdir()
            half.replace(path)
        except BaseException:
            shutil.rmtree(half, ignore_errors=True)
            raise


@contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise TritonForgeError(f"{path}: it cannot be written: {error.strerror or error}") from error
