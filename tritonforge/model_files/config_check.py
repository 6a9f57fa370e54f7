"""Whether a model's configuration agrees with what its file provides. No I/O.

The messages are those of Triton's own tensorflow_backend (src/tensorflow.cc, src/tensorflow_utils.cc) and
onnxruntime_backend (src/onnxruntime.cc), which users search for. Shapes are full, the batch dimension included; -1 is
any extent.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from tritonforge.model_files.signature import UNSUPPORTED, Difference, Signature, compare_signatures

__all__ = ["Conflict", "StatedModel", "describe_unknown_name", "format_shape", "list_conflicts"]


@dataclass(frozen=True, slots=True)
class StatedModel:
    """What a configuration states about inputs and outputs, control inputs and states among them.

    ``controls`` are the names of the control inputs; ``exact`` those of the tensors whose shape must be the file's;
    ``optional`` those of the optional inputs, which may be initializers of an ONNX model instead of inputs.
    """

    name: str
    is_batched: bool
    signature: Signature
    controls: frozenset[str] = frozenset()
    exact: frozenset[str] = frozenset()
    optional: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Conflict:
    """One disagreement, in the words of Triton's backends; ``tensor`` is its name in the configuration, "" for all."""

    kind: Literal["name", "count", "data_type", "shape"]
    tensor: str
    message: str


def list_conflicts(stated: StatedModel, found: Signature) -> Iterator[Conflict]:
    """Yield the disagreements of a configuration with a model's file, in the order in which the backends find them.

    Names, numbers, element types and shapes are compared. A -1 of the file takes any extent of an input; an output is
    exactly what the file has. Control inputs and states count as inputs of the file, as in onnxruntime.cc
    `ModelInstanceState`.
    """
    known = {tensor.name for tensor in found.inputs}
    inputs = [
        tensor for tensor in stated.signature.inputs if tensor.name in known or tensor.name not in stated.optional
    ]
    signature = Signature(inputs, stated.signature.outputs)
    differences = list(
        compare_signatures(signature, found, batched=stated.is_batched, exact=stated.exact | stated.controls)
    )
    controls = [
        difference
        for difference in differences
        if difference.stated is not None and difference.stated.name in stated.controls
    ]
    others = [difference for difference in differences if difference not in controls]
    for difference in controls:
        yield from _describe_control(stated, difference)
    if any(difference.kind in ("unknown", "missing") and difference.direction == "input" for difference in differences):
        yield from _describe_count(stated.name, len(inputs), found)
    for difference in others:
        if difference.kind in ("unknown", "data_type"):
            yield _describe_tensor(stated, difference, found)
    for difference in others:
        if difference.kind in ("batch", "shape"):
            yield _describe_shape(stated, difference)


def _describe_control(stated: StatedModel, difference: Difference) -> Iterator[Conflict]:
    """Yield what is wrong with a control input: it is in the file, with one element a request and the stated type."""
    tensor, found = difference.stated, difference.found
    assert tensor is not None
    if found is None:
        message = f"configuration specified sequence control '{tensor.name}', but model does not provide that input"
        yield Conflict("name", tensor.name, message)
        return
    where = f"unable to load model '{stated.name}', sequence control '{tensor.name}'"
    if difference.kind == "data_type":
        message = (
            f"{where}, the model expects data-type {found.data_type} but the model configuration specifies "
            f"data-type {tensor.data_type}"
        )
        yield Conflict("data_type", tensor.name, message)
        return
    dims = tuple(found.shape or ())[1:] if stated.is_batched else tuple(found.shape or ())
    if dims != (1,):
        message = f"{where} in model has dims {format_shape(dims)} but dims [1] is expected"
        yield Conflict("shape", tensor.name, message)


def _describe_count(name: str, count: int, found: Signature) -> Iterator[Conflict]:
    if (found.all_inputs and count != len(found.inputs)) or count > len(found.inputs):
        provides = "provides" if found.all_inputs else "provides at most"
        message = (
            f"unable to load model '{name}', configuration expects {count} inputs, model {provides} {len(found.inputs)}"
        )
        yield Conflict("count", "", message)


def _describe_tensor(stated: StatedModel, difference: Difference, signature: Signature) -> Conflict:
    kind, tensor, found = difference.direction, difference.stated, difference.found
    assert tensor is not None
    if found is None:
        provided = signature.inputs if kind == "input" else signature.outputs
        message = describe_unknown_name(kind, tensor.name, [spec.name for spec in provided])
        return Conflict("name", tensor.name, message)
    if found.data_type == UNSUPPORTED:
        message = (
            f"unsupported datatype '{tensor.data_type}' for tensor '{tensor.name}' for model '{stated.name}': "
            "Triton has no element type for what the file holds"
        )
    else:
        message = (
            f"unable to load model '{stated.name}', configuration expects datatype {tensor.data_type} for "
            f"{kind} '{tensor.name}', model provides {found.data_type}"
        )
    return Conflict("data_type", tensor.name, message)


def _describe_shape(stated: StatedModel, difference: Difference) -> Conflict:
    tensor, found = difference.stated, difference.found
    assert tensor is not None
    assert found is not None
    shape, given = tuple(found.shape or ()), tuple(tensor.shape or ())
    where = f"model '{stated.name}', tensor '{tensor.name}': "
    if difference.kind == "batch":
        message = (
            f"{where}for the model to support batching the shape should have at least 1 dimension and the first "
            f"dimension must be -1; but shape expected by the model is {format_shape(shape)}"
        )
        return Conflict("shape", tensor.name, message)
    how = (
        "an initial batch dimension because max_batch_size > 0 followed by the explicit tensor shape, making "
        f"complete shape {format_shape(given)}"
        if stated.is_batched
        else f"shape {format_shape(given)}"
    )
    message = (
        f"{where}the model expects {len(shape)} dimensions (shape {format_shape(shape)}) but the model configuration "
        f"specifies {len(given)} dimensions ({how})"
    )
    return Conflict("shape", tensor.name, message)


def describe_unknown_name(kind: str, name: str, provided: Collection[str]) -> str:
    """Return the message for an ``input`` or ``output`` of a configuration that the model's file does not provide."""
    return f"unexpected inference {kind} '{name}', allowed {kind}s are: {', '.join(sorted(provided))}"


def format_shape(shape: Sequence[int]) -> str:
    """Return a shape as Triton's messages have it: ``[-1,2]``."""
    return "[" + ",".join(map(str, shape)) + "]"
