"""What a definition states about a model's inputs and outputs, held against what its file says. No I/O here.

Names, element types, ranks and extents are compared; -1 on either side agrees with anything, except that a model with
``max_batch_size`` above 0 needs a file whose first extent is open (tensorflow_utils.cc and onnxruntime.cc
`CompareDims`). Where a tensor has a ``reshape``, that is the shape the file sees. Control inputs and implicit states of
``sequence_batching`` are inputs and outputs of the file like any other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

from tritonforge.model_files.signature import Signature, TensorInfo
from tritonforge.repository.config.sequences import SequenceTensors, sequence_tensors
from tritonforge.repository.definition.models import Model, TensorFlow
from tritonforge.repository.definition.tensors import Input, Output

__all__ = ["check", "complete"]

_Model = TypeVar("_Model", bound=Model)
_Tensor = TypeVar("_Tensor", Input, Output)


def check(model: Model, found: Signature) -> list[str]:
    """One sentence for each point where the definition and the file disagree; each names model, tensor, both values."""
    sequence = sequence_tensors(model)
    return [*_states(model, sequence), *_inputs(model, found, sequence), *_outputs(model, found, sequence)]


def complete(model: _Model, found: Signature) -> _Model:
    """The same model with each ``data_type`` and ``dims`` that it left out taken from the file.

    A model that lists no inputs, or no outputs, gets those of the file. What the file leaves open stays open.
    """
    batched = model.max_batch_size > 0
    by_name = {each.name: each for each in found.inputs}
    sequence = sequence_tensors(model)
    fed_by_triton = {tensor.name for tensor in sequence.inputs}
    kept_by_triton = {tensor.name for tensor in sequence.state_outputs}
    inputs = model.input or [Input(each.name) for each in found.inputs if each.name not in fed_by_triton]
    outputs = model.output or [
        Output(f"DALI_OUTPUT_{index}" if found.positional_outputs else each.name)
        for index, each in enumerate(found.outputs)
        if each.name not in kept_by_triton
    ]
    by_position = dict(zip((each.name for each in outputs), found.outputs, strict=False))
    paired = by_position if found.positional_outputs else {each.name: each for each in found.outputs}
    return replace(
        model,
        input=[_completed(each, by_name.get(each.name), batched) for each in inputs],
        output=[_completed(each, paired.get(each.name), batched) for each in outputs],
    )


def _states(model: Model, sequence: SequenceTensors) -> Iterator[str]:
    # tensorflow.cc never calls TRITONBACKEND_StateNew, and counts no state among the inputs of a SavedModel.
    if sequence.state_inputs and isinstance(model, TensorFlow):
        yield (
            f"{model.name}: Triton's TensorFlow backend does not keep the implicit state "
            f"{sequence.state_inputs[0].name!r}; keep it in a variable of the model, or use an ONNX model"
        )


def _inputs(model: Model, found: Signature, sequence: SequenceTensors) -> Iterator[str]:
    by_name = {each.name: each for each in found.inputs}
    kinds = [
        *((stated, "input") for stated in model.input),
        *((stated, "control input") for stated in sequence.controls),
        *((stated, "state input") for stated in sequence.state_inputs),
    ]
    for stated, kind in kinds:
        if stated.name not in by_name:
            known = _names(found.inputs)
            yield f"{model.name}: the definition states {kind} {stated.name!r}, but its file has {known}"
        else:
            yield from _tensor(model, stated, by_name[stated.name], kind)
    if model.input and found.all_inputs:
        names = [stated.name for stated, _ in kinds]
        for each in found.inputs:
            if each.name not in names:
                yield f"{model.name}: its file needs input {each.name!r}, but the definition states {', '.join(names)}"


def _outputs(model: Model, found: Signature, sequence: SequenceTensors) -> Iterator[str]:
    if found.positional_outputs and model.output and len(model.output) != len(found.outputs):
        yield (
            f"{model.name}: the definition states {len(model.output)} outputs, but its file has {len(found.outputs)}; "
            "they are matched by their order"
        )
        return
    paired = dict(_paired_outputs(model, found))
    kinds = [
        *((stated, "output") for stated in model.output),
        *((stated, "state output") for stated in sequence.state_outputs),
    ]
    for stated, kind in kinds:
        if stated.name not in paired:
            known = _names(found.outputs)
            yield f"{model.name}: the definition states {kind} {stated.name!r}, but its file has {known}"
        else:
            yield from _tensor(model, stated, paired[stated.name], kind)


def _paired_outputs(model: Model, found: Signature) -> Iterator[tuple[str, TensorInfo]]:
    if found.positional_outputs:
        for stated, each in zip(model.output, found.outputs, strict=False):
            yield stated.name, each
    else:
        for each in found.outputs:
            yield each.name, each


def _tensor(model: Model, stated: Input | Output, found: TensorInfo, kind: str) -> Iterator[str]:
    where = f"{model.name}: {kind} {stated.name!r}"
    if stated.data_type is not None and found.data_type is not None and stated.data_type != found.data_type:
        yield f"{where} is stated as {stated.data_type}, but its file has {found.data_type}"
    if found.shape is None:
        return
    shape = tuple(found.shape)
    batched = model.max_batch_size > 0
    ragged = isinstance(stated, Input) and stated.allow_ragged_batch
    if batched and not ragged and (not shape or shape[0] != -1):
        yield (
            f"{where} cannot be batched: max_batch_size is {model.max_batch_size}, but its file has shape "
            f"{list(shape)}, whose first extent is not open"
        )
        return
    dims = stated.reshape if stated.reshape is not None else stated.dims
    if dims is None or ragged:
        return
    full = (-1, *dims) if batched else tuple(dims)
    if len(full) != len(shape) or any(a != b and -1 not in (a, b) for a, b in zip(full, shape, strict=True)):
        said = "reshape" if stated.reshape is not None else "dims"
        batch = f" (with the batch {list(full)})" if batched else ""
        yield f"{where} is stated with {said} {list(dims)}{batch}, but its file has shape {list(shape)}"


def _completed(stated: _Tensor, found: TensorInfo | None, batched: bool) -> _Tensor:
    if found is None:
        return stated
    typed = replace(stated, data_type=stated.data_type or found.data_type)
    if typed.dims is not None or typed.reshape is not None or found.shape is None:
        return typed
    dims = tuple(found.shape)[1:] if batched else tuple(found.shape)
    # config.pbtxt has no empty dims: a scalar is written as one element that the backend sees without dimensions.
    return replace(typed, dims=dims) if dims else replace(typed, dims=(1,), reshape=())


def _names(tensors: Sequence[TensorInfo]) -> str:
    return ", ".join(each.name for each in tensors) or "none"
