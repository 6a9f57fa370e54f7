"""Draining: what a stream gives before it ends or fails, for every test of records."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from tritonforge.records import RecordError

Item = TypeVar("Item")


def drain(items: Iterable[Item]) -> tuple[list[Item], RecordError | None]:
    """Everything that came out, and the error that ended it, if one did; any other exception goes through."""
    found: list[Item] = []
    try:
        for item in items:
            found.append(item)  # noqa: PERF402 - what came before the error is kept
    except RecordError as error:
        return found, error
    return found, None
