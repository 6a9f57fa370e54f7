"""The shapes of a picture, with places in pixels: boxes, edges, texts and the badges of findings. No I/O."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final, Literal, TypeAlias

from tritonforge.graph.placement import Point
from tritonforge.validation.findings import Severity

__all__ = ["SMALL", "TINY", "TITLE", "Badge", "Box", "BoxKind", "Curve", "Picture", "Space", "Text"]

BoxKind: TypeAlias = Literal["frame", "model", "missing", "called", "input", "output", "tensor", "label"]

#: Sizes of fonts.
TITLE: Final = 13.0
SMALL: Final = 10.5
TINY: Final = 9.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """A line of text; ``x`` is its start or its middle, ``y`` its baseline."""

    x: float
    y: float
    text: str
    size: float = SMALL
    bold: bool = False
    muted: bool = False
    centred: bool = True
    #: The text is above a line and needs a background.
    covers: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Badge:
    """The sign of a finding: its number in the list and its code; ``x`` and ``y`` are its top left corner."""

    x: float
    y: float
    width: float
    text: str
    severity: Severity


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A box; ``severity`` is that of its worst finding, and ``hint`` is what a viewer shows for it.

    ``key`` is that of the node, after the keys of the diagrams around it: ``outer/step:1/tensor:pixels``. A box of kind
    "label" has no outline: it is the place of an edge's text.
    """

    key: str
    kind: BoxKind
    x: float
    y: float
    width: float
    height: float
    hint: str = ""
    severity: Severity | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """An edge: pairs of points as in `placement.Route`, with a head at the last one if ``has_head``."""

    points: tuple[Point, ...]
    is_dashed: bool = False
    has_head: bool = False
    hint: str = ""
    severity: Severity | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """An empty place in the box of a node, for what a page shows there; ``key`` is that of the box."""

    key: str
    x: float
    y: float
    width: float
    height: float


@dataclass(slots=True)
class Picture:
    """The shapes of a picture; frames come before what is in them."""

    width: float = 0.0
    height: float = 0.0
    boxes: list[Box] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)
    texts: list[Text] = field(default_factory=list)
    badges: list[Badge] = field(default_factory=list)
    spaces: list[Space] = field(default_factory=list)

    def add(self, other: Picture, x: float, y: float) -> None:
        """Add the shapes of another picture at a place."""
        self.boxes += [replace(box, x=box.x + x, y=box.y + y) for box in other.boxes]
        self.texts += [replace(text, x=text.x + x, y=text.y + y) for text in other.texts]
        self.badges += [replace(badge, x=badge.x + x, y=badge.y + y) for badge in other.badges]
        self.spaces += [replace(space, x=space.x + x, y=space.y + y) for space in other.spaces]
        for curve in other.curves:
            points = tuple(Point(point.x + x, point.y + y) for point in curve.points)
            self.curves.append(replace(curve, points=points))
