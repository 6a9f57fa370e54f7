"""Labels: what the attributes of a line say of its image, as Ground Truth writes it. No I/O.

A label is an attribute beside which ``<name>-metadata`` tells its type; boxes are known by their shape as well. What is
of no known type passes through unharmed. Source: SageMaker developer guide, "Labeling job output data".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal, TypeAlias

from tritonforge.training.manifest.boxes import Boxes, read_boxes
from tritonforge.training.manifest.line import Line
from tritonforge.training.manifest.values import Json

__all__ = ["METADATA", "Kind", "boxes_of", "class_names", "classes_of", "kind", "label_names", "metadata_of"]

METADATA: Final = "-metadata"

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


def kind(line: Line, name: str) -> Kind | None:
    """What kind of label an attribute is; None for what is no label, or of another kind."""
    if name not in line.attributes or name.endswith(METADATA) or name in _SOURCES:
        return None
    told = metadata_of(line, name).get("type")
    if isinstance(told, str):
        return _KINDS.get(told)
    value = line.attributes[name]
    if isinstance(value, dict) and isinstance(value.get("annotations"), list):
        first = next(iter(value["annotations"]), None)
        if "image_size" in value or (isinstance(first, dict) and {"left", "top", "width", "height"} & set(first)):
            return "boxes"
    return None


def label_names(line: Line, wanted: Kind | None = None) -> Iterator[str]:
    """The attributes of a line that are labels, of one kind or of any."""
    for name in line.attributes:
        found = kind(line, name)
        if found is not None and wanted in (None, found):
            yield name


def metadata_of(line: Line, name: str) -> Mapping[str, Any]:
    """What ``<name>-metadata`` says of a label, nothing where it is not there."""
    value = line.attributes.get(name + METADATA)
    return value if isinstance(value, dict) else {}


def boxes_of(line: Line, name: str) -> Boxes | None:
    """The boxes of a label, None where the line does not have it. Raises ManifestError where it is no good label."""
    if name not in line.attributes:
        return None
    boxes, found = read_boxes(line.attributes[name])
    if boxes is None:
        path, what = found[0]
        raise line.error(name, f"{path}: {what}" if path else what)
    return boxes


def class_names(line: Line, name: str) -> dict[int, str]:
    """The name of each class that the metadata of a label tells: its class map, or its one class."""
    metadata = metadata_of(line, name)
    if kind(line, name) == "classification":
        classes, told = classes_of(line, name), metadata.get("class-name")
        return {classes[0]: told} if classes and isinstance(told, str) else {}
    return names_of(metadata.get("class-map"))


def classes_of(line: Line, name: str) -> list[int]:
    """The classes of a label, one for each box; those that are no numbers left out."""
    value = line.attributes.get(name)
    given: list[Json] = [value]
    if isinstance(value, dict):
        annotations = value.get("annotations")
        listed: list[Any] = annotations if isinstance(annotations, list) else []
        given = [each.get("class_id") for each in listed if isinstance(each, dict)]
    elif isinstance(value, list):
        given = value
    return [number for number in (class_number(each) for each in given) if number is not None]


def names_of(class_map: Json) -> dict[int, str]:
    """A class map by number, without what is no number or no name."""
    if not isinstance(class_map, dict):
        return {}
    numbered = ((class_number(key), name) for key, name in class_map.items())
    return {number: name for number, name in numbered if number is not None and isinstance(name, str)}


def class_number(value: Json) -> int | None:
    """A class as a number: Ground Truth writes 0 as well as "0"."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10:
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
