"""Boxes as arrays [.., 4]: from one form to another, and how much two of them share. No I/O.

Forms: corners [xmin, ymin, xmax, ymax] (annotations.json, the detector's answer), sizes [left, top, width, height]
(Ground Truth, COCO), and rows first [ymin, xmin, ymax, xmax] (TensorFlow's Object Detection API). In pixels a box ends
before the pixel that xmax and ymax name; normalised, both are parts of the image's width and height.

Suppression: of the boxes that a detector finds for one object, the likeliest one stays. numpy alone, and no I/O.

This file also goes into model repositories as it is, beside the model.py of a postprocessing step, where there is no
tritonforge; so it imports nothing of it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = [
    "clip_boxes",
    "compute_iou",
    "from_rows_first",
    "from_sizes",
    "suppress",
    "to_fractions",
    "to_pixels",
    "to_rows_first",
    "to_sizes",
]


def from_sizes(boxes: Any) -> Any:
    """[left, top, width, height] to corners."""
    boxes = np.asarray(boxes)
    return np.concatenate([boxes[..., :2], boxes[..., :2] + boxes[..., 2:]], axis=-1)


def to_sizes(boxes: Any) -> Any:
    """Corners to [left, top, width, height]."""
    boxes = np.asarray(boxes)
    return np.concatenate([boxes[..., :2], boxes[..., 2:] - boxes[..., :2]], axis=-1)


def to_rows_first(boxes: Any) -> Any:
    """Corners to [ymin, xmin, ymax, xmax]."""
    return np.asarray(boxes)[..., [1, 0, 3, 2]]


def from_rows_first(boxes: Any) -> Any:
    """[ymin, xmin, ymax, xmax] to corners."""
    return np.asarray(boxes)[..., [1, 0, 3, 2]]


def to_fractions(boxes: Any, width: float, height: float) -> Any:
    """Corners in pixels to parts of an image of this size."""
    return np.asarray(boxes, np.float64) / (width, height, width, height)


def to_pixels(boxes: Any, width: float, height: float) -> Any:
    """Normalised corners to pixels of an image of this size, not rounded."""
    return np.asarray(boxes, np.float64) * (width, height, width, height)


def clip_boxes(boxes: Any) -> Any:
    """Normalised boxes without what lies outside of their image."""
    return np.clip(np.asarray(boxes), 0.0, 1.0)


def compute_iou(one: Any, other: Any) -> Any:
    """How much each of [n, 4] shares with each of [m, 4]: [n, m], from 0 to 1; 0 where both are empty."""
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
    """Class by class, the likeliest boxes of one image of which no two share more than ``iou``.

    ``boxes`` are [n, 4] (xmin, ymin, xmax, ymax), ``scores`` [n, classes]. What scores below ``least`` is left out;
    ``candidates`` is how many boxes of a class are looked at, ``most`` how many of all classes are given.

    Gives boxes [k, 4], classes [k] (int64) and scores [k], the likeliest first; equal scores in the order of the
    classes, then of the boxes.
    """
    boxes, scores = np.asarray(boxes), np.asarray(scores)
    found_boxes, found_classes = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for number in np.flatnonzero((scores >= least).any(axis=0)) if len(scores) else ():
        likely = np.flatnonzero(scores[:, number] >= least)
        likely = likely[np.argsort(-scores[likely, number], kind="stable")][:candidates]
        kept = likely[_kept(boxes[likely].astype(np.float64), iou)]
        found_boxes.append(kept)
        found_classes.append(np.full(len(kept), number, np.int64))
    which, classes = np.concatenate(found_boxes), np.concatenate(found_classes)
    likelihood = scores[which, classes]
    order = np.argsort(-likelihood, kind="stable")[:most]
    return boxes[which[order]], classes[order], likelihood[order]


def _kept(boxes: Any, iou: float) -> list[int]:
    """The places of the boxes that stay, of boxes with the likeliest first."""
    low, high = boxes[:, :2], boxes[:, 2:]
    areas = np.prod(np.maximum(high - low, 0.0), axis=-1)
    stays = np.ones(len(boxes), bool)
    kept = []
    for place in range(len(boxes)):
        if not stays[place]:
            continue
        kept.append(place)
        rest = slice(place + 1, None)
        sides = np.minimum(high[place], high[rest]) - np.maximum(low[place], low[rest])
        shared = np.prod(np.maximum(sides, 0.0), axis=-1)
        # shared / union > iou, without a division by the union of two empty boxes
        stays[rest] &= shared <= iou * (areas[place] + areas[rest] - shared)
    return kept
