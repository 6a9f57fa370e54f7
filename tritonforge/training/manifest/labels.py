"""Labels of images as Ground Truth writes them: bounding boxes, classes, and labelled images. No I/O.

A label is an attribute of a line; ``<name>-metadata`` states its type, and bounding boxes are recognized by their shape
as well. Attributes of an unknown type are kept unchanged.

The value of a bounding box label is ``{"image_size": [{"width", "height", "depth"}], "annotations": [{"class_id",
"left", "top", "width", "height"}]}``, in pixels. Source: SageMaker developer guide, "Labeling job output data".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from tritonforge.errors import ManifestError
from tritonforge.training.manifest.lines import Json, Line, check_reference

__all__ = [
    "DEFAULT_LABEL", "METADATA_SUFFIX", "SOURCE_ATTRIBUTE", "Box", "Boxes", "Fault", "ImageSize", "Kind",
    "LabelledImage", "build_line", "check_box", "classify_label", "encode_boxes", "find_labels", "get_metadata",
    "is_count", "is_number", "join_source", "list_classes", "parse_class_number", "read_boxes", "read_class_map",
    "read_class_names", "read_label_boxes", "read_labelled_image", "read_valid_boxes", "relative_name",
]  # fmt: skip

#: The attribute that names the image, and the default name of a label; both from AWS's documentation.
SOURCE_ATTRIBUTE: Final = "source-ref"
DEFAULT_LABEL: Final = "bounding-box"

METADATA_SUFFIX: Final = "-metadata"

Kind: TypeAlias = Literal["classification", "multi-label", "boxes", "segmentation"]

#: The kind of label of each known job type; one page of the guide spells one with an underscore.
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
_DETECTION: Final = "groundtruth/object-detection"
_SOURCES: Final = ("source", SOURCE_ATTRIBUTE)

#: Numbers up to here are exact in every parser of JSON. Source: RFC 8259, section 6.
_MAX_EXACT: Final = 2**53

#: Tolerance in pixels for the sum of two binary fractions.
_TOLERANCE: Final = 1e-6


class Fault(NamedTuple):
    """A problem inside a value: its path in it, "" for all of it, and one sentence."""

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
    """A rectangle in pixels from the upper left corner of its image, and the class of the object in it."""

    class_id: int
    left: float
    top: float
    width: float
    height: float

    @property
    def right(self) -> float:
        """The x coordinate of the right edge, exclusive."""
        return self.left + self.width

    @property
    def bottom(self) -> float:
        """The y coordinate of the lower edge, exclusive."""
        return self.top + self.height


@dataclass(frozen=True, slots=True)
class Boxes:
    """The boxes of an image, empty for an image without objects."""

    size: ImageSize
    boxes: tuple[Box, ...] = ()


def read_boxes(value: Json) -> tuple[Boxes | None, list[Fault]]:
    """Read the boxes of a value, or collect everything that is wrong with it: one of the two results is empty."""
    if not isinstance(value, dict):
        return None, [Fault("", 'must be {"image_size": [...], "annotations": [...]}')]
    faults: list[Fault] = []
    size = _read_size(value.get("image_size"), faults)
    annotations = value.get("annotations")
    boxes = []
    if not isinstance(annotations, list):
        faults.append(Fault("annotations", "must be a list of boxes"))
        annotations = []
    for index, annotation in enumerate(annotations):
        path = f"annotations[{index}]"
        box = _read_box(annotation, path, faults)
        if box is not None:
            boxes.append(box)
            faults += [Fault(path, what) for what in check_box(box, size)]
    if faults or size is None:
        return None, faults
    return Boxes(size, tuple(boxes)), []


def read_valid_boxes(value: Json) -> tuple[ImageSize | None, tuple[Box, ...]]:
    """Read as much of an invalid value as possible, boxes outside the image included, so that it can be shown."""
    if not isinstance(value, dict):
        return None, ()
    annotations = value.get("annotations")
    items: list[Any] = annotations if isinstance(annotations, list) else []
    boxes = (_read_box(item, "", []) for item in items)
    return _read_size(value.get("image_size"), []), tuple(box for box in boxes if box is not None)


def encode_boxes(boxes: Boxes) -> dict[str, Any]:
    """Return the value that Ground Truth writes for boxes."""
    size = boxes.size
    return {
        "image_size": [{"width": size.width, "height": size.height, "depth": size.depth}],
        "annotations": [
            {"class_id": box.class_id, "left": box.left, "top": box.top, "width": box.width, "height": box.height}
            for box in boxes.boxes
        ],
    }


def check_box(box: Box, size: ImageSize | None) -> Iterator[str]:
    """Yield what is wrong with a box: it must have an area, and be inside its image."""
    if box.width <= 0 or box.height <= 0:
        yield f"the box is empty: {box.width:.10g} x {box.height:.10g} pixels"
    if box.left < 0 or box.top < 0:
        yield f"the box begins outside the image, at ({box.left:.10g}, {box.top:.10g})"
    if size is not None and box.width > 0 and box.right > size.width + _TOLERANCE:
        yield f"the box reaches to x={box.right:.10g}, outside the image, which is {size.width} pixels wide"
    if size is not None and box.height > 0 and box.bottom > size.height + _TOLERANCE:
        yield f"the box reaches to y={box.bottom:.10g}, outside the image, which is {size.height} pixels high"


def is_number(value: object) -> bool:
    """Return True for a number of at most 2**53; true and false are not numbers."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and -_MAX_EXACT <= value <= _MAX_EXACT


