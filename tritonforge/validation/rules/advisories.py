"""What an ensemble and its models state that Triton does not compare. No I/O.

Triton loads these repositories: what follows was seen on the real server or read in its source.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Final

from tritonforge.model_files.signature import shapes_agree
from tritonforge.pbtxt import Node
from tritonforge.validation.context import Context, ModelView, StepView, TensorView
from tritonforge.validation.findings import Finding
from tritonforge.validation.registry import Stage, define_advice, register_check
from tritonforge.validation.rules.tensors import format_shape

_CONSISTENCY: Final = "ensemble_scheduler/ensemble_utils.cc ValidateTensorConsistency"
_SCHEDULER: Final = "ensemble_scheduler/ensemble_scheduler.cc ReshapeTensorDims"

# fmt: off
W301 = define_advice("W301", "batches of more than one request fail: a model without batching is in a batching "
                             "ensemble",
    source=_SCHEDULER,
    why="The server strips a batch dimension of 1 on the way to a model with max_batch_size 0; batch 1 works, batch "
        "2 fails when it comes.",
    bad="max_batch_size: 8 in the ensemble, max_batch_size: 0 and the same dims in a step's model",
    good="max_batch_size: 8 in the model, or dims that begin with -1 for the batch")
W302 = define_advice("W302", "a fixed first dimension of a model without batching is the batch size",
    source=f"{_CONSISTENCY}: [-1]+dims agrees with any first dimension",
    why="Only batches of exactly this size work.",
    bad="max_batch_size: 4 dims: [4] in the ensemble, max_batch_size: 0 dims: [3, 4] in a step's model",
    good="dims: [-1, 4] in the model")
W303 = define_advice("W303", "two uses of an ensemble tensor disagree, and the server compares each only with the "
                             "first",
    source=f"{_CONSISTENCY}: one node a tensor, the first that names it",
    why="-1 agrees with everything, so two fixed sizes behind it are never held against each other.",
    bad="a tensor of dims [-1] that is read by models of dims [7] and [9]", good="the same dims in both")
W304 = define_advice("W304", "an output of a step's model that no step reads",
    source="ensemble_utils.cc ValidateTensorMapping: outputs may be left unmapped",
    why="The model works it out for every request, and it is dropped.",
    bad='output_map for "B" only, of a model with the outputs "B" and "D"', good="a model with the output that is used")
W308 = define_advice("W308", "an optional input of the ensemble feeds an input that its model requires",
    source="ensemble_scheduler.cc: a step whose input never comes is not run",
    why="A request that leaves it out, as it may, fails.",
    bad='input [{ name: "J" optional: true }] mapped to a required input', good="optional: true in the model too")
# fmt: on

#: Shapes of one tensor that are compared with each other; more than two are rare.
_COMPARED: Final = 50


@dataclass(frozen=True, slots=True)
class _Use:
    """One use of an ensemble's tensor: its model, dims and place."""

    model: ModelView
    tensor: TensorView
    dims: tuple[int, ...]
    node: Node

    @property
    def full(self) -> tuple[int, ...]:
        """The shape with the batch dimension."""
        return (-1, *self.dims) if self.model.max_batch_size > 0 else self.dims


@register_check(Stage.LOADED, W301, W302, W303, W304, W308)
def check_uses(context: Context) -> Iterator[Finding]:
    """Compare every use of an ensemble's tensor with every other."""
    for ensemble in context.models.values():
        if not ensemble.parsed or not ensemble.is_ensemble:
            continue
        uses: dict[str, list[_Use]] = {}
        for tensor in (*ensemble.inputs, *ensemble.outputs):
            dims = tensor.reshape if tensor.reshape is not None else tensor.dims
            use = _Use(ensemble, tensor, dims, tensor.node.one("dims") or tensor.node)
            uses.setdefault(tensor.name, []).append(use)
        for step in ensemble.steps:
            model = context.models.get(step.model) if step.is_complete else None
            if model is not None and model.parsed and (not model.completes or model.document.has("max_batch_size")):
                yield from _check_step(ensemble, step, model, uses)
        for name, tensor_uses in uses.items():
            yield from _compare_uses(ensemble, name, tensor_uses)


def _check_step(
    ensemble: ModelView, step: StepView, model: ModelView, uses: dict[str, list[_Use]]
) -> Iterator[Finding]:
    own = {tensor.name: tensor for tensor in ensemble.inputs}
    for tensor in model.inputs:
        mapped = step.inputs.get(tensor.name)
        if mapped is None:
            continue
        if tensor.dims:
            uses.setdefault(mapped.tensor, []).append(_Use(model, tensor, tensor.dims, mapped.node))
        if mapped.tensor in own and own[mapped.tensor].optional and not tensor.optional:
            message = (
                f"the ensemble's input '{mapped.tensor}' is optional, but the input '{tensor.name}' of {model.name}, "
                "which it feeds, is not"
            )
            yield W308.report(message, path=ensemble.config_path, node=mapped.node)
    for tensor in model.outputs:
        mapped = step.outputs.get(tensor.name)
        if mapped is not None and tensor.dims:
            uses.setdefault(mapped.tensor, []).append(_Use(model, tensor, tensor.dims, mapped.node))
        elif mapped is None and tensor.name:
            message = f"no step reads the output '{tensor.name}' of {model.name}, which computes it for every request"
            yield W304.report(message, path=ensemble.config_path, node=step.node.one("output_map"))


def _compare_uses(ensemble: ModelView, name: str, uses: list[_Use]) -> Iterator[Finding]:
    """Compare all uses of a tensor with each other, where the server compares each with the first."""
    path, first = ensemble.config_path, uses[0]
    distinct = list({(use.dims, use.model.max_batch_size > 0): use for use in reversed(uses)}.values())
    for left, right in combinations(distinct[::-1][:_COMPARED], 2):
        same = shapes_agree(left.dims, right.dims) or shapes_agree(left.full, right.full)
        if not same and left is not first and right.tensor.data_type == left.tensor.data_type:
            message = (
                f"ensemble tensor {name} is {format_shape(left.full)} in model {left.model.name} and "
                f"{format_shape(right.full)} in model {right.model.name}: only one of them can be true"
            )
            yield W303.report(message, path=path, node=right.node)
    if ensemble.max_batch_size <= 0:
        return
    for use in uses:
        if use.model is ensemble or use.model.max_batch_size > 0 or not use.dims:
            continue
        batching = [other for other in uses if other.model.max_batch_size > 0 and other.dims]
        if not any(shapes_agree(other.dims, use.dims) or shapes_agree(other.full, use.dims) for other in batching):
            continue
        if not any(shapes_agree(other.full, use.dims) for other in batching):
            if ensemble.max_batch_size > 1:
                message = (
                    f"batches of more than one request fail at {use.model.name}: its max_batch_size is 0 and ensemble "
                    f"tensor {name} is {format_shape(use.dims)} there, without a batch dimension"
                )
                advice = f"give {use.model.name} a max_batch_size, or the dims {format_shape((-1, *use.dims))}"
                yield W301.report(message, path=path, node=use.node, help=advice)
        elif use.dims[0] != -1 and not (use.dims[0] == 1 and ensemble.max_batch_size == 1):
            message = (
                f"only batches of exactly {use.dims[0]} pass {use.model.name}: ensemble tensor {name} is "
                f"{format_shape(use.dims)} there"
            )
            yield W302.report(
                message, path=path, node=use.node, help=f"write the dims {format_shape((-1, *use.dims[1:]))}"
            )
