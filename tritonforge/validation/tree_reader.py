"""Read a directory as a `Tree`: its entries, and the content of what the rules look into.

Reading is bounded in files, depth and bytes; the tree states what is left out. Links are not followed: the tree itself
follows a link inside the directory, and of one that leaves it only its kind is read.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final, Literal

from tritonforge.files import describe_error, open_descriptor
from tritonforge.validation.environment_reader import add_environments
from tritonforge.validation.header_reader import add_headers
from tritonforge.validation.tree import DIRECTORY, MAXIMAL_TEXT, Entry, Kind, Tree

__all__ = ["Stamps", "add_sums", "list_external_paths", "read_stamps", "read_tree"]

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
#: Files that are read wherever they are.
_TEXTS: Final = (".pbtxt", ".txt", ".py")


class Stamps:
    """What the file system states of every path of one reading, whose digest changes with any of it.

    ``newest`` is the latest change of a path (``st_ctime_ns``, which no program can set), in nanoseconds since 1970.
    """

    def __init__(self) -> None:
        self.newest = 0
        self._stamps: list[str] = []

    def add(self, path: str, status: os.stat_result | None, target: str = "") -> None:
        """Add a path with its status, None where that cannot be read; ``target`` is a link's text."""
        if status is None:
            self._stamps.append(f"{path}\0{target}")
            return
        self.newest = max(self.newest, status.st_ctime_ns)
        self._stamps.append(
            f"{path}\0{target}\0{status.st_mode} {status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} "
            f"{status.st_dev} {status.st_ino}"
        )

    def add_external(self, paths: Iterable[str]) -> None:
        """Add files outside of the directory."""
        for path in paths:
            try:
                self.add(path, os.stat(path))  # noqa: PTH116 - a Path cannot hold a null character
            except (OSError, ValueError):  # noqa: PERF203 - a path may be missing
                self.add(path, None)

    def digest(self) -> str:
        """Return the SHA-256 of all that was added."""
        return hashlib.sha256("\n".join(self._stamps).encode("utf-8", "surrogateescape")).hexdigest()


def read_tree(folder: Path | str, *, max_summed: int = MAXIMAL_SUMMED, stamps: Stamps | None = None) -> Tree:
    """Read a directory as a tree; files of more than ``max_summed`` bytes in all have no MD5 sum.

    Each path is added to ``stamps`` before its content is read.

    Raises:
        OSError: the directory itself cannot be read.
    """
    reader = _Reader(os.fspath(folder), stamps)
    reader.read_directory("", 0)
    entries = add_sums(reader.entries, lambda path: f"{reader.root}/{path}", max_summed=max_summed)
    entries = add_headers(entries, lambda path: f"{reader.root}/{path}")
    entries = add_environments(entries, lambda path: f"{reader.root}/{path}")
    external = list_external_paths(entries)
    if stamps is not None:
        stamps.add_external(external)
    return Tree(entries, truncated=reader.truncated, external=_find_kinds(external))


def read_stamps(folder: Path | str, external: Iterable[str]) -> Stamps:
    """Return the stamps that `read_tree` gives, without reading a file; ``external`` is what the configurations name.

    Raises:
        OSError: the directory itself cannot be read.
    """
    stamps = Stamps()
    _Reader(os.fspath(folder), stamps, reads_files=False).read_directory("", 0)
    stamps.add_external(external)
    return stamps


def add_sums(
    entries: Mapping[str, Entry], file_of: Callable[[str], str], *, max_summed: int = MAXIMAL_SUMMED
) -> Mapping[str, Entry]:
    """Return the entries with MD5 sums of the files whose sum a configuration states and whose content is not kept.

    ``file_of`` returns the file on disk of a path. At most ``max_summed`` bytes are read; what is beyond has no sum.
    """
    configs = {
        path: entry.content
        for path, entry in entries.items()
        if path.endswith(".pbtxt") and entry.content is not None and b"model_repository_agents" in entry.content
    }
    if not configs:
        return entries
    tree, paths = Tree(entries), dict[str, None]()
    for path, content in configs.items():
        for match in _SUM_KEY.finditer(content):
            named = tree.real(f"{path.partition('/')[0]}/{match.group(2).decode('utf-8', 'surrogateescape')}")
            entry = entries.get(named) if named else None
            if named and entry is not None and entry.kind == "file" and entry.content is None:
                paths[named] = None
    summed, left = dict(entries), max_summed
    for path in paths:
        size = entries[path].size
        if 0 <= size <= left:
            left -= size
            summed[path] = replace(entries[path], md5=_compute_sum(file_of(path), size))
    return summed


