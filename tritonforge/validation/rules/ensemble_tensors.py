"""An ensemble and the tensors of its models: names, types, shapes, batch sizes, decoupled responses. No I/O.

Source: ensemble_scheduler/ensemble_utils.cc ValidateEnsembleConfig, ValidateTensorMapping, ValidateTensorConsistency.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from tritonforge.model_files.signature import shapes_agree
from tritonforge.pbtxt import Node
from tritonforge.validation.context import Context, ModelView, StepView, TensorView
from tritonforge.validation.findings import Finding
from tritonforge.validation.registry import define_error
from tritonforge.validation.rules.tensors import format_shape

_CONSISTENCY: Final = "ensemble_scheduler/ensemble_utils.cc ValidateTensorConsistency"
_MAPPING: Final = "ensemble_scheduler/ensemble_utils.cc ValidateTensorMapping"

# fmt: off
E330 = define_error("E330", "ensemble <e> allows maximum batch size <a>, but it contains model <m> which only "
                            "allows maximum batch size to be <b>",
    source="ensemble_scheduler/ensemble_utils.cc ValidateEnsembleConfig",
    why="A batch that the ensemble takes has to fit into each of its models.",
    bad="max_batch_size: 64 in the ensemble, 32 in a model", good="max_batch_size: 32 in both")
E331 = define_error("E331", "in ensemble <e>, ensemble tensor <t> is mapping to non-existing input <i> in model <m>",
    source=_MAPPING,
    why="The key of input_map is an input of the step's model, the value a tensor of the ensemble.",
    bad='input_map { key: "INPUT" value: "x" } for a model with the input "A"',
    good='input_map { key: "A" value: "x" }')
E332 = define_error("E332", "in ensemble <e>, input <i> in model <m> is not mapped to any ensemble tensors",
    source=_MAPPING,
    why="Each input that is not optional is fed.",
    bad='input_map for "A" only, of a model with the inputs "A" and "C"', good='input_map for "A" and for "C"')
E334 = define_error("E334", "in ensemble <e>, ensemble tensor <t> is mapped from non-existing output <o> in model <m>",
    source=_MAPPING,
    why="The key of output_map is an output of the step's model, the value a tensor of the ensemble.",
    bad='output_map { key: "OUTPUT" value: "y" } for a model with the output "B"',
    good='output_map { key: "B" value: "y" }')
E335 = define_error("E335", "in ensemble <e>, multiple outputs in model <m> are mapped to the same ensemble tensor <t>",
    source=_MAPPING,
    why="The model has two outputs of one name.",
    bad='output [{ name: "B" }, { name: "B" }] in the model', good='output [{ name: "B" }, { name: "C" }]')
E336 = define_error("E336", "in ensemble <e>, ensemble tensor <t>: inconsistent data type: <a> is inferred from "
                            "model <x> while <b> is inferred from model <y>",
    source=_CONSISTENCY,
    why="Triton converts nothing between steps.",
    bad="TYPE_FP16 written by one model, TYPE_FP32 read by the next", good="TYPE_FP32 in both")
E337 = define_error("E337", "in ensemble <e>, ensemble tensor <t>: inconsistent shape: <a> is inferred from model "
                            "<x> while <b> is inferred from model <y>",
    source=_CONSISTENCY,
    why="The dims of both sides agree, with or without the batch dimension; -1 agrees with any size, not with "
        "another rank.",
    bad="dims: [299, 299, 3] written by one model, dims: [224, 224, 3] read by the next",
    good="dims: [299, 299, 3] in both")
# fmt: on

#: The rules of `check_step_tensors`, which `EnsembleChecker` calls.
TENSOR_RULES: Final = (E330, E331, E332, E334, E335, E336, E337)


@dataclass(frozen=True, slots=True)
class _TensorUse:
    """What a model declares of a tensor: the model, type, dims, and whether a batch dimension comes first.

    ``data_type`` is "" and ``dims`` is None where the file leaves them to the backend; what the file declares no
    backend changes. ``has_known_batch_dimension`` is False where the backend may still make the model batch.
    """

    owner: str
    data_type: str
    dims: tuple[int, ...] | None
    batching: bool
    has_known_batch_dimension: bool = True

    @property
    def full(self) -> tuple[int, ...]:
        """The shape with the batch dimension, as the file has it."""
        dims = self.dims or ()
        return (-1, *dims) if self.batching else dims

    @property
    def possible_shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shapes with the batch dimension that a completion may lead to."""
        return (self.full,) if self.has_known_batch_dimension else (self.full, (-1, *(self.dims or ())))


