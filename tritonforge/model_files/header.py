"""The header of a model file, read by the reader that its name calls for. No I/O.

`read_header` is what validation calls; it never raises for what a file holds. What a file is in spite of its name is
not guessed, except for other names, which a configuration states: there the first bytes decide.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal, TypeAlias

from tritonforge.model_files.file_formats import FileFormat, find_format
from tritonforge.model_files.onnx_model import OnnxModel, read_onnx
from tritonforge.model_files.openvino_ir import OpenVinoModel, read_openvino_ir
from tritonforge.model_files.source import ModelFileError, Source, UnknownHeaderError
from tritonforge.model_files.tensorflow_graph import SavedModel, TensorFlowGraph, read_graphdef, read_saved_model
from tritonforge.model_files.tensorrt_plan import TensorRTPlan, read_tensorrt_plan
from tritonforge.model_files.torch_archive import TorchArchive, read_torch_archive
from tritonforge.model_files.tree_model import TreeModel, read_tree_model

__all__ = ["DamagedFile", "ModelHeader", "PointerFile", "read_header"]


@dataclass(frozen=True, slots=True)
class DamagedFile:
    """A file that is not of the format that its name promises; ``reason`` is a sentence without a full stop."""

    format: FileFormat
    reason: str


@dataclass(frozen=True, slots=True)
class PointerFile:
    """A small text that git checks out for a file whose content was not fetched (Git LFS, git-annex)."""

    tool: Literal["Git LFS", "git-annex"]


ModelHeader: TypeAlias = (
    OnnxModel | SavedModel | TensorFlowGraph | TorchArchive | TensorRTPlan | OpenVinoModel | TreeModel
    | DamagedFile | PointerFile
)  # fmt: skip

_READERS: Final[Mapping[FileFormat, Callable[[Source], ModelHeader]]] = MappingProxyType(
    {
        "onnx": read_onnx,
        "saved_model": read_saved_model,
        "graphdef": read_graphdef,
        "torch": read_torch_archive,
        "tensorrt": read_tensorrt_plan,
        "openvino": read_openvino_ir,
        "trees": read_tree_model,
    }
)

#: The first bytes of formats that have any.
_MAGIC: Final[tuple[tuple[bytes, FileFormat], ...]] = (
    (b"ftrt", "tensorrt"),
    (b"ptrt", "tensorrt"),
    (b"PK\x03\x04", "torch"),
    (b"<?xml", "openvino"),
    (b"<net", "openvino"),
    (b'{"learner"', "trees"),
    (b"{L\0\0\0\0\0\0\0\x07learner", "trees"),
    (b"binf", "trees"),
    (b"tree\n", "trees"),
)
#: Source: git-lfs docs/spec.md; git-annex internals/pointer_file.
_POINTERS: Final[tuple[tuple[bytes, Literal["Git LFS", "git-annex"]], ...]] = (
    (b"version https://git-lfs.github.com/spec/", "Git LFS"),
    (b"/annex/objects/", "git-annex"),
)


def read_header(source: Source, name: str) -> ModelHeader | None:
    """Return the header of a file with this name.

    None where neither the name nor the first bytes belong to a reader, where the header has more bytes or fields than
    the source allows, and where nothing about the file is certain. Raises OSError: the file cannot be read.
    """
    try:
        start = source.read_at(0, min(source.size, 64))
    except ModelFileError:  # the file became shorter
        start = b""
    for text, tool in _POINTERS:
        if start.startswith(text):
            return PointerFile(tool)
    file_format = find_format(name) or next((known for magic, known in _MAGIC if start.startswith(magic)), None)
    if file_format is None:
        return None
    if not source.size:
        return DamagedFile(file_format, "the file is empty")
    try:
        return _READERS[file_format](source)
    except UnknownHeaderError:
        return None
    except ModelFileError as error:
        return DamagedFile(file_format, str(error))
