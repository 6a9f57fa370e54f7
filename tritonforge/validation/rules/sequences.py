"""Sequences: control tensors, states and their initial values. No I/O.

Source: model_config_utils.cc GetBooleanSequenceControlProperties, GetTypedSequenceControlProperties;
sequence_batch_scheduler.cc ValidateInitialState, SetControlTensors.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tritonforge.pbtxt import Message, Node
from tritonforge.triton import changes
from tritonforge.triton.backends import BACKENDS
from tritonforge.validation.context import Context, ModelView
from tritonforge.validation.findings import Finding
from tritonforge.validation.registry import Stage, define_advice, define_error, register_check
from tritonforge.validation.rules.warmup import compute_byte_size
from tritonforge.validation.tree import UNKNOWN

_MODEL: Final = "model_config_utils.cc ValidateModelConfig"
_SEQUENCE: Final = "model_config_utils.cc GetBooleanSequenceControlProperties"
_STATE: Final = "sequence_batch_scheduler.cc ValidateInitialState"

# fmt: off
E222 = define_error("E222", "sequence batching control tensor must have a name for <m>",
    source=_SEQUENCE,
    why="The tensor is an input of the model.",
    bad="control_input [{ control [{ kind: CONTROL_SEQUENCE_START }] }]",
    good='control_input [{ name: "START" control [{ kind: CONTROL_SEQUENCE_START int32_false_true: [0, 1] }] }]')
E223 = define_error("E223", "sequence batching control tensor '<t>' is specified for multiple control kinds for <m>",
    source=_SEQUENCE,
    why="Each control_input is one tensor; several controls of one tensor go into one control_input.",
    bad='control_input [{ name: "S" }, { name: "S" }]', good='control_input [{ name: "S" }, { name: "E" }]')
E224 = define_error("E224", "sequence batching specifies multiple <kind> tensors for <m>",
    source=_SEQUENCE,
    why="A control has one tensor.",
    bad="control [{ kind: CONTROL_SEQUENCE_START ... }, { kind: CONTROL_SEQUENCE_START ... }]",
    good="control [{ kind: CONTROL_SEQUENCE_START ... }, { kind: CONTROL_SEQUENCE_END ... }]")
E225 = define_error("E225", "sequence batching must specify either 'int32_false_true', 'fp32_false_true' or "
                            "'bool_false_true' for <kind> for <m>",
    source=_SEQUENCE,
    why="The scheduler has to know what to write for no and for yes.",
    bad="control [{ kind: CONTROL_SEQUENCE_START }]",
    good="control [{ kind: CONTROL_SEQUENCE_START int32_false_true: [0, 1] }]")
E226 = define_error("E226", "sequence batching specifies more than one from 'int32_false_true', 'fp32_false_true' "
                            "and 'bool_false_true' for <kind> for <m>",
    source=_SEQUENCE,
    why="The pair also decides the tensor's type.",
    bad="int32_false_true: [0, 1] fp32_false_true: [0, 1]", good="fp32_false_true: [0, 1]")
E227 = define_error("E227", "sequence batching control '<pair>' must have exactly 2 entries for <kind> for <m>",
    source=_SEQUENCE,
    why="One value for no, one for yes.",
    bad="int32_false_true: [1]", good="int32_false_true: [0, 1]")
E228 = define_error("E228", "sequence batching must not specify either 'int32_false_true', 'fp32_false_true' or "
                            "'bool_false_true' for CONTROL_SEQUENCE_CORRID for <m>",
    source="model_config_utils.cc GetTypedSequenceControlProperties",
    why="The correlation ID is a value, not a flag.",
    bad="kind: CONTROL_SEQUENCE_CORRID int32_false_true: [0, 1]",
    good="kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_UINT64")
E229 = define_error("E229", "unexpected data type for control CONTROL_SEQUENCE_CORRID for <m>. Allowed data types "
                            "are TYPE_UINT64, TYPE_INT64, TYPE_UINT32, TYPE_INT32 and TYPE_STRING",
    source=_MODEL,
    why="Correlation IDs are integers or strings.",
    bad="kind: CONTROL_SEQUENCE_CORRID", good="kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_UINT64")
E230 = define_error("E230", "sequence batching preferred batch size must be positive for <m>",
    source=_MODEL,
    why="The same holds as for dynamic batching, at most max_batch_size included.",
    bad="max_batch_size: 4 sequence_batching { oldest { preferred_batch_size: [8] } }",
    good="max_batch_size: 4 sequence_batching { oldest { preferred_batch_size: [4] } }")
E231 = define_error("E231", "sequence batching minimum slot utilization must be in range (0.0, 1.0] for <m>",
    source=_MODEL,
    why="It is a share of the slots.",
    bad="sequence_batching { direct { minimum_slot_utilization: 50 } }",
    good="sequence_batching { direct { minimum_slot_utilization: 0.5 } }")
E280 = define_error("E280", "The data type used for 'initial_state' field of state '<s>' does not match the state "
                            "data type.",
    source=_STATE,
    why="The initial state is a value of the state.",
    bad="state [{ data_type: TYPE_FP32 initial_state [{ data_type: TYPE_INT32 }] }]",
    good="state [{ data_type: TYPE_FP32 initial_state [{ data_type: TYPE_FP32 }] }]")
E281 = define_error("E281", "Field 'name' must be set when using initial_state for state input '<s>'.",
    source=_STATE,
    why="Initial states are named.",
    bad="initial_state [{ zero_data: true }]", good='initial_state [{ name: "zero" zero_data: true }]')
E282 = define_error("E282", "Number of dimensions in 'initial_state' doesn't match the size of 'state' dimensions "
                            "for state input '<s>'. <a> != <b>",
    source=_STATE,
    why="The initial state has the state's shape.",
    bad="dims: [2] and initial_state [{ dims: [2, 1] }]", good="dims: [2] and initial_state [{ dims: [2] }]")
E283 = define_error("E283", "'initial_state' field for state input name '<s>' contains variable dimensions.",
    source=_STATE,
    why="A value has a size.",
    bad="initial_state [{ dims: [-1] }]", good="initial_state [{ dims: [2] }]")
E284 = define_error("E284", "'initial_state' dim for input name '<s>' doesn't match 'state' dim description. <a> != "
                            "<b>",
    source=_STATE,
    why="The initial state has the state's shape.",
    bad="dims: [2] and initial_state [{ dims: [3] }]", good="dims: [2] and initial_state [{ dims: [2] }]")
E285 = define_error("E285", "initial_state setting expects state'<s>' to have state_data set",
    source=_STATE,
    why="Where the value comes from: zero_data or data_file.",
    bad='initial_state [{ name: "i" }]', good='initial_state [{ name: "i" zero_data: true }]')
E286 = define_error("E286", "failed to open text file for read <model>/initial_state/<f>: No such file or directory",
    source=f"{_STATE}, ReadTextFile",
    why="Files of initial states lie in the directory initial_state of the model and hold the whole value.",
    bad='data_file: "zeros" without m/initial_state/zeros', good='data_file: "zeros" and m/initial_state/zeros')
E287 = define_error("E287", "initial_state field for state input '<s>' must contain exactly one or zero element. "
                            "Found '<n>' elements.",
    source=_STATE,
    why="A state starts with one value.",
    bad="initial_state [{...}, {...}]", good="initial_state [{...}]")
E288 = define_error("E288", "State input name '<s>' specified more than once.",
    source=_STATE,
    why="A state has one initial value.",
    bad='state [{ input_name: "s" ... }, { input_name: "s" ... }]',
    good='state [{ input_name: "s" ... }, { input_name: "t" ... }]')
W137 = define_advice("W137", "requests with a correlation ID are refused: its control input is a text",
    source=changes.CORRELATION_TEXTS.source,
    why="Up to 24.12 the control tensor is padded to 132 bytes, which the Python, ONNX Runtime and TensorFlow "
        "backends read as a second element: 'unexpected number of string elements 2 for inference input, expecting "
        "1'.",
    bad="control { kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_STRING }   --image 24.12",
    good="control { kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_STRING }   --image 25.01")
# fmt: on

#: The rules of `check_sequences`.
SEQUENCE_RULES: Final = (E222, E223, E224, E225, E226, E227, E228, E229, E230, E231)

_FLAGS: Final = ("CONTROL_SEQUENCE_START", "CONTROL_SEQUENCE_END", "CONTROL_SEQUENCE_READY")
_CORRID: Final = "CONTROL_SEQUENCE_CORRID"
_PAIRS: Final = ("int32_false_true", "fp32_false_true", "bool_false_true")
_EITHER: Final = "'int32_false_true', 'fp32_false_true'"
_CORRID_TYPES: Final = ("TYPE_UINT64", "TYPE_INT64", "TYPE_UINT32", "TYPE_INT32", "TYPE_STRING")


def check_sequences(model: ModelView, sequence: Message) -> Iterator[Finding]:
    """Check the controls and the strategy of a sequence batcher; scheduling calls it in the server's order."""
    name = model.configured_name
    names: set[str] = set()
    for control_input in sequence.messages("control_input"):
        tensor = control_input.text("name")
        if not tensor:
            message = f"sequence batching control tensor must have a name for {name}"
            yield E222.report_in(model, message, control_input)
        elif tensor in names:
            message = f"sequence batching control tensor '{tensor}' is specified for multiple control kinds for {name}"
            yield E223.report_in(
                model, message, control_input.one("name"), "put all its controls into one control_input"
            )
        names.add(tensor)
    seen: set[str] = set()
    for control_input in sequence.messages("control_input"):
        for control in control_input.messages("control"):
            kind = control.text("kind", _FLAGS[0])
            if kind in seen:
                message = f"sequence batching specifies multiple {kind} tensors for {name}"
                yield E224.report_in(model, message, control.one("kind") or control)
                continue
            if kind in _FLAGS or kind == _CORRID:
                seen.add(kind)
                yield from (
                    _check_flag(model, control, kind) if kind in _FLAGS else _check_correlation_id(model, control)
                )
    oldest, direct = sequence.message("oldest"), sequence.message("direct")
    if oldest is not None:
        for node in oldest.get("preferred_batch_size"):
            assert isinstance(node.value, int)
            if node.value <= 0 or node.value > model.max_batch_size:
                must = "positive" if node.value <= 0 else "<= max batch size"
                message = f"sequence batching preferred batch size must be {must} for {name}"
                yield E230.report_in(model, message, node, f"max_batch_size is {model.max_batch_size}")
    utilization = direct.number("minimum_slot_utilization") if direct is not None else 0.0
    if direct is not None and (utilization < 0.0 or utilization > 1.0):  # nan passes, as on the server
        message = f"sequence batching minimum slot utilization must be in range (0.0, 1.0] for {name}"
        yield E231.report_in(model, message, direct.one("minimum_slot_utilization"))


