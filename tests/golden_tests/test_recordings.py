"""Recordings as JSON: read back as they were, compact, and refused if they are something else."""

from __future__ import annotations

import json

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tritonforge.datatypes import DATATYPES
from tritonforge.errors import CaseError
from tritonforge.golden_tests.cases import Tolerance
from tritonforge.golden_tests.comparison import compare_tensor
from tritonforge.golden_tests.recordings import InputRecord, Recording, StepRecord, parse_recording, render_recording
from tritonforge.golden_tests.tensor_record import hash_tensor, record_tensor


def wrap(array: np.ndarray, labels: dict[int, str] | None = None) -> Recording:
    """A recording with one step and one output."""
    record = record_tensor(array, labels=labels)
    given = {"IMAGE": InputRecord("UINT8", (1, 3), hash_tensor(np.zeros((1, 3), np.uint8)))}
    step = StepRecord("decode", "decode", {"encoded": "IMAGE"}, {"pixels": record})
    return Recording("digits", given, (step,), {"P": "decode.pixels"}, {"P": record})


def test_a_small_tensor_is_stored_whole_one_line_for_each_row() -> None:
    text = render_recording(wrap(np.array([[0.1, 0.9], [0.5, np.nan]], np.float32), {1: "seven"}))
    assert '"values": [\n            [0.1, 0.9],\n            [0.5, "NaN"]\n          ]' in text
    assert json.loads(text)["outputs"]["P"]["labels"] == {"1": "seven"}


@pytest.mark.parametrize("row", DATATYPES, ids=lambda row: row.wire)
@pytest.mark.parametrize("size", [0, 6, 600])
def test_a_recording_is_read_back_as_it_was(row: object, size: int) -> None:
    """For each datatype, small and large: the tensor itself equals its record exactly, another one does not."""
    dtype = row.dtype  # type: ignore[attr-defined]
    numbers = np.random.default_rng(0).integers(0, 2 if dtype == np.bool_ else 100, size)
    is_text = dtype.kind == "O"
    array = np.array([b"\xff%d" % number for number in numbers], object) if is_text else numbers.astype(dtype)
    array = array.reshape(2, -1) if size else array
    text = render_recording(wrap(array, {3: "drei é"}))
    recording = parse_recording(text, where="r.json")
    assert render_recording(recording) == text
    record = recording.steps[0].outputs["pixels"]
    assert compare_tensor(record, array, Tolerance(0.0, 0.0)) == ""
    if size:
        other = array.copy()
        other.flat[0] = b"other" if is_text else not other.flat[0] if dtype == np.bool_ else other.flat[0] + 1
        assert compare_tensor(record, other, Tolerance(0.0, 0.0)) != ""


@pytest.mark.slow
@given(st.lists(st.floats(width=32), min_size=1, max_size=40))
def test_every_float_is_stored_exactly(values: list[float]) -> None:
    array = np.array(values, np.float32)
    record = parse_recording(render_recording(wrap(array)), where="").outputs["P"]
    assert record.values is not None
    np.testing.assert_array_equal(record.values, array)


@pytest.mark.slow
def test_the_recording_of_a_large_tensor_is_compact() -> None:
    array = np.random.default_rng(0).normal(size=(8, 299, 299, 3)).astype(np.float32)
    assert len(render_recording(wrap(array))) < 32_000  # of 8.6 MB, twice


def test_bfloat16_is_stored_as_numbers() -> None:
    text = render_recording(wrap(np.array([1.5, -2.0]).astype(ml_dtypes.bfloat16)))
    assert "[1.5, -2.0]" in text


@pytest.mark.parametrize(
    "change",
    [
        lambda document: document.update(format=2),
        lambda document: document.pop("inputs"),
        lambda document: document["outputs"]["P"].update(datatype="FP99"),
        lambda document: document["outputs"]["P"].update(shape=[2, -1]),
        lambda document: document["outputs"]["P"].update(shape=[3]),
        lambda document: document["outputs"]["P"].update(values=[["a", 1.0]]),
        lambda document: document["outputs"]["P"].update(values=1e400),
        lambda document: document["outputs"]["P"].update(labels={"x": "y"}),
        lambda document: document["inputs"]["IMAGE"].update(digest="md5"),
        lambda document: document.update(steps={}),
        lambda document: document.update(outputs=[]),
    ],
)
def test_what_is_not_a_recording_is_refused_in_a_sentence(change: object) -> None:
    document = json.loads(render_recording(wrap(np.array([[0.5, 1.0]], np.float32))))
    assert callable(change)
    change(document)
    with pytest.raises(
        CaseError, match=r"^r\.json: (this is not a recording: .*\. Record it again with --update|expected)"
    ):
        parse_recording(json.dumps(document), where="r.json")


@pytest.mark.slow
@given(st.data())
def test_a_damaged_recording_of_a_large_tensor_is_read_or_refused(data: st.DataObject) -> None:
    """Never another error, whatever one member becomes."""
    array = np.random.default_rng(0).normal(size=(1, 20, 20, 3)).astype(np.float32)
    document = json.loads(render_recording(wrap(array)))
    record = document["outputs"]["P"]
    key = data.draw(st.sampled_from(sorted(record)))
    record[key] = data.draw(
        st.none()
        | st.booleans()
        | st.integers()
        | st.text(max_size=5)
        | st.lists(st.integers(), max_size=3)
        | st.just({})
    )
    try:
        recording = parse_recording(json.dumps(document), where="r.json")
    except CaseError:
        return
    assert isinstance(compare_tensor(recording.outputs["P"], array, Tolerance()), str)
