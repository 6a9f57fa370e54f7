"""Render a graph as indented text for a terminal. No I/O."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tritonforge.escaping import escape_line
from tritonforge.graph.diagram import Diagram, Edge, Graph, ModelNode, TensorNode, describe_tensor, list_diagrams
from tritonforge.graph.flat_graph import describe_finding
from tritonforge.graph.text_widths import shorten_text
from tritonforge.validation.findings import Finding

__all__ = ["render_outline"]


def render_outline(graph: Graph) -> str:
    """Return a graph as text: inputs, steps with what they read and write, outputs, and findings below each."""
    outliner = _Outliner(graph.findings)
    blocks = ["\n".join(outliner.list_lines(diagram)) for diagram in graph.diagrams]
    placed = {number for diagram in list_diagrams(graph.diagrams) for number in _list_placed(diagram)}
    rest = [number for number in range(len(graph.findings)) if number not in placed]
    blocks += ["\n".join(outliner.list_findings(rest, ""))] if rest else []
    return "\n\n".join(blocks) + "\n" if blocks else "no models\n"


def _list_placed(diagram: Diagram) -> Iterator[int]:
    yield from diagram.findings
    for model in diagram.models:
        yield from model.findings
    for tensor in diagram.tensors:
        yield from tensor.findings
    for edge in diagram.edges:
        yield from edge.findings


class _Outliner:
    def __init__(self, findings: Sequence[Finding]) -> None:
        self._findings = findings

    def list_findings(self, numbers: Sequence[int], indent: str) -> Iterator[str]:
        """Yield a line for each finding."""
        for number in numbers:
            yield f"{indent}! {escape_line(describe_finding(self._findings[number]))}"

    def list_lines(self, diagram: Diagram, indent: str = "") -> Iterator[str]:
        """Yield the lines of a diagram."""
        if diagram.is_ensemble:
            yield f"{indent}{_name(diagram.name)}: {', '.join(('ensemble', *diagram.details))}"
            yield from self.list_findings(diagram.findings, f"{indent}  ")
            indent += "  "
        tensors = {tensor.key: tensor for tensor in diagram.tensors}
        names = {model.key: model.name for model in diagram.models}
        yield from self._list_ends(diagram, indent, "input")
        edges: dict[str, list[Edge]] = {}
        for edge in diagram.edges:
            edges.setdefault(edge.target if edge.kind == "input" else edge.source, []).append(edge)
        for model in diagram.models:
            yield from self._list_model(model, edges.get(model.key, []), tensors, names, indent)
        yield from self._list_ends(diagram, indent, "output")

    def _list_ends(self, diagram: Diagram, indent: str, kind: str) -> Iterator[str]:
        for tensor in diagram.tensors if diagram.is_ensemble else ():
            if tensor.is_input if kind == "input" else tensor.is_output:
                yield f"{indent}{kind:<7} {_name(tensor.name)}  {escape_line(describe_tensor(tensor))}"
                yield from self.list_findings(tensor.findings, f"{indent}        ")

    def _list_model(
        self,
        model: ModelNode,
        edges: Sequence[Edge],
        tensors: dict[str, TensorNode],
        names: dict[str, str],
        indent: str,
    ) -> Iterator[str]:
        step = f"step {model.step}  " if model.step is not None else "called  " if model.is_called else ""
        kind = ("ensemble",) if model.is_ensemble else ()
        yield f"{indent}{step}{_name(model.name)}: {escape_line('; '.join([*kind, *model.details]))}"
        inner = f"{indent}        " if step else f"{indent}  "
        yield from self.list_findings(model.findings, inner)
        width = max([len(_name(edge.port)) for edge in edges if edge.kind != "call"], default=0)
        for edge in edges:
            if edge.kind == "call":
                yield f"{inner}sends requests to {_name(names[edge.target])}: {_name(edge.port)}"
                yield from self.list_findings(edge.findings, f"{inner}  ")
                continue
            tensor = tensors[edge.source if edge.kind == "input" else edge.target]
            # Type and dims are where a tensor is written, or declared.
            is_stated = tensor.key.startswith("tensor:") and (edge.kind == "input" or tensor.is_output)
            text = "" if is_stated else f"  {escape_line(describe_tensor(tensor))}"
            arrow = "<-" if edge.kind == "input" else "->"
            target = f" {arrow} {_name(tensor.name)}" if tensor.key.startswith("tensor:") else f" ({edge.kind})"
            yield f"{inner}{_name(edge.port):<{width}}{target}{text}"
            yield from self.list_findings(edge.findings, f"{inner}  ")
            if not tensor.key.startswith("tensor:"):
                yield from self.list_findings(tensor.findings, f"{inner}  ")
        if model.inner is not None:
            yield from self.list_lines(model.inner, inner)


def _name(text: str) -> str:
    return escape_line(shorten_text(text, 120)) or "(no name)"
