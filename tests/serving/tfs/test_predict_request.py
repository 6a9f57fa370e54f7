"""The JSON of TensorFlow Serving's predict API: what requests become, what is refused in which words, what is written.

Layouts and sentences are those of tensorflow/serving util/json_tensor_test.cc and json_tensor.cc.
"""

from __future__ import annotations

import base64
import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from tritonforge.serving.tfs import predict_request, predict_response
from tritonforge.serving.tfs.predict_request import StatusError

ONE = {"x": "float"}
TWO = {"a": "int32", "b": "string"}


def read(body: str | bytes, types: dict[str, str]) -> tuple[dict[str, Any], str]:
    """The arrays of a body, by both ways where both may be taken; they must agree."""
    data = body.encode() if isinstance(body, str) else body
    document = predict_request.parse_request(data)
    slow, form = predict_request.read_arrays(document, types, plain=False)
    if b"true" not in data and b"false" not in data:
        quick, _ = predict_request.read_arrays(document, types, plain=True)
        for name, array in slow.items():
            assert quick[name].dtype == array.dtype
            np.testing.assert_array_equal(quick[name], array)
    return slow, form


REQUESTS: list[tuple[str, dict[str, str], dict[str, Any], str]] = [
    ('{"instances": [1, 2.5]}', ONE, {"x": np.float32([1, 2.5])}, "row"),
    ('{"instances": [[1, 2], [3, 4]]}', {"x": "int64"}, {"x": np.array([[1, 2], [3, 4]])}, "row"),
    ('{"instances": [NaN, Infinity, -Infinity]}', ONE, {"x": np.float32([np.nan, np.inf, -np.inf])}, "row"),
    ('{"instances": [1e40]}', ONE, {"x": np.float32([np.inf])}, "row"),
    ('{"instances": [300, -1]}', {"x": "uint8"}, {"x": np.uint8([44, 255])}, "row"),
    ('{"instances": [18446744073709551615]}', {"x": "uint64"}, {"x": np.uint64([2**64 - 1])}, "row"),
    ('{"instances": [true, false]}', {"x": "bool"}, {"x": np.array([True, False])}, "row"),
    ('{"instances": ["a", "\\u00e9"]}', {"x": "string"}, {"x": np.array([b"a", "é".encode()], object)}, "row"),
    ('{"instances": [{"b64": "/9g="}, "s"]}', {"x": "string"}, {"x": np.array([b"\xff\xd8", b"s"], object)}, "row"),
    ('{"instances": [{"b64": "/9g"}]}', {"x": "string"}, {"x": np.array([b"\xff\xd8"], object)}, "row"),
    (
        '{"instances": [{"a": 1, "b": "x"}, {"b": {"b64": "eQ=="}, "a": 2}]}',
        TWO,
        {"a": np.int32([1, 2]), "b": np.array([b"x", b"y"], object)},
        "row",
    ),
    ('{"instances": [{"x": [1]}, {"x": [2]}]}', ONE, {"x": np.float32([[1], [2]])}, "row"),
    ('{"instances": [[], []]}', ONE, {"x": np.zeros((2, 0), np.float32)}, "row"),
    ('{"inputs": [[1, 2]]}', ONE, {"x": np.float32([[1, 2]])}, "columnar"),
    ('{"inputs": 5}', ONE, {"x": np.float32(5)}, "columnar"),
    ('{"inputs": {"b64": "eQ=="}}', {"x": "string"}, {"x": np.array(b"y", object)}, "columnar"),
    (
        '{"inputs": {"a": [1, 2, 3], "b": "x", "c": 0}}',
        TWO,
        {"a": np.int32([1, 2, 3]), "b": np.array(b"x", object)},
        "columnar",
    ),
    ('\ufeff {"signature_name": "s", "instances": [1]} and more', ONE, {"x": np.float32([1])}, "row"),
]


@pytest.mark.parametrize(("body", "types", "expected", "form"), REQUESTS)
def test_requests_become_arrays(body: str, types: dict[str, str], expected: dict[str, Any], form: str) -> None:
    """Types, shapes and values, in row and in columnar format."""
    found, found_form = read(body, types)
    assert found_form == form
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


