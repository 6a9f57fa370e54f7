"""The graph of a model for the page: its picture, and which step and tensor each box is. This module does no I/O."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from tritonforge.graph.diagram import Diagram, Graph, ModelNode
from tritonforge.graph.picture import Spaces, draw_graph
from tritonforge.graph.svg import render_picture

__all__ = ["GraphView", "build_graph_view"]

#: Pixels in the boxes of models, for times, and of tensors, for a small picture.
_SPACES: Final = Spaces(model=(196.0, 44.0), tensor=(132.0, 72.0))


@dataclass(frozen=True, slots=True)
class GraphView:
    """The picture of a model and its boxes.

    Attributes:
        svg: the picture, without a style sheet of its own.
        spaces: the empty place in every box: key, x, y, width and height.
        steps: the key of the box of each step of the data flow (`data_flow.Step.name`).
        models: the model of each box.
        tensors: the tensor of the data flow that each box is.
        calls: the name of the box of each model that code requests (`step_times.CalledModel`), apart from the steps.
    """

    svg: str
    width: float
    height: float
    spaces: tuple[Mapping[str, Any], ...]
    steps: Mapping[str, str] = field(default_factory=dict)
    models: Mapping[str, str] = field(default_factory=dict)
    tensors: Mapping[str, str] = field(default_factory=dict)
    calls: Mapping[str, str] = field(default_factory=dict)


def build_graph_view(graph: Graph, model: str) -> GraphView:
    """Return the view of the diagram of a model; StopIteration cannot happen, the model is one of the graph's."""
    diagram = next(diagram for diagram in graph.diagrams if diagram.name == model)
    picture = draw_graph(Graph(diagrams=(diagram,), findings=graph.findings), has_list=False, spaces=_SPACES)
    places = _Places()
    places.add(diagram, path=diagram.name, prefix="", renamed={})
    return GraphView(
        svg=render_picture(picture, title=f"Data flow of {model}", has_links=True, has_style=False),
        width=picture.width,
        height=picture.height,
        spaces=tuple(asdict(space) for space in picture.spaces),
        steps=places.steps,
        models=places.models,
        tensors=places.tensors,
        calls=places.calls,
    )


class _Places:
    """Which box is which step and tensor, with the names that `plan_data_flow` gives them."""

    def __init__(self) -> None:
        self.steps: dict[str, str] = {}
        self.models: dict[str, str] = {}
        self.tensors: dict[str, str] = {}
        self.calls: dict[str, str] = {}
        self._counts: dict[str, int] = {}

    def add(self, diagram: Diagram, *, path: str, prefix: str, renamed: Mapping[str, str]) -> None:
        """Add a diagram; ``renamed`` are the names outside of it of its inputs and outputs."""
        names: dict[str, str] = {}
        for tensor in diagram.tensors:
            plain = tensor.key if not diagram.is_ensemble else tensor.name
            names[tensor.key] = renamed.get(tensor.name, f"{prefix}{plain}")
            self.tensors[f"{path}/{tensor.key}"] = names[tensor.key]
        for model in diagram.models:
            key = f"{path}/{model.key}"
            self.models[key] = model.name
            if model.is_called:
                self._add_called(model, key)
                continue
            name = self._name_step(f"{prefix}{model.name}")
            self.steps[name] = key
            if model.inner is not None:
                inner = dict(_list_outer_names(diagram, model.key, names))
                self.add(model.inner, path=key, prefix=f"{name}/", renamed=inner)

    def _add_called(self, model: ModelNode, key: str) -> None:
        """Add a model that code requests; the boxes of an ensemble are those of its steps."""
        self.calls[key] = model.name
        if model.inner is not None:
            inner = _Places()
            inner.add(model.inner, path=key, prefix=f"{model.name}/", renamed={})
            self.models |= inner.models
            self.calls |= {place: name for name, place in inner.steps.items()} | inner.calls
            self.tensors |= {place: f"call:{name}" for place, name in inner.tensors.items()}  # which no request has

    def _name_step(self, plain: str) -> str:
        count = self._counts[plain] = self._counts.get(plain, 0) + 1
        return plain if count == 1 else f"{plain}#{count}"


def _list_outer_names(diagram: Diagram, key: str, names: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for edge in diagram.edges:
        if edge.target == key and edge.kind == "input":
            yield edge.port, names[edge.source]
        elif edge.source == key and edge.kind == "output":
            yield edge.port, names[edge.target]