def _check_flag(model: ModelView, control: Message, kind: str) -> Iterator[Finding]:
    given = [pair for pair in _PAIRS if control.get(pair)]
    if not given:
        message = (
            f"sequence batching must specify either {_EITHER} or 'bool_false_true' for {kind} for "
            f"{model.configured_name}"
        )
        yield E225.report_in(
            model, message, control, "write int32_false_true: [0, 1] (or the type that the model takes)"
        )
    elif len(given) > 1:
        message = (
            f"sequence batching specifies more than one from {_EITHER} and 'bool_false_true' for {kind} for "
            f"{model.configured_name}"
        )
        yield E226.report_in(model, message, control.one(given[1]))
    elif len(control.get(given[0])) != 2:
        message = (
            f"sequence batching control '{given[0]}' must have exactly 2 entries for {kind} for {model.configured_name}"
        )
        yield E227.report_in(model, message, control.get(given[0])[0], "the value for no, then the value for yes")


def _check_correlation_id(model: ModelView, control: Message) -> Iterator[Finding]:
    given: list[Node] = [node for pair in _PAIRS for node in control.get(pair)]
    if given:
        message = (
            f"sequence batching must not specify either {_EITHER} or 'bool_false_true' for {_CORRID} for "
            f"{model.configured_name}"
        )
        yield E228.report_in(model, message, given[0])
    elif control.text("data_type") not in _CORRID_TYPES:
        message = (
            f"unexpected data type for control {_CORRID} for {model.configured_name}. Allowed data types are "
            "TYPE_UINT64, TYPE_INT64, TYPE_UINT32, TYPE_INT32 and TYPE_STRING"
        )
        yield E229.report_in(model, message, control.one("data_type") or control, "write data_type: TYPE_UINT64")