ELEMENT = "Failed to process element: {} of 'instances' list. Error: INVALID_ARGUMENT: "
REFUSED: list[tuple[str, dict[str, str], str]] = [
    ("", ONE, "JSON Parse error: The document is empty"),
    ("{ no", ONE, "JSON Parse error: Expecting property name enclosed in double quotes at offset: 2"),
    ("[1]", ONE, "JSON Value: [1] Is not object"),
    ('{"signature_name": 5, "instances": [1]}', {}, "'signature_name' key must be a string value."),
    ('{"instances": [1]}', {}, "Failed to get input map for signature: DEFAULT"),
    ("{}", ONE, "Missing 'inputs' or 'instances' key"),
    ('{"instances": [1], "inputs": 1}', ONE, "expecting only one of 'inputs' or 'instances' keys to exist"),
    ('{"instances": {"x": 1}}', ONE, "Expecting 'instances' to be an list/array"),
    ('{"instances": []}', ONE, "No values in 'instances' array"),
    ('{"instances": [1]}', TWO, "instances is a plain list, but expecting list of objects as multiple input tensors"),
    ('{"inputs": [1]}', TWO, "inputs is a plain value/list, but expecting an object as multiple input tensors"),
    ('{"inputs": {"a": 1}}', TWO, "Missing named input: b in 'inputs' object."),
    ('{"instances": [{"a": 1}]}', TWO, "keys must be equal to: a,b"),
    (
        '{"instances": [{"a": 1, "b": "x", "c": 1}]}',
        TWO,
        "key: c of 'instances' list. Error: INVALID_ARGUMENT: JSON ob",
    ),
    ('{"instances": [{"x": 1}, 2]}', ONE, "Expecting object but got list at item 1 of input list"),
    ('{"instances": [1, {"x": 2}]}', ONE, "Expecting value/list but got object at item 1 of input list"),
    (
        '{"instances": [1, "a"]}',
        ONE,
        ELEMENT.format(1) + 'JSON Value: "a" Type: String is not of expected type: float',
    ),
    ('{"instances": [true]}', ONE, "JSON Value: true Type: True is not of expected type: float"),
    ('{"instances": [[1, false]]}', {"x": "int32"}, "JSON Value: false Type: False is not of expected type: int32"),
    ('{"instances": [null]}', ONE, "JSON Value: null Type: Null is not of expected type: float"),
    ('{"instances": [1.5]}', {"x": "int32"}, "JSON Value: 1.5 Type: Number is not of expected type: int32"),
    ('{"instances": [2147483648]}', {"x": "int32"}, "Type: Number is not of expected type: int32"),
    ('{"instances": [-1]}', {"x": "uint32"}, "Type: Number is not of expected type: uint32"),
    ('{"instances": [1]}', {"x": "string"}, "JSON Value: 1 Type: Number is not of expected type: string"),
    ('{"instances": [1]}', {"x": "bool"}, "JSON Value: 1 Type: Number is not of expected type: bool"),
    ('{"instances": [{"b64": "*"}]}', {"x": "string"}, "Unable to base64 decode"),
    ('{"instances": [{"b64": "eQ==", "x": "a"}]}', {"x": "string"}, "JSON object: does not have named input: b64"),
    ('{"instances": [{"b64": "eQ=="}]}', ONE, "Type: Object is not of expected type: float"),
    ('{"instances": [[1, 2], [3]]}', ONE, ELEMENT.format(1) + "Expecting tensor size: 2 but got: 1"),
    ('{"instances": [[[1], [2]], [[1, 2]]]}', ONE, "Expecting shape [2,1] but got: [1,2]"),
    ('{"instances": [[1, [2]]]}', ONE, "Encountered list at unexpected level: 1 expected < 1"),
    ('{"instances": [[[1], 2]]}', ONE, "JSON Value: 2 found at incorrect level: 2 in the JSON DOM. Expected at level"),
    ('{"instances": [[[1, 2], [3]]]}', ONE, "Encountered list at unexpected size: 1 at level: 1 expected size: 2"),
    ('{"instances": [1]}', {"x": "half"}, "Conversion of JSON Value: 1 to type: half"),
    ("[" * 100_000, ONE, "JSON Parse error: it is nested too deeply"),
]


@pytest.mark.parametrize(("body", "types", "sentence"), REFUSED)
def test_what_is_no_request_is_refused_in_tensorflow_servings_words(
    body: str, types: dict[str, str], sentence: str
) -> None:
    """One sentence each, the same by the quick way and by the thorough one."""
    for plain in (False, True):
        if plain and ("true" in body or "false" in body):
            continue
        with pytest.raises(StatusError) as raised:
            predict_request.read_arrays(predict_request.parse_request(body.encode()), types, plain=plain)
        assert sentence in str(raised.value)


def outcome(document: dict[str, Any] | bytes, kind: str, *, plain: bool) -> tuple[dict[str, Any], str]:
    """The arrays and the format of a request; where it is refused, no arrays and the sentence."""
    try:
        parsed = predict_request.parse_request(document) if isinstance(document, bytes) else document
        return predict_request.read_arrays(parsed, {"x": kind}, plain=plain)
    except StatusError as refusal:
        return {}, str(refusal)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_request_or_refused(body: bytes) -> None:
    """Nothing else is raised, whatever comes."""
    found, message = outcome(body, "float", plain=False)
    assert found or message


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["x", "b64", "y"]), inner, max_size=2),
    max_leaves=12,
)


@given(
    st.dictionaries(st.sampled_from(["instances", "inputs", "signature_name"]), JSON, max_size=2),
    st.sampled_from(sorted(predict_request.TYPES)),
)
def test_the_quick_way_agrees_with_the_thorough_one(document: dict[str, Any], kind: str) -> None:
    """For every document both give the same arrays, or both refuse."""
    body = json.dumps(document)
    thorough, message = outcome(document, kind, plain=False)
    quick, quick_message = outcome(document, kind, plain="true" not in body and "false" not in body)
    assert quick_message == message
    assert quick.keys() == thorough.keys()
    for name, array in thorough.items():
        assert quick[name].dtype == array.dtype
        np.testing.assert_array_equal(quick[name], array)


