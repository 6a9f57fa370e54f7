"""Write the fixes of `tritonforge.validation.fixes` into a repository if they help."""

from __future__ import annotations

import contextlib
import difflib
import errno
import hashlib
import os
import secrets
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from tritonforge.errors import ArtifactError
from tritonforge.files import NO_FOLLOW, READ, WRITE, describe_error, lock_file, refuse_link, rename_over, set_mode
from tritonforge.validation.findings import Finding
from tritonforge.validation.fixes import find_fixes, with_files
from tritonforge.validation.tree import MAXIMAL_TEXT, Tree

__all__ = ["AppliedFixes", "apply_fixes"]

#: Whether files are opened in an open directory, whose path no link can change then. Windows has no such calls.
_HAS_DIRECTORIES: Final = os.open in os.supports_dir_fd and bool(NO_FOLLOW)
_DIRECTORY: Final[int] = getattr(os, "O_DIRECTORY", 0)
_FOLDER: Final[int] = READ | NO_FOLLOW | _DIRECTORY


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
                with root.open_below(real.split("/")[:-1]) as folder:
                    expected = entry.content if entry is not None else None
                    _replace(folder, real.rpartition("/")[2], content, expected=expected)
            except OSError as error:
                raise ArtifactError(f"{repository / path}: cannot write: {_explain(error)}") from error
            except _ChangedError as error:
                raise ArtifactError(f"{repository / path}: {error}") from error


class _ChangedError(Exception):
    """A file is not what was validated, or may not be replaced."""


@dataclass(frozen=True, slots=True)
class _Directory:
    """A directory in which files are opened and renamed.

    ``descriptor`` keeps it the same directory if a part of its path becomes a link. It is None on Windows, where each
    part of the path is looked at before it is used.
    """

    path: Path
    descriptor: int | None

    @contextmanager
    def open_below(self, parts: Sequence[str]) -> Iterator[_Directory]:
        """Open a directory below this one, made where it is missing; none of its parts may be a link."""
        here = _Directory(self.path, None if self.descriptor is None else os.dup(self.descriptor))
        try:
            for part in parts:
                below = here._open_child(part)
                here.close()
                here = below
            yield here
        finally:
            here.close()

    def _open_child(self, name: str) -> _Directory:
        path = self.path / name
        if self.descriptor is None:
            refuse_link(path)
            path.mkdir(exist_ok=True)
            return _Directory(path, None)
        try:
            return _Directory(path, os.open(name, _FOLDER, dir_fd=self.descriptor))
        except FileNotFoundError:
            os.mkdir(name, dir_fd=self.descriptor)
            return _Directory(path, os.open(name, _FOLDER, dir_fd=self.descriptor))

    def close(self) -> None:
        """Close the descriptor."""
        if self.descriptor is not None:
            os.close(self.descriptor)

    def open_file(self, name: str, flags: int) -> int:
        """Open a file that is not a link and return its descriptor. Raises OSError."""
        if self.descriptor is None:
            refuse_link(self.path / name)
            return os.open(self.path / name, flags, 0o666)
        return os.open(name, flags | NO_FOLLOW, 0o666, dir_fd=self.descriptor)

    def rename(self, old: str, new: str) -> None:
        """Give a file another name, instead of the file that has it. Raises OSError."""
        if self.descriptor is None:
            rename_over(self.path / old, self.path / new)
        else:
            os.replace(old, new, src_dir_fd=self.descriptor, dst_dir_fd=self.descriptor)

    def remove(self, name: str) -> None:
        """Remove a file. Raises OSError."""
        if self.descriptor is None:
            (self.path / name).unlink()
        else:
            os.unlink(name, dir_fd=self.descriptor)


@contextmanager
def _lock(repository: Path) -> Iterator[_Directory]:
    """Open the repository; two runs do not write into it at once."""
    try:
        if _HAS_DIRECTORIES:
            root = _Directory(repository, os.open(repository, READ | _DIRECTORY))
        else:
            root = _Directory(repository.resolve(strict=True), None)
    except OSError as error:
        raise ArtifactError(f"{repository}: cannot read: {_explain(error)}") from error
    try:
        with _open_lock(root) as file:
            lock_file(file)
            yield root
    except BlockingIOError as error:
        raise ArtifactError(f"{repository}: another --fix is writing into it. Run --fix again later.") from error
    finally:
        root.close()


@contextmanager
def _open_lock(root: _Directory) -> Iterator[int | IO[bytes]]:
    """Open what is locked: the directory itself, on Windows a file for it among the temporary files."""
    if root.descriptor is not None:
        yield root.descriptor
        return
    import tempfile

    digest = hashlib.sha256(os.fsencode(os.path.normcase(root.path))).hexdigest()
    with Path(tempfile.gettempdir(), f"tritonforge-fix-{digest[:32]}.lock").open("ab") as file:
        yield file


def _replace(folder: _Directory, name: str, content: bytes, *, expected: bytes | None) -> None:
    """Replace a file, whole or not at all, if it has the expected content (None: it is missing)."""
    mode, present = _read(folder, name)
    if present != expected:
        raise _ChangedError("it changed while it was validated, so nothing was written to it. Run --fix again.")
    if mode is not None and not mode & stat.S_IWUSR:
        raise _ChangedError(f"it is read-only, so it was not changed. Run: chmod u+w {name}")
    partial = f".{name[:200]}.{secrets.token_hex(8)}"
    opened = folder.open_file(partial, WRITE)
    try:
        with open(opened, "wb") as file:  # noqa: PTH123 - a descriptor has no path
            file.write(content)
            if mode is not None:
                set_mode(opened, mode)
            file.flush()
            os.fsync(opened)
        if _read(folder, name)[1] != expected:  # only a write between this and the next line is not noticed
            raise _ChangedError("it changed while it was validated, so nothing was written to it. Run --fix again.")
        folder.rename(partial, name)
    except BaseException:
        with contextlib.suppress(OSError):
            folder.remove(partial)
        raise


def _read(folder: _Directory, name: str) -> tuple[int | None, bytes | None]:
    """Return the mode and the content of a regular file; None for both where it is missing."""
    try:
        opened = folder.open_file(name, READ)
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