@register_check(Stage.WARMUP, E280, E281, E282, E283, E284, E285, E286, E287, E288)
def check_states(context: Context, model: ModelView) -> Iterator[Finding]:
    """Check the initial states of a sequence model."""
    if model.is_ensemble:
        return
    sequence = model.document.message("sequence_batching")
    seen: set[str] = set()
    for state in sequence.messages("state") if sequence is not None else ():
        name, initial = state.text("input_name"), state.messages("initial_state")
        if len(initial) > 1:
            message = (
                f"initial_state field for state input '{name}' must contain exactly one or zero element. "
                f"Found '{len(initial)}' elements."
            )
            yield E287.report_in(model, message, initial[1])
        elif initial:
            if name in seen:
                message = f"State input name '{name}' specified more than once."
                yield E288.report_in(model, message, state.one("input_name") or state)
            seen.add(name)
            yield from _check_initial_state(context, model, state, initial[0])


def _check_initial_state(context: Context, model: ModelView, state: Message, initial: Message) -> Iterator[Finding]:
    name = state.text("input_name")
    if initial.text("data_type", "TYPE_INVALID") != state.text("data_type", "TYPE_INVALID"):
        message = f"The data type used for 'initial_state' field of state '{name}' does not match the state data type."
        yield E280.report_in(model, message, initial.one("data_type") or initial)
    if not initial.text("name"):
        message = f"Field 'name' must be set when using initial_state for state input '{name}'."
        yield E281.report_in(model, message, initial)
    dims, wanted = initial.integers("dims"), state.integers("dims")
    if len(dims) != len(wanted):
        message = (
            "Number of dimensions in 'initial_state' doesn't match the size of 'state' dimensions for state input "
            f"'{name}'. {len(dims)} != {len(wanted)}"
        )
        yield E282.report_in(model, message, (initial.get("dims") or [initial])[0])
    for node, dim in zip(initial.get("dims"), wanted, strict=False):
        if node.value == -1:
            message = f"'initial_state' field for state input name '{name}' contains variable dimensions."
            yield E283.report_in(model, message, node)
        elif dim not in (-1, node.value):
            message = (
                f"'initial_state' dim for input name '{name}' doesn't match 'state' dim description. "
                f"{node.value} != {dim}"
            )
            yield E284.report_in(model, message, node)
    if not initial.has("zero_data") and not initial.has("data_file"):
        message = f"initial_state setting expects state'{name}' to have state_data set"
        yield E285.report_in(model, message, initial, "write zero_data: true")
    elif initial.has("data_file"):
        yield from _check_state_file(context, model, initial)


