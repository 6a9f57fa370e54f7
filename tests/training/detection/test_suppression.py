"""Suppression, class by class."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tritonforge.training.detection import boxes as boxes_module
from tritonforge.training.detection import compute_iou, suppress

BOXES = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [20, 20, 30, 30], [0, 0, 10, 9.9]], np.float32)


def test_the_likeliest_of_neighbours_stays() -> None:
    """Of boxes that share more than half, one; those apart both; the likeliest first."""
    scores = np.array([[0.6], [0.9], [0.7], [0.8]], np.float32)
    boxes, classes, likely = suppress(BOXES, scores)
    assert boxes.tolist() == BOXES[[1, 2]].tolist()
    assert classes.tolist() == [0, 0]
    assert likely.tolist() == scores[[1, 2], 0].tolist()


def test_classes_do_not_suppress_each_other() -> None:
    """Two classes at one place are two detections."""
    scores = np.array([[0.6, 0.5], [0.1, 0.1], [0.0, 0.0], [0.0, 0.0]], np.float32)
    boxes, classes, _ = suppress(BOXES, scores)
    assert classes.tolist() == [0, 1]
    assert boxes.tolist() == BOXES[[0, 0]].tolist()


def test_what_is_unlikely_is_left_out_and_what_is_least_likely_goes_first() -> None:
    """``least`` is included, ``most`` counts all classes."""
    scores = np.array([[0.05, 0.3], [0.04999, 0.0], [0.2, 0.0], [0.0, 0.0]])
    assert sorted(suppress(BOXES, scores)[2].tolist(), reverse=True) == [0.3, 0.2, 0.05]
    assert suppress(BOXES, scores, most=2)[2].tolist() == [0.3, 0.2]
    assert suppress(BOXES, scores, least=0.4)[0].shape == (0, 4)
    assert suppress(np.zeros((0, 4)), np.zeros((0, 3)))[0].shape == (0, 4)


def test_exactly_the_threshold_is_not_too_much() -> None:
    """Boxes that share just ``iou`` both stay, as in TensorFlow's operator."""
    boxes = np.array([[0, 0, 2, 1], [0, 0, 1, 1]], np.float64)
    scores = np.array([[0.9], [0.8]])
    assert len(suppress(boxes, scores, iou=0.5)[0]) == 2
    assert len(suppress(boxes, scores, iou=0.499)[0]) == 1


def naive(boxes: Any, scores: Any, iou: float, least: float) -> list[tuple[int, int]]:
    """(class, box) of what stays, by the definition."""
    kept = []
    for number in range(scores.shape[1]):
        chosen: list[int] = []
        for place in sorted(range(len(boxes)), key=lambda place: (-scores[place, number], place)):
            if scores[place, number] >= least and all(
                compute_iou([boxes[place]], [boxes[other]])[0, 0] <= iou for other in chosen
            ):
                chosen.append(place)
        kept += [(number, place) for place in chosen]
    return sorted(kept)


@pytest.mark.slow
@given(st.integers(0, 2**32 - 1), st.integers(0, 30), st.integers(1, 4))
def test_suppression_is_what_its_definition_says(seed: int, count: int, classes: int) -> None:
    """Against the definition, read slowly."""
    chance = np.random.default_rng(seed)
    low = chance.integers(0, 12, (count, 2))
    boxes = np.concatenate([low, low + chance.integers(0, 12, (count, 2))], axis=1).astype(np.float64)
    scores = chance.integers(0, 20, (count, classes)) / 20
    found, numbers, likely = suppress(boxes, scores, iou=0.4, least=0.1, most=1000)
    expected = naive(boxes, scores, 0.4, 0.1)
    assert sorted((int(number), *box) for number, box in zip(numbers, found.tolist(), strict=True)) == sorted(
        (number, *boxes[place]) for number, place in expected
    )
    assert likely.tolist() == sorted(likely.tolist(), reverse=True)


@pytest.mark.process
def test_the_file_needs_numpy_alone() -> None:
    """It is copied into model repositories, where there is no tritonforge."""
    script = (
        "import importlib.util, sys\n"
        f"spec = importlib.util.spec_from_file_location('alone', {str(Path(str(boxes_module.__file__)))!r})\n"
        "module = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(module)\n"
        "print(len(module.suppress([[0, 0, 1, 1]], [[0.5]])[0]), 'tritonforge' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["1", "False"], done.stderr
