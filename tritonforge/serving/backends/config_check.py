"""Whether a model's configuration agrees with what its file provides. This module does no I/O.

The messages are those of Triton's own tensorflow_backend (src/tensorflow.cc, src/tensorflow_utils.cc) and
onnxruntime_backend (src/onnxruntime.cc), which users search for. Shapes are full, the batch dimension included; -1 is
any extent.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from tritonforge.errors import ArtifactError
from tritonforge.model_files.signature import UNSUPPORTED, Difference, Signature, TensorSpec, compare_signatures
from tritonforge.serving.backends.configuration import Configuration, Tensor

__all__ = ["build_specs", "check_name", "check_tensors", "format_shape", "read_signature"]


def read_signature(config: Configuration) -> Signature:
    """Return the inputs and outputs of a configuration, controls and states among them."""
    states = [TensorSpec(state.output.name, state.output.data_type) for state in config.states]
    return Signature(build_specs(config.all_inputs), [*build_specs(config.outputs), *states])


def build_specs(tensors: Sequence[Tensor]) -> list[TensorSpec]:
    """Return tensors of a configuration as they are compared."""
    return [TensorSpec(tensor.name, tensor.data_type, tensor.shape) for tensor in tensors]


def check_tensors(config: Configuration, found: Signature, *, shapes: bool = True) -> None:
    """Compare a configuration with a model's file.

    Names, numbers, element types and (with ``shapes``) shapes are compared. A -1 of the file takes any extent of an
    input; an output is exactly what the file has. Control inputs and states count as inputs of the file, as in
    onnxruntime.cc `ModelInstanceState`.

    Raises:
        ArtifactError: the first difference, in the words of Triton's backends.
    """
    stated = read_signature(config)
    controls = {tensor.name for tensor in config.controls}
    exact = controls | {tensor.name for tensor in config.outputs}
    differences = list(compare_signatures(stated, found, batched=config.batched, exact=exact))
    for difference in differences:
        if difference.stated is not None and difference.stated.name in controls:
            _refuse_control(config, difference)
    if any(difference.kind in ("unknown", "missing") and difference.direction == "input" for difference in differences):
        _check_count(config, found)
    for difference in differences:
        if difference.kind in ("unknown", "data_type"):
            _refuse_tensor(config, difference, found)
    for difference in differences if shapes else ():
        if difference.kind in ("batch", "shape"):
            _refuse_shape(config, difference)


def _refuse_control(config: Configuration, difference: Difference) -> None:
    """Raise ArtifactError for a control input: it is in the file, with one element a request and the stated type."""
    stated, found = difference.stated, difference.found
    assert stated is not None
    if found is None:
        raise ArtifactError(
            f"configuration specified sequence control '{stated.name}', but model does not provide that input"
        )
    where = f"unable to load model '{config.name}', sequence control '{stated.name}'"
    if difference.kind == "data_type":
        raise ArtifactError(
            f"{where}, the model expects data-type {found.data_type} but the model configuration specifies "
            f"data-type {stated.data_type}"
        )
    dims = tuple(found.shape or ())[1:] if config.batched else tuple(found.shape or ())
    if dims != (1,):
        raise ArtifactError(f"{where} in model has dims {format_shape(dims)} but dims [1] is expected")


def _check_count(config: Configuration, found: Signature) -> None:
    count = len(config.all_inputs)
    if (found.all_inputs and count != len(found.inputs)) or count > len(found.inputs):
        provides = "provides" if found.all_inputs else "provides at most"
        raise ArtifactError(
            f"unable to load model '{config.name}', configuration expects {count} inputs, "
            f"model {provides} {len(found.inputs)}"
        )


def _refuse_tensor(config: Configuration, difference: Difference, signature: Signature) -> None:
    kind, stated, found = difference.direction, difference.stated, difference.found
    assert stated is not None
    if found is None:
        provided = signature.inputs if kind == "input" else signature.outputs
        check_name(kind, stated.name, [tensor.name for tensor in provided])
        return
    if found.data_type == UNSUPPORTED:
        raise ArtifactError(
            f"unsupported datatype '{stated.data_type}' for tensor '{stated.name}' for model '{config.name}': "
            "Triton has no element type for what the file holds"
        )
    raise ArtifactError(
        f"unable to load model '{config.name}', configuration expects datatype {stated.data_type} for "
        f"{kind} '{stated.name}', model provides {found.data_type}"
    )


def _refuse_shape(config: Configuration, difference: Difference) -> None:
    stated, found = difference.stated, difference.found
    assert stated is not None
    assert found is not None
    shape, given = tuple(found.shape or ()), tuple(stated.shape or ())
    where = f"model '{config.name}', tensor '{stated.name}': "
    if difference.kind == "batch":
        raise ArtifactError(
            f"{where}for the model to support batching the shape should have at least 1 dimension and the first "
            f"dimension must be -1; but shape expected by the model is {format_shape(shape)}"
        )
    how = (
        "an initial batch dimension because max_batch_size > 0 followed by the explicit tensor shape, making "
        f"complete shape {format_shape(given)}"
        if config.batched
        else f"shape {format_shape(given)}"
    )
    raise ArtifactError(
        f"{where}the model expects {len(shape)} dimensions (shape {format_shape(shape)}) but the model configuration "
        f"specifies {len(given)} dimensions ({how})"
    )


def check_name(kind: str, name: str, provided: Collection[str]) -> None:
    """Raise ArtifactError for an ``input`` or ``output`` of a configuration that the model's file does not provide."""
    if name not in provided:
        raise ArtifactError(f"unexpected inference {kind} '{name}', allowed {kind}s are: {', '.join(sorted(provided))}")


def format_shape(shape: Sequence[int]) -> str:
    """Return a shape as Triton's messages have it: ``[-1,2]``."""
    return "[" + ",".join(map(str, shape)) + "]"
