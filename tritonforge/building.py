"""Build a model repository from Python: the command `tritonforge build` as a function.

It reads and runs the definition, builds model files in child processes, and writes the repository. It prints nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from tritonforge.repository.artifact_builder import ArtifactBuilder
from tritonforge.repository.builder import build_repository
from tritonforge.repository.definition.loading import Definitions, load
from tritonforge.repository.download import BuildProgress, ProgressCallback, no_progress

__all__ = ["BuildProgress", "BuildResult", "build", "build_definitions"]


@dataclass(frozen=True, slots=True)
class BuildResult:
    """The result of a build.

    Attributes:
        repository: the absolute path of the model repository.
        digest: ``sha256:`` and the digest of its sorted paths and contents; two equal builds have one digest.
        changed: False if an equal repository was there already; it is left as it is.
        models: the names of its models, sorted.
        files: the size in bytes of every file, by its path in the repository, sorted.
        made: the version directories (``model/1``) that were built, not linked from the old repository.
        notes: sentences that a user must read, such as a network without trained weights.
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
    on_progress: ProgressCallback | None = None,
    fetch_s3: Callable[[str, Path], None] | None = None,
) -> BuildResult:
    """Build the model repository of a definition in the directory ``output``, all of it or nothing.

    ``definition`` is a ``definition.py``, or its directory. An old repository stays whole until the new one is
    complete; what did not change is linked, not built again. ``on_progress`` is called in this thread. ``fetch_s3``
    gets an ``s3://`` address and the path to write to; by default, boto3 downloads `S3` sources.

    Examples:
        >>> import tritonforge
        >>> result = tritonforge.build("repos/digits", "build/digits")  # doctest: +SKIP
        >>> result.models  # doctest: +SKIP
        ('classify', 'decode', 'digits')

    Raises:
        DefinitionError: the definition contradicts itself, or ``output`` holds something that no build wrote.
        ArtifactError: a model file is missing, damaged, or not what the definition says.
        MissingExtraError: a package that makes or reads a model file is not installed.
        ValidationError: Triton would reject the result; nothing is written.
    """
    return build_definitions(load(Path(definition)), output, on_progress=on_progress, fetch_s3=fetch_s3)


def build_definitions(
    definitions: Definitions,
    output: Path | str | os.PathLike[str],
    *,
    on_progress: ProgressCallback | None = None,
    fetch_s3: Callable[[str, Path], None] | None = None,
) -> BuildResult:
    """Build the model repository of definitions that are loaded already, as `build` does."""
    destination = Path(output)
    builder = ArtifactBuilder(fetch_s3=fetch_s3 or _fetch_with_boto3)
    built = build_repository(definitions, destination, builder=builder, on_progress=on_progress or no_progress)
    return BuildResult(
        repository=destination.absolute(),
        digest=built.digest,
        changed=built.changed,
        models=tuple(model.name for model in built.repository.models),
        files=MappingProxyType(dict(built.files)),
        made=built.rebuilt,
        notes=built.notes,
    )


def _fetch_with_boto3(uri: str, path: Path) -> None:
    from tritonforge.sagemaker.client import Session, Store

    with Session() as session:
        Store(session).download(uri, path)
