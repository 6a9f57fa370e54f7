"""The formats of model files by their names. No I/O.

The readers of the formats are in modules of their own, which are imported where a file is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal, TypeAlias

__all__ = ["FileFormat", "find_format"]

FileFormat: TypeAlias = Literal["onnx", "saved_model", "graphdef", "torch", "tensorrt", "openvino", "trees"]

#: Whole names, then endings.
_NAMES: Final[Mapping[str, FileFormat]] = MappingProxyType(
    {
        "saved_model.pb": "saved_model",
        "xgboost.model": "trees",
        "xgboost.json": "trees",
        "xgboost.ubj": "trees",
        "model.txt": "trees",
        "checkpoint.tl": "trees",
    }
)
_ENDINGS: Final[Mapping[str, FileFormat]] = MappingProxyType(
    {
        "onnx": "onnx",
        "graphdef": "graphdef",
        "pb": "graphdef",
        "pt": "torch",
        "pt2": "torch",
        "pth": "torch",
        "torchscript": "torch",
        "plan": "tensorrt",
        "engine": "tensorrt",
        "trt": "tensorrt",
        "xml": "openvino",
        "ubj": "trees",
        "tl": "trees",
    }
)


def find_format(name: str) -> FileFormat | None:
    """Return the format that the name of a file calls for, None where no format has such names.

    >>> find_format("model.onnx"), find_format("labels.txt")
    ('onnx', None)
    """
    return _NAMES.get(name) or _ENDINGS.get(name.rpartition(".")[2])
