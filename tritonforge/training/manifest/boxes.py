"""Boxes: labelled rectangles of an image, in whole pixels or parts of them, and what can be wrong with them. No I/O.

As Ground Truth writes them: ``{"image_size": [{"width", "height", "depth"}], "annotations": [{"class_id", "left",
"top", "width", "height"}]}``. Source: SageMaker developer guide, "Labeling job output data", bounding box job output.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from tritonforge.training.manifest.values import Json

__all__ = [
    "Box",
    "Boxes",
    "Fault",
    "ImageSize",
    "faults",
    "is_count",
    "is_number",
    "read_boxes",
    "readable_boxes",
    "written_boxes",
]

#: Numbers up to here are exact in every reader of JSON. Source: RFC 8259, section 6.
_LARGEST: Final = 2**53

#: Parts of a pixel by which a sum of two numbers may be off, as they are binary fractions.
_ROUNDING: Final = 1e-6


class Fault(NamedTuple):
    """What is wrong inside a value: where in it, "" for all of it, and what."""

    path: str
    what: str


@dataclass(frozen=True, slots=True)
class ImageSize:
    """The size of an image in pixels, and its channels."""

    width: int
    height: int
    depth: int = 3


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle, in pixels from the upper left corner of its image, and the class of what is in it."""

    class_id: int
    left: float
    top: float
    width: float
    height: float

    @property
    def right(self) -> float:
        """The first pixel to the right of it."""
        return self.left + self.width

    @property
    def bottom(self) -> float:
        """The first pixel below it."""
        return self.top + self.height


@dataclass(frozen=True, slots=True)
class Boxes:
    """The boxes of an image, none for one that shows nothing of any class."""

    size: ImageSize
    boxes: tuple[Box, ...] = ()


def read_boxes(value: Json) -> tuple[Boxes | None, list[Fault]]:
    """The boxes of a value, or everything that is wrong with it: one of the two is empty."""
    if not isinstance(value, dict):
        return None, [Fault("", 'must be {"image_size": [...], "annotations": [...]}')]
    found: list[Fault] = []
    size = _size(value.get("image_size"), found)
    annotations = value.get("annotations")
    boxes = []
    if not isinstance(annotations, list):
        found.append(Fault("annotations", "must be a list of boxes"))
        annotations = []
    for index, each in enumerate(annotations):
        path = f"annotations[{index}]"
        box = _box(each, path, found)
        if box is not None:
            boxes.append(box)
            found += [Fault(path, what) for what in faults(box, size)]
    if found or size is None:
        return None, found
    return Boxes(size, tuple(boxes)), []


def readable_boxes(value: Json) -> tuple[ImageSize | None, tuple[Box, ...]]:
    """As much of a value as can be read, for who looks at what is wrong: boxes outside of the image, too."""
    if not isinstance(value, dict):
        return None, ()
    annotations = value.get("annotations")
    given: list[Any] = annotations if isinstance(annotations, list) else []
    boxes = (_box(each, "", []) for each in given)
    return _size(value.get("image_size"), []), tuple(box for box in boxes if box is not None)


def written_boxes(boxes: Boxes) -> dict[str, Any]:
    """The value that Ground Truth writes for boxes."""
    size = boxes.size
    return {
        "image_size": [{"width": size.width, "height": size.height, "depth": size.depth}],
        "annotations": [
            {"class_id": box.class_id, "left": box.left, "top": box.top, "width": box.width, "height": box.height}
            for box in boxes.boxes
        ],
    }


def faults(box: Box, size: ImageSize | None) -> Iterator[str]:
    """What is wrong with a box in an image: it must have an area, and lie inside."""
    if box.width <= 0 or box.height <= 0:
        yield f"the box is empty: {number(box.width)} x {number(box.height)} pixels"
    if box.left < 0 or box.top < 0:
        yield f"the box begins outside the image, at ({number(box.left)}, {number(box.top)})"
    if size is not None and box.width > 0 and box.right > size.width + _ROUNDING:
        yield f"the box reaches to x={number(box.right)}, outside the image, which is {size.width} pixels wide"
    if size is not None and box.height > 0 and box.bottom > size.height + _ROUNDING:
        yield f"the box reaches to y={number(box.bottom)}, outside the image, which is {size.height} pixels high"


def is_number(value: object) -> bool:
    """Whether a value is a number of at most 2**53, which true and false are not."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and -_LARGEST <= value <= _LARGEST


def is_count(value: object, least: int = 0) -> bool:
    """Whether a value is a whole number of at least this, and at most 2**53."""
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= _LARGEST


def number(value: float) -> str:
    """A number as a message shows it."""
    return f"{value:.10g}"


def _size(value: Json, found: list[Fault]) -> ImageSize | None:
    if value is None:
        found.append(Fault("image_size", "the size of the image is missing"))
        return None
    if not isinstance(value, list) or len(value) != 1 or not isinstance(value[0], dict):
        found.append(Fault("image_size", 'must be a list of one {"width": ..., "height": ..., "depth": ...}'))
        return None
    size = value[0]
    wrong = [name for name in ("width", "height") if not is_count(size.get(name), 1)]
    if "depth" in size and not is_count(size["depth"], 1):
        wrong.append("depth")
    found += [Fault(f"image_size[0].{name}", "must be a whole number of at least 1") for name in wrong]
    return None if wrong else ImageSize(size["width"], size["height"], size.get("depth", 3))


def _box(value: Json, path: str, found: list[Fault]) -> Box | None:
    if not isinstance(value, dict):
        found.append(Fault(path, "must be an object with class_id, left, top, width and height"))
        return None
    before = len(found)
    if not is_count(value.get("class_id")):
        found.append(Fault(f"{path}.class_id", "must be a whole number of at least 0"))
    sides = [name for name in ("left", "top", "width", "height") if not is_number(value.get(name))]
    found += [Fault(f"{path}.{name}", "must be a number of pixels") for name in sides]
    if len(found) > before:
        return None
    return Box(value["class_id"], value["left"], value["top"], value["width"], value["height"])
