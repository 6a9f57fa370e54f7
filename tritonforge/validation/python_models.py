"""The `model.py` of a model of the python backend, read for every version that the server loads. No I/O."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tritonforge.triton.backends import find_model_filename
from tritonforge.validation.context import Context, ModelView
from tritonforge.validation.python_module import Member, PythonModule, list_members, read_module

__all__ = ["MODEL_CLASS", "UTILITIES", "PythonModel", "has_own_python", "list_python_paths", "read_python_models"]

#: The class that the backend makes an object of.
MODEL_CLASS: Final = "TritonPythonModel"
#: The module of the backend that models import.
UTILITIES: Final = "triton_python_backend_utils"


@dataclass(frozen=True, slots=True)
class PythonModel:
    """The code of one version of a model.

    ``places`` are the directories that the stub adds to ``sys.path`` (pb_stub.cc ModelContext::StubSetup).
    ``members`` are those of the class, and ``is_whole`` is True if these are all that it has.
    """

    version: int
    path: str
    module: PythonModule
    places: Sequence[str]
    members: Mapping[str, Member]
    is_whole: bool


def list_python_paths(context: Context, model: ModelView) -> Iterator[tuple[int, str]]:
    """Yield the loaded versions of a model of the python backend, each with the file that the backend imports."""
    own_runtime = model.document.text("runtime") not in ("", "libtriton_python.so")
    if model.backend != "python" or model.is_ensemble or own_runtime or model.document.has("cc_model_filenames"):
        return
    filename = find_model_filename(model.backend, model.platform, model.default_model_filename)
    for version in model.versions if filename else ():
        directory = model.version_directories[version]
        if not context.tree.leaves(directory) and context.tree.is_file(f"{directory}/{filename}"):
            yield version, f"{directory}/{filename}"


def read_python_models(context: Context, model: ModelView) -> list[PythonModel]:
    """Return the code of a model's loaded versions, as far as it was read and is Python."""
    models = []
    for version, path in list_python_paths(context, model):
        module = read_module(context.tree, path)
        if module is not None:
            places = (path.rpartition("/")[0], model.name)
            members, is_whole = list_members(context.tree, module, MODEL_CLASS, places)
            models.append(PythonModel(version, path, module, places, members, is_whole))
    return models


def has_own_python(context: Context, model: ModelView) -> bool:
    """Return True if a model may run on a Python of its own: it has a stub or names an environment."""
    return model.document.entries("parameters").get("EXECUTION_ENV_PATH") is not None or (
        context.tree.kind(f"{model.name}/triton_python_backend_stub") != "missing"
    )
