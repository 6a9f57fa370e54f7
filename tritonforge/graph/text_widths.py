"""How wide text is in a picture, without a font: the widths of DejaVu Sans, the widest of common fonts. No I/O.

A viewer with a narrower font (Arial, Helvetica, Segoe UI, Roboto) leaves some space in the boxes; none overflows.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Final

from tritonforge.escaping import escape_line

__all__ = ["measure_text", "shorten_text", "wrap_text"]

#: Hundredths of the font's size, for the characters from space to tilde. Source: table hmtx of DejaVu Sans 2.37.
_REGULAR: Final = (
    32, 40, 46, 84, 64, 95, 78, 27, 39, 39, 50, 84, 32, 36, 32, 34, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 34, 34, 84,
    84, 84, 53, 100, 68, 69, 70, 77, 63, 58, 77, 75, 29, 29, 66, 56, 86, 75, 79, 60, 79, 69, 63, 61, 73, 68, 99, 69, 61,
    69, 39, 34, 39, 84, 50, 50, 61, 63, 55, 63, 62, 35, 63, 63, 28, 28, 58, 28, 97, 63, 61, 63, 63, 41, 52, 39, 63, 59,
    82, 59, 59, 52, 64, 34, 64, 84,
)  # fmt: skip
_BOLD: Final = (
    35, 46, 52, 84, 70, 100, 87, 31, 46, 46, 52, 84, 38, 42, 38, 37, 70, 70, 70, 70, 70, 70, 70, 70, 70, 70, 40, 40, 84,
    84, 84, 58, 100, 77, 76, 73, 83, 68, 68, 82, 84, 37, 37, 77, 64, 100, 84, 85, 73, 85, 77, 72, 68, 81, 77, 110, 77,
    72, 73, 46, 37, 46, 84, 50, 50, 67, 72, 59, 72, 68, 44, 72, 71, 34, 34, 67, 34, 104, 71, 69, 72, 72, 49, 60, 48, 71,
    65, 92, 65, 65, 58, 71, 37, 71, 84,
)  # fmt: skip
#: Other characters: letters and symbols, and those that East Asian fonts draw wide.
_OTHER: Final = 85
_WIDE: Final = 105


def measure_text(text: str, size: float, *, bold: bool = False) -> float:
    """Return the width of a line in pixels; ``size`` is the font's, in pixels."""
    widths = _BOLD if bold else _REGULAR
    return sum(_measure_character(character, widths) for character in text) * size / 100


def _measure_character(character: str, widths: Sequence[int]) -> int:
    place = ord(character) - 32
    if 0 <= place < len(widths):
        return widths[place]
    return _WIDE if unicodedata.east_asian_width(character) in "WF" else _OTHER


def shorten_text(text: str, limit: int = 44) -> str:
    """Return an escaped line, with an ellipsis instead of its middle where it has more than ``limit`` characters.

    >>> shorten_text("InceptionV3/Predictions/Softmax", 20)
    'InceptionV3/…Softmax'
    """
    text = escape_line(text)
    if len(text) <= limit:
        return text
    end = limit * 2 // 5 - 1
    return f"{text[: limit - end - 1]}…{text[-end:]}"


def wrap_text(text: str, width: float, size: float) -> list[str]:
    """Return a text as lines of at most this width in pixels; a longer word is broken."""
    lines: list[str] = []
    line, used = "", 0.0
    space = measure_text(" ", size)
    for word in text.split():
        length = measure_text(word, size)
        while length > width:
            if line:
                lines.append(line)
                line, used = "", 0.0
            cut, part = 0, 0.0
            while cut < len(word) and (not cut or part + measure_text(word[cut], size) <= width):
                part += measure_text(word[cut], size)
                cut += 1
            lines.append(word[:cut])
            word = word[cut:]
            length = measure_text(word, size)
        if line and used + space + length > width:
            lines.append(line)
            line, used = word, length
        elif word:
            line, used = (f"{line} {word}", used + space + length) if line else (word, length)
    return [*lines, line] if line else lines
