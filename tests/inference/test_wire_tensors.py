"""One table of (array, bytes, JSON) drives encoding and decoding of every datatype, for requests and responses."""

from __future__ import annotations

import json
import struct
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from tritonforge.datatypes import BY_WIRE, DATATYPES, Datatype
from tritonforge.errors import DecodeError, EncodeError
from tritonforge.inference.wire import decode_request, decode_response, encode_request, encode_response
from tritonforge.inference.wire.tensors import from_json, to_json


def objects(*values: object, shape: tuple[int, ...] | None = None) -> Any:
    """An object array of these values."""
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array if shape is None else array.reshape(shape)


INF, NAN = float("inf"), float("nan")

#: datatype, array, its bytes on the wire, its JSON data (None where the datatype has no JSON form)
CASES = [
    ("BOOL", np.array([[True, False]]), b"\x01\x00", [True, False]),
    ("UINT8", np.array([[0], [255]], dtype=np.uint8), b"\x00\xff", [0, 255]),
    ("UINT16", np.array([1, 65535], dtype=np.uint16), b"\x01\x00\xff\xff", [1, 65535]),
    ("UINT32", np.array([4294967295], dtype=np.uint32), b"\xff\xff\xff\xff", [4294967295]),
    ("UINT64", np.array([2**64 - 1, 2], dtype=np.uint64), b"\xff" * 8 + b"\x02" + bytes(7), [2**64 - 1, 2]),
    ("INT8", np.array([-128, 127], dtype=np.int8), b"\x80\x7f", [-128, 127]),
    ("INT16", np.array([-2], dtype=np.int16), b"\xfe\xff", [-2]),
    ("INT32", np.array([[[-(2**31)]]], dtype=np.int32), b"\x00\x00\x00\x80", [-(2**31)]),
    ("INT64", np.array([-1, 2**62], dtype=np.int64), b"\xff" * 8 + struct.pack("<q", 2**62), [-1, 2**62]),
    ("FP16", np.array([1, -2], dtype=np.float16), b"\x00\x3c\x00\xc0", None),
    ("BF16", np.array([1, -2], dtype=ml_dtypes.bfloat16), b"\x80\x3f\x00\xc0", None),
    ("FP32", np.array([[1, 2], [3, 4]], dtype=np.float32), struct.pack("<4f", 1, 2, 3, 4), [1.0, 2.0, 3.0, 4.0]),
    ("FP32", np.array([NAN, INF, -INF], dtype=np.float32), struct.pack("<3f", NAN, INF, -INF), [NAN, INF, -INF]),
    ("FP64", np.array([0.1]), struct.pack("<d", 0.1), [0.1]),
    ("FP32", np.empty((0, 3), dtype=np.float32), b"", []),
    ("FP32", np.array(1.5, dtype=np.float32), struct.pack("<f", 1.5), [1.5]),
    ("BYTES", objects(b"a", b""), b"\x01\x00\x00\x00a\x00\x00\x00\x00", ["a", ""]),
    (
        "BYTES",
        objects("é".encode(), b"\x00", shape=(2, 1)),
        b"\x02\x00\x00\x00\xc3\xa9\x01\x00\x00\x00\x00",
        ["é", "\0"],
    ),
    ("BYTES", objects(shape=(0, 2)), b"", []),
]
IDS = [f"{datatype}{list(array.shape)}" for datatype, array, _, _ in CASES]


def same(found: Any, expected: Any) -> None:
    """Fails unless type, shape and every element are equal, NaN with NaN."""
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    if expected.dtype == object:
        assert found.tolist() == expected.tolist()
    else:
        assert found.tobytes() == expected.tobytes()


def test_the_table_has_every_datatype() -> None:
    """No datatype is left out of the table."""
    assert {datatype for datatype, *_ in CASES} == set(BY_WIRE)


@pytest.mark.parametrize(("datatype", "array", "data", "_json"), CASES, ids=IDS)
def test_binary_requests_both_ways(datatype: str, array: Any, data: bytes, _json: Any) -> None:
    """A tensor in binary form is encoded to these bytes, and these bytes are decoded to the tensor."""
    entry = {
        "name": "x",
        "shape": list(array.shape),
        "datatype": datatype,
        "parameters": {"binary_data_size": len(data)},
    }
    header = json.dumps({"inputs": [entry], "parameters": {"binary_data_output": True}}, separators=(",", ":")).encode()
    payload = encode_request({"x": array})
    assert payload.body == header + data
    assert payload.header_length == len(header)
    request = decode_request(header + data, header_length=len(header))
    same(request.inputs["x"], array)
    assert request.binary_output


