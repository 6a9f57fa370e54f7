"""The quality of a detector: average precision of each class, and its mean. numpy, no I/O.

The rules are those of COCO's evaluation (pycocotools, cocoeval.py), which the tests compare with: the detections of a
class in all images, by descending score, each match the unmatched object of their image with which they have the
largest intersection over union, if that is at least the threshold; precision is made monotonically decreasing and
averaged over 101 recalls. A class without objects in the truth has no average precision, and is not in the mean.

Ranges of areas and crowds of COCO are not supported: no format that SageMaker trains on marks crowds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from tritonforge.training.detection.boxes import compute_iou

__all__ = [
    "COCO_THRESHOLDS", "Detections", "Precision", "Truth", "compute_average_precision",
    "compute_mean_average_precision",
]  # fmt: skip

#: The thresholds of COCO's main figure, mAP at IoU 0.50:0.05:0.95.
COCO_THRESHOLDS: Final = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))

#: Source: cocoeval.py, `Params.recThrs`.
_RECALLS: Final = np.linspace(0.0, 1.0, 101)

#: The largest threshold that is applied. Source: cocoeval.py, `evaluateImg`.
_MAX_THRESHOLD: Final = 1 - 1e-10


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """The objects of one image: boxes [k, 4] and their classes [k]."""

    boxes: Any
    classes: Any


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """The detections in one image: boxes [k, 4] in the same units as the truth's, classes [k], scores [k]."""

    boxes: Any
    classes: Any
    scores: Any


@dataclass(frozen=True, slots=True)
class Precision:
    """``by_class`` is the average precision of each class of the truth, over all thresholds; ``mean`` is their mean."""

    mean: float
    by_class: Mapping[int, float]


def compute_mean_average_precision(
    truths: Sequence[Truth],
    detections: Sequence[Detections],
    *,
    thresholds: Sequence[float] = (0.5,),
    max_detections: int | None = None,
) -> Precision:
    """Compute average precision over images.

    Args:
        truths: the objects of each image.
        detections: the detections in the same images, in the same order.
        thresholds: values of intersection over union; with several, a class has the mean of its average precisions, as
            in COCO's main figure (`COCO_THRESHOLDS`).
        max_detections: detections of a class that count in one image, those of the highest scores (COCO's ``maxDets``,
            which is 100 in its main figure); None for all.

    Without any object in the truth the mean is 0.

    Raises:
        ValueError: the sequences differ in length.
    """
    if len(truths) != len(detections):
        raise ValueError(f"there are {len(truths)} images with a truth and {len(detections)} with detections")
    classes = sorted({int(number) for truth in truths for number in np.asarray(truth.classes).reshape(-1)})
    by_class = {
        number: float(
            np.mean([_class_precision(truths, detections, number, limit, max_detections) for limit in thresholds])
        )
        for number in classes
    }
    return Precision(float(np.mean(list(by_class.values()))) if by_class else 0.0, by_class)


def compute_average_precision(hits: Any, objects: int) -> float:
    """Compute average precision; ``hits`` [k] marks the correct detections, by descending score, among all objects."""
    hits = np.asarray(hits, bool).reshape(-1)
    if not len(hits) or not objects:
        return 0.0
    correct = np.cumsum(hits)
    recall = correct / objects
    precision = correct / np.arange(1, len(hits) + 1)
    falling = np.maximum.accumulate(precision[::-1])[::-1]
    places = np.searchsorted(recall, _RECALLS, side="left")
    return float(np.mean(np.where(places < len(falling), falling[np.minimum(places, len(falling) - 1)], 0.0)))


def _class_precision(
    truths: Sequence[Truth],
    detections: Sequence[Detections],
    number: int,
    threshold: float,
    max_detections: int | None,
) -> float:
    objects, hits, scores = 0, [np.zeros(0, bool)], [np.zeros(0)]
    for truth, detected in zip(truths, detections, strict=True):
        targets = np.asarray(truth.boxes, np.float64).reshape(-1, 4)[np.asarray(truth.classes).reshape(-1) == number]
        of_class = np.asarray(detected.classes).reshape(-1) == number
        class_scores = np.asarray(detected.scores, np.float64).reshape(-1)[of_class]
        order = np.argsort(-class_scores, kind="stable")[:max_detections]
        boxes = np.asarray(detected.boxes, np.float64).reshape(-1, 4)[of_class][order]
        objects += len(targets)
        hits.append(_match(boxes, targets, min(threshold, _MAX_THRESHOLD)))
        scores.append(class_scores[order])
    order = np.argsort(-np.concatenate(scores), kind="stable")
    return compute_average_precision(np.concatenate(hits)[order], objects)


def _match(boxes: Any, targets: Any, threshold: float) -> Any:
    """Mark the boxes, by descending score, that match an object of one image that no box before them matched."""
    overlaps = compute_iou(boxes, targets)
    is_free = np.ones(len(targets), bool)
    hits = np.zeros(len(boxes), bool)
    for index in range(len(boxes)):
        candidates = np.where(is_free, overlaps[index], -1.0)[::-1]  # of equal ones COCO takes the last
        if len(candidates) and candidates.max() >= threshold:
            is_free[len(candidates) - 1 - int(candidates.argmax())] = False
            hits[index] = True
    return hits
