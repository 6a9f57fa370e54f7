"""The damage of an image, described for its sender. This module does no I/O.

DALI reports little more of a damaged image than ``nvImageCodec failure: '#4'``, with a page of its own stack. The bytes
themselves show more: their format, and whether the image is complete.

DALI 2.4 decodes a JPEG with damaged bytes in its middle to wrong pixels (the decoder warns in the server's log only);
one that lacks its last bytes, even the two of its end marker, fails.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

__all__ = ["clean_message", "describe_damage"]

#: First bytes of the formats that DALI's image decoders know: "Supported formats" of `fn.decoders.image`.
_FORMATS: Final[tuple[tuple[str, re.Pattern[bytes]], ...]] = (
    ("JPEG", re.compile(rb"\xff\xd8\xff")),
    ("PNG", re.compile(rb"\x89PNG\r\n\x1a\n")),
    ("BMP", re.compile(rb"BM")),
    ("TIFF", re.compile(rb"II\*\0|MM\0\*")),
    ("PNM", re.compile(rb"P[1-6]\s")),
    ("WebP", re.compile(rb"RIFF....WEBP", re.DOTALL)),
    ("JPEG 2000", re.compile(rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51")),
)

#: Statuses of nvImageCodec that DALI passes on as numbers. Source: nvimgcodec.h, `nvimgcodecStatus_t`.
_STATUSES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "3": "the image's code stream is damaged",
        "4": "the image's format is not supported",
        "13": "the image's code stream is damaged",
        "14": "the image's format is not supported",
        "17": "the image's header cannot be read",
    }
)


def describe_damage(content: bytes) -> str | None:
    """Return what is wrong with the bytes of an image file, as the end of a sentence; None when they look complete.

    Zeros after the image are ignored: they are padding in a batch of files of different sizes.
    """
    if not content:
        return "is empty"
    image = content.rstrip(b"\0")
    if not image:
        return f"contains {len(content)} zero bytes and no image"
    name = next((name for name, start in _FORMATS if start.match(content)), None)
    if name is None:
        return f"is not an image of a format that DALI decodes: it starts with {_describe_start(content)}"
    # A progressive JPEG ends with the marker EOI like any other; some cameras write more behind it.
    if (name == "JPEG" and b"\xff\xd9" not in image[-65536:]) or (name == "PNG" and b"IEND" not in image[-65536:]):
        return f"is a {name} that was cut off: its {len(image)} bytes end before the image does"
    return None


def clean_message(message: str) -> str:
    """Return the reason in a message of DALI in one line, without its stack traces."""
    text = message.split("encountered:")[-1]
    text = re.sub(r"Stacktrace \(.*|Current pipeline object is[^.]*valid\.?", "", text, flags=re.DOTALL)
    text = re.sub(r"\[/[^\]]*\]\s*|Critical error in pipeline:|C\+\+ context:.*", "", text)
    text = re.sub(r"sample #\d+", "the sample", text)  # its place in a batch that the sender does not see
    text = re.sub(r"nvImageCodec failure: '#(\d+)'", lambda found: _describe_status(found[1]), text)
    return re.sub(r"\s+", " ", text).strip(" :.") or "DALI gave no reason"


def _describe_status(number: str) -> str:
    return _STATUSES.get(number, f"nvImageCodec status {number}")


def _describe_start(content: bytes) -> str:
    start = content[:16]
    if re.fullmatch(rb"[\x20-\x7e\s]+", start):
        return f"the text {start.decode('ascii')!r}"
    return f"the bytes {start[:8].hex(' ')}"
