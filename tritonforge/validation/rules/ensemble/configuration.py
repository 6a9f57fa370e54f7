"""An ensemble on its own: its steps, and the flow of tensors through them. No I/O.

Source: model_config_utils.cc ValidateEnsembleSchedulingConfig and BuildEnsembleGraph.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from tritonforge.pbtxt import Node
from tritonforge.validation.findings import Finding
from tritonforge.validation.rules.context import ModelView
from tritonforge.validation.rules.ensemble.steps import Step, report, steps

__all__ = ["check"]


@dataclass(slots=True)
class _Tensor:
    """A tensor between steps: its first place, the steps that write and read it, whether it ever is there."""

    node: Node
    ready: bool = False
    writers: list[Step] = field(default_factory=list)
    readers: list[Step] = field(default_factory=list)


def check(view: ModelView) -> Iterator[Finding]:
    """The findings of an ensemble's configuration, in the server's order."""
    document, name = view.document, view.configured_name
    scheduling = document.message("ensemble_scheduling")
    if scheduling is None:
        return
    if not view.is_ensemble:
        if not view.platform and not view.backend:
            return  # without a platform the server never gets here (E108)
        words = f"ensemble scheduling cannot be set for model '{name}' whose platform is not ensemble"
        yield report(view, "E301", words, document.one("platform") or scheduling, 'write platform: "ensemble"')
        return
    for part, words in (
        ("instance_group", f"instance group should not be specified for ensemble '{name}'"),
        ("optimization", f"optimization should not be specified for ensemble '{name}'"),
        ("model_warmup", f"model_warmup can not be specified for ensemble '{name}'"),
    ):
        if document.has(part):
            yield report(view, "E302", words, document.one(part), "move it to the models of the steps, or leave it out")
    found = steps(view)
    if not found:
        yield report(view, "E303", f"must specify 'step' for ensemble '{name}'", scheduling)
        return
    incomplete = list(_parts(view, found))
    yield from incomplete
    yield from _twice(view, found)
    if not incomplete:
        yield from _flow(view, found)


def _parts(view: ModelView, found: Sequence[Step]) -> Iterator[Finding]:
    for step in found:
        where = f"in step {step.index} of ensemble '{view.configured_name}'"
        for part, given in (("model_name", step.model), ("input_map", step.inputs), ("output_map", step.outputs)):
            if not given:
                yield report(view, "E304", f"must specify '{part}' {where}", step.node)


def _twice(view: ModelView, found: Sequence[Step]) -> Iterator[Finding]:
    """Keys of an input map that are given two tensors, of which the server keeps the last."""
    for step in found:
        for entry in step.node.messages("input_map"):
            key = entry.text("key")
            if key in step.inputs and step.inputs[key].tensor != entry.text("value"):
                words = (
                    f"input '{key}' in model '{step.model}' is mapped to multiple ensemble tensors for ensemble "
                    f"'{view.configured_name}' step {step.index}"
                )
                help_ = f"the server drops '{entry.text('value')}' and keeps '{step.inputs[key].tensor}'"
                yield report(view, "E306", words, entry.one("key") or entry, help_)


def _flow(view: ModelView, found: Sequence[Step]) -> Iterator[Finding]:
    """Who writes and who reads each tensor, and whether everything comes to be."""
    name = view.configured_name
    tensors: dict[str, _Tensor] = {}
    twice = list(_link(view, found, tensors))
    yield from twice
    unused = []
    dropped = _dropped(found)
    for tensor in view.inputs:
        if tensor.name in tensors:
            tensors[tensor.name].ready = True
        else:
            words = f"ensemble input '{tensor.name}' for ensemble {name}' is not used"
            named = tensor.node.one("name") or tensor.node
            unused.append(report(view, "E307", words, named, _lost(dropped, tensor.name)))
    yield from unused
    _spread(tensors)
    outputs = {tensor.name for tensor in view.outputs}
    broken = False
    for output in view.outputs:
        place = output.node.one("name")
        if output.name not in tensors:
            words = f"ensemble output '{output.name}' for ensemble {name}' is not used"
            yield report(view, "E308", words, place or output.node, "map an output of a step to it")
        elif not tensors[output.name].ready:
            broken = True
            source = _source(tensors, output.name)
            because = ""
            if source is not None:
                because = f": at least one of its depending tensors, '{source}', is not connected"
            words = f"output '{output.name}' for ensemble '{name}' is not written{because}"
            origin = tensors[source if source is not None else output.name]
            help_ = "the steps wait in a circle"
            if not origin.writers:
                missing = source if source is not None else output.name
                help_ = f"no step writes '{missing}', and it is no input of the ensemble"
            yield report(view, "E309", words, origin.node if not origin.writers else place, help_)
    for tensor_name, entry in tensors.items():
        if tensor_name in outputs or (entry.ready and entry.readers) or (broken and not entry.ready):
            continue
        words = f"ensemble tensor '{tensor_name}' is unused in ensemble '{name}'"
        help_ = "no step reads it: leave it out of output_map" if entry.ready else "what it depends on is never there"
        yield report(view, "E310", words, entry.node, help_)


def _link(view: ModelView, found: Sequence[Step], tensors: dict[str, _Tensor]) -> Iterator[Finding]:
    for step in found:
        for mapped in step.outputs.values():
            tensor = tensors.setdefault(mapped.tensor, _Tensor(mapped.node))
            if tensor.writers:
                words = (
                    f"ensemble tensor '{mapped.tensor}' can appear in an output map only once for ensemble "
                    f"'{view.configured_name}' step {step.index}"
                )
                yield report(view, "E305", words, mapped.node, "give one of the two another name")
            tensor.writers.append(step)
        for name, node in {mapped.tensor: mapped.node for mapped in step.inputs.values()}.items():
            tensors.setdefault(name, _Tensor(node)).readers.append(step)


def _spread(tensors: dict[str, _Tensor]) -> None:
    """Mark what comes to be: a tensor once all the steps that write it have all that they read."""
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


def _source(tensors: dict[str, _Tensor], name: str) -> str | None:
    """The tensor at which the server's walk back from an unwritten one ends; None where it ends where it began.

    Of several tensors that are not there the server follows the first of an unordered map, here the first of the text.
    """
    seen, last = set[str](), name
    while True:
        before = (mapped.tensor for step in tensors[last].writers for mapped in step.inputs.values())
        following = next((each for each in before if not tensors[each].ready and each not in seen), None)
        if following is None:
            return last if last != name else None
        seen.add(following)
        last = following


def _dropped(found: Sequence[Step]) -> dict[str, tuple[str, int]]:
    """Tensors of map entries that a later entry with the same key has replaced: the key, and the step."""
    return {
        entry.text("value"): (entry.text("key"), step.index)
        for step in found
        for entry in step.node.messages("input_map")
    }


def _lost(dropped: dict[str, tuple[str, int]], name: str) -> str:
    if name not in dropped:
        return "map it to an input of a step, or leave it out"
    key, step = dropped[name]
    return f"input_map names the key '{key}' twice in step {step}: the last one counts"
