"""Boxes as arrays [.., 4]: from one form to another, and how much two of them share. No I/O.

Forms: corners [xmin, ymin, xmax, ymax] (annotations.json, the detector's answer), sizes [left, top, width, height]
(Ground Truth, COCO), and rows first [ymin, xmin, ymax, xmax] (TensorFlow's Object Detection API). In pixels a box ends
before the pixel that xmax and ymax name; normalised, both are parts of the image's width and height.
"""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = [
    "clipped",
    "from_rows_first",
    "from_sizes",
    "intersection_over_union",
    "normalised",
    "pixels",
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


def normalised(boxes: Any, width: float, height: float) -> Any:
    """Corners in pixels to parts of an image of this size."""
    return np.asarray(boxes, np.float64) / (width, height, width, height)


def pixels(boxes: Any, width: float, height: float) -> Any:
    """Normalised corners to pixels of an image of this size, not rounded."""
    return np.asarray(boxes, np.float64) * (width, height, width, height)


def clipped(boxes: Any) -> Any:
    """Normalised boxes without what lies outside of their image."""
    return np.clip(np.asarray(boxes), 0.0, 1.0)


def intersection_over_union(one: Any, other: Any) -> Any:
    """How much each of [n, 4] shares with each of [m, 4]: [n, m], from 0 to 1; 0 where both are empty."""
    one, other = np.asarray(one, np.float64).reshape(-1, 4), np.asarray(other, np.float64).reshape(-1, 4)
    low = np.maximum(one[:, None, :2], other[None, :, :2])
    high = np.minimum(one[:, None, 2:], other[None, :, 2:])
    shared = np.prod(np.maximum(high - low, 0.0), axis=-1)
    union = _area(one)[:, None] + _area(other)[None, :] - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def _area(boxes: Any) -> Any:
    return np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0.0), axis=-1)
