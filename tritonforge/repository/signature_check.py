"""Compare what a definition states about a model's inputs and outputs with its file, and complete it. No I/O.

Names, element types, ranks and extents are compared; -1 on either side agrees with any extent, except that a model with
``max_batch_size`` above 0 requires a file whose first extent is open (tensorflow_utils.cc and onnxruntime.cc
`CompareDims`). Where a tensor has a ``reshape``, that is the shape of the file's tensor. Control inputs and implicit
states of ``sequence_batching`` are inputs and outputs of the file like any other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

from tritonforge.model_files.signature import Difference, Signature, TensorSpec, compare_signatures
from tritonforge.repository.definition.models import Model, TensorFlow
from tritonforge.repository.definition.tensors import Input, Output
from tritonforge.repository.model_config import SequenceTensors, list_sequence_tensors

__all__ = ["build_specs", "check_signature", "complete_model"]

_Model = TypeVar("_Model", bound=Model)
_Tensor = TypeVar("_Tensor", Input, Output)


def build_specs(tensors: Sequence[Input | Output], *, batched: bool) -> list[TensorSpec]:
    """Return the tensors of a definition as its file has them: with the batch dimension, reshaped."""
    specs = []
    for tensor in tensors:
        dims = tensor.dims if tensor.reshape is None else tensor.reshape
        shape = None if dims is None else (-1, *dims) if batched else tuple(dims)
        specs.append(TensorSpec(tensor.name, tensor.data_type, shape))
    return specs


def check_signature(model: Model, found: Signature) -> list[str]:
    """Return one sentence for each difference between the definition and the file, with model, tensor, both values."""
    sequence = list_sequence_tensors(model)
    sentences = []
    # tensorflow.cc never calls TRITONBACKEND_StateNew, and counts no state among the inputs of a SavedModel.
    if sequence.state_inputs and isinstance(model, TensorFlow):
        sentences.append(
            f"{model.name}: Triton's TensorFlow backend does not keep the implicit state "
            f"{sequence.state_inputs[0].name!r}; keep it in a variable of the model, or use an ONNX model"
        )
    batched = model.max_batch_size > 0
    stated = Signature(
        build_specs([*model.input, *sequence.inputs], batched=batched),
        build_specs([*model.output, *sequence.state_outputs], batched=batched),
    )
    for difference in compare_signatures(stated, found, batched=batched):
        sentences += _describe(difference, model, found, sequence)
    return sentences


def _describe(difference: Difference, model: Model, found: Signature, sequence: SequenceTensors) -> Iterator[str]:
    direction = difference.direction
    if difference.kind == "count":
        if model.output:
            yield (
                f"{model.name}: the definition states {len(model.output)} outputs, but its file has "
                f"{len(found.outputs)}; they are matched by their order"
            )
        return
    if difference.stated is None:
        assert difference.found is not None
        if model.input:
            names = ", ".join(tensor.name for tensor in [*model.input, *sequence.inputs])
            yield f"{model.name}: its file needs input {difference.found.name!r}, but the definition states {names}"
        return
    name = difference.stated.name
    control = name in {tensor.name for tensor in sequence.controls}
    states = {*(tensor.name for tensor in sequence.state_inputs), *(tensor.name for tensor in sequence.state_outputs)}
    state = name in states
    kind = f"control {direction}" if control else f"state {direction}" if state else direction
    if difference.found is None:
        tensors = found.inputs if direction == "input" else found.outputs
        known = ", ".join(tensor.name for tensor in tensors) or "none"
        yield f"{model.name}: the definition states {kind} {name!r}, but its file has {known}"
    else:
        yield from _describe_mismatch(difference, model, f"{model.name}: {kind} {name!r}")


def _describe_mismatch(difference: Difference, model: Model, where: str) -> Iterator[str]:
    stated, found = difference.stated, difference.found
    assert stated is not None
    assert found is not None
    if difference.kind == "data_type":
        yield f"{where} is stated as {stated.data_type}, but its file has {found.data_type}"
        return
    tensors: Sequence[Input | Output] = model.input if difference.direction == "input" else model.output
    tensor = next((tensor for tensor in tensors if tensor.name == stated.name), None)
    if isinstance(tensor, Input) and tensor.allow_ragged_batch:
        return  # each request has a shape of its own
    shape = list(found.shape or ())
    if difference.kind == "batch":
        yield (
            f"{where} cannot be batched: max_batch_size is {model.max_batch_size}, but its file has shape {shape}, "
            "whose first extent is not open"
        )
        return
    full = list(stated.shape or ())
    field = "reshape" if tensor is not None and tensor.reshape is not None else "dims"
    batched = model.max_batch_size > 0
    dims, batch = (full[1:], f" (with the batch {full})") if batched else (full, "")
    yield f"{where} is stated with {field} {dims}{batch}, but its file has shape {shape}"


def complete_model(model: _Model, found: Signature) -> _Model:
    """Return the model with each ``data_type`` and ``dims`` that it leaves out taken from the file.

    A model that lists no inputs, or no outputs, gets those of the file. What the file leaves open stays open.
    """
    batched = model.max_batch_size > 0
    sequence = list_sequence_tensors(model)
    fed_by_triton = {tensor.name for tensor in sequence.inputs}
    kept_by_triton = {tensor.name for tensor in sequence.state_outputs}
    inputs = model.input or [Input(tensor.name) for tensor in found.inputs if tensor.name not in fed_by_triton]
    outputs = model.output or [
        Output(f"DALI_OUTPUT_{index}" if found.positional_outputs else tensor.name)
        for index, tensor in enumerate(found.outputs)
        if tensor.name not in kept_by_triton
    ]
    read = {tensor.name: tensor for tensor in found.inputs}
    names = [tensor.name for tensor in outputs] if found.positional_outputs else [spec.name for spec in found.outputs]
    written = dict(zip(names, found.outputs, strict=False))
    return replace(
        model,
        input=[_complete_tensor(tensor, read.get(tensor.name), batched) for tensor in inputs],
        output=[_complete_tensor(tensor, written.get(tensor.name), batched) for tensor in outputs],
    )


def _complete_tensor(stated: _Tensor, found: TensorSpec | None, batched: bool) -> _Tensor:
    if found is None:
        return stated
    typed = replace(stated, data_type=stated.data_type or found.data_type)
    if typed.dims is not None or typed.reshape is not None or found.shape is None:
        return typed
    dims = tuple(found.shape)[1:] if batched else tuple(found.shape)
    # config.pbtxt has no empty dims: a scalar is written as one element that the backend sees without dimensions.
    return replace(typed, dims=dims) if dims else replace(typed, dims=(1,), reshape=())
