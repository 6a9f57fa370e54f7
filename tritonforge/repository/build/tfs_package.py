"""A package for TensorFlow Serving put together from folders that lie apart: which file becomes which member. An edge.

What `tritonforge build` makes of a definition is a package already, member by member. This is for a SavedModel that
somebody exported, and a folder of handlers beside it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tritonforge.errors import ArtifactError
from tritonforge.triton.tfs_layout import CODE, SAVED_MODEL

__all__ = ["code_files", "members"]

#: What Python leaves behind in a folder of code.
_LEFTOVERS = frozenset({"__pycache__"})
_LEFTOVER_SUFFIXES = frozenset({".pyc", ".pyo"})


def members(exported: Path, *, code: Path | None = None, name: str = "", version: int = 1) -> list[tuple[str, Path]]:
    """The members of a package's archive by path, each with the file that it is made from, sorted.

    ``exported`` is a SavedModel's folder, which becomes ``version``, or a folder of numbered ones, which keep their
    numbers. Under ``name`` they lie in a folder of the model's name, without it at the top, where the container calls
    the model ``model``. ``code`` becomes ``code/``.

    Raises:
        ArtifactError: there is no such folder, or no SavedModel in it.
    """
    if (exported / SAVED_MODEL).is_file():
        versions = {str(version): exported}
    else:
        found = [each for each in sorted(exported.iterdir()) if each.name.isdecimal()] if exported.is_dir() else []
        versions = {each.name: each for each in found if (each / SAVED_MODEL).is_file()}
    if not versions:
        raise ArtifactError(
            f"{exported}: there is no SavedModel here; give the folder that holds {SAVED_MODEL}, or the one that holds "
            "numbered folders with one each"
        )
    prefix = f"{name}/" if name else ""
    made = [
        (f"{prefix}{number}/{file.relative_to(folder).as_posix()}", file)
        for number, folder in versions.items()
        for file in folder.rglob("*")
        if file.is_file()
    ]
    if code is not None:
        made += [(f"{CODE}/{path}", file) for path, file in code_files(code)]
    return sorted(made)


def code_files(folder: Path) -> Iterator[tuple[str, Path]]:
    """The files of a folder of code by their path in it, sorted, without what Python and editors leave behind.

    Raises:
        ArtifactError: there is no such folder.
    """
    if not folder.is_dir():
        raise ArtifactError(f"{folder}: there is no such folder; it is to become {CODE}/ in the package")
    for file in sorted(each for each in folder.rglob("*") if each.is_file()):
        relative = file.relative_to(folder)
        left = any(part.startswith(".") or part in _LEFTOVERS for part in relative.parts)
        if not left and file.suffix not in _LEFTOVER_SUFFIXES:
            yield relative.as_posix(), file
