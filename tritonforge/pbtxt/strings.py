"""String tokens and what they stand for: quotes off, escapes undone. No I/O.

Source: google/protobuf/io/tokenizer.cc `ParseStringAppend`. Bytes that are not UTF-8 are carried as surrogates.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["unquoted"]

_UNESCAPED: Final = {
    "a": b"\a", "b": b"\b", "f": b"\f", "n": b"\n", "r": b"\r", "t": b"\t", "v": b"\v",
    "\\": b"\\", "?": b"?", "'": b"'", '"': b'"',
}  # fmt: skip
_ESCAPE: Final = re.compile(
    r"\\(?:([0-7]{1,3})|x([0-9A-Fa-f]{1,2})|u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|(.))", re.DOTALL
)


def unquoted(token: str) -> str:
    """The text of a string token."""
    return token[1:-1] if "\\" not in token else _unescaped(token[1:-1])


def _unescaped(text: str) -> str:
    parts: list[bytes] = []
    at = 0
    for found in _ESCAPE.finditer(text):
        parts.append(text[at : found.start()].encode("utf-8", "surrogateescape"))
        octal, byte, short, long, letter = found.groups()
        if octal or byte:
            parts.append(bytes([(int(octal, 8) if octal else int(byte, 16)) & 255]))
        elif short or long:
            parts.append(chr(min(int(short or long, 16), 0x10FFFF)).encode("utf-8", "surrogatepass"))
        else:
            parts.append(_UNESCAPED.get(letter, letter.encode("utf-8", "surrogateescape")))
        at = found.end()
    parts.append(text[at:].encode("utf-8", "surrogateescape"))
    return b"".join(parts).decode("utf-8", "surrogateescape")
