"""Render a graph as a Mermaid flowchart, which GitHub draws in Markdown. No I/O."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tritonforge.escaping import escape_mermaid
from tritonforge.graph.diagram import Graph
from tritonforge.graph.flat_graph import FlatGraph, Group, flatten
from tritonforge.graph.text_widths import shorten_text

__all__ = ["render_mermaid"]

#: The brackets of a node's shape, by its kind.
_SHAPES: Final = {
    "model": ("[", "]"), "missing": ("[", "]"), "called": ("[[", "]]"), "input": ("([", "])"), "output": ("([", "])"),
    "tensor": ("(", ")"),
}  # fmt: skip
#: Outlines only: the text and the fill are those of the page's theme.
_STYLES: Final = {
    "error": "stroke:#cf222e,stroke-width:4px",
    "warning": "stroke:#9a6700,stroke-width:3px,stroke-dasharray:6 3",
    "missing": "stroke-dasharray:2 3",
}


def render_mermaid(graph: Graph) -> str:
    """Return a graph as the text of a flowchart, from top to bottom."""
    return "\n".join(_list_lines(flatten(graph))) + "\n"


def _list_lines(flat: FlatGraph) -> Iterator[str]:
    yield '%%{init: {"flowchart": {"wrappingWidth": 420}}}%%'  # pixels; the default breaks most labels
    yield "flowchart TB"
    classes: dict[str, list[str]] = {}
    yield from _list_group(flat.group, "  ", classes)
    for edge in flat.edges:
        label = _quote((edge.label,))
        arrow = f"-. {label} .->" if edge.kind == "call" else f"-- {label} -->" if edge.label else "-->"
        yield f"  {edge.source} {arrow} {edge.target}"
    if flat.findings:
        yield f"  findings[{_quote(flat.findings)}]"
    for name, style in _STYLES.items():
        if name in classes:
            yield f"  classDef {name} {style}"
            yield f"  class {','.join(classes[name])} {name}"
    for severity in ("error", "warning"):
        numbers = [str(number) for number, edge in enumerate(flat.edges) if edge.severity == severity]
        if numbers:
            yield f"  linkStyle {','.join(numbers)} {_STYLES[severity]}"


def _list_group(group: Group, indent: str, classes: dict[str, list[str]]) -> Iterator[str]:
    for node in group.nodes:
        before, after = _SHAPES[node.kind]
        yield f"{indent}{node.identifier}{before}{_quote(node.lines)}{after}"
        if node.severity or node.kind == "missing":
            classes.setdefault(node.severity or "missing", []).append(node.identifier)
    for inner in group.groups:
        # One line: a second one would cover what is inside.
        yield f"{indent}subgraph {inner.identifier}[{_quote([': '.join(inner.lines)])}]"
        yield f"{indent}  direction TB"
        yield from _list_group(inner, indent + "  ", classes)
        yield f"{indent}end"
        if inner.severity:
            classes.setdefault(inner.severity, []).append(inner.identifier)


def _quote(lines: tuple[str, ...] | list[str]) -> str:
    return '"' + "<br>".join(escape_mermaid(shorten_text(line, 240)) for line in lines if line) + '"'
