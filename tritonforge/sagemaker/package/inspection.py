"""The inspection of an archive: what it holds and what would come of it, without unpacking it anywhere."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

from tritonforge.errors import PackageError
from tritonforge.sagemaker.package.contents import digest
from tritonforge.sagemaker.package.gunzip import Source
from tritonforge.sagemaker.package.limits import LIMITS, Limits
from tritonforge.sagemaker.package.listing import bare_directories
from tritonforge.sagemaker.package.members import members, opened
from tritonforge.sagemaker.package.names import Member
from tritonforge.sagemaker.package.snapshot import Snapshot
from tritonforge.validation.tree import Tree

__all__ = ["Inspection", "inspect"]


@dataclass(frozen=True, slots=True)
class Inspection:
    """What an archive holds: its members in their order, its files' sizes by path, the digest of paths and contents.

    A link counts as what it leads to, as it does in a package. ``size`` is the archive's own, in bytes; ``tree`` is
    what the rules judge.
    """

    size: int
    members: tuple[Member, ...]
    files: Mapping[str, int]
    digest: str
    tree: Tree


def inspect(source: Source | Path, *, limits: Limits = LIMITS) -> Inspection:
    """Read an archive once, from a file or a stream; raises as `unpack` does on what it reads."""
    taken, found, hashes = Snapshot(), [], {}
    with opened(source) as (file, name):
        counted = _Counted(file)
        for member, content in members(counted, name=name, limits=limits):
            found.append(member)
            whole = hashlib.sha256()
            read = taken.put(member, partial(_joined, content))
            for piece in (read,) if read is not None else content:
                whole.update(piece)
            if member.kind == "file":
                hashes[member.path] = whole.hexdigest()
            elif member.kind == "hardlink":
                hashes[member.path] = hashes[member.target]
    tree = taken.tree()
    files, directories = _followed(tree, name=name, limits=limits)
    return Inspection(
        counted.size,
        tuple(found),
        {path: tree.entries[real].size for path, real in files.items()},
        digest({path: hashes[real] for path, real in files.items()}, bare_directories(directories, files)),
        tree,
    )


def _followed(tree: Tree, *, name: str, limits: Limits) -> tuple[dict[str, str], list[str]]:
    """The files of a tree with links followed, each with its path without links, and the directories."""
    files: dict[str, str] = {}
    directories: list[str] = []
    visits = length = 0

    @cache  # a directory of many links is visited once for each link to it
    def resolve(path: str) -> tuple[str | None, bool]:
        real = tree.real(path)
        return real, real is not None and tree.is_dir(real)

    def walk(path: str, real: str, above: tuple[str, ...]) -> None:
        nonlocal visits, length
        if real in above:
            raise PackageError(f"{name}: {path}: it is a link to a directory that holds it, so its files have no end")
        for child in tree.children(real):
            here = f"{path}/{child}" if path else child
            visits += 1
            length += len(here)
            if len(above) >= limits.depth or visits > limits.members or length > limits.names:
                raise PackageError(f"{name}: {here}: its links make more of it than the limits of an archive allow")
            place, is_directory = resolve(f"{real}/{child}" if real else child)
            if place is None:
                continue  # a link to nothing: the rules tell of it
            if is_directory:
                directories.append(here)
                walk(here, place, (*above, real))
            else:
                files[here] = place

    walk("", "", ())
    return dict(sorted(files.items())), directories


def _joined(content: Iterable[memoryview]) -> bytes:
    return b"".join(bytes(piece) for piece in content)


class _Counted:
    """A stream that counts what is read from it."""

    def __init__(self, file: Source) -> None:
        self._file, self.size = file, 0

    def read(self, size: int, /) -> bytes:
        """The next bytes."""
        data = self._file.read(size)
        self.size += len(data)
        return data
