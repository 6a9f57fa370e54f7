"""A context that notes what a check looks at, so that its findings can be kept while that stays the same. No I/O.

What is noted is the name of a directory of the repository: a model. `REPOSITORY` is the list of these
directories, and `EVERYTHING` for all that is in them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Final, Generic, TypeVar

from tritonforge.validation.context import Context, ModelView
from tritonforge.validation.tree import Entry, Kind, Tree

__all__ = ["EVERYTHING", "REPOSITORY", "trace_context"]

REPOSITORY: Final = ""
EVERYTHING: Final = "*/"

_V = TypeVar("_V")


def trace_context(context: Context, read: set[str]) -> Context:
    """Return the context, changed so that the names of the directories that are looked at are added to ``read``."""
    models: Mapping[str, ModelView] = _TracedMapping(context.models, read)
    return replace(context, tree=_TracedTree(context.tree, read), models=models)


def _find_directory(path: str) -> str:
    """Return the directory of the repository that a path is in; `EVERYTHING` for a path that is not plain."""
    if ".." in path or "//" in path or path.startswith(("/", "./")):
        return EVERYTHING
    return path.partition("/")[0]


class _TracedMapping(Mapping[str, _V], Generic[_V]):
    """A mapping whose keys are paths."""

    def __init__(self, mapping: Mapping[str, _V], read: set[str]) -> None:
        self._mapping = mapping
        self._read = read

    def __getitem__(self, key: str) -> _V:
        self._read.add(_find_directory(key))
        return self._mapping[key]

    def __iter__(self) -> Iterator[str]:
        self._read.add(EVERYTHING)
        return iter(self._mapping)

    def __len__(self) -> int:
        self._read.add(EVERYTHING)
        return len(self._mapping)


class _TracedTree(Tree):
    """A tree without links; the public methods that are not here use those that are."""

    __slots__ = ("_read", "_tree")

    def __init__(self, tree: Tree, read: set[str]) -> None:
        super().__init__({}, truncated=tree.truncated, external=tree.external)
        self.entries: Mapping[str, Entry] = _TracedMapping(tree.entries, read)
        self._tree = tree
        self._read = read

    def real(self, path: str) -> str | None:
        """Return what the tree returns."""
        self._read.add(_find_directory(path))
        return self._tree.real(path)

    def entry(self, path: str) -> Entry | None:
        """Return what the tree returns."""
        self._read.add(_find_directory(path))
        return self._tree.entry(path)

    def kind(self, path: str) -> Kind:
        """Return what the tree returns."""
        self._read.add(_find_directory(path))
        return self._tree.kind(path)

    def children(self, path: str = "") -> tuple[str, ...]:
        """Return what the tree returns."""
        self._read.add(_find_directory(path))
        return self._tree.children(path)

    def leaves(self, path: str) -> bool:
        """Return what the tree returns."""
        self._read.add(_find_directory(path))
        return self._tree.leaves(path)
