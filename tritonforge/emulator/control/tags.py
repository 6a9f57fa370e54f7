"""AddTags, ListTags, DeleteTags, on every resource that the control plane keeps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Final

from tritonforge.emulator.control import arns, paging, tagging
from tritonforge.emulator.control.failures import invalid, missing
from tritonforge.emulator.control.request_context import Desk, Operation
from tritonforge.emulator.control.resource_store import Kept

__all__ = ["OPERATIONS"]


def _found(desk: Desk, text: str) -> tuple[str, Kept]:
    arn = arns.parse(text)
    if arn is None or arn.kind not in arns.KINDS:
        # AWS tags some forty kinds; the sentence is ours.
        raise invalid(
            f"tritonforge's emulator keeps no resource {text!r}; it keeps models, configurations, endpoints, "
            "transform and training jobs, algorithms, model packages and their groups."
        )
    if (arn.region, arn.account) != (desk.region, desk.account):
        raise invalid(f"{text!r} is not of region {desk.region} and account {desk.account}.")  # ours
    kept = desk.ledger.get(desk.region, arn.kind, arn.name)
    if kept is None:
        raise missing(arns.KINDS[arn.kind], text)
    return arn.kind, kept


def _add(desk: Desk, request: Mapping[str, Any]) -> Mapping[str, Any]:
    with desk.ledger.lock:
        kind, kept = _found(desk, request["ResourceArn"])
        tags = tagging.added(kept.tags, request["Tags"], arn=kept.arn)
        desk.ledger.put(desk.region, kind, replace(kept, tags=tags))
    return {"Tags": tagging.listed(tags)}


def _list(desk: Desk, request: Mapping[str, Any]) -> Mapping[str, Any]:
    _, kept = _found(desk, request["ResourceArn"])
    shown, token = paging.page(request, tagging.listed(kept.tags), name=lambda each: each["Key"], most=tagging.MOST)
    answer: dict[str, Any] = {"Tags": list(shown)}
    return answer | ({"NextToken": token} if token else {})


def _delete(desk: Desk, request: Mapping[str, Any]) -> Mapping[str, Any]:
    with desk.ledger.lock:
        kind, kept = _found(desk, request["ResourceArn"])
        desk.ledger.put(desk.region, kind, replace(kept, tags=tagging.removed(kept.tags, request["TagKeys"])))
    return {}


OPERATIONS: Final[Mapping[str, Operation]] = MappingProxyType(
    {"AddTags": _add, "ListTags": _list, "DeleteTags": _delete}
)