def is_count(value: object, least: int = 0) -> bool:
    """Return True for a whole number from ``least`` to 2**53."""
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= _MAX_EXACT


def _read_size(value: Json, faults: list[Fault]) -> ImageSize | None:
    if value is None:
        faults.append(Fault("image_size", "the size of the image is missing"))
        return None
    if not isinstance(value, list) or len(value) != 1 or not isinstance(value[0], dict):
        faults.append(Fault("image_size", 'must be a list of one {"width": ..., "height": ..., "depth": ...}'))
        return None
    size = value[0]
    wrong = [name for name in ("width", "height") if not is_count(size.get(name), 1)]
    if "depth" in size and not is_count(size["depth"], 1):
        wrong.append("depth")
    faults += [Fault(f"image_size[0].{name}", "must be a whole number of at least 1") for name in wrong]
    return None if wrong else ImageSize(size["width"], size["height"], size.get("depth", 3))


def _read_box(value: Json, path: str, faults: list[Fault]) -> Box | None:
    if not isinstance(value, dict):
        faults.append(Fault(path, "must be an object with class_id, left, top, width and height"))
        return None
    before = len(faults)
    if not is_count(value.get("class_id")):
        faults.append(Fault(f"{path}.class_id", "must be a whole number of at least 0"))
    sides = [name for name in ("left", "top", "width", "height") if not is_number(value.get(name))]
    faults += [Fault(f"{path}.{name}", "must be a number of pixels") for name in sides]
    if len(faults) > before:
        return None
    return Box(value["class_id"], value["left"], value["top"], value["width"], value["height"])


def classify_label(line: Line, name: str) -> Kind | None:
    """Return the kind of label that an attribute is, None for another attribute or an unknown kind."""
    if name not in line.attributes or name.endswith(METADATA_SUFFIX) or name in _SOURCES:
        return None
    job_type = get_metadata(line, name).get("type")
    if isinstance(job_type, str):
        return _KINDS.get(job_type)
    value = line.attributes[name]
    if isinstance(value, dict) and isinstance(value.get("annotations"), list):
        first = next(iter(value["annotations"]), None)
        if "image_size" in value or (isinstance(first, dict) and {"left", "top", "width", "height"} & set(first)):
            return "boxes"
    return None


def find_labels(line: Line, kind: Kind | None = None) -> Iterator[str]:
    """Yield the names of the labels of a line, of one kind or of any."""
    for name in line.attributes:
        actual = classify_label(line, name)
        if actual is not None and kind in (None, actual):
            yield name


def get_metadata(line: Line, name: str) -> Mapping[str, Any]:
    """Return the ``<name>-metadata`` of a label, empty if it is missing."""
    value = line.attributes.get(name + METADATA_SUFFIX)
    return value if isinstance(value, dict) else {}


