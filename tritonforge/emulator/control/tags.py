"""AddTags, ListTags and DeleteTags, on every resource."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Final

from tritonforge.emulator.control import paging, resource_store
from tritonforge.emulator.control.api_errors import build_not_found_error, build_validation_error
from tritonforge.emulator.control.records import Record, Tags, add_tags, list_tags
from tritonforge.emulator.control.request_context import Operation, RequestContext
from tritonforge.emulator.control.resource_store import AnyKind
from tritonforge.triton.service_limits import TAGS

__all__ = ["OPERATIONS"]


def _remove_tags(tags: Tags, keys: Iterable[str]) -> Tags:
    """Return tags without those of some keys, which may be missing."""
    removed = set(keys)
    return tuple((key, value) for key, value in tags if key not in removed)


def _find_resource(context: RequestContext, text: str) -> tuple[AnyKind, Record]:
    arn = resource_store.parse_arn(text)
    kinds = context.store.kinds
    if arn is None or arn.kind not in kinds:
        # AWS tags some forty kinds; the sentence is ours.
        nouns = ", ".join(f"{kind.noun}s" for kind in kinds.values())
        raise build_validation_error(f"tritonforge's emulator has no resource {text!r}; its resources are {nouns}.")
    if (arn.region, arn.account) != (context.region, context.account):
        raise build_validation_error(
            f"{text!r} is not of region {context.region} and account {context.account}."
        )  # ours
    kind = kinds[arn.kind]
    record = context.store.find(kind, context.region, arn.name)
    if record is None:
        raise build_not_found_error(kind.noun, text)
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
        context.store.put(kind, context.region, replace(record, tags=_remove_tags(record.tags, request["TagKeys"])))
    return {}


OPERATIONS: Final[Mapping[str, Operation]] = MappingProxyType(
    {"AddTags": _add_tags, "ListTags": _list_tags, "DeleteTags": _delete_tags}
)
