"""Inputs and outputs of a model: names, types, dims, reshapes, batch inputs and outputs. No I/O.

Source: model_config_utils.cc ValidateModelIOConfig, ValidateIOShape, ValidateModelInput, ValidateModelOutput,
ValidateBatchIO. The server runs them when a model is loaded, with auto-complete off already when it is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, Literal

from tritonforge.datatypes import BY_CONFIG
from tritonforge.pbtxt import Message, Node
from tritonforge.triton import changes
from tritonforge.triton.backends import BACKENDS
from tritonforge.validation.context import Context, ModelView, TensorView
from tritonforge.validation.findings import Finding
from tritonforge.validation.registry import Stage, define_advice, define_error, register_check

_QUOTED: Final = "facts: accepted by the real server"
_BATCH: Final = "model_config_utils.cc ValidateBatchIO"
_IO: Final = "model_config_utils.cc ValidateIOShape"

#: The largest element count and byte size.
LARGEST: Final = 2**63 - 1

# fmt: off
E240 = define_error("E240", "model input must specify 'name' for <m>",
    source=_IO,
    why="Requests name their tensors.",
    bad="input [{ data_type: TYPE_FP32 dims: [4] }]", good='input [{ name: "A" data_type: TYPE_FP32 dims: [4] }]')
E241 = define_error("E241", "model input '<n>' must specify 'data_type' for <m>",
    source=_IO,
    why="A tensor has a type.",
    bad='input [{ name: "A" dims: [4] }]', good='input [{ name: "A" data_type: TYPE_FP32 dims: [4] }]')
E242 = define_error("E242", "model input '<n>' must specify 'dims' for <m>",
    source=_IO,
    why="A tensor has a shape; a scalar per request of a batch is dims: [1].",
    bad='input [{ name: "A" data_type: TYPE_FP32 }]', good='input [{ name: "A" data_type: TYPE_FP32 dims: [1] }]')
E243 = define_error("E243", "model input '<n>' cannot have empty reshape for non-batching model as scalar tensors "
                            "are not supported for <m>",
    source=_IO,
    why="An empty reshape leaves the batch dimension only, and this model has none.",
    bad="max_batch_size: 0 input [{ dims: [1] reshape { shape: [] } }]",
    good="max_batch_size: 8 input [{ dims: [1] reshape { shape: [] } }]")
E244 = define_error("E244", "model input '<n>' dimension must be integer >= 1, or -1 to indicate a variable-size "
                            "dimension for <m>",
    source=_IO,
    why="0 and other negative numbers mean nothing.",
    bad="dims: [0]", good="dims: [-1]")
E245 = define_error("E245", "model input '<n>' reshape dimensions must be integer >= 1, or -1 to indicate a "
                            "variable-size dimension for <m>",
    source=_IO,
    why="0 and other negative numbers mean nothing.",
    bad="reshape { shape: [0] }", good="reshape { shape: [-1] }")
E246 = define_error("E246", "model input '<n>' has different size for dims and reshape for <m>",
    source=_IO,
    why="A reshape keeps the elements; between variable-size dimensions too.",
    bad="dims: [4] reshape { shape: [2, 3] }", good="dims: [4] reshape { shape: [2, 2] }")
E247 = define_error("E247", "model input '<n>' has different number of variable-size dimensions for dims and "
                            "reshape for <m>",
    source=_IO,
    why="A variable-size dimension cannot appear or vanish.",
    bad="dims: [-1, -1] reshape { shape: [-1] }", good="dims: [-1, -1] reshape { shape: [-1, 1, -1] }")
E248 = define_error("E248", "model input NHWC/NCHW require 3 dims for <m>",
    source="model_config_utils.cc ValidateModelInput",
    why="An image has height, width and channels; the batch dimension is not among the dims.",
    bad="format: FORMAT_NCHW dims: [1, 3, 224, 224]", good="format: FORMAT_NCHW dims: [3, 224, 224]")
E249 = define_error("E249", "shape tensors are only supported for TensorRT platform for <m>",
    source="model_config_utils.cc ValidateModelInput, ValidateModelOutput",
    why="Other backends know no shape tensors.",
    bad='platform: "onnxruntime_onnx" input [{ is_shape_tensor: true }]',
    good='platform: "tensorrt_plan" input [{ is_shape_tensor: true }]')
E250 = define_error("E250", "Non-linear IO format is only supported for the TensorRT platform for <m>",
    source="model_config_utils.cc ValidateNonLinearFormatIO",
    why="Other backends know linear layouts only, and vectorised ones need three dims.",
    bad='platform: "onnxruntime_onnx" input [{ is_non_linear_format_io: true }]',
    good='platform: "tensorrt_plan" input [{ dims: [3, 4, 4] is_non_linear_format_io: true }]')
E255 = define_error("E255", "batch input kind '<kind>' expects 1 source input, got <n> for <m>",
    source=_BATCH,
    why="A batch input is worked out from one input.",
    bad='batch_input [{ kind: BATCH_ITEM_SHAPE target_name: "T" data_type: TYPE_FP32 }]',
    good='batch_input [{ kind: BATCH_ITEM_SHAPE target_name: "T" data_type: TYPE_FP32 source_input: "A" }]')
E256 = define_error("E256", "unknown batch input kind '<kind>' for <m>",
    source=_BATCH,
    why="The kind is none of the enum's.",
    bad="batch_input [{ kind: 99 }]", good="batch_input [{ kind: BATCH_ELEMENT_COUNT }]")
E257 = define_error("E257", "batch input data type must be TYPE_INT32 or TYPE_FP32 for <m>",
    source=_BATCH,
    why="Counts are written in one of the two.",
    bad="data_type: TYPE_INT64", good="data_type: TYPE_INT32")
E258 = define_error("E258", "unknown source input name '<n>' for <m>",
    source=_BATCH,
    why="The source is one of the model's inputs.",
    bad='input [{ name: "A" }] batch_input [{ source_input: "B" }]',
    good='input [{ name: "A" }] batch_input [{ source_input: "A" }]')
E259 = define_error("E259", "unknown target output name '<n>' for <m>",
    source=_BATCH,
    why="The target is one of the model's outputs, and each at most once.",
    bad='output [{ name: "B" }] batch_output [{ target_name: "C" }]',
    good='output [{ name: "B" }] batch_output [{ target_name: "B" }]')
E608 = define_error("E608", f"element count for tensor '<t>' exceeds maximum size of {LARGEST}",
    source=changes.ELEMENT_COUNTS.source,
    why="From 26.03 on the number of elements of an input, and of dims and reshape where there is a reshape, has to "
        "fit into 64 bits; older servers let it wrap around.",
    bad="dims: [4294967296, 4294967296]   --image 26.03", good="dims: [4294967296, 1024]   --image 26.03")
W307 = define_advice("W307", "a name is declared twice",
    source=f"model_config_utils.cc ValidateModelIOConfig checks no duplicates ({_QUOTED})",
    why="Requests and steps name tensors; of two with one name only one is meant.",
    bad='input [{ name: "A" ... }, { name: "A" ... }]', good='input [{ name: "A" ... }, { name: "C" ... }]')
W312 = define_advice("W312", "ragged batches of a model that does not batch",
    source="the ragged batching document: allow_ragged_batch concerns batches",
    why="Without batches there is nothing to be ragged.",
    bad="max_batch_size: 0 input [{ allow_ragged_batch: true }]",
    good="max_batch_size: 8 input [{ allow_ragged_batch: true }]")
# fmt: on

#: The rules of the server's own checks, which run at one of two times.
TENSOR_RULES: Final = (
    E240, E241, E242, E243, E244, E245, E246, E247, E248, E249, E250, E255, E256, E257, E258, E259,
)  # fmt: skip

#: Instead of a size: it depends on the request, a dimension is invalid, or it does not fit into 64 bits.
VARIABLE: Final = -1
INVALID: Final = -2
OVERFLOW: Final = -3
#: Bytes of the length before each element of a tensor of strings.
_LENGTH: Final = 4
_PLAN: Final = BACKENDS["tensorrt"].platform
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


def count_wrapped(dims: Sequence[int]) -> int:
    """Return the element count up to 26.02: it wraps at 64 bits, is 0 without dims, -1 with a variable dimension."""
    if -1 in dims:
        return VARIABLE
    count = 1 if dims else 0
    for dim in dims:
        count *= dim
    return (count + 2**63) % 2**64 - 2**63


def count_bounded(dims: Sequence[int]) -> int:
    """Return the element count from 26.03 on; `VARIABLE`, `INVALID` or `OVERFLOW` at the first such dimension."""
    count = 0
    for index, dim in enumerate(dims):
        if dim == -1:
            return VARIABLE
        if dim < 0:
            return INVALID
        if index and dim and count > LARGEST // dim:
            return OVERFLOW
        count = count * dim if index else dim
    return count


def compute_bounded_size(data_type: str, dims: Sequence[int]) -> int:
    """Return the byte size from 26.03 on, as `count_bounded`; `VARIABLE` also for a type without a size.

    Strings count 4 bytes for each element (core model_config_utils.h `GetByteSize`).
    """
    known = BY_CONFIG.get(data_type)
    if known is None:
        return VARIABLE
    count, size = count_bounded(dims), _LENGTH if known.size is None else known.size
    return OVERFLOW if count > LARGEST // size else count * size if count >= 0 else count


def format_shape(dims: tuple[int, ...]) -> str:
    """Return dims as the server prints them (model_config_utils.cc `DimsListToString`)."""
    return f"[{','.join(map(str, dims))}]"


@register_check(Stage.CONFIG, *TENSOR_RULES)
def check_tensors_when_read(context: Context, model: ModelView) -> Iterator[Finding]:
    """With auto-complete off, check inputs and outputs where the server does it then: as it reads the configuration."""
    if not context.options.auto_complete:
        yield from _check_tensors(context, model)


@register_check(Stage.TENSORS, *TENSOR_RULES)
def check_tensors_when_loaded(context: Context, model: ModelView) -> Iterator[Finding]:
    """Check inputs and outputs when the model is loaded: with auto-complete on."""
    if context.options.auto_complete:
        yield from _check_tensors(context, model)


def _check_tensors(context: Context, model: ModelView) -> Iterator[Finding]:
    for tensor in model.inputs:
        yield from _check_tensor(context, model, tensor, "input")
    for tensor in model.outputs:
        yield from _check_tensor(context, model, tensor, "output")
    yield from _check_batch_io(model)


def _check_tensor(
    context: Context, model: ModelView, tensor: TensorView, role: Literal["input", "output"]
) -> Iterator[Finding]:
    node, suffix = tensor.node, f" for {model.configured_name}"
    if not tensor.name:
        yield E240.report_in(model, f"model {role} must specify 'name'{suffix}", node)
        return
    prefix = f"model {role} '{tensor.name}' "
    if tensor.data_type == "TYPE_INVALID" and not model.completes:
        advice = "the backend does not fill it in"
        yield E241.report_in(model, f"{prefix}must specify 'data_type'{suffix}", node.one("data_type") or node, advice)
    if not tensor.dims and not model.completes:
        advice = "the backend does not fill it in; without the batch dimension when max_batch_size is not 0"
        yield E242.report_in(model, f"{prefix}must specify 'dims'{suffix}", node.one("dims") or node, advice)
    reshape = node.message("reshape")
    if tensor.reshape is not None and not tensor.reshape and model.max_batch_size == 0:
        message = (
            f"{prefix}cannot have empty reshape for non-batching model as scalar tensors are not supported{suffix}"
        )
        yield E243.report_in(model, message, reshape)
    if invalid := _find_invalid_size(node.get("dims")):
        yield E244.report_in(model, f"{prefix}dimension {_DIMENSION}{suffix}", invalid)
    if reshape is not None and tensor.reshape is not None:
        if invalid := _find_invalid_size(reshape.get("shape")):
            yield E245.report_in(model, f"{prefix}reshape dimensions {_DIMENSION}{suffix}", invalid)
        elif tensor.dims:
            yield from _check_reshape(context, model, tensor, prefix, suffix)
    yield from _check_format(model, tensor, role, suffix)


def _find_invalid_size(nodes: Sequence[Node]) -> Node | None:
    return next((n for n in nodes if isinstance(n.value, int) and n.value < 1 and n.value != -1), None)


def _check_reshape(
    context: Context, model: ModelView, tensor: TensorView, prefix: str, suffix: str
) -> Iterator[Finding]:
    """Check that a reshape keeps the elements."""
    assert tensor.reshape is not None
    node = tensor.node.message("reshape")
    if context.has(changes.ELEMENT_COUNTS) and OVERFLOW in (count_bounded(tensor.dims), count_bounded(tensor.reshape)):
        return  # refused as such (E608)
    before, after = count_wrapped(tensor.dims), count_wrapped(tensor.reshape)
    if before != after and (after != 0 or before != 1):
        yield E246.report_in(model, f"{prefix}has different size for dims and reshape{suffix}", node)
    elif before == -1:
        trunks, reshaped = _count_trunks(tensor.dims), _count_trunks(tensor.reshape)
        if len(trunks) != len(reshaped):
            message = f"{prefix}has different number of variable-size dimensions for dims and reshape{suffix}"
            yield E247.report_in(model, message, node)
        elif trunks != reshaped:
            yield E246.report_in(model, f"{prefix}has different size for dims and reshape{suffix}", node)


def _check_format(model: ModelView, tensor: TensorView, role: str, suffix: str) -> Iterator[Finding]:
    """Check layouts and TensorRT's kinds of tensors."""
    node = tensor.node
    known = bool(tensor.dims) or not model.completes
    image = role == "input" and node.text("format") in ("FORMAT_NHWC", "FORMAT_NCHW")
    if image and known and len(tensor.dims) != 3:
        advice = "leave the batch dimension out of dims" if len(tensor.dims) == 4 else ""
        yield E248.report_in(model, f"model input NHWC/NCHW require 3 dims{suffix}", node.one("format"), advice)
    if node.flag("is_shape_tensor") and model.platform != _PLAN:
        message = f"shape tensors are only supported for TensorRT platform{suffix}"
        yield E249.report_in(model, message, node.one("is_shape_tensor"))
    if node.flag("is_non_linear_format_io"):
        place = node.one("is_non_linear_format_io")
        if model.platform != _PLAN:
            message = f"Non-linear IO format is only supported for the TensorRT platform{suffix}"
            yield E250.report_in(model, message, place)
        elif known and len(tensor.dims) != 3:
            yield E250.report_in(model, f"Non-linear IO format {role} requires 3 dims{suffix}", place)


