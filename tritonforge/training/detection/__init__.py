"""Object detection: boxes, suppression, average precision, and the HTTP interface of a detector. numpy, no I/O."""

from __future__ import annotations

from tritonforge.training.detection.boxes import (
    clip_boxes,
    compute_iou,
    from_rows_first,
    from_sizes,
    suppress,
    to_fractions,
    to_pixels,
    to_rows_first,
    to_sizes,
)
from tritonforge.training.detection.precision import Detections, Precision, Truth, compute_mean_average_precision
from tritonforge.training.detection.response import (
    CONTENT_TYPE,
    AnswerFormat,
    build_answer,
    check_content_type,
    parse_accept,
)

__all__ = [
    "CONTENT_TYPE", "AnswerFormat", "Detections", "Precision", "Truth", "build_answer", "check_content_type",
    "clip_boxes", "compute_iou", "compute_mean_average_precision", "from_rows_first", "from_sizes",
    "parse_accept", "suppress", "to_fractions", "to_pixels", "to_rows_first", "to_sizes",
]  # fmt: skip
