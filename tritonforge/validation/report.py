"""Validate a repository: a folder on disk, or one that is not written yet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol, TypeAlias

from tritonforge.errors import DefinitionError
from tritonforge.files import describe_error
from tritonforge.triton.targets import Target
from tritonforge.validation.context import Context, Options
from tritonforge.validation.findings import Finding, ValidationReport
from tritonforge.validation.result_cache import ResultCache
from tritonforge.validation.tree import Tree
from tritonforge.validation.tree_reader import Stamps, list_external_paths, read_tree

__all__ = ["Source", "TreeSource", "run", "validate"]


class TreeSource(Protocol):
    """A repository that is not written yet, such as a `tritonforge.repository.resolve.Repository`."""

    def tree(self) -> Tree:
        """Return the tree that the repository will be on disk."""
        ...


Source: TypeAlias = "Path | str | TreeSource | Tree"


def validate(
    path_or_repository: Source,
    *,
    image: str | None = None,
    target: Target = "triton",
    auto_complete: bool = True,
    load_models: Sequence[str] | None = None,
    model_config_name: str = "",
    gpus: int | None = None,
    instance_type: str | None = None,
    environment: Mapping[str, str] | None = None,
    target_version: str | None = None,
    storage_uri: str | None = None,
    allow_empty: bool = False,
) -> list[Finding]:
    """Return what Triton, or the target, would refuse in a repository, and advice on what neither sees.

    ``path_or_repository`` is a folder, a `Repository` that is not written yet, or a `Tree`; the keywords are the fields
    of `tritonforge.validation.context.Options`. A folder of numbered SavedModels, or with ``code/``, is checked as a
    package for SageMaker's TensorFlow Serving containers, to which image, target and the server's flags mean nothing.
    Nothing that a repository contains makes this raise. `tritonforge.validation.findings.verdict` of the findings is
    "loads", "refused" or "not judged".

    Raises:
        DefinitionError: the path is not a directory, or one without models (unless ``allow_empty``), or the image, the
            instance type, or the target's version is unknown.
    """
    options = Options(
        image=image,
        target=target,
        auto_complete=auto_complete,
        load_models=load_models,
        model_config_name=model_config_name,
        gpus=gpus,
        instance_type=instance_type,
        environment=environment,
        target_version=target_version,
        storage_uri=storage_uri,
        allow_empty=allow_empty,
    )
    return list(run(path_or_repository, options).findings)


def run(
    source: Source,
    options: Options = Options(),  # noqa: B008 - frozen
    *,
    cache: ResultCache | None = None,
) -> ValidationReport:
    """Validate as `validate` does; return the findings with what a report of them needs.

    The result for a folder comes from the cache if nothing in the folder has changed.
    """
    if cache is None or not isinstance(source, Path | str):
        return _check(source, _read_source(source), options)
    stored = cache.find(source, options)
    if stored is not None:
        return stored
    stamps = Stamps()
    tree = _read_source(source, stamps)
    report = _check(source, tree, options)
    cache.store(source, options, report, stamps, list_external_paths(tree.entries))
    return report


def _check(source: Source, tree: Tree, options: Options) -> ValidationReport:
    # Imported here since a stored result needs none of the rules.
    from tritonforge.validation.model_views import build_context
    from tritonforge.validation.rules.tfs_package import is_tfs_package, list_models
    from tritonforge.validation.runner import run_checks

    is_package = is_tfs_package(tree)
    if is_package:
        context, models = Context(tree, options=options), list_models(tree)
    else:
        models = tree.subdirectories()
        if not models and not options.allow_empty and isinstance(source, Path | str):
            raise DefinitionError(
                f"{source}: no models found (expected a directory for each model). Give the folder that holds the "
                "models, or allow an empty one with --allow-empty"
            )
        context = build_context(tree, options)
    findings = run_checks(context, is_tfs_package=is_package)
    applicable = tuple(finding for finding in findings if finding.code not in options.exempt)
    texts = {}
    for path in {finding.path for finding in applicable if finding.line is not None}:
        entry = tree.entry(path)
        if entry is not None and entry.content is not None:
            texts[path] = entry.content.decode("utf-8", "replace")
    return ValidationReport(applicable, models, texts, is_tfs_package=is_package, is_model=tree.is_file("config.pbtxt"))


def _read_source(source: Source, stamps: Stamps | None = None) -> Tree:
    if isinstance(source, Tree):
        return source
    if isinstance(source, Path | str):
        try:
            return read_tree(source, stamps=stamps)
        except OSError as error:
            raise DefinitionError(f"{source}: cannot read: {describe_error(error)}") from error
    return source.tree()
