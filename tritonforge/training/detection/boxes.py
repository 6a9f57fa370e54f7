"""Boxes of detected objects: conversions, intersection over union, and non-maximum suppression. numpy alone, no I/O.

A box is [xmin, ymin, xmax, ymax] unless a name says otherwise. This file is also copied into model repositories, beside
the model.py of a postprocessing step, where tritonforge is not installed; so it must not import it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = [
    "clip_boxes", "compute_iou", "from_rows_first", "from_sizes", "suppress", "to_fractions", "to_pixels",
    "to_rows_first", "to_sizes",
]  # fmt: skip


def from_sizes(boxes: Any) -> Any:
    """[left, top, width, height] to corners."""
    boxes = np.asarray(boxes)
    return np.concatenate([boxes[..., :2], boxes[..., :2] + boxes[..., 2:]], axis=-1)


def to_sizes(boxes: Any) -> Any:
    """Corners to [left, top, width, height]."""
    boxes = np.asarray(boxes)
    return np.concatenate([boxes[..., :2], boxes[..., 2:] - boxes[..., :2]], axis=-1)


def to_rows_first(boxes: Any) -> Any:
    """Convert corners to [ymin, xmin, ymax, xmax]."""
    return np.asarray(boxes)[..., [1, 0, 3, 2]]


def from_rows_first(boxes: Any) -> Any:
    """Convert [ymin, xmin, ymax, xmax] to corners."""
    return np.asarray(boxes)[..., [1, 0, 3, 2]]


def to_fractions(boxes: Any, width: float, height: float) -> Any:
    """Convert corners in pixels to fractions of an image of this size."""
    return np.asarray(boxes, np.float64) / (width, height, width, height)


def to_pixels(boxes: Any, width: float, height: float) -> Any:
    """Convert fractions to pixels of an image of this size, not rounded."""
    return np.asarray(boxes, np.float64) * (width, height, width, height)


def clip_boxes(boxes: Any) -> Any:
    """Clip boxes in fractions to their image."""
    return np.clip(np.asarray(boxes), 0.0, 1.0)


def compute_iou(one: Any, other: Any) -> Any:
    """Compute the intersection over union [n, m] of boxes [n, 4] with boxes [m, 4], from 0 to 1; 0 for empty boxes."""
    one, other = np.asarray(one, np.float64).reshape(-1, 4), np.asarray(other, np.float64).reshape(-1, 4)
    low = np.maximum(one[:, None, :2], other[None, :, :2])
    high = np.minimum(one[:, None, 2:], other[None, :, 2:])
    shared = np.prod(np.maximum(high - low, 0.0), axis=-1)
    union = _area(one)[:, None] + _area(other)[None, :] - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def _area(boxes: Any) -> Any:
    return np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0.0), axis=-1)


def suppress(
    boxes: Any, scores: Any, *, iou: float = 0.5, least: float = 0.05, most: int = 100, candidates: int = 400
) -> tuple[Any, Any, Any]:
    """Select the boxes of one image with the highest scores; no two of a class overlap by more than ``iou``.

    Args:
        boxes: [n, 4], as (xmin, ymin, xmax, ymax).
        scores: [n, classes].
        iou: the largest intersection over union of two boxes of a class.
        least: the lowest score.
        most: the maximum number of boxes of all classes.
        candidates: the number of boxes of a class that are considered.

    Returns boxes [k, 4], classes [k] (int64) and scores [k] by descending score; equal scores in the order of the
    classes, then of the boxes.
    """
    boxes, scores = np.asarray(boxes), np.asarray(scores)
    kept_boxes, kept_classes = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for number in np.flatnonzero((scores >= least).any(axis=0)) if len(scores) else ():
        above = np.flatnonzero(scores[:, number] >= least)
        above = above[np.argsort(-scores[above, number], kind="stable")][:candidates]
        kept = above[_select(boxes[above].astype(np.float64), iou)]
        kept_boxes.append(kept)
        kept_classes.append(np.full(len(kept), number, np.int64))
    kept_indices, classes = np.concatenate(kept_boxes), np.concatenate(kept_classes)
    kept_scores = scores[kept_indices, classes]
    order = np.argsort(-kept_scores, kind="stable")[:most]
    return boxes[kept_indices[order]], classes[order], kept_scores[order]


def _select(boxes: Any, iou: float) -> list[int]:
    """Return the positions of the boxes to keep, of boxes by descending score."""
    low, high = boxes[:, :2], boxes[:, 2:]
    areas = np.prod(np.maximum(high - low, 0.0), axis=-1)
    stays = np.ones(len(boxes), bool)
    kept = []
    for index in range(len(boxes)):
        if not stays[index]:
            continue
        kept.append(index)
        rest = slice(index + 1, None)
        sides = np.minimum(high[index], high[rest]) - np.maximum(low[index], low[rest])
        shared = np.prod(np.maximum(sides, 0.0), axis=-1)
        # shared / union > iou, without a division by the union of two empty boxes
        stays[rest] &= shared <= iou * (areas[index] + areas[rest] - shared)
    return kept
