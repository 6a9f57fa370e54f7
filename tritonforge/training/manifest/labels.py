"""Boxes: labelled rectangles of an image, in whole pixels or parts of them, and what can be wrong with them. No I/O.

As Ground Truth writes them: ``{"image_size": [{"width", "height", "depth"}], "annotations": [{"class_id", "left",
"top", "width", "height"}]}``. Source: SageMaker developer guide, "Labeling job output data", bounding box job output.

Labels: what the attributes of a line say of its image, as Ground Truth writes it. No I/O.

A label is an attribute beside which ``<name>-metadata`` tells its type; boxes are known by their shape as well. What is
of no known type passes through unharmed. Source: SageMaker developer guide, "Labeling job output data".

A labelled image: its boxes and the names of their classes, in whatever file they stand. No I/O.

What every conversion goes through: a line becomes one, and it becomes a line.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from tritonforge.errors import ManifestError
from tritonforge.training.manifest.lines import Json, Line, check_reference

__all__ = [
    "DEFAULT_LABEL",
    "METADATA_SUFFIX",
    "SOURCE_ATTRIBUTE",
    "Box",
    "Boxes",
    "Fault",
    "ImageSize",
    "Kind",
    "LabelledImage",
    "build_line",
    "check_box",
    "classify_label",
    "encode_boxes",
    "find_labels",
    "get_metadata",
    "is_count",
    "is_number",
    "join_source",
    "list_classes",
    "read_boxes",
    "read_class_names",
    "read_label_boxes",
    "read_labelled_image",
    "read_valid_boxes",
    "relative_name",
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
            found += [Fault(path, what) for what in check_box(box, size)]
    if found or size is None:
        return None, found
    return Boxes(size, tuple(boxes)), []


def read_valid_boxes(value: Json) -> tuple[ImageSize | None, tuple[Box, ...]]:
    """As much of a value as can be read, for who looks at what is wrong: boxes outside of the image, too."""
    if not isinstance(value, dict):
        return None, ()
    annotations = value.get("annotations")
    given: list[Any] = annotations if isinstance(annotations, list) else []
    boxes = (_box(each, "", []) for each in given)
    return _size(value.get("image_size"), []), tuple(box for box in boxes if box is not None)


def encode_boxes(boxes: Boxes) -> dict[str, Any]:
    """The value that Ground Truth writes for boxes."""
    size = boxes.size
    return {
        "image_size": [{"width": size.width, "height": size.height, "depth": size.depth}],
        "annotations": [
            {"class_id": box.class_id, "left": box.left, "top": box.top, "width": box.width, "height": box.height}
            for box in boxes.boxes
        ],
    }


def check_box(box: Box, size: ImageSize | None) -> Iterator[str]:
    """What is wrong with a box in an image: it must have an area, and lie inside."""
    if box.width <= 0 or box.height <= 0:
        yield f"the box is empty: {format_number(box.width)} x {format_number(box.height)} pixels"
    if box.left < 0 or box.top < 0:
        yield f"the box begins outside the image, at ({format_number(box.left)}, {format_number(box.top)})"
    if size is not None and box.width > 0 and box.right > size.width + _ROUNDING:
        yield f"the box reaches to x={format_number(box.right)}, outside the image, which is {size.width} pixels wide"
    if size is not None and box.height > 0 and box.bottom > size.height + _ROUNDING:
        yield f"the box reaches to y={format_number(box.bottom)}, outside the image, which is {size.height} pixels high"


def is_number(value: object) -> bool:
    """Whether a value is a number of at most 2**53, which true and false are not."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and -_LARGEST <= value <= _LARGEST


def is_count(value: object, least: int = 0) -> bool:
    """Whether a value is a whole number of at least this, and at most 2**53."""
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= _LARGEST


def format_number(value: float) -> str:
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


METADATA_SUFFIX: Final = "-metadata"

Kind: TypeAlias = Literal["classification", "multi-label", "boxes", "segmentation"]

#: The type of each job of which more is known than its name; with an underscore as one page of the guide has it.
_KINDS: Final[Mapping[str, Kind]] = {
    "groundtruth/image-classification": "classification",
    "groundtruth/text-classification": "classification",
    "groundtruth/label-verification": "classification",
    "groundtruth/image-classification-multilabel": "multi-label",
    "groundtruth/text-classification-multilabel": "multi-label",
    "groundtruth/object-detection": "boxes",
    "groundtruth/object_detection": "boxes",
    "groundtruth/semantic-segmentation": "segmentation",
}

_SOURCES: Final = ("source", "source-ref")


def classify_label(line: Line, name: str) -> Kind | None:
    """What kind of label an attribute is; None for what is no label, or of another kind."""
    if name not in line.attributes or name.endswith(METADATA_SUFFIX) or name in _SOURCES:
        return None
    told = get_metadata(line, name).get("type")
    if isinstance(told, str):
        return _KINDS.get(told)
    value = line.attributes[name]
    if isinstance(value, dict) and isinstance(value.get("annotations"), list):
        first = next(iter(value["annotations"]), None)
        if "image_size" in value or (isinstance(first, dict) and {"left", "top", "width", "height"} & set(first)):
            return "boxes"
    return None


