"""Positions of the language server protocol: a line and a count of code units, from 0. No I/O.

Source: LSP 3.17, "Position", "PositionEncodingKind" and "Text Documents": lines end with a line feed, a carriage return
or both; a character counts as one or two units in UTF-16, one to four in UTF-8. A position behind a line is its end.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from typing import Final, NamedTuple

__all__ = ["Position", "Span", "TextIndex", "find_finding_offset"]

_LINE_END: Final = re.compile(r"\r\n|\n|\r")
#: The bytes of a character in UTF-8 behind its first one.
_CONTINUATION: Final = bytes(range(0x80, 0xC0))


class Position(NamedTuple):
    """A line and a character in it, from 0, in the units of the encoding."""

    line: int
    character: int


class Span(NamedTuple):
    """A part of a text: the offsets of its first character and of the one behind its last."""

    start: int
    end: int


class TextIndex:
    """Converts between offsets in a text and positions; ``encoding`` is "utf-8", "utf-16" or "utf-32"."""

    def __init__(self, text: str, encoding: str = "utf-16") -> None:
        self.text = text
        self._encoding = encoding
        self._starts = [0, *(match.end() for match in _LINE_END.finditer(text))]

    def find_position(self, offset: int) -> Position:
        """Return the position of an offset; one behind the text is the end of the text."""
        offset = max(0, min(offset, len(self.text)))
        line = bisect_right(self._starts, offset) - 1
        return Position(line, self._count_units(self.text[self._starts[line] : offset]))

    def find_offset(self, line: int, character: int) -> int:
        """Return the offset of a position; one behind a line is the end of the line, before the line's end."""
        if line >= len(self._starts):
            return len(self.text)
        start = self._starts[line]
        match = _LINE_END.search(self.text, start)
        end = match.start() if match is not None else len(self.text)
        line_text = self.text[start:end]
        if self._encoding == "utf-32" or line_text.isascii():
            return min(start + character, end)
        # A position inside of a character is behind it.
        if self._encoding == "utf-8":
            head = line_text.encode("utf-8", "surrogatepass")[:character]
            return start + len(head.translate(None, _CONTINUATION))
        head = line_text.encode("utf-16-le", "surrogatepass")[: 2 * character]
        return start + len(head.decode("utf-16-le", "surrogatepass"))

    def _count_units(self, text: str) -> int:
        if self._encoding == "utf-32" or text.isascii():
            return len(text)
        if self._encoding == "utf-8":
            return len(text.encode("utf-8", "surrogatepass"))
        return len(text.encode("utf-16-le", "surrogatepass")) // 2


def find_finding_offset(text: str, line: int, column: int) -> int:
    """Return the offset of a line and column of a finding, in characters from 1; only line feeds end its lines."""
    start = 0
    for _ in range(line - 1):
        end = text.find("\n", start)
        if end < 0:
            return len(text)
        start = end + 1
    return min(start + max(column, 1) - 1, len(text))
