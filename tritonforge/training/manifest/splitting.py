"""Splitting: which lines a model learns from, and on which it is judged, found from each line alone. No I/O."""

from __future__ import annotations

import hashlib
from typing import Literal, TypeAlias

from tritonforge.errors import DefinitionError
from tritonforge.training.manifest.line import Line
from tritonforge.training.manifest.selection import value_text

__all__ = ["Side", "check_fraction", "place_of", "side"]

Side: TypeAlias = Literal["train", "validation"]


def side(line: Line, *, fraction: float, seed: int = 0, by: str = "source-ref") -> Side:
    """The side of a line: about ``fraction`` of all lines are for validation.

    It follows from the seed and one attribute of the line, so that an image is always on the same side, whatever else
    is in the file and in whatever order; with a larger fraction, what was for validation still is. Raises ManifestError
    where the line does not have the attribute, DefinitionError for a fraction that is none.
    """
    check_fraction(fraction)
    if by not in line.attributes:
        raise line.error(by, "the line does not have it, and it is what the split goes by")
    return "validation" if place_of(value_text(line.attributes[by]), seed) < fraction else "train"


def place_of(key: bytes, seed: int) -> float:
    """Where in [0, 1) a key lies: the first 53 bits of the SHA-256 of the text ``seed/key``, as a part of 2**53."""
    digest = hashlib.sha256(f"{seed}/".encode() + key).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / 2**53


def check_fraction(fraction: float) -> None:
    """Refuse what is no part of a whole, with a DefinitionError."""
    if not 0 <= fraction <= 1:
        raise DefinitionError(f"the fraction for validation must lie from 0 to 1, found {fraction}")