def test_rows_are_laid_out_as_tensorflow_serving_does() -> None:
    """One output is a list, several are objects; elements stand on one line."""
    assert (
        predict_response.write_predictions({"y": np.float32([2.5, 3, 4.5])}, "row")
        == b'{\n    "predictions": [2.5, 3.0, 4.5\n    ]\n}'
    )
    two = {"probabilities": np.float32([[0.25, 0.75]]), "classes": np.array([1])}
    assert predict_response.write_predictions(two, "row").decode() == (
        "{\n"
        '    "predictions": [\n'
        "        {\n"
        '            "classes": 1,\n'
        '            "probabilities": [0.25, 0.75]\n'
        "        }\n"
        "    ]\n"
        "}"
    )


def test_columns_are_laid_out_as_tensorflow_serving_does() -> None:
    """Every element has its line."""
    assert predict_response.write_predictions({"y": np.int32([[1], [2]])}, "columnar").decode() == (
        '{\n    "outputs": [\n        [\n            1\n        ],\n        [\n            2\n        ]\n    ]\n}'
    )
    text = predict_response.write_predictions(
        {"b": np.array(True), "a": np.zeros((0, 2), np.float32)}, "columnar"
    ).decode()
    assert text == '{\n    "outputs": {\n        "a": [],\n        "b": true\n    }\n}'


def test_strings_and_bytes_differ_by_name() -> None:
    """An output whose name ends in ``_bytes`` is base64; another one is text, escaped for JSON."""
    values = np.array([b'a"\\\n\x01\xc3\xa9'], object)
    assert json.loads(predict_response.write_predictions({"text": values}, "row")) == {"predictions": ['a"\\\n\x01é']}
    encoded = base64.b64encode(values[0]).decode()
    assert json.loads(predict_response.write_predictions({"x_bytes": values}, "row")) == {
        "predictions": [{"b64": encoded}]
    }


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (np.float32(0.2), "0.2"),
        (np.float32(1 / 3), "0.333333343"),
        (np.float64(1 / 3), "0.33333333333333331"),
        (np.float32(9_000_000), "9e+06"),
        (np.float32(3e-05), "3e-05"),
        (np.float32(0), "0.0"),
        (np.float32(-0.0), "-0.0"),
        (np.float32(16777216), "16777216.0"),
        (np.float32("nan"), "NaN"),
        (np.float32("inf"), "Infinity"),
        (np.float64("-inf"), "-Infinity"),
    ],
)
def test_numbers_have_as_many_digits_as_they_need(value: Any, text: str) -> None:
    """Six, or all that give the number back."""
    assert (
        predict_response.write_predictions({"y": np.array([value])}, "row").decode()
        == f'{{\n    "predictions": [{text}\n    ]\n}}'
    )


@given(
    arrays_of.arrays(
        st.sampled_from([np.float32, np.float64, np.int64, np.uint8, np.bool_]),
        arrays_of.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=4),
    ),
    st.sampled_from(["row", "columnar"]),
)
def test_every_array_comes_back_from_what_is_written(array: np.ndarray[Any, Any], form: Any) -> None:
    """Whatever the shape and the numbers: JSON gives the same array back, bit for bit."""
    text = json.loads(predict_response.write_predictions({"y": array}, form))
    found = text["predictions" if form == "row" else "outputs"]
    np.testing.assert_array_equal(np.array(found, array.dtype).reshape(array.shape), array)
    assert not found or isinstance(found, list)


def test_what_json_cannot_carry_is_refused() -> None:
    """Types without JSON, and rows without a common batch."""
    for outputs, sentence in (
        ({"y": np.float16([1])}, "Failed to write JSON value for tensor type: float16"),
        ({"y": np.float32(1)}, "Tensor name: y has no shape information"),
        ({"a": np.zeros(2), "b": np.zeros(3)}, "Tensor name: b has inconsistent batch size: 3 expecting: 2"),
        ({}, "Cannot convert empty tensor map to JSON"),
    ):
        with pytest.raises(StatusError) as raised:
            predict_response.write_predictions(outputs, "row")
        assert sentence in str(raised.value)


def test_results_of_classify_and_regress_are_laid_out() -> None:
    """Pairs of label and score, and plain values."""
    text = predict_response.write_classifications([[(b"cat", 0.75), (b"", 0.25)]])
    assert text == b'{\n    "results": [[["cat", 0.75], ["", 0.25]]\n    ]\n}'
    assert predict_response.write_regressions(np.float32([[1], [2.5]])) == b'{\n    "results": [1.0, 2.5]\n}'
    assert predict_response.write_error('no "x"') == b'{\n    "error": "no \\"x\\""\n}'
    assert math.isnan(json.loads(predict_response.write_regressions(np.float32([np.nan])))["results"][0])
