"""Inputs and outputs of a model: names, types, dims, reshapes, batch inputs and outputs. No I/O.

Source: model_config_utils.cc ValidateModelIOConfig, ValidateIOShape, ValidateModelInput, ValidateModelOutput,
ValidateBatchIO. The server runs them when a model is loaded, with auto-complete off already when it is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, Literal

from tritonforge.triton import changes
from tritonforge.validation.findings import Finding
from tritonforge.validation.rules.context import Context, ModelView, TensorView
from tritonforge.validation.rules.model.report import report
from tritonforge.validation.rules.sizes import OVERFLOW, bounded_count, wrapped_count

__all__ = ["check"]

_INPUT_KINDS: Final = (
    "BATCH_ELEMENT_COUNT",
    "BATCH_ACCUMULATED_ELEMENT_COUNT",
    "BATCH_ACCUMULATED_ELEMENT_COUNT_WITH_ZERO",
    "BATCH_MAX_ELEMENT_COUNT_AS_SHAPE",
    "BATCH_ITEM_SHAPE",
    "BATCH_ITEM_SHAPE_FLATTEN",
)
_OUTPUT_KINDS: Final = ("BATCH_SCATTER_WITH_INPUT_SHAPE",)
_DIMENSION: Final = "must be integer >= 1, or -1 to indicate a variable-size dimension"


def check(context: Context, view: ModelView) -> Iterator[Finding]:
    """The findings in the server's order: inputs, outputs, batch inputs and outputs."""
    for tensor in view.inputs:
        yield from _tensor(context, view, tensor, "input")
    for tensor in view.outputs:
        yield from _tensor(context, view, tensor, "output")
    yield from _batch(view)


def _tensor(
    context: Context, view: ModelView, tensor: TensorView, role: Literal["input", "output"]
) -> Iterator[Finding]:
    node, suffix = tensor.node, f" for {view.configured_name}"
    if not tensor.name:
        yield report(view, "E240", f"model {role} must specify 'name'{suffix}", node)
        return
    prefix = f"model {role} '{tensor.name}' "
    if tensor.data_type == "TYPE_INVALID" and not view.completes:
        help_ = "the backend does not fill it in"
        yield report(view, "E241", f"{prefix}must specify 'data_type'{suffix}", node.one("data_type") or node, help_)
    if not tensor.dims and not view.completes:
        help_ = "the backend does not fill it in; without the batch dimension when max_batch_size is not 0"
        yield report(view, "E242", f"{prefix}must specify 'dims'{suffix}", node.one("dims") or node, help_)
    reshape = node.message("reshape")
    if tensor.reshape is not None and not tensor.reshape and view.max_batch_size == 0:
        words = f"{prefix}cannot have empty reshape for non-batching model as scalar tensors are not supported{suffix}"
        yield report(view, "E243", words, reshape)
    wrong = [each for each in node.get("dims") if isinstance(each.value, int) and each.value < 1 and each.value != -1]
    if wrong:
        yield report(view, "E244", f"{prefix}dimension {_DIMENSION}{suffix}", wrong[0])
    if reshape is not None and tensor.reshape is not None:
        wrong = [
            each for each in reshape.get("shape") if isinstance(each.value, int) and each.value < 1 and each.value != -1
        ]
        if wrong:
            yield report(view, "E245", f"{prefix}reshape dimensions {_DIMENSION}{suffix}", wrong[0])
        elif tensor.dims:
            yield from _reshape(context, view, tensor, prefix, suffix)
    yield from _format(view, tensor, role, suffix)


def _reshape(context: Context, view: ModelView, tensor: TensorView, prefix: str, suffix: str) -> Iterator[Finding]:
    """Whether a reshape keeps the elements."""
    assert tensor.reshape is not None
    node = tensor.node.message("reshape")
    if context.has(changes.ELEMENT_COUNTS) and OVERFLOW in (bounded_count(tensor.dims), bounded_count(tensor.reshape)):
        return  # refused as such (E608)
    before, after = wrapped_count(tensor.dims), wrapped_count(tensor.reshape)
    if before != after and (after != 0 or before != 1):
        yield report(view, "E246", f"{prefix}has different size for dims and reshape{suffix}", node)
    elif before == -1:
        trunks, reshaped = _trunks(tensor.dims), _trunks(tensor.reshape)
        if len(trunks) != len(reshaped):
            words = f"{prefix}has different number of variable-size dimensions for dims and reshape{suffix}"
            yield report(view, "E247", words, node)
        elif trunks != reshaped:
            yield report(view, "E246", f"{prefix}has different size for dims and reshape{suffix}", node)


