"""Tags of a resource: added, replaced, removed. This module does no I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Final

from tritonforge.emulator.control import paging, resources
from tritonforge.emulator.control.api_errors import ApiError, invalid, missing
from tritonforge.emulator.control.request_context import Operation, RequestContext
from tritonforge.emulator.control.resource_store import Record
from tritonforge.triton.service_limits import TAGS

__all__ = ["MAX_TAGS", "OPERATIONS", "add_tags", "list_tags", "remove_tags"]

#: The tags that a resource may have.
MAX_TAGS: Final = TAGS.value

Tags = tuple[tuple[str, str], ...]


def add_tags(tags: Tags, more: Sequence[Mapping[str, Any]], *, arn: str) -> Tags:
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
    if len(found) > MAX_TAGS:
        raise ApiError(
            "ResourceLimitExceeded", f"{arn} would have {len(found)} tags; a resource has {MAX_TAGS} at most."
        )
    return tuple(found.items())


def remove_tags(tags: Tags, keys: Iterable[str]) -> Tags:
    """The tags without some; a key that is not there is no error."""
    gone = set(keys)
    return tuple((key, value) for key, value in tags if key not in gone)


def list_tags(tags: Tags) -> list[dict[str, str]]:
    """The tags as the API has them."""
    return [{"Key": key, "Value": value} for key, value in tags]


def _find_resource(context: RequestContext, text: str) -> tuple[str, Record]:
    arn = resources.parse_arn(text)
    if arn is None or arn.kind not in resources.KINDS:
        # AWS tags some forty kinds; the sentence is ours.
        raise invalid(
            f"tritonforge's emulator keeps no resource {text!r}; it keeps models, configurations, endpoints, "
            "transform and training jobs, algorithms, model packages and their groups."
        )
    if (arn.region, arn.account) != (context.region, context.account):
        raise invalid(f"{text!r} is not of region {context.region} and account {context.account}.")  # ours
    kept = context.store.get(context.region, arn.kind, arn.name)
    if kept is None:
        raise missing(resources.KINDS[arn.kind], text)
    return arn.kind, kept


def _add_tags(context: RequestContext, request: Mapping[str, Any]) -> Mapping[str, Any]:
    with context.store.lock:
        kind, kept = _find_resource(context, request["ResourceArn"])
        tags = add_tags(kept.tags, request["Tags"], arn=kept.arn)
        context.store.put(context.region, kind, replace(kept, tags=tags))
    return {"Tags": list_tags(tags)}


def _list_tags(context: RequestContext, request: Mapping[str, Any]) -> Mapping[str, Any]:
    _, kept = _find_resource(context, request["ResourceArn"])
    shown, token = paging.take_page(request, list_tags(kept.tags), name=lambda each: each["Key"], most=MAX_TAGS)
    answer: dict[str, Any] = {"Tags": list(shown)}
    return answer | ({"NextToken": token} if token else {})


def _delete_tags(context: RequestContext, request: Mapping[str, Any]) -> Mapping[str, Any]:
    with context.store.lock:
        kind, kept = _find_resource(context, request["ResourceArn"])
        context.store.put(context.region, kind, replace(kept, tags=remove_tags(kept.tags, request["TagKeys"])))
    return {}


OPERATIONS: Final[Mapping[str, Operation]] = MappingProxyType(
    {"AddTags": _add_tags, "ListTags": _list_tags, "DeleteTags": _delete_tags}
)
