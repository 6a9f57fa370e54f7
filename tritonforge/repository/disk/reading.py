"""A directory as a `Tree`: what is there, and the content of what the rules look into. An edge.

The reading is bounded in files, depth and bytes; what is left out is noted in the tree. Links are never followed into:
a link inside the directory is followed by the tree itself, of one that leaves it only its kind is noted.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final, Literal

from tritonforge.repository.tree import DIRECTORY, MAXIMAL_TEXT, Entry, Tree

__all__ = ["read_tree"]

MAXIMAL_ENTRIES: Final = 200_000
MAXIMAL_DEPTH: Final = 32
#: Bytes of one serialised DALI pipeline, and of everything that is read.
MAXIMAL_PIPELINE: Final = 64 * 1024 * 1024
MAXIMAL_BYTES: Final = 96 * 1024 * 1024
#: Files in a model's own directory that may be labels; others that are read are known by their name.
_TEXTS: Final = (".pbtxt", ".txt", ".py")


def read_tree(folder: Path | str) -> Tree:
    """The tree of a directory.

    Raises:
        OSError: the directory itself cannot be read.
    """
    reader = _Reader(os.fspath(folder))
    reader.directory("", 0)
    return Tree(reader.entries, truncated=reader.truncated)


class _Reader:
    """One reading of one directory."""

    def __init__(self, root: str) -> None:
        self.entries: dict[str, Entry] = {}
        self.truncated = ""
        self._root = root
        self._bytes = 0

    def directory(self, path: str, depth: int) -> None:
        """Read a directory and those below it."""
        if depth > MAXIMAL_DEPTH:
            self.truncated = f"{path} is more than {MAXIMAL_DEPTH} directories deep"
            return
        try:
            with os.scandir(f"{self._root}/{path}" if path else self._root) as listing:
                found = sorted(listing, key=lambda entry: entry.name)
        except OSError as error:
            if not path:
                raise
            self.entries[path] = Entry("directory", problem=_reason(error))
            return
        prefix = f"{path}/" if path else ""
        for each in found:
            if len(self.entries) >= MAXIMAL_ENTRIES:
                self.truncated = f"it has more than {MAXIMAL_ENTRIES} files"
                return
            here = prefix + each.name
            if each.is_symlink():
                self.entries[here] = _link(each.path)
            elif each.is_dir(follow_symlinks=False):
                self.entries[here] = DIRECTORY
                self.directory(here, depth + 1)
            else:
                self.entries[here] = self._file(each, here, depth)

    def _file(self, each: os.DirEntry[str], path: str, depth: int) -> Entry:
        try:
            status = each.stat(follow_symlinks=False)
        except OSError as error:
            return Entry("other", problem=_reason(error))
        if not stat.S_ISREG(status.st_mode):
            return Entry("other")
        size = status.st_size
        if not self._wanted(each.name, path, depth, size):
            return Entry("file", size)
        try:
            with Path(each.path).open("rb") as file:
                content = file.read(size + 1)
        except OSError as error:
            return Entry("file", size, problem=_reason(error))
        self._bytes += len(content)
        return Entry("file", len(content), content=content)

    def _wanted(self, name: str, path: str, depth: int, size: int) -> bool:
        """Whether the rules look into a file: configurations, labels, Python models, pipelines."""
        if name.endswith(".dali") or name == "dali.py":
            wanted = size <= MAXIMAL_PIPELINE
        else:
            # Files in a model's own directory may be labels, whatever they are called.
            wanted = size <= MAXIMAL_TEXT and (depth == 1 or name.endswith(_TEXTS))
        if wanted and self._bytes + size > MAXIMAL_BYTES:
            self.truncated = f"its texts and pipelines have more than {MAXIMAL_BYTES >> 20} MiB"
            return False
        return wanted


def _link(path: str) -> Entry:
    """A link with its text and the kind of what it leads to."""
    try:
        target = str(Path(path).readlink())
    except OSError as error:
        return Entry("link", problem=_reason(error), leads_to="missing")
    leads_to: Literal["file", "directory", "missing", "other"]
    try:
        mode = Path(path).stat().st_mode
    except OSError:
        leads_to = "missing"
    else:
        leads_to = "directory" if stat.S_ISDIR(mode) else "file" if stat.S_ISREG(mode) else "other"
    return Entry("link", target=target, leads_to=leads_to)


def _reason(error: OSError) -> str:
    return os.strerror(error.errno) if error.errno else str(error)
