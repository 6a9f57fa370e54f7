"""Whole messages, classes and images, against NVIDIA's tritonclient and against what Triton writes."""

from __future__ import annotations

import json
import sys
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import tritonclient.http as tritonclient

from tritonforge.errors import DecodeError, EncodeError
from tritonforge.inference.wire import (
    Class,
    Payload,
    RequestedOutput,
    byte_batch,
    decode_class,
    decode_error,
    decode_request,
    decode_response,
    encode_raw,
    encode_request,
    encode_response,
    pad_batch,
)

ARRAYS = {
    "BOOL": np.array([[True, False]]),
    "UINT8": np.array([[0, 255]], dtype=np.uint8),
    "UINT16": np.array([[1, 65535]], dtype=np.uint16),
    "UINT32": np.array([[7, 2**32 - 1]], dtype=np.uint32),
    "UINT64": np.array([[7, 2**64 - 1]], dtype=np.uint64),
    "INT8": np.array([[-128, 127]], dtype=np.int8),
    "INT16": np.array([[-2, 2]], dtype=np.int16),
    "INT32": np.array([[-(2**31), 5]], dtype=np.int32),
    "INT64": np.array([[-(2**63), 5]], dtype=np.int64),
    "FP16": np.array([[0.5, -2]], dtype=np.float16),
    "BF16": np.array([[0.5, -2]], dtype=ml_dtypes.bfloat16),
    "FP32": np.array([[0.5, -2]], dtype=np.float32),
    "FP64": np.array([[0.5, -2]]),
    "BYTES": np.array([[b"a\xff", b""]], dtype=object),
}
BINARY_ONLY = {"FP16", "BF16"}


def client_inputs(*, binary: bool) -> tuple[dict[str, Any], list[Any]]:
    """The same inputs for `encode_request` and for tritonclient."""
    ours, theirs = {}, []
    for datatype, array in ARRAYS.items():
        if not binary and datatype in BINARY_ONLY | {"BYTES"}:
            continue
        tensor = tritonclient.InferInput(f"in_{datatype}", list(array.shape), datatype)
        tensor.set_data_from_numpy(array, binary_data=binary)
        ours[f"in_{datatype}"] = array
        theirs.append(tensor)
    return ours, theirs


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("named", [True, False])
def test_requests_equal_tritonclients_byte_for_byte(binary: bool, named: bool) -> None:
    """Every datatype, both forms, with and without listed outputs: NVIDIA's client builds the same body as we do."""
    ours, theirs = client_inputs(binary=binary)
    outputs, requested = [], []
    if named:
        outputs = [RequestedOutput("y", binary_data=True), RequestedOutput("z", classification=3, binary_data=True)]
        requested = [tritonclient.InferRequestedOutput("y"), tritonclient.InferRequestedOutput("z", class_count=3)]
    body, length = tritonclient.InferenceServerClient.generate_request_body(
        theirs, outputs=requested, request_id="id 1", parameters={"mode": "fast", "n": 3}
    )
    payload = encode_request(
        ours, outputs=outputs, id="id 1", parameters={"mode": "fast", "n": 3}, binary=binary, binary_output=True
    )
    assert payload.body == bytes(body)
    assert payload.is_json if length is None else payload.header_length == length


@pytest.mark.parametrize("binary", [True, False])
def test_tritonclients_requests_are_decoded_to_equal_arrays(binary: bool) -> None:
    """What NVIDIA's client sends is read back to the arrays that went in."""
    ours, theirs = client_inputs(binary=binary)
    body, length = tritonclient.InferenceServerClient.generate_request_body(
        theirs, request_id="7", sequence_id=5, sequence_start=True, priority=2, timeout=9
    )
    request = decode_request(bytes(body), header_length=length)
    assert list(request.inputs) == list(ours)
    for name, array in ours.items():
        assert request.inputs[name].dtype == array.dtype
        assert request.inputs[name].tolist() == array.tolist()
    assert request.id == "7"
    assert request.parameters == {
        "sequence_id": 5, "sequence_start": True, "sequence_end": False, "priority": 2, "timeout": 9
    }  # fmt: skip