def check_step_tensors(context: Context, ensemble: ModelView, steps: tuple[StepView, ...]) -> Iterator[Finding]:
    """Check each step against its model, in the server's order."""
    tensors: dict[str, _TensorUse] = {}
    batching = ensemble.max_batch_size > 0
    for tensor in (*ensemble.inputs, *ensemble.outputs):
        dims = tensor.reshape if tensor.reshape is not None else tensor.dims
        tensors.setdefault(tensor.name, _TensorUse(ensemble.name, tensor.data_type, dims, batching))
    for step in steps:
        model = context.models.get(step.model)
        if model is not None and model.parsed and model.has_config and step.is_complete:
            yield from _check_step(ensemble, step, model, tensors)


def _check_step(
    ensemble: ModelView, step: StepView, model: ModelView, tensors: dict[str, _TensorUse]
) -> Iterator[Finding]:
    if model.has_known_batch_size and 0 < model.max_batch_size < ensemble.max_batch_size:
        message = (
            f"ensemble {ensemble.name} allows maximum batch size {ensemble.max_batch_size}, but it contains model "
            f"{model.name} which only allows maximum batch size to be {model.max_batch_size}"
        )
        advice = f"write max_batch_size: {model.max_batch_size} here, or raise the model's"
        yield E330.report_in(ensemble, message, ensemble.document.one("max_batch_size"), advice)
    prefix = f"in ensemble {ensemble.name}, "
    declared = {tensor.name for tensor in model.inputs}
    for key, mapped in step.inputs.items():
        if key not in declared and not model.completes:
            message = (
                f"{prefix}ensemble tensor {mapped.tensor} is mapping to non-existing input {key} in model {model.name}"
            )
            yield E331.report_in(ensemble, message, _find_key(mapped.node), _list_choices("inputs", declared))
    for tensor in model.inputs:
        entry = step.inputs.get(tensor.name)
        if entry is not None:
            yield from _compare(ensemble, entry.tensor, _describe_tensor(model, tensor), tensors, entry.node)
        elif not tensor.optional and tensor.name:
            message = f"{prefix}input {tensor.name} in model {model.name} is not mapped to any ensemble tensors"
            yield E332.report_in(
                ensemble, message, step.node.one("input_map"), f'add input_map {{ key: "{tensor.name}" ... }}'
            )
    for key, mapped in step.outputs.items():
        matching = [tensor for tensor in model.outputs if tensor.name == key]
        if not matching and not model.completes:
            message = (
                f"{prefix}ensemble tensor {mapped.tensor} is mapped from non-existing output {key} in model "
                f"{model.name}"
            )
            advice = _list_choices("outputs", {tensor.name for tensor in model.outputs})
            yield E334.report_in(ensemble, message, _find_key(mapped.node), advice)
        for tensor in matching[:1]:
            yield from _compare(ensemble, mapped.tensor, _describe_tensor(model, tensor), tensors, mapped.node)
        if len(matching) > 1:
            message = (
                f"{prefix}multiple outputs in model {model.name} are mapped to the same ensemble tensor {mapped.tensor}"
            )
            yield E335.report_in(ensemble, message, mapped.node)


def _describe_tensor(model: ModelView, tensor: TensorView) -> _TensorUse:
    return _TensorUse(
        model.name,
        "" if model.completes and tensor.data_type == "TYPE_INVALID" else tensor.data_type,
        None if model.completes and not tensor.dims else tensor.dims,
        model.max_batch_size > 0,
        model.has_known_batch_dimension,
    )