def read_label_boxes(line: Line, name: str) -> Boxes | None:
    """Read the boxes of a label, None if the line does not have it. Raises ManifestError if the label is invalid."""
    if name not in line.attributes:
        return None
    boxes, faults = read_boxes(line.attributes[name])
    if boxes is None:
        path, what = faults[0]
        raise line.make_error(name, f"{path}: {what}" if path else what)
    return boxes


def read_class_names(line: Line, name: str) -> dict[int, str]:
    """Read the names of classes from a label's metadata: its class map, or its single class."""
    metadata = get_metadata(line, name)
    if classify_label(line, name) == "classification":
        classes, class_name = list_classes(line, name), metadata.get("class-name")
        return {classes[0]: class_name} if classes and isinstance(class_name, str) else {}
    return read_class_map(metadata.get("class-map"))


def read_class_map(class_map: Json) -> dict[int, str]:
    """Return a class map with numbers as keys, without invalid entries."""
    if not isinstance(class_map, dict):
        return {}
    numbered = ((parse_class_number(key), name) for key, name in class_map.items())
    return {number: name for number, name in numbered if number is not None and isinstance(name, str)}


def list_classes(line: Line, name: str) -> list[int]:
    """List the classes of a label, one for each box, without those that are not numbers."""
    value = line.attributes.get(name)
    items: list[Json] = [value]
    if isinstance(value, dict):
        annotations = value.get("annotations")
        listed: list[Any] = annotations if isinstance(annotations, list) else []
        items = [annotation.get("class_id") for annotation in listed if isinstance(annotation, dict)]
    elif isinstance(value, list):
        items = value
    return [number for number in map(parse_class_number, items) if number is not None]


def parse_class_number(value: Json) -> int | None:
    """Return a class as a number, None for another value; Ground Truth writes 0 as well as "0"."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10:
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


@dataclass(frozen=True, slots=True)
class LabelledImage:
    """An image by its address, its boxes, and the names of some or all classes. All conversions go through it."""

    source: str
    boxes: Boxes
    names: Mapping[int, str] = field(default_factory=dict)


def read_labelled_image(line: Line, label: str) -> LabelledImage | None:
    """Read the labelled image of a line, None if the line does not have the label (yet).

    Raises ManifestError with the line and the attribute for empty boxes, boxes outside their image, an image without a
    size, and a line without an image.
    """
    boxes = read_label_boxes(line, label)
    if boxes is None:
        return None
    source = line.attributes.get(SOURCE_ATTRIBUTE)
    if not isinstance(source, str) or check_reference(source, local=True):
        raise line.make_error(SOURCE_ATTRIBUTE, check_reference(source, local=True) or "the line names no image")
    return LabelledImage(source, boxes, read_class_names(line, label))


def build_line(image: LabelledImage, number: int, *, label: str = DEFAULT_LABEL) -> Line:
    """Build the line of an augmented manifest for an image.

    Its metadata have the type and the names of the classes; annotator, date and confidence are unknown and left out.
    """
    metadata: dict[str, Any] = {}
    if image.names:
        metadata["class-map"] = {str(key): image.names[key] for key in sorted(image.names)}
    attributes: dict[str, Any] = {SOURCE_ATTRIBUTE: image.source, label: encode_boxes(image.boxes)}
    attributes[label + METADATA_SUFFIX] = {**metadata, "type": _DETECTION}
    return Line(number, attributes)


def relative_name(source: str, images: str = "") -> str:
    """Return the name of an image below the folder ``images``; without one, the last part of its address.

    Raises ManifestError if the image is not below the folder.

    >>> relative_name("s3://b/train/a/1.jpg", "s3://b/train"), relative_name("s3://b/train/a/1.jpg")
    ('a/1.jpg', '1.jpg')
    """
    if not images:
        return source.rstrip("/").rpartition("/")[2]
    folder = images.rstrip("/") + "/"
    name = source[len(folder) :]
    if not source.startswith(folder) or not name:
        raise ManifestError(f"{source} is not below {folder}", attribute=SOURCE_ATTRIBUTE)
    return name


def join_source(name: str, images: str) -> str:
    """Return the address of an image below a folder; the reverse of `relative_name`."""
    return f"{images.rstrip('/')}/{name}" if images else name
