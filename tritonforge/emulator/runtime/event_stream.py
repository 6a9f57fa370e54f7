"""The answer of InvokeEndpointWithResponseStream: events in AWS's binary encoding. This module does no I/O.

SageMaker streams what a container writes, as it comes: events with a part of the response each, whose bytes joined are
the response. A container that answers with one response is no exception: its response arrives in such parts, under
status 200, with its own content type in ``X-Amzn-SageMaker-Content-Type`` (seen on AWS: langchain-ai/langchain-aws
issue 128, langchain-ai/langchain issue 16219; the operation's members: the service model of sagemaker-runtime).
Encoding: Smithy, "Amazon Event Stream Specification".
"""

from __future__ import annotations

import binascii
import struct
from collections.abc import Iterator
from typing import Final

__all__ = ["CONTENT_TYPE", "encode_parts"]

CONTENT_TYPE: Final = "application/vnd.amazon.eventstream"

#: Bytes of the response in one event. AWS names no figure, and its parts follow the container's writes.
_PART: Final = 65_536
_STRING: Final = 7


def encode_parts(body: bytes) -> bytes:
    """The events that carry a response: at least one, also of an empty response."""
    return b"".join(_event(part) for part in _parts(body))


def _parts(body: bytes) -> Iterator[bytes]:
    for start in range(0, max(len(body), 1), _PART):
        yield body[start : start + _PART]


def _event(payload: bytes) -> bytes:
    """One ``PayloadPart``: lengths and their checksum, headers, payload, checksum of all before it."""
    headers = b"".join(
        struct.pack("!B", len(name)) + name + struct.pack("!BH", _STRING, len(value)) + value
        for name, value in (
            (b":event-type", b"PayloadPart"),
            (b":content-type", b"application/octet-stream"),
            (b":message-type", b"event"),
        )
    )
    prelude = struct.pack("!II", 16 + len(headers) + len(payload), len(headers))
    message = prelude + struct.pack("!I", binascii.crc32(prelude)) + headers + payload
    return message + struct.pack("!I", binascii.crc32(message))
