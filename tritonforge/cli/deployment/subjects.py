"""What is deployed: the repositories that were named, and the deployment that the definition or the flags describe."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click

from tritonforge.building import build_definitions
from tritonforge.cli.deployment.flags import overridden
from tritonforge.cli.terminal import Steps
from tritonforge.errors import DefinitionError
from tritonforge.repository.definition.loading import Definitions, load
from tritonforge.sagemaker.endpoints import Deployment
from tritonforge.sagemaker.endpoints.local_repository import LocalRepository, open_repository

__all__ = ["Subject", "deployment_of", "is_definition", "subject"]


@dataclass(frozen=True, slots=True)
class Subject:
    """A deployment, and its repositories by what it calls them."""

    deployment: Deployment
    materials: Mapping[str, LocalRepository]


def is_definition(path: Path) -> bool:
    """Whether a path is a definition: a Python file, or a folder with a definition.py."""
    return path.suffix == ".py" or (path / "definition.py").is_file()


@contextmanager
def subject(paths: Sequence[Path], flags: Mapping[str, Any], progress: Steps) -> Iterator[Subject]:
    """The deployment of these paths; definitions are built into build/NAME first, archives unpacked while it lasts.

    Raises:
        DefinitionError, PackageError, ArtifactError: a path is none of these, or cannot be built or read.
        click.UsageError: the flags do not fit the paths.
    """
    definitions = {path: load(path) for path in paths if is_definition(path)}
    first = definitions.get(paths[0]) if paths else None
    described = deployment_of(first, name=flags["name"])
    name = flags["name"] or (described.name if described is not None else _name(paths, first))
    deployment = overridden(replace(described, name=name) if described is not None else Deployment(name=name), flags)
    if len(paths) > 1 and not deployment.multi_model:
        raise click.UsageError("several paths are for --multi-model; for several variants use --variant NAME=PATH")
    base = first.folder if first is not None and not flags["variants"] else Path()
    with ExitStack() as open_archives:
        materials: dict[str, LocalRepository] = {}
        for path in paths:
            built = _built(path, definitions.get(path), progress)
            key = _target(path) if deployment.multi_model else ""
            if key in materials:
                raise click.UsageError(f"two of the paths are named {key}; a multi-model endpoint needs two names")
            materials[key] = open_archives.enter_context(open_repository(built))
        for repository in _named(deployment):
            place = base / repository
            loaded = load(place) if is_definition(place) else None
            materials[repository] = open_archives.enter_context(open_repository(_built(place, loaded, progress)))
        yield Subject(deployment, materials)


def deployment_of(definitions: Definitions | None, *, name: str | None) -> Deployment | None:
    """The deployment that a definition binds, of several the one of this name; None where it binds none.

    Raises:
        DefinitionError: it binds several, and none is of the name.
    """
    if definitions is None:
        return None
    found = {id(each): each for each in definitions.bound.values() if isinstance(each, Deployment)}
    by_name = {each.name: each for each in found.values()}
    if len(by_name) <= 1:
        return next(iter(by_name.values()), None)
    if name not in by_name:
        raise DefinitionError(
            f"{definitions.path.name} has the deployments {', '.join(sorted(by_name))}; choose one with --name"
        )
    return by_name[name]


def _named(deployment: Deployment) -> list[str]:
    if deployment.multi_model:
        return []
    variants = (*deployment.variants, *deployment.shadow_variants)
    return list(dict.fromkeys(each.repository for each in variants if each.repository is not None))


def _built(path: Path, definitions: Definitions | None, progress: Steps) -> Path:
    if definitions is None:
        return path
    destination = Path("build") / definitions.folder.name
    build_definitions(definitions, destination, on_progress=progress.on_build)
    return destination


def _name(paths: Sequence[Path], definitions: Definitions | None) -> str:
    if not paths:
        raise click.UsageError("the deployment needs a name: --name")
    name = definitions.folder.name if definitions is not None else _target(paths[0])
    return re.sub(r"[^a-zA-Z0-9]+", "-", name).strip("-")


def _target(path: Path) -> str:
    """What a path is called: its last name, without ``.tar.gz``."""
    return path.resolve().name.removesuffix(".tar.gz")
