"""A package for SageMaker's TensorFlow Serving containers as the source of a definition. No I/O: it reads a `Tree`."""

from __future__ import annotations

from collections.abc import Iterator

from tritonforge.errors import DefinitionError
from tritonforge.escaping import escape_line
from tritonforge.repository.definition import File, TensorFlow, TensorFlowServing
from tritonforge.repository.definition_writer import write_package
from tritonforge.triton.tfs_layout import CODE, ServedModel
from tritonforge.validation.rules.tfs_package import find_package_models
from tritonforge.validation.tree import Tree

__all__ = ["read_package"]


def read_package(tree: Tree, *, directory: str, title: str) -> tuple[str, TensorFlowServing, list[str], list[str]]:
    """Return the source of a package's definition, the package, the files that it names, and notes.

    Inputs and outputs are left out: they are those of the SavedModels, from which a build reads them.

    Raises:
        DefinitionError: the package has no models, two of one name, or a link that leaves it.
    """
    served = find_package_models(tree)
    if not served:
        raise DefinitionError("no models found (expected <model>/<number>/saved_model.pb)")
    notes, models = [], []
    for model in served:
        if model.folder != model.name:
            place = f"{escape_line(model.folder)}/" if model.folder else "the top of the package"
            notes.append(f"{model.name}: it is at {place}; the build puts it in {model.name}/")
        notes += [f"{path}: left out: it repeats a version" for path in map(escape_line, model.repeated)]
        models.append(_read_model(model, directory))
    code = f"{directory}/{CODE}" if directory not in ("", ".") else CODE
    package = TensorFlowServing(models, code=code if tree.is_dir(CODE) else None)
    files = [path for model in served for folder in model.versions.values() for path in _list_files(tree, folder)]
    files += _list_files(tree, CODE)
    return write_package(models, code=package.code, title=title), package, files, notes


def _read_model(model: ServedModel, directory: str) -> TensorFlow:
    prefix = "" if directory in ("", ".") else f"{directory}/"
    return TensorFlow(
        model.name, artifact={number: File(f"{prefix}{folder}") for number, folder in model.versions.items()}
    )


def _list_files(tree: Tree, folder: str) -> Iterator[str]:
    """Yield the files below a directory; raise DefinitionError for a link that leaves the package."""
    for path in sorted(tree.entries):
        if path.startswith(f"{folder}/"):
            if tree.leaves(path):
                raise DefinitionError(
                    f"{escape_line(path)}: the link leads out of the package. Put the file or directory there itself."
                )
            if tree.is_file(path):
                yield path
