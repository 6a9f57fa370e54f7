"""An ensemble on its own: its steps, and the flow of tensors through them. No I/O.

Source: model_config_utils.cc ValidateEnsembleSchedulingConfig and BuildEnsembleGraph.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from tritonforge.pbtxt import Node
from tritonforge.validation.context import Context, ModelView, StepView
from tritonforge.validation.findings import Finding
from tritonforge.validation.registry import Stage, define_error, register_check

_CONFIG: Final = "model_config_utils.cc ValidateEnsembleSchedulingConfig"
_GRAPH: Final = "model_config_utils.cc BuildEnsembleGraph"

# fmt: off
E301 = define_error("E301", "ensemble scheduling cannot be set for model '<e>' whose platform is not ensemble",
    source=_CONFIG,
    why="Steps belong to an ensemble, which has no other backend.",
    bad='platform: "onnxruntime_onnx" ensemble_scheduling { step [...] }',
    good='platform: "ensemble" ensemble_scheduling { step [...] }')
E302 = define_error("E302", "instance group should not be specified for ensemble '<e>'",
    source=_CONFIG,
    why="An ensemble only passes tensors on: it has no instances, nothing to optimise, and nothing to warm up.",
    bad='platform: "ensemble" instance_group [{ count: 2 }]', good="instance_group in the models of the steps")
E303 = define_error("E303", "must specify 'step' for ensemble '<e>'",
    source=_CONFIG,
    why="An ensemble is its steps.",
    bad="ensemble_scheduling {}", good='ensemble_scheduling { step [{ model_name: "x" ... }] }')
E304 = define_error("E304", "must specify 'model_name' in step <i> of ensemble '<e>'",
    source=_GRAPH,
    why="A step is a model, what it reads and what it writes.",
    bad='step [{ model_name: "x" model_version: -1 }]',
    good='step [{ model_name: "x" model_version: -1 input_map { key: "A" value: "I" } output_map { key: "B" value: '
         '"O" } }]')
E305 = define_error("E305", "ensemble tensor '<t>' can appear in an output map only once for ensemble '<e>' step <i>",
    source=_GRAPH,
    why="A tensor has one writer.",
    bad='output_map { key: "B" value: "O" } in two steps', good='output_map { key: "B" value: "P" } in one of them')
E306 = define_error("E306", "input '<i>' in model '<m>' is mapped to multiple ensemble tensors for ensemble '<e>' "
                            "step <i>",
    refused_by=None, source=_GRAPH,
    why="input_map is a map: of two entries with one key the server keeps the last and drops the first without a "
        "word, so the tensor of the first is usually found unused instead.",
    bad='input_map { key: "A" value: "I" } input_map { key: "A" value: "J" }',
    good='input_map { key: "A" value: "I" } input_map { key: "C" value: "J" }')
E307 = define_error("E307", "ensemble input '<i>' for ensemble <e>' is not used",
    source=_CONFIG,
    why="Each input of the ensemble is read by a step.",
    bad='input [{ name: "J" ... }] and no input_map with value: "J"', good='input_map { key: "A" value: "J" }')
E308 = define_error("E308", "ensemble output '<o>' for ensemble <e>' is not used",
    source=_CONFIG,
    why="Each output of the ensemble is written by a step.",
    bad='output [{ name: "P" ... }] and no output_map with value: "P"', good='output_map { key: "B" value: "P" }')
E309 = define_error("E309", "output '<o>' for ensemble '<e>' is not written",
    source=_CONFIG,
    why="A step runs when all that it reads is there; some of what leads to this output never is.",
    bad='input_map { key: "A" value: "typo" }', good='input_map { key: "A" value: "INPUT" }')
E310 = define_error("E310", "ensemble tensor '<t>' is unused in ensemble '<e>'",
    source=_CONFIG,
    why="A tensor between steps has a writer and a reader; an output that no step needs is left out of the map.",
    bad='output_map { key: "B" value: "T" } and no step that reads T', good='input_map { key: "A" value: "T" }')
# fmt: on

#: The step's version that means the latest one that is loaded.
LATEST: Final = -1


@dataclass(slots=True)
class _Tensor:
    """A tensor between steps: its first place, the steps that write and read it, whether it is ever computed."""

    node: Node
    ready: bool = False
    writers: list[StepView] = field(default_factory=list)
    readers: list[StepView] = field(default_factory=list)


@register_check(Stage.STEPS, E301, E302, E303, E304, E305, E306, E307, E308, E309, E310)
def check_steps(_context: Context, ensemble: ModelView) -> Iterator[Finding]:
    """Check an ensemble's configuration, in the server's order."""
    document, name = ensemble.document, ensemble.configured_name
    scheduling = document.message("ensemble_scheduling")
    if scheduling is None:
        return
    if not ensemble.is_ensemble:
        if not ensemble.platform and not ensemble.backend:
            return  # without a platform the server never gets here (E108)
        message = f"ensemble scheduling cannot be set for model '{name}' whose platform is not ensemble"
        yield E301.report_in(ensemble, message, document.one("platform") or scheduling, 'write platform: "ensemble"')
        return
    for part, message in (
        ("instance_group", f"instance group should not be specified for ensemble '{name}'"),
        ("optimization", f"optimization should not be specified for ensemble '{name}'"),
        ("model_warmup", f"model_warmup can not be specified for ensemble '{name}'"),
    ):
        if document.has(part):
            yield E302.report_in(
                ensemble, message, document.one(part), "move it to the models of the steps, or leave it out"
            )
    steps = ensemble.steps
    if not steps:
        yield E303.report_in(ensemble, f"must specify 'step' for ensemble '{name}'", scheduling)
        return
    incomplete = list(_check_parts(ensemble, steps))
    yield from incomplete
    yield from _check_repeated_keys(ensemble, steps)
    if not incomplete:
        yield from _check_flow(ensemble, steps)


def _check_parts(ensemble: ModelView, steps: Sequence[StepView]) -> Iterator[Finding]:
    for step in steps:
        where = f"in step {step.index} of ensemble '{ensemble.configured_name}'"
        for part, given in (("model_name", step.model), ("input_map", step.inputs), ("output_map", step.outputs)):
            if not given:
                yield E304.report_in(ensemble, f"must specify '{part}' {where}", step.node)


def _check_repeated_keys(ensemble: ModelView, steps: Sequence[StepView]) -> Iterator[Finding]:
    """Find keys of an input map with two tensors, of which the server keeps the last."""
    for step in steps:
        for entry in step.node.messages("input_map"):
            key = entry.text("key")
            if key in step.inputs and step.inputs[key].tensor != entry.text("value"):
                message = (
                    f"input '{key}' in model '{step.model}' is mapped to multiple ensemble tensors for ensemble "
                    f"'{ensemble.configured_name}' step {step.index}"
                )
                advice = f"the server drops '{entry.text('value')}' and keeps '{step.inputs[key].tensor}'"
                yield E306.report_in(ensemble, message, entry.one("key") or entry, advice)


def _check_flow(ensemble: ModelView, steps: Sequence[StepView]) -> Iterator[Finding]:
    """Check who writes and who reads each tensor, and that every output is computed."""
    name = ensemble.configured_name
    tensors: dict[str, _Tensor] = {}
    repeated = list(_link_tensors(ensemble, steps, tensors))
    yield from repeated
    unused = []
    dropped = _find_dropped_tensors(steps)
    for tensor in ensemble.inputs:
        if tensor.name in tensors:
            tensors[tensor.name].ready = True
        else:
            message = f"ensemble input '{tensor.name}' for ensemble {name}' is not used"
            named = tensor.node.one("name") or tensor.node
            unused.append(E307.report_in(ensemble, message, named, _explain_unused_input(dropped, tensor.name)))
    yield from unused
    _mark_ready(tensors)
    outputs = {tensor.name for tensor in ensemble.outputs}
    broken = False
    for output in ensemble.outputs:
        place = output.node.one("name")
        if output.name not in tensors:
            message = f"ensemble output '{output.name}' for ensemble {name}' is not used"
            yield E308.report_in(ensemble, message, place or output.node, "map an output of a step to it")
        elif not tensors[output.name].ready:
            broken = True
            source = _find_unready_source(tensors, output.name)
            because = ""
            if source is not None:
                because = f": at least one of its depending tensors, '{source}', is not connected"
            message = f"output '{output.name}' for ensemble '{name}' is not written{because}"
            origin = tensors[source if source is not None else output.name]
            advice = "the steps wait for each other"
            if not origin.writers:
                missing = source if source is not None else output.name
                advice = f"no step writes '{missing}', and it is not an input of the ensemble"
            yield E309.report_in(ensemble, message, origin.node if not origin.writers else place, advice)
    for tensor_name, entry in tensors.items():
        if tensor_name in outputs or (entry.ready and entry.readers) or (broken and not entry.ready):
            continue
        message = f"ensemble tensor '{tensor_name}' is unused in ensemble '{name}'"
        advice = (
            "no step reads it: leave it out of output_map" if entry.ready else "what it depends on is never computed"
        )
        yield E310.report_in(ensemble, message, entry.node, advice)


def _link_tensors(ensemble: ModelView, steps: Sequence[StepView], tensors: dict[str, _Tensor]) -> Iterator[Finding]:
    for step in steps:
        for mapped in step.outputs.values():
            tensor = tensors.setdefault(mapped.tensor, _Tensor(mapped.node))
            if tensor.writers:
                message = (
                    f"ensemble tensor '{mapped.tensor}' can appear in an output map only once for ensemble "
                    f"'{ensemble.configured_name}' step {step.index}"
                )
                yield E305.report_in(ensemble, message, mapped.node, "give one of the two another name")
            tensor.writers.append(step)
        for name, node in {mapped.tensor: mapped.node for mapped in step.inputs.values()}.items():
            tensors.setdefault(name, _Tensor(node)).readers.append(step)


def _mark_ready(tensors: dict[str, _Tensor]) -> None:
    """Mark the tensors that are computed: once all the steps that write one have all that they read."""
    steps_waiting: dict[int, int] = {}
    for tensor in tensors.values():
        for step in tensor.readers:
            steps_waiting[step.index] = steps_waiting.get(step.index, 0) + 1
    tensors_waiting = {name: len(tensor.writers) for name, tensor in tensors.items()}
    pending = deque(name for name, tensor in tensors.items() if tensor.ready)
    while pending:
        for step in tensors[pending.popleft()].readers:
            steps_waiting[step.index] -= 1
            if steps_waiting[step.index]:
                continue
            for mapped in step.outputs.values():
                tensors_waiting[mapped.tensor] -= 1
                if tensors_waiting[mapped.tensor] <= 0 and not tensors[mapped.tensor].ready:
                    tensors[mapped.tensor].ready = True
                    pending.append(mapped.tensor)


def _find_unready_source(tensors: dict[str, _Tensor], name: str) -> str | None:
    """Return the tensor at which the server's walk back from an unwritten one ends; None where it ends at its start.

    Of several missing tensors the server follows the first of an unordered map, here the first of the text.
    """
    seen, last = set[str](), name
    while True:
        before = (mapped.tensor for step in tensors[last].writers for mapped in step.inputs.values())
        following = next((tensor for tensor in before if not tensors[tensor].ready and tensor not in seen), None)
        if following is None:
            return last if last != name else None
        seen.add(following)
        last = following


def _find_dropped_tensors(steps: Sequence[StepView]) -> dict[str, tuple[str, int]]:
    """Return the tensors of all map entries, also of those that a later entry replaces, with their key and step."""
    return {
        entry.text("value"): (entry.text("key"), step.index)
        for step in steps
        for entry in step.node.messages("input_map")
    }


def _explain_unused_input(dropped: dict[str, tuple[str, int]], name: str) -> str:
    if name not in dropped:
        return "map it to an input of a step, or leave it out"
    key, step = dropped[name]
    return f"input_map names the key '{key}' twice in step {step}: the last one counts"
