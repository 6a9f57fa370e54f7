"""Detection: boxes in their forms, suppression, how good a detector is, and how it answers. numpy, and no I/O.

Arrays of boxes are [.., 4]. Unless a name says otherwise they are [xmin, ymin, xmax, ymax].
"""

from __future__ import annotations

from tritonforge.training.detection.boxes import (
    clipped,
    from_rows_first,
    from_sizes,
    intersection_over_union,
    normalised,
    pixels,
    suppress,
    to_rows_first,
    to_sizes,
)
from tritonforge.training.detection.precision import Detected, Precision, Truth, mean_average_precision
from tritonforge.training.detection.response import CONTENT_TYPE, Accepted, accepted, answer, check_content_type

__all__ = [
    "CONTENT_TYPE",
    "Accepted",
    "Detected",
    "Precision",
    "Truth",
    "accepted",
    "answer",
    "check_content_type",
    "clipped",
    "from_rows_first",
    "from_sizes",
    "intersection_over_union",
    "mean_average_precision",
    "normalised",
    "pixels",
    "suppress",
    "to_rows_first",
    "to_sizes",
]
