"""Boxes from one form to another, and what two of them share."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tritonforge.training.detection import (
    clip_boxes,
    compute_iou,
    from_rows_first,
    from_sizes,
    to_fractions,
    to_pixels,
    to_rows_first,
    to_sizes,
)


def test_forms_of_one_box() -> None:
    """30 x 40 pixels, 10 from the left and 20 from the top, in an image of 100 x 200."""
    corners = [[10, 20, 40, 60]]
    assert from_sizes([[10, 20, 30, 40]]).tolist() == corners
    assert to_sizes(corners).tolist() == [[10, 20, 30, 40]]
    assert to_rows_first(corners).tolist() == [[20, 10, 60, 40]]
    assert from_rows_first([[20, 10, 60, 40]]).tolist() == corners
    assert to_fractions(corners, 100, 200).tolist() == [[0.1, 0.1, 0.4, 0.3]]
    assert to_pixels([[0.1, 0.1, 0.4, 0.3]], 100, 200).tolist() == corners
    assert clip_boxes([[-0.1, 0.2, 0.5, 1.3]]).tolist() == [[0.0, 0.2, 0.5, 1.0]]


@pytest.mark.parametrize(
    ("one", "other", "shared"),
    [
        ([0, 0, 10, 10], [0, 0, 10, 10], 1.0),
        ([0, 0, 10, 10], [5, 0, 15, 10], 50 / 150),
        ([0, 0, 10, 10], [2, 2, 4, 4], 4 / 100),
        ([0, 0, 10, 10], [10, 0, 20, 10], 0.0),
        ([0, 0, 10, 10], [20, 20, 30, 30], 0.0),
        ([5, 5, 5, 5], [5, 5, 5, 5], 0.0),
        ([0, 0, 10, 10], [8, 8, 2, 2], 0.0),
    ],
)
def test_intersection_over_union_by_hand(one: list[float], other: list[float], shared: float) -> None:
    """Equal, half over, inside, touching, apart, empty, inside out."""
    assert compute_iou([one], [other]) == pytest.approx(np.array([[shared]]))


def test_intersection_over_union_of_none() -> None:
    """No boxes share nothing, in the right shape."""
    assert compute_iou(np.zeros((0, 4)), [[0, 0, 1, 1]]).shape == (0, 1)


@given(st.lists(st.tuples(*[st.integers(0, 30)] * 4), min_size=1, max_size=5))
def test_intersection_over_union_counts_pixels(boxes: list[tuple[int, ...]]) -> None:
    """On whole pixels it is what counting them gives."""
    corners = [(left, top, left + width, top + height) for left, top, width, height in boxes]
    painted = []
    for left, top, right, bottom in corners:
        canvas = np.zeros((60, 60), bool)
        canvas[top:bottom, left:right] = True
        painted.append(canvas)
    for one, row in enumerate(compute_iou(corners, corners)):
        for other, value in enumerate(row):
            union = (painted[one] | painted[other]).sum()
            counted = (painted[one] & painted[other]).sum() / union if union else 0.0
            assert value == pytest.approx(counted)
