"""Whether a tensor is the recorded one: small ones by their elements, large ones by what is stored of them."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tritonforge.golden_tests.cases import Tolerance
from tritonforge.golden_tests.comparison import compare_labels, compare_tensor, compare_top
from tritonforge.golden_tests.tensor_record import draw_thumbnail, record_tensor

DEFAULT = Tolerance()
EXACT = Tolerance(0.0, 0.0)


def large(seed: int = 0, shape: tuple[int, ...] = (1, 40, 30, 3)) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 1, shape).astype(np.float32)


def test_the_largest_difference_and_its_values_are_reported() -> None:
    before = np.array([[0.5, 0.25, 0.25]], np.float32)
    now = np.array([[0.4, 0.36, 0.25]], np.float32)
    sentence = compare_tensor(record_tensor(before), now, DEFAULT)
    assert sentence == (
        "2 of 3 elements differ, by up to 0.11 at [0, 1]: 0.25 before, 0.36 now "
        "(tolerance 7.62939e-06 + 0.001 * |before|)"
    )


@pytest.mark.parametrize("array", [large(), large(shape=(4, 5))])
def test_noise_of_another_order_of_sums_is_equal(array: np.ndarray) -> None:
    noise = array + np.random.default_rng(1).normal(0, 2e-7, array.shape).astype(np.float32)
    assert compare_tensor(record_tensor(array), noise, DEFAULT) == ""
    assert compare_tensor(record_tensor(array), noise, EXACT) != ""


@pytest.mark.parametrize("array", [large(), large(shape=(4, 5))])
@pytest.mark.parametrize(
    "change",
    [
        lambda array: array + np.float32(0.01),
        lambda array: array * np.float32(1.01),
        lambda array: array[..., ::-1],
        lambda array: -array,
        lambda array: np.where(array == array.max(), np.nan, array).astype(np.float32),
        lambda array: np.where(array == array.max(), 100.0, array).astype(np.float32),
    ],
)
def test_a_change_beyond_the_tolerance_differs(array: np.ndarray, change: object) -> None:
    assert callable(change)
    assert compare_tensor(record_tensor(array), change(array), DEFAULT) != ""


@pytest.mark.slow
@given(
    seed=st.integers(0, 2**32),
    size=st.integers(257, 5000),
    scale=st.floats(1e-6, 1e6),
    absolute=st.floats(0, 1e3),
    relative=st.floats(0, 1.0),
)
def test_a_large_tensor_within_the_tolerance_never_differs(
    seed: int, size: int, scale: float, absolute: float, relative: float
) -> None:
    """Every stored number follows from the elements: if they are within the tolerance, so is it."""
    random = np.random.default_rng(seed)
    before = random.normal(0, scale, size)
    tolerance = absolute + relative * np.abs(before)
    now = before + random.uniform(-1, 1, size) * tolerance
    now = np.where(np.abs(now - before) <= 0.999 * tolerance, now, before)  # a sum may be rounded out of the tolerance
    assert compare_tensor(record_tensor(before), now, Tolerance(absolute, relative)) == ""


def test_an_equal_rounded_digest_is_within_the_default_tolerance() -> None:
    before = large()
    record = record_tensor(before)
    assert record.summary is not None
    now = (before + np.float32(record.summary.quantum / 64)).astype(np.float32)
    assert compare_tensor(record, now, DEFAULT) == ""


def test_the_type_and_the_shape_are_compared_first() -> None:
    record = record_tensor(np.zeros((1, 3), np.float32))
    assert compare_tensor(record, np.zeros((1, 4), np.float32), DEFAULT) == "FP32 [1, 3] before, FP32 [1, 4] now"
    assert compare_tensor(record, np.zeros((1, 3), np.int32), DEFAULT) == "FP32 [1, 3] before, INT32 [1, 3] now"


def test_integers_and_texts_must_be_equal() -> None:
    assert compare_tensor(record_tensor(np.array([1, 2])), np.array([1, 3]), DEFAULT) == (
        "1 of 2 elements differ, by up to 1 at [1]: 2 before, 3 now (tolerance 0)"
    )
    assert compare_tensor(record_tensor(np.array([1, 2])), np.array([1, 3]), Tolerance(absolute=1)) == ""
    texts = np.array([b"zero", b"one"], object)
    assert compare_tensor(record_tensor(texts), np.array([b"zero", b"two"], object), DEFAULT) == (
        "1 of 2 elements differ: 'one' before, 'two' now"
    )
    many = np.array([b"x" * 50] * 300, object)
    assert compare_tensor(record_tensor(many), many.copy(), DEFAULT) == ""
    many[7] = b"y"
    assert compare_tensor(record_tensor(np.array([b"x" * 50] * 300, object)), many, DEFAULT) == (
        "its bytes are not the recorded ones"
    )


def test_large_integers_are_compared_by_their_bytes() -> None:
    before = np.arange(1000, dtype=np.int64)
    now = before.copy()
    now[500] += 1
    assert compare_tensor(record_tensor(before), before.copy(), DEFAULT) == ""
    assert compare_tensor(record_tensor(before), now, DEFAULT).startswith("its bytes are not the recorded ones")
    assert compare_tensor(record_tensor(before), now, Tolerance(absolute=1)) == ""


def test_nan_equals_nan_and_infinity_equals_itself() -> None:
    before = np.array([np.nan, np.inf, -np.inf, 1.0], np.float32)
    assert compare_tensor(record_tensor(before), before.copy(), DEFAULT) == ""
    moved = np.array([np.nan, np.inf, -np.inf, 2.0], np.float32)
    assert compare_tensor(record_tensor(before), moved, DEFAULT).startswith("1 of 4 elements differ")
    finite = np.array([0.0, np.inf, -np.inf, 1.0], np.float32)
    assert compare_tensor(record_tensor(before), finite, DEFAULT).startswith("1 of 4 elements differ, by up to inf")


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_half_precision_has_a_tolerance_of_its_own(dtype: type) -> None:
    before = large(shape=(2, 5)).astype(dtype)
    nearest = (before.astype(np.float32) * np.float32(1.002)).astype(dtype)
    assert compare_tensor(record_tensor(before), nearest, DEFAULT) == ""
    assert compare_tensor(record_tensor(before), (before.astype(np.float32) * 1.2).astype(dtype), DEFAULT) != ""


def test_the_best_classes_are_compared_in_order() -> None:
    before = np.array([[0.7, 0.2, 0.1]], np.float32)
    assert compare_top(record_tensor(before), np.array([[0.6, 0.1, 0.3]], np.float32), 1) == ""
    assert compare_top(record_tensor(before), np.array([[0.6, 0.1, 0.3]], np.float32), 2) == (
        "row 0: the best classes are [0, 2], before they were [0, 1]"
    )
    wide = large(shape=(2, 1001))
    assert compare_top(record_tensor(wide), wide, 10) == ""
    assert "row 0" in compare_top(record_tensor(wide), -wide, 1)


def test_labels_of_classes_in_both_answers_are_compared() -> None:
    assert compare_labels({1: "one", 2: "two"}, {1: "one", 3: "three"}) == ""
    assert compare_labels({1: "one"}, {1: "two"}) == "class 1 is labelled 'two', before it was 'one'"


def test_a_thumbnail_spreads_the_values_over_all_greys() -> None:
    image = np.tile(np.linspace(-1, 1, 16, dtype=np.float32)[:, None, None], (1, 16, 1))
    assert (thumbnail := draw_thumbnail(image)) is not None
    assert thumbnail[:, 0, 0].tolist() == [17 * row for row in range(16)]
    assert (darker := draw_thumbnail(image, limits=(-1.0, 3.0))) is not None
    assert int(darker.max()) == 128
    assert (flat := draw_thumbnail(np.ones((16, 16, 1), np.float32))) is not None
    assert int(flat.max()) == 0


def test_a_thumbnail_is_of_tensors_that_look_like_images() -> None:
    assert (thumbnail := draw_thumbnail(large(shape=(2, 299, 200, 3)))) is not None
    assert thumbnail.shape == (32, 32, 3)
    assert (first := draw_thumbnail(large(shape=(2, 3, 20, 10)))) is not None
    assert first.shape == (20, 10, 3)
    assert draw_thumbnail(large(shape=(20, 10))) is None
    assert draw_thumbnail(large(shape=(1, 4, 4, 3))) is None
