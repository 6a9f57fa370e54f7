"""Tags of a resource: added, replaced, removed. This module does no I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from tritonforge.emulator.control.failures import ApiError, invalid
from tritonforge.triton.service_limits import TAGS

__all__ = ["MOST", "added", "listed", "removed"]

#: The tags that a resource may have.
MOST: Final = TAGS.value

Tags = tuple[tuple[str, str], ...]


def added(tags: Tags, more: Sequence[Mapping[str, Any]], *, arn: str) -> Tags:
    """The tags with more of them; a key that is there gets the new value.

    Raises ApiError for a key twice in one request, a key of AWS's own, and too many. The sentences are ours.
    """
    found = dict(tags)
    keys = [each["Key"] for each in more]
    twice = sorted({key for key in keys if keys.count(key) > 1})
    if twice:
        raise invalid(f"The request has tag keys twice: {', '.join(twice)}.")
    for each in more:
        if each["Key"].lower().startswith("aws:"):
            raise invalid(f"Tag key {each['Key']!r} begins with aws:, which is for AWS's own tags.")
        found[each["Key"]] = each.get("Value", "")
    if len(found) > MOST:
        raise ApiError("ResourceLimitExceeded", f"{arn} would have {len(found)} tags; a resource has {MOST} at most.")
    return tuple(found.items())


def removed(tags: Tags, keys: Iterable[str]) -> Tags:
    """The tags without some; a key that is not there is no error."""
    gone = set(keys)
    return tuple((key, value) for key, value in tags if key not in gone)


def listed(tags: Tags) -> list[dict[str, str]]:
    """The tags as the API has them."""
    return [{"Key": key, "Value": value} for key, value in tags]
