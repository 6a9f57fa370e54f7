"""Warmup samples: data that the server reads or makes before the first request. No I/O.

Source: backend_model_instance.cc GenerateWarmupData, infer_request.cc InferenceRequest::Normalize.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Final

from tritonforge.datatypes import BY_CONFIG
from tritonforge.pbtxt import Message
from tritonforge.triton import changes
from tritonforge.validation.context import Context, ModelView, TensorView
from tritonforge.validation.findings import Finding
from tritonforge.validation.registry import Stage, define_error, register_check
from tritonforge.validation.rules.tensors import (
    INVALID,
    LARGEST,
    OVERFLOW,
    compute_bounded_size,
    count_bounded,
    format_shape,
)
from tritonforge.validation.tree import UNKNOWN

_WARMUP: Final = "backend_model_instance.cc GenerateWarmupData"

# fmt: off
E270 = define_error("E270", "warmup setting expects all variable-size dimensions are specified for input '<i>'",
    source=_WARMUP,
    why="The sample's data are made before the server starts, so their size has to be known.",
    bad='inputs { key: "A" value { data_type: TYPE_FP32 dims: [-1] zero_data: true } }',
    good='inputs { key: "A" value { data_type: TYPE_FP32 dims: [4] zero_data: true } }')
E271 = define_error("E271", "[request id: <id_unknown>] warmup setting expects input '<i>' to have input_data_type set",
    source=_WARMUP,
    why="Where the data come from: zero_data, random_data or input_data_file.",
    bad="value { data_type: TYPE_FP32 dims: [4] }", good="value { data_type: TYPE_FP32 dims: [4] random_data: true }")
E272 = define_error("E272", "failed to open text file for read <model>/warmup/<f>: No such file or directory",
    source=f"{_WARMUP}, ReadTextFile",
    why="Warmup files lie in the directory warmup of the model.",
    bad='input_data_file: "sample" without m/warmup/sample', good='input_data_file: "sample" and m/warmup/sample')
E273 = define_error("E273", "[request id: <id_unknown>] warmup setting expects <n> bytes, but the data provided "
                            "from <f>only has <m> bytes",
    source=_WARMUP,
    why="The file holds one tensor of these dims.",
    bad="dims: [4] and a file of 2 bytes", good="dims: [4] and a file of 16 bytes")
E274 = define_error("E274", "[request id: <id_unknown>] unexpected shape for input '<i>' for model '<m>'. Expected "
                            "[4], got [5]. ",
    source="infer_request.cc InferenceRequest::Normalize",
    why="A warmup sample is a request, and refused as one: inputs, data types, shapes.",
    bad="dims: [5] for an input of dims: [4]", good="dims: [4]")
E611 = define_error("E611", f"byte size for tensor '<t>' exceeds maximum size of {LARGEST}",
    source=changes.ELEMENT_COUNTS.source,
    why="From 26.03 on the bytes of a warmup input and of an initial state have to fit into 64 bits, and their "
        "dimensions to be sizes.",
    bad="model_warmup [{ inputs { value { dims: [4294967296, 4294967296] zero_data: true } } }]   --image 26.03",
    good="model_warmup [{ inputs { value { dims: [4] zero_data: true } } }]   --image 26.03")
# fmt: on

_REQUEST: Final = "[request id: <id_unknown>] "
_NOTE: Final = (
    "NOTE: Setting a non-zero max_batch_size in the model config requires a batch dimension to be prepended to each "
    "input shape. If you want to specify the full shape including the batch dim in your input dims config, try setting "
    "max_batch_size to zero. See the model configuration docs for more info on max_batch_size."
)
_DATA: Final = ("zero_data", "random_data", "input_data_file")


@register_check(Stage.WARMUP, E270, E271, E272, E273, E274)
def check_samples(context: Context, model: ModelView) -> Iterator[Finding]:
    """Check the warmup samples; one with batch_size 0 is skipped, as on the server."""
    if model.is_ensemble:
        return
    for sample in model.document.messages("model_warmup"):
        if sample.integer("batch_size") == 0:
            continue
        entries = sample.entries("inputs")
        for name, entry in entries.items():
            value = entry.message("value")
            if value is not None and -1 in value.integers("dims"):
                message = f"warmup setting expects all variable-size dimensions are specified for input '{name}'"
                yield E270.report_in(model, message, value.get("dims")[value.integers("dims").index(-1)])
            elif context.has(changes.ELEMENT_COUNTS) and (value is None or value.text("data_type") not in BY_CONFIG):
                message = f"warmup setting expects all variable-size dimensions are specified for input '{name}'"
                advice = "write data_type: without one the server does not know the bytes"
                yield E270.report_in(model, message, value or entry, advice)
            elif value is None or not any(value.has(kind) for kind in _DATA):
                message = f"{_REQUEST}warmup setting expects input '{name}' to have input_data_type set"
                yield E271.report_in(model, message, value or entry, "write zero_data: true or random_data: true")
            elif value.has("input_data_file"):
                yield from _check_file(context, model, value)
        yield from _check_request(model, sample, entries)


def _check_file(context: Context, model: ModelView, value: Message) -> Iterator[Finding]:
    """Check the file of one input's data."""
    name, node = value.text("input_data_file"), value.one("input_data_file")
    path = f"{model.name}/warmup/{name}"
    entry = context.tree.entry(path)
    if entry is None:
        if not context.tree.leaves(path):
            message = f"failed to open text file for read <repo>/{path}: No such file or directory"
            yield E272.report_in(model, message, node, f"warmup files lie in {model.name}/warmup/")
        return
    size = compute_byte_size(value)
    if entry.kind == "file" and size is not None and size > entry.size != UNKNOWN:
        message = (
            f"{_REQUEST}warmup setting expects {size} bytes, but the data provided from {name}only has "
            f"{entry.size} bytes"
        )
        yield E273.report_in(model, message, node)


