"""The layout: layers, crossings, and distances; and that pictures keep their shapes apart."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest

from tests.support.graph_repositories import CALLING, NESTED, PASSING, WRONG, build_chain, build_doubling
from tests.support.rule_repositories import x
from tritonforge.errors import DefinitionError
from tritonforge.graph import layering
from tritonforge.graph.graph_reader import read_graph
from tritonforge.graph.layering import Arc, Vertex, build_layering, count_crossings
from tritonforge.graph.picture import draw_graph
from tritonforge.graph.placement import Point, place
from tritonforge.graph.shapes import Box, Picture
from tritonforge.graph.text_widths import measure_text, shorten_text, wrap_text
from tritonforge.validation.tree import Tree

PICTURES: dict[str, dict[str, Any]] = {
    "nested": NESTED,
    "passing": PASSING,
    "calling": CALLING,
    "wrong": WRONG,
    "chain": build_chain(50),
    "doubling": build_doubling(4),
    "many": {path: content for number in range(9) for path, content in x(f"m{number}", inputs="ACD").items()},
}


def draw(files: dict[str, Any]) -> Picture:
    """The picture of a repository."""
    return draw_graph(read_graph(Tree.of(files)))


def arc(source: int, target: int) -> Arc:
    """An arc between the middles of boxes of 40 pixels."""
    return Arc(source, target, 20.0, 20.0)


def test_arcs_lead_downwards_except_one_of_each_cycle() -> None:
    arcs = [arc(0, 1), arc(1, 2), arc(2, 0), arc(2, 3)]
    layout = place([Vertex(40, 20)] * 4, arcs)
    tops = [corner.y for corner in layout.corners]
    assert [tops[end.source] < tops[end.target] for end in arcs] == [True, True, False, True]
    assert build_layering([Vertex(40, 20)] * 4, arcs).is_reversed == [False, False, True, False]


def test_a_chain_is_a_straight_line_whatever_the_widths() -> None:
    vertices = [Vertex(width, 20) for width in (40, 200, 90, 160)]
    arcs = [Arc(number, number + 1, vertices[number].width / 2, vertices[number + 1].width / 2) for number in range(3)]
    layout = place(vertices, arcs)
    assert len({corner.x + box.width / 2 for corner, box in zip(layout.corners, vertices, strict=True)}) == 1
    assert layout.width == 200


def test_crossings_that_an_order_avoids_are_avoided() -> None:
    vertices = [Vertex(40, 20)] * 6
    arcs = [arc(0, 4), arc(1, 3), arc(2, 5), arc(0, 5), arc(1, 4)]
    assert count_crossings(build_layering(vertices, arcs)) == 0
    both = [arc(0, 2), arc(0, 3), arc(1, 2), arc(1, 3)]
    assert count_crossings(build_layering(vertices[:4], both)) == 1  # no order has fewer


def test_the_layout_is_the_same_in_every_run() -> None:
    numbers = random.Random(3)
    vertices = [Vertex(numbers.randint(40, 200), 30) for _ in range(60)]
    arcs = [arc(numbers.randrange(max(0, end - 9), end), end) for end in range(1, 60) for _ in range(2)]
    assert place(vertices, arcs) == place(vertices, arcs)


def test_a_graph_that_would_take_long_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layering, "MAXIMAL_WAYPOINTS", 10)
    arcs = [arc(number, number + 1) for number in range(30)] + [arc(0, 30)]
    with pytest.raises(DefinitionError, match="too many long edges for a picture"):
        place([Vertex(40, 20)] * 31, arcs)


def overlap(one: Box, other: Box) -> bool:
    """Whether two boxes have a pixel in common."""
    return (
        one.x < other.x + other.width
        and other.x < one.x + one.width
        and one.y < other.y + other.height
        and other.y < one.y + one.height
    )


@pytest.mark.parametrize("name", PICTURES)
def test_no_box_overlaps_another_one_and_all_are_in_the_picture(name: str) -> None:
    picture = draw(PICTURES[name])
    boxes = [box for box in picture.boxes if box.kind != "frame"]
    assert len(boxes) > 3
    assert not [(one, other) for one, other in itertools.combinations(boxes, 2) if overlap(one, other)]
    for box in picture.boxes:
        assert box.x >= 0
        assert box.y >= 0
        assert box.x + box.width <= picture.width
        assert box.y + box.height <= picture.height


@pytest.mark.parametrize("name", PICTURES)
def test_edges_leave_at_the_bottom_and_arrive_at_the_top_of_boxes(name: str) -> None:
    picture = draw(PICTURES[name])
    tops = {(box.y, box) for box in picture.boxes}
    bottoms = {(box.y + box.height, box) for box in picture.boxes}
    borders = bottoms | {(box.y, box) for box in picture.boxes if box.kind == "frame"}
    for curve in picture.curves:
        end = curve.points[-1]
        if curve.has_head:
            assert [box for y, box in tops if y == end.y and box.x <= end.x <= box.x + box.width]
    for number, curve in enumerate(picture.curves):
        start = curve.points[0]
        is_branch = any(start in other.points for place_, other in enumerate(picture.curves) if place_ != number)
        is_below = any(y == start.y and box.x <= start.x <= box.x + box.width for y, box in borders)
        assert is_below or is_branch


@pytest.mark.parametrize("name", PICTURES)
def test_straight_parts_of_edges_pass_no_box(name: str) -> None:
    """Only there an edge is beside boxes: it bends between the layers."""
    picture = draw(PICTURES[name])
    boxes = [box for box in picture.boxes if box.kind != "frame"]

    def passes(box: Box, one: Point, other: Point) -> bool:
        low, high = sorted((one.y, other.y))
        return box.x < one.x < box.x + box.width and low < box.y + box.height and box.y < high

    for curve in picture.curves:
        for one, other in zip(curve.points[::2], curve.points[1::2], strict=True):
            assert not [box for box in boxes if passes(box, one, other)]


@pytest.mark.parametrize("name", PICTURES)
def test_text_is_inside_its_box(name: str) -> None:
    picture = draw(PICTURES[name])
    boxes = [box for box in picture.boxes if box.kind != "frame"]
    for text in picture.texts:
        width = measure_text(text.text, text.size, bold=text.bold)
        left = text.x - width / 2 if text.centred else text.x
        assert left >= 0
        assert left + width <= picture.width
        for box in boxes:
            if box.y < text.y < box.y + box.height and box.x < text.x < box.x + box.width:
                assert left >= box.x
                assert left + width <= box.x + box.width


def test_fifty_steps_take_a_bounded_picture() -> None:
    picture = draw(build_chain(50))
    assert picture.width < 1000
    assert picture.height / 50 < 250  # pixels of a step


def test_long_texts_are_shortened_and_wrapped() -> None:
    assert shorten_text("x" * 10**6, 10) == f"{'x' * 6}…xxx"
    lines = wrap_text(f"{'word ' * 50}{'y' * 300}", 200.0, 10.5)
    assert all(measure_text(line, 10.5) <= 200 for line in lines)
    assert "".join(lines).count("y") == 300