@pytest.mark.parametrize("datatype", list(ARRAYS))
def test_tritonclient_reads_our_responses(datatype: str) -> None:
    """NVIDIA's client reads what `encode_response` writes, in binary form and where it has one in JSON form."""
    array = ARRAYS[datatype]
    payload = encode_response({"y": array}, model_name="m", id="1")
    result = tritonclient.InferResult.from_response_body(payload.body, header_length=payload.header_length)
    assert result.as_numpy("y").tolist() == array.tolist()
    assert result.get_response()["id"] == "1"
    if datatype not in BINARY_ONLY | {"BYTES"}:
        text = encode_response({"y": array}, model_name="m", binary=False).body
        assert tritonclient.InferResult.from_response_body(text).as_numpy("y").tolist() == array.tolist()


#: Answers as Triton 2.51 writes them: the arguments of `encode_response`, header length, body.
ANSWERS: list[tuple[dict[str, Any], int | None, bytes]] = [
    (
        {"outputs": {"O": np.array([[2, 4]], dtype=np.float32)}, "model_name": "add"},
        133,
        (
            b'{"model_name":"add","model_version":"1","outputs":[{"name":"O","datatype":"FP32","shape":[1,2],'
            b'"parameters":{"binary_data_size":8}}]}\x00\x00\x00@\x00\x00\x80@'
        ),
    ),
    (
        {
            "outputs": {
                "O": np.array([[2, 4]], dtype=np.float32),
                "S": np.array([[b"abc", b"abc"]], dtype=object),
            },
            "model_name": "add",
            "binary": False,
        },
        None,
        (
            b'{"model_name":"add","model_version":"1","outputs":[{"name":"O","datatype":"FP32","shape":[1,2],"data":[2.0,4.0]},'
            b'{"name":"S","datatype":"BYTES","shape":[1,2],"data":["abc","abc"]}]}'
        ),
    ),
    (
        {
            "outputs": {"O": np.array([[2, 4]], dtype=np.float32)},
            "model_name": "h4",
            "binary": False,
            "parameters": {"sequence_id": 0, "sequence_start": False, "sequence_end": False},
        },
        None,
        (
            b'{"model_name":"h4","model_version":"1","parameters":{"sequence_id":0,"sequence_start":false,"sequence_end":false},'
            b'"outputs":[{"name":"O","datatype":"FP32","shape":[1,2],"data":[2.0,4.0]}]}'
        ),
    ),
    (
        {"outputs": {"O": np.array([1, 2], dtype=np.float32)}, "model_name": "f", "binary": False, "id": "abc"},
        None,
        (
            b'{"id":"abc","model_name":"f","model_version":"1","outputs":[{"name":"O","datatype":"FP32","shape":[2],'
            b'"data":[1.0,2.0]}]}'
        ),
    ),
    (
        {"outputs": {"O": np.array([np.nan, np.inf], dtype=np.float32)}, "model_name": "f", "binary": False},
        None,
        b'{"model_name":"f","model_version":"1","outputs":[{"name":"O","datatype":"FP32","shape":[2],"data":[NaN,Infinity]}]}',
    ),
    (
        {"outputs": {"O": np.empty(0, dtype=np.float32)}, "model_name": "w"},
        None,
        (
            b'{"model_name":"w","model_version":"1","outputs":[{"name":"O","datatype":"FP32","shape":[0],'
            b'"parameters":{"binary_data_size":0}}]}'
        ),
    ),
]


@pytest.mark.parametrize(("arguments", "length", "body"), ANSWERS)
def test_responses_equal_tritons_byte_for_byte(arguments: dict[str, Any], length: int | None, body: bytes) -> None:
    """The table is written as the real server writes it, and read back."""
    payload = encode_response(**arguments)
    assert payload.body == body
    assert payload.is_json == (length is None)
    response = decode_response(body, header_length=length)
    assert response.model_name == arguments["model_name"]
    assert response.model_version == "1"
    assert response.id == arguments.get("id", "")
    assert response.parameters == arguments.get("parameters", {})
    for name, array in arguments["outputs"].items():
        np.testing.assert_array_equal(response[name], array)


