"""The part of a graph that a finding is about: a model, a tensor, an edge, or a whole diagram. No I/O."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from tritonforge.graph.diagram import Diagram, Edge, Graph, ModelNode, TensorNode, list_diagrams
from tritonforge.validation.context import Context, ModelView
from tritonforge.validation.findings import Finding

__all__ = ["attach_findings"]

_STEP: Final = re.compile(r"ensemble_scheduling\.step\[(\d+)\](?:\.(input|output)_map\[(\d+)\])?")
_TENSOR: Final = re.compile(r"(input|output)\[(\d+)\]")


@dataclass(frozen=True, slots=True)
class _Place:
    """What a finding is about: a step of an ensemble, one of its edges, an input or output, or all of the model.

    ``kind`` and ``name`` are those of an input or output, of the step's model where ``step`` is given. For a request
    in code, ``model`` and ``step`` are the file and the line.
    """

    model: str
    step: int | None = None
    kind: str = ""
    name: str = ""


def attach_findings(graph: Graph, context: Context, *, all_models: bool) -> Graph:
    """Return the graph with every finding at the part that it is about.

    Unless ``all_models``, findings on models that the graph does not have are left out.
    """
    drawn = {diagram.name for diagram in list_diagrams(graph.diagrams)}
    drawn |= {model.name for diagram in list_diagrams(graph.diagrams) for model in diagram.models}
    kept = [finding for finding in graph.findings if all_models or finding.path.split("/")[0] in drawn]
    requests = {
        (edge.path, edge.line) for diagram in list_diagrams(graph.diagrams) for edge in diagram.edges if edge.path
    }
    places: dict[_Place, list[int]] = defaultdict(list)
    for number, finding in enumerate(kept):
        name = finding.path.split("/")[0]
        if name in context.models:
            is_request = (finding.path, finding.line) in requests
            place = _Place(finding.path, finding.line) if is_request else _find_place(context.models[name], finding)
            places[place].append(number)
    attacher = _Attacher({place: tuple(numbers) for place, numbers in places.items()})
    return Graph(diagrams=tuple(attacher.attach(diagram) for diagram in graph.diagrams), findings=tuple(kept))


def _find_place(model: ModelView, finding: Finding) -> _Place:
    if finding.path != model.config_path:
        return _Place(model.name)
    if match := _STEP.match(finding.field):
        index, kind = int(match[1]), match[2] or ""
        if index >= len(model.steps):
            return _Place(model.name)
        entries = model.steps[index].node.messages(f"{kind}_map") if kind else []
        place = int(match[3]) if kind else 0
        if place < len(entries):
            return _Place(model.name, index, kind, entries[place].text("key"))
        return _Place(model.name, index)
    if match := _TENSOR.match(finding.field):
        nodes = model.document.messages(match[1])
        if int(match[2]) < len(nodes):
            return _Place(model.name, None, match[1], nodes[int(match[2])].text("name"))
    return _Place(model.name)


class _Attacher:
    def __init__(self, places: Mapping[_Place, tuple[int, ...]]) -> None:
        self._places = places
        self._tensors: dict[str, list[_Place]] = defaultdict(list)
        for place in places:
            if place.step is None and place.kind:
                self._tensors[place.model].append(place)

    def attach(self, diagram: Diagram) -> Diagram:
        """Return the diagram, and those in it, with their findings."""
        names = {model.key: model.name for model in diagram.models}
        edges = tuple(replace(edge, findings=self._list_of_edge(diagram, names, edge)) for edge in diagram.edges)
        return replace(
            diagram,
            models=tuple(self._attach_model(diagram, model) for model in diagram.models),
            tensors=tuple(
                replace(tensor, findings=self._list_of_tensor(diagram, tensor)) for tensor in diagram.tensors
            ),
            edges=edges,
            findings=self._list_at(_Place(diagram.name)) if diagram.is_ensemble else (),
        )

    def _attach_model(self, diagram: Diagram, model: ModelNode) -> ModelNode:
        findings = list(self._list_at(_Place(model.name)))
        if diagram.is_ensemble and model.step is not None:
            findings += self._list_at(_Place(diagram.name, model.step))
        # What is about an input or output that no edge or tensor of the picture shows.
        for place in self._tensors.get(model.name, ()) if model.inner is None else ():
            if place.name not in (model.inputs if place.kind == "input" else model.outputs):
                findings += self._places[place]
        if model.inner is not None:
            inner = self.attach(model.inner)
            own = [number for number in findings if number not in inner.findings]
            return replace(model, inner=inner, findings=tuple(own))
        return replace(model, findings=tuple(dict.fromkeys(findings)))

    def _list_of_tensor(self, diagram: Diagram, tensor: TensorNode) -> tuple[int, ...]:
        kinds = [kind for kind, has in (("input", tensor.is_input), ("output", tensor.is_output)) if has]
        return tuple(
            number for kind in kinds for number in self._list_at(_Place(diagram.name, None, kind, tensor.name))
        )

    def _list_of_edge(self, diagram: Diagram, names: Mapping[str, str], edge: Edge) -> tuple[int, ...]:
        return tuple(dict.fromkeys(self._list_at_edge(diagram, names, edge)))

    def _list_at_edge(self, diagram: Diagram, names: Mapping[str, str], edge: Edge) -> Iterator[int]:
        if edge.kind == "call":
            yield from self._list_at(_Place(edge.path, edge.line))
        if edge.kind == "call" or not diagram.is_ensemble:
            return
        key = edge.target if edge.kind == "input" else edge.source
        step = int(key.removeprefix("step:"))
        yield from self._list_at(_Place(diagram.name, step, edge.kind, edge.port))
        yield from self._list_at(_Place(names[key], None, edge.kind, edge.port))

    def _list_at(self, place: _Place) -> tuple[int, ...]:
        return self._places.get(place, ())
