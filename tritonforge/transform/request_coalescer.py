"""Several records sent as one batched request, and its response split into theirs. This module does no I/O.

This is for records that are the model's one input as they are (a JSON header of 0 bytes). Each record gets byte for
byte the answer that Triton gives to that record alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from tritonforge.errors import DecodeError
from tritonforge.inference.wire import (
    SAGEMAKER_BINARY_JSON,
    Payload,
    Response,
    byte_batch,
    decode_response,
    encode_request,
    encode_response,
    header_length,
    pad_batch,
    sagemaker_content_type,
)
from tritonforge.records import Buffer

__all__ = ["RAW", "RequestCoalescer"]

#: The content type of a body that is the model's one input as it is.
RAW: Final = f"{SAGEMAKER_BINARY_JSON}0"

#: First bytes of encoded images whose decoders stop at the image's own end, so that zeros may follow: JPEG, PNG.
#: Source: see `tritonforge.inference.wire.requests`.
_IMAGE_SIGNATURES: Final = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")

#: Limits of a batch of padded images: bytes sent per byte of the images, and bytes in all.
_MAX_PADDING: Final = 3
_MAX_BYTES: Final = 16 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestCoalescer:
    """Coalesces records for a model with one input of UINT8 (encoded images, padded with zeros) or BYTES.

    ``max_batch`` is how many records the model accepts at once. ``column`` is True if a batch of BYTES has the shape
    [n, 1].
    """

    name: str
    datatype: str
    max_batch: int
    column: bool = True

    def can_add(self, body: Buffer, others: Sequence[Buffer]) -> bool:
        """Return True if a record may be sent in one request with others."""
        if self.datatype != "BYTES" and not bytes(body[:8]).startswith(_IMAGE_SIGNATURES):
            return False
        if not others:
            return True
        count = len(others) + 1
        total = len(body) + sum(map(len, others))
        sent = total if self.datatype == "BYTES" else count * max(len(body), *map(len, others))
        return count <= self.max_batch and sent <= min(_MAX_BYTES, _MAX_PADDING * total)

    def build_request(self, bodies: Sequence[Buffer]) -> tuple[bytes, str]:
        """Return the body and the content type of one request for all records."""
        records = [bytes(body) for body in bodies]
        batch = byte_batch(records, column=self.column) if self.datatype == "BYTES" else pad_batch(records)
        payload = encode_request({self.name: batch})
        return payload.body, sagemaker_content_type(payload)

    def split_response(self, body: bytes, headers: Mapping[str, str], count: int) -> list[tuple[bytes, dict[str, str]]]:
        """Return body and headers of the response that each record gets when sent alone. Raises DecodeError."""
        response = decode_response(body, header_length=header_length(headers, size=len(body)))
        for name, array in response.outputs.items():
            if not array.ndim or len(array) != count:
                raise DecodeError(f"output {name!r} has the shape {list(array.shape)} for a batch of {count}")
        first = _encode_row(response, 0)
        if any(array.dtype == object for array in response.outputs.values()):
            payloads = [first, *(_encode_row(response, index) for index in range(1, count))]
            return [(payload.body, _build_headers(payload, headers)) for payload in payloads]
        # Rows of numbers have the same size and therefore the same header.
        text, row_headers = bytes(first.buffers[0]), _build_headers(first, headers)
        arrays = tuple(response.outputs.values())
        return [
            (b"".join((text, *(array[index].tobytes() for array in arrays))), row_headers) for index in range(count)
        ]


def _encode_row(response: Response, index: int) -> Payload:
    """Return the response to one record."""
    return encode_response(
        {name: np.ascontiguousarray(array[index : index + 1]) for name, array in response.outputs.items()},
        model_name=response.model_name,
        model_version=response.model_version,
        id=response.id,
        parameters=response.parameters,
        output_parameters=response.output_parameters,
    )


def _build_headers(payload: Payload, headers: Mapping[str, str]) -> dict[str, str]:
    return {**headers, "content-type": sagemaker_content_type(payload)}
