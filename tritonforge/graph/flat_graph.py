"""A graph as nodes in nested groups with one identifier each, for languages that lay out themselves. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from tritonforge.graph.diagram import Diagram, EdgeKind, Graph, ModelNode, describe_tensor
from tritonforge.graph.text_widths import shorten_text
from tritonforge.validation.findings import Finding, Severity

__all__ = ["FlatEdge", "FlatGraph", "FlatNode", "Group", "describe_finding", "flatten"]

NodeKind: TypeAlias = Literal["model", "missing", "called", "input", "output", "tensor"]
#: Findings that a list in a picture has at most.
MAXIMAL_LISTED = 30


@dataclass(frozen=True, slots=True)
class FlatNode:
    """A node: its identifier, its kind, and the lines of its label, the name first."""

    identifier: str
    kind: NodeKind
    lines: tuple[str, ...]
    severity: Severity | None


@dataclass(slots=True)
class Group:
    """An ensemble: the lines of its heading, its nodes and the ensembles in it; the outermost one has no identifier."""

    identifier: str
    lines: tuple[str, ...]
    severity: Severity | None = None
    nodes: list[FlatNode] = field(default_factory=list)
    groups: list[Group] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class FlatEdge:
    """An edge between two nodes by their identifiers."""

    source: str
    target: str
    label: str
    kind: EdgeKind
    severity: Severity | None


@dataclass(slots=True)
class FlatGraph:
    """All of a graph: the outermost group, the edges, and the findings as lines."""

    group: Group
    edges: list[FlatEdge] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)


def flatten(graph: Graph) -> FlatGraph:
    """Return a graph with identifiers; a nested ensemble is a group whose inputs and outputs have the edges."""
    flat = FlatGraph(Group("", ()))
    flattener = _Flattener(graph.findings, flat)
    for diagram in graph.diagrams:
        flattener.add_diagram(diagram, flat.group, None)
    flat.findings = [
        f"{number} {shorten_text(describe_finding(finding), 240)}"
        for number, finding in enumerate(graph.findings[:MAXIMAL_LISTED], 1)
    ]
    if len(graph.findings) > MAXIMAL_LISTED:
        flat.findings.append(f"and {len(graph.findings) - MAXIMAL_LISTED} more findings")
    return flat


def describe_finding(finding: Finding) -> str:
    """Return a finding as a line: its code, its place and its sentence."""
    line = f":{finding.line}" if finding.line else ""
    place = f"{finding.path}{line}: " if finding.path else ""
    return f"{finding.code} {finding.severity}: {place}{finding.message}"


class _Flattener:
    def __init__(self, findings: Sequence[Finding], flat: FlatGraph) -> None:
        self._findings = findings
        self._flat = flat
        self._count = 0

    def add_diagram(self, diagram: Diagram, group: Group, node: ModelNode | None) -> dict[str, str]:
        """Add a diagram to a group; return the identifiers of its inputs and outputs by ``kind:name``."""
        if diagram.is_ensemble:
            findings = tuple(dict.fromkeys([*diagram.findings, *(node.findings if node is not None else ())]))
            step = [f"step {node.step}"] if node is not None and node.step is not None else []
            lines = (diagram.name, ", ".join([*step, "ensemble", *diagram.details]), *self._list_codes(findings))
            own = Group(self._create_identifier("g"), lines, self._find_severity(findings))
            group.groups.append(own)
            group = own
        identifiers: dict[str, str] = {}
        ends: dict[str, str] = {}
        for tensor in diagram.tensors:
            role = tensor.role
            kind: NodeKind = "input" if tensor.is_input else "output" if tensor.is_output else "tensor"
            identifiers[tensor.key] = self._create_identifier("t")
            name = f"{role} {tensor.name}" if role else tensor.name
            lines = (name, describe_tensor(tensor), *self._list_codes(tensor.findings))
            severity = self._find_severity(tensor.findings)
            group.nodes.append(FlatNode(identifiers[tensor.key], kind, lines, severity))
            if tensor.is_input:
                ends[f"input:{tensor.name}"] = identifiers[tensor.key]
            if tensor.is_output:
                ends[f"output:{tensor.name}"] = identifiers[tensor.key]
        inner: dict[str, dict[str, str]] = {}
        for model in diagram.models:
            if model.inner is not None:
                inner[model.key] = self.add_diagram(model.inner, group, model)
                identifiers[model.key] = next(iter(inner[model.key].values()), "")
                continue
            step_text = (
                f"step {model.step}" if model.step is not None else "called by code (BLS)" if model.is_called else ""
            )
            first = ", ".join(
                part for part in (step_text, "ensemble" if model.is_ensemble else "", *model.details[:1]) if part
            )
            kind = "missing" if model.is_missing else "called" if model.is_called else "model"
            identifiers[model.key] = self._create_identifier("m")
            lines = (model.name, first, *model.details[1:], *self._list_codes(model.findings))
            severity = self._find_severity(model.findings)
            group.nodes.append(FlatNode(identifiers[model.key], kind, lines, severity))
        for edge in diagram.edges:
            source, target, label = identifiers[edge.source], identifiers[edge.target], edge.port
            if edge.target in inner:
                target = inner[edge.target].get(f"input:{edge.port}", target)
            if edge.source in inner:
                source = inner[edge.source].get(f"output:{edge.port}", source)
            if source and target:
                label = " ".join([label, *self._list_codes(edge.findings)])
                self._flat.edges.append(FlatEdge(source, target, label, edge.kind, self._find_severity(edge.findings)))
        return ends

    def _create_identifier(self, prefix: str) -> str:
        self._count += 1
        return f"{prefix}{self._count}"

    def _list_codes(self, numbers: Sequence[int]) -> list[str]:
        codes = [f"({number + 1} {self._findings[number].code})" for number in numbers[:5]]
        return [" ".join(codes)] if codes else []

    def _find_severity(self, numbers: Sequence[int]) -> Severity | None:
        severities = {self._findings[number].severity for number in numbers}
        return "error" if "error" in severities else "warning" if severities else None
