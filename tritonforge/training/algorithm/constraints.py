"""What CreateAlgorithm lets a text be: its length and its characters, as the ends of sentences. No I/O.

Source: botocore's model of SageMaker: EntityDescription and ParameterName are letters, marks, separators, symbols,
numbers and punctuation (no control characters); the patterns ``.*`` of the others are Java's, whose dot is no end of a
line (java.util.regex.Pattern, "Line terminators").
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from typing import Final

__all__ = ["LONGEST_DESCRIPTION", "described", "lined"]

#: Source: botocore's model of SageMaker, EntityDescription.
LONGEST_DESCRIPTION: Final = 1024

_ENDS: Final = "\n\r\u0085\u2028\u2029"


def described(description: str) -> Iterator[str]:
    """What is wrong with a description."""
    if len(description) > LONGEST_DESCRIPTION:
        yield f"a description has at most {LONGEST_DESCRIPTION} characters, found {len(description)}"
    if any(unicodedata.category(each).startswith("C") for each in description):
        yield "a description is one line without control characters"


def lined(what: str, text: str, *, most: int, least: int = 0) -> Iterator[str]:
    """What is wrong with a text of one line; ``what`` begins the sentence."""
    if not least <= len(text) <= most:
        yield f"{what} has {least} to {most} characters, found {len(text)}"
    if any(each in text for each in _ENDS):
        yield f"{what} is one line, found {text[:60]!r}"
