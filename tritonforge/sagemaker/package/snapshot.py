"""The snapshot of a package as a `Tree`: what the rules judge, before it is written or while it is read."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from tritonforge.errors import PackageError
from tritonforge.sagemaker.package.listing import Listing
from tritonforge.sagemaker.package.names import Member
from tritonforge.validation.tree import DIRECTORY, MAXIMAL_TEXT, Entry, Tree, link
from tritonforge.validation.tree_reader import with_sums

__all__ = ["Snapshot", "snapshot"]

#: What the rules look into, as `validation.tree_reader` reads it: texts, and the files in a model directory itself.
_TEXTS: Final = (".pbtxt", ".txt", ".py")
_PIPELINES: Final = (".dali",)
_MAXIMAL_PIPELINE: Final = 16 << 20
#: Bytes of content that are held at once; a file that does not fit any more is judged without its content.
_MAXIMAL_CONTENT: Final = 32 << 20


class Snapshot:
    """A tree under way: entries are put with what reads their content, which is called only where rules look."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}
        self._held = 0
        self._truncated = ""

    def put(self, member: Member, read: Callable[[], bytes]) -> bytes | None:
        """Put a member, and give its content if it was read."""
        content = None
        if member.kind == "directory":
            entry = DIRECTORY
        elif member.kind == "link":
            entry = link(member.target)
        elif member.kind == "hardlink":
            entry = self._entries[member.target]
        else:
            content = read() if self._wanted(member) else None
            entry = Entry("file", member.size, content=content)
        self._entries[member.path] = entry
        return content

    def tree(self) -> Tree:
        """The tree of what was put."""
        return Tree(self._entries, truncated=self._truncated)

    def _wanted(self, member: Member) -> bool:
        if member.path.endswith((*_PIPELINES, "/dali.py")):
            limit = _MAXIMAL_PIPELINE
        elif member.path.endswith(_TEXTS) or member.path.count("/") == 1:
            limit = MAXIMAL_TEXT
        else:
            return False
        if member.size > limit:
            return False
        if self._held + member.size > _MAXIMAL_CONTENT:
            self._truncated = f"its texts and pipelines have more than {_MAXIMAL_CONTENT >> 20} MiB"
            return False
        self._held += member.size
        return True


def snapshot(listed: Listing) -> Tree:
    """The tree of what will be in a package."""
    taken = Snapshot()
    sources: dict[str, str] = {}
    for item in listed.items:
        taken.put(Member(item.path, item.kind, item.size), partial(_read, Path(item.source)))
        sources[item.path] = str(item.source)
    tree = taken.tree()
    return Tree(with_sums(tree.entries, sources.__getitem__), truncated=tree.truncated)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise PackageError(f"{path}: it cannot be read: {error.strerror}") from error
