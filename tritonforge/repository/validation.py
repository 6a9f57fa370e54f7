"""Validate a repository from wherever it comes: a folder on disk, or one that is not written yet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tritonforge import images
from tritonforge.errors import DefinitionError
from tritonforge.repository.disk.reading import read_tree
from tritonforge.repository.findings import Finding, ordered
from tritonforge.repository.rules.image import check_instance
from tritonforge.repository.rules.sagemaker.environment import check_environment
from tritonforge.repository.tree import Tree
from tritonforge.repository.validate import tree_of
from tritonforge.repository.validate import validate as judge

if TYPE_CHECKING:
    from tritonforge.repository.resolve import Repository

__all__ = ["Validated", "validate", "validated"]


@dataclass(frozen=True, slots=True)
class Validated:
    """A judged repository: what was found, its models, and the texts that the findings point into."""

    findings: Sequence[Finding]
    models: Sequence[str]
    texts: Mapping[str, str]
    tree: Tree


def validate(
    path_or_repository: Path | str | Repository | Tree,
    *,
    image: str | None = None,
    target: Literal["triton", "sagemaker"] = "triton",
    auto_complete: bool = True,
    load_models: Sequence[str] | None = None,
    model_config_name: str = "",
    gpus: int | None = None,
    instance_type: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> list[Finding]:
    """What Triton (or SageMaker) would refuse in a repository, and what it does not see.

    ``path_or_repository`` is a folder, or a `Repository` that is not written yet. ``image`` is a tag (``"24.09"``) or a
    whole image URI. ``auto_complete`` off is the server's ``--disable-auto-complete-config``, ``load_models`` its
    ``--load-model`` in explicit model control mode, ``model_config_name`` its ``--model-config-name``. ``gpus`` is how
    many GPUs the host has; None judges nothing by it. ``instance_type`` (``"ml.g5.xlarge"``) and the container's
    ``environment`` are what it is to run with on SageMaker. Nothing that a repository contains makes it raise.

    Raises:
        DefinitionError: the path is no folder, or there is no such image or instance type.
    """
    found = validated(
        path_or_repository,
        image=image,
        target=target,
        auto_complete=auto_complete,
        load_models=load_models,
        model_config_name=model_config_name,
        gpus=gpus,
        instance_type=instance_type,
        environment=environment,
    )
    return list(found.findings)


def validated(
    path_or_repository: Path | str | Repository | Tree,
    *,
    image: str | None = None,
    target: Literal["triton", "sagemaker"] = "triton",
    auto_complete: bool = True,
    load_models: Sequence[str] | None = None,
    model_config_name: str = "",
    gpus: int | None = None,
    instance_type: str | None = None,
    environment: Mapping[str, str] | None = None,
    select: Sequence[str] = (),
    ignore: Sequence[str] = (),
) -> Validated:
    """As `validate`, with what a report needs besides the findings; ``select`` and ``ignore`` are code prefixes."""
    tree = _tree(path_or_repository)
    default_model = (environment or {}).get("SAGEMAKER_TRITON_DEFAULT_MODEL_NAME")
    if gpus is None and instance_type is not None and images.gpu_family(instance_type) is None:
        gpus = 0
    findings = judge(
        tree,
        image=image,
        target=target,
        auto_complete=auto_complete,
        gpus=gpus,
        load=load_models or ([default_model] if default_model else None),
        config_name=model_config_name,
    )
    if instance_type is not None and image is not None:
        findings += check_instance(image, instance_type)
    if environment is not None:
        findings += check_environment(environment, image=None if image is None else images.find(image))
    findings = [
        each
        for each in ordered(findings)
        if (not select or each.code.startswith(tuple(select))) and not each.code.startswith(tuple(ignore))
    ]
    texts = {}
    for path in {finding.path for finding in findings if finding.line is not None}:
        entry = tree.entry(path)
        if entry is not None and entry.content is not None:
            texts[path] = entry.content.decode("utf-8", "replace")
    return Validated(tuple(findings), tree.subdirectories(), texts, tree)


def _tree(subject: Path | str | Repository | Tree) -> Tree:
    if isinstance(subject, Tree):
        return subject
    if isinstance(subject, Path | str):
        try:
            return read_tree(subject)
        except OSError as error:
            raise DefinitionError(f"{subject}: no model repository can be read here: {error.strerror}") from error
    return tree_of(subject)
