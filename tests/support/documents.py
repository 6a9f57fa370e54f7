"""Comparison of JSON documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def includes(whole: Any, part: Any) -> bool:
    """Whether a document has every member of another one, at every depth, and lists of the same length."""
    if isinstance(part, Mapping):
        return isinstance(whole, Mapping) and all(name in whole and includes(whole[name], part[name]) for name in part)
    if isinstance(part, Sequence) and not isinstance(part, str):
        return len(whole) == len(part) and all(includes(*pair) for pair in zip(whole, part, strict=True))
    return bool(whole == part)
