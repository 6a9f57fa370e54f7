"""The materials of a deployment: the repositories on this disk, and what of each a plan must know."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tritonforge import temporary
from tritonforge.errors import DefinitionError
from tritonforge.sagemaker.endpoints.content import Content
from tritonforge.sagemaker.package import contents, default_model, unpack
from tritonforge.validation.rules.views import build
from tritonforge.validation.tree_reader import read_tree

__all__ = ["Material", "read"]


@dataclass(frozen=True, slots=True)
class Material:
    """A repository: its folder, the archive that it was unpacked from, if it was, and what a plan knows of it."""

    folder: Path
    content: Content
    archive: Path | None = None


@contextlib.contextmanager
def read(path: Path) -> Iterator[Material]:
    """A built repository, or an archive of one, which is unpacked for the length of the context.

    Raises:
        DefinitionError: there is neither.
        PackageError: the archive is unsafe or damaged, or the repository cannot be packed.
    """
    if path.is_dir():
        yield Material(path, _content(path, size=None))
    elif path.is_file():
        with temporary.folder("archive") as parent:
            folder = Path(parent) / "repository"
            unpack(path, folder)
            yield Material(folder, _content(folder, size=path.stat().st_size), archive=path)
    else:
        raise DefinitionError(f"{path}: there is nothing; give a built repository, a model.tar.gz, or a definition")


def _content(folder: Path, *, size: int | None) -> Content:
    found = contents(folder)
    return Content(
        digest=found.digest,
        size=found.size if size is None else size,
        default_model=default_model(folder),
        batches=_batches(folder),
        files=found.files,
    )


def _batches(folder: Path) -> bool:
    """Whether a model of the repository collects requests into batches."""
    context = build(read_tree(folder), target="sagemaker")
    return any(
        model.max_batch_size > 1
        and not model.is_ensemble
        and any(model.document.one(name) is not None for name in ("dynamic_batching", "sequence_batching"))
        for model in context.models.values()
    )
