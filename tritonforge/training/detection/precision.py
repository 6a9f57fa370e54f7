"""How good a detector is: average precision, class by class, and its mean. numpy, and no I/O.

The rules are those of COCO's evaluation (pycocotools, cocoeval.py): the detections of a class over all images, the
likeliest first, each take the object of their image that they share most with, if they share at least the threshold and
nobody likelier has it; precision is made to fall monotonically and averaged over 101 recalls. What COCO adds (areas,
crowds) is left out. A class without objects in the truth has no average precision, and is not in the mean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from tritonforge.training.detection.boxes import compute_iou

__all__ = [
    "COCO_THRESHOLDS",
    "Detections",
    "Precision",
    "Truth",
    "compute_average_precision",
    "compute_mean_average_precision",
]

#: The thresholds of COCO's main figure, mAP at IoU 0.50:0.05:0.95.
COCO_THRESHOLDS: Final = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))

#: Source: cocoeval.py, `Params.recThrs`.
_RECALLS: Final = np.linspace(0.0, 1.0, 101)


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """What is on one image: boxes [k, 4] and their classes [k]."""

    boxes: Any
    classes: Any


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """What a detector found on one image: boxes [k, 4] in the same units as the truth's, classes [k], scores [k]."""

    boxes: Any
    classes: Any
    scores: Any


@dataclass(frozen=True, slots=True)
class Precision:
    """``by_class`` is the average precision of each class of the truth, over all thresholds; ``mean`` is their mean."""

    mean: float
    by_class: Mapping[int, float]


def compute_mean_average_precision(
    truths: Sequence[Truth], detected: Sequence[Detections], *, thresholds: Sequence[float] = (0.5,)
) -> Precision:
    """Average precision over images, which both sequences have in the same order.

    ``thresholds`` are the parts that a detection must share with an object (intersection over union); with several, a
    class has the mean of its average precisions, as in COCO's main figure (`COCO_THRESHOLDS`). Without any object in
    the truth there is nothing to average, and the mean is 0.

    Raises:
        ValueError: the sequences differ in length.
    """
    if len(truths) != len(detected):
        raise ValueError(f"there are {len(truths)} images with a truth and {len(detected)} with detections")
    classes = sorted({int(each) for truth in truths for each in np.asarray(truth.classes).reshape(-1)})
    by_class = {
        number: float(np.mean([_of_class(truths, detected, number, threshold) for threshold in thresholds]))
        for number in classes
    }
    return Precision(float(np.mean(list(by_class.values()))) if by_class else 0.0, by_class)


def compute_average_precision(hits: Any, objects: int) -> float:
    """Average precision of detections, the likeliest first: ``hits`` [k] says which are right, of so many objects."""
    hits = np.asarray(hits, bool).reshape(-1)
    if not len(hits) or not objects:
        return 0.0
    right = np.cumsum(hits)
    recall = right / objects
    precision = right / np.arange(1, len(hits) + 1)
    falling = np.maximum.accumulate(precision[::-1])[::-1]
    places = np.searchsorted(recall, _RECALLS, side="left")
    return float(np.mean(np.where(places < len(falling), falling[np.minimum(places, len(falling) - 1)], 0.0)))


def _of_class(truths: Sequence[Truth], detected: Sequence[Detections], number: int, threshold: float) -> float:
    objects, hits, scores = 0, [np.zeros(0, bool)], [np.zeros(0)]
    for truth, found in zip(truths, detected, strict=True):
        there = np.asarray(truth.boxes, np.float64).reshape(-1, 4)[np.asarray(truth.classes).reshape(-1) == number]
        chosen = np.asarray(found.classes).reshape(-1) == number
        likely = np.asarray(found.scores, np.float64).reshape(-1)[chosen]
        order = np.argsort(-likely, kind="stable")
        boxes = np.asarray(found.boxes, np.float64).reshape(-1, 4)[chosen][order]
        objects += len(there)
        hits.append(_hits(boxes, there, threshold))
        scores.append(likely[order])
    order = np.argsort(-np.concatenate(scores), kind="stable")
    return compute_average_precision(np.concatenate(hits)[order], objects)


def _hits(boxes: Any, there: Any, threshold: float) -> Any:
    """Which of the boxes, the likeliest first, find an object of one image that none before them has found."""
    shared = compute_iou(boxes, there)
    free = np.ones(len(there), bool)
    hits = np.zeros(len(boxes), bool)
    for place in range(len(boxes)):
        fitting = np.where(free, shared[place], -1.0)
        if len(fitting) and fitting.max() >= threshold:
            free[int(fitting.argmax())] = False
            hits[place] = True
    return hits
