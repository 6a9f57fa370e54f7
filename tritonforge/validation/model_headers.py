"""The model files that the backends of a repository open, with the headers that were read of them. No I/O."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from tritonforge.errors import ArtifactError
from tritonforge.model_files.dali_pipeline import read_signature as read_pipeline_signature
from tritonforge.model_files.onnx_model import OnnxModel
from tritonforge.model_files.tensorflow_graph import SavedModel
from tritonforge.triton.backends import BACKENDS, find_model_filename
from tritonforge.triton.model_formats import FIL_FORMATS

if TYPE_CHECKING:
    from tritonforge.model_files.file_formats import FileFormat
    from tritonforge.model_files.header import ModelHeader
    from tritonforge.model_files.signature import Signature
    from tritonforge.validation.context import ModelView
    from tritonforge.validation.tree import Tree

__all__ = ["ModelFile", "find_fil_format", "find_parameter", "find_signature", "list_headers", "list_signatures",
           "read_pipeline"]  # fmt: skip


@dataclass(frozen=True, slots=True)
class ModelFile:
    """One file that a backend opens: the version that it belongs to, its path, what the backend takes it for."""

    version: int
    path: str
    format: FileFormat
    header: ModelHeader


#: Backend -> the format of its file.
_FORMATS: Final[Mapping[str, FileFormat]] = MappingProxyType(
    {
        "tensorflow": "saved_model",
        "onnxruntime": "onnx",
        "tensorrt": "tensorrt",
        "pytorch": "torch",
        "openvino": "openvino",
        "fil": "trees",
    }
)
_GRAPHDEF: Final = BACKENDS["tensorflow"].platforms[1].name


def list_headers(tree: Tree, model: ModelView) -> Iterator[ModelFile]:
    """Yield the files of a model's loaded versions whose headers were read.

    Nothing is yielded for a model whose own library or Python file replaces the backend (``runtime``), and for one with
    ``cc_model_filenames``, of which the GPU decides what is opened.
    """
    own_runtime = model.document.text("runtime") not in ("", f"libtriton_{model.backend}.so")
    file_format = "graphdef" if model.platform == _GRAPHDEF else _FORMATS.get(model.backend)
    if file_format is None or own_runtime or model.document.has("cc_model_filenames"):
        return
    filename = find_model_filename(model.backend, model.platform, model.default_model_filename)
    if model.backend == "fil":
        filename = model.default_model_filename or FIL_FORMATS.get(find_fil_format(model), "")
    for version in model.versions if filename else ():
        path = f"{model.version_directories[version]}/{filename}"
        if file_format == "saved_model":
            path = f"{path}/saved_model.pb"
        elif file_format == "onnx" and tree.is_dir(path):
            path = f"{path}/model.onnx"
        entry = tree.entry(path)
        if entry is not None and entry.header is not None:
            yield ModelFile(version, path, file_format, entry.header)


def find_fil_format(model: ModelView) -> str:
    """Return FIL's parameter ``model_type``, or its default."""
    return find_parameter(model, "model_type", next(iter(FIL_FORMATS)))


def find_parameter(model: ModelView, name: str, default: str = "") -> str:
    """Return the text of a parameter of the configuration, or the default where it is absent."""
    parameter = model.document.entries("parameters").get(name)
    value = parameter.message("value") if parameter is not None else None
    return value.text("string_value") if value is not None else default


def find_signature(tree: Tree, model: ModelView) -> Signature | None:
    """Return the inputs and outputs in the file of a model's newest loaded version; None where they are not known."""
    if model.backend == "dali":
        data = read_pipeline(tree, model)
        try:
            return None if data is None else read_pipeline_signature(data)
        except ArtifactError:
            return None
    signatures = [signature for _, signature in list_signatures(tree, model)]
    return signatures[-1] if len(signatures) == len(model.versions) and signatures else None


def list_signatures(tree: Tree, model: ModelView) -> Iterator[tuple[str, Signature]]:
    """Yield the path, and the inputs and outputs, of each ONNX file and SavedModel of the loaded versions."""
    for file in list_headers(tree, model):
        if isinstance(file.header, OnnxModel):
            yield file.path, file.header.signature
        elif isinstance(file.header, SavedModel):
            tag = find_parameter(model, "TF_GRAPH_TAG", "serve")
            signature = find_parameter(model, "TF_SIGNATURE_DEF", "serving_default")
            with suppress(ArtifactError):  # it has no such graph or signature
                yield file.path, file.header.find_signature(tag=tag, signature=signature)


def read_pipeline(tree: Tree, model: ModelView) -> bytes | None:
    """Return the serialised pipeline of a model's newest loaded version; None where it has none."""
    if not model.versions:
        return None
    filename = find_model_filename(model.backend, model.platform, model.default_model_filename)
    entry = tree.entry(f"{model.version_directories[max(model.versions)]}/{filename}")
    return entry.content if entry is not None else None
