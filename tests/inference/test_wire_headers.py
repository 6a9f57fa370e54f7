"""Content types and headers: what we write, and what the real servers' parsers make of what others write."""

from __future__ import annotations

import pytest

from tritonforge.errors import DecodeError
from tritonforge.inference.wire import (
    Payload,
    header_length,
    sagemaker_content_type,
    sagemaker_header_length,
    sagemaker_headers,
    triton_header_length,
    triton_headers,
)

LITERAL = "application/vnd.sagemaker-triton.binary+json;json-header-size="

OCTETS = {"Content-Type": "application/octet-stream"}
PAYLOADS = [
    (Payload((b"{}", b"xyz"), 2), f"{LITERAL}2", OCTETS | {"Inference-Header-Content-Length": "2"}),
    (Payload((b"{}",), 2), "application/json", {"Content-Type": "application/json"}),
    (Payload((b"jpeg",), 0), f"{LITERAL}0", OCTETS | {"Inference-Header-Content-Length": "0"}),
]


@pytest.mark.parametrize(("payload", "content_type", "headers"), PAYLOADS)
def test_both_conventions_both_ways(payload: Payload, content_type: str, headers: dict[str, str]) -> None:
    """Each payload's headers are written in both conventions, and each is read back to its header length."""
    assert sagemaker_content_type(payload) == content_type
    assert sagemaker_headers(payload) == {"Content-Type": content_type}
    assert triton_headers(payload) == headers
    expected = None if payload.is_json else payload.header_length
    assert header_length(sagemaker_headers(payload), size=payload.size) == expected
    assert header_length(headers, size=payload.size) == expected
    assert header_length({name.lower(): value for name, value in headers.items()}, size=payload.size) == expected


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        (f"{LITERAL}98", 98),
        (f"{LITERAL}98; charset=utf-8", 98),
        (f"{LITERAL}98junk", 98),
        (f"{LITERAL}+98", 98),
        (f"{LITERAL} 98", 98),
        (f"{LITERAL}0", 0),
        (f"{LITERAL}106", 106),
        ("application/vnd.sagemaker-triton.binary+json; json-header-size=98", None),
        (f"{LITERAL}98".upper(), None),
        ("application/octet-stream", None),
        ("application/json", None),
        ("", None),
        (None, None),
    ],
)
def test_sagemakers_content_type_is_read_as_the_server_reads_it(content_type: str | None, expected: int | None) -> None:
    """Only the exact literal counts; what is around the number is let pass."""
    assert sagemaker_header_length(content_type, size=106) == expected


@pytest.mark.parametrize(
    ("content_type", "sentence"),
    [
        (f"x/{LITERAL}98", "expect MIME type for binary data starts with"),
        (f"{LITERAL}107", r"inference header size should be in range \(0, 106\), got: 107"),
        (f"{LITERAL}-5", r"inference header size should be in range \(0, 106\), got: -5"),
        (LITERAL, "expected the size of the JSON header in bytes, found ''"),
        (f"{LITERAL}x", "expected the size of the JSON header in bytes, found 'x'"),
        (f"{LITERAL}{'9' * 30}", "expected the size of the JSON header"),
        (f"{LITERAL}٣", "expected the size of the JSON header"),
    ],
)
def test_content_types_that_the_server_refuses(content_type: str, sentence: str) -> None:
    """The sentence is the server's own where it has one."""
    with pytest.raises(DecodeError, match=sentence):
        sagemaker_header_length(content_type, size=106)


@pytest.mark.parametrize("value", ["", "x", "-1", "107"])
def test_tritons_header_out_of_range_is_a_decode_error(value: str) -> None:
    """A length that is not a number or longer than the body is refused."""
    with pytest.raises(DecodeError, match="Inference-Header-Content-Length"):
        triton_header_length(value, size=106)


def test_a_missing_header_means_json() -> None:
    """Without the header all of the body is JSON."""
    assert triton_header_length(None, size=1) is None
    assert header_length({}, size=1) is None
