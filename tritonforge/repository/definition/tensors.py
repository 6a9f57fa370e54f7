"""The inputs and outputs of a model, as config.pbtxt declares them. This module does no I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Final, Literal

from tritonforge.datatypes import BY_CONFIG
from tritonforge.errors import DefinitionError
from tritonforge.field_types import check_fields

__all__ = ["Input", "Output", "check_dims", "describe_data_type", "frozen"]

#: Names of element types in numpy, ONNX and KServe, and what Triton's configuration calls them.
_OTHER_NAMES: Final = {
    "BFLOAT16": "BF16",
    "BYTES": "STRING",
    "DOUBLE": "FP64",
    "FLOAT": "FP32",
    "FLOAT16": "FP16",
    "FLOAT32": "FP32",
    "FLOAT64": "FP64",
    "HALF": "FP16",
    "INT": "INT64",
    "LONG": "INT64",
    "OBJECT": "STRING",
    "STR": "STRING",
}


@dataclass(frozen=True, slots=True)
class Input:
    """One input of a model (`ModelInput`).

    ``dims`` are without the batch dimension when the model's ``max_batch_size`` is above 0; -1 is a variable extent.
    ``data_type`` (``TYPE_FP32`` ...) and ``dims`` may be left out: the build reads them from the model file.
    ``reshape`` is the shape that the backend is given instead of ``dims``.

    Raises:
        DefinitionError: no name, an unknown ``data_type``, an extent that is neither >= 1 nor -1.
    """

    name: str
    data_type: str | None = None
    dims: Sequence[int] | None = None
    format: Literal["", "FORMAT_NONE", "FORMAT_NHWC", "FORMAT_NCHW"] = field(default="", kw_only=True)
    reshape: Sequence[int] | None = field(default=None, kw_only=True)
    is_shape_tensor: bool = field(default=False, kw_only=True)
    allow_ragged_batch: bool = field(default=False, kw_only=True)
    optional: bool = field(default=False, kw_only=True)
    is_non_linear_format_io: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        _check(self)


@dataclass(frozen=True, slots=True)
class Output:
    """One output of a model (`ModelOutput`).

    ``dims``, ``data_type`` and ``reshape`` as for `Input`. ``label_filename`` names the label file in the model's
    directory. Its lines are ``labels``, one a class; without ``labels`` the file of that name beside the definition.

    Raises:
        DefinitionError: as for `Input`; labels without a ``label_filename``.
    """

    name: str
    data_type: str | None = None
    dims: Sequence[int] | None = None
    reshape: Sequence[int] | None = field(default=None, kw_only=True)
    label_filename: str = field(default="", kw_only=True)
    labels: Sequence[str] | None = field(default=None, kw_only=True, repr=False)
    is_shape_tensor: bool = field(default=False, kw_only=True)
    is_non_linear_format_io: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        _check(self)
        if self.labels is not None:
            if not self.label_filename:
                raise DefinitionError(f"output {self.name!r}: labels need a label_filename to be written to")
            bad = [label for label in self.labels if "\n" in label or "\r" in label]
            if bad:
                raise DefinitionError(f"output {self.name!r}: the label {bad[0]!r} holds a line break")
            classes = prod(self.dims) if self.dims is not None and min(self.dims) > 0 else 0
            if len(self.labels) < classes:
                raise DefinitionError(
                    f"output {self.name!r}: labels has {len(self.labels)} labels for {classes} classes (dims "
                    f"{list(self.dims or ())}). Name every class."
                )


def frozen(value: object, name: str, content: object) -> None:
    """Set a field of a frozen value while it is being made: a sequence as a tuple, a mapping as a read-only copy."""
    object.__setattr__(value, name, content)


def check_dims(dims: Sequence[int], where: str) -> tuple[int, ...]:
    """Extents as a tuple; each is >= 1, or -1 for a variable one (model_config_utils.cc `ValidateIOShape`)."""
    checked = tuple(dims)
    for extent in checked:
        if isinstance(extent, bool) or not isinstance(extent, int) or extent == 0 or extent < -1:
            raise DefinitionError(f"{where} is {list(checked)}: an extent must be >= 1, or -1 when it varies")
    return checked


def describe_data_type(data_type: str) -> str:
    """Say that a data type is not one of Triton's, and which is meant: FP32, float32 and TYPE_float are TYPE_FP32."""
    name = data_type.upper().removeprefix("TYPE_")
    name = _OTHER_NAMES.get(name, name)
    meant = f". Did you mean TYPE_{name}?" if f"TYPE_{name}" in BY_CONFIG else f"; Triton knows {', '.join(BY_CONFIG)}"
    return f"data_type is {data_type!r}{meant}"


def _check(tensor: Input | Output) -> None:
    check_fields(tensor)
    kind = type(tensor).__name__.lower()
    if not tensor.name:
        raise DefinitionError(f"an {kind} has no name")
    if tensor.data_type is not None and tensor.data_type not in BY_CONFIG:
        raise DefinitionError(f"{kind} {tensor.name!r}: {describe_data_type(tensor.data_type)}")
    if tensor.dims is not None:
        dims = check_dims(tensor.dims, f"{kind} {tensor.name!r}: dims")
        if not dims:
            raise DefinitionError(f"{kind} {tensor.name!r}: dims is empty; a scalar is dims [1] with reshape []")
        frozen(tensor, "dims", dims)
    if tensor.reshape is not None:
        frozen(tensor, "reshape", check_dims(tensor.reshape, f"{kind} {tensor.name!r}: reshape"))
