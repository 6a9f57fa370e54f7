import json

import numpy as np
import pytest

from tritonforge.inference.wire import RequestedOutput, encode_request
from tritonforge.web_console.request_bytes import explain_request

REQUESTS = {
    "image": {"inputs": {"IMAGE": np.frombuffer(b"\xff\xd8\xff" + b"x" * 60, np.uint8)[None]}},
    "text": {"inputs": {"a": np.array([[b"hi"], [b""], [b"you"], [b"!"]], object)}, "id": "7"},
    "outputs": {
        "inputs": {"x": np.zeros((2, 3), np.float32), "y": np.zeros((0, 2), np.int64)},
        "outputs": [RequestedOutput("p", classification=3), "q"],
        "parameters": {"priority": 1},
        "header_size": 600,
    },
    "json": {"inputs": {"x": np.arange(400).reshape(2, 200)}, "binary": False},
    "names": {"inputs": {'"}]{[,': np.zeros((1,), np.uint8), "\u00e9\\": np.zeros((1,), bool)}},
}


@pytest.mark.parametrize("name", REQUESTS)
def test_the_parts_cover_every_byte_of_the_body_once(name) -> None:
    payload = encode_request(**REQUESTS[name])
    document = explain_request(payload)
    at = 0
    for segment in document["segments"]:
        assert segment["offset"] == at
        at += segment["length"]
    assert at == document["size"] == payload.size
    body = b"".join(payload.buffers)
    for segment in document["segments"]:
        shown = bytes.fromhex(segment["hexadecimal"])
        assert body[segment["offset"] :].startswith(shown)
        assert segment["is_cut"] == (len(shown) < segment["length"])
    json.dumps(document)


def test_the_content_type_states_where_the_header_ends() -> None:
    payload = encode_request(**REQUESTS["image"])
    document = explain_request(payload)
    assert "".join(part["text"] for part in document["sagemaker_parts"]) == document["sagemaker_content_type"]
    assert document["triton_headers"]["Inference-Header-Content-Length"] == str(payload.header_length)
    last = document["segments"][-1]
    assert last["offset"] == payload.header_length
    assert "the start of JPEG" in last["meaning"]


def test_elements_of_text_begin_with_their_length() -> None:
    segments = [
        segment for segment in explain_request(encode_request(**REQUESTS["text"]))["segments"] if segment["part"] == "a"
    ]
    assert [segment["length"] for segment in segments] == [4, 2, 4, 0, 4, 3, 5]
    assert segments[0]["hexadecimal"] == "02 00 00 00"