def test_a_request_keeps_everything_both_ways() -> None:
    """Id, parameters, tensor parameters, requested outputs and a mix of both forms survive the round trip."""
    outputs = (
        RequestedOutput("a", classification=5, binary_data=True, parameters={"note": "x"}),
        RequestedOutput("b", binary_data=False),
    )
    payload = encode_request(
        {"x": np.arange(3), "y": np.arange(2.0), "z": [b"t"]},
        outputs=outputs,
        id="käse",
        parameters={"flag": True, "n": -1, "f": 0.5, "s": "ü"},
        binary={"y"},
        input_parameters={"x": {"scale": 2}, "y": {"scale": 3}},
    )
    request = decode_request(payload.body, header_length=payload.header_length)
    assert payload.size - payload.header_length == 16
    assert {name: array.tolist() for name, array in request.inputs.items()} == {
        "x": [0, 1, 2],
        "y": [0, 1],
        "z": [b"t"],
    }
    assert request.outputs == outputs
    assert request.id == "käse"
    assert request.parameters == {"flag": True, "n": -1, "f": 0.5, "s": "ü"}
    assert request.input_parameters == {"x": {"scale": 2}, "y": {"scale": 3}}


def test_binary_output_follows_the_inputs_by_default() -> None:
    """Without outputs listed the request says `binary_data_output`; listed ones each say `binary_data`."""
    array = np.zeros(1)
    for binary, requested, expected in [
        (True, None, True),
        (False, None, False),
        (False, True, True),
        (True, False, False),
    ]:
        payload = encode_request({"x": array}, binary=binary, binary_output=requested)
        assert decode_request(payload.body, header_length=payload.header_length).binary_output is expected
        payload = encode_request({"x": array}, outputs=["y"], binary=binary, binary_output=requested)
        request = decode_request(payload.body, header_length=payload.header_length)
        assert request.outputs == (RequestedOutput("y", binary_data=expected),)
        assert request.parameters == {}


def test_header_padding_gives_one_size_for_all() -> None:
    """The header is filled up with spaces; a server reads on over them, and one that does not fit is refused."""
    sizes = set()
    for n in (1, 10, 1000):
        payload = encode_request({"x": np.zeros(n)}, header_size=512)
        sizes.add(payload.header_length)
        assert decode_request(payload.body, header_length=512).inputs["x"].shape == (n,)
    assert sizes == {512}
    with pytest.raises(EncodeError, match="the JSON header has 13 bytes; it does not fit in header_size=12"):
        encode_request({}, binary=False, header_size=12)


def test_raw_requests() -> None:
    """A raw binary request is the unchanged body, with a header of no bytes."""
    payload = encode_raw(b"an image")
    assert payload == Payload((b"an image",), 0)
    assert not payload.is_json
    request = decode_request(payload.body, header_length=0)
    assert request.raw == b"an image"
    assert request.inputs == {}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"id": 5}, "the request's id must be a Unicode string, found 5"),
        ({"parameters": {"triton_x": 1}}, "names that start with 'triton_' are reserved"),
        ({"parameters": {"binary_data_output": True}}, "use binary_output="),
        ({"parameters": {"a": None}}, "parameter 'a' is of type NoneType; Triton takes bool, int, float and str"),
        ({"parameters": {1: 1}}, "a parameter's name must be a string"),
        ({"parameters": {"a": 2**64}}, "parameter 'a' does not fit in 64 bits"),
        ({"parameters": {"a": "\ud800"}}, "parameter 'a' holds text that is not Unicode"),
        ({"input_parameters": {"q": {}}}, "input_parameters: 'q' is none of the inputs"),
        ({"input_parameters": {"x": {"binary_data_size": 1}}}, "input 'x': parameter 'binary_data_size' is written by"),
        ({"binary": {"x", "q"}}, "binary: 'q' is none of the tensors"),
        ({"inputs": {"": [1]}}, "a tensor's name must be a Unicode string that is not empty"),
        ({"inputs": {5: [1]}}, "a tensor's name must be a Unicode string"),
    ],
)
def test_bad_arguments_are_encode_errors(arguments: dict[str, Any], sentence: str) -> None:
    """The error says which argument is wrong, and why."""
    with pytest.raises(EncodeError, match=sentence):
        encode_request(**{"inputs": {"x": np.zeros(1)}, **arguments})


