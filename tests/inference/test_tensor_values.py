"""Values as users write them, converted to the datatype and shape of an input, without a loss."""

from __future__ import annotations

import math
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tritonforge.datatypes import BY_WIRE
from tritonforge.errors import EncodeError
from tritonforge.inference.client import TensorMetadata
from tritonforge.inference.model_inputs import (
    convert_array,
    convert_bytes,
    convert_json,
    convert_text,
    fit_shape,
    repeat_rows,
)

INTEGERS = {name: np.iinfo(row.dtype) for name, row in BY_WIRE.items() if row.kind == "integer"}


def x(datatype: str, *shape: int) -> TensorMetadata:
    """An input named x."""
    return TensorMetadata("x", datatype, shape)


@pytest.mark.slow
@given(st.sampled_from(sorted(INTEGERS)), st.data())
def test_every_integer_of_a_datatype_comes_through_json(datatype: str, data: st.DataObject) -> None:
    """All digits are kept, also of numbers that no float holds."""
    limits = INTEGERS[datatype]
    values = data.draw(st.lists(st.integers(int(limits.min), int(limits.max)), min_size=1))
    assert convert_json(values, x(datatype, -1)).tolist() == values


@given(st.lists(st.text(), min_size=1))
def test_every_text_comes_through_json(texts: list[str]) -> None:
    """Strings become UTF-8."""
    if all(text.isprintable() for text in texts):
        assert convert_json(texts, x("BYTES", -1)).tolist() == [text.encode() for text in texts]


@pytest.mark.parametrize(
    ("datatype", "value", "expected"),
    [
        ("BOOL", [True, 0, 1], [True, False, True]),
        ("INT8", [1.0, -128], [1, -128]),
        ("FP32", ["NaN", "Infinity", "-Infinity", 1, 0.5], [math.nan, math.inf, -math.inf, 1, 0.5]),
        ("FP16", [65504], [65504]),
        ("BF16", [1e38, -0.5], [float(ml_dtypes.bfloat16(1e38)), -0.5]),
        ("FP64", [2**53, 1e308], [2**53, 1e308]),
        ("BYTES", ["é", ""], ["é".encode(), b""]),
    ],
)
def test_json_becomes_the_datatype_of_the_input(datatype: str, value: Any, expected: list[Any]) -> None:
    """Each datatype takes the values of JSON that it can hold."""
    array = convert_json(value, x(datatype, -1))
    assert array.dtype == BY_WIRE[datatype].dtype
    np.testing.assert_array_equal(array.astype(object if datatype == "BYTES" else np.float64), expected)


@pytest.mark.parametrize(
    ("datatype", "value", "found"),
    [
        ("UINT8", [0, 256], "256, which it cannot hold"),
        ("UINT8", [-1], "-1, which it cannot hold"),
        ("INT64", [10**400], "a huge integer, which it cannot hold"),
        ("INT64", 1.5, "1.5, which is not a whole number"),
        ("INT64", math.nan, "NaN"),
        ("INT64", True, "true"),
        ("INT64", "1", '"1"'),
        ("FP16", 70000, "70000.0, which it cannot hold"),
        ("FP32", 1e39, "1e+39, which it cannot hold"),
        ("FP64", 10**400, "a huge integer, which it cannot hold"),
        ("FP32", None, "null"),
        ("FP32", False, "false"),
        ("FP32", "nan", '"nan"'),
        ("FP32", {"a": 1}, '{"a": 1}'),
        ("BOOL", 2, "2; write true or false"),
        ("BOOL", "true", '"true"; write true or false'),
        ("BYTES", 5, "5; strings are quoted in JSON"),
        ("BYTES", "\ud800", "text that is not Unicode"),
        ("BYTES", ["a", None], "null; strings are quoted in JSON"),
        ("FP32", [[1, 2], [3]], "nested lists of different lengths"),
        ("FP32", [1, [2]], "a list with both values and lists"),
        ("FP32", [[[1, 2]]], "shape [1, 1, 2]"),
    ],
)
def test_what_json_cannot_give_names_the_input_and_both_sides(datatype: str, value: Any, found: str) -> None:
    """The sentence says which input, what it expects, and what it got."""
    with pytest.raises(EncodeError) as caught:
        convert_json(value, x(datatype, 7) if "shape" in found else x(datatype, -1))
    assert str(caught.value).startswith(f"input 'x': expected {datatype} of shape [")
    assert f"got {found}" in str(caught.value)


@pytest.mark.parametrize(
    ("given", "wanted", "fitted"),
    [
        ((), (-1, 1), (1, 1)),
        ((3,), (-1, 3), (1, 3)),
        ((3,), (-1, 1), (3, 1)),
        ((3,), (-1, -1), (1, 3)),
        ((2, 3), (-1, 3), (2, 3)),
        ((1, 3), (3,), (3,)),
        ((1, 1, 3), (-1, 3), (1, 3)),
        ((299, 299, 3), (-1, 299, 299, 3), (1, 299, 299, 3)),
        ((2, 4), (-1, 1, 4), (2, 1, 4)),
        ((0,), (-1,), (0,)),
        ((3,), (-1, 4), None),
        ((4,), (-1, 2), None),
        ((2, 2), (4,), None),
        ((2,), (), None),
    ],
)
def test_a_shape_gains_and_loses_axes_of_length_1_only(
    given: tuple[int, ...], wanted: tuple[int, ...], fitted: tuple[int, ...] | None
) -> None:
    """A batch of one needs no outer list; elements are never put into another shape."""
    array = np.arange(math.prod(given)).reshape(given)
    if fitted is None:
        with pytest.raises(EncodeError, match="got shape"):
            fit_shape(array, x("INT64", *wanted))
    else:
        reshaped = fit_shape(array, x("INT64", *wanted))
        assert reshaped.shape == fitted
        assert reshaped.reshape(-1).tolist() == array.reshape(-1).tolist()


