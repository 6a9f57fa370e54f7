"""The boundary between JSON and tensors, found in the body itself."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tritonforge.errors import DecodeError
from tritonforge.inference.wire import decode_response, encode_request, encode_response, find_header_length

X = np.arange(6, dtype=np.float32).reshape(2, 3)
TEXT = np.array([b'{"', b"\\", b"}]", "é".encode(), b"\xff"], dtype=object)


@pytest.mark.parametrize("binary", [True, False, ["x"], ["text"]])
def test_a_body_has_its_own_header_length(binary: bool | list[str]) -> None:
    """Requests and responses, of binary and JSON tensors and of both, with every mark of JSON in their strings."""
    tensors = {"x": X, "text": TEXT[:4]}
    for payload in (
        encode_response(tensors, model_name='m"}{\\', id='}]\\"', binary=binary),
        encode_request(tensors, id="{[", binary=binary),
    ):
        assert find_header_length(payload.body) == payload.header_length


def test_the_padding_of_a_header_belongs_to_it() -> None:
    """A header of a fixed size is filled with blanks; tensors that begin with blanks are none."""
    assert find_header_length(encode_request({"x": X}, header_size=512).body) == 512
    blanks = np.frombuffer(b"        ", dtype=np.float32)
    payload = encode_response({"x": blanks}, model_name="m")
    assert find_header_length(payload.body) == payload.header_length


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[1]",
        b'{"outputs":[',
        b'{"a":"}',
        b'{"a":1}x',
        b'{"outputs":[{"parameters":{"binary_data_size":9}}]}12',
        b'{"outputs":[{"parameters":{"binary_data_size":1}}]}12',
        b"{]",
        b"{" * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        b"{" * 50_000_000,  # refused at its beginning, so in no time
        b'{"a":' + bytes(50_000_000),
        b'{"a": "' + b"x" * 1_000_000,
        b" " * 1_000_000 + b"[",
    ],
)
def test_what_does_not_delimit_itself_is_a_decode_error(body: bytes) -> None:
    """Too short, too long, no object, nested beyond reading."""
    with pytest.raises(DecodeError):
        find_header_length(body)


@pytest.mark.slow
@pytest.mark.parametrize("size", [65_530, 65_536, 65_537, 1_048_570, 1_100_000])
@pytest.mark.parametrize("filler", ['"é', '"\\\\n', "1,", "[],", "true,", '{"b":-1.5e-7},'])
def test_a_large_header_is_found_however_it_is_cut(size: int, filler: str) -> None:
    """The object is read from windows of growing size, which cut texts, numbers and characters."""
    string = filler.startswith('"')
    content = filler[1:] * size if string else filler * (size // len(filler))
    value = f'"{content[:size]}"' if string and "\\" not in filler else f'"{content}"' if string else f"[{content}0]"
    header = f'{{"a":{value},"outputs":[{{"parameters":{{"binary_data_size":3}}}}]}}'.encode()
    assert find_header_length(header + b"{}\xff") == len(header)


@given(st.binary(max_size=200) | st.binary(max_size=100).map(lambda tail: b'{"outputs":[]}' + tail))
def test_any_bytes_give_a_length_or_a_decode_error(body: bytes) -> None:
    """Nothing else is raised, and a length lies in the body."""
    with contextlib.suppress(DecodeError):
        assert 0 < find_header_length(body) <= len(body)


@given(st.binary(max_size=64))
def test_any_tensor_is_found_behind_its_header(content: bytes) -> None:
    """Whatever the bytes of a tensor look like, the boundary is where the encoder put it."""
    payload = encode_response({"y": np.frombuffer(content, dtype=np.uint8)}, model_name="m")
    length = find_header_length(payload.body)
    assert length == payload.header_length
    assert decode_response(payload.body, header_length=length)["y"].tobytes() == content