@pytest.mark.parametrize(("name", "classification"), [("", 0), ("y", -1), ("y", True)])
def test_bad_requested_outputs_are_encode_errors(name: str, classification: int) -> None:
    """An output needs a name and a count of classes from 0."""
    with pytest.raises(EncodeError):
        RequestedOutput(name, classification=classification)


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"", "the request: the 0 bytes of the header are not JSON"),
        (b"[]", "expected a JSON object, found an array"),
        (b"{}", "'inputs' is missing; it must be an array"),
        (b'{"inputs":{}}', "'inputs' must be an array, found an object"),
        (b'{"inputs":[]} x', "are not JSON: Extra data"),
        (b'/*c*/{"inputs":[]}', "are not JSON"),
        (b'{"inputs":[5]}', r"inputs\[0\]: expected a JSON object, found an integer"),
        (b'{"inputs":[{"shape":[2]}]}', r"inputs\[0\]: 'name' is missing"),
        (b'{"inputs":[{"name":"\\ud800"}]}', "'name' must be a string of UTF-8"),
        (b'{"inputs":[{"name":"\xff"}]}', "'name' must be a string of UTF-8"),
        (b'{"inputs":[],"id":5}', "'id' must be a string of UTF-8, found 5"),
        (b'{"inputs":[],"outputs":{}}', "'outputs' must be an array, found an object"),
        (b'{"inputs":[],"outputs":[{}]}', r"outputs\[0\]: 'name' is missing"),
        (b'{"inputs":[],"outputs":[{"name":""}]}', r"outputs\[0\]: 'name' is empty"),
        (
            b'{"inputs":[],"outputs":[{"name":"y","parameters":{"classification":"2"}}]}',
            "must be an unsigned integer, found '2'",
        ),
        (b'{"inputs":[],"outputs":[{"name":"y","parameters":{"binary_data":1}}]}', "must be a boolean, found 1"),
        (b'{"inputs":[],"parameters":{"binary_data_output":1}}', "'binary_data_output' must be a boolean, found 1"),
        (
            b'{"inputs":[],"parameters":{"a":[]}}',
            "parameter 'a' must be a boolean, a number or a string, found an array",
        ),
        (b'{"inputs":[' + b"[" * 200_000, "nested too deeply|are not JSON"),
        (b'{"inputs":[{"name":"x","shape":[' + b"9" * 6000 + b'],"datatype":"FP32","data":[]}]}', "are not JSON: "),
        (
            b'{"inputs":[{"name":"x","shape":[],"datatype":"INT8","data":[1]},{"name":"x","shape":[],"datatype":"INT8","data":[1]}]}',
            "input 'x': duplicate input name",
        ),
    ],
)
def test_broken_requests_are_decode_errors(body: bytes, sentence: str) -> None:
    """The error says where the request is broken, and what was found."""
    with pytest.raises(DecodeError, match=sentence):
        decode_request(body)


def test_deep_nesting_of_data_is_a_decode_error_or_read() -> None:
    """Nesting below Python's limit is flattened, above it is refused."""
    text = b'{"inputs":[{"name":"x","shape":[1],"datatype":"INT8","data":%b1%b}]}'
    assert decode_request(text % (b"[" * 100, b"]" * 100)).inputs["x"].tolist() == [1]
    deep = sys.getrecursionlimit() * 100
    with pytest.raises(DecodeError, match="nested too deeply"):
        decode_request(text % (b"[" * deep, b"]" * deep))


@pytest.mark.parametrize("length", [-1, 15, 10**12])
def test_header_lengths_out_of_range_are_decode_errors(length: int) -> None:
    """A header cannot be longer than its body."""
    with pytest.raises(DecodeError, match=f"the header size should be in range .0, 14., got: {length}"):
        decode_request(b'{"inputs": []}', header_length=length)


