"""An ensemble on its own: its steps, and the flow of tensors through them. No I/O.

Source: model_config_utils.cc ValidateEnsembleSchedulingConfig and BuildEnsembleGraph.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from tritonforge.repository.findings import Finding
from tritonforge.repository.pbtxt import Node
from tritonforge.repository.rules.context import ModelView
from tritonforge.repository.rules.ensemble.steps import Step, report, steps

__all__ = ["check"]


@dataclass(slots=True)
class _Tensor:
    """A tensor between steps: what it is worked out from, what is worked out from it, whether it ever is there."""

    node: Node
    written: bool = False
    ready: bool = False
    before: list[str] = field(default_factory=list)
    after: list[str] = field(default_factory=list)


def check(view: ModelView) -> Iterator[Finding]:
    """The findings of an ensemble's configuration, in the server's order."""
    document, name = view.document, view.name
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
        where = f"in step {step.index} of ensemble '{view.name}'"
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
                    f"'{view.name}' step {step.index}"
                )
                help_ = f"the server drops '{entry.text('value')}' and keeps '{step.inputs[key].tensor}'"
                yield report(view, "E306", words, entry.one("key") or entry, help_)


def _flow(view: ModelView, found: Sequence[Step]) -> Iterator[Finding]:
    """Who writes and who reads each tensor, and whether everything comes to be."""
    name = view.name
    tensors: dict[str, _Tensor] = {}
    twice = list(_link(view, found, tensors))
    yield from twice
    unused = []
    for tensor in view.inputs:
        if tensor.name in tensors:
            tensors[tensor.name].ready = True
        else:
            words = f"ensemble input '{tensor.name}' for ensemble {name}' is not used"
            place = tensor.node.one("name") or tensor.node
            unused.append(report(view, "E307", words, place, _lost(found, tensor.name)))
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
            root = _root(tensors, output.name)
            because = f": at least one of its depending tensors, '{root}', is not connected" if root else ""
            words = f"output '{output.name}' for ensemble '{name}' is not written{because}"
            help_ = (
                f"no step writes '{root}', and it is no input of the ensemble" if root else "the steps wait in a circle"
            )
            yield report(view, "E309", words, tensors[root].node if root else place, help_)
    for tensor_name, entry in tensors.items():
        if tensor_name in outputs or (entry.ready and entry.after) or (broken and not entry.ready):
            continue
        words = f"ensemble tensor '{tensor_name}' is unused in ensemble '{name}'"
        help_ = "no step reads it: leave it out of output_map" if entry.ready else "what it depends on is never there"
        yield report(view, "E310", words, entry.node, help_)


def _link(view: ModelView, found: Sequence[Step], tensors: dict[str, _Tensor]) -> Iterator[Finding]:
    for step in found:
        for mapped in step.outputs.values():
            tensor = tensors.setdefault(mapped.tensor, _Tensor(mapped.node))
            if tensor.written:
                words = (
                    f"ensemble tensor '{mapped.tensor}' can appear in an output map only once for ensemble "
                    f"'{view.name}' step {step.index}"
                )
                yield report(view, "E305", words, mapped.node, "give one of the two another name")
            tensor.written = True
        for mapped in step.inputs.values():
            source = tensors.setdefault(mapped.tensor, _Tensor(mapped.node))
            for output in step.outputs.values():
                source.after.append(output.tensor)
                tensors[output.tensor].before.append(mapped.tensor)


def _spread(tensors: dict[str, _Tensor]) -> None:
    """Mark what comes to be: a step's outputs once all its inputs are there."""
    missing = {name: len(tensor.before) for name, tensor in tensors.items()}
    pending = deque(name for name, tensor in tensors.items() if tensor.ready)
    while pending:
        for following in tensors[pending.popleft()].after:
            if tensors[following].ready:
                continue
            missing[following] -= 1
            if missing[following] <= 0:
                tensors[following].ready = True
                pending.append(following)


def _root(tensors: dict[str, _Tensor], name: str) -> str:
    """A tensor that nothing writes among those that an unwritten one depends on; "" when they run in a circle."""
    seen, pending = {name}, [name]
    while pending:
        here = pending.pop()
        if not tensors[here].before and not tensors[here].ready:
            return here
        for before in tensors[here].before:
            if before not in seen and not tensors[before].ready:
                seen.add(before)
                pending.append(before)
    return ""


def _lost(found: Sequence[Step], name: str) -> str:
    """Whether a map's later entry has replaced one that used the tensor."""
    for step in found:
        for entry in step.node.messages("input_map"):
            if entry.text("value") == name:
                return f"input_map names the key '{entry.text('key')}' twice in step {step.index}: the last one counts"
    return "map it to an input of a step, or leave it out"