def _check_batch_io(model: ModelView) -> Iterator[Finding]:
    suffix = f" for {model.configured_name}"
    outputs = {tensor.name for tensor in model.outputs}
    for entry in model.document.messages("batch_input"):
        yield from _check_batch_entry(model, entry, "input", _INPUT_KINDS)
        if entry.text("data_type") not in ("TYPE_INT32", "TYPE_FP32"):
            message = f"batch input data type must be TYPE_INT32 or TYPE_FP32{suffix}"
            yield E257.report_in(model, message, entry.one("data_type") or entry)
        yield from _check_batch_sources(model, entry)
    targets: set[object] = set()
    for entry in model.document.messages("batch_output"):
        yield from _check_batch_entry(model, entry, "output", _OUTPUT_KINDS)
        yield from _check_batch_sources(model, entry)
        for target in entry.get("target_name"):
            if target.value not in outputs and not model.completes:
                yield E259.report_in(model, f"unknown target output name '{target.value}'{suffix}", target)
            elif target.value in targets:
                message = f"target output name '{target.value}' can only be specified once{suffix}"
                yield E259.report_in(model, message, target)
            targets.add(target.value)


def _check_batch_entry(model: ModelView, entry: Message, role: str, kinds: Sequence[str]) -> Iterator[Finding]:
    kind, sources = entry.text("kind", kinds[0]), entry.texts("source_input")
    suffix = f" for {model.configured_name}"
    if kind not in kinds:
        yield E256.report_in(model, f"unknown batch {role} kind ''{suffix}", entry.one("kind") or entry)
    elif len(sources) != 1:
        yield E255.report_in(
            model, f"batch {role} kind '{kind}' expects 1 source input, got {len(sources)}{suffix}", entry
        )


