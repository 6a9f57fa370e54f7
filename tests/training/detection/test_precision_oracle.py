"""Average precision against COCO's own evaluation, pycocotools, on generated detections."""

import contextlib
import io

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from tritonforge.training.detection import Detections, Truth, compute_mean_average_precision
from tritonforge.training.detection.precision import COCO_THRESHOLDS

SIZE = 24


def evaluate_with_coco(
    truths: list[Truth], detections: list[Detections], *, thresholds: tuple[float, ...], max_detections: int
) -> tuple[float, dict[int, float]]:
    """Return the mean average precision and that of each class of the truth."""
    classes = sorted({int(number) for truth in truths for number in truth.classes})
    everything = {*classes, *(int(number) for image in detections for number in image.classes)}
    annotations = [
        {"id": 0, "image_id": index, "category_id": int(number), "iscrowd": 0,
         "bbox": [x0, y0, x1 - x0, y1 - y0], "area": (x1 - x0) * (y1 - y0)}
        for index, truth in enumerate(truths, 1)
        for (x0, y0, x1, y1), number in zip(np.asarray(truth.boxes).tolist(), truth.classes, strict=True)
    ]  # fmt: skip
    for identifier, annotation in enumerate(annotations, 1):  # an id of 0 counts as "not matched"
        annotation["id"] = identifier
    results = [
        {"image_id": index, "category_id": int(number), "score": float(score), "bbox": [x0, y0, x1 - x0, y1 - y0]}
        for index, image in enumerate(detections, 1)
        for (x0, y0, x1, y1), number, score in zip(
            np.asarray(image.boxes).tolist(), image.classes, image.scores, strict=True
        )
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        truth_set = COCO()
        truth_set.dataset = {
            "images": [{"id": index, "width": SIZE, "height": SIZE} for index in range(1, len(truths) + 1)],
            "categories": [{"id": number} for number in sorted(everything)],
            "annotations": annotations,
        }
        truth_set.createIndex()
        evaluation = COCOeval(truth_set, truth_set.loadRes(results), "bbox")
        evaluation.params.iouThrs = np.array(thresholds)
        evaluation.params.maxDets = [max_detections]
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][:, :, :, 0, 0]  # thresholds, recalls, categories
    by_class = {
        number: float(precision[:, :, place].mean())
        for place, number in enumerate(evaluation.params.catIds)
        if number in classes
    }
    return float(precision[precision > -1].mean()), by_class


def generate(seed: int, images: int, crowding: int) -> tuple[list[Truth], list[Detections]]:
    """Draw images whose detections are moved objects, copies and noise; scores and overlaps are often equal."""
    random = np.random.default_rng(seed)
    truths, detections = [], []
    for _ in range(images):
        low = random.integers(0, SIZE // 2, (random.integers(0, crowding), 2))
        boxes = np.concatenate([low, low + random.integers(1, SIZE // 2, low.shape)], axis=1)
        classes = random.integers(1, 4, len(boxes))
        chosen = random.integers(0, len(boxes), random.integers(0, 3 * crowding)) if len(boxes) else np.zeros(0, int)
        moved = boxes[chosen] + random.integers(-2, 3, (len(chosen), 1)) * random.integers(0, 2, (len(chosen), 4))
        moved[:, 2:] = np.maximum(moved[:, 2:], moved[:, :2] + 1)
        seen = np.where(random.random(len(chosen)) < 0.8, classes[chosen], random.integers(1, 5, len(chosen)))
        truths.append(Truth(boxes, classes))
        detections.append(Detections(moved, seen, random.integers(1, 20, len(chosen)) / 20))
    return truths, detections


@pytest.mark.slow
@pytest.mark.parametrize("max_detections", [1, 10, 100])
@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(2, 14))
def test_the_figures_are_those_of_pycocotools(max_detections: int, seed: int, images: int, crowding: int) -> None:
    truths, detections = generate(seed, images, crowding)
    # pycocotools has no figure without an object, and does not load results without a detection.
    assume(any(len(truth.classes) for truth in truths) and any(len(image.classes) for image in detections))
    for thresholds in ((0.5,), COCO_THRESHOLDS, (1.0,)):
        mean, by_class = evaluate_with_coco(truths, detections, thresholds=thresholds, max_detections=max_detections)
        ours = compute_mean_average_precision(truths, detections, thresholds=thresholds, max_detections=max_detections)
        assert dict(ours.by_class) == pytest.approx(by_class, abs=1e-9)
        assert ours.mean == pytest.approx(mean, abs=1e-9)


@pytest.mark.parametrize("first", [[0, 0, 10, 10], [2, 0, 12, 10]])
def test_of_two_objects_that_overlap_equally_the_last_one_is_matched(first: list[int]) -> None:
    """So that it depends on the order of the objects whether the next detection finds one, as in pycocotools."""
    second = [2 - first[0], 0, 12 - first[0], 10]
    truths = [Truth([first, second], [1, 1])]
    detections = [Detections([[1, 0, 11, 10], [0, 0, 10, 10]], [1, 1], [0.9, 0.8])]
    expected, _ = evaluate_with_coco(truths, detections, thresholds=(0.75,), max_detections=100)
    assert compute_mean_average_precision(truths, detections, thresholds=(0.75,)).mean == pytest.approx(expected)
