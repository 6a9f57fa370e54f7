"""Place layered vertices and route the arcs between them. No I/O.

The positions in a layer are those nearest to the neighbours' that keep the order and the distances: a least-squares
problem that the method of pool adjacent violators solves. Arcs bend between layers and pass them straight, so that
none crosses a box.

Libraries that need no package of the system were measured in November 2026. They lack what these pictures need, edges
that end at the place of an input or output: fast-sugiyama 0.5 (1 MB) and igraph 1.0 (16 MB, GPL) also have no sizes of
vertices, grandalf 0.8 (1 MB, last released in 2023) has sizes only, netgraph needs 250 MB, and rustworkx (65 MB) has no
layered layout.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from tritonforge.graph.layering import Arc, Layering, Link, Vertex, build_layering

__all__ = ["Layout", "Point", "Route", "place"]

#: Pixels between boxes of a layer, beside a waypoint, and between layers.
GAP: Final = 28.0
WAYPOINT_GAP: Final = 16.0
LAYER_GAP: Final = 32.0
#: The pixels that a layer's distance grows by for a link that leads this many pixels to the side.
_SLOPE: Final = 14.0
_MAXIMAL_LAYER_GAP: Final = 90.0
_ROUNDS: Final = 20


@dataclass(frozen=True, slots=True)
class Point:
    """A point in pixels, from the top left."""

    x: float
    y: float


@dataclass(frozen=True, slots=True)
class Route:
    """The way of an arc from its source to its target.

    Pairs of points: it leads straight between the two points of a pair, and bends, vertical at both ends, from one
    pair to the next.
    """

    points: Sequence[Point]


@dataclass(frozen=True, slots=True)
class Layout:
    """The top left corner of every vertex, and the way of every arc."""

    corners: Sequence[Point]
    routes: Sequence[Route]
    width: float
    height: float


def place(
    vertices: Sequence[Vertex], arcs: Sequence[Arc], *, top: Collection[int] = (), bottom: Collection[int] = ()
) -> Layout:
    """Return where to draw a graph, from top to bottom; the same for the same arguments.

    ``top`` and ``bottom`` are vertices for the first and the last layer, as in `build_layering`.
    """
    layering = build_layering(vertices, arcs, top=top, bottom=bottom)
    lefts = _place_columns(layering, vertices)
    tops, heights = _place_rows(layering, vertices, lefts)
    rank = {vertex: number for number, layer in enumerate(layering.layers) for vertex in layer}
    corners = [
        Point(lefts[vertex], round(tops[rank[vertex]] + (heights[rank[vertex]] - box.height) / 2))
        for vertex, box in enumerate(vertices)
    ]
    rows = [(top_, top_ + height) for top_, height in zip(tops, heights, strict=True)]
    routes = []
    for path, is_reversed in zip(layering.paths, layering.is_reversed, strict=True):
        points = _route(path, vertices, lefts, corners, rows, rank)
        routes.append(Route(points[::-1] if is_reversed else points))
    width = max((lefts[vertex] + box.width for vertex, box in enumerate(vertices)), default=0.0)
    width = max([width, *lefts.values()])
    height = tops[-1] + heights[-1] if tops else 0.0
    return Layout(corners, routes, width, height)


def _place_columns(layering: Layering, vertices: Sequence[Vertex]) -> dict[int, float]:
    """Return the left side of every vertex and the place of every waypoint, in whole pixels from 0."""
    count = len(vertices)
    lefts: dict[int, float] = {}
    for layer in layering.layers:
        at = 0.0
        for vertex, step in zip(layer, [*_list_distances(layer, vertices), 0.0], strict=True):
            lefts[vertex] = at
            at += step
    upward: dict[int, list[tuple[int, float, float]]] = {vertex: [] for vertex in lefts}
    downward: dict[int, list[tuple[int, float, float]]] = {vertex: [] for vertex in lefts}
    for link in layering.links:
        weight = _weigh(link, count)
        upward[link.lower].append((link.upper, link.upper_offset - link.lower_offset, weight))
        downward[link.upper].append((link.lower, link.lower_offset - link.upper_offset, weight))
    ranks = range(len(layering.layers))
    for round_ in range(_ROUNDS):
        is_last = round_ >= _ROUNDS - 4
        for rank in ranks if round_ % 2 == 0 else reversed(ranks):
            layer = layering.layers[rank]
            wanted, weights = [], []
            for vertex in layer:
                neighbours = upward[vertex] if round_ % 2 == 0 else downward[vertex]
                if is_last or not neighbours:
                    neighbours = [*upward[vertex], *downward[vertex]]
                total = sum(weight for _, _, weight in neighbours)
                mean = sum((lefts[other] + shift) * weight for other, shift, weight in neighbours)
                wanted.append(mean / total if total else lefts[vertex])
                weights.append(total or 0.01)
            lefts |= zip(layer, _spread(wanted, weights, _list_distances(layer, vertices)), strict=True)
    least = min(lefts.values(), default=0.0)
    return {vertex: float(round(left - least)) for vertex, left in lefts.items()}


def _weigh(link: Link, count: int) -> float:
    """Return how much a link should be vertical: most of all between two waypoints."""
    return (1.0, 3.0, 8.0)[(link.upper >= count) + (link.lower >= count)]


def _list_distances(layer: Sequence[int], vertices: Sequence[Vertex]) -> list[float]:
    """Return the least distance between the left sides of neighbours in a layer."""
    count = len(vertices)
    distances = []
    for left, right in pairwise(layer):
        gap = WAYPOINT_GAP if left >= count or right >= count else GAP
        distances.append((vertices[left].width if left < count else 0.0) + gap)
    return distances


def _spread(wanted: Sequence[float], weights: Sequence[float], distances: Sequence[float]) -> list[float]:
    """Return the places nearest to the wanted ones, by weighted squares, that are in order and far enough apart."""
    shifts = [0.0]
    for distance in distances:
        shifts.append(shifts[-1] + distance)
    pools: list[tuple[float, float, int]] = []  # mean, weight, number of members
    for place_, weight, shift in zip(wanted, weights, shifts, strict=False):
        mean, total, members = place_ - shift, weight, 1
        while pools and pools[-1][0] > mean:
            other, other_total, other_members = pools.pop()
            mean = (mean * total + other * other_total) / (total + other_total)
            total += other_total
            members += other_members
        pools.append((mean, total, members))
    means = [mean for mean, _, members in pools for _ in range(members)]
    return [mean + shift for mean, shift in zip(means, shifts, strict=False)]


def _place_rows(
    layering: Layering, vertices: Sequence[Vertex], lefts: dict[int, float]
) -> tuple[list[float], list[float]]:
    """Return the top and the height of every layer."""
    count = len(vertices)
    rank = {vertex: number for number, layer in enumerate(layering.layers) for vertex in layer}
    widest = [0.0] * len(layering.layers)
    for link in layering.links:
        aside = abs(lefts[link.upper] + link.upper_offset - lefts[link.lower] - link.lower_offset)
        widest[rank[link.upper]] = max(widest[rank[link.upper]], aside)
    tops, heights = [], []
    at = 0.0
    for number, layer in enumerate(layering.layers):
        height = max((vertices[vertex].height for vertex in layer if vertex < count), default=0.0)
        tops.append(at)
        heights.append(height)
        at += height + round(min(LAYER_GAP + widest[number] / _SLOPE, _MAXIMAL_LAYER_GAP))
    return tops, heights


def _route(
    path: Sequence[Link],
    vertices: Sequence[Vertex],
    lefts: dict[int, float],
    corners: Sequence[Point],
    rows: Sequence[tuple[float, float]],
    rank: dict[int, int],
) -> list[Point]:
    """Return the points of an arc from the bottom of its upper vertex to the top of its lower one."""
    first, last = path[0], path[-1]
    x = lefts[first.upper] + first.upper_offset
    points = [
        Point(x, corners[first.upper].y + vertices[first.upper].height),
        Point(x, rows[rank[first.upper]][1]),
    ]
    for link in path[:-1]:
        top, bottom = rows[rank[link.lower]]
        points += [Point(lefts[link.lower], top), Point(lefts[link.lower], bottom)]
    x = lefts[last.lower] + last.lower_offset
    return [*points, Point(x, rows[rank[last.lower]][0]), Point(x, corners[last.lower].y)]
