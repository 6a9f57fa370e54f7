"""The report on a package: what SageMaker makes of a repository, and the environment that its container needs.

On a multi-model endpoint, `serve` does not read the archives; Triton's SageMaker front end does, when a model is
invoked. With a config.pbtxt at its top, the archive is that one model. Otherwise the front end serves the directory
whose config.pbtxt has the text ``platform: "ensemble"``, or else the directory that the file system lists last. So an
archive must have a config.pbtxt at its top, one ensemble, or one directory. Source: server/src/sagemaker_server.cc;
recorded with the real front end.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from tritonforge.errors import PackageError
from tritonforge.pbtxt import parse
from tritonforge.sagemaker.package.contents import list_package
from tritonforge.sagemaker.package.inspection import read_snapshot
from tritonforge.validation.context import Options
from tritonforge.validation.findings import Finding, ValidationReport, sort_findings
from tritonforge.validation.model_views import build_context
from tritonforge.validation.report import run
from tritonforge.validation.rules import sagemaker_archive, sagemaker_endpoint
from tritonforge.validation.rules.tfs_package import is_tfs_package
from tritonforge.validation.tree import Tree

__all__ = ["DEFAULT_MODEL", "PackageReport", "check_multi_model", "check_package", "check_repository", "check_tree",
           "find_default_model", "find_tree_default"]  # fmt: skip

#: The variable that names the model of an archive that answers /invocations.
DEFAULT_MODEL: Final = "SAGEMAKER_TRITON_DEFAULT_MODEL_NAME"


@dataclass(frozen=True, slots=True)
class PackageReport:
    """What SageMaker makes of a package: the findings, the model that answers, and the required environment.

    ``default_model`` is None if it is ambiguous; a finding reports that. ``environment`` is what the container needs; a
    multi-model endpoint needs nothing. ``idle`` names the models of the package that are not loaded, since the default
    model does not use them. ``is_tfs_package`` is True for a package for SageMaker's TensorFlow Serving containers,
    which have no default model.
    """

    default_model: str | None
    environment: Mapping[str, str]
    validation: ValidationReport
    idle: Sequence[str] = ()
    left_out: Sequence[str] = ()
    is_tfs_package: bool = False

    @property
    def findings(self) -> Sequence[Finding]:
        """All findings."""
        return self.validation.findings

    @property
    def is_refused(self) -> bool:
        """True if Triton or SageMaker rejects the package."""
        return any(finding.refused_by is not None for finding in self.findings)


def check_package(
    repository: Path,
    *,
    image: str | None = None,
    default_model: str | None = None,
    instance_type: str | None = None,
    gpus: int | None = None,
    environment: Mapping[str, str] | None = None,
    multi_model: bool = False,
    dereference: bool = False,
) -> PackageReport:
    """Check what a package of this repository would contain, for an image and an environment; writes nothing.

    ``gpus`` 0 is for hosts without a GPU; with None the instance type decides.

    Raises:
        PackageError: as `list_package`, or the directory is a definition that is not built yet.
        DefinitionError: the image or instance type does not exist.
    """
    check_repository(repository)
    listed = list_package(repository, dereference=dereference)
    return check_tree(
        read_snapshot(listed),
        image=image,
        default_model=default_model,
        instance_type=instance_type,
        gpus=gpus,
        environment=environment,
        multi_model=multi_model,
        left_out=listed.left_out,
    )


def check_repository(repository: Path) -> None:
    """Raise PackageError if the path is a definition, which must be built first, or a file."""
    if repository.suffix == ".py" or (repository / "definition.py").is_file():
        folder = repository.resolve() if repository.is_dir() else repository.resolve().parent
        raise PackageError(
            f"{repository}: this is a definition; build it first: tritonforge build {repository}, "
            f"then package build/{folder.name}"
        )
    if repository.is_file():
        raise PackageError(f"{repository}: this is a file; give a model repository, or --inspect for an archive")


def check_tree(
    tree: Tree,
    *,
    image: str | None = None,
    default_model: str | None = None,
    instance_type: str | None = None,
    gpus: int | None = None,
    environment: Mapping[str, str] | None = None,
    multi_model: bool = False,
    left_out: Sequence[str] = (),
) -> PackageReport:
    """Check the tree of a package as `check_package` does; ``default_model`` overrides the environment's."""
    if is_tfs_package(tree):
        found = run(tree, Options(environment=environment))
        return PackageReport(None, dict(environment or {}), found, left_out=left_out, is_tfs_package=True)
    if multi_model:
        # A multi-model container needs instances, whose type determines whether they have GPUs.
        served, validation = check_multi_model(tree, image=image, instance_type=instance_type, environment=environment)
        return PackageReport(served, dict(environment or {}), validation, left_out=left_out)
    chosen = default_model or (environment or {}).get(DEFAULT_MODEL) or find_tree_default(tree)
    needed = dict(environment or {}) | ({DEFAULT_MODEL: chosen} if chosen is not None else {})
    validation = run(
        tree,
        Options(
            image=image,
            target="sagemaker",
            instance_type=instance_type,
            gpus=gpus,
            environment=needed if needed else None,
        ),
    )
    return PackageReport(chosen, needed, validation, _find_idle(tree, chosen), left_out)