@pytest.mark.parametrize(("datatype", "array", "data", "values"), CASES, ids=IDS)
def test_json_requests_both_ways(datatype: str, array: Any, data: bytes, values: Any) -> None:
    """A tensor in JSON form is encoded to this text, and this text is decoded; FP16 and BF16 are refused both ways."""
    text = json.dumps(
        {"inputs": [{"name": "x", "shape": list(array.shape), "datatype": datatype, "data": values or []}]},
        separators=(",", ":"),
    ).encode()
    if values is None:
        with pytest.raises(EncodeError, match=f"tensor 'x': Triton takes no {datatype} in JSON; .*binary"):
            encode_request({"x": array}, binary=False)
        with pytest.raises(DecodeError, match=f"input 'x': {datatype} has no JSON form"):
            decode_request(text)
    else:
        payload = encode_request({"x": array}, binary=False)
        assert payload.body == text
        assert payload.is_json
        same(decode_request(text).inputs["x"], array)


@pytest.mark.parametrize(("datatype", "array", "data", "_json"), CASES, ids=IDS)
def test_binary_responses_both_ways(datatype: str, array: Any, data: bytes, _json: Any) -> None:
    """A response carries the tensor in the order of members that Triton writes."""
    entry = {
        "name": "y",
        "datatype": datatype,
        "shape": list(array.shape),
        "parameters": {"binary_data_size": len(data)},
    }
    document = {"model_name": "m", "model_version": "1", "outputs": [entry]}
    header = json.dumps(document, separators=(",", ":")).encode()
    payload = encode_response({"y": array}, model_name="m")
    assert payload.body == header + data
    same(decode_response(header + data, header_length=len(header))["y"], array)


@pytest.mark.parametrize(("datatype", "array", "data", "_json"), CASES, ids=IDS)
def test_truncation_at_every_byte_is_a_decode_error(datatype: str, array: Any, data: bytes, _json: Any) -> None:
    """A body that ends early, or continues for a byte, is refused, wherever it is cut."""
    payload = encode_request({"x": array})
    body = payload.body
    for end in range(len(body)):
        with pytest.raises(DecodeError):
            decode_request(body[:end], header_length=payload.header_length)
    with pytest.raises(DecodeError, match="found 1 bytes after it"):
        decode_request(body + b"\0", header_length=payload.header_length)
    if not payload.is_json:
        with pytest.raises(DecodeError):
            decode_request(body, header_length=None)


@pytest.mark.parametrize("body_type", [bytes, bytearray, memoryview])
@pytest.mark.parametrize(("_datatype", "array", "_data", "_json"), CASES, ids=IDS)
def test_every_kind_of_buffer_decodes_alike(
    body_type: Any, _datatype: str, array: Any, _data: bytes, _json: Any
) -> None:
    """A bytearray and a memoryview are decoded as bytes are, into arrays that cannot be written."""
    payload = encode_request({"x": array, "z": array})
    request = decode_request(body_type(payload.body), header_length=payload.header_length)
    same(request.inputs["z"], array)
    assert not request.inputs["x"].flags.writeable


def test_encoding_and_decoding_share_memory() -> None:
    """A contiguous array is sent from where it lies, and a decoded one lies in the body."""
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    payload = encode_request({"x": array})
    assert np.shares_memory(np.frombuffer(payload.buffers[1], dtype=np.uint8), array)
    assert memoryview(payload.buffers[1]).readonly
    body = payload.body
    decoded = decode_request(body, header_length=payload.header_length).inputs["x"]
    assert np.shares_memory(decoded, np.frombuffer(body, dtype=np.uint8))
    image = bytes(5000)
    assert any(buffer is image for buffer in encode_request({"x": objects(image)}).buffers)


@pytest.mark.parametrize(
    "array",
    [
        np.arange(12, dtype=np.float32).reshape(3, 4)[:, ::2],
        np.arange(12, dtype=np.float32).reshape(3, 4).T,
        np.arange(12, dtype=">f4").reshape(3, 4),
        np.arange(12, dtype=">i8")[::-3],
    ],
)
def test_other_layouts_are_put_in_order(array: Any) -> None:
    """Strided, transposed and big-endian arrays arrive row-major and little-endian, in both forms."""
    for binary in (True, False):
        payload = encode_request({"x": array}, binary=binary)
        decoded = decode_request(payload.body, header_length=payload.header_length).inputs["x"]
        same(decoded, array.astype(array.dtype.newbyteorder("<"), order="C"))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (["a", b"b"], [b"a", b"b"]),
        ([b"tail\0"], [b"tail\0"]),
        (np.array([b"ab", b"c"]), [b"ab", b"c"]),
        (np.array(["ä", "c"]), ["ä".encode(), b"c"]),
        (
            np.array([bytearray(b"x"), memoryview(b"y"), np.bytes_(b"z"), np.str_("t")], dtype=object),
            [b"x", b"y", b"z", b"t"],
        ),
    ],
)
def test_text_and_bytes_go_as_bytes(value: Any, expected: list[bytes]) -> None:
    """Text is encoded as UTF-8; lists, numpy strings and byte-like objects are taken."""
    payload = encode_request({"x": value})
    assert decode_request(payload.body, header_length=payload.header_length).inputs["x"].tolist() == expected