def _check_batch_sources(model: ModelView, entry: Message) -> Iterator[Finding]:
    inputs = {tensor.name for tensor in model.inputs}
    for source in entry.get("source_input") if not model.completes else ():
        if source.value not in inputs:
            message = f"unknown source input name '{source.value}' for {model.configured_name}"
            yield E258.report_in(model, message, source)


def _count_trunks(dims: Sequence[int]) -> list[int]:
    """Count the elements between the variable-size dimensions."""
    trunks = [1]
    for dim in dims:
        if dim == -1:
            trunks.append(1)
        else:
            trunks[-1] = (trunks[-1] * dim + 2**63) % 2**64 - 2**63
    return trunks


@register_check(Stage.TENSORS, E608)
def check_element_counts(context: Context, model: ModelView) -> Iterator[Finding]:
    """Check that element counts fit into 64 bits: of dims and reshapes, and of inputs, which the scheduler counts."""
    if not model.versions or not context.has(changes.ELEMENT_COUNTS):
        return
    for tensor in (*model.inputs, *model.outputs):
        reshape = tensor.node.message("reshape")
        if tensor.reshape is not None and reshape is not None:
            yield from _check_count(model, f"{tensor.name} dims", tensor.dims, tensor.node, "dims")
            yield from _check_count(model, f"{tensor.name} reshape", tensor.reshape, reshape, "shape")
    for tensor in model.inputs if not model.is_ensemble else ():
        if tensor.reshape is None and not tensor.node.flag("is_shape_tensor"):
            yield from _check_count(model, tensor.name, tensor.dims, tensor.node, "dims")


