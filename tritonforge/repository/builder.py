"""Build a repository from definitions: build what changed, link what did not, and put the whole in place at once."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tritonforge.errors import ArtifactError, ValidationError
from tritonforge.files import hash_file
from tritonforge.repository.artifact_builder import ArtifactBuilder
from tritonforge.repository.build_tree import BuiltVersion, TreeWriter, open_tree
from tritonforge.repository.definition.ensemble import Ensemble
from tritonforge.repository.definition.loading import Definitions
from tritonforge.repository.definition.models import VERSION_FOLDER, Dali, Model
from tritonforge.repository.download import BuildProgress, ProgressCallback, no_progress
from tritonforge.repository.resolve import Content, LocalFile, LocalFolder, Repository, resolve
from tritonforge.triton.tfs_layout import CODE, SAVED_MODEL
from tritonforge.validation.report import validate
from tritonforge.validation.rules.named_files import compare_labels
from tritonforge.validation.tree_reader import read_tree

__all__ = ["BuiltRepository", "build_repository", "list_package"]

#: Who rejects a repository, by `Finding.refused_by`.
_REFUSERS: Final = {
    "triton": "Triton",
    "tfs": "SageMaker's TensorFlow Serving container",
    "tritonforge": "tritonforge serve",
}

#: What Python leaves in a directory of code.
_LEFTOVERS: Final = frozenset({"__pycache__"})
_LEFTOVER_SUFFIXES: Final = frozenset({".pyc", ".pyo"})


@dataclass(frozen=True, slots=True)
class BuiltRepository:
    """What a build did: the tree's ``digest``, its files with their sizes in bytes, and what was built anew."""

    digest: str
    files: Mapping[str, int]
    rebuilt: tuple[str, ...]
    changed: bool
    notes: tuple[str, ...]
    repository: Repository


def build_repository(
    definitions: Definitions,
    destination: Path,
    *,
    builder: ArtifactBuilder,
    on_progress: ProgressCallback = no_progress,
) -> BuiltRepository:
    """Write the repository of these definitions to ``destination``, all of it or nothing.

    A version directory whose fingerprint is unchanged is linked from the old tree. A tree that would be equal to the
    old one is left as it is.

    Raises:
        DefinitionError: the definitions contradict themselves, or the destination holds something else.
        ArtifactError: a model file is missing, damaged, or not what its definition says; a label file has fewer labels
            than its output has classes.
        ValidationError: Triton would reject what was built; nothing is written.
    """
    destination = Path(os.path.abspath(destination))  # noqa: PTH100  # resolve() would follow a link that is the target
    with open_tree(destination) as tree:
        models = {
            name: _build_model(model, definitions, tree, builder, on_progress)
            for name, model in definitions.models.items()
        }
        repository = resolve(models, definitions.package)
        for path, source in repository.files.items():
            if isinstance(source, Content):
                tree.write(path, source.data)
            elif isinstance(source, LocalFile):
                _copy_file(path, source, definitions.folder, tree)
            elif isinstance(source, LocalFolder):
                for relative, file in list_code(definitions.folder / source.path):
                    tree.write(f"{path}/{relative}", file.read_bytes())
        notes = _check_labels(repository, tree.partial)
        for note in notes:
            on_progress(BuildProgress("note", note))
        changed = tree.is_changed()
        if changed:
            _check_tree(tree.partial)
        tree.commit()
    manifest = tree.build_manifest()
    return BuiltRepository(
        manifest.digest,
        {path: entry.size for path, entry in manifest.files.items()},
        tuple(tree.rebuilt),
        changed,
        (*(note for version in manifest.versions.values() for note in version.notes), *notes),
        repository,
    )


def _build_model(
    model: Model | Ensemble,
    definitions: Definitions,
    tree: TreeWriter,
    builder: ArtifactBuilder,
    on_progress: ProgressCallback,
) -> Model | Ensemble:
    """Build or link every version of a model, and complete the model from them."""
    if isinstance(model, Ensemble):
        return model
    for version, artifact in model.versions.items():
        if artifact is None and (not model.model_filename or model.has_files_in(version)):
            continue
        if artifact is None:
            raise ArtifactError(
                f"{model.name}: it has no model file; give it an artifact (File, Download, Function ...)"
                f"{' or a pipeline function' if isinstance(model, Dali) else ''}"
            )
        signature = _build_version(model, version, definitions, tree, builder, on_progress)
        model = builder.complete(model, signature)
    return model


