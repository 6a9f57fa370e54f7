"""The repositories of a deployment on this disk: built, opened, and checked for the image before their upload."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from tritonforge import temporary
from tritonforge.building import BuildProgress, build_definitions
from tritonforge.errors import DefinitionError, ValidationError
from tritonforge.repository.definition.loading import Definitions, load
from tritonforge.sagemaker.endpoints.container import build_environment, choose_image
from tritonforge.sagemaker.endpoints.deployment import Content, Deployment
from tritonforge.sagemaker.package import check_package, find_default_model, read_contents, unpack
from tritonforge.sagemaker.plans.plan import Progress, SilentProgress
from tritonforge.validation.context import Options
from tritonforge.validation.findings import Finding
from tritonforge.validation.model_views import build_context
from tritonforge.validation.tree_reader import read_tree

_Value = TypeVar("_Value")

__all__ = ["DeploymentSources", "LocalRepository", "check_repositories", "find_deployment", "is_definition",
           "open_repository"]  # fmt: skip


@dataclass(frozen=True, slots=True)
class LocalRepository:
    """A repository: its directory, what a plan reads of it, and the archive that it was unpacked from, if it was."""

    folder: Path
    content: Content
    archive: Path | None = None


@dataclass(frozen=True, slots=True)
class DeploymentSources:
    """The paths that are deployed: built repositories, archives, and definitions, which are loaded."""

    paths: Sequence[Path]
    definitions: Mapping[Path, Definitions]
    #: The directory to which the repositories of variants are relative: that of the first path if it is a definition.
    base: Path = Path()

    @classmethod
    def load(cls, paths: Sequence[Path]) -> DeploymentSources:
        """Load the definitions among some paths.

        Raises:
            DefinitionError: a definition is invalid.
        """
        definitions = {path: load(path) for path in paths if is_definition(path)}
        first = definitions.get(paths[0]) if paths else None
        return cls(tuple(paths), definitions, Path() if first is None else first.folder)

    def describe_deployment(self, *, name: str | None = None) -> Deployment:
        """Return the deployment of the first path: the one that its definition binds, or one with defaults only.

        Args:
            name: the deployment's name; without one it is the definition's or the path's.

        Raises:
            DefinitionError: the definition binds several, and none of this name, or there is no path and no name.
        """
        first = self.definitions.get(self.paths[0]) if self.paths else None
        described = None if first is None else find_deployment(first, name=name)
        if described is not None:
            return replace(described, name=name or described.name)
        if name is None:
            if not self.paths:
                raise DefinitionError("the deployment needs a name; give --name")
            path = self.paths[0] if first is None else first.folder
            name = re.sub(r"[^a-zA-Z0-9]+", "-", _strip_suffix(path)).strip("-")
        return Deployment(name=name)

    def find_value(self, kind: type[_Value]) -> _Value | None:
        """Return the value of a class that the definition of the first path binds; None if it binds none.

        Raises:
            DefinitionError: it binds several.
        """
        first = self.definitions.get(self.paths[0]) if self.paths else None
        values = [] if first is None else [value for value in first.bound.values() if isinstance(value, kind)]
        if first is not None and len(values) > 1:
            raise DefinitionError(f"{first.path.name} has {len(values)} values of {kind.__name__} (expected one)")
        return values[0] if values else None

    @contextmanager
    def open_repositories(
        self, deployment: Deployment, *, progress: Progress | None = None
    ) -> Iterator[Mapping[str, LocalRepository]]:
        """Open every repository of a deployment, by the name that its variants use: "" is the deployment's own.

        A definition is built into build/NAME.

        Raises:
            DefinitionError, PackageError, ArtifactError: a path is not a repository, or cannot be built or read.
        """
        shown = SilentProgress() if progress is None else progress
        if len(self.paths) > 1 and not deployment.multi_model:
            raise DefinitionError(
                "several paths are given for one model; use --multi-model, or --variant NAME=PATH for several variants"
            )
        repositories: dict[str, LocalRepository] = {}
        with ExitStack() as files:

            def open_source(path: Path, definitions: Definitions | None) -> LocalRepository:
                built = path if definitions is None else build_definition(definitions, shown)
                return files.enter_context(open_repository(built))

            for path in self.paths:
                key = _strip_suffix(path) if deployment.multi_model else ""
                if key in repositories:
                    raise DefinitionError(
                        f"two paths are named {key}; the models of a multi-model endpoint must differ"
                    )
                repositories[key] = open_source(path, self.definitions.get(path))
            for name in () if deployment.multi_model else deployment.repositories:
                path = self.base / name
                repositories[name] = open_source(path, load(path) if is_definition(path) else None)
            yield repositories


def is_definition(path: Path) -> bool:
    """Return True if a path is a definition: a Python file, or a directory with a definition.py."""
    return path.suffix == ".py" or (path / "definition.py").is_file()


def find_deployment(definitions: Definitions, *, name: str | None) -> Deployment | None:
    """Return the deployment that a definition binds, of several the one of this name; None if it binds none.

    Raises:
        DefinitionError: it binds several, and none of this name.
    """
    deployments = {value.name: value for value in definitions.bound.values() if isinstance(value, Deployment)}
    if len(deployments) <= 1:
        return next(iter(deployments.values()), None)
    if name not in deployments:
        raise DefinitionError(
            f"{definitions.path.name} has the deployments {', '.join(sorted(deployments))}; choose one with --name"
        )
    return deployments[name]


def build_definition(definitions: Definitions, progress: Progress) -> Path:
    """Build a definition into build/NAME and return that directory."""

    def show(event: BuildProgress) -> None:
        if event.kind == "step":
            progress.begin(event.message)
        elif event.kind == "note":
            progress.note(event.message)
        else:
            progress.show_bytes(event.done, event.total)

    destination = Path("build") / definitions.folder.name
    build_definitions(definitions, destination, on_progress=show)
    return destination


def _strip_suffix(path: Path) -> str:
    """Return the last name of a path, without ``.tar.gz``."""
    return path.resolve().name.removesuffix(".tar.gz")


@contextmanager
def open_repository(path: Path) -> Iterator[LocalRepository]:
    """Open a built repository, or an archive of one, which is unpacked for the length of the context.

    Raises:
        DefinitionError: the path does not exist.
        PackageError: the archive is unsafe or damaged, or the repository cannot be packed.
    """
    if path.is_dir():
        yield LocalRepository(path, _read_content(path, size=None))
    elif path.is_file():
        with temporary.open_directory("archive") as parent:
            folder = Path(parent) / "repository"
            unpack(path, folder)
            yield LocalRepository(folder, _read_content(folder, size=path.stat().st_size), archive=path)
    else:
        raise DefinitionError(f"{path}: not found; give a built repository, a model.tar.gz, or a definition")


def _read_content(folder: Path, *, size: int | None) -> Content:
    contents = read_contents(folder)
    context = build_context(read_tree(folder), Options(target="sagemaker"))
    batches = any(
        model.max_batch_size > 1
        and not model.is_ensemble
        and any(model.document.one(name) is not None for name in ("dynamic_batching", "sequence_batching"))
        for model in context.models.values()
    )
    return Content(
        digest=contents.digest,
        size=contents.size if size is None else size,
        default_model=find_default_model(folder),
        batches=batches,
        files=contents.files,
    )


def check_repositories(
    deployment: Deployment, repositories: Mapping[str, LocalRepository], *, region: str
) -> list[Finding]:
    """Return every finding of every variant's repository for its image, instances and environment.

    Raises:
        ValidationError: a repository would be rejected, or its server would stop; ``findings`` has all findings.
        DefinitionError: the image is not available, or is not for this kind of repository.
    """
    findings: dict[tuple[str, str], Finding] = {}
    for variant in (*deployment.list_variants(), *deployment.list_shadow_variants()):
        if variant.model_data_url is not None:
            continue
        image = choose_image(variant, region).image
        for name in repositories if deployment.multi_model else [variant.repository or ""]:
            repository = repositories.get(name)
            if repository is None:
                continue
            report = check_package(
                repository.folder,
                image=None if image is None else image.text,
                instance_type=variant.instance_type,
                gpus=None if variant.serverless_config is None else 0,
                environment=build_environment(variant, repository.content, image, multi_model=deployment.multi_model),
                multi_model=deployment.multi_model,
            )
            if report.is_tfs_package and image is not None:
                raise DefinitionError(
                    f"{repository.folder}: this is a package for TensorFlow Serving, which a Triton image cannot "
                    "serve; give image='tensorflow-inference:2.19' (--image tensorflow-inference:2.19)"
                )
            if not report.is_tfs_package and image is None:
                raise DefinitionError(
                    f"{repository.folder}: this is a Triton model repository, which a TensorFlow Serving image cannot "
                    "serve; give image='24.09' (--image 24.09)"
                )
            for finding in report.findings:
                place = f"{name}/{finding.path}:{finding.line}:{finding.message}"
                findings[finding.code, place] = finding
    errors = [finding for finding in findings.values() if finding.severity == "error"]
    if errors:
        listed = "\n".join(f"  {error.code} {error.path}: {error.message}" for error in errors)
        raise ValidationError(
            f"the repository would not run there ({len(errors)} errors); see tritonforge explain CODE:\n{listed}",
            findings=list(findings.values()),
        )
    return list(findings.values())