@pytest.mark.parametrize(
    ("value", "binary", "sentence"),
    [
        (np.zeros(2, dtype=np.complex64), True, "tensor 'x': numpy type complex64 has no KServe datatype; cast it"),
        ([[1], [2, 3]], True, "tensor 'x': no array can be made of it"),
        (objects(1), True, "tensor 'x': element 0 is of type int; BYTES holds bytes and str"),
        (objects(b"ok", None), True, "tensor 'x': element 1 is of type NoneType"),
        (objects("\ud800"), True, "tensor 'x': element 0 is text that is not Unicode"),
        (objects(b"ok", b"\xff"), False, "tensor 'x': element 1 is not UTF-8, which JSON needs; .*binary"),
    ],
)
def test_what_the_wire_cannot_carry_is_an_encode_error(value: Any, binary: bool, sentence: str) -> None:
    """The error names the tensor, what was found, and what to do."""
    with pytest.raises(EncodeError, match=sentence):
        encode_request({"x": value}, binary=binary)


def entry(**members: object) -> bytes:
    """A request of one FP32 input x of shape [2], with these members set."""
    return json.dumps({"inputs": [{"name": "x", "shape": [2], "datatype": "FP32"} | members]}).encode()


@pytest.mark.parametrize(
    ("text", "data", "sentence"),
    [
        (
            entry(parameters={"binary_data_size": 4}),
            bytes(4),
            r"input 'x': expected 8 bytes for FP32 of shape \[2\], found 4",
        ),
        (entry(parameters={"binary_data_size": 8}), bytes(4), "'binary_data_size' is 8, but 4 bytes are left"),
        (
            entry(parameters={"binary_data_size": "8"}),
            bytes(8),
            "'binary_data_size' must be an unsigned integer, found '8'",
        ),
        (
            entry(parameters={"binary_data_size": 8}, data=[1, 2]),
            bytes(8),
            "expected 'data' or 'binary_data_size', found both",
        ),
        (entry(parameters={"shared_memory_region": "r"}), b"", "input 'x': its data are in shared memory"),
        (entry(), b"", "input 'x': 'data' is missing; it must be an array"),
        (entry(data=1), b"", "input 'x': 'data' must be an array, found 1"),
        (entry(data=[1, 2, 3]), b"", r"expected 2 elements for shape \[2\], found 3 in 'data'"),
        (entry(data=[1, None]), b"", "'data' of FP32 must hold numbers, found None"),
        (entry(data=[1, True]), b"", "'data' of FP32 must hold numbers, found True"),
        (entry(data=[1, 10**400]), b"", "a number in 'data' is outside of FP32"),
        (entry(data=[1, 2.5], datatype="INT8"), b"", "'data' of INT8 must hold integers, found 2.5"),
        (entry(data=[1, 300], datatype="UINT8"), b"", "300 in 'data' is outside of UINT8"),
        (entry(data=[1, -(10**99)], datatype="INT64"), b"", "in 'data' is outside of INT64"),
        (entry(data=[1, 0], datatype="BOOL"), b"", "'data' of BOOL must hold booleans, found 1"),
        (entry(data=["a", 1], datatype="BYTES"), b"", "'data' of BYTES must hold strings, found 1"),
        (entry(data=["a", "\ud800"], datatype="BYTES"), b"", "'data' holds text that is not Unicode"),
        (entry(datatype="fp32", data=[1, 2]), b"", "input 'x': 'fp32' is not a datatype; expected one of BOOL"),
        (entry(datatype=7, data=[1, 2]), b"", "'datatype' must be a string of UTF-8, found 7"),
        (entry(shape=["2"], data=[1, 2]), b"", "'shape' must hold unsigned integers below .*, found '2'"),
        (entry(shape=[-1], data=[1, 2]), b"", "'shape' must hold unsigned integers below .*, found -1"),
        (entry(shape=[True, 2], data=[1, 2]), b"", "'shape' must hold unsigned integers below .*, found True"),
        (entry(shape=[2**62, 2**62], parameters={"binary_data_size": 0}), b"", "expected .* bytes for FP32"),
        (
            entry(shape=[2**40], datatype="BYTES", parameters={"binary_data_size": 4}),
            bytes(4),
            "elements of BYTES, at least",
        ),
        (entry(shape=[0, 2**70], parameters={"binary_data_size": 0}), b"", "below 2..63"),
        (entry(shape=[0, 2**62, 2**62], parameters={"binary_data_size": 0}), b"", "no array can have the shape"),
        (entry(shape=[1] * 80, data=[1]), b"", "'shape' has 80 dimensions"),
        (entry(shape=[10**90, 3], data=[1]), b"", "below 2..63, found 1000000"),
        (
            entry(parameters={"k": None}, data=[1, 2]),
            b"",
            "parameter 'k' must be a boolean, a number or a string, found null",
        ),
        (entry(parameters=[], data=[1, 2]), b"", "'parameters' must be an object, found an array"),
        (
            entry(datatype="BYTES", parameters={"binary_data_size": 11}),
            b"\x01\0\0\0a\x03\0\0\0bc",
            "input 'x': element 1 of BYTES should have 3 bytes, found 2",
        ),
        (
            entry(datatype="BYTES", parameters={"binary_data_size": 8}),
            b"\x03\0\0\0bcd\0",
            "expected 2 elements of BYTES; the length of element 1 is cut off after 1 bytes",
        ),
        (
            entry(datatype="BYTES", parameters={"binary_data_size": 9}),
            bytes(9),
            "expected 2 elements of BYTES, found 1 bytes after them",
        ),
    ],
)
def test_broken_tensors_are_decode_errors(text: bytes, data: bytes, sentence: str) -> None:
    """The error names the tensor, what was expected and what was found, and nothing large is allocated."""
    with pytest.raises(DecodeError, match=sentence):
        decode_request(text + data, header_length=len(text))