def _compute_sum(path: str, size: int) -> str:
    """Return the MD5 sum of a regular file's first ``size`` bytes; "" where it cannot be read."""
    summed = hashlib.md5(usedforsecurity=False)
    try:
        descriptor = open_descriptor(path, follow_links=False)
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


def list_external_paths(entries: Mapping[str, Entry]) -> list[str]:
    """Return the absolute paths that the configurations name, at most `MAXIMAL_EXTERNAL`."""
    paths: dict[str, None] = {}
    for path, entry in entries.items():
        if path.endswith(".pbtxt") and entry.content is not None:
            paths |= dict.fromkeys(
                match.group(2).decode("utf-8", "surrogateescape") for match in _ABSOLUTE.finditer(entry.content)
            )
    return list(paths)[:MAXIMAL_EXTERNAL]


def _find_kinds(paths: Iterable[str]) -> dict[str, Kind]:
    """Return the kind of each path that exists."""
    kinds: dict[str, Kind] = {}
    for path in paths:
        try:
            mode = Path(path).stat().st_mode
        except (OSError, ValueError):
            continue
        kinds[path] = _name_kind(mode)
    return kinds


class _Reader:
    """One reading of one directory."""

    def __init__(self, root: str, stamps: Stamps | None = None, *, reads_files: bool = True) -> None:
        self.entries: dict[str, Entry] = {}
        self.truncated = ""
        self.root = root
        self._stamps = stamps
        self._reads_files = reads_files
        self._pipelines = MAXIMAL_PIPELINES
        self._texts = MAXIMAL_TEXTS

    def read_directory(self, path: str, depth: int) -> None:
        """Read a directory and those below it."""
        if depth > MAXIMAL_DEPTH:
            self.truncated = f"{path} is more than {MAXIMAL_DEPTH} directories deep"
            return
        try:
            with os.scandir(f"{self.root}/{path}" if path else self.root) as listing:
                items = sorted(listing, key=lambda item: item.name)
        except OSError as error:
            if not path:
                raise
            self.entries[path] = Entry("directory", problem=describe_error(error))
            return
        prefix = f"{path}/" if path else ""
        for item in items:
            if len(self.entries) >= MAXIMAL_ENTRIES:
                self.truncated = f"it has more than {MAXIMAL_ENTRIES} files"
                return
            here = prefix + item.name
            if item.is_symlink():
                self.entries[here] = self._read_link(here, item)
            elif item.is_dir(follow_symlinks=False):
                self.entries[here] = DIRECTORY
                if self._stamps is not None:
                    self._stamps.add(here, _read_status(item))
                self.read_directory(here, depth + 1)
            else:
                self.entries[here] = self._read_file(here, item, depth)

    def _read_link(self, path: str, item: os.DirEntry[str]) -> Entry:
        """Return a link with its text and the kind of what it leads to."""
        try:
            target = os.readlink(item.path)  # noqa: PTH115 - a Path normalizes the text
        except OSError as error:
            return Entry("link", problem=describe_error(error), leads_to="missing")
        try:
            status = item.stat()
        except OSError:
            status = None
        if self._stamps is not None:
            self._stamps.add(path, status, target)
        return Entry("link", target=target, leads_to="missing" if status is None else _name_kind(status.st_mode))

    def _read_file(self, path: str, item: os.DirEntry[str], depth: int) -> Entry:
        try:
            status = item.stat(follow_symlinks=False)
        except OSError as error:
            return Entry("other", problem=describe_error(error))
        if self._stamps is not None:
            self._stamps.add(path, status)
            if not self._reads_files:
                return Entry("file", status.st_size)
        if not stat.S_ISREG(status.st_mode):
            return Entry("other")
        size = status.st_size
        if not self._is_read(item.name, depth, size):
            return Entry("file", size)
        try:
            with open(item.path, "rb", buffering=0) as file:  # noqa: PTH123 - a Path costs as much as the reading
                content = file.read(size + 1)
        except OSError as error:
            return Entry("file", size, problem=describe_error(error))
        return Entry("file", len(content), content=content)

    def _is_read(self, name: str, depth: int, size: int) -> bool:
        """Return True if the rules look into a file: configurations, labels, Python models, pipelines."""
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


def _read_status(item: os.DirEntry[str]) -> os.stat_result | None:
    try:
        return item.stat(follow_symlinks=False)
    except OSError:
        return None


def _name_kind(mode: int) -> Literal["file", "directory", "other"]:
    return "directory" if stat.S_ISDIR(mode) else "file" if stat.S_ISREG(mode) else "other"
