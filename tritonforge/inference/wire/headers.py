"""The two headers that tell where the JSON of a body ends. This module does no I/O.

Triton's own HTTP front end uses ``Inference-Header-Content-Length`` and ignores the content type; the SageMaker front
end uses a content type and ignores that header. Sources: ``GetInferenceHeaderLength`` in Triton's http_server.cc and
sagemaker_server.cc.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from tritonforge.errors import DecodeError
from tritonforge.inference.wire.payloads import Payload

__all__ = [
    "INFERENCE_HEADER_CONTENT_LENGTH",
    "JSON",
    "OCTET_STREAM",
    "SAGEMAKER_BINARY_JSON",
    "header_length",
    "sagemaker_content_type",
    "sagemaker_header_length",
    "sagemaker_headers",
    "triton_header_length",
    "triton_headers",
]

INFERENCE_HEADER_CONTENT_LENGTH: Final = "Inference-Header-Content-Length"
#: The literal that the SageMaker front end searches: no blank after ``;``, no capitals.
SAGEMAKER_BINARY_JSON: Final = "application/vnd.sagemaker-triton.binary+json;json-header-size="
JSON: Final = "application/json"
OCTET_STREAM: Final = "application/octet-stream"

#: What C's strtol reads: blanks, a sign, digits; what follows is ignored.
_NUMBER: Final = re.compile(r"[ \t\n\v\f\r]*([+-]?[0-9]{1,18})(?![0-9])")


def sagemaker_content_type(payload: Payload) -> str:
    """The content type of a payload for the SageMaker front end.

    >>> sagemaker_content_type(Payload((b"an image",), 0))
    'application/vnd.sagemaker-triton.binary+json;json-header-size=0'
    """
    return JSON if payload.is_json else f"{SAGEMAKER_BINARY_JSON}{payload.header_length}"


def sagemaker_headers(payload: Payload) -> dict[str, str]:
    """The headers of a payload for the SageMaker front end."""
    return {"Content-Type": sagemaker_content_type(payload)}


def triton_headers(payload: Payload) -> dict[str, str]:
    """The headers of a payload for Triton's own HTTP front end."""
    if payload.is_json:
        return {"Content-Type": JSON}
    return {"Content-Type": OCTET_STREAM, INFERENCE_HEADER_CONTENT_LENGTH: str(payload.header_length)}


def sagemaker_header_length(content_type: str | None, *, size: int) -> int | None:
    """The header length that a content type tells for a body of ``size`` bytes, None where all of it is JSON.

    As the real server reads it: the literal at the start counts, later it is an error, and without it the body is JSON;
    a sign, blanks before and anything after the number are let pass. Other than in Triton up to 2.69, where it reads as
    0, a length that is no number is an error, as in later releases. Raises DecodeError.
    """
    at = (content_type or "").find(SAGEMAKER_BINARY_JSON)
    if content_type is None or at < 0:
        return None
    if at > 0:
        raise DecodeError(
            f"expect MIME type for binary data starts with {SAGEMAKER_BINARY_JSON!r}, got: {content_type:.200}"
        )
    return _length(content_type[len(SAGEMAKER_BINARY_JSON) :], what="json-header-size", size=size)


def triton_header_length(value: str | None, *, size: int) -> int | None:
    """The header length in ``Inference-Header-Content-Length``, None where it is missing; raises DecodeError."""
    return None if value is None else _length(value, what=INFERENCE_HEADER_CONTENT_LENGTH, size=size)


def header_length(headers: Mapping[str, str], *, size: int) -> int | None:
    """The header length that an answer's headers tell by either convention, None where all of the body is JSON.

    The names of the headers count in any case. Raises DecodeError.
    """
    lower = {name.lower(): value for name, value in headers.items()}
    told = triton_header_length(lower.get(INFERENCE_HEADER_CONTENT_LENGTH.lower()), size=size)
    return sagemaker_header_length(lower.get("content-type"), size=size) if told is None else told


def _length(text: str, *, what: str, size: int) -> int:
    number = _NUMBER.match(text)
    if number is None:
        raise DecodeError(f"{what}: expected the size of the JSON header in bytes, found {text!r:.40}")
    length = int(number[1])
    if not 0 <= length <= size:
        raise DecodeError(f"{what}: inference header size should be in range (0, {size}), got: {length}")
    return length
