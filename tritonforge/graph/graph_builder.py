"""Build the graph of a repository from the views of its models and the findings on it. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

from tritonforge.errors import DefinitionError
from tritonforge.graph.diagram import Diagram, Edge, Graph, ModelNode, TensorNode
from tritonforge.graph.finding_places import attach_findings
from tritonforge.graph.model_details import describe_model
from tritonforge.validation.context import Context, ModelView, TensorView
from tritonforge.validation.findings import Finding
from tritonforge.validation.python_models import list_python_paths
from tritonforge.validation.python_requests import ModelRequest, read_requests

__all__ = ["MAXIMAL_NODES", "MAXIMAL_TEXT_NODES", "build_graph", "list_calls", "list_requests"]

#: Models and tensors of one graph: a larger picture is not readable, and larger text or JSON takes much memory.
MAXIMAL_NODES: Final = 2000
MAXIMAL_TEXT_NODES: Final = 100_000
_MAXIMAL_DEPTH: Final = 16
#: Edges of a graph for each model and tensor that it may have.
_MAXIMAL_EDGES: Final = 4


def build_graph(
    context: Context, findings: Iterable[Finding], models: Sequence[str] = (), *, max_nodes: int = MAXIMAL_NODES
) -> Graph:
    """Return the graph of a repository: a diagram of each model that no other one uses.

    Args:
        context: the repository as the rules see it.
        findings: the findings on it.
        models: draw these models only, and what they use.
        max_nodes: the number of models and tensors that is refused if there are more.

    Raises:
        DefinitionError: no such model, or more than ``max_nodes`` models and tensors.
    """
    for name in models:
        if name not in context.models:
            raise DefinitionError(f"model {name!r} not found (the repository has {_list_names(context.models)})")
    used = {name: tuple(_list_used(context, model)) for name, model in context.models.items()}
    roots = list(dict.fromkeys(models)) or _choose_roots(used)
    builder = _Builder(context, max_nodes)
    diagrams = tuple(builder.build(name) for name in roots)
    graph = Graph(diagrams=diagrams, findings=tuple(findings))
    return attach_findings(graph, context, all_models=not models)


def list_requests(context: Context, model: ModelView) -> Iterator[ModelRequest]:
    """Yield the requests to other models that a Python model's code names by constants (BLS)."""
    for _, path in list_python_paths(context, model):
        yield from read_requests(context.tree, path)[0]


def list_calls(context: Context) -> dict[str, tuple[str, ...]]:
    """Return the models of the repository that each Python model's code requests by constant names (BLS)."""
    calls: dict[str, tuple[str, ...]] = {}
    for name, model in context.models.items():
        if not model.is_ensemble:
            requested = dict.fromkeys(request.model for request in list_requests(context, model))
            if known := tuple(other for other in requested if other in context.models):
                calls[name] = known
    return calls


def _list_names(names: Iterable[str]) -> str:
    listed = sorted(names)
    more = f" and {len(listed) - 8} more" if len(listed) > 8 else ""
    return ", ".join(listed[:8]) + more if listed else "no models"


def _list_used(context: Context, model: ModelView) -> Iterator[str]:
    if model.is_ensemble:
        yield from model.step_models
    else:
        for request in list_requests(context, model):
            yield request.model


