"""An ensemble and the tensors of its models: names, types, shapes, batch sizes, decoupled responses. No I/O.

Source: ensemble_scheduler/ensemble_utils.cc ValidateEnsembleConfig, ValidateTensorMapping, ValidateTensorConsistency.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from tritonforge.model_files.signature import shapes_agree
from tritonforge.pbtxt import Node
from tritonforge.validation.findings import Finding
from tritonforge.validation.rules.context import Context, ModelView, TensorView
from tritonforge.validation.rules.ensemble.steps import Step, report
from tritonforge.validation.rules.model.report import shape

__all__ = ["Flow", "check", "decoupled_flow"]


@dataclass(frozen=True, slots=True)
class _Kind:
    """What a model says of a tensor: whose it is, type, dims, and whether a batch dimension comes first.

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


def check(context: Context, view: ModelView, found: tuple[Step, ...]) -> Iterator[Finding]:
    """The findings of each step against its model, in the server's order."""
    tensors: dict[str, _Kind] = {}
    batching = view.max_batch_size > 0
    for tensor in (*view.inputs, *view.outputs):
        dims = tensor.reshape if tensor.reshape is not None else tensor.dims
        tensors.setdefault(tensor.name, _Kind(view.name, tensor.data_type, dims, batching))
    for step in found:
        model = context.models.get(step.model)
        if model is not None and model.parsed and model.has_config and step.complete:
            yield from _step(view, step, model, tensors)


def _step(view: ModelView, step: Step, model: ModelView, tensors: dict[str, _Kind]) -> Iterator[Finding]:
    if model.has_known_batch_size and 0 < model.max_batch_size < view.max_batch_size:
        words = (
            f"ensemble {view.name} allows maximum batch size {view.max_batch_size}, but it contains model {model.name} "
            f"which only allows maximum batch size to be {model.max_batch_size}"
        )
        help_ = f"write max_batch_size: {model.max_batch_size} here, or raise the model's"
        yield report(view, "E330", words, view.document.one("max_batch_size"), help_)
    prefix = f"in ensemble {view.name}, "
    declared = {tensor.name for tensor in model.inputs}
    for key, mapped in step.inputs.items():
        if key not in declared and not model.completes:
            words = (
                f"{prefix}ensemble tensor {mapped.tensor} is mapping to non-existing input {key} in model {model.name}"
            )
            yield report(view, "E331", words, _key(mapped.node), _choices("inputs", declared))
    for tensor in model.inputs:
        entry = step.inputs.get(tensor.name)
        if entry is not None:
            yield from _meet(view, entry.tensor, _kind(model, tensor), tensors, entry.node)
        elif not tensor.optional and tensor.name:
            words = f"{prefix}input {tensor.name} in model {model.name} is not mapped to any ensemble tensors"
            yield report(
                view, "E332", words, step.node.one("input_map"), f'add input_map {{ key: "{tensor.name}" ... }}'
            )
    for key, mapped in step.outputs.items():
        matching = [tensor for tensor in model.outputs if tensor.name == key]
        if not matching and not model.completes:
            words = (
                f"{prefix}ensemble tensor {mapped.tensor} is mapped from non-existing output {key} in model "
                f"{model.name}"
            )
            help_ = _choices("outputs", {tensor.name for tensor in model.outputs})
            yield report(view, "E334", words, _key(mapped.node), help_)
        for tensor in matching[:1]:
            yield from _meet(view, mapped.tensor, _kind(model, tensor), tensors, mapped.node)
        if len(matching) > 1:
            words = (
                f"{prefix}multiple outputs in model {model.name} are mapped to the same ensemble tensor {mapped.tensor}"
            )
            yield report(view, "E335", words, mapped.node)


def _kind(model: ModelView, tensor: TensorView) -> _Kind:
    return _Kind(
        model.name,
        "" if model.completes and tensor.data_type == "TYPE_INVALID" else tensor.data_type,
        None if model.completes and not tensor.dims else tensor.dims,
        model.max_batch_size > 0,
        model.has_known_batch_dimension,
    )


def _key(value: Node) -> Node:
    """The key of the map's entry that a value is in."""
    return (value.parent.one("key") if value.parent is not None else None) or value


def _choices(what: str, names: set[str]) -> str:
    listed = sorted(name for name in names if name)
    return f"its {what} are {', '.join(listed[:12])}" if listed else f"it has no {what}"


def _meet(view: ModelView, name: str, kind: _Kind, tensors: dict[str, _Kind], node: Node) -> Iterator[Finding]:
    """Hold a tensor against what was said of it first, and only against that, as the server does."""
    first = tensors.setdefault(name, kind)
    if first is kind:
        return
    prefix = f"in ensemble {view.name}, ensemble tensor {name}: inconsistent"
    if first.data_type and kind.data_type and first.data_type != kind.data_type:
        words = (
            f"{prefix} data type: {_type(first.data_type)} is inferred from model {first.owner} "
            f"while {_type(kind.data_type)} is inferred from model {kind.owner}"
        )
        yield report(view, "E336", words, node)
    elif not _may_agree(first, kind):
        words = (
            f"{prefix} shape: {shape(first.full)} is inferred from model {first.owner} "
            f"while {shape(kind.full)} is inferred from model {kind.owner}"
        )
        yield report(view, "E337", words, node)


def _may_agree(first: _Kind, second: _Kind) -> bool:
    """Whether the shapes agree, or may once the backends have completed the models."""
    if first.dims is None or second.dims is None:
        return True
    return shapes_agree(first.dims, second.dims) or any(
        shapes_agree(left, right) for left in first.possible_shapes for right in second.possible_shapes
    )


def _type(name: str) -> str:
    """A type as the server prints it; one that is only a number has no name there."""
    return "" if name.lstrip("-").isdigit() else name


@dataclass(slots=True)
class _Flowing:
    """A tensor on its way: whose node it is, what it needs, which decoupled model's responses it belongs to."""

    owner: str
    label: int | None = None
    before: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Flow:
    """Whether the ensemble becomes decoupled, and the model at which tensors of different origins meet ("" if none)."""

    decoupled: bool
    clash: str = ""
    step: Step | None = None


def decoupled_flow(view: ModelView, found: tuple[Step, ...], decoupled: Mapping[str, bool]) -> Flow:
    """Follow the responses of decoupled models through the steps."""
    tensors: dict[str, _Flowing] = {}
    for tensor in (*view.inputs, *view.outputs):
        tensors.setdefault(tensor.name, _Flowing(view.name))
    for step in found:
        for mapped in (*step.inputs.values(), *step.outputs.values()):
            tensors.setdefault(mapped.tensor, _Flowing(step.model))
    for tensor in view.inputs:
        tensors[tensor.name].label = 0
    labels = 0
    readers: dict[str, list[Step]] = {}
    for step in found:
        for name in {mapped.tensor for mapped in step.inputs.values()}:
            readers.setdefault(name, []).append(step)
    done: set[int] = set()
    pending = deque(tensor.name for tensor in view.inputs)
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
    ends = {tensors[output.name].label for output in view.outputs}
    if len(ends - {None}) > 1:
        return Flow(False, view.name)
    return Flow(labels > 0)
