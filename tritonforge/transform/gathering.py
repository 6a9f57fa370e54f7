"""Gathering: several records as one batched request, and its answer as theirs. This module does no I/O.

It is for records that are the model's one input as they stand (a JSON header of 0 bytes). What each gets is, byte by
byte, what Triton answers to that record alone.
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

__all__ = ["RAW", "Gathering"]

#: The content type of a body that is the model's one input as it stands.
RAW: Final = f"{SAGEMAKER_BINARY_JSON}0"

#: How encoded images begin whose decoders stop at the image's own end, so that zeros may follow: JPEG, PNG. Source:
#: see `tritonforge.inference.wire.requests`.
_IMAGES: Final = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")

#: A batch of padded images has at most so many bytes for each byte of the images, and so many bytes in all.
_PADDING: Final = 3
_MOST_BYTES: Final = 16 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathering:
    """A model with one input of UINT8 (encoded images, padded with zeros) or BYTES, that takes ``max_batch`` at once.

    ``column`` says that a batch of BYTES has the shape [n, 1].
    """

    name: str
    datatype: str
    max_batch: int
    column: bool = True

    def fits(self, body: Buffer, gathered: Sequence[Buffer]) -> bool:
        """Whether a record may go into one request with others."""
        if self.datatype != "BYTES" and not bytes(body[:8]).startswith(_IMAGES):
            return False
        if not gathered:
            return True
        count = len(gathered) + 1
        total = len(body) + sum(map(len, gathered))
        sent = total if self.datatype == "BYTES" else count * max(len(body), *map(len, gathered))
        return count <= self.max_batch and sent <= min(_MOST_BYTES, _PADDING * total)

    def request(self, bodies: Sequence[Buffer]) -> tuple[bytes, str]:
        """The body of one request for all of them, and its content type."""
        records = [bytes(each) for each in bodies]
        batch = byte_batch(records, column=self.column) if self.datatype == "BYTES" else pad_batch(records)
        payload = encode_request({self.name: batch})
        return payload.body, sagemaker_content_type(payload)

    def answers(self, body: bytes, headers: Mapping[str, str], count: int) -> list[tuple[bytes, dict[str, str]]]:
        """What each of the records would have been answered alone: body and headers. Raises DecodeError."""
        response = decode_response(body, header_length=header_length(headers, size=len(body)))
        for name, array in response.outputs.items():
            if not array.ndim or len(array) != count:
                raise DecodeError(f"output {name!r} has the shape {list(array.shape)} for a batch of {count}")
        first = _alone(response, 0)
        if any(array.dtype == object for array in response.outputs.values()):
            payloads = [first, *(_alone(response, index) for index in range(1, count))]
            return [(each.body, _told(each, headers)) for each in payloads]
        # Rows of numbers have one size, and so one header.
        text, told = bytes(first.buffers[0]), _told(first, headers)
        arrays = tuple(response.outputs.values())
        return [(b"".join((text, *(array[index].tobytes() for array in arrays))), told) for index in range(count)]


def _alone(response: Response, index: int) -> Payload:
    """The answer to one record."""
    return encode_response(
        {name: np.ascontiguousarray(array[index : index + 1]) for name, array in response.outputs.items()},
        model_name=response.model_name,
        model_version=response.model_version,
        id=response.id,
        parameters=response.parameters,
        output_parameters=response.output_parameters,
    )


def _told(payload: Payload, headers: Mapping[str, str]) -> dict[str, str]:
    return {**headers, "content-type": sagemaker_content_type(payload)}
