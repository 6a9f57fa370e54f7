"""Whether a model's configuration agrees with what its file provides. This module does no I/O.

The messages are those of Triton's own tensorflow_backend (src/tensorflow.cc, src/tensorflow_utils.cc) and
onnxruntime_backend (src/onnxruntime.cc), which users search for. Shapes are full, the batch dimension included; -1 is
any extent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tritonforge.errors import ArtifactError
from tritonforge.serving.backends.configuration import Configuration, Tensor

__all__ = ["Provided", "check", "check_shapes"]


@dataclass(frozen=True, slots=True)
class Provided:
    """One input or output as the model's file has it; None where Triton has no such type, or the file does not say."""

    data_type: str | None
    shape: tuple[int, ...] | None


def check(
    config: Configuration,
    inputs: Mapping[str, Provided],
    outputs: Mapping[str, Provided],
    *,
    all_inputs: bool = True,
) -> None:
    """Compare names, counts and element types; ``all_inputs`` where the configuration must have every input.

    Control inputs and states count as inputs of the file, as in onnxruntime.cc `ModelInstanceState`.

    Raises:
        ArtifactError: the first disagreement.
    """
    _check_controls(config, inputs)
    count = len(config.all_inputs)
    if (all_inputs and count != len(inputs)) or count > len(inputs):
        provides = "provides" if all_inputs else "provides at most"
        raise ArtifactError(
            f"unable to load model '{config.name}', configuration expects {count} inputs, "
            f"model {provides} {len(inputs)}"
        )
    for kind, configured, provided in (
        ("input", config.inputs, inputs),
        ("output", config.outputs, outputs),
        ("input", [state.input for state in config.states], inputs),
        ("output", [state.output for state in config.states], outputs),
    ):
        for tensor in configured:
            if tensor.name not in provided:
                raise ArtifactError(
                    f"unexpected inference {kind} '{tensor.name}', allowed {kind}s are: {', '.join(sorted(provided))}"
                )
            found = provided[tensor.name].data_type
            if found is None:
                raise ArtifactError(
                    f"unsupported datatype '{tensor.data_type}' for tensor '{tensor.name}' for model '{config.name}': "
                    "Triton has no element type for what the file holds"
                )
            if found != tensor.data_type:
                raise ArtifactError(
                    f"unable to load model '{config.name}', configuration expects datatype {tensor.data_type} for "
                    f"{kind} '{tensor.name}', model provides {found}"
                )


def _check_controls(config: Configuration, inputs: Mapping[str, Provided]) -> None:
    """Control inputs are in the file, with one element a request and the type that the configuration says."""
    for tensor in config.controls:
        if tensor.name not in inputs:
            raise ArtifactError(
                f"configuration specified sequence control '{tensor.name}', but model does not provide that input"
            )
        found = inputs[tensor.name]
        where = f"unable to load model '{config.name}', sequence control '{tensor.name}'"
        if found.shape is not None:
            dims = found.shape[1:] if config.batched else found.shape
            if dims != (1,):
                raise ArtifactError(f"{where} in model has dims {_text(dims)} but dims [1] is expected")
        if found.data_type is not None and found.data_type != tensor.data_type:
            raise ArtifactError(
                f"{where}, the model expects data-type {found.data_type} but the model configuration specifies "
                f"data-type {tensor.data_type}"
            )


def check_shapes(config: Configuration, inputs: Mapping[str, Provided], outputs: Mapping[str, Provided]) -> None:
    """Compare shapes: a model's -1 takes any extent of an input, and an output is exactly what the model says.

    Raises:
        ArtifactError: the first disagreement.
    """
    for tensor in (*config.inputs, *(state.input for state in config.states)):
        _check_shape(config, tensor, inputs[tensor.name].shape, exact=False)
    for tensor in config.outputs:
        _check_shape(config, tensor, outputs[tensor.name].shape, exact=True)


def _check_shape(config: Configuration, tensor: Tensor, shape: Sequence[int] | None, *, exact: bool) -> None:
    if shape is None or _is_scalar(config, tensor, shape):
        return
    where = f"model '{config.name}', tensor '{tensor.name}': "
    if config.batched and (not shape or shape[0] != -1):
        raise ArtifactError(
            f"{where}for the model to support batching the shape should have at least 1 dimension and the first "
            f"dimension must be -1; but shape expected by the model is {_text(shape)}"
        )
    same = len(shape) == len(tensor.shape) and all(
        model == given or (model == -1 and not exact) for model, given in zip(shape, tensor.shape, strict=True)
    )
    if not same:
        how = (
            "an initial batch dimension because max_batch_size > 0 followed by the explicit tensor shape, making "
            f"complete shape {_text(tensor.shape)}"
            if config.batched
            else f"shape {_text(tensor.shape)}"
        )
        raise ArtifactError(
            f"{where}the model expects {len(shape)} dimensions (shape {_text(shape)}) but the model configuration "
            f"specifies {len(tensor.shape)} dimensions ({how})"
        )


def _is_scalar(config: Configuration, tensor: Tensor, shape: Sequence[int]) -> bool:
    """A tensor without dimensions is configured as one element, since ``dims`` cannot be empty."""
    return not config.batched and not shape and tensor.shape == (1,)


def _text(shape: Sequence[int]) -> str:
    return "[" + ",".join(str(each) for each in shape) + "]"
