"""What each version of a runtime in the images can read of its model files: the borders, as data. No I/O.

The version of a runtime in a release is a column of `tritonforge.triton.releases`; this module has what follows from a
version. A version that is not listed here has no borders, and nothing is reported about it. ``make borders`` asks the
runtimes themselves: it installs their wheels, has them load files at and just above each border, and compares.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

__all__ = ["FIL_FORMATS", "NEWEST_TENSORFLOW_GRAPH", "ONNX_RUNTIMES", "OPENVINO_IR", "OPENVINO_OPSETS",
           "TORCHSCRIPT_VERSIONS", "TREELITES", "OnnxLimits", "TreeliteLimits", "find_onnx_limits",
           "find_openvino_opset", "find_tensorrt_majors", "find_treelite_limits", "parse_version"]  # fmt: skip


@dataclass(frozen=True, slots=True)
class OnnxLimits:
    """What a version of ONNX Runtime reads: the newest IR, and the newest opset of ONNX's domains by their names."""

    ir_version: int
    opsets: Mapping[str, int]


def _read_onnx_row(row: str) -> tuple[str, OnnxLimits]:
    version, ir_version, opset, ml_opset = row.split()
    return version, OnnxLimits(int(ir_version), MappingProxyType({"": int(opset), "ai.onnx.ml": int(ml_opset)}))


#: ONNX Runtime by its minor version. Columns: version, IR, opset, opset of ai.onnx.ml. Source: onnxruntime
#: core/graph/model_load_utils.h `ValidateOpsetForDomain`, model.cc (``Unsupported model IR version``); each row was
#: asked of the wheel.
ONNX_RUNTIMES: Final[Mapping[str, OnnxLimits]] = MappingProxyType(
    dict(
        map(
            _read_onnx_row,
            """
1.16 9  19 3
1.17 9  20 4
1.18 10 21 5
1.19 10 21 5
1.20 10 21 5
1.21 10 22 5
1.22 10 22 5
1.23 11 23 5
1.24 13 25 5
1.27 13 26 5
1.28 13 26 5
""".strip().splitlines(),
        )
    )
)

#: The versions of the IR format that every OpenVINO since 2023.0 reads. Source: openvino src/frontends/ir/src/
#: frontend.cpp `is_supported`; asked of the wheels.
OPENVINO_IR: Final = (10, 11)

#: OpenVINO by its first two numbers: the newest operation set. Source: openvino src/core/include/openvino/opsets, and
#: the error ``Cannot create <type> layer <name> id:<id> from unsupported opset``; each was asked of the wheel.
OPENVINO_OPSETS: Final[Mapping[str, int]] = MappingProxyType(
    {
        "2023.0": 11,
        "2023.3": 13,
        "2024.0": 14,
        "2024.4": 15,
        "2024.5": 15,
        "2025.0": 16,
        "2025.1": 16,
        "2025.2": 16,
        "2025.3": 16,
        "2025.4": 16,
        "2026.0": 16,
        "2026.1": 16,
        "2026.2": 17,
        "2026.3": 17,
    }
)


@dataclass(frozen=True, slots=True)
class TreeliteLimits:
    """What a version of treelite reads: checkpoints up to a major version, JSON and UBJSON of XGBoost before a version.

    ``xgboost`` is the first version of XGBoost whose files it refuses, None where none is known. With FIL's parameter
    xgboost_allow_unknown_field it reads them all the same where ``may_skip_fields`` is True.
    """

    checkpoint: int
    xgboost: tuple[int, int] | None
    may_skip_fields: bool = False


#: Treelite by its first two numbers. A checkpoint of an older or newer minor version is read with a warning at most.
#: XGBoost 3.1 writes ``base_score`` as a list and the key ``cats``: older treelites stop at either. Source: treelite
#: src/serializer.cc, src/model_loader/xgboost_json.cc; each was asked of the wheel.
TREELITES: Final[Mapping[str, TreeliteLimits]] = MappingProxyType(
    {
        "3.9": TreeliteLimits(3, (3, 1)),
        "4.0": TreeliteLimits(4, (3, 1), may_skip_fields=True),
        "4.1": TreeliteLimits(4, (3, 1), may_skip_fields=True),
        "4.3": TreeliteLimits(4, (3, 1)),
        "4.4": TreeliteLimits(4, (3, 1)),
        "4.6": TreeliteLimits(4, None),
        "4.7": TreeliteLimits(4, None),
    }
)

#: FIL's ``model_type`` and the file that it opens in a version without default_model_filename; the first is the
#: default. Source: fil_backend src/serialization.h, src/model.h `model_file`, src/shared_state.h.
FIL_FORMATS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "xgboost": "xgboost.model",
        "xgboost_json": "xgboost.json",
        "xgboost_ubj": "xgboost.ubj",
        "lightgbm": "model.txt",
        "treelite_checkpoint": "checkpoint.tl",
    }
)

#: The versions of TorchScript's file format that PyTorch 1.10 and later read. Source: pytorch caffe2/serialize/
#: versions.h ``kMinSupportedFileFormatVersion``, ``kMaxSupportedFileFormatVersion``.
TORCHSCRIPT_VERSIONS: Final = (1, 10)

#: The version of the graph format of TensorFlow 2.18, which is newer than the TensorFlow of every image: the last one
#: with TensorFlow is 25.02, whose framework container has 2.17. Source: tensorflow/core/public/release_version.h
#: ``TF_GRAPH_DEF_VERSION``; asked of the wheel.
NEWEST_TENSORFLOW_GRAPH: Final = 1994


def parse_version(text: str) -> tuple[int, int]:
    """Return the first two numbers of a version; what is not a number counts as 0.

    >>> parse_version("1.23.2"), parse_version("4")
    ((1, 23), (4, 0))
    """
    numbers = [int(part) if part.isdecimal() and len(part) < 10 else 0 for part in text.split(".")[:2]]
    return numbers[0], numbers[1] if len(numbers) > 1 else 0


def _key(version: str) -> str:
    return "{}.{}".format(*parse_version(version))


def find_onnx_limits(version: str | None) -> OnnxLimits | None:
    """Return what a version of ONNX Runtime reads, None where that is not known."""
    return ONNX_RUNTIMES.get(_key(version)) if version else None


def find_openvino_opset(version: str | None) -> int | None:
    """Return the newest operation set of a version of OpenVINO, None where that is not known."""
    return OPENVINO_OPSETS.get(_key(version)) if version else None


def find_treelite_limits(version: str | None) -> TreeliteLimits | None:
    """Return what a version of treelite reads, None where that is not known."""
    return TREELITES.get(_key(version)) if version else None


def find_tensorrt_majors(version: str | None) -> tuple[int, int | None] | None:
    """Return the oldest and the newest major version that TensorRT may have in an image, as its column states it.

    >>> find_tensorrt_majors("10"), find_tensorrt_majors("8+")
    ((10, 10), (8, None))
    """
    if not version:
        return None
    oldest = int(version.removesuffix("+"))
    return oldest, None if version.endswith("+") else oldest
