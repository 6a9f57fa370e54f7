"""Label files against the outputs that they name: one label a class. This module does no I/O."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["compare_labels", "count_labels"]


def count_labels(content: bytes) -> int:
    """Count the labels of a label file; empty lines at its end are none."""
    return len(content.rstrip().splitlines())


def compare_labels(output: str, dims: Sequence[int], filename: str, content: bytes) -> tuple[int, str] | None:
    """Return how many labels are missing and a sentence; None where the numbers agree or an extent varies.

    The number is negative where there are more labels than classes. An index without a label is answered without one
    (label_provider.cc `GetLabel`).
    """
    if not dims or min(dims) < 1:
        return None
    labels, classes = count_labels(content), prod(dims)
    if labels == classes:
        return None
    return classes - labels, f"{filename} has {labels} labels, the output '{output}' has {classes} classes"
