"""Assign the vertices of a directed graph to layers and order them there, as Sugiyama's method does. No I/O.

Source: Sugiyama, Tagawa, Toda, "Methods for Visual Understanding of Hierarchical System Structures" (1981): break
cycles, layer by longest paths, insert a waypoint where an arc passes a layer, and order by barycentres.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tritonforge.errors import DefinitionError

__all__ = ["Arc", "Layering", "Link", "Vertex", "build_layering", "count_crossings"]

_ROUNDS: Final = 12
#: Waypoints of one graph; laying out more takes many seconds.
MAXIMAL_WAYPOINTS: Final = 20_000


@dataclass(frozen=True, slots=True)
class Vertex:
    """A box to place; width and height in pixels."""

    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Arc:
    """An arc between two vertices by index; it is attached at these distances from their left sides, in pixels."""

    source: int
    target: int
    source_offset: float
    target_offset: float


@dataclass(frozen=True, slots=True)
class Link:
    """A piece of an arc between two vertices or waypoints of neighbouring layers, the upper one first."""

    upper: int
    lower: int
    upper_offset: float
    lower_offset: float


@dataclass(frozen=True, slots=True)
class Layering:
    """Layers of vertices, from left to right; indexes from the number of the vertices on are waypoints.

    ``paths`` has the links of every arc, from its upper end to its lower one; ``is_reversed`` is True for arcs that
    lead upwards, which are part of a cycle.
    """

    layers: Sequence[Sequence[int]]
    links: Sequence[Link]
    paths: Sequence[Sequence[Link]]
    is_reversed: Sequence[bool]


def build_layering(
    vertices: Sequence[Vertex], arcs: Sequence[Arc], *, top: Collection[int] = (), bottom: Collection[int] = ()
) -> Layering:
    """Return layers in which every arc leads downwards, except those that close a cycle.

    Vertices of ``top`` that no arc leads to are in the first layer, those of ``bottom`` that none leaves in the last
    one; all others are between. The result depends on the order
    of the arguments only.

    Raises:
        DefinitionError: long arcs need more than `MAXIMAL_WAYPOINTS` waypoints.
    """
    is_reversed = _find_cycles(len(vertices), arcs)
    downward = [
        Arc(arc.target, arc.source, arc.target_offset, arc.source_offset) if reverse else arc
        for arc, reverse in zip(arcs, is_reversed, strict=True)
    ]
    ranks = _rank(len(vertices), downward, top, bottom)
    layers, links, paths = _insert_waypoints(len(vertices), downward, ranks)
    return Layering(_order(layers, links, vertices), links, paths, is_reversed)


def count_crossings(layering: Layering) -> int:
    """Return the number of crossings between links."""
    return _count(layering.layers, _group_by_layer(layering.layers, layering.links))


def _find_cycles(count: int, arcs: Sequence[Arc]) -> list[bool]:
    """Return for every arc if it leads back to a vertex that a depth-first search is inside of."""
    leaving: list[list[int]] = [[] for _ in range(count)]
    for index, arc in enumerate(arcs):
        leaving[arc.source].append(index)
    is_reversed = [False] * len(arcs)
    state = [0] * count  # 0 not visited, 1 inside, 2 left
    entered = {arc.target for arc in arcs}
    for root in sorted(range(count), key=lambda vertex: vertex in entered):
        if state[root]:
            continue
        state[root] = 1
        stack: list[tuple[int, Iterator[int]]] = [(root, iter(leaving[root]))]
        while stack:
            vertex, rest = stack[-1]
            index = next(rest, -1)
            if index < 0:
                state[vertex] = 2
                stack.pop()
                continue
            target = arcs[index].target
            if state[target] == 1:
                is_reversed[index] = True
            elif state[target] == 0:
                state[target] = 1
                stack.append((target, iter(leaving[target])))
    return is_reversed


def _rank(count: int, arcs: Sequence[Arc], top: Collection[int], bottom: Collection[int]) -> list[int]:
    """Return the layer of every vertex: as high as it can be, and sources next to what reads them."""
    successors: list[list[int]] = [[] for _ in range(count)]
    missing = [0] * count
    for arc in arcs:
        if arc.source != arc.target:
            successors[arc.source].append(arc.target)
            missing[arc.target] += 1
    entering = list(missing)
    ranks = [0] * count
    order = [vertex for vertex in range(count) if not missing[vertex]]
    for vertex in order:
        for target in successors[vertex]:
            ranks[target] = max(ranks[target], ranks[vertex] + 1)
            missing[target] -= 1
            if not missing[target]:
                order.append(target)
    top = [vertex for vertex in top if not entering[vertex]]
    bottom = [vertex for vertex in bottom if not successors[vertex]]
    for vertex in reversed(order):
        if successors[vertex] and not entering[vertex]:
            ranks[vertex] = min(ranks[target] for target in successors[vertex]) - 1
    if top and any(ranks[vertex] == 0 for vertex in range(count) if vertex not in top):
        ranks = [0 if vertex in top else rank + 1 for vertex, rank in enumerate(ranks)]
    else:
        ranks = [0 if vertex in top else rank for vertex, rank in enumerate(ranks)]
    last = max(ranks, default=0)
    if bottom and any(ranks[vertex] == last for vertex in range(count) if vertex not in bottom):
        last += 1
    return [last if vertex in bottom else rank for vertex, rank in enumerate(ranks)]


def _insert_waypoints(
    count: int, arcs: Sequence[Arc], ranks: Sequence[int]
) -> tuple[list[list[int]], list[Link], list[list[Link]]]:
    """Return the layers with waypoints; arcs that leave a vertex at the same place share theirs."""
    layers: list[list[int]] = [[] for _ in range(max(ranks, default=-1) + 1)]
    for vertex in range(count):
        layers[ranks[vertex]].append(vertex)
    links: dict[Link, None] = {}
    paths: list[list[Link]] = []
    waypoints: dict[tuple[int, float, int], int] = {}
    for arc in arcs:
        path: list[Link] = []
        at, offset = arc.source, arc.source_offset
        for rank in range(ranks[arc.source] + 1, ranks[arc.target]):
            key = (arc.source, arc.source_offset, rank)
            if key not in waypoints:
                if len(waypoints) == MAXIMAL_WAYPOINTS:
                    raise DefinitionError(
                        "the graph has too many long edges for a picture. Choose what to draw with --model NAME, or "
                        "use the formats text, json, mermaid or dot"
                    )
                waypoints[key] = count + len(waypoints)
                layers[rank].append(waypoints[key])
            path.append(Link(at, waypoints[key], offset, 0.0))
            at, offset = waypoints[key], 0.0
        path.append(Link(at, arc.target, offset, arc.target_offset))
        links |= dict.fromkeys(path)
        paths.append(path)
    return layers, list(links), paths


def _group_by_layer(layers: Sequence[Sequence[int]], links: Sequence[Link]) -> list[list[Link]]:
    rank = {vertex: number for number, layer in enumerate(layers) for vertex in layer}
    grouped: list[list[Link]] = [[] for _ in layers]
    for link in links:
        grouped[rank[link.upper]].append(link)
    return grouped


def _order(layers: list[list[int]], links: Sequence[Link], vertices: Sequence[Vertex]) -> list[list[int]]:
    """Return the layers in the order with the fewest crossings of several rounds, downwards and upwards."""
    below = _group_by_layer(layers, links)
    best, fewest = [list(layer) for layer in layers], _count(layers, below)
    current = [list(layer) for layer in layers]
    for round_ in range(_ROUNDS):
        if not fewest:
            break
        if round_ % 2 == 0:
            for rank in range(1, len(current)):
                ends = [(link.lower, link.lower_offset, link.upper, link.upper_offset) for link in below[rank - 1]]
                _sort_layer(current, rank, rank - 1, ends, vertices)
        else:
            for rank in range(len(current) - 2, -1, -1):
                ends = [(link.upper, link.upper_offset, link.lower, link.lower_offset) for link in below[rank]]
                _sort_layer(current, rank, rank + 1, ends, vertices)
        crossings = _count(current, below)
        if crossings < fewest:
            best, fewest = [list(layer) for layer in current], crossings
    return best


def _sort_layer(
    layers: list[list[int]],
    rank: int,
    fixed: int,
    ends: Sequence[tuple[int, float, int, float]],
    vertices: Sequence[Vertex],
) -> None:
    """Sort a layer by the mean place of the neighbours of its vertices in a fixed layer."""
    place = {vertex: number for number, vertex in enumerate(layers[fixed])}
    sums: dict[int, list[float]] = {}
    for vertex, _, neighbour, offset in ends:
        width = vertices[neighbour].width if neighbour < len(vertices) else 0.0
        fraction = offset / width if width else 0.5
        sums.setdefault(vertex, []).append(place[neighbour] + fraction)
    last = -1.0
    keys: dict[int, float] = {}
    for vertex in layers[rank]:  # a vertex without neighbours stays behind the one to its left
        values = sums.get(vertex)
        last = sum(values) / len(values) if values else last
        keys[vertex] = last
    layers[rank].sort(key=keys.__getitem__)


def _count(layers: Sequence[Sequence[int]], below: Sequence[Sequence[Link]]) -> int:
    crossings = 0
    for rank in range(len(layers) - 1):
        upper = {vertex: number for number, vertex in enumerate(layers[rank])}
        lower = {vertex: number for number, vertex in enumerate(layers[rank + 1])}
        crossings += _count_between(upper, lower, below[rank])
    return crossings


def _count_between(upper: Mapping[int, int], lower: Mapping[int, int], links: Sequence[Link]) -> int:
    ends = sorted(((upper[link.upper], link.upper_offset), (lower[link.lower], link.lower_offset)) for link in links)
    crossings = 0
    seen: list[tuple[int, float]] = []
    start = 0
    while start < len(ends):  # links from the same place do not cross
        stop = start
        while stop < len(ends) and ends[stop][0] == ends[start][0]:
            crossings += len(seen) - bisect_right(seen, ends[stop][1])
            stop += 1
        for _, end in ends[start:stop]:
            insort(seen, end)
        start = stop
    return crossings