def _build_version(
    model: Model,
    version: int,
    definitions: Definitions,
    tree: TreeWriter,
    builder: ArtifactBuilder,
    on_progress: ProgressCallback,
) -> Any:
    """Build or link one version directory; return the signature of its file as plain JSON."""
    directory = f"{model.name}/{version}"
    fingerprint = builder.fingerprint(model, version, base=definitions.folder)
    known = tree.reuse_version(directory, fingerprint)
    if known is not None:
        for note in known.notes:
            on_progress(BuildProgress("note", note))
        return known.signature
    path = directory if model.model_filename == VERSION_FOLDER else f"{directory}/{model.model_filename}"
    on_progress(BuildProgress("step", f"making {path}"))
    notes: list[str] = []

    def keep_notes(event: BuildProgress) -> None:
        if event.kind == "note":
            notes.append(event.message)
        on_progress(event)

    target = tree.partial / directory
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    signature = builder.build(definitions, model, version, destination=target, on_progress=keep_notes)
    tree.add_version(directory, BuiltVersion(fingerprint, signature, tuple(notes)))
    return signature


def _copy_file(path: str, source: LocalFile, base: Path, tree: TreeWriter) -> None:
    origin = base / source.path
    if not origin.is_file():
        raise ArtifactError(f"{origin}: no such file; the definition names it for {path}")
    digest = hash_file(origin)
    tree.copy(path, origin, digest)
    if source.sha256 not in (None, digest):
        raise ArtifactError(f"{origin}: its sha256 is {digest}, but the definition states {source.sha256}")


def _check_labels(repository: Repository, partial: Path) -> list[str]:
    """Compare each label file with its output; return sentences on files with more labels than classes.

    Raises:
        ArtifactError: a file has fewer labels, so that classes would be answered without a name.
    """
    notes = []
    for model in repository.models:
        config: Any = model.config
        for output in () if config is None else config.output:
            path = f"{model.name}/{output.label_filename}"
            if not output.label_filename or not (partial / path).is_file():
                continue
            difference = compare_labels(output.name, output.dims, path, (partial / path).read_bytes())
            if difference is not None and difference[0] > 0:
                raise ArtifactError(f"{difference[1]}. Name every class.")
            if difference is not None:
                notes.append(difference[1])
    return notes


def _check_tree(partial: Path) -> None:
    """Validate the finished tree as the server would, before it is published."""
    findings = [finding for finding in validate(read_tree(partial)) if finding.refused_by not in (None, "sagemaker")]
    if findings:
        lines = "\n".join(f"  {finding.path}: {finding.code}: {finding.message}" for finding in findings)
        refuser = _REFUSERS[str(findings[0].refused_by)]
        raise ValidationError(
            f"{refuser} would refuse this repository, so it was not written:\n{lines}", findings=findings
        )


def list_package(
    exported: Path, *, code: Path | None = None, name: str = "", version: int = 1
) -> list[tuple[str, Path]]:
    """Return the members of a package for TensorFlow Serving by path, each with the file of its content, sorted.

    A build writes such a package member by member. This is for a SavedModel that was exported elsewhere, and a
    directory of handlers.

    Args:
        exported: a SavedModel's directory, which becomes ``version``, or a directory of numbered ones.
        code: the directory that becomes ``code/``.
        name: the directory of the model in the package; without it, the versions are at the top, where the container
            names the model ``model``.
        version: the version of a single SavedModel.

    Raises:
        ArtifactError: a directory is missing, or has no SavedModel.
    """
    if (exported / SAVED_MODEL).is_file():
        versions = {str(version): exported}
    else:
        folders = sorted(exported.iterdir()) if exported.is_dir() else []
        versions = {
            folder.name: folder for folder in folders if folder.name.isdecimal() and (folder / SAVED_MODEL).is_file()
        }
    if not versions:
        raise ArtifactError(
            f"{exported}: SavedModel not found; give the directory of {SAVED_MODEL}, or one of numbered "
            "directories with one each"
        )
    prefix = f"{name}/" if name else ""
    members = [
        (f"{prefix}{number}/{file.relative_to(folder).as_posix()}", file)
        for number, folder in versions.items()
        for file in folder.rglob("*")
        if file.is_file()
    ]
    if code is not None:
        members += [(f"{CODE}/{path}", file) for path, file in list_code(code)]
    return sorted(members)


def list_code(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield the files of a directory of code by their path in it, without what Python and editors leave there.

    Raises:
        ArtifactError: the directory is missing.
    """
    if not folder.is_dir():
        raise ArtifactError(f"{folder}: no such directory; it becomes {CODE}/ in the package")
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        relative = file.relative_to(folder)
        is_leftover = any(part.startswith(".") or part in _LEFTOVERS for part in relative.parts)
        if not is_leftover and file.suffix not in _LEFTOVER_SUFFIXES:
            yield relative.as_posix(), file