def test_an_element_never_reaches_into_the_next_tensor() -> None:
    """A length that runs past its tensor is refused, although the body is longer."""
    two = {
        "inputs": [
            {"name": name, "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": 5}} for name in "ab"
        ]
    }
    text = json.dumps(two).encode()
    body = text + b"\x02\0\0\0a" + b"\x01\0\0\0b"
    for source in (body, bytearray(body)):
        with pytest.raises(DecodeError, match="input 'a': element 0 of BYTES should have 2 bytes, found 1"):
            decode_request(source, header_length=len(text))


def test_any_byte_but_zero_is_true() -> None:
    """Booleans of other clients, sent as 2 or 255, are true as in Triton, and are 1 in memory."""
    text = entry(datatype="BOOL", shape=[3], parameters={"binary_data_size": 3})
    array = decode_request(text + b"\x02\x00\xff", header_length=len(text)).inputs["x"]
    assert array.view(np.uint8).tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    ("shape", "data", "expected"),
    [
        ([2, 2], [[1], [2, 3, [4]]], [[1, 2], [3, 4]]),
        ([2], [[[1]], 2], [1, 2]),
        ([0], [1, 2, 3], []),
        ([1], [1e300], [INF]),
    ],
)
def test_json_data_is_read_as_triton_reads_it(shape: list[int], data: list[Any], expected: list[Any]) -> None:
    """Nesting is ignored, a shape with a zero ignores the data, and a float that is too large is Infinity."""
    assert decode_request(entry(shape=shape, data=data)).inputs["x"].tolist() == expected


def test_bytes_that_are_no_utf8_survive_tritons_json() -> None:
    """Triton writes BYTES into its JSON unescaped; they come out as they were."""
    body = b'{"model_name":"m","outputs":[{"name":"y","datatype":"BYTES","shape":[1],"data":["a\xff\x80"]}]}'
    assert decode_response(body)["y"].tolist() == [b"a\xff\x80"]


@pytest.mark.parametrize("datatype", DATATYPES, ids=lambda datatype: datatype.wire)
def test_every_datatype_has_a_json_form_or_is_refused_in_json(datatype: Datatype) -> None:
    """The row in `tritonforge.datatypes` decides, so that a new datatype is one row."""
    values = {"boolean": [True, False], "bytes": ["a", "b"], "float": [0.5, 2], "integer": [1, 2]}[datatype.kind]
    if datatype.has_json:
        array = from_json(values, datatype, (2,), where="input 'x'")
        assert to_json("x", array, datatype) == values
    else:
        with pytest.raises(DecodeError, match=f"{datatype.wire} has no JSON form"):
            from_json(values, datatype, (2,), where="input 'x'")
        with pytest.raises(EncodeError, match=f"no {datatype.wire} in JSON"):
            to_json("x", np.zeros(2, datatype.dtype), datatype)


def test_a_datatype_of_an_unlisted_kind_is_refused_in_json() -> None:
    """It is not taken for integers."""
    complex64 = Datatype("TYPE_C64", "C64", 8, "<c8", "complex")  # type: ignore[arg-type] # unlisted on purpose
    with pytest.raises(DecodeError, match="C64 has no JSON form"):
        from_json([1, 2], complex64, (2,), where="input 'x'")
    with pytest.raises(EncodeError, match="no C64 in JSON"):
        to_json("x", np.zeros(2, np.complex64), complex64)
