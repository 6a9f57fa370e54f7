"""CreateModelPackageGroup, DescribeModelPackageGroup, ListModelPackageGroups, DeleteModelPackageGroup."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from tritonforge.emulator.control import paging, tagging
from tritonforge.emulator.control.arns import KINDS
from tritonforge.emulator.control.failures import already_exists, conflict
from tritonforge.emulator.control.records import Resource
from tritonforge.emulator.control.registry import naming
from tritonforge.emulator.control.request_context import Desk, Operation

__all__ = ["OPERATIONS", "description"]

_KIND: Final = naming.GROUP

#: The only status that a group has here: it is there as soon as it was asked for.
_STATUS: Final = "Completed"


def _create(desk: Desk, request: Mapping[str, Any]) -> Mapping[str, Any]:
    name = request["ModelPackageGroupName"]
    arn = desk.arn(_KIND, name)
    tags = tagging.added((), request.get("Tags") or (), arn=arn)
    with desk.ledger.lock:
        if desk.ledger.resource(desk.region, _KIND, name) is not None:
            raise already_exists(KINDS[_KIND], arn)
        kept = {key: value for key, value in request.items() if key != "Tags"}
        desk.ledger.put(desk.region, _KIND, Resource(name=name, arn=arn, created=desk.now(), request=kept, tags=tags))
    return {"ModelPackageGroupArn": arn}


def description(group: Resource) -> dict[str, Any]:
    """A group as DescribeModelPackageGroup and ListModelPackageGroups show it."""
    return {
        **group.request,
        "ModelPackageGroupName": group.name,
        "ModelPackageGroupArn": group.arn,
        "CreationTime": group.created,
        "ModelPackageGroupStatus": _STATUS,
    }


def _describe(desk: Desk, request: Mapping[str, Any]) -> Mapping[str, Any]:
    """``CreatedBy`` is empty: it tells of users of SageMaker Studio, and there is none."""
    return {**description(naming.group(desk, request["ModelPackageGroupName"])), "CreatedBy": {}}


def _list(desk: Desk, request: Mapping[str, Any]) -> Mapping[str, Any]:
    found = [each for each in desk.ledger.all(desk.region, _KIND) if isinstance(each, Resource)]
    if request.get("CrossAccountFilterOption") == "CrossAccount":
        found = []  # the emulator has one account
    chosen = paging.selected(
        request, found, name=lambda each: each.name, created=lambda each: each.created, order="Ascending"
    )
    return paging.answer(request, chosen, "ModelPackageGroupSummaryList", description, name=lambda each: each.name)


def _delete(desk: Desk, request: Mapping[str, Any]) -> Mapping[str, Any]:
    with desk.ledger.lock:
        group = naming.group(desk, request["ModelPackageGroupName"])
        held = [
            each.arn
            for _, each in desk.ledger.registrations(naming.PACKAGE, desk.region)
            if each.group.lower() == group.name.lower()
        ]
        if held:
            raise conflict(f"ModelPackageGroup {group.arn} still has model packages: {', '.join(sorted(held))}.")
        desk.ledger.remove(desk.region, _KIND, group.name)
    return {}


OPERATIONS: Final[Mapping[str, Operation]] = MappingProxyType(
    {
        "CreateModelPackageGroup": _create,
        "DescribeModelPackageGroup": _describe,
        "ListModelPackageGroups": _list,
        "DeleteModelPackageGroup": _delete,
    }
)
