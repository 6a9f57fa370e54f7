"""Warmup samples and initial states: data that the server reads or makes before the first request. No I/O.

Source: backend_model_instance.cc GenerateWarmupData, infer_request.cc InferenceRequest::Normalize,
sequence_batch_scheduler.cc ValidateInitialState.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Final

from tritonforge.datatypes import BY_CONFIG
from tritonforge.pbtxt import Message
from tritonforge.triton import changes
from tritonforge.validation.findings import Finding
from tritonforge.validation.rules.context import Context, ModelView, TensorView
from tritonforge.validation.rules.model.report import report, shape
from tritonforge.validation.tree import UNKNOWN

__all__ = ["samples", "states"]

_REQUEST: Final = "[request id: <id_unknown>] "
_NOTE: Final = (
    "NOTE: Setting a non-zero max_batch_size in the model config requires a batch dimension to be prepended to each "
    "input shape. If you want to specify the full shape including the batch dim in your input dims config, try setting "
    "max_batch_size to zero. See the model configuration docs for more info on max_batch_size."
)
_DATA: Final = ("zero_data", "random_data", "input_data_file")


def samples(context: Context, view: ModelView) -> Iterator[Finding]:
    """The warmup samples; one with batch_size 0 is skipped, as on the server."""
    for sample in view.document.messages("model_warmup"):
        if sample.integer("batch_size") == 0:
            continue
        entries = sample.entries("inputs")
        for name, entry in entries.items():
            value = entry.message("value")
            if value is not None and -1 in value.integers("dims"):
                words = f"warmup setting expects all variable-size dimensions are specified for input '{name}'"
                yield report(view, "E270", words, value.get("dims")[value.integers("dims").index(-1)])
            elif context.has(changes.ELEMENT_COUNTS) and (value is None or value.text("data_type") not in BY_CONFIG):
                words = f"warmup setting expects all variable-size dimensions are specified for input '{name}'"
                help_ = "write data_type: without one the server does not know the bytes"
                yield report(view, "E270", words, value or entry, help_)
            elif value is None or not any(value.has(kind) for kind in _DATA):
                words = f"{_REQUEST}warmup setting expects input '{name}' to have input_data_type set"
                yield report(view, "E271", words, value or entry, "write zero_data: true or random_data: true")
            elif value.has("input_data_file"):
                yield from _file(context, view, value)
        yield from _request(view, sample, entries)


def _file(context: Context, view: ModelView, value: Message) -> Iterator[Finding]:
    """The file of one input's data."""
    name, node = value.text("input_data_file"), value.one("input_data_file")
    path = f"{view.name}/warmup/{name}"
    entry = context.tree.entry(path)
    if entry is None:
        if not context.tree.leaves(path):
            words = f"failed to open text file for read <repo>/{path}: No such file or directory"
            yield report(view, "E272", words, node, f"warmup files lie in {view.name}/warmup/")
        return
    size = _byte_size(value)
    if entry.kind == "file" and size is not None and size > entry.size != UNKNOWN:
        words = (
            f"{_REQUEST}warmup setting expects {size} bytes, but the data provided from {name}only has "
            f"{entry.size} bytes"
        )
        yield report(view, "E273", words, node)


def _byte_size(value: Message) -> int | None:
    """The bytes of one tensor; None where its elements carry their own length."""
    datatype = BY_CONFIG.get(value.text("data_type"))
    dims = value.integers("dims")
    if datatype is None or datatype.size is None:
        return None
    return prod(dims) * datatype.size % 2**64 if dims else 0  # unsigned, as the server counts


def _request(view: ModelView, sample: Message, entries: dict[str, Message]) -> Iterator[Finding]:
    """What the server says to the sample as a request.

    Names that the model does not have are passed over: they are control inputs, or inputs that the backend adds.
    """
    inputs = {tensor.name: tensor for tensor in view.inputs if tensor.name}
    given = [name for name in inputs if name in entries]
    # As the server counts: a name that is declared twice is two inputs, and which names are missing does not matter.
    required = sum(not tensor.optional for tensor in view.inputs)
    if len(entries if view.completes else given) < required and not (view.completes and view.backend == "python"):
        missing = [tensor.name for tensor in view.inputs if not tensor.optional and tensor.name not in given]
        expected = (
            f"{required} inputs"
            if required == len(view.inputs)
            else f"number of inputs between {required} and {len(view.inputs)}"
        )
        words = (
            f"{_REQUEST}expected {expected} but got {len(given)} inputs for model '{view.configured_name}'. "
            f"Got input(s) {_names(sorted(given))}, but missing required input(s) "
            f"{_names(missing) if missing else ']'}. Please provide all required input(s)."
        )
        yield report(view, "E274", words, sample)
    for name in given:
        value = entries[name].message("value")
        if value is not None and -1 not in value.integers("dims"):
            yield from _tensor(view, inputs[name], value)


