"""A labelled image: its boxes and the names of their classes, in whatever file they stand. No I/O.

What every conversion goes through: a line becomes one, and it becomes a line.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from tritonforge.errors import ManifestError
from tritonforge.training.manifest.boxes import Boxes, written_boxes
from tritonforge.training.manifest.checking import reference_fault
from tritonforge.training.manifest.labels import METADATA, boxes_of, class_names
from tritonforge.training.manifest.line import Line

__all__ = ["LABEL", "SOURCE", "Labelled", "file_name", "joined", "labelled", "line_of"]

#: The attribute that names the image, and the one that a label gets where nothing is said; both as AWS's pages have it.
SOURCE: Final = "source-ref"
LABEL: Final = "bounding-box"

_TYPE: Final = "groundtruth/object-detection"


@dataclass(frozen=True, slots=True)
class Labelled:
    """An image by its address, its boxes, and the names of classes, which need not be all."""

    source: str
    boxes: Boxes
    names: Mapping[int, str] = field(default_factory=dict)


def labelled(line: Line, label: str) -> Labelled | None:
    """The labelled image of a line, None where the line does not have the label (yet).

    Raises ManifestError with the line and the attribute: boxes that are empty or outside of their image, an image
    without its size, a line that names no image.
    """
    boxes = boxes_of(line, label)
    if boxes is None:
        return None
    source = line.attributes.get(SOURCE)
    if not isinstance(source, str) or reference_fault(source, local=True):
        raise line.error(SOURCE, reference_fault(source, local=True) or "the line names no image")
    return Labelled(source, boxes, class_names(line, label))


def line_of(image: Labelled, number: int, *, label: str = LABEL) -> Line:
    """The line of an augmented manifest for an image.

    Its metadata have the type and the names of the classes. Who labelled it, and when, are not known, nor how sure
    anybody is; so those are not there.
    """
    metadata: dict[str, Any] = {"class-map": {str(key): image.names[key] for key in sorted(image.names)}}
    if not image.names:
        metadata = {}
    attributes: dict[str, Any] = {SOURCE: image.source, label: written_boxes(image.boxes)}
    attributes[label + METADATA] = {**metadata, "type": _TYPE}
    return Line(number, attributes)


def file_name(source: str, images: str = "") -> str:
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
        raise ManifestError(f"{source} does not lie below {folder}", attribute=SOURCE)
    return name


def joined(name: str, images: str) -> str:
    """The address of an image below a folder; the reverse of `file_name`."""
    return f"{images.rstrip('/')}/{name}" if images else name
