"""Suppression: of the boxes that a detector finds for one object, the likeliest one stays. numpy alone, and no I/O.

This file also goes into model repositories as it is, beside the model.py of a postprocessing step, where there is no
tritonforge; so it imports nothing of it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["suppress"]


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
