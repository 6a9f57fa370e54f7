"""Write what `tritonforge.repository.mending` mends into a repository on disk, once it is sure to help."""

from __future__ import annotations

import difflib
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tritonforge.errors import ArtifactError
from tritonforge.repository.findings import Finding
from tritonforge.repository.mending import mended, with_files
from tritonforge.repository.tree import Tree

__all__ = ["Mended", "mend"]


@dataclass(frozen=True, slots=True)
class Mended:
    """What was written, as unified diffs, and the tree as it is now."""

    diffs: Sequence[str]
    tree: Tree


def mend(repository: Path, tree: Tree, judge: Callable[[Tree], Sequence[Finding]]) -> Mended:
    """Mend a repository; a file is written only when the whole then has fewer findings and none that is new.

    Raises:
        ArtifactError: a file cannot be written; those before it are whole.
    """
    files = mended(tree)
    if not files:
        return Mended((), tree)
    after = with_files(tree, files)
    before = {_identity(each) for each in judge(tree)}
    found = {_identity(each) for each in judge(after)}
    if not found < before:
        return Mended((), tree)
    diffs = [_diff(repository, path, tree, content) for path, content in files.items()]
    _write(repository, files)
    return Mended(tuple(diffs), after)


def _identity(finding: Finding) -> tuple[str, str, str]:
    """A finding without its place: lines move when lines are put in."""
    return finding.code, finding.path, finding.message


def _diff(repository: Path, path: str, tree: Tree, content: bytes) -> str:
    entry = tree.entry(path)
    old = entry.content.decode() if entry is not None and entry.content is not None else ""
    if entry is None and not content:
        return f"+++ {repository / path} (new, empty)\n"
    lines = difflib.unified_diff(
        old.splitlines(keepends=True),
        content.decode().splitlines(keepends=True),
        f"{repository / path}",
        f"{repository / path} (mended)",
    )
    return "".join(line if line.endswith("\n") else f"{line}\n" for line in lines)


def _write(repository: Path, files: Mapping[str, bytes]) -> None:
    for path, content in files.items():
        target = repository / path
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            handle, partial = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            if target.exists():
                Path(partial).chmod(target.stat().st_mode)
            Path(partial).replace(target)
        except OSError as error:
            raise ArtifactError(f"{target}: cannot be written: {error.strerror}") from error