def _find_key(value: Node) -> Node:
    """Return the key beside the value of a map's entry, which is where its findings point; else the value."""
    return (value.parent.one("key") if value.parent is not None else None) or value


def _list_choices(what: str, names: set[str]) -> str:
    listed = sorted(name for name in names if name)
    return f"its {what} are {', '.join(listed[:12])}" if listed else f"it has no {what}"


def _compare(
    ensemble: ModelView, name: str, use: _TensorUse, tensors: dict[str, _TensorUse], node: Node
) -> Iterator[Finding]:
    """Compare a tensor with its first use, and only with that, as the server does."""
    first = tensors.setdefault(name, use)
    if first is use:
        return
    prefix = f"in ensemble {ensemble.name}, ensemble tensor {name}: inconsistent"
    if first.data_type and use.data_type and first.data_type != use.data_type:
        message = (
            f"{prefix} data type: {_format_type(first.data_type)} is inferred from model {first.owner} "
            f"while {_format_type(use.data_type)} is inferred from model {use.owner}"
        )
        yield E336.report_in(ensemble, message, node)
    elif not _may_agree(first, use):
        message = (
            f"{prefix} shape: {format_shape(first.full)} is inferred from model {first.owner} "
            f"while {format_shape(use.full)} is inferred from model {use.owner}"
        )
        yield E337.report_in(ensemble, message, node)


def _may_agree(first: _TensorUse, second: _TensorUse) -> bool:
    """Return True if the shapes agree, or may once the backends have completed the models."""
    if first.dims is None or second.dims is None:
        return True
    return shapes_agree(first.dims, second.dims) or any(
        shapes_agree(left, right) for left in first.possible_shapes for right in second.possible_shapes
    )


def _format_type(name: str) -> str:
    """Return a type as the server prints it; one that is only a number has no name there."""
    return "" if name.lstrip("-").isdigit() else name


@dataclass(slots=True)
class _Flowing:
    """A tensor on its way: its owner, and the decoupled model whose responses it belongs to."""

    owner: str
    label: int | None = None


@dataclass(frozen=True, slots=True)
class Flow:
    """Whether the ensemble becomes decoupled, and the model at which tensors of different origins meet, "" if none."""

    decoupled: bool
    clash: str = ""
    step: StepView | None = None


def trace_decoupled_flow(ensemble: ModelView, steps: tuple[StepView, ...], decoupled: Mapping[str, bool]) -> Flow:
    """Follow the responses of decoupled models through the steps."""
    tensors: dict[str, _Flowing] = {}
    for tensor in (*ensemble.inputs, *ensemble.outputs):
        tensors.setdefault(tensor.name, _Flowing(ensemble.name))
    for step in steps:
        for mapped in (*step.inputs.values(), *step.outputs.values()):
            tensors.setdefault(mapped.tensor, _Flowing(step.model))
    for tensor in ensemble.inputs:
        tensors[tensor.name].label = 0
    labels = 0
    readers: dict[str, list[StepView]] = {}
    for step in steps:
        for name in {mapped.tensor for mapped in step.inputs.values()}:
            readers.setdefault(name, []).append(step)
    done: set[int] = set()
    pending = deque(tensor.name for tensor in ensemble.inputs)
    while pending:
        for step in readers.get(pending.popleft(), ()):
            before = [tensors[mapped.tensor].label for mapped in step.inputs.values()]
            if step.index in done or None in before:
                continue
            done.add(step.index)
            written = [mapped.tensor for mapped in step.outputs.values()]
            if len(set(before)) > 1:
                return Flow(False, tensors[written[0]].owner if written else step.model, step)
            label = before[0]
            if decoupled.get(step.model):
                labels += 1
                label = labels
            for name in written:
                if tensors[name].label is None:
                    tensors[name].label = label
                    pending.append(name)
    ends = {tensors[output.name].label for output in ensemble.outputs}
    if len(ends - {None}) > 1:
        return Flow(False, ensemble.name)
    return Flow(labels > 0)
