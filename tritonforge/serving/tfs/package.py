"""A package on disk: its models, and whether it has code. An edge."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tritonforge.errors import LaunchError
from tritonforge.triton import tfs_layout as layout
from tritonforge.triton.tfs_container import has_requirements
from tritonforge.triton.tfs_layout import ServedModel

__all__ = ["ServedPackage", "default_model", "is_package", "read"]


@dataclass(frozen=True, slots=True)
class ServedPackage:
    """What a folder holds: its models, and whether it has what makes the container start its Python service.

    ``requirements`` is the requirements file, None where it is missing or has no line that names anything.
    """

    folder: Path
    models: tuple[ServedModel, ...]
    has_code: bool
    requirements: Path | None = None


def is_package(folder: Path) -> bool:
    """Whether a folder is a package for TensorFlow Serving, well made or not, and no model repository of Triton's."""
    return folder.is_dir() and layout.is_package(_paths(folder))


def read(folder: Path) -> ServedPackage:
    """The package in a folder.

    Raises:
        LaunchError: there is no such folder, or no model in it that the container would serve.
    """
    if not folder.is_dir():
        raise LaunchError(f"{folder} is not a directory; give the folder that holds the SavedModel's numbered folder")
    models = layout.find_models(_paths(folder))
    if not models:
        raise LaunchError(
            f"{folder}: no SavedModel bundles found! A package holds <model>/<number>/{layout.SAVED_MODEL}; "
            "tritonforge validate says more"
        )
    has_code = any((folder / path).exists() for path in (layout.INFERENCE, layout.REQUIREMENTS, layout.LIBRARY))
    requirements = folder / layout.REQUIREMENTS
    if not requirements.is_file() or not has_requirements(requirements.read_text("utf-8", errors="replace")):
        return ServedPackage(folder, models, has_code)
    return ServedPackage(folder, models, has_code, requirements)


def default_model(package: ServedPackage, wanted: str | None) -> ServedModel:
    """The model that requests are for which name none; of several the first by name, where SageMaker's order is chance.

    Raises:
        LaunchError: there is no such model.
    """
    if wanted is None:
        return package.models[0]
    for model in package.models:
        if model.name == wanted:
            return model
    known = ", ".join(model.name for model in package.models)
    raise LaunchError(f"SAGEMAKER_TFS_DEFAULT_MODEL_NAME is {wanted!r}; the package has {known}")


def _paths(folder: Path, prefix: str = "", above: tuple[tuple[int, int], ...] = ()) -> Iterator[str]:
    """The paths in a folder, links followed; ``above`` are the device and inode numbers of the folders around it."""
    status = folder.stat()
    here = (status.st_dev, status.st_ino)
    if here in above:
        return  # a link to a folder that holds it
    for each in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if each.is_dir():
            yield f"{prefix}{each.name}/"
            yield from _paths(Path(each.path), f"{prefix}{each.name}/", (*above, here))
        else:
            yield f"{prefix}{each.name}"
