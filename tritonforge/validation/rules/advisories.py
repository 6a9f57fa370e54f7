"""What the server takes and does not see: repositories that load, and then fail, or do less than they say. No I/O.

Source: the server's own rules leave these open (ensemble_utils.cc compares a tensor only with the first node that names
it; ensemble_scheduler.cc ReshapeTensorDims; model_config_utils.cc checks no duplicates). They are advice.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final

from tritonforge.model_files.signature import shapes_agree
from tritonforge.pbtxt import Message, Node
from tritonforge.triton import changes
from tritonforge.validation.findings import Finding
from tritonforge.validation.labels import compare_labels
from tritonforge.validation.rules.catalogue import Rule, advice
from tritonforge.validation.rules.context import Context, ModelView, TensorView
from tritonforge.validation.rules.ensemble.steps import Step, steps
from tritonforge.validation.rules.model.report import shape

__all__ = ["RULES", "check"]

_SCHEDULER: Final = "ensemble_scheduler/ensemble_scheduler.cc ReshapeTensorDims"
_CONSISTENCY: Final = "ensemble_scheduler/ensemble_utils.cc ValidateTensorConsistency"
_QUOTED: Final = "facts: accepted by the real server"

W301 = advice(
    "W301",
    "batches of more than one request fail: a model without batching stands in a batching ensemble",
    source=_SCHEDULER,
    why="The server strips a batch dimension of 1 on the way to a model with max_batch_size 0; batch 1 works, batch 2 "
    "fails when it comes.",
    bad="max_batch_size: 8 in the ensemble, max_batch_size: 0 and the same dims in a step's model",
    good="max_batch_size: 8 in the model, or dims that begin with -1 for the batch",
)
W302 = advice(
    "W302",
    "a fixed first dimension of a model without batching is the batch size",
    source=f"{_CONSISTENCY}: [-1]+dims agrees with any first dimension",
    why="Only batches of exactly this size work.",
    bad="max_batch_size: 4 dims: [4] in the ensemble, max_batch_size: 0 dims: [3, 4] in a step's model",
    good="dims: [-1, 4] in the model",
)
W303 = advice(
    "W303",
    "two uses of an ensemble tensor disagree, and the server compares each only with the first",
    source=f"{_CONSISTENCY}: one node a tensor, the first that names it",
    why="-1 agrees with everything, so two fixed sizes behind it are never held against each other.",
    bad="a tensor of dims [-1] that is read by models of dims [7] and [9]",
    good="the same dims in both",
)
W304 = advice(
    "W304",
    "an output of a step's model that nobody reads",
    source="ensemble_utils.cc ValidateTensorMapping: outputs may be left unmapped",
    why="The model works it out for every request, and it is dropped.",
    bad='output_map for "B" only, of a model with the outputs "B" and "D"',
    good="a model with the output that is used",
)
W305 = advice(
    "W305",
    "a preferred batch size that is never reached",
    source="sequence_batch_scheduler.cc OldestSequenceBatch, scheduler_utils.cc PriorityQueue",
    why="The batcher never holds so many requests at once, so it always waits for the whole delay.",
    bad="oldest { max_candidate_sequences: 4 preferred_batch_size: [8] }",
    good="oldest { max_candidate_sequences: 8 preferred_batch_size: [8] }",
)
W306 = advice(
    "W306",
    "the number of labels differs from the number of classes",
    source="label_provider.cc GetLabel: an index without a label has none",
    why="Classes beyond the labels are answered without a name, or names stand at the wrong index.",
    bad="dims: [1001] and 1000 lines",
    good="dims: [1001] and 1001 lines",
)
W307 = advice(
    "W307",
    "a name is declared twice",
    source=f"model_config_utils.cc ValidateModelIOConfig checks no duplicates ({_QUOTED})",
    why="Requests and steps name tensors; of two with one name only one is meant.",
    bad='input [{ name: "A" ... }, { name: "A" ... }]',
    good='input [{ name: "A" ... }, { name: "C" ... }]',
)
W308 = advice(
    "W308",
    "an optional input of the ensemble feeds an input that its model requires",
    source="ensemble_scheduler.cc: a step whose input never comes is not run",
    why="A request that leaves it out, as it may, fails.",
    bad='input [{ name: "J" optional: true }] mapped to a required input',
    good="optional: true in the model too",
)
W309 = advice(
    "W309",
    "dynamic batching of a model that does not batch",
    source="backend_model.cc: no batches are made with max_batch_size 0",
    why="With max_batch_size 0 (also when it is left out) or 1 nothing is batched.",
    bad="dynamic_batching {} without max_batch_size",
    good="max_batch_size: 8 dynamic_batching {}",
)
W310 = advice(
    "W310",
    "a number that is none of the enum's values",
    source="text_format.cc: proto3 enums are open",
    why="The parser takes any number; what the server does with it is nobody's promise.",
    bad="data_type: 99",
    good="data_type: TYPE_FP32",
)
W311 = advice(
    "W311",
    "gpus without a kind: a host without these GPUs refuses the model",
    source="model_config_utils.cc NormalizeInstanceGroup: KIND_AUTO becomes KIND_CPU and keeps gpus",
    why="On a host without one of these GPUs the group becomes KIND_CPU, which may not have gpus.",
    bad="instance_group [{ gpus: [0] }]",
    good="instance_group [{ kind: KIND_GPU gpus: [0] }]",
)
W312 = advice(
    "W312",
    "ragged batches of a model that does not batch",
    source="the ragged batching document: allow_ragged_batch concerns batches",
    why="Without batches there is nothing to be ragged.",
    bad="max_batch_size: 0 input [{ allow_ragged_batch: true }]",
    good="max_batch_size: 8 input [{ allow_ragged_batch: true }]",
)

#: Shapes of one tensor that are compared with each other; more than two are rare.
_COMPARED: Final = 50

RULES: Final[tuple[Rule, ...]] = (W301, W302, W303, W304, W305, W306, W307, W308, W309, W310, W311, W312)


def check(context: Context) -> Iterator[Finding]:
    """The findings of every model whose configuration the server takes."""
    for view in context.models.values():
        if view.parsed:
            yield from _model(context, view)
            if view.is_ensemble:
                yield from _ensemble(context, view)


def _model(context: Context, view: ModelView) -> Iterator[Finding]:
    path = view.config_path
    for kind, tensors in (("input", view.inputs), ("output", view.outputs)):
        seen: set[str] = set()
        for tensor in tensors:
            if tensor.name and tensor.name in seen:
                words = f"the model {view.name} declares the {kind} '{tensor.name}' twice"
                help_ = "rename one of them"
                if kind == "output" and context.has(changes.REQUESTED_ONCE):
                    help_ += "; a request that names both is refused"
                yield W307.finding(words, path=path, node=tensor.node.one("name"), help=help_)
            seen.add(tensor.name)
            yield from _numbers(view, tensor.node, ("data_type", "format"))
            if tensor.node.flag("allow_ragged_batch") and view.max_batch_size == 0 and not view.completes:
                words = f"the {kind} '{tensor.name}' allows ragged batches, but max_batch_size is 0"
                yield W312.finding(words, path=path, node=tensor.node.one("allow_ragged_batch"))
    yield from _labels(context, view)
    yield from _batching(view)
    for group in view.document.messages("instance_group"):
        if group.text("kind", "KIND_AUTO") == "KIND_AUTO" and group.get("gpus") and context.gpus is None:
            words = "this instance group has gpus and no kind: a host without these GPUs refuses the model"
            yield W311.finding(words, path=path, node=group.one("gpus"), help="write kind: KIND_GPU")


def _numbers(view: ModelView, message: Message, names: Sequence[str]) -> Iterator[Finding]:
    for name in names:
        node = message.one(name)
        if node is not None and isinstance(node.value, str) and node.value.lstrip("-").isdigit():
            words = f"{node.value} is none of the values of {name}"
            yield W310.finding(words, path=view.config_path, node=node)


def _labels(context: Context, view: ModelView) -> Iterator[Finding]:
    for output in view.outputs:
        filename = output.node.text("label_filename")
        entry = context.tree.entry(f"{view.name}/{filename}") if filename else None
        if entry is None or not entry.content:
            continue
        difference = compare_labels(output.name, output.dims or (), filename, entry.content)
        if difference is not None:
            yield W306.finding(difference[1], path=view.config_path, node=output.node.one("label_filename"))


def _batching(view: ModelView) -> Iterator[Finding]:
    path, document = view.config_path, view.document
    dynamic, sequence = document.message("dynamic_batching"), document.message("sequence_batching")
    sized = document.has("max_batch_size") or not view.completes
    if dynamic is not None and sized and 0 <= view.max_batch_size <= 1:
        words = f"dynamic_batching does nothing: max_batch_size is {view.max_batch_size}"
        yield W309.finding(words, path=path, node=dynamic, help="write max_batch_size: 8, say, or leave it out")
    policy = dynamic.message("default_queue_policy") if dynamic is not None else None
    queue = policy.integer("max_queue_size") if policy is not None else 0
    for node in dynamic.get("preferred_batch_size") if dynamic is not None and queue else ():
        if isinstance(node.value, int) and queue < node.value <= view.max_batch_size and dynamic is not None:
            words = f"a batch of {node.value} is reached only by requests of several: the queue holds {queue} requests"
            yield W305.finding(words, path=path, node=node, help=f"raise max_queue_size to {node.value}")
    oldest = sequence.message("oldest") if sequence is not None else None
    candidates = oldest.integer("max_candidate_sequences") if oldest is not None else 0
    for node in oldest.get("preferred_batch_size") if oldest is not None and candidates else ():
        if isinstance(node.value, int) and candidates < node.value <= view.max_batch_size:
            words = f"a batch of {node.value} is never reached: there are at most {candidates} candidate sequences"
            yield W305.finding(words, path=path, node=node, help=f"raise max_candidate_sequences to {node.value}")


@dataclass(frozen=True, slots=True)
class _Use:
    """One mention of an ensemble's tensor: by whom, with which dims and batching, and where."""

    model: ModelView
    tensor: TensorView
    dims: tuple[int, ...]
    node: Node

    @property
    def full(self) -> tuple[int, ...]:
        return (-1, *self.dims) if self.model.max_batch_size > 0 else self.dims


