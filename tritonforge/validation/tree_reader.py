"""A directory as a `Tree`: what is there, and the content of what the rules look into. An edge.

The reading is bounded in files, depth and bytes; what is left out is noted in the tree. Links are never followed into:
a link inside the directory is followed by the tree itself, of one that leaves it only its kind is noted.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final, Literal

from tritonforge.validation.tree import DIRECTORY, MAXIMAL_TEXT, Entry, Kind, Tree

__all__ = ["read_tree", "with_sums"]

MAXIMAL_ENTRIES: Final = 200_000
MAXIMAL_DEPTH: Final = 32
#: Bytes of all serialised DALI pipelines, and of all texts, that are read.
MAXIMAL_PIPELINES: Final = 64 * 1024 * 1024
MAXIMAL_TEXTS: Final = 64 * 1024 * 1024
#: Bytes of all files that a configuration states the MD5 sum of, and of one read of them.
MAXIMAL_SUMMED: Final = 2 * 1024 * 1024 * 1024
_BLOCK: Final = 1024 * 1024
#: The key of a checksum agent's parameter, without escapes.
_SUM_KEY: Final = re.compile(rb"""(["'])[mM][dD]5:([^"'\\\n]{1,4096})\1""")
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
    entries = with_sums(reader.entries, lambda path: f"{reader.root}/{path}")
    return Tree(entries, truncated=reader.truncated, external=_external(entries))


def with_sums(entries: Mapping[str, Entry], file_of: Callable[[str], str]) -> Mapping[str, Entry]:
    """The entries with the MD5 sums that configurations state of files whose content is not kept.

    ``file_of`` gives the file on disk of a path. At most `MAXIMAL_SUMMED` bytes are read; what is beyond has no sum.
    """
    configs = {
        path: entry.content
        for path, entry in entries.items()
        if path.endswith(".pbtxt") and entry.content is not None and b"model_repository_agents" in entry.content
    }
    if not configs:
        return entries
    tree, wanted = Tree(entries), dict[str, None]()
    for path, content in configs.items():
        for match in _SUM_KEY.finditer(content):
            named = tree.real(f"{path.partition('/')[0]}/{match.group(2).decode('utf-8', 'surrogateescape')}")
            entry = entries.get(named) if named else None
            if named and entry is not None and entry.kind == "file" and entry.content is None:
                wanted[named] = None
    summed, left = dict(entries), MAXIMAL_SUMMED
    for path in wanted:
        size = entries[path].size
        if 0 <= size <= left:
            left -= size
            summed[path] = replace(entries[path], md5=_sum(file_of(path), size))
    return summed


def _sum(path: str, size: int) -> str:
    """The MD5 sum of a regular file's first ``size`` bytes; "" where it cannot be read."""
    summed = hashlib.md5(usedforsecurity=False)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return ""
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return ""
        try:
            while size > 0 and (block := file.read(min(size, _BLOCK))):
                summed.update(block)
                size -= len(block)
        except OSError:
            return ""
    return summed.hexdigest()


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
        self.root = root
        self._pipelines = MAXIMAL_PIPELINES
        self._texts = MAXIMAL_TEXTS

    def directory(self, path: str, depth: int) -> None:
        """Read a directory and those below it."""
        if depth > MAXIMAL_DEPTH:
            self.truncated = f"{path} is more than {MAXIMAL_DEPTH} directories deep"
            return
        try:
            with os.scandir(f"{self.root}/{path}" if path else self.root) as listing:
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
