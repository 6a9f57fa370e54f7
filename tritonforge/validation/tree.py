"""A snapshot of a directory as a value: what the rules check, wherever it came from. No I/O.

Paths are relative and use ``/``; "" is the root. Links are followed inside the snapshot as the server's ``stat`` does.
Where a link leaves the snapshot, only what the reader of the disk noted is known (`Entry.leads_to`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

if TYPE_CHECKING:
    from tritonforge.model_files.header import ModelHeader
    from tritonforge.model_files.python_environment import PythonEnvironment

__all__ = [
    "DIRECTORY",
    "GITKEEP",
    "GITKEEP_TEXT",
    "MAXIMAL_TEXT",
    "UNKNOWN",
    "Entry",
    "Kind",
    "Tree",
    "leaves_directory",
    "link",
]

Kind: TypeAlias = Literal["file", "directory", "missing", "other"]

#: Bytes of a configuration or a label file that are read and checked; larger ones become a finding.
MAXIMAL_TEXT: Final = 4 * 1024 * 1024

#: The file that keeps an ensemble's empty version directory in git and in tar archives. Triton loads an ensemble only
#: where it has a version directory (model_lifecycle.cc `VersionsToLoad`), and never looks into it.
GITKEEP: Final = ".gitkeep"
#: Its content. KServe downloads no empty files from S3 and Azure (`tritonforge.triton.targets`, E451).
GITKEEP_TEXT: Final = b"Keeps the version directory.\n"

#: The size of a file that is not built yet.
UNKNOWN: Final = -1

#: Linux refuses a path after this many links (``ELOOP``; man 7 path_resolution).
_MAXIMAL_LINKS: Final = 40


@dataclass(frozen=True, slots=True)
class Entry:
    """One path: its kind and what is known of it.

    ``size`` is `UNKNOWN` for a file that is not built yet. ``content`` is None where it was not read (only what the
    rules look into is), ``target`` is a link's text, ``leads_to`` the kind of what a link that leaves the snapshot
    leads to ("" when that is unknown), ``problem`` why the path could not be read ("" when it could). ``md5`` is the
    sum of a file whose content is not kept, where a configuration states one, in hexadecimal digits. ``header`` is what
    a model file in a version directory states about itself, None where it was not read or has more than is read;
    ``environment`` is the Python environment that is in an archive that a configuration names.
    """

    kind: Literal["file", "directory", "link", "other"]
    size: int = 0
    target: str = ""
    content: bytes | None = None
    problem: str = ""
    leads_to: Literal["", "file", "directory", "missing", "other"] = ""
    md5: str = ""
    header: ModelHeader | None = None
    environment: PythonEnvironment | None = None


#: An ordinary directory.
DIRECTORY: Final = Entry("directory")


def link(target: str, *, leads_to: Literal["", "file", "directory", "missing", "other"] = "") -> Entry:
    """Return a link to ``target``."""
    return Entry("link", target=target, leads_to=leads_to)


class Tree:
    """The entries of a directory by path; the directories above each entry need not be given."""

    __slots__ = ("_children", "_linked", "entries", "external", "truncated")

    def __init__(
        self, entries: Mapping[str, Entry], *, truncated: str = "", external: Mapping[str, Kind] | None = None
    ) -> None:
        """Record the entries; ``truncated`` is the reason why a part of the directory was not read, "" if all was.

        ``external`` has the kinds of the absolute paths that the configurations name.
        """
        self.truncated = truncated
        self.external: Mapping[str, Kind] = external or {}
        attached: dict[str, Entry] = {}
        children: dict[str, list[str]] = {"": []}
        for path, entry in entries.items():
            key = path.strip("/")
            if key in ("", "."):
                continue
            present = attached.get(key)
            if present is None:
                _attach(key, children, attached)
            attached[key] = entry
            if entry.kind == "directory":
                children.setdefault(key, [])
        self.entries: Mapping[str, Entry] = attached
        self._children = {path: tuple(sorted(names)) for path, names in children.items()}
        self._linked = any(entry.kind == "link" for entry in attached.values())

    @classmethod
    def of(cls, files: Mapping[str, str | bytes | Entry]) -> Tree:
        """Return the tree of these files; a key that ends in ``/`` is a directory, whatever its value."""
        entries: dict[str, Entry] = {}
        for path, value in files.items():
            if isinstance(value, Entry):
                entries[path] = value
            elif path.endswith("/"):
                entries[path] = DIRECTORY
            else:
                data = value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value
                entries[path] = Entry("file", len(data), content=data)
        return cls(entries)

    @property
    def has_links(self) -> bool:
        """True if a path of the tree is a link."""
        return self._linked

    def real(self, path: str) -> str | None:
        """Return the path without links; None where it is missing or leaves the tree."""
        if not self._linked and ".." not in path:
            return path if path in self.entries or not path else None
        return self._follow(path)[0]

    def entry(self, path: str) -> Entry | None:
        """Return the file or directory that ``path`` leads to; None when it is missing or outside of the tree."""
        real = self.real(path)
        if real is None:
            return None
        return self.entries.get(real) if real else DIRECTORY

    def kind(self, path: str) -> Kind:
        """Return what the server's ``stat`` sees at ``path``; a link that leaves the tree counts as a directory."""
        if not self._linked and ".." not in path:
            entry = self.entries.get(path) if path else DIRECTORY
            if entry is None:
                return "missing"
            return entry.kind if entry.kind != "link" else "missing"
        real, outside, _ = self._follow(path)
        if real is None:
            return outside
        entry = self.entries[real] if real else DIRECTORY
        return entry.kind if entry.kind != "link" else "missing"

    def is_dir(self, path: str) -> bool:
        """Return True if a directory is at ``path``, links followed."""
        return self.kind(path) == "directory"

    def is_file(self, path: str) -> bool:
        """Return True if a file is at ``path``, links followed."""
        return self.kind(path) == "file"

    def children(self, path: str = "") -> tuple[str, ...]:
        """Return the names in a directory, sorted; links to directories are followed."""
        real = self.real(path)
        return () if real is None else self._children.get(real, ())

    def subdirectories(self, path: str = "") -> tuple[str, ...]:
        """Return the names of the directories in a directory, sorted as the server has them, links followed."""
        prefix = f"{path}/" if path else ""
        return tuple(name for name in self.children(path) if self.kind(prefix + name) == "directory")

    def dangling(self, path: str = "") -> tuple[str, ...]:
        """Return the names in a directory that are links to nothing."""
        if not self._linked:
            return ()
        prefix = f"{path}/" if path else ""
        return tuple(name for name in self.children(path) if self.kind(prefix + name) == "missing")

    def leaves(self, path: str) -> bool:
        """Return True if the path leads out of the tree over a link."""
        if not self._linked or self.real(path) is not None:
            return False
        return self._follow(path)[2]

    def _follow(self, path: str) -> tuple[str | None, Kind, bool]:
        """Return the path without links, or None; the kind of what is outside; and whether it is outside."""
        pending = [part for part in path.split("/") if part]
        done: list[str] = []
        links = 0
        while pending:
            part = pending.pop(0)
            if part == ".":
                continue
            if part == "..":
                if not done:
                    return None, "missing", True
                done.pop()
                continue
            here = "/".join((*done, part))
            entry = self.entries.get(here)
            if entry is None:
                return None, "missing", False
            if entry.kind != "link":
                done.append(part)
                continue
            links += 1
            if links > _MAXIMAL_LINKS:
                return None, "missing", False
            if entry.target.startswith("/") or leaves_directory(entry.target, depth=len(done)):
                if pending:
                    return None, "missing", True
                return None, entry.leads_to or ("missing" if entry.target.startswith("/") else "directory"), True
            pending = [part for part in (*entry.target.split("/"), *pending) if part]
        return "/".join(done), "missing", False


def leaves_directory(path: str, *, depth: int = 0) -> bool:
    """Return True if a relative path leads above the directory that it starts in, or ``depth`` directories above it."""
    for part in path.split("/"):
        if part == "..":
            depth -= 1
            if depth < 0:
                return True
        elif part not in ("", "."):
            depth += 1
    return False


def _attach(key: str, children: dict[str, list[str]], attached: dict[str, Entry]) -> None:
    """Add a new path to its directory, and the directories above it."""
    while True:
        parent, _, name = key.rpartition("/")
        siblings = children.get(parent)
        if siblings is None:
            children[parent] = [name]
        else:
            siblings.append(name)
        if not parent or parent in attached:
            return
        attached[parent] = DIRECTORY
        key = parent
