"""The inputs and outputs of a model, and the comparison of a configuration with a model file. No I/O.

Shapes are whole: where a model batches, the batch dimension comes first. -1 is an extent that varies.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal, TypeAlias

from tritonforge.triton.backends import BACKENDS

__all__ = ["DALI", "GRAPHDEF", "KINDS", "ONNX", "SAVEDMODEL", "UNSUPPORTED", "Difference", "Signature", "TensorSpec",
           "compare_signatures", "shapes_agree"]  # fmt: skip

#: The kinds of model files that can be read; names are those of config.pbtxt (``platform``, for DALI ``backend``).
SAVEDMODEL: Final = BACKENDS["tensorflow"].platforms[0].name
GRAPHDEF: Final = BACKENDS["tensorflow"].platforms[1].name
ONNX: Final = BACKENDS["onnxruntime"].platform
DALI: Final = BACKENDS["dali"].name
KINDS: Final = (SAVEDMODEL, GRAPHDEF, ONNX, DALI)

#: The ``data_type`` of a tensor whose element type Triton does not have.
UNSUPPORTED: Final = "TYPE_INVALID"


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output.

    ``data_type`` is a config name (``TYPE_FP32``), None where it is left open. ``shape`` is the whole shape with the
    batch dimension, None where even the rank is left open.
    """

    name: str
    data_type: str | None = None
    shape: Sequence[int] | None = None

    def __post_init__(self) -> None:
        if self.shape is not None:
            object.__setattr__(self, "shape", tuple(self.shape))


@dataclass(frozen=True, slots=True)
class Signature:
    """The inputs and outputs of a model.

    ``positional_outputs``: outputs are matched by their order, not by name (DALI). ``all_inputs``: each input must be
    fed (a GraphDef's need not).
    """

    inputs: Sequence[TensorSpec]
    outputs: Sequence[TensorSpec]
    positional_outputs: bool = False
    all_inputs: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "inputs", tuple(self.inputs))
        object.__setattr__(self, "outputs", tuple(self.outputs))

    def to_json(self) -> dict[str, Any]:
        """Return the signature as values of JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Signature:
        """Return the signature that `to_json` was called on."""
        return cls(
            [TensorSpec(**tensor) for tensor in value["inputs"]],
            [TensorSpec(**tensor) for tensor in value["outputs"]],
            positional_outputs=value["positional_outputs"],
            all_inputs=value["all_inputs"],
        )


DifferenceKind: TypeAlias = Literal["unknown", "missing", "count", "data_type", "batch", "shape"]


@dataclass(frozen=True, slots=True)
class Difference:
    """One point on which a configuration and a model file disagree.

    Kinds:
        unknown: the file has no tensor of the stated name.
        missing: the file requires an input that is not stated.
        count: the numbers of outputs differ, and they are matched by position; ``stated`` and ``found`` are None.
        data_type: the element types differ.
        batch: the model batches, but the file fixes the first extent, or has no dimensions.
        shape: the ranks or the extents differ.
    """

    kind: DifferenceKind
    direction: Literal["input", "output"]
    stated: TensorSpec | None = None
    found: TensorSpec | None = None


def compare_signatures(
    stated: Signature, found: Signature, *, batched: bool, exact: Collection[str] | None = None
) -> Iterator[Difference]:
    """Yield every difference between what a configuration states and what the model file has, inputs first.

    Args:
        stated: the inputs and outputs of the configuration.
        found: those of the file; its ``positional_outputs`` and ``all_inputs`` decide how tensors are matched.
        batched: whether the model batches (``max_batch_size`` above 0).
        exact: by default -1 on either side agrees with any extent. Triton's backends are stricter when they load a
            model: only the file's -1 takes any extent, and a tensor named here must have the file's shape exactly.
    """
    known = {tensor.name: tensor for tensor in found.inputs}
    for tensor in stated.inputs:
        yield from _compare_tensors("input", tensor, known.get(tensor.name), batched=batched, exact=exact)
    if found.all_inputs:
        names = {tensor.name for tensor in stated.inputs}
        for tensor in found.inputs:
            if tensor.name not in names:
                yield Difference("missing", "input", found=tensor)
    if not found.positional_outputs:
        known = {tensor.name: tensor for tensor in found.outputs}
        for tensor in stated.outputs:
            yield from _compare_tensors("output", tensor, known.get(tensor.name), batched=batched, exact=exact)
    elif len(stated.outputs) != len(found.outputs):
        yield Difference("count", "output")
    else:
        for tensor, other in zip(stated.outputs, found.outputs, strict=True):
            yield from _compare_tensors("output", tensor, other, batched=batched, exact=exact)


def _compare_tensors(
    direction: Literal["input", "output"],
    stated: TensorSpec,
    found: TensorSpec | None,
    *,
    batched: bool,
    exact: Collection[str] | None,
) -> Iterator[Difference]:
    if found is None:
        yield Difference("unknown", direction, stated)
        return
    if None not in (stated.data_type, found.data_type) and stated.data_type != found.data_type:
        yield Difference("data_type", direction, stated, found)
    if found.shape is None:
        return
    if batched and tuple(found.shape[:1]) != (-1,):
        yield Difference("batch", direction, stated, found)
    elif stated.shape is not None and not _fits(stated, found.shape, exact):
        yield Difference("shape", direction, stated, found)


def _fits(stated: TensorSpec, found: Sequence[int], exact: Collection[str] | None) -> bool:
    shape = tuple(stated.shape or ())
    if shape == (1,) and not found:
        return True  # config.pbtxt has no empty dims: a scalar is written as one element
    if exact is None:
        return shapes_agree(shape, found)
    if stated.name in exact:
        return shape == tuple(found)
    return len(shape) == len(found) and all(own in (-1, extent) for extent, own in zip(shape, found, strict=True))


def shapes_agree(left: Sequence[int], right: Sequence[int]) -> bool:
    """Return True for shapes of one rank whose extents are equal wherever neither varies.

    >>> shapes_agree([-1, 3], [8, 3]), shapes_agree([3], [8, 3])
    (True, False)
    """
    return len(left) == len(right) and all(a == b or -1 in (a, b) for a, b in zip(left, right, strict=True))
