"""What a conversion found out, as values. This module does no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from tritonforge.datatypes import TYPE_BF16, TYPE_FP16, TYPE_FP32, TYPE_FP64

__all__ = ["TOLERANCES", "Conversion", "Converted"]

#: The largest difference of an output that is allowed, as a fraction of its largest magnitude in the same batch, by
#: element type. Both runtimes compute in FP32, whose numbers are exact to 6e-8 of their size; a convolution that adds
#: its thousand products in another order, or a fused batch normalisation, changes a value by some 1e-7, and a hundred
#: layers add up: 1e-6 was measured on ResNet-50, 1.6e-5 on Inception V3 with random weights. A wrong
#: padding, layout, epsilon or resize shows above 1e-3. 1e-4 lies between. A graph with FP64 ends usually computes in
#: FP32. FP16 is exact to 5e-4, BF16 to 4e-3, of each value. All other types must be equal.
TOLERANCES: Final[Mapping[str, float]] = MappingProxyType(
    {TYPE_FP64: 1e-4, TYPE_FP32: 1e-4, TYPE_FP16: 1e-2, TYPE_BF16: 5e-2}
)


@dataclass(frozen=True, slots=True)
class Converted:
    """One version of one model, and how its ONNX file compares with the original.

    ``photographs`` and ``random`` count the inputs that both were asked. ``largest_difference`` is in the outputs' own
    unit, ``relative_difference`` the largest one as a fraction of the output's largest magnitude in its batch, which is
    what is held to ``tolerance``. ``classes`` counts the rows whose largest value was found at the same place,
    ``converter`` names the program and its version, ``seconds`` is the time of conversion and comparison together.
    """

    model: str
    version: int
    opset: int
    converter: str
    photographs: int
    random: int
    largest_difference: float
    relative_difference: float
    tolerance: float
    classes: int
    seconds: float

    @property
    def sentence(self) -> str:
        """All of it in one sentence."""
        inputs = f"{self.random} random inputs"
        if self.photographs:
            inputs = f"{self.photographs} photographs and {inputs}"
        classes = f", all {self.classes} classes agree" if self.classes else ""
        return (
            f"{self.model}/{self.version}: ONNX opset {self.opset} by {self.converter}; on {inputs} the largest "
            f"difference from TensorFlow is {self.largest_difference:.2g}, {self.relative_difference:.2g} of the "
            f"output's largest value ({self.tolerance:g} is allowed){classes}"
        )

    def to_json(self) -> dict[str, Any]:
        """The facts as values of JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Converted:
        """The facts that `to_json` gave."""
        return cls(**value)


@dataclass(frozen=True, slots=True)
class Conversion:
    """A converted repository: where it is, its ``digest``, each model's facts, and what the user is to know.

    ``made`` are the version directories that were converted now, ``changed`` says whether the repository on disk is
    another than before. ``notes`` are whole sentences: settings that were left out, inputs that could not be compared.
    """

    repository: Path
    digest: str
    models: tuple[Converted, ...]
    notes: tuple[str, ...]
    made: tuple[str, ...]
    changed: bool
