"""Write the fixes of `tritonforge.validation.fixes` into a repository if they help."""

from __future__ import annotations

import contextlib
import difflib
import errno
import fcntl
import os
import secrets
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tritonforge.errors import ArtifactError
from tritonforge.files import describe_error
from tritonforge.validation.findings import Finding
from tritonforge.validation.fixes import find_fixes, with_files
from tritonforge.validation.tree import MAXIMAL_TEXT, Tree

__all__ = ["AppliedFixes", "apply_fixes"]

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class AppliedFixes:
    """The written changes, as unified diffs, and the tree that they lead to."""

    diffs: Sequence[str]
    tree: Tree


def apply_fixes(repository: Path, tree: Tree, validate: Callable[[Tree], Sequence[Finding]]) -> AppliedFixes:
    """Fix a repository; files are written only if it then has fewer findings and no new one.

    Raises:
        ArtifactError: a file cannot be written, is read-only or changed since it was read; those before it are written.
    """
    files = find_fixes(tree)
    if not files:
        return AppliedFixes((), tree)
    after = with_files(tree, files)
    before = {_identify(finding) for finding in validate(tree)}
    if not {_identify(finding) for finding in validate(after)} < before:
        return AppliedFixes((), tree)
    diffs = [_build_diff(repository, path, tree, content) for path, content in files.items()]
    _write(repository, tree, files)
    return AppliedFixes(tuple(diffs), after)


def _identify(finding: Finding) -> tuple[str, str, str]:
    """Return a finding without its place: inserted lines move the others."""
    return finding.code, finding.path, finding.message


def _build_diff(repository: Path, path: str, tree: Tree, content: bytes) -> str:
    entry = tree.entry(path)
    old = entry.content.decode() if entry is not None and entry.content is not None else ""
    if entry is None and not content:
        return f"+++ {repository / path} (new, empty)\n"
    lines = difflib.unified_diff(
        old.splitlines(keepends=True),
        content.decode().splitlines(keepends=True),
        f"{repository / path}",
        f"{repository / path} (fixed)",
    )
    return "".join(line if line.endswith("\n") else f"{line}\n" for line in lines)


def _write(repository: Path, tree: Tree, files: Mapping[str, bytes]) -> None:
    """Write the files, each of which must still be what was validated; nothing is written through a link."""
    with _lock(repository) as root:
        for path, content in files.items():
            parent, _, name = path.rpartition("/")
            real = tree.real(path)  # a link inside the repository stays one, and the file behind it is written
            if real is None:
                above = tree.real(parent) if parent else ""
                real = path if above is None else f"{above}/{name}"
            entry = tree.entry(path)
            try:
                with _open_directory(root, real.split("/")[:-1]) as folder:
                    expected = entry.content if entry is not None else None
                    _replace(folder, real.rpartition("/")[2], content, expected=expected)
            except OSError as error:
                raise ArtifactError(f"{repository / path}: cannot write: {_explain(error)}") from error
            except _ChangedError as error:
                raise ArtifactError(f"{repository / path}: {error}") from error


class _ChangedError(Exception):
    """A file is not what was validated, or may not be replaced."""


@contextmanager
def _lock(repository: Path) -> Iterator[int]:
    """Open the repository; two runs do not write into it at once."""
    try:
        root = os.open(repository, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise ArtifactError(f"{repository}: cannot read: {_explain(error)}") from error
    try:
        fcntl.flock(root, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield root
    except BlockingIOError as error:
        raise ArtifactError(f"{repository}: another --fix is writing into it. Run --fix again later.") from error
    finally:
        os.close(root)


@contextmanager
def _open_directory(root: int, parts: Sequence[str]) -> Iterator[int]:
    """Open a directory below ``root``, made where it is missing; none of its parts may be a link."""
    here = os.dup(root)
    try:
        for part in parts:
            try:
                below = os.open(part, _FOLDER, dir_fd=here)
            except FileNotFoundError:
                os.mkdir(part, dir_fd=here)
                below = os.open(part, _FOLDER, dir_fd=here)
            os.close(here)
            here = below
        yield here
    finally:
        os.close(here)


def _replace(folder: int, name: str, content: bytes, *, expected: bytes | None) -> None:
    """Replace a file, whole or not at all, if it has the expected content (None: it is missing)."""
    mode, present = _read(folder, name)
    if present != expected:
        raise _ChangedError("it changed while it was validated, so nothing was written to it. Run --fix again.")
    if mode is not None and not mode & stat.S_IWUSR:
        raise _ChangedError(f"it is read-only, so it was not changed. Run: chmod u+w {name}")
    partial = f".{name[:200]}.{secrets.token_hex(8)}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    opened = os.open(partial, flags, 0o666, dir_fd=folder)
    try:
        with open(opened, "wb") as file:  # noqa: PTH123 - a descriptor has no path
            file.write(content)
            if mode is not None:
                os.fchmod(opened, mode)
            file.flush()
            os.fsync(opened)
        if _read(folder, name)[1] != expected:  # only a write between this and the next line is not noticed
            raise _ChangedError("it changed while it was validated, so nothing was written to it. Run --fix again.")
        os.replace(partial, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(partial, dir_fd=folder)
        raise


def _read(folder: int, name: str) -> tuple[int | None, bytes | None]:
    """Return the mode and the content of a regular file; None for both where it is missing."""
    try:
        opened = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    except FileNotFoundError:
        return None, None
    with open(opened, "rb") as file:  # noqa: PTH123 - a descriptor has no path
        mode = os.fstat(opened).st_mode
        if not stat.S_ISREG(mode):
            return stat.S_IMODE(mode), None
        return stat.S_IMODE(mode), file.read(MAXIMAL_TEXT + 1)


def _explain(error: OSError) -> str:
    if error.errno in (errno.ELOOP, errno.ENOTDIR):
        return "a part of its path is a link or a file by now"
    return describe_error(error)
