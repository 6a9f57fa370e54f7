"""Manifests: labelled data as SageMaker reads it, checked line by line, converted, and split. No I/O here.

    chunks -> `read` -> `Line` -> `selected` -> `Reference` | `Value` -> the pipe of a training job
                          |
                          +-> `labelled` -> `Labelled` <-> annotations.json, the built-in detector's documents

A line at a time, with bounded memory. A manifest that is wrong is one ManifestError with the line and the attribute
where it is read, and a `Problem` for each thing where it is checked.
"""

from __future__ import annotations

from tritonforge.training.manifest.checking import (
    Check,
    Problem,
    augmented,
    classic_problems,
    classic_uris,
    line_problems,
)
from tritonforge.training.manifest.detection_formats import (
    annotations_document,
    annotations_problems,
    detector_document,
    detector_problems,
    read_annotations,
    read_detector,
)
from tritonforge.training.manifest.labels import (
    Box,
    Boxes,
    ImageSize,
    Kind,
    Labelled,
    boxes_of,
    class_names,
    kind,
    label_names,
    labelled,
    line_of,
)
from tritonforge.training.manifest.lines import (
    Json,
    Line,
    Reference,
    Selected,
    Side,
    Value,
    attribute_names,
    order,
    parse,
    raw_lines,
    read,
    selected,
    side,
)

__all__ = [
    "Box",
    "Boxes",
    "Check",
    "ImageSize",
    "Json",
    "Kind",
    "Labelled",
    "Line",
    "Problem",
    "Reference",
    "Selected",
    "Side",
    "Value",
    "annotations_document",
    "annotations_problems",
    "attribute_names",
    "augmented",
    "boxes_of",
    "class_names",
    "classic_problems",
    "classic_uris",
    "detector_document",
    "detector_problems",
    "kind",
    "label_names",
    "labelled",
    "line_of",
    "line_problems",
    "order",
    "parse",
    "raw_lines",
    "read",
    "read_annotations",
    "read_detector",
    "selected",
    "side",
]