def find_default_model(repository: Path, *, dereference: bool = False) -> str | None:
    """Return the value of SAGEMAKER_TRITON_DEFAULT_MODEL_NAME for a package of this repository; None if ambiguous.

    It is the only model directory, or the only model that no ensemble uses, or else the only ensemble that no other one
    uses, as for `tritonforge serve`. Raises PackageError as `list_package`.
    """
    return find_tree_default(read_snapshot(list_package(repository, dereference=dereference)))


def find_tree_default(tree: Tree) -> str | None:
    """Return the default model of a package's tree, as `find_default_model` does."""
    context = build_context(tree, Options(target="sagemaker"))
    # The rules determine the default model, so that it is the same there and here.
    found = sagemaker_archive.find_default_model(context, sagemaker_archive.list_model_directories(context))
    if found is not None:
        return found
    ensembles = [name for name, model in context.models.items() if model.is_ensemble]
    used = {needed for name in ensembles for needed in context.models[name].step_models}
    outermost = [name for name in ensembles if name not in used]
    return outermost[0] if len(outermost) == 1 else None


def _find_idle(tree: Tree, default: str | None) -> tuple[str, ...]:
    """Return the models that are not loaded if only the default model and what it needs are."""
    context = build_context(tree, Options(target="sagemaker"))
    if default is None or default not in context.models:
        return ()
    waiting, loaded = [default], {default}
    while waiting:
        for needed in set(context.models[waiting.pop()].step_models) & context.models.keys() - loaded:
            loaded.add(needed)
            waiting.append(needed)
    return tuple(name for name, model in context.models.items() if name not in loaded and model.has_config)


#: The rules of `serve`, which reads no archive of a multi-model endpoint. E402 remains: Triton needs a model, too.
_OF_SERVE: Final = ("E401", "E403", "E404", "E405", "W401", "W402", "W403")

#: The rules of the front end, which are advice for a single-model endpoint and errors here.
_OF_FRONT_END: Final = tuple(rule.code for rule in sagemaker_endpoint.MULTI_MODEL_RULES)

#: The directory in which a model at the top of an archive is checked if its configuration has no name.
_TOP: Final = "model"


def check_multi_model(
    tree: Tree,
    *,
    image: str | None = None,
    instance_type: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> tuple[str | None, ValidationReport]:
    """Check an archive of a multi-model endpoint; return the model that is served, None if undefined, and the report.

    The front end's rules, which are advice elsewhere, are errors here.
    """
    is_model = tree.is_file("config.pbtxt")
    top = ""
    if is_model:
        top = _name_model(tree)
        tree = Tree({f"{top}/{path}": entry for path, entry in tree.entries.items()}, truncated=tree.truncated)
    served, candidates = _find_served(tree)
    found = run(
        tree,
        Options(
            image=image,
            target="sagemaker",
            load_models=[served] if served is not None else None,
            instance_type=instance_type,
            environment=environment,
            exempt=_OF_SERVE,
        ),
    )
    findings = [
        replace(finding, severity="error", refused_by="sagemaker") if finding.code in _OF_FRONT_END else finding
        for finding in (*found.findings, *_report_ambiguity(served, candidates))
    ]
    if is_model:
        return "", replace(
            found,
            findings=tuple(replace(finding, path=finding.path.removeprefix(top).lstrip("/")) for finding in findings),
            texts={path.removeprefix(f"{top}/"): text for path, text in found.texts.items()},
        )
    return served, replace(found, findings=tuple(sort_findings(findings)))


def _name_model(tree: Tree) -> str:
    """Return a name for a model at the top; the front end uses its own, so that any name is valid."""
    entry = tree.entry("config.pbtxt")
    name = parse(entry.content).text("name") if entry is not None and entry.content is not None else ""
    return name if name and "/" not in name else _TOP


def _find_served(tree: Tree) -> tuple[str | None, list[str]]:
    """Return the model that the front end chooses, None if undefined, and its candidates."""
    context = build_context(tree, Options(target="sagemaker"))
    names = list(context.models)
    # The rules detect ensembles, so that the result is the same there and here.
    detected = [name for name in names if sagemaker_endpoint.is_detected_as_ensemble(context, context.models[name])]
    chosen = detected or names
    return (chosen[0] if len(chosen) == 1 else None), chosen


def _report_ambiguity(served: str | None, candidates: list[str]) -> Iterator[Finding]:
    if served is None and candidates:
        yield sagemaker_endpoint.W411.report(
            f"a multi-model endpoint serves one of {', '.join(candidates[:20])}, which one is not defined",
            path="",
            help="give each model an archive of its own, or make one of them an ensemble that uses the others",
        )