def test_of_two_equal_keys_the_first_counts() -> None:
    """Duplicate members are read as Triton reads them."""
    assert decode_request(b'{"id":"a","inputs":[],"id":"b"}').id == "a"


def test_an_error_body_is_recognised() -> None:
    """Decoding Triton's error as a response quotes its sentence."""
    with pytest.raises(DecodeError, match="the response is an error: unexpected inference input"):
        decode_response(b'{"error":"unexpected inference input"}')
    with pytest.raises(DecodeError, match="the answer of 'm' has no output 'q'; it has \\['y'\\]"):
        decode_response(encode_response({"y": [1]}, model_name="m", binary=False).body)["q"]


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b'{"error":"in ensemble \'e\', no"}', "in ensemble 'e', no"),
        (b'{"message":"m"}', "m"),
        (b'{"Message":"M"}', "M"),
        (b'{"other":1}', '{"other":1}'),
        (b"plain\n", "plain"),
        (b"\xff", "\ufffd"),
        (b"", ""),
    ],
)
def test_error_sentences(body: bytes, sentence: str) -> None:
    """Triton's own sentence is taken out of the body of an error, whatever its form."""
    assert decode_error(body) == sentence


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"0.900000:1:dog", Class(0.9, 1, "dog")),
        (b"0.300000:2", Class(0.3, 2)),
        (b"-1.5:0:a:b:c", Class(-1.5, 0, "a:b:c")),
        (b"1.000000:7:", Class(1.0, 7)),
        ("1:7:é".encode(), Class(1.0, 7, "é")),
    ],
)
def test_classes(text: bytes, expected: Class) -> None:
    """Score, index and label; a label may hold colons."""
    assert decode_class(text) == expected


@pytest.mark.parametrize("text", [b"", b"1", b"x:1", b"1:", b"1:-1", b"1:one", b":1:a", "1:²".encode()])
def test_texts_that_are_no_class_are_decode_errors(text: bytes) -> None:
    """What is not <score>:<index>[:<label>] is refused, with the text found."""
    with pytest.raises(DecodeError, match="expected '<score>:<index>"):
        decode_class(text)


def test_classes_of_a_response() -> None:
    """An answer to a classification gives one row of classes for each batch entry, batched or not."""
    texts = np.array([[b"0.9:1:dog", b"0.1:0:cat"], [b"0.8:0:cat", b"0.2:1:dog"]], dtype=object)
    payload = encode_response({"y": texts, "z": texts[0], "n": np.zeros(3)}, model_name="m")
    response = decode_response(payload.body, header_length=payload.header_length)
    assert response.classes("y") == (
        (Class(0.9, 1, "dog"), Class(0.1, 0, "cat")),
        (Class(0.8, 0, "cat"), Class(0.2, 1, "dog")),
    )
    assert response.classes("z") == ((Class(0.9, 1, "dog"), Class(0.1, 0, "cat")),)
    with pytest.raises(DecodeError, match=r"output 'n': expected BYTES of shape \[batch, k\], found float64"):
        response.classes("n")
    with pytest.raises(DecodeError, match="name the one that holds the classes"):
        response.classes()


def test_images_of_different_sizes_become_one_batch() -> None:
    """Shorter images are padded with zeros at the end; as BYTES each stays as it is."""
    assert pad_batch([b"abc", b"d"]).tolist() == [[97, 98, 99], [100, 0, 0]]
    assert byte_batch([b"abc", b"d"]).tolist() == [[b"abc"], [b"d"]]
    assert byte_batch([b"abc", bytearray(b"d")], column=False).tolist() == [b"abc", b"d"]


@pytest.mark.parametrize("images", [[], b"abc", [b""], ["abc"], [None]])
def test_what_is_no_list_of_images_is_an_encode_error(images: Any) -> None:
    """One image instead of a list, an empty one, and text are refused."""
    for build in (pad_batch, byte_batch):
        with pytest.raises(EncodeError):
            build(images)


def test_json_text_is_what_other_readers_read() -> None:
    """The header is plain ASCII JSON, whatever the names hold."""
    text = encode_request({"ü": [True]}, binary=False).body
    assert text.isascii()
    assert json.loads(text)["inputs"][0]["name"] == "ü"
