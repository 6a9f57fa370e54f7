"""Manifests: labelled data as SageMaker reads it, checked line by line, converted, and split. No I/O here.

    chunks -> `read` -> `Line` -> `selected` -> `Reference` | `Value` -> the pipe of a training job

Everything of a line is a stream with bounded memory. A manifest that is wrong is one ManifestError with the line and
the attribute where it is read, and a `Problem` for each thing where it is checked.
"""

from __future__ import annotations

from tritonforge.training.manifest.line import Json, Line, parse, raw_lines, read
from tritonforge.training.manifest.selection import Reference, Selected, Value, attribute_names, order, selected

__all__ = [
    "Json",
    "Line",
    "Reference",
    "Selected",
    "Value",
    "attribute_names",
    "order",
    "parse",
    "raw_lines",
    "read",
    "selected",
]
