"""CreateEndpointConfig, DescribeEndpointConfig, ListEndpointConfigs, DeleteEndpointConfig."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from tritonforge.emulator.control import paging, tagging
from tritonforge.emulator.control.arns import KINDS
from tritonforge.emulator.control.failures import already_exists, invalid
from tritonforge.emulator.control.records import Resource
from tritonforge.emulator.control.request_context import Desk, Operation
from tritonforge.sagemaker.limits import check_limits

__all__ = ["OPERATIONS"]

_KIND: Final = "endpoint-config"


def _create(desk: Desk, request: Mapping[str, Any]) -> Mapping[str, Any]:
    name = request["EndpointConfigName"]
    arn = desk.arn(_KIND, name)
    tags = tagging.added((), request.get("Tags") or (), arn=arn)
    if request.get("ExecutionRoleArn"):
        desk.premises.role(desk.region, request["ExecutionRoleArn"])
    with desk.ledger.lock:
        if desk.ledger.get(desk.region, _KIND, name) is not None:
            raise already_exists(KINDS[_KIND], arn)
        models = {}
        for each in (*request["ProductionVariants"], *(request.get("ShadowProductionVariants") or ())):
            if each.get("ModelName"):
                models[each["ModelName"]] = desk.model(each["ModelName"]).model
            elif not request.get("ExecutionRoleArn"):
                # hashicorp/terraform-provider-aws pull request 44977 tells the rule; the sentence is ours.
                raise invalid(f"ExecutionRoleArn is required: variant {each['VariantName']} has no ModelName.")
        violations = check_limits("CreateEndpointConfig", request, models=models)
        if violations:
            raise invalid("; ".join(f"{violation.place}: {violation.sentence}" for violation in violations))
        kept = {key: value for key, value in request.items() if key != "Tags"}
        desk.ledger.put(desk.region, _KIND, Resource(name=name, arn=arn, created=desk.now(), request=kept, tags=tags))
    return {"EndpointConfigArn": arn}


def _describe(desk: Desk, request: Mapping[str, Any]) -> Mapping[str, Any]:
    found = desk.config(request["EndpointConfigName"])
    answer: dict[str, Any] = {"EnableNetworkIsolation": False, **found.request}
    for which in ("ProductionVariants", "ShadowProductionVariants"):
        if which in answer:
            answer[which] = [{"InitialVariantWeight": 1.0, **each} for each in answer[which]]
    return {**answer, "EndpointConfigArn": found.arn, "CreationTime": found.created}


def _list(desk: Desk, request: Mapping[str, Any]) -> Mapping[str, Any]:
    found = [each for each in desk.ledger.all(desk.region, _KIND) if isinstance(each, Resource)]
    chosen = paging.selected(request, found, name=lambda each: each.name, created=lambda each: each.created)
    shown, token = paging.page(request, chosen, name=lambda each: each.name)
    answer: dict[str, Any] = {
        "EndpointConfigs": [
            {"EndpointConfigName": each.name, "EndpointConfigArn": each.arn, "CreationTime": each.created}
            for each in shown
        ]
    }
    return answer | ({"NextToken": token} if token else {})


def _delete(desk: Desk, request: Mapping[str, Any]) -> Mapping[str, Any]:
    """AWS deletes a configuration whatever uses it ("You must not", says its reference, and lets it happen)."""
    with desk.ledger.lock:
        desk.ledger.remove(desk.region, _KIND, desk.config(request["EndpointConfigName"]).name)
    return {}


OPERATIONS: Final[Mapping[str, Operation]] = MappingProxyType(
    {
        "CreateEndpointConfig": _create,
        "DescribeEndpointConfig": _describe,
        "ListEndpointConfigs": _list,
        "DeleteEndpointConfig": _delete,
    }
)
