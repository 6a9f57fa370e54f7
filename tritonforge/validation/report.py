"""Validate a repository from wherever it comes: a folder on disk, or one that is not written yet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Protocol

from tritonforge import triton
from tritonforge.errors import DefinitionError
from tritonforge.validation.findings import Finding, Verdict, ordered, verdict
from tritonforge.validation.rules import tfs
from tritonforge.validation.rules.image_rules import check_instance
from tritonforge.validation.rules.sagemaker.environment import check_environment
from tritonforge.validation.runner import validate as judge
from tritonforge.validation.tree import Tree
from tritonforge.validation.tree_reader import read_tree


class TreeSource(Protocol):
    """A repository that is not written yet, such as a `tritonforge.repository.resolve.Repository`."""

    def tree(self) -> Tree:
        """Return what the repository will be on disk."""
        ...


__all__ = ["Validated", "validate", "validated"]

#: The rules of an environment that hold for every container, and the one that a named default model answers.
_CREATE_MODEL: Final = ("E406", "E407", "E408")
_DEFAULT_BY_CHANCE: Final = "W706"
#: What asks a decoupled model over HTTP, and the rule that says that nothing does.
_GENERATE: Final = ("generate", "generate_stream")
_DECOUPLED: Final = "W341"


@dataclass(frozen=True, slots=True)
class Validated:
    """A judged repository: what was found, its models, and the texts that the findings point into.

    ``is_tfs_package`` says that it is a package for SageMaker's TensorFlow Serving containers, not Triton's.
    """

    findings: Sequence[Finding]
    models: Sequence[str]
    texts: Mapping[str, str]
    tree: Tree
    is_tfs_package: bool = False

    @property
    def verdict(self) -> Verdict:
        """What the server would say."""
        return verdict(self.findings)


def validate(
    path_or_repository: Path | str | TreeSource | Tree,
    *,
    image: str | None = None,
    target: Literal["triton", "sagemaker"] = "triton",
    auto_complete: bool = True,
    load_models: Sequence[str] | None = None,
    model_config_name: str = "",
    gpus: int | None = None,
    instance_type: str | None = None,
    environment: Mapping[str, str] | None = None,
    allow_empty: bool = False,
) -> list[Finding]:
    """What Triton (or SageMaker) would refuse in a repository, and what it does not see.

    A folder of numbered SavedModels with ``code/`` is judged as what it is: a package for SageMaker's TensorFlow
    Serving containers, to which image, target and the server's flags mean nothing.

    ``path_or_repository`` is a folder, or a `Repository` that is not written yet. ``image`` is a tag (``"24.09"``) or a
    whole image URI. ``auto_complete`` off is the server's ``--disable-auto-complete-config``, ``load_models`` its
    ``--load-model`` in explicit model control mode, ``model_config_name`` its ``--model-config-name``. ``gpus`` is how
    many GPUs the host has; None judges nothing by it. ``instance_type`` (``"ml.g5.xlarge"``) and the container's
    ``environment`` are what it is to run with on SageMaker. Nothing that a repository contains makes it raise.
    `tritonforge.validation.findings.verdict` of the findings is "loads", "refused" or "not judged".

    Raises:
        DefinitionError: the path is not a directory, or one without models (unless ``allow_empty``), or there is no
            such image or instance type.
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
        allow_empty=allow_empty,
    )
    return list(found.findings)


def validated(
    path_or_repository: Path | str | TreeSource | Tree,
    *,
    image: str | None = None,
    target: Literal["triton", "sagemaker"] = "triton",
    auto_complete: bool = True,
    load_models: Sequence[str] | None = None,
    model_config_name: str = "",
    gpus: int | None = None,
    instance_type: str | None = None,
    environment: Mapping[str, str] | None = None,
    exempt: Sequence[str] = (),
    allow_empty: bool = False,
) -> Validated:
    """As `validate`, with what a report needs besides the findings.

    ``exempt`` are codes of rules that do not hold where the repository is served, so that they have no part in the
    verdict. To hide findings is the matter of a report.
    """
    tree = _tree(path_or_repository)
    if tfs.is_for(tree):
        return _package(tree, environment or {}, exempt)
    if not tree.subdirectories() and not allow_empty and isinstance(path_or_repository, Path | str):
        raise DefinitionError(
            f"{path_or_repository}: no models found (expected a directory for each model). Give the folder that holds "
            "the models, or allow an empty one with --allow-empty"
        )
    default_model = (environment or {}).get("SAGEMAKER_TRITON_DEFAULT_MODEL_NAME")
    if gpus is None and instance_type is not None and triton.find_gpu_family(instance_type) is None:
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
        findings += check_environment(environment, image=None if image is None else triton.find_image(image))
        if environment.get("SAGEMAKER_TRITON_INFERENCE_TYPE") in _GENERATE:
            findings = [each for each in findings if each.code != _DECOUPLED]
    applicable = _applicable(findings, exempt)
    return Validated(applicable, tree.subdirectories(), _texts(tree, applicable), tree)


def _package(tree: Tree, environment: Mapping[str, str], exempt: Sequence[str]) -> Validated:
    """A package for TensorFlow Serving: its own rules, and CreateModel's for the environment."""
    findings = judge(tree)
    findings += tfs.check_environment(environment, tree)
    findings += [each for each in check_environment(environment) if each.code in _CREATE_MODEL]
    if "SAGEMAKER_TFS_DEFAULT_MODEL_NAME" in environment:
        findings = [each for each in findings if each.code != _DEFAULT_BY_CHANCE]
    applicable = _applicable(findings, exempt)
    return Validated(applicable, tfs.model_names(tree), _texts(tree, applicable), tree, is_tfs_package=True)


def _applicable(findings: Sequence[Finding], exempt: Sequence[str]) -> tuple[Finding, ...]:
    return tuple(each for each in ordered(findings) if each.code not in exempt)


def _texts(tree: Tree, findings: Sequence[Finding]) -> dict[str, str]:
    """The texts that the findings point into, by path."""
    texts = {}
    for path in {finding.path for finding in findings if finding.line is not None}:
        entry = tree.entry(path)
        if entry is not None and entry.content is not None:
            texts[path] = entry.content.decode("utf-8", "replace")
    return texts


def _tree(subject: Path | str | TreeSource | Tree) -> Tree:
    if isinstance(subject, Tree):
        return subject
    if isinstance(subject, Path | str):
        try:
            return read_tree(subject)
        except OSError as error:
            raise DefinitionError(f"{subject}: no model repository can be read here: {error.strerror}") from error
    return subject.tree()