def _format(view: ModelView, tensor: TensorView, role: str, suffix: str) -> Iterator[Finding]:
    """Layouts and TensorRT's kinds of tensors."""
    node = tensor.node
    known = bool(tensor.dims) or not view.completes
    image = role == "input" and node.text("format") in ("FORMAT_NHWC", "FORMAT_NCHW")
    if image and known and len(tensor.dims) != 3:
        help_ = "leave the batch dimension out of dims" if len(tensor.dims) == 4 else ""
        yield report(view, "E248", f"model input NHWC/NCHW require 3 dims{suffix}", node.one("format"), help_)
    if node.flag("is_shape_tensor") and view.platform != "tensorrt_plan":
        words = f"shape tensors are only supported for TensorRT platform{suffix}"
        yield report(view, "E249", words, node.one("is_shape_tensor"))
    if node.flag("is_non_linear_format_io"):
        place = node.one("is_non_linear_format_io")
        if view.platform != "tensorrt_plan":
            words = f"Non-linear IO format is only supported for the TensorRT platform{suffix}"
            yield report(view, "E250", words, place)
        elif known and len(tensor.dims) != 3:
            yield report(view, "E250", f"Non-linear IO format {role} requires 3 dims{suffix}", place)


def _batch(view: ModelView) -> Iterator[Finding]:
    suffix = f" for {view.configured_name}"
    inputs, outputs = {each.name for each in view.inputs}, {each.name for each in view.outputs}
    for entry in view.document.messages("batch_input"):
        kind, sources = entry.text("kind", _INPUT_KINDS[0]), entry.texts("source_input")
        node = entry.one("kind") or entry
        if kind not in _INPUT_KINDS:
            yield report(view, "E256", f"unknown batch input kind ''{suffix}", node)
        elif len(sources) != 1:
            words = f"batch input kind '{kind}' expects 1 source input, got {len(sources)}{suffix}"
            yield report(view, "E255", words, entry)
        if entry.text("data_type") not in ("TYPE_INT32", "TYPE_FP32"):
            words = f"batch input data type must be TYPE_INT32 or TYPE_FP32{suffix}"
            yield report(view, "E257", words, entry.one("data_type") or entry)
        for source in entry.get("source_input"):
            if source.value not in inputs and not view.completes:
                yield report(view, "E258", f"unknown source input name '{source.value}'{suffix}", source)
    targets: set[object] = set()
    for entry in view.document.messages("batch_output"):
        kind, sources = entry.text("kind", _OUTPUT_KINDS[0]), entry.texts("source_input")
        if kind not in _OUTPUT_KINDS:
            yield report(view, "E256", f"unknown batch output kind ''{suffix}", entry.one("kind") or entry)
        elif len(sources) != 1:
            words = f"batch output kind '{kind}' expects 1 source input, got {len(sources)}{suffix}"
            yield report(view, "E255", words, entry)
        for source in entry.get("source_input"):
            if source.value not in inputs and not view.completes:
                yield report(view, "E258", f"unknown source input name '{source.value}'{suffix}", source)
        for target in entry.get("target_name"):
            if target.value not in outputs and not view.completes:
                yield report(view, "E259", f"unknown target output name '{target.value}'{suffix}", target)
            elif target.value in targets:
                words = f"target output name '{target.value}' can only be specified once{suffix}"
                yield report(view, "E259", words, target)
            targets.add(target.value)


def _trunks(dims: Sequence[int]) -> list[int]:
    """The number of elements between the variable-size dimensions."""
    trunks = [1]
    for dim in dims:
        if dim == -1:
            trunks.append(1)
        else:
            trunks[-1] = (trunks[-1] * dim + 2**63) % 2**64 - 2**63
    return trunks
