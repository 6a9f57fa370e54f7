"""The unpacking of a model archive into a folder: all of it, inside of it, or nothing.

The folder must be empty, files are made anew and never through a link, and links are made when everything else is
there; so nothing is written outside of it, whatever the archive says.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tritonforge.errors import PackageError
from tritonforge.sagemaker.package.gunzip import Source
from tritonforge.sagemaker.package.limits import LIMITS, Limits
from tritonforge.sagemaker.package.members import Content, members, opened
from tritonforge.sagemaker.package.names import Member

__all__ = ["unpack"]


def unpack(source: Source | Path, folder: Path, *, limits: Limits = LIMITS) -> None:
    """Unpack an archive, from a file or from a stream, into a folder that is empty or not there yet.

    Files get the mode 644, or 755 where the archive lets anybody execute them; times and owners are those of now.

    Raises:
        PackageError: as `members`, or the folder is not empty or cannot be written; what was unpacked is removed.
        MissingExtraError: isal is not installed.
    """
    with opened(source) as (file, name), _emptied(folder):
        links = []
        for member, content in members(file, name=name, limits=limits):
            if member.kind == "link":
                links.append(member)
            else:
                _put(folder, member, content)
        for member in links:
            with _writing(folder, member):
                (folder / member.path).parent.mkdir(mode=0o755, parents=True, exist_ok=True)
                (folder / member.path).symlink_to(member.target)


@contextmanager
def _emptied(folder: Path) -> Iterator[None]:
    """The folder, empty; and as it was before, when the block ends with an error."""
    with _writing(folder, None):
        is_new = not folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise PackageError(f"{folder}: there is something in it; an archive is unpacked into an empty folder")
    try:
        yield
    except BaseException:
        for each in folder.iterdir():
            if each.is_dir() and not each.is_symlink():
                shutil.rmtree(each)
            else:
                each.unlink()
        if is_new:
            folder.rmdir()
        raise


def _put(folder: Path, member: Member, content: Content) -> None:
    """Make a directory, a file, or a hard link to a file before it."""
    path = folder / member.path
    with _writing(folder, member):
        (path if member.kind == "directory" else path.parent).mkdir(mode=0o755, parents=True, exist_ok=True)
        if member.kind == "hardlink":
            os.link(folder / member.target, path, follow_symlinks=False)
    if member.kind != "file":
        return
    with _writing(folder, member):
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(path, flags, 0o755 if member.executable else 0o644)
    with open(descriptor, "wb") as file:  # noqa: PTH123  # a descriptor has no path
        for piece in content:
            with _writing(folder, member):
                file.write(piece)
        with _writing(folder, member):
            file.flush()


@contextmanager
def _writing(folder: Path, member: Member | None) -> Iterator[None]:
    """Errors of the file system, told of the member that was being put."""
    try:
        yield
    except OSError as error:
        place = folder / member.path if member is not None else folder
        raise PackageError(f"{place}: it cannot be written: {error.strerror or error}") from error
