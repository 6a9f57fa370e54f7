"""Options of the form NAME=VALUE, given any number of times."""

from __future__ import annotations

from collections.abc import Sequence

import click

__all__ = ["assigned"]


def assigned(given: Sequence[str], option: str) -> dict[str, str]:
    """The values by name; the last one of a name holds.

    Raises:
        click.UsageError: one is not NAME=VALUE; ``option`` is named.
    """
    pairs = {}
    for each in given:
        name, sign, value = each.partition("=")
        if not name or not sign:
            raise click.UsageError(f"{option} {each}: write NAME=VALUE")
        pairs[name] = value
    return pairs
