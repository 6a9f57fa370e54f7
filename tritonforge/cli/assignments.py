"""Options of the form NAME=VALUE, given any number of times, and values of the form DATA[:ATTRIBUTE,...]."""

from __future__ import annotations

from collections.abc import Sequence

import click

__all__ = ["assigned", "attributed"]


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


def attributed(text: str) -> tuple[str, tuple[str, ...]]:
    """The address of data, and the attributes of an augmented manifest that are wanted of it, () where none are named.

    They stand after the last colon, which is not that of an address.

    >>> attributed("s3://b/train.manifest:source-ref,label")
    ('s3://b/train.manifest', ('source-ref', 'label'))
    >>> attributed("s3://b/train/")
    ('s3://b/train/', ())
    """
    address, colon, names = text.rpartition(":")
    if not colon or "/" in names:
        return text, ()
    return address, tuple(filter(None, names.split(",")))