def find_labels(line: Line, wanted: Kind | None = None) -> Iterator[str]:
    """The attributes of a line that are labels, of one kind or of any."""
    for name in line.attributes:
        found = classify_label(line, name)
        if found is not None and wanted in (None, found):
            yield name


def get_metadata(line: Line, name: str) -> Mapping[str, Any]:
    """What ``<name>-metadata`` says of a label, nothing where it is not there."""
    value = line.attributes.get(name + METADATA_SUFFIX)
    return value if isinstance(value, dict) else {}


def read_label_boxes(line: Line, name: str) -> Boxes | None:
    """The boxes of a label, None where the line does not have it. Raises ManifestError where it is no good label."""
    if name not in line.attributes:
        return None
    boxes, found = read_boxes(line.attributes[name])
    if boxes is None:
        path, what = found[0]
        raise line.error(name, f"{path}: {what}" if path else what)
    return boxes


def read_class_names(line: Line, name: str) -> dict[int, str]:
    """The name of each class that the metadata of a label tells: its class map, or its one class."""
    metadata = get_metadata(line, name)
    if classify_label(line, name) == "classification":
        classes, told = list_classes(line, name), metadata.get("class-name")
        return {classes[0]: told} if classes and isinstance(told, str) else {}
    return read_class_map(metadata.get("class-map"))


def list_classes(line: Line, name: str) -> list[int]:
    """The classes of a label, one for each box; those that are no numbers left out."""
    value = line.attributes.get(name)
    given: list[Json] = [value]
    if isinstance(value, dict):
        annotations = value.get("annotations")
        listed: list[Any] = annotations if isinstance(annotations, list) else []
        given = [each.get("class_id") for each in listed if isinstance(each, dict)]
    elif isinstance(value, list):
        given = value
    return [number for number in (parse_class_number(each) for each in given) if number is not None]


def read_class_map(class_map: Json) -> dict[int, str]:
    """A class map by number, without what is no number or no name."""
    if not isinstance(class_map, dict):
        return {}
    numbered = ((parse_class_number(key), name) for key, name in class_map.items())
    return {number: name for number, name in numbered if number is not None and isinstance(name, str)}


def parse_class_number(value: Json) -> int | None:
    """A class as a number: Ground Truth writes 0 as well as "0"."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10:
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


#: The attribute that names the image, and the one that a label gets where nothing is said; both as AWS's pages have it.
SOURCE_ATTRIBUTE: Final = "source-ref"
DEFAULT_LABEL: Final = "bounding-box"

_TYPE: Final = "groundtruth/object-detection"


@dataclass(frozen=True, slots=True)
class LabelledImage:
    """An image by its address, its boxes, and the names of classes, which need not be all."""

    source: str
    boxes: Boxes
    names: Mapping[int, str] = field(default_factory=dict)


def read_labelled_image(line: Line, label: str) -> LabelledImage | None:
    """The labelled image of a line, None where the line does not have the label (yet).

    Raises ManifestError with the line and the attribute: boxes that are empty or outside of their image, an image
    without its size, a line that names no image.
    """
    boxes = read_label_boxes(line, label)
    if boxes is None:
        return None
    source = line.attributes.get(SOURCE_ATTRIBUTE)
    if not isinstance(source, str) or check_reference(source, local=True):
        raise line.error(SOURCE_ATTRIBUTE, check_reference(source, local=True) or "the line names no image")
    return LabelledImage(source, boxes, read_class_names(line, label))


def build_line(image: LabelledImage, number: int, *, label: str = DEFAULT_LABEL) -> Line:
    """The line of an augmented manifest for an image.

    Its metadata have the type and the names of the classes. Who labelled it, and when, are not known, nor how sure
    anybody is; so those are not there.
    """
    metadata: dict[str, Any] = {"class-map": {str(key): image.names[key] for key in sorted(image.names)}}
    if not image.names:
        metadata = {}
    attributes: dict[str, Any] = {SOURCE_ATTRIBUTE: image.source, label: encode_boxes(image.boxes)}
    attributes[label + METADATA_SUFFIX] = {**metadata, "type": _TYPE}
    return Line(number, attributes)


def relative_name(source: str, images: str = "") -> str:
    """What an image is called below a folder; without one, the last part of its address.

    Raises ManifestError where the image does not lie below the folder.

    >>> file_name("s3://b/train/a/1.jpg", "s3://b/train"), file_name("s3://b/train/a/1.jpg")
    ('a/1.jpg', '1.jpg')
    """
    if not images:
        return source.rstrip("/").rpartition("/")[2]
    folder = images.rstrip("/") + "/"
    name = source[len(folder) :]
    if not source.startswith(folder) or not name:
        raise ManifestError(f"{source} does not lie below {folder}", attribute=SOURCE_ATTRIBUTE)
    return name


def join_source(name: str, images: str) -> str:
    """The address of an image below a folder; the reverse of `file_name`."""
    return f"{images.rstrip('/')}/{name}" if images else name
