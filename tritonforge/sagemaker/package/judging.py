"""The judging of a repository as a package: what SageMaker makes of it, with the environment that it needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tritonforge.errors import PackageError
from tritonforge.sagemaker.package.listing import listing
from tritonforge.sagemaker.package.multi_model import judge_multi_model
from tritonforge.sagemaker.package.snapshot import snapshot
from tritonforge.validation.findings import Finding
from tritonforge.validation.report import Validated, validated
from tritonforge.validation.rules import ensemble, tfs, views
from tritonforge.validation.rules.sagemaker import archive
from tritonforge.validation.tree import Tree

__all__ = ["DEFAULT_MODEL", "Judgement", "check_repository", "default_model", "default_model_of", "judge", "prepare"]

#: The variable that names the model of an archive that /invocations asks.
DEFAULT_MODEL: Final = "SAGEMAKER_TRITON_DEFAULT_MODEL_NAME"


@dataclass(frozen=True, slots=True)
class Judgement:
    """What SageMaker makes of a package: the findings, the model that is asked, and the environment it needs.

    ``default_model`` is None where it is not clear which model is meant; a finding says so then. ``environment`` is
    what the container must be given; a multi-model endpoint needs nothing. ``idle`` names the models that are in the
    package and are not loaded, since the default model does not use them. ``is_tfs_package`` says that it is one for
    SageMaker's TensorFlow Serving containers, which have no default model of Triton's.
    """

    default_model: str | None
    environment: Mapping[str, str]
    judged: Validated
    idle: Sequence[str] = ()
    left_out: Sequence[str] = ()
    is_tfs_package: bool = False

    @property
    def findings(self) -> Sequence[Finding]:
        """All findings."""
        return self.judged.findings

    @property
    def refused(self) -> bool:
        """Whether Triton or SageMaker refuses the package."""
        return any(each.refused_by is not None for each in self.findings)


def prepare(
    repository: Path,
    *,
    image: str | None = None,
    default_model: str | None = None,
    instance_type: str | None = None,
    gpus: int | None = None,
    environment: Mapping[str, str] | None = None,
    multi_model: bool = False,
    dereference: bool = False,
) -> Judgement:
    """Judge what a package of this repository would hold, for an image and an environment; nothing is written.

    ``gpus`` 0 is for hosts without a GPU; with None the instance type decides.

    Raises:
        PackageError: as `listing`, or the folder is a definition that is not built yet.
        DefinitionError: there is no such image or instance type.
    """
    check_repository(repository)
    listed = listing(repository, dereference=dereference)
    return judge(
        snapshot(listed),
        image=image,
        default_model=default_model,
        instance_type=instance_type,
        gpus=gpus,
        environment=environment,
        multi_model=multi_model,
        left_out=listed.left_out,
    )


def check_repository(repository: Path) -> None:
    """Raise PackageError where the path is a definition, which is built first, or a file."""
    if repository.suffix == ".py" or (repository / "definition.py").is_file():
        folder = repository.resolve() if repository.is_dir() else repository.resolve().parent
        raise PackageError(
            f"{repository}: this is a definition; build it first: tritonforge build {repository}, "
            f"then package build/{folder.name}"
        )
    if repository.is_file():
        raise PackageError(f"{repository}: this is a file; give a model repository, or --inspect for an archive")


def judge(
    tree: Tree,
    *,
    image: str | None = None,
    default_model: str | None = None,
    instance_type: str | None = None,
    gpus: int | None = None,
    environment: Mapping[str, str] | None = None,
    multi_model: bool = False,
    left_out: Sequence[str] = (),
) -> Judgement:
    """Judge the tree of a package; see `prepare`. A default model that is given wins over the environment's."""
    if tfs.is_for(tree):
        found = validated(tree, environment=environment)
        return Judgement(None, dict(environment or {}), found, left_out=left_out, is_tfs_package=True)
    if multi_model:
        # A multi-model container needs instances, whose type says whether they have GPUs.
        served, judged = judge_multi_model(tree, image=image, instance_type=instance_type, environment=environment)
        return Judgement(served, dict(environment or {}), judged, left_out=left_out)
    chosen = default_model or (environment or {}).get(DEFAULT_MODEL) or default_model_of(tree)
    needed = dict(environment or {}) | ({DEFAULT_MODEL: chosen} if chosen is not None else {})
    judged = validated(
        tree,
        image=image,
        target="sagemaker",
        instance_type=instance_type,
        gpus=gpus,
        environment=needed if needed else None,
    )
    return Judgement(chosen, needed, judged, _idle(tree, chosen), left_out)


def default_model(repository: Path, *, dereference: bool = False) -> str | None:
    """What SAGEMAKER_TRITON_DEFAULT_MODEL_NAME must be for a package of this repository; None where it is not clear.

    It is the only model directory, or the only model that no ensemble uses, or else the only ensemble that no other one
    uses, as for `tritonforge serve`. Raises PackageError as `listing`.
    """
    return default_model_of(snapshot(listing(repository, dereference=dereference)))


def default_model_of(tree: Tree) -> str | None:
    """The default model of a package's tree, as `default_model`."""
    context = views.build(tree, target="sagemaker")
    # What the rules take for the default model must be the same here, so it is asked of them.
    found = archive.default_model(context, archive.model_directories(context))
    if found is not None:
        return found
    ensembles = [name for name, model in context.models.items() if model.is_ensemble]
    used = {needed for name in ensembles for needed in ensemble.wanted(context.models[name])}
    outermost = [name for name in ensembles if name not in used]
    return outermost[0] if len(outermost) == 1 else None


def _idle(tree: Tree, default: str | None) -> tuple[str, ...]:
    """The models that nobody asks for when only the default model and what it needs are loaded."""
    context = views.build(tree, target="sagemaker")
    if default is None or default not in context.models:
        return ()
    waiting, loaded = [default], {default}
    while waiting:
        for needed in set(ensemble.wanted(context.models[waiting.pop()])) & context.models.keys() - loaded:
            loaded.add(needed)
            waiting.append(needed)
    return tuple(name for name, model in context.models.items() if name not in loaded and model.has_config)