def _tensor(view: ModelView, tensor: TensorView, value: Message) -> Iterator[Finding]:
    given = BY_CONFIG.get(value.text("data_type"))
    wanted = BY_CONFIG.get(tensor.data_type)
    declared = not view.completes or tensor.data_type != "TYPE_INVALID"
    if declared and given is not wanted:
        wire, expected_wire = (each.wire if each is not None else "<invalid>" for each in (given, wanted))
        words = (
            f"{_REQUEST}inference input '{tensor.name}' data-type is '{wire}', "
            f"but model '{view.configured_name}' expects '{expected_wire}'"
        )
        yield report(view, "E274", words, value.one("data_type") or value)
    batching = view.max_batch_size > 0
    dims = value.integers("dims")
    # The server takes no batch dimension off a shape tensor, though it has put one on.
    compared = (1, *dims) if batching and tensor.node.flag("is_shape_tensor") else dims
    fits = len(compared) == len(tensor.dims) and all(b in (a, -1) for a, b in zip(compared, tensor.dims, strict=True))
    if tensor.dims and not fits:
        expected = shape((-1, *tensor.dims) if batching else tensor.dims)
        got = shape((1, *dims) if batching else dims)
        words = (
            f"{_REQUEST}unexpected shape for input '{tensor.name}' for model '{view.configured_name}'. "
            f"Expected {expected}, got {got}. {_NOTE if batching else ''}"
        )
        yield report(view, "E274", words, (value.get("dims") or [value])[0])
    elif given is not None and given.size is not None and given is wanted and prod(dims) < 0:
        size = prod(dims) * given.size
        words = (
            f"{_REQUEST}input byte size mismatch for input '{tensor.name}' for model '{view.configured_name}'. "
            f"Expected {size}, got {size % 2**64}"
        )
        yield report(view, "E274", words, value.get("dims")[0])


def _names(names: list[str]) -> str:
    return "[" + ",".join(f"'{name}'" for name in names) + "]"


def states(context: Context, view: ModelView) -> Iterator[Finding]:
    """The initial states of a sequence model."""
    sequence = view.document.message("sequence_batching")
    seen: set[str] = set()
    for state in sequence.messages("state") if sequence is not None else ():
        name, initial = state.text("input_name"), state.messages("initial_state")
        if len(initial) > 1:
            words = (
                f"initial_state field for state input '{name}' must contain exactly one or zero element. "
                f"Found '{len(initial)}' elements."
            )
            yield report(view, "E287", words, initial[1])
        elif initial:
            if name in seen:
                words = f"State input name '{name}' specified more than once."
                yield report(view, "E288", words, state.one("input_name") or state)
            seen.add(name)
            yield from _initial(context, view, state, initial[0])


def _initial(context: Context, view: ModelView, state: Message, initial: Message) -> Iterator[Finding]:
    name = state.text("input_name")
    if initial.text("data_type", "TYPE_INVALID") != state.text("data_type", "TYPE_INVALID"):
        words = f"The data type used for 'initial_state' field of state '{name}' does not match the state data type."
        yield report(view, "E280", words, initial.one("data_type") or initial)
    if not initial.text("name"):
        words = f"Field 'name' must be set when using initial_state for state input '{name}'."
        yield report(view, "E281", words, initial)
    dims, wanted = initial.integers("dims"), state.integers("dims")
    if len(dims) != len(wanted):
        words = (
            "Number of dimensions in 'initial_state' doesn't match the size of 'state' dimensions for state input "
            f"'{name}'. {len(dims)} != {len(wanted)}"
        )
        yield report(view, "E282", words, (initial.get("dims") or [initial])[0])
    for node, dim in zip(initial.get("dims"), wanted, strict=False):
        if node.value == -1:
            words = f"'initial_state' field for state input name '{name}' contains variable dimensions."
            yield report(view, "E283", words, node)
        elif dim not in (-1, node.value):
            words = (
                f"'initial_state' dim for input name '{name}' doesn't match 'state' dim description. "
                f"{node.value} != {dim}"
            )
            yield report(view, "E284", words, node)
    if not initial.has("zero_data") and not initial.has("data_file"):
        words = f"initial_state setting expects state'{name}' to have state_data set"
        yield report(view, "E285", words, initial, "write zero_data: true")
    elif initial.has("data_file"):
        yield from _state_file(context, view, initial)


def _state_file(context: Context, view: ModelView, initial: Message) -> Iterator[Finding]:
    filename, node = initial.text("data_file"), initial.one("data_file")
    path = f"{view.name}/initial_state/{filename}"
    entry = context.tree.entry(path)
    if entry is None:
        if not context.tree.leaves(path):
            words = f"failed to open text file for read <repo>/{path}: No such file or directory"
            yield report(view, "E286", words, node, f"the file lies in {view.name}/initial_state/")
        return
    size = _byte_size(initial)
    if entry.kind == "file" and size is not None and size > entry.size != UNKNOWN:
        words = (
            f"initial_state setting expects {size} bytes, but the data provided from {filename}only has "
            f"{entry.size} bytes."
        )
        yield report(view, "E286", words, node)
