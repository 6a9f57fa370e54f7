"""Whether what AWS tells of a thing is what was asked for. This module does no I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["holds", "member_that_differs"]


def holds(found: Any, wanted: Any) -> bool:
    """Whether what AWS tells has all that was asked for; it may have more, such as defaults that were left out.

    >>> holds({"a": 1, "b": [{"c": 2, "d": None}]}, {"b": [{"c": 2}]})
    True
    """
    if isinstance(wanted, Mapping):
        return isinstance(found, Mapping) and all(holds(found.get(name), each) for name, each in wanted.items())
    if isinstance(wanted, Sequence) and not isinstance(wanted, str | bytes):
        if not isinstance(found, Sequence) or isinstance(found, str | bytes) or len(found) != len(wanted):
            return False
        return all(holds(one, other) for one, other in zip(found, wanted, strict=True))
    return bool(found == wanted)


def member_that_differs(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """The first member of a request that AWS does not tell as it was asked for; empty where there is none."""
    return next((name for name, each in wanted.items() if not holds(found.get(name), each)), "")
