"""The inputs and outputs of a model file, as the file itself states them. This module does no I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

__all__ = ["DALI", "GRAPHDEF", "KINDS", "ONNX", "SAVEDMODEL", "Signature", "TensorInfo"]

#: The kinds of model files that can be read; names are those of config.pbtxt (``platform``, for DALI ``backend``).
SAVEDMODEL: Final = "tensorflow_savedmodel"
GRAPHDEF: Final = "tensorflow_graphdef"
ONNX: Final = "onnxruntime_onnx"
DALI: Final = "dali"
KINDS: Final = (SAVEDMODEL, GRAPHDEF, ONNX, DALI)


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One input or output of a model file.

    ``data_type`` is a config name (``TYPE_FP32``), None where the file leaves it open. ``shape`` is the whole shape
    with the batch dimension, -1 where an extent varies, None where even the rank is open.
    """

    name: str
    data_type: str | None = None
    shape: Sequence[int] | None = None

    def __post_init__(self) -> None:
        if self.shape is not None:
            object.__setattr__(self, "shape", tuple(self.shape))


@dataclass(frozen=True, slots=True)
class Signature:
    """What a model file takes and gives.

    ``positional_outputs`` says that the outputs are matched by their order, not by name (DALI), ``all_inputs`` that
    each input must be fed (a GraphDef's need not).
    """

    inputs: Sequence[TensorInfo]
    outputs: Sequence[TensorInfo]
    positional_outputs: bool = False
    all_inputs: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "inputs", tuple(self.inputs))
        object.__setattr__(self, "outputs", tuple(self.outputs))

    def to_json(self) -> dict[str, Any]:
        """The signature as values of JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Signature:
        """The signature that `to_json` gave."""
        return cls(
            [TensorInfo(**each) for each in value["inputs"]],
            [TensorInfo(**each) for each in value["outputs"]],
            positional_outputs=value["positional_outputs"],
            all_inputs=value["all_inputs"],
        )
