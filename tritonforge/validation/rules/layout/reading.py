"""What the server opens and nothing here has read: a finding of its own, since the verdict is not known. No I/O."""

from __future__ import annotations

from tritonforge.validation.findings import Finding
from tritonforge.validation.rules.layout.definitions import E127
from tritonforge.validation.tree import MAXIMAL_TEXT, Tree

__all__ = ["unread"]


def unread(tree: Tree, path: str, limit: int = MAXIMAL_TEXT) -> Finding:
    """The finding that a file or a directory that the server opens was not read; ``limit`` is in bytes."""
    entry = tree.entry(path)
    if entry is None:
        why, help_ = "is reached over a link out of the repository, which is not followed", "put it into the repository"
    elif entry.kind != "file":
        why, help_ = "is not a regular file", "put a file there"
    else:
        why = f"has {entry.size} bytes, more than the {limit} that are read"
        help_ = "the server reads files of any size; ask it with --with-server"
    return E127.finding(f"not judged: {path} {why}", path=path, help=help_)