def test_an_array_of_very_many_axes_is_refused_at_once() -> None:
    """The ways to leave out axes are not all tried."""
    with pytest.raises(EncodeError, match="got shape"):
        fit_shape(np.zeros((1,) * 31 + (2,)), x("FP64", *(3,) * 16))


@pytest.mark.parametrize(
    ("array", "datatype", "expected"),
    [
        (np.array([0.1, 2]), "FP32", np.array([0.1, 2], np.float32)),
        (np.array([1, 2], np.uint8), "FP16", np.array([1, 2], np.float16)),
        (np.array([1, 255]), "UINT8", np.array([1, 255], np.uint8)),
        (np.array([1.5, 2], ml_dtypes.bfloat16), "FP64", np.array([1.5, 2])),
        (np.array([1.5, 2], ml_dtypes.bfloat16).view("V2"), "BF16", np.array([1.5, 2], ml_dtypes.bfloat16)),
        (np.array([1, 2], ">i4"), "INT32", np.array([1, 2], np.int32)),
        (np.array(["a", "bé"]), "BYTES", np.array(["a", "bé"], dtype=object)),
        (np.array([b"a", b"b"]), "BYTES", np.array([b"a", b"b"], dtype=object)),
        (np.array([np.inf, np.nan]), "FP16", np.array([np.inf, np.nan], np.float16)),
    ],
)
def test_an_array_becomes_the_datatype_of_the_input(array: Any, datatype: str, expected: Any) -> None:
    """Within integers and within floats, and from integers to floats."""
    found = convert_array(array, x(datatype, -1))
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("array", "datatype", "found"),
    [
        (np.array([1.0]), "INT32", "an array of float64; cast it first"),
        (np.array([True]), "INT32", "an array of bool; cast it first"),
        (np.array([1]), "BOOL", "an array of int64; cast it first"),
        (np.array([300]), "INT8", "300, which it cannot hold"),
        (np.array([2**63], np.uint64), "INT64", "9223372036854775808, which it cannot hold"),
        (np.array([1e30]), "FP16", "1e+30, which it cannot hold"),
        (np.array([1]), "BYTES", "an array of int64"),
        (np.array(["1"]), "INT64", "an array of <U1; cast it first"),
        (np.array([1j]), "FP32", "an array of complex128; cast it first"),
    ],
)
def test_an_array_that_would_lose_something_is_refused(array: Any, datatype: str, found: str) -> None:
    """Floats do not become integers by themselves, and nothing wraps or becomes infinite."""
    with pytest.raises(EncodeError) as caught:
        convert_array(array, x(datatype, -1))
    assert f"got {found}" in str(caught.value)


def test_text_is_one_element_or_a_list_of_strings() -> None:
    """For BYTES a JSON list of strings is several elements, everything else is the text itself."""
    column = x("BYTES", -1, 1)
    assert convert_text("once upon", column).tolist() == [[b"once upon"]]
    assert convert_text("[1, 2]", column).tolist() == [[b"[1, 2]"]]
    assert convert_text("", column).tolist() == [[b""]]
    assert convert_text('["a", "b"]', column).tolist() == [[b"a"], [b"b"]]
    assert convert_text('[["@a"]]', column).tolist() == [[b"@a"]]
    assert convert_text("3", x("INT32", -1, 1)).tolist() == [[3]]
    for text, described in (
        ("three", 'the text "three", which is not JSON'),
        (" ", "an empty text"),
        ("[" * 9999, "the"),
    ):
        with pytest.raises(EncodeError, match=f"got {described}"):
            convert_text(text, x("INT32", -1))


def test_a_file_is_one_element_or_a_row_of_bytes() -> None:
    """BYTES and UINT8 take the bytes of a file; other datatypes take its JSON."""
    assert convert_bytes(b"\xff\0", x("BYTES", -1, 1)).tolist() == [[b"\xff\0"]]
    assert convert_bytes(b"\xff\0", x("UINT8", -1, -1)).tolist() == [[255, 0]]
    assert convert_bytes(b"[1, 2]\n", x("FP32", -1, 2)).tolist() == [[1, 2]]
    with pytest.raises(EncodeError, match="got a file of 2 bytes that is not JSON; encoded images go to"):
        convert_bytes(b"\xff\0", x("FP32", -1))
    with pytest.raises(EncodeError, match="got a file of 2 bytes; a file is one row of bytes, decoded pixels"):
        convert_bytes(b"\xff\0", x("UINT8", -1, 299, 299, 3))


def test_one_row_serves_a_whole_batch() -> None:
    """What goes beside a batch of images has its rows, or one that is repeated."""
    one = np.array([[1, 2]])
    assert repeat_rows(one, 3, x("INT64", -1, 2)).tolist() == [[1, 2]] * 3
    assert repeat_rows(one, 1, x("INT64", -1, 2)) is one
    with pytest.raises(EncodeError, match="got 2 rows for a batch of 3 images"):
        repeat_rows(np.zeros((2, 2)), 3, x("FP64", -1, 2))