def compute_byte_size(value: Message) -> int | None:
    """Return the bytes of one tensor; None where its elements carry their own length."""
    datatype = BY_CONFIG.get(value.text("data_type"))
    dims = value.integers("dims")
    if datatype is None or datatype.size is None:
        return None
    return prod(dims) * datatype.size % 2**64 if dims else 0  # unsigned, as the server counts


def _check_request(model: ModelView, sample: Message, entries: dict[str, Message]) -> Iterator[Finding]:
    """Check the sample as the server checks a request.

    Names that the model does not have are passed over: they are control inputs, or inputs that the backend adds.
    """
    inputs = {tensor.name: tensor for tensor in model.inputs if tensor.name}
    given = [name for name in inputs if name in entries]
    # As the server counts: a name that is declared twice is two inputs, and which names are missing does not matter.
    required = sum(not tensor.optional for tensor in model.inputs)
    if len(entries if model.completes else given) < required and not (model.completes and model.backend == "python"):
        missing = [tensor.name for tensor in model.inputs if not tensor.optional and tensor.name not in given]
        expected = (
            f"{required} inputs"
            if required == len(model.inputs)
            else f"number of inputs between {required} and {len(model.inputs)}"
        )
        message = (
            f"{_REQUEST}expected {expected} but got {len(given)} inputs for model '{model.configured_name}'. "
            f"Got input(s) {_list_names(sorted(given))}, but missing required input(s) "
            f"{_list_names(missing) if missing else ']'}. Please provide all required input(s)."
        )
        yield E274.report_in(model, message, sample)
    for name in given:
        value = entries[name].message("value")
        if value is not None and -1 not in value.integers("dims"):
            yield from _check_tensor(model, inputs[name], value)


def _check_tensor(model: ModelView, tensor: TensorView, value: Message) -> Iterator[Finding]:
    given = BY_CONFIG.get(value.text("data_type"))
    declared = BY_CONFIG.get(tensor.data_type)
    is_declared = not model.completes or tensor.data_type != "TYPE_INVALID"
    if is_declared and given is not declared:
        wire, expected_wire = (datatype.wire if datatype is not None else "<invalid>" for datatype in (given, declared))
        message = (
            f"{_REQUEST}inference input '{tensor.name}' data-type is '{wire}', "
            f"but model '{model.configured_name}' expects '{expected_wire}'"
        )
        yield E274.report_in(model, message, value.one("data_type") or value)
    batching = model.max_batch_size > 0
    dims = value.integers("dims")
    # The server takes no batch dimension off a shape tensor, though it has put one on.
    compared = (1, *dims) if batching and tensor.node.flag("is_shape_tensor") else dims
    fits = len(compared) == len(tensor.dims) and all(b in (a, -1) for a, b in zip(compared, tensor.dims, strict=True))
    if tensor.dims and not fits:
        expected = format_shape((-1, *tensor.dims) if batching else tensor.dims)
        got = format_shape((1, *dims) if batching else dims)
        message = (
            f"{_REQUEST}unexpected shape for input '{tensor.name}' for model '{model.configured_name}'. "
            f"Expected {expected}, got {got}. {_NOTE if batching else ''}"
        )
        yield E274.report_in(model, message, (value.get("dims") or [value])[0])
    elif given is not None and given.size is not None and given is declared and prod(dims) < 0:
        size = prod(dims) * given.size
        message = (
            f"{_REQUEST}input byte size mismatch for input '{tensor.name}' for model '{model.configured_name}'. "
            f"Expected {size}, got {size % 2**64}"
        )
        yield E274.report_in(model, message, value.get("dims")[0])


def _list_names(names: list[str]) -> str:
    return "[" + ",".join(f"'{name}'" for name in names) + "]"


@register_check(Stage.WARMUP, E611)
def check_byte_sizes(context: Context, model: ModelView) -> Iterator[Finding]:
    """Check that the bytes of warmup inputs and initial states fit into 64 bits."""
    if model.is_ensemble or not model.versions or not context.has(changes.ELEMENT_COUNTS):
        return
    for sample in model.document.messages("model_warmup"):
        if sample.integer("batch_size"):
            for name, entry in sample.entries("inputs").items():
                yield from _check_bytes(model, name, entry.message("value"))
    sequence = model.document.message("sequence_batching")
    for state in sequence.messages("state") if sequence is not None else ():
        for initial in state.messages("initial_state")[:1]:
            yield from _check_bytes(model, state.text("input_name"), initial)


def _check_bytes(model: ModelView, name: str, value: Message | None) -> Iterator[Finding]:
    dims = value.integers("dims") if value is not None else ()
    if value is None or -1 in dims:
        return
    data_type = value.text("data_type")
    size = compute_bounded_size(data_type, dims)
    shape = f"[{','.join(map(str, dims))}]"
    if size == INVALID:
        of_strings = " in shape" if data_type == "TYPE_STRING" else ""
        message = f"tensor '{name}' contains an invalid dimension{of_strings} {shape}"
    elif size == OVERFLOW:
        what = "element count" if data_type == "TYPE_STRING" and count_bounded(dims) == OVERFLOW else "byte size"
        message = f"{what} for tensor '{name}' exceeds maximum size of {LARGEST}"
    else:
        return
    yield E611.report(message, path=model.config_path, node=value.get("dims")[0])
