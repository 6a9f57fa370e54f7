"""Render a graph in Graphviz's language. No I/O."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from tritonforge.escaping import escape_dot
from tritonforge.graph.diagram import Graph
from tritonforge.graph.flat_graph import FlatGraph, Group, flatten
from tritonforge.graph.text_widths import shorten_text

__all__ = ["render_dot"]

_STYLES: Final[Mapping[str, str]] = {
    "model": "shape=box, style=filled, fillcolor=gray95",
    "missing": "shape=box, style=dotted",
    "called": "shape=box, style=dashed",
    "input": 'shape=box, style="rounded,filled", fillcolor=aliceblue, color=dodgerblue4',
    "output": 'shape=box, style="rounded,filled", fillcolor=honeydew, color=darkgreen',
    "tensor": "shape=box, style=rounded",
}
_SEVERITIES: Final = {"error": ", color=firebrick, penwidth=3", "warning": ", color=darkgoldenrod4, penwidth=2"}


def render_dot(graph: Graph) -> str:
    """Return a graph as a digraph, which `dot` lays out from top to bottom."""
    return "\n".join(_list_lines(flatten(graph))) + "\n"


def _list_lines(flat: FlatGraph) -> Iterator[str]:
    yield "digraph repository {"
    # Graphviz measures Helvetica without the font itself.
    yield '  graph [rankdir=TB, fontname="Helvetica", fontsize=12, labeljust=l];'
    yield '  node [fontname="Helvetica", fontsize=10, margin="0.2,0.06"];'
    yield '  edge [fontname="Helvetica", fontsize=9];'
    yield from _list_group(flat.group, "  ")
    for edge in flat.edges:
        style = ", style=dashed" if edge.kind == "call" else ""
        severity = _SEVERITIES.get(edge.severity or "", "")
        yield f"  {edge.source} -> {edge.target} [label={_quote([edge.label])}{style}{severity}];"
    if flat.findings:
        yield f"  findings [shape=note, label={_quote(flat.findings, left=True)}];"
    yield "}"


def _list_group(group: Group, indent: str) -> Iterator[str]:
    for node in group.nodes:
        severity = _SEVERITIES.get(node.severity or "", "")
        yield f"{indent}{node.identifier} [label={_quote(node.lines)}, {_STYLES[node.kind]}{severity}];"
    for inner in group.groups:
        yield f"{indent}subgraph cluster_{inner.identifier} {{"
        yield f"{indent}  label={_quote(inner.lines, left=True)};"
        if inner.severity:
            yield f"{indent}  {_SEVERITIES[inner.severity].removeprefix(', ').replace(', ', '; ')};"
        yield from _list_group(inner, indent + "  ")
        yield f"{indent}}}"


def _quote(lines: Sequence[str], *, left: bool = False) -> str:
    end = "\\l" if left else "\\n"
    text = end.join(escape_dot(shorten_text(line, 240)) for line in lines if line)
    return f'"{text}{end if left else ""}"'
