"""A directory as a `Tree`: what is there, and the content of what the rules look into. An edge.

The reading is bounded in files, depth and bytes; what is left out is noted in the tree. Links are never followed into:
a link inside the directory is followed by the tree itself, of one that leaves it only its kind is noted.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

from tritonforge.repository.tree import DIRECTORY, MAXIMAL_TEXT, Entry, Kind, Tree

__all__ = ["read_tree"]

MAXIMAL_ENTRIES: Final = 200_000
MAXIMAL_DEPTH: Final = 32
#: Bytes of all serialised DALI pipelines, and of all texts, that are read.
MAXIMAL_PIPELINES: Final = 64 * 1024 * 1024
MAXIMAL_TEXTS: Final = 64 * 1024 * 1024
#: Absolute paths in the configurations that are looked at.
MAXIMAL_EXTERNAL: Final = 1000
#: A string of a configuration that is an absolute path, without escapes.
_ABSOLUTE: Final = re.compile(rb"""(["'])(/[^"'\\\n]{1,4096})\1""")
#: Files that are read wherever they lie.
_TEXTS: Final = (".pbtxt", ".txt", ".py")


def read_tree(folder: Path | str) -> Tree:
    """The tree of a directory.

    Raises:
        OSError: the directory itself cannot be read.
    """
    reader = _Reader(os.fspath(folder))
    reader.directory("", 0)
    return Tree(reader.entries, truncated=reader.truncated, external=_external(reader.entries))


def _external(entries: Mapping[str, Entry]) -> dict[str, Kind]:
    """What is at the absolute paths that the configurations name."""
    paths: dict[str, None] = {}
    for path, entry in entries.items():
        if path.endswith(".pbtxt") and entry.content is not None:
            paths |= dict.fromkeys(
                each.group(2).decode("utf-8", "surrogateescape") for each in _ABSOLUTE.finditer(entry.content)
            )
    found: dict[str, Kind] = {}
    for path in list(paths)[:MAXIMAL_EXTERNAL]:
        try:
            mode = Path(path).stat().st_mode
        except (OSError, ValueError):
            continue
        found[path] = "directory" if stat.S_ISDIR(mode) else "file" if stat.S_ISREG(mode) else "other"
    return found


class _Reader:
    """One reading of one directory."""

    def __init__(self, root: str) -> None:
        self.entries: dict[str, Entry] = {}
        self.truncated = ""
        self._root = root
        self._pipelines = MAXIMAL_PIPELINES
        self._texts = MAXIMAL_TEXTS

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
                self.entries[here] = self._file(each, depth)

    def _file(self, each: os.DirEntry[str], depth: int) -> Entry:
        try:
            status = each.stat(follow_symlinks=False)
        except OSError as error:
            return Entry("other", problem=_reason(error))
        if not stat.S_ISREG(status.st_mode):
            return Entry("other")
        size = status.st_size
        if not self._wanted(each.name, depth, size):
            return Entry("file", size)
        try:
            with Path(each.path).open("rb") as file:
                content = file.read(size + 1)
        except OSError as error:
            return Entry("file", size, problem=_reason(error))
        return Entry("file", len(content), content=content)

    def _wanted(self, name: str, depth: int, size: int) -> bool:
        """Whether the rules look into a file: configurations, labels, Python models, pipelines."""
        if name.endswith(".dali") or name == "dali.py":
            if size <= self._pipelines:
                self._pipelines -= size
                return True
            self.truncated = f"its DALI pipelines have more than {MAXIMAL_PIPELINES >> 20} MiB"
            return False
        in_model = depth == 1  # labels may have any name there
        if size > MAXIMAL_TEXT or not (in_model or name.endswith(_TEXTS)):
            return False
        if size <= self._texts:
            self._texts -= size
            return True
        self.truncated = f"its texts have more than {MAXIMAL_TEXTS >> 20} MiB"
        return False


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
