"""AddTags, ListTags and DeleteTags on every resource, and the tags of requests that create one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Final

from tritonforge.emulator.control import paging, resource_store
from tritonforge.emulator.control.api_errors import ApiError, invalid, missing
from tritonforge.emulator.control.records import Record
from tritonforge.emulator.control.request_context import Operation, RequestContext
from tritonforge.emulator.control.resource_store import AnyKind
from tritonforge.triton.service_limits import TAGS

__all__ = ["OPERATIONS", "add_tags", "list_tags", "remove_tags"]

Tags = tuple[tuple[str, str], ...]


def add_tags(tags: Tags, more: Sequence[Mapping[str, Any]], *, arn: str) -> Tags:
    """Return tags with more of them; a key that exists gets the new value.

    Raises ApiError for a duplicate key in a request, a key of AWS's own, and too many tags. The sentences are ours.
    """
    merged = dict(tags)
    keys = [tag["Key"] for tag in more]
    duplicates = sorted({key for key in keys if keys.count(key) > 1})
    if duplicates:
        raise invalid(f"The request has duplicate tag keys: {', '.join(duplicates)}.")
    for tag in more:
        if tag["Key"].lower().startswith("aws:"):
            raise invalid(f"Tag key {tag['Key']!r} begins with aws:, which is reserved for AWS's own tags.")
        merged[tag["Key"]] = tag.get("Value", "")
    if len(merged) > TAGS.value:
        raise ApiError(
            "ResourceLimitExceeded", f"{arn} would have {len(merged)} tags; a resource has {TAGS.value} at most."
        )
    return tuple(merged.items())


def remove_tags(tags: Tags, keys: Iterable[str]) -> Tags:
    """Return tags without those of some keys, which may be missing."""
    removed = set(keys)
    return tuple((key, value) for key, value in tags if key not in removed)


def list_tags(tags: Tags) -> list[dict[str, str]]:
    """Return tags as the API has them."""
    return [{"Key": key, "Value": value} for key, value in tags]


def _find_resource(context: RequestContext, text: str) -> tuple[AnyKind, Record]:
    arn = resource_store.parse_arn(text)
    kinds = context.store.kinds
    if arn is None or arn.kind not in kinds:
        # AWS tags some forty kinds; the sentence is ours.
        nouns = ", ".join(f"{kind.noun}s" for kind in kinds.values())
        raise invalid(f"tritonforge's emulator has no resource {text!r}; its resources are {nouns}.")
    if (arn.region, arn.account) != (context.region, context.account):
        raise invalid(f"{text!r} is not of region {context.region} and account {context.account}.")  # ours
    kind = kinds[arn.kind]
    record = context.store.find(kind, context.region, arn.name)
    if record is None:
        raise missing(kind.noun, text)
    return kind, record


def _add_tags(context: RequestContext, request: Mapping[str, Any]) -> Mapping[str, Any]:
    with context.store.lock:
        kind, record = _find_resource(context, request["ResourceArn"])
        tags = add_tags(record.tags, request["Tags"], arn=record.arn)
        context.store.put(kind, context.region, replace(record, tags=tags))
    return {"Tags": list_tags(tags)}


def _list_tags(context: RequestContext, request: Mapping[str, Any]) -> Mapping[str, Any]:
    _, record = _find_resource(context, request["ResourceArn"])
    shown, token = paging.take_page(request, list_tags(record.tags), name=lambda tag: tag["Key"], size=TAGS.value)
    return {"Tags": list(shown), **({"NextToken": token} if token else {})}


def _delete_tags(context: RequestContext, request: Mapping[str, Any]) -> Mapping[str, Any]:
    with context.store.lock:
        kind, record = _find_resource(context, request["ResourceArn"])
        context.store.put(kind, context.region, replace(record, tags=remove_tags(record.tags, request["TagKeys"])))
    return {}


OPERATIONS: Final[Mapping[str, Operation]] = MappingProxyType(
    {"AddTags": _add_tags, "ListTags": _list_tags, "DeleteTags": _delete_tags}
)
