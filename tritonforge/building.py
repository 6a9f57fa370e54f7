"""Build a model repository from Python: what the command `tritonforge build` does, as one function.

It reads and runs the definition, makes model files in child processes, and writes the repository. It prints nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Literal, TypeAlias

from tritonforge.repository.artifacts import ArtifactMaker
from tritonforge.repository.build import build as build_tree
from tritonforge.repository.definition.loading import Definitions, load

__all__ = ["BuildProgress", "BuildResult", "build", "build_definitions"]


@dataclass(frozen=True, slots=True)
class BuildProgress:
    """One event of a build.

    ``kind`` is ``"step"`` when a slow piece of work begins (``message`` says which), ``"bytes"`` while it moves bytes
    (``done`` of ``total``; ``total`` is None where it is not known), and ``"note"`` for a sentence that the user must
    not miss.
    """

    kind: Literal["step", "bytes", "note"]
    message: str = ""
    done: int = 0
    total: int | None = None


OnProgress: TypeAlias = Callable[[BuildProgress], None]


@dataclass(frozen=True, slots=True)
class BuildResult:
    """What a build wrote.

    Attributes:
        repository: the absolute path of the model repository.
        digest: ``sha256:`` and the digest of its sorted paths and contents; two equal builds have one digest.
        changed: False where an equal repository was there already; it is left as it is.
        models: the names of its models, sorted.
        files: the size in bytes of every file, by its path in the repository, sorted.
        made: the version directories (``model/1``) that were made, not linked from the repository that was there.
        notes: sentences that a user must not miss, such as a network without trained weights.
    """

    repository: Path
    digest: str
    changed: bool
    models: tuple[str, ...] = ()
    files: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    made: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """The bytes of all files."""
        return sum(self.files.values())


def build(
    definition: Path | str | os.PathLike[str],
    output: Path | str | os.PathLike[str],
    *,
    on_progress: OnProgress | None = None,
    fetch_s3: Callable[[str, Path], None] | None = None,
) -> BuildResult:
    """Build the model repository of a definition in the directory ``output``, all of it or nothing.

    ``definition`` is a ``definition.py``, or the folder that holds one. The repository that is there stays whole until
    the new one is complete; what did not change is linked, not made again. ``on_progress`` is called in this thread.
    ``fetch_s3`` gets an ``s3://`` address and the path to write to; left out, boto3 fetches what `S3` sources name.

    >>> import tritonforge
    >>> result = tritonforge.build("repos/digits", "build/digits")  # doctest: +SKIP
    >>> result.models  # doctest: +SKIP
    ('classify', 'decode', 'digits')

    Raises:
        DefinitionError: the definition contradicts itself, or ``output`` holds something that no build wrote.
        ArtifactError: a model file is missing, damaged, or not what the definition says.
        MissingExtraError: a package that makes or reads a model file is not installed.
        ValidationError: Triton would refuse the result; nothing is written.
    """
    return build_definitions(load(Path(definition)), output, on_progress=on_progress, fetch_s3=fetch_s3)


def build_definitions(
    definitions: Definitions,
    output: Path | str | os.PathLike[str],
    *,
    on_progress: OnProgress | None = None,
    fetch_s3: Callable[[str, Path], None] | None = None,
) -> BuildResult:
    """Build the model repository of definitions that are loaded already, as `build` does."""
    destination = Path(output)
    maker = ArtifactMaker(fetch_s3=fetch_s3 or _fetch_with_boto3)
    built = build_tree(definitions, destination, maker=maker, progress=_Events(on_progress or _ignore))
    return BuildResult(
        repository=destination.absolute(),
        digest=built.digest,
        changed=built.changed,
        models=tuple(model.name for model in built.repository.models),
        files=MappingProxyType(dict(built.files)),
        made=built.made,
        notes=built.said,
    )


@dataclass(frozen=True, slots=True)
class _Events:
    """A build's progress as events."""

    on_progress: OnProgress

    def begin(self, what: str) -> None:
        self.on_progress(BuildProgress("step", what))

    def say(self, sentence: str) -> None:
        self.on_progress(BuildProgress("note", sentence))

    def moved(self, done: int, total: int | None) -> None:
        self.on_progress(BuildProgress("bytes", done=done, total=total))


def _ignore(_: BuildProgress) -> None:
    pass


def _fetch_with_boto3(uri: str, path: Path) -> None:
    from tritonforge.sagemaker.client import Session, Store

    with Session() as session:
        Store(session).download(uri, path)
