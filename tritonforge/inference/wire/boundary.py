"""The boundary between JSON and tensors, found in the body itself, for where the content type got lost.

A body delimits itself: its JSON object ends with the brace that closes it, and tells the sizes of the tensors behind.
JSON's own reader finds that brace, so that a hostile body costs no more than reading its JSON. This module does no I/O.
"""

from __future__ import annotations

import re
from typing import Any, Final

from tritonforge.errors import DecodeError
from tritonforge.inference.wire.documents import load_first

__all__ = ["found_header_length"]

_BLANKS: Final = b" \t\r\n"
_OBJECT: Final = re.compile(rb"[ \t\r\n]*\{")


def found_header_length(body: bytes) -> int:
    r"""The length of the JSON header of a request or response, its own padding with blanks included.

    It is the whole length where all of the body is JSON. Raises DecodeError, and nothing else, for any bytes.

    >>> found_header_length(b'{"outputs":[{"parameters":{"binary_data_size":2}}]}\x00\x01')
    51
    """
    if not _OBJECT.match(body):
        raise DecodeError(f"the body is no JSON object: it begins with {body[:16]!r}")
    document, end = load_first(body, what="the body")
    tensors = sum(_size(entry) for key in ("inputs", "outputs") for entry in _entries(document, key))
    length = len(body) - tensors
    if length < end or body[end:length].strip(_BLANKS):
        raise DecodeError(
            f"the body has {len(body)} bytes; its JSON ends after {end} and tells of {tensors} bytes of tensors"
        )
    return length


def _entries(document: dict[str, Any], key: str) -> list[Any]:
    entries = document.get(key)
    return entries if isinstance(entries, list) else []


def _size(entry: object) -> int:
    parameters = entry.get("parameters") if isinstance(entry, dict) else None
    size = parameters.get("binary_data_size") if isinstance(parameters, dict) else None
    return size if type(size) is int and size > 0 else 0
