"""Manifests: labelled data as SageMaker reads it, checked line by line, converted, and split. No I/O.

    chunks -> `read_lines` -> `Line` -> `select_attributes` -> `Reference` | `Value` -> the pipe of a training job
                                |
                                +-> `read_labelled_image` -> `LabelledImage` <-> `detection_formats`

Data are processed line by line in bounded memory. Reading an invalid manifest raises one ManifestError with its line
and attribute; checking it yields every `Problem`.
"""

from __future__ import annotations

from tritonforge.training.manifest.checking import (
    ManifestCheck,
    Problem,
    build_augmented_lines,
    check_classic_manifest,
    check_line,
    read_classic_uris,
)
from tritonforge.training.manifest.detection_formats import (
    build_annotations,
    build_detector_document,
    check_annotations,
    check_detector_document,
    read_annotations,
    read_detector_document,
)
from tritonforge.training.manifest.labels import (
    Box,
    Boxes,
    ImageSize,
    Kind,
    LabelledImage,
    build_line,
    classify_label,
    find_labels,
    read_class_names,
    read_label_boxes,
    read_labelled_image,
)
from tritonforge.training.manifest.lines import (
    Json,
    Line,
    Reference,
    SelectedAttribute,
    Split,
    Value,
    assign_split,
    check_attribute_names,
    parse_line,
    read_lines,
    select_attributes,
    shuffle_order,
    split_lines,
)

__all__ = [
    "Box", "Boxes", "ImageSize", "Json", "Kind", "LabelledImage", "Line", "ManifestCheck", "Problem", "Reference",
    "SelectedAttribute", "Split", "Value", "assign_split", "build_annotations", "build_augmented_lines",
    "build_detector_document", "build_line", "check_annotations", "check_attribute_names",
    "check_classic_manifest", "check_detector_document", "check_line", "classify_label", "find_labels",
    "parse_line", "read_annotations", "read_class_names", "read_classic_uris", "read_detector_document",
    "read_label_boxes", "read_labelled_image", "read_lines", "select_attributes", "shuffle_order", "split_lines",
]  # fmt: skip