def _ensemble(context: Context, view: ModelView) -> Iterator[Finding]:
    found = [step for step in steps(view) if step.complete and step.model in context.models]
    uses: dict[str, list[_Use]] = {}
    for tensor in (*view.inputs, *view.outputs):
        dims = tensor.reshape if tensor.reshape is not None else tensor.dims
        uses.setdefault(tensor.name, []).append(_Use(view, tensor, dims, tensor.node.one("dims") or tensor.node))
    for step in found:
        model = context.models[step.model]
        if model.parsed and not (model.completes and not model.document.has("max_batch_size")):
            yield from _step(view, step, model, uses)
    for name, mentions in uses.items():
        yield from _mentions(view, name, mentions)


def _step(view: ModelView, step: Step, model: ModelView, uses: dict[str, list[_Use]]) -> Iterator[Finding]:
    own = {tensor.name: tensor for tensor in view.inputs}
    for tensor in model.inputs:
        mapped = step.inputs.get(tensor.name)
        if mapped is None:
            continue
        if tensor.dims:
            uses.setdefault(mapped.tensor, []).append(_Use(model, tensor, tensor.dims, mapped.node))
        if mapped.tensor in own and own[mapped.tensor].optional and not tensor.optional:
            words = (
                f"the ensemble's input '{mapped.tensor}' is optional, but the input '{tensor.name}' of {model.name}, "
                "which it feeds, is not"
            )
            yield W308.finding(words, path=view.config_path, node=mapped.node)
    for tensor in model.outputs:
        mapped = step.outputs.get(tensor.name)
        if mapped is not None and tensor.dims:
            uses.setdefault(mapped.tensor, []).append(_Use(model, tensor, tensor.dims, mapped.node))
        elif mapped is None and tensor.name:
            words = f"nobody reads the output '{tensor.name}' of {model.name}, which works it out for every request"
            yield W304.finding(words, path=view.config_path, node=step.node.one("output_map"))


