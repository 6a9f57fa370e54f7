"""Draw a graph: frames, boxes, edges, the badges of findings and their list. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from tritonforge.graph.diagram import Diagram, Edge, Graph, ModelNode, TensorNode, describe_tensor
from tritonforge.graph.layering import Arc, Vertex
from tritonforge.graph.placement import Point, place
from tritonforge.graph.shapes import SMALL, TINY, TITLE, Badge, Box, BoxKind, Curve, Picture, Space, Text
from tritonforge.graph.text_widths import measure_text, shorten_text, wrap_text
from tritonforge.validation.findings import Finding, Severity

__all__ = ["NO_SPACES", "Spaces", "draw_graph"]

_HEADING: Final = 15.0
_LEADING: Final = 15.0
_PADDING: Final = 12.0
_BADGE: Final = 15.0
_MARGIN: Final = 20.0
_PANEL_GAP: Final = 44.0
_MINIMAL_WIDTH: Final = 480.0
_ROW_WIDTH: Final = 1300.0
_DETAIL_WIDTH: Final = 270.0
#: Findings in the list below a picture, and badges of one box.
_MAXIMAL_LISTED: Final = 100
_MAXIMAL_BADGES: Final = 3


@dataclass(frozen=True, slots=True)
class Spaces:
    """The width and height of the empty place in the box of every model and of every tensor; 0 for none."""

    model: tuple[float, float] = (0.0, 0.0)
    tensor: tuple[float, float] = (0.0, 0.0)


NO_SPACES: Final = Spaces()


def draw_graph(graph: Graph, *, has_list: bool = True, spaces: Spaces = NO_SPACES) -> Picture:
    """Return the picture of a graph: its diagrams in rows and, with ``has_list``, the findings as a list below them.

    ``spaces`` are empty places in the boxes, which `Picture.spaces` lists.
    """
    painter = _Painter(graph.findings, spaces)
    panels = [painter.draw_diagram(diagram) for diagram in graph.diagrams]
    widest = max([_ROW_WIDTH, *(panel.width for panel in panels)])
    picture = Picture()
    x = y = _MARGIN
    row_height = 0.0
    for panel in panels:
        if x > _MARGIN and x + panel.width > widest + _MARGIN:
            x, y, row_height = _MARGIN, y + row_height + _PANEL_GAP, 0.0
        picture.add(panel, x, y)
        picture.width = max(picture.width, x + panel.width + _MARGIN)
        x += panel.width + _PANEL_GAP
        row_height = max(row_height, panel.height)
    picture.height = y + row_height + _MARGIN
    picture.width = max(picture.width, _MINIMAL_WIDTH if graph.findings and has_list else 0.0)
    if not panels:
        picture.texts.append(Text(x=_MARGIN, y=_MARGIN + TITLE, text="no models", centred=False, muted=True))
        picture.width, picture.height = max(picture.width, 160.0), 3 * _MARGIN
    if has_list:
        _add_list(picture, graph.findings)
    return picture


def _add_list(picture: Picture, findings: Sequence[Finding]) -> None:
    """Add the list of findings at the bottom."""
    if not findings:
        return
    y = picture.height
    for number, finding in enumerate(findings[:_MAXIMAL_LISTED], 1):
        width = _measure_badge(number, finding)
        picture.badges.append(
            Badge(x=_MARGIN, y=y, width=width, text=f"{number} {finding.code}", severity=finding.severity)
        )
        indent = _MARGIN + 84.0
        where = f"{finding.path}{f':{finding.line}' if finding.line else ''}"
        sentence = f"{finding.severity}: {shorten_text(finding.message, 600)}"
        lines = wrap_text(sentence, picture.width - indent - _MARGIN, SMALL)
        lines += wrap_text(shorten_text(where, 200), picture.width - indent - _MARGIN, SMALL) if where else []
        for line_number, line in enumerate(lines):
            is_place = bool(where) and line_number == len(lines) - 1
            picture.texts.append(Text(x=indent, y=y + 11.0, text=line, centred=False, muted=is_place))
            y += _LEADING
        y += 5.0
    if len(findings) > _MAXIMAL_LISTED:
        more = f"and {len(findings) - _MAXIMAL_LISTED} more findings"
        picture.texts.append(Text(x=_MARGIN, y=y + 11.0, text=more, centred=False, muted=True))
        y += _LEADING
    picture.height = y + _MARGIN - 5.0


def _measure_badge(number: int, finding: Finding) -> float:
    return round(measure_text(f"{number} {finding.code}", TINY, bold=True) + 10.0)


@dataclass(slots=True)
class _Shape:
    """The picture of one node, and where edges meet its top and bottom, in pixels from its left side.

    Of a whole diagram ``inputs`` and ``outputs`` are the middles of these tensors, ``tops`` has the top of every input
    and ``bottoms`` the bottom of every output.
    """

    picture: Picture
    inputs: dict[str, float] = field(default_factory=dict)
    outputs: dict[str, float] = field(default_factory=dict)
    tops: dict[str, float] = field(default_factory=dict)
    bottoms: dict[str, float] = field(default_factory=dict)


class _Painter:
    def __init__(self, findings: Sequence[Finding], spaces: Spaces) -> None:
        self._findings = findings
        self._spaces = spaces
        self._path = ""

    def draw_diagram(self, diagram: Diagram) -> Picture:
        """Draw a diagram: an ensemble in a frame with a heading, one model without."""
        self._path = diagram.name
        if not diagram.is_ensemble:
            return self._draw_inside(diagram, pins=False)[0]
        return self._draw_frame(diagram, heading=_HEADING, pins=False).picture

    def _draw_frame(self, diagram: Diagram, *, heading: float, pins: bool, node: ModelNode | None = None) -> _Shape:
        """Draw an ensemble in a frame; ``pins`` puts its inputs and outputs at the borders, as a nested one needs."""
        inside, places = self._draw_inside(diagram, pins=pins)
        step = [f"step {node.step}"] if node is not None and node.step is not None else []
        details = ", ".join([*step, "ensemble", *diagram.details])
        findings = tuple(dict.fromkeys([*diagram.findings, *(node.findings if node is not None else ())]))
        lines = [Text(x=0, y=0, text=shorten_text(diagram.name) or "(no name)", size=heading, bold=True)]
        lines.append(Text(x=0, y=0, text=shorten_text(details, 90), muted=True))
        head = max(measure_text(line.text, line.size, bold=line.bold) for line in lines)
        width = max(inside.width, head, self._measure_badges(findings)) + 2 * _PADDING + 8
        picture = Picture(width=_round_even(width))
        top = _PADDING + heading + 18.0 + (_BADGE + 6.0 if findings else 0.0) + 10.0
        picture.height = top + inside.height + _PADDING + 4
        hint = f"{diagram.name}: ensemble, {', '.join(diagram.details)}"
        picture.boxes.append(
            Box(key=self._path, kind="frame", x=0, y=0, width=picture.width, height=picture.height,
                hint=shorten_text(hint, 300), severity=self._find_severity(findings))
        )  # fmt: skip
        left = round((picture.width - inside.width) / 2)
        for name, x in places.inputs.items() if pins else ():
            end = Point(left + x, top + places.tops[name])
            picture.curves.append(Curve(points=(Point(left + x, 0.0), end)))
        for name, x in places.outputs.items() if pins else ():
            start = Point(left + x, top + places.bottoms[name])
            picture.curves.append(Curve(points=(start, Point(left + x, picture.height))))
        y = _PADDING + heading - 3.0
        for line in lines:
            picture.texts.append(replace(line, x=_PADDING + 2, y=y, centred=False, covers=pins))
            y += 16.0
        self._add_badges(picture, findings, _PADDING + 2, y - 9.0)
        picture.add(inside, left, top)
        return _Shape(
            picture,
            {name: left + x for name, x in places.inputs.items()},
            {name: left + x for name, x in places.outputs.items()},
        )

    def _draw_inside(self, diagram: Diagram, *, pins: bool) -> tuple[Picture, _Shape]:
        """Draw the nodes and edges of a diagram; also return where its inputs and outputs are."""
        edges_of: dict[str, list[Edge]] = {}
        for edge in diagram.edges:
            for key in {edge.source, edge.target}:
                edges_of.setdefault(key, []).append(edge)
        shapes = [self._draw_tensor(tensor) for tensor in diagram.tensors]
        shapes += [self._draw_model(model, edges_of.get(model.key, [])) for model in diagram.models]
        keys = [*(tensor.key for tensor in diagram.tensors), *(model.key for model in diagram.models)]
        index = {key: number for number, key in enumerate(keys)}
        arcs: list[Arc] = []
        arc_edges: list[Edge] = []
        for edge in diagram.edges:
            source, target = index[edge.source], index[edge.target]
            if edge.kind == "call":
                shapes.append(self._draw_label(edge))
                label = len(shapes) - 1
                middle = shapes[label].picture.width / 2
                ends = [(source, shapes[source].picture.width - 18.0, label, middle)]
                ends.append((label, middle, target, shapes[target].picture.width / 2))
            elif edge.kind == "input":
                ends = [(source, shapes[source].picture.width / 2, target, shapes[target].inputs[edge.port])]
            else:
                ends = [(source, shapes[source].outputs[edge.port], target, shapes[target].picture.width / 2)]
            arcs += [Arc(start, end, start_offset, end_offset) for start, start_offset, end, end_offset in ends]
            arc_edges += [edge] * len(ends)
        vertices = [Vertex(shape.picture.width, shape.picture.height) for shape in shapes]
        inputs = {tensor.name: index[tensor.key] for tensor in diagram.tensors if tensor.is_input}
        outputs = {tensor.name: index[tensor.key] for tensor in diagram.tensors if tensor.is_output}
        if pins:
            _add_exits(inputs, outputs, vertices, arcs)
        layout = place(vertices, arcs, top=inputs.values() if pins else (), bottom=outputs.values() if pins else ())
        picture = Picture(width=layout.width, height=layout.height)
        drawn: dict[Point, tuple[Point, ...]] = {}
        for route in layout.routes[len(arc_edges) :]:
            picture.curves.append(Curve(points=_cut_drawn(tuple(route.points), drawn)))
        for route, arc, edge in zip(layout.routes, arcs, arc_edges, strict=False):
            has_head = edge.kind == "input" or (edge.kind == "call" and arc.target < len(index))
            picture.curves.append(
                Curve(
                    points=_cut_drawn(tuple(route.points), drawn),
                    is_dashed=edge.kind == "call",
                    has_head=has_head,
                    hint=_describe_edge(edge),
                    severity=self._find_severity(edge.findings),
                )
            )
            self._add_edge_badges(picture, edge, route.points)
        for shape, corner in zip(shapes, layout.corners, strict=False):
            picture.add(shape.picture, corner.x, corner.y)
        ports = _Shape(picture)
        for name, place_ in inputs.items():
            ports.inputs[name] = layout.corners[place_].x + vertices[place_].width / 2
            ports.tops[name] = layout.corners[place_].y
        for name, place_ in outputs.items():
            ports.outputs[name] = layout.corners[place_].x + vertices[place_].width / 2
            ports.bottoms[name] = layout.corners[place_].y + vertices[place_].height
        return picture, ports

    def _draw_tensor(self, tensor: TensorNode) -> _Shape:
        role = tensor.role
        kind: BoxKind = "input" if tensor.is_input else "output" if tensor.is_output else "tensor"
        lines = [Text(x=0, y=0, text=role, size=TINY, muted=True)] if role else []
        lines.append(Text(x=0, y=0, text=shorten_text(tensor.name) or "(no name)", size=11.5, bold=True))
        lines.append(Text(x=0, y=0, text=shorten_text(describe_tensor(tensor), 60)))
        hint = f"tensor {tensor.name}: {describe_tensor(tensor)}"
        return _Shape(self._draw_box(tensor.key, kind, lines, tensor.findings, hint=hint))

    def _draw_model(self, model: ModelNode, edges: Sequence[Edge]) -> _Shape:
        if model.inner is not None:
            outer, self._path = self._path, f"{self._path}/{model.key}"
            shape = self._draw_frame(model.inner, heading=TITLE, pins=True, node=model)
            self._path = outer
            for names, known in ((model.inputs, shape.inputs), (model.outputs, shape.outputs)):
                for number, name in enumerate(names):  # a name that the nested ensemble does not have
                    known.setdefault(name, min(12.0 + 24.0 * number, shape.picture.width))
            return shape
        lines = [Text(x=0, y=0, text=shorten_text(model.name) or "(no name)", size=TITLE, bold=True)]
        step = f"step {model.step}" if model.step is not None else "called by code (BLS)" if model.is_called else ""
        first = ", ".join(part for part in (step, "ensemble" if model.is_ensemble else "", *model.details[:1]) if part)
        details = [shorten_text(text, 200) for text in (first, *model.details[1:]) if text]
        lines += [
            Text(x=0, y=0, text=line, muted=True) for text in details for line in wrap_text(text, _DETAIL_WIDTH, SMALL)
        ]
        rows = [self._measure_ports(model.inputs, edges, "input"), self._measure_ports(model.outputs, edges, "output")]
        kind: BoxKind = "missing" if model.is_missing else "called" if model.is_called else "model"
        hint = f"model {model.name}: {', '.join((first, *model.details[1:]))}"
        picture = self._draw_box(
            model.key, kind, lines, model.findings, hint=hint, rows=(bool(rows[0]), bool(rows[1])),
            width=max(sum(widths.values()) for widths in rows),
        )  # fmt: skip
        shape = _Shape(picture)
        for widths, known, y in ((rows[0], shape.inputs, 12.0), (rows[1], shape.outputs, picture.height - 5.0)):
            at, stretch = 0.0, picture.width / (sum(widths.values()) or 1.0)
            for name, width in widths.items():
                known[name] = round(at + width * stretch / 2)
                at += width * stretch
                picture.texts.append(Text(x=known[name], y=y, text=shorten_text(name, 32), size=TINY, muted=True))
        return shape

    def _measure_ports(self, names: Sequence[str], edges: Sequence[Edge], kind: str) -> dict[str, float]:
        widths = {name: measure_text(shorten_text(name, 32), TINY) + 14.0 for name in names}
        for edge in edges:
            if edge.kind == kind and edge.port in widths:
                widths[edge.port] = max(widths[edge.port], self._measure_badges(edge.findings[:1]) + 10.0)
        return widths

    def _draw_box(
        self,
        key: str,
        kind: BoxKind,
        lines: Sequence[Text],
        findings: Sequence[int],
        *,
        hint: str,
        rows: tuple[bool, bool] = (False, False),
        width: float = 0.0,
    ) -> Picture:
        """Draw a box of lines, with ``rows`` for the names of inputs and outputs and one for badges."""
        widest = max([measure_text(line.text, line.size, bold=line.bold) for line in lines])
        is_model = kind in ("model", "missing", "called")
        space = self._spaces.model if is_model else self._spaces.tensor
        total = max(widest, width - 2 * _PADDING, self._measure_badges(findings), space[0]) + 2 * _PADDING
        picture = Picture(width=_round_even(total))
        y = 7.0 + (11.0 if rows[0] else 0.0)
        for line in lines:
            y += line.size + 1.0
            picture.texts.append(replace(line, x=picture.width / 2, y=y))
            y += 3.0
        if findings:
            self._add_badges(picture, findings, (picture.width - self._measure_badges(findings)) / 2, y + 3.0)
            y += _BADGE + 4.0
        path = f"{self._path}/{key}"
        if space[1]:
            left = round((picture.width - space[0]) / 2)
            picture.spaces.append(Space(key=path, x=left, y=round(y + 4.0), width=space[0], height=space[1]))
            y += space[1] + 6.0
        picture.height = round(y + 5.0 + (12.0 if rows[1] else 0.0))
        picture.boxes.append(
            Box(key=path, kind=kind, x=0, y=0, width=picture.width, height=picture.height, hint=shorten_text(hint, 300),
                severity=self._find_severity(findings))
        )  # fmt: skip
        return picture

    def _draw_label(self, edge: Edge) -> _Shape:
        text = Text(x=0, y=0, text=f"BLS: {shorten_text(edge.port, 60)}", size=TINY, muted=True)
        width = _round_even(max(measure_text(text.text, TINY), self._measure_badges(edge.findings)) + 10.0)
        picture = Picture(width=width, height=16.0 + (_BADGE + 3.0 if edge.findings else 0.0))
        picture.texts.append(replace(text, x=width / 2, y=11.5))
        picture.boxes.append(Box(key="", kind="label", x=0, y=0, width=width, height=picture.height))
        self._add_badges(picture, edge.findings, (width - self._measure_badges(edge.findings)) / 2, 16.0)
        return _Shape(picture)

    def _measure_badges(self, numbers: Sequence[int]) -> float:
        widths = [_measure_badge(number + 1, self._findings[number]) for number in numbers[:_MAXIMAL_BADGES]]
        more = 40.0 if len(numbers) > _MAXIMAL_BADGES else 0.0
        return sum(widths) + 4.0 * max(0, len(widths) - 1) + more

    def _add_badges(self, picture: Picture, numbers: Sequence[int], x: float, y: float) -> None:
        for number in numbers[:_MAXIMAL_BADGES]:
            finding = self._findings[number]
            width = _measure_badge(number + 1, finding)
            text = f"{number + 1} {finding.code}"
            picture.badges.append(Badge(x=round(x), y=round(y), width=width, text=text, severity=finding.severity))
            x += width + 4.0
        if len(numbers) > _MAXIMAL_BADGES:
            text = f"+{len(numbers) - _MAXIMAL_BADGES}"
            picture.texts.append(Text(x=round(x), y=round(y) + 11.0, text=text, centred=False, bold=True))

    def _add_edge_badges(self, picture: Picture, edge: Edge, points: Sequence[Point]) -> None:
        """Put the badges of an edge beside the model: there is its input or output."""
        if not edge.findings or edge.kind == "call":
            return
        end = points[-1] if edge.kind == "input" else points[0]
        is_above = (edge.kind == "input") == (points[-1].y >= points[0].y)
        y = end.y - _BADGE - 8.0 if is_above else end.y + 5.0
        self._add_badges(picture, edge.findings, end.x - self._measure_badges(edge.findings[:1]) / 2, y)

    def _find_severity(self, numbers: Sequence[int]) -> Severity | None:
        severities = {self._findings[number].severity for number in numbers}
        return "error" if "error" in severities else "warning" if severities else None


def _round_even(width: float) -> float:
    """Return an even number of pixels, so that the middle is a whole one and edges between middles are straight."""
    return float(2 * round(width / 2 + 0.5))


def _add_exits(inputs: dict[str, int], outputs: dict[str, int], vertices: list[Vertex], arcs: list[Arc]) -> None:
    """Give inputs that a step writes, and outputs that a step reads, a vertex without size at the border of a frame.

    The vertices replace those of the tensors in ``inputs`` and ``outputs``.
    """
    written, read = {arc.target for arc in arcs}, {arc.source for arc in arcs}
    for name, tensor in inputs.items():
        if tensor in written:
            arcs.append(Arc(len(vertices), tensor, 0.0, vertices[tensor].width / 2))
            inputs[name] = len(vertices)
            vertices.append(Vertex(0.0, 0.0))
    for name, tensor in outputs.items():
        if tensor in read or name in inputs:
            arcs.append(Arc(tensor, len(vertices), vertices[tensor].width / 2, 0.0))
            outputs[name] = len(vertices)
            vertices.append(Vertex(0.0, 0.0))


def _cut_drawn(points: tuple[Point, ...], drawn: dict[Point, tuple[Point, ...]]) -> tuple[Point, ...]:
    """Return the part of an edge after what it shares with the longest one from the same point, which ``drawn`` has."""
    longest = drawn.get(points[0], ())
    if len(points) > len(longest):
        drawn[points[0]] = points
    shared = 0
    while shared + 2 < min(len(points), len(longest)) and points[shared : shared + 2] == longest[shared : shared + 2]:
        shared += 2
    return (points[shared - 1], points[shared - 1], *points[shared:]) if shared else points


def _describe_edge(edge: Edge) -> str:
    if edge.kind == "call":
        return shorten_text(f"the code sends requests: {edge.port}", 300)
    return shorten_text(f"{edge.kind} {edge.port}", 300)
