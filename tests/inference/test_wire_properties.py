"""Over generated input: any value survives the round trip, any bytes decode or are a DecodeError."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tritonforge.datatypes import BY_WIRE
from tritonforge.errors import DecodeError
from tritonforge.inference.wire import (
    RequestedOutput,
    decode_class,
    decode_error,
    decode_request,
    decode_response,
    encode_request,
    encode_response,
    header_length,
)

SHAPES = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)
FIXED = st.sampled_from([datatype for datatype in BY_WIRE.values() if datatype.size is not None])
NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)
PARAMETERS = st.dictionaries(
    NAMES.filter(lambda name: not name.startswith(("triton_", "b", "c", "s"))),
    st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text(st.characters(codec="utf-8")),
    max_size=3,
)


@st.composite
def fixed_arrays(draw: st.DrawFn) -> Any:
    """An array of any fixed-size datatype: any bytes, except that booleans are 0 or 1."""
    datatype, shape = draw(FIXED), draw(SHAPES)
    count = int(np.prod(shape, dtype=np.int64))
    data = draw(st.binary(min_size=count * (datatype.size or 0), max_size=count * (datatype.size or 0)))
    if datatype.wire == "BOOL":
        data = bytes(byte & 1 for byte in data)
    return np.frombuffer(data, dtype=np.uint8).view(datatype.dtype).reshape(shape)


@st.composite
def byte_arrays(draw: st.DrawFn) -> Any:
    """An object array of bytes."""
    shape = draw(SHAPES)
    array = np.empty(int(np.prod(shape, dtype=np.int64)), dtype=object)
    array[:] = draw(st.lists(st.binary(max_size=6), min_size=array.size, max_size=array.size))
    return array.reshape(shape)


ARRAYS = fixed_arrays() | byte_arrays()
TENSORS = st.dictionaries(NAMES, ARRAYS, max_size=3)


def assert_same(found: Any, expected: Any) -> None:
    """Fails unless type, shape and bytes are equal."""
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    assert found.tolist() == expected.tolist() if expected.dtype == object else found.tobytes() == expected.tobytes()


@pytest.mark.slow
@given(
    inputs=TENSORS,
    outputs=st.lists(
        st.builds(
            RequestedOutput, NAMES, classification=st.integers(0, 9), binary_data=st.booleans(), parameters=PARAMETERS
        ),
        max_size=2,
    ),
    id=NAMES,
    parameters=PARAMETERS,
    binary_output=st.booleans(),
)
def test_requests_survive_the_round_trip(
    inputs: dict[str, Any],
    outputs: list[RequestedOutput],
    id: str,  # noqa: A002 - the protocol's own name
    parameters: dict[str, Any],
    binary_output: bool,
) -> None:
    """Every request in binary form is read back as it was written, and its buffers are its body."""
    payload = encode_request(inputs, outputs=outputs, id=id, parameters=parameters, binary_output=binary_output)
    body = payload.body
    assert len(body) == payload.size
    request = decode_request(body, header_length=payload.header_length)
    assert list(request.inputs) == list(inputs)
    for name, array in inputs.items():
        assert_same(request.inputs[name], array)
    assert (request.outputs, request.id, request.parameters) == (tuple(outputs), id, parameters)
    assert request.binary_output == (binary_output and not outputs)


@given(outputs=TENSORS, binary=st.booleans(), name=NAMES, version=NAMES, parameters=PARAMETERS)
def test_responses_survive_the_round_trip(
    outputs: dict[str, Any], binary: bool, name: str, version: str, parameters: dict[str, Any]
) -> None:
    """Every response is read back as it was written, in both forms where the datatype has both."""

    def has_json(array: Any) -> bool:
        if array.dtype == object:
            return all(text.decode("utf-8", "ignore").encode() == text for text in array.reshape(-1).tolist())
        return array.dtype.name not in ("float16", "bfloat16") and (
            array.dtype.kind != "f" or not np.isnan(array).any()
        )

    in_binary = [name for name, array in outputs.items() if binary or not has_json(array)]
    payload = encode_response(outputs, model_name=name, model_version=version, parameters=parameters, binary=in_binary)
    response = decode_response(payload.body, header_length=payload.header_length)
    assert (response.model_name, response.model_version, response.parameters) == (name, version, parameters)
    for output, array in outputs.items():
        assert_same(response[output], array)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4) | st.sampled_from(sorted(BY_WIRE)),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                [
                    "name",
                    "shape",
                    "datatype",
                    "data",
                    "parameters",
                    "binary_data_size",
                    "inputs",
                    "outputs",
                    "id",
                    "error",
                ]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)
SIZES = st.integers(0, 12) | st.integers(-(2**70), 2**70)
ENTRIES = st.fixed_dictionaries(
    {"name": st.sampled_from("ab") | JSON_VALUES},
    optional={
        "shape": st.lists(SIZES, max_size=3) | JSON_VALUES,
        "datatype": st.sampled_from(sorted(BY_WIRE)) | JSON_VALUES,
        "data": JSON_VALUES | st.lists(st.integers() | st.booleans() | st.floats() | st.text(max_size=3), max_size=4),
        "parameters": st.fixed_dictionaries({"binary_data_size": SIZES}) | JSON_VALUES,
    },
)
DOCUMENTS = st.fixed_dictionaries(
    {},
    optional={
        "inputs": st.lists(ENTRIES, max_size=3) | JSON_VALUES,
        "outputs": st.lists(ENTRIES, max_size=3) | JSON_VALUES,
        "id": JSON_VALUES,
        "parameters": JSON_VALUES,
        "model_name": JSON_VALUES,
    },
)


def decode_everything(body: bytes, length: int | None) -> None:
    """Decodes as request and as response; nothing but DecodeError may come out."""
    for source in (body, bytearray(body)):
        with suppress(DecodeError):
            decode_request(source, header_length=length)
        with suppress(DecodeError):
            decode_response(source, header_length=length)
    decode_error(body)


@given(body=st.binary(max_size=60), length=st.none() | st.integers(-2, 62))
def test_any_bytes_decode_or_are_a_decode_error(body: bytes, length: int | None) -> None:
    """Random bytes never raise anything but DecodeError."""
    decode_everything(body, length)


@pytest.mark.slow
@given(document=DOCUMENTS | JSON_VALUES, tail=st.binary(max_size=24))
def test_any_json_decodes_or_is_a_decode_error(document: Any, tail: bytes) -> None:
    """JSON that is nearly a message, with bytes behind it, never raises anything but DecodeError."""
    text = json.dumps(document).encode()
    decode_everything(text + tail, len(text))
    decode_everything(text, None)


@pytest.mark.slow
@given(inputs=TENSORS, data=st.data())
def test_a_damaged_message_decodes_or_is_a_decode_error(inputs: dict[str, Any], data: st.DataObject) -> None:
    """A good message with some bytes changed or cut away never raises anything but DecodeError."""
    payload = encode_request(inputs)
    body = bytearray(payload.body)
    for _ in range(data.draw(st.integers(1, 3))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    end = data.draw(st.integers(0, len(body)) | st.just(len(body)))
    decode_everything(bytes(body[:end]), payload.header_length)


@given(text=st.binary(max_size=20), value=st.text(max_size=80), size=st.integers(0, 100))
def test_classes_and_headers_never_raise_anything_else(text: bytes, value: str, size: int) -> None:
    """Any class text and any header value is read or is a DecodeError."""
    literal = "application/vnd.sagemaker-triton.binary+json;json-header-size="
    with suppress(DecodeError):
        decode_class(text)
    for headers in (
        {"content-type": value},
        {"content-type": literal + value},
        {"Inference-Header-Content-Length": value},
    ):
        with suppress(DecodeError):
            length = header_length(headers, size=size)
            assert length is None or 0 <= length <= size


def test_a_shape_larger_than_memory_is_refused_at_once() -> None:
    """A shape of 2**63 elements raises; nothing of that size is asked of the allocator."""
    for datatype in BY_WIRE:
        for extra in ({"parameters": {"binary_data_size": 4}}, {"data": [1]}):
            entry = {"name": "x", "datatype": datatype, "shape": [2**32, 2**31], **extra}
            text = json.dumps({"inputs": [entry]}).encode()
            with pytest.raises(DecodeError):
                decode_request(text + bytes(4), header_length=len(text))