def _mentions(view: ModelView, name: str, mentions: list[_Use]) -> Iterator[Finding]:
    """Hold all mentions of a tensor against each other, where the server holds each against the first."""
    path, first = view.config_path, mentions[0]
    distinct = list({(each.dims, each.model.max_batch_size > 0): each for each in reversed(mentions)}.values())
    for left, right in combinations(distinct[::-1][:_COMPARED], 2):
        same = shapes_agree(left.dims, right.dims) or shapes_agree(left.full, right.full)
        if not same and left is not first and right.tensor.data_type == left.tensor.data_type:
            words = (
                f"ensemble tensor {name} is {shape(left.full)} in model {left.model.name} and {shape(right.full)} in "
                f"model {right.model.name}: only one of them can be true"
            )
            yield W303.finding(words, path=path, node=right.node)
    if view.max_batch_size <= 0:
        return
    for use in mentions:
        if use.model is view or use.model.max_batch_size > 0 or not use.dims:
            continue
        batching = [each for each in mentions if each.model.max_batch_size > 0 and each.dims]
        if not any(shapes_agree(dims, use.dims) for each in batching for dims in (each.dims, each.full)):
            continue
        if not any(shapes_agree(each.full, use.dims) for each in batching):
            if view.max_batch_size > 1:
                words = (
                    f"batches of more than one request fail at {use.model.name}: its max_batch_size is 0 and ensemble "
                    f"tensor {name} is {shape(use.dims)} there, without a batch dimension"
                )
                help_ = f"give {use.model.name} a max_batch_size, or the dims {shape((-1, *use.dims))}"
                yield W301.finding(words, path=path, node=use.node, help=help_)
        elif use.dims[0] != -1 and not (use.dims[0] == 1 and view.max_batch_size == 1):
            words = (
                f"only batches of exactly {use.dims[0]} pass {use.model.name}: ensemble tensor {name} is "
                f"{shape(use.dims)} there"
            )
            yield W302.finding(words, path=path, node=use.node, help=f"write the dims {shape((-1, *use.dims[1:]))}")
