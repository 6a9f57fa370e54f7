"""CreateModel, DescribeModel, ListModels, DeleteModel."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from tritonforge.emulator.control import paging, tagging
from tritonforge.emulator.control.arns import KINDS
from tritonforge.emulator.control.failures import already_exists, invalid
from tritonforge.emulator.control.records import Resource
from tritonforge.emulator.control.registry import serving
from tritonforge.emulator.control.request_context import Desk, Operation
from tritonforge.emulator.hosting import container_definitions

__all__ = ["OPERATIONS", "create", "description"]

_KIND: Final = "model"


def create(desk: Desk, request: Mapping[str, Any]) -> Mapping[str, Any]:
    """CreateModel."""
    name = request["ModelName"]
    arn = desk.arn(_KIND, name)
    tags = tagging.added((), request.get("Tags") or (), arn=arn)
    role = request.get("ExecutionRoleArn")
    if not role:
        # The service model does not require it, SageMaker does for every model with containers. The sentence is ours.
        raise invalid("ExecutionRoleArn is required for a model with containers.")
    desk.premises.role(desk.region, role)
    resolved = serving.served(desk, request)
    for container in container_definitions({**request, **resolved}):
        desk.premises.data(desk.region, container, role)
    with desk.ledger.lock:
        if desk.ledger.get(desk.region, _KIND, name) is not None:
            raise already_exists(KINDS[_KIND], arn)
        kept = {key: value for key, value in request.items() if key != "Tags"}
        made = Resource(name=name, arn=arn, created=desk.now(), request=kept, served=resolved, tags=tags)
        desk.ledger.put(desk.region, _KIND, made)
    return {"ModelArn": arn}


def _describe(desk: Desk, request: Mapping[str, Any]) -> Mapping[str, Any]:
    return description(desk.model(request["ModelName"]))


def description(found: Resource) -> Mapping[str, Any]:
    """The answer to DescribeModel."""
    answer: dict[str, Any] = {"EnableNetworkIsolation": False, **found.request}
    if "PrimaryContainer" in answer:
        answer["PrimaryContainer"] = _described(answer["PrimaryContainer"])
    if "Containers" in answer:
        answer["Containers"] = [_described(each) for each in answer["Containers"]]
    return {**answer, "CreationTime": found.created, "ModelArn": found.arn}


def _described(container: Mapping[str, Any]) -> Mapping[str, Any]:
    """A container with what SageMaker adds to it: the mode, and an empty environment."""
    return {"Mode": "SingleModel", "Environment": {}, **container}


def _list(desk: Desk, request: Mapping[str, Any]) -> Mapping[str, Any]:
    found = [each for each in desk.ledger.all(desk.region, _KIND) if isinstance(each, Resource)]
    chosen = paging.selected(request, found, name=lambda each: each.name, created=lambda each: each.created)
    shown, token = paging.page(request, chosen, name=lambda each: each.name)
    answer: dict[str, Any] = {
        "Models": [{"ModelName": each.name, "ModelArn": each.arn, "CreationTime": each.created} for each in shown]
    }
    return answer | ({"NextToken": token} if token else {})


def _delete(desk: Desk, request: Mapping[str, Any]) -> Mapping[str, Any]:
    """AWS deletes a model whatever uses it; endpoints serve on."""
    with desk.ledger.lock:
        desk.ledger.remove(desk.region, _KIND, desk.model(request["ModelName"]).name)
    return {}


OPERATIONS: Final[Mapping[str, Operation]] = MappingProxyType(
    {"CreateModel": create, "DescribeModel": _describe, "ListModels": _list, "DeleteModel": _delete}
)
