"""Average precision against cases that were worked by hand, and against its definition."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tritonforge.training.detection import Detections, Truth, compute_mean_average_precision
from tritonforge.training.detection.precision import COCO_THRESHOLDS, compute_average_precision

HERE = [0.0, 0.0, 10.0, 10.0]
THERE = [50.0, 50.0, 60.0, 60.0]
NOWHERE = [80.0, 80.0, 90.0, 90.0]


def test_everything_found_is_one_and_nothing_is_zero() -> None:
    """Two images, two classes."""
    truths = [Truth([HERE, THERE], [1, 2]), Truth([HERE], [2])]
    perfect = [Detections([HERE, THERE], [1, 2], [0.9, 0.8]), Detections([HERE], [2], [0.3])]
    assert compute_mean_average_precision(truths, perfect).mean == 1.0
    none = [Detections(np.zeros((0, 4)), [], [])] * 2
    found = compute_mean_average_precision(truths, none)
    assert (found.mean, dict(found.by_class)) == (0.0, {1: 0.0, 2: 0.0})


def test_a_false_one_between_two_right_ones() -> None:
    """Precisions 1, 1/2, 2/3 at recalls 1/2, 1/2, 1: 51 recalls have 1, 50 have 2/3."""
    truths = [Truth([HERE, THERE], [0, 0])]
    detected = [Detections([HERE, NOWHERE, THERE], [0, 0, 0], [0.9, 0.8, 0.7])]
    assert compute_mean_average_precision(truths, detected).mean == pytest.approx((51 + 50 * 2 / 3) / 101)


def test_one_of_two_found() -> None:
    """Recall ends at 1/2: 51 of 101 recalls have precision 1, the others 0."""
    detected = [Detections([HERE], [0], [0.4])]
    assert compute_mean_average_precision([Truth([HERE, THERE], [0, 0])], detected).mean == pytest.approx(51 / 101)


def test_a_second_detection_of_one_object_is_wrong() -> None:
    """The likelier one has it, in whatever order they come."""
    truths = [Truth([HERE], [0])]
    twice = [Detections([HERE, HERE], [0, 0], [0.5, 0.9])]
    assert compute_mean_average_precision(truths, twice).mean == 1.0
    late = [Detections([NOWHERE, HERE], [0, 0], [0.9, 0.5])]
    assert compute_mean_average_precision(truths, late).mean == pytest.approx(0.5)


def test_detections_of_all_images_are_one_list() -> None:
    """A sure wrong one on the second image comes before a right one on the first."""
    truths = [Truth([HERE], [0]), Truth(np.zeros((0, 4)), [])]
    detected = [Detections([HERE], [0], [0.6]), Detections([HERE], [0], [0.7])]
    assert compute_mean_average_precision(truths, detected).mean == pytest.approx(0.5)


def test_the_class_must_be_right() -> None:
    """A box of another class finds nothing, and a class that is on no image is not in the mean."""
    truths = [Truth([HERE], [0])]
    found = compute_mean_average_precision(truths, [Detections([HERE], [1], [0.9])])
    assert (found.mean, dict(found.by_class)) == (0.0, {0: 0.0})


def test_thresholds_of_coco() -> None:
    """A box that shares 6/10 is right at 0.5, 0.55 and 0.6 of the ten thresholds."""
    truths = [Truth([[0, 0, 10, 10]], [0])]
    detected = [Detections([[0, 0, 10, 6]], [0], [0.9])]
    assert len(COCO_THRESHOLDS) == 10
    assert compute_mean_average_precision(truths, detected).mean == 1.0
    assert compute_mean_average_precision(truths, detected, thresholds=(0.65,)).mean == 0.0
    assert compute_mean_average_precision(truths, detected, thresholds=COCO_THRESHOLDS).mean == pytest.approx(0.3)


def test_of_two_objects_the_nearer_one_is_taken() -> None:
    """The detection takes what it shares most with, so that the other one is free for the next."""
    truths = [Truth([[0, 0, 10, 10], [0, 3, 10, 13]], [0, 0])]
    detected = [Detections([[0, 2, 10, 12], [0, 0, 10, 10]], [0, 0], [0.9, 0.8])]
    assert compute_mean_average_precision(truths, detected).mean == 1.0


def test_images_must_be_the_same() -> None:
    """As many detections as truths."""
    with pytest.raises(ValueError, match="1 images with a truth and 0"):
        compute_mean_average_precision([Truth([], [])], [])


@pytest.mark.slow
@given(st.lists(st.booleans(), max_size=12), st.integers(0, 4))
def test_average_precision_is_what_its_definition_says(hits: list[bool], missed: int) -> None:
    """At each of 101 recalls the best precision that comes with at least this recall."""
    objects = sum(hits) + missed
    expected = 0.0
    for percent in range(101):
        best = 0.0
        for count in range(1, len(hits) + 1):
            right = sum(hits[:count])
            if objects and right / objects >= np.linspace(0, 1, 101)[percent]:
                best = max(best, right / count)
        expected += best / 101
    assert compute_average_precision(hits, objects) == pytest.approx(expected)