def _check_count(model: ModelView, name: str, dims: tuple[int, ...], message: Message, field: str) -> Iterator[Finding]:
    """Check the count of a tensor; E244 and E245 refuse invalid dimensions before."""
    if count_bounded(dims) == OVERFLOW:
        sentence = f"element count for tensor '{name}' exceeds maximum size of {LARGEST}"
        yield E608.report_in(model, sentence, next(iter(message.get(field)), None))


@register_check(Stage.LOADED, W307, W312)
def check_declarations(context: Context) -> Iterator[Finding]:
    """Find names that are declared twice, and ragged tensors of models that do not batch."""
    for model in context.models.values():
        if not model.parsed:
            continue
        for kind, tensors in (("input", model.inputs), ("output", model.outputs)):
            seen: set[str] = set()
            for tensor in tensors:
                if tensor.name and tensor.name in seen:
                    message = f"the model {model.name} declares the {kind} '{tensor.name}' twice"
                    advice = "rename one of them"
                    if kind == "output" and context.has(changes.REQUESTED_ONCE):
                        advice += "; a request that names both is refused"
                    yield W307.report(message, path=model.config_path, node=tensor.node.one("name"), help=advice)
                seen.add(tensor.name)
                ragged = tensor.node.flag("allow_ragged_batch")
                if ragged and model.max_batch_size == 0 and not model.completes:
                    message = f"the {kind} '{tensor.name}' allows ragged batches, but max_batch_size is 0"
                    yield W312.report(message, path=model.config_path, node=tensor.node.one("allow_ragged_batch"))