def _check_state_file(context: Context, model: ModelView, initial: Message) -> Iterator[Finding]:
    filename, node = initial.text("data_file"), initial.one("data_file")
    path = f"{model.name}/initial_state/{filename}"
    entry = context.tree.entry(path)
    if entry is None:
        if not context.tree.leaves(path):
            message = f"failed to open text file for read <repo>/{path}: No such file or directory"
            yield E286.report_in(model, message, node, f"the file lies in {model.name}/initial_state/")
        return
    size = compute_byte_size(initial)
    if entry.kind == "file" and size is not None and size > entry.size != UNKNOWN:
        message = (
            f"initial_state setting expects {size} bytes, but the data provided from {filename}only has "
            f"{entry.size} bytes."
        )
        yield E286.report_in(model, message, node)


@register_check(Stage.LOADED, W137)
def check_correlation_texts(context: Context) -> Iterator[Finding]:
    """Find correlation IDs that are texts, where the release pads them."""
    for model in context.models.values() if context.has(changes.CORRELATION_TEXTS) else ():
        backend = BACKENDS.get(model.backend)
        if not model.parsed or backend is None or not backend.checks_texts:
            continue
        sequence = model.document.message("sequence_batching")
        for tensor in sequence.messages("control_input") if sequence is not None else ():
            for control in tensor.messages("control"):
                if control.text("kind") == _CORRID and control.text("data_type") == "TYPE_STRING":
                    yield W137.report(
                        f"requests to {model.name} are refused unless their correlation ID is 128 bytes long: Triton "
                        f"{context.release} pads the control input '{tensor.text('name')}'",
                        path=model.config_path,
                        node=control.one("data_type"),
                        help="use TYPE_UINT64 and numbers for IDs, or an image from 25.01 on",
                    )