def _choose_roots(used: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the models that no other one uses, and one of those that only use one another; ensembles first."""
    inner = {name for user, names in used.items() for name in names if name != user}
    reached: set[str] = set()
    roots: list[str] = []
    for name in [*(name for name in used if name not in inner), *(name for name in used if name in inner)]:
        if name in reached:
            continue
        roots.append(name)
        pending = [name]
        while pending:
            current = pending.pop()
            if current not in reached and current in used:
                reached.add(current)
                pending += used[current]
    return sorted(roots, key=lambda name: (not used[name], name))


class _Builder:
    """Builds diagrams; a nested ensemble is drawn once in all of them."""

    def __init__(self, context: Context, max_nodes: int) -> None:
        self._context = context
        self._max_nodes = max_nodes
        self._drawn: set[str] = set()
        self._count = 0
        self._edges = 0

    def build(self, name: str) -> Diagram:
        return self._build(self._context.models[name], ())

    def _build(self, model: ModelView, outer: tuple[str, ...]) -> Diagram:
        self._drawn.add(model.name)
        diagram = self._build_ensemble(model, outer) if model.is_ensemble else self._build_single(model, outer)
        called, calls = self._build_calls(diagram, outer)
        return replace(diagram, models=(*diagram.models, *called), edges=(*diagram.edges, *calls))

    def _build_single(self, model: ModelView, outer: tuple[str, ...]) -> Diagram:
        tensors, edges = {}, []
        for kind, views in (("input", model.inputs), ("output", model.outputs)):
            for view in views:
                key = f"{kind}:{view.name}"
                if key in tensors:
                    continue
                tensors[key] = replace(
                    self._build_tensor(key, view.name, view, model),
                    is_input=kind == "input",
                    is_output=kind == "output",
                )
                if kind == "input":
                    edges.append(Edge(kind="input", source=key, target="model", port=view.name))
                else:
                    edges.append(Edge(kind="output", source="model", target=key, port=view.name))
        node = self._build_model("model", model.name, (*outer, model.name))
        node = replace(
            node,
            inputs=tuple(dict.fromkeys(view.name for view in model.inputs)),
            outputs=tuple(dict.fromkeys(view.name for view in model.outputs)),
        )
        return Diagram(name=model.name, models=(node,), tensors=tuple(tensors.values()), edges=tuple(edges))

    def _build_ensemble(self, model: ModelView, outer: tuple[str, ...]) -> Diagram:
        nodes = []
        edges: list[Edge] = []
        tensors: dict[str, TensorNode] = {}
        for view in model.inputs:
            tensors.setdefault(
                view.name, replace(self._build_tensor(f"tensor:{view.name}", view.name, view, model), is_input=True)
            )
        for step in model.steps:
            key = f"step:{step.index}"
            node = self._build_model(key, step.model, (*outer, model.name))
            used = self._context.models.get(step.model)
            self._add(edges=len(step.inputs) + len(step.outputs))
            inputs = _sort_ports(step.inputs, used.inputs if used is not None else ())
            outputs = _sort_ports(step.outputs, used.outputs if used is not None else ())
            version = [f"asks for version {step.version}"] if step.version > 0 else []
            details = (*node.details, *version)
            nodes.append(replace(node, step=step.index, inputs=inputs, outputs=outputs, details=details))
            edges += [
                Edge(kind="input", source=f"tensor:{step.inputs[port].tensor}", target=key, port=port)
                for port in inputs
            ]
            edges += [
                Edge(kind="output", source=key, target=f"tensor:{step.outputs[port].tensor}", port=port)
                for port in outputs
            ]
        declared = {view.name: view for view in model.outputs}
        for step in model.steps:
            source = self._context.models.get(step.model)
            for port, mapped in step.outputs.items():
                written = _find(source.outputs, port) if source is not None else None
                node_key = f"tensor:{mapped.tensor}"
                tensor = self._build_tensor(node_key, mapped.tensor, written, source)
                known = tensors.get(mapped.tensor)
                if known is None or not (known.data_type or known.is_input):
                    tensors[mapped.tensor] = tensor
        for name, view in declared.items():
            tensor = replace(self._build_tensor(f"tensor:{name}", name, view, model), is_output=True)
            known = tensors.get(name)
            if known is not None and (known.is_input or not tensor.data_type):
                tensor = replace(known, is_output=True)
            tensors[name] = tensor
        for step in model.steps:
            target = self._context.models.get(step.model)
            for port, mapped in step.inputs.items():
                known = tensors.get(mapped.tensor)
                if known is None or not known.data_type:
                    read = _find(target.inputs, port) if target is not None else None
                    tensor = self._build_tensor(f"tensor:{mapped.tensor}", mapped.tensor, read, target)
                    if known is not None:
                        tensor = replace(tensor, is_input=known.is_input, is_output=known.is_output)
                    tensors[mapped.tensor] = tensor
        return Diagram(
            name=model.name,
            details=describe_model(model),
            is_ensemble=True,
            models=tuple(nodes),
            tensors=tuple(tensors.values()),
            edges=tuple(edges),
        )

    def _build_tensor(self, key: str, name: str, view: TensorView | None, model: ModelView | None) -> TensorNode:
        self._add(nodes=1)
        if view is None or model is None:
            return TensorNode(key=key, name=name)
        data_type = view.data_type.removeprefix("TYPE_")
        has_dims = bool(view.dims) or view.reshape is not None
        return TensorNode(
            key=key,
            name=name,
            data_type="" if data_type == "INVALID" else data_type,
            dims=view.dims if has_dims else None,
            max_batch_size=model.max_batch_size if model.has_known_batch_dimension else None,
            is_optional=view.optional,
        )

    def _build_model(self, key: str, name: str, outer: tuple[str, ...]) -> ModelNode:
        """Return the node of a model; ``outer`` are the diagrams around it, which it must not have inside."""
        self._add(nodes=1)
        model = self._context.models.get(name)
        if model is None:
            return ModelNode(key=key, name=name, details=("not in this repository",), is_missing=True)
        details = describe_model(model)
        if not model.is_ensemble:
            return ModelNode(key=key, name=name, details=details)
        if name in outer:
            details = (*details, "contains itself")
        elif name in self._drawn or len(outer) >= _MAXIMAL_DEPTH:
            details = (*details, "steps: drawn once")
        else:
            return ModelNode(key=key, name=name, details=details, is_ensemble=True, inner=self._build(model, outer))
        return ModelNode(key=key, name=name, details=details, is_ensemble=True)

    def _build_calls(self, diagram: Diagram, outer: tuple[str, ...]) -> tuple[list[ModelNode], list[Edge]]:
        """Return the models that the code of a diagram's models sends requests to, and the edges to them."""
        called: dict[str, ModelNode] = {}
        edges: dict[tuple[str, str, str], Edge] = {}
        pending = list(diagram.models)
        while pending:
            node = pending.pop(0)
            model = self._context.models.get(node.name)
            if model is None or model.is_ensemble:
                continue
            for request in list_requests(self._context, model):
                if request.model not in called:
                    key = f"call:{request.model}"
                    target = self._build_model(key, request.model, (*outer, diagram.name))
                    called[request.model] = replace(target, is_called=True)
                    pending.append(called[request.model])
                port = f"{', '.join(request.inputs) or '?'} → {', '.join(request.outputs) or '?'}"
                target_key = called[request.model].key
                edges.setdefault(
                    (node.key, target_key, port),
                    Edge(
                        kind="call",
                        source=node.key,
                        target=target_key,
                        port=port,
                        path=request.path,
                        line=request.line,
                    ),
                )
        return list(called.values()), list(edges.values())

    def _add(self, *, nodes: int = 0, edges: int = 0) -> None:
        self._count += nodes
        self._edges += edges
        if self._count > self._max_nodes:
            limit = f"{self._max_nodes} models and tensors"
        elif self._edges > self._max_nodes * _MAXIMAL_EDGES:
            limit = f"{self._max_nodes * _MAXIMAL_EDGES} edges"
        else:
            return
        raise DefinitionError(f"the graph has more than {limit}. Choose what to draw with --model NAME")


def _find(views: Iterable[TensorView], name: str) -> TensorView | None:
    return next((view for view in views if view.name == name), None)


def _sort_ports(names: Iterable[str], views: Iterable[TensorView]) -> tuple[str, ...]:
    """Return names in the order of the model's configuration; unknown ones are last, in the order of the step."""
    order = {view.name: place for place, view in enumerate(views)}
    return tuple(sorted(names, key=lambda name: order.get(name, len(order))))
