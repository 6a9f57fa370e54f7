"""CreateEndpoint, DescribeEndpoint, ListEndpoints, UpdateEndpoint (and its weights and capacities), DeleteEndpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

from tritonforge.emulator.control import descriptions, paging, states, tagging
from tritonforge.emulator.control.arns import KINDS
from tritonforge.emulator.control.failures import already_exists, invalid, variants_absent
from tritonforge.emulator.control.records import Endpoint
from tritonforge.emulator.control.request_context import Desk, Operation

__all__ = ["OPERATIONS"]

_KIND: Final = "endpoint"


def _create(desk: Desk, request: Mapping[str, Any]) -> Mapping[str, Any]:
    name = request["EndpointName"]
    arn = desk.arn(_KIND, name)
    policy = _policy(desk, request.get("DeploymentConfig"))
    tags = tagging.added((), request.get("Tags") or (), arn=arn)
    with desk.ledger.lock:
        if desk.ledger.endpoint(desk.region, name) is not None:
            raise already_exists(KINDS[_KIND], arn)
        config, models = _fleet(desk, request["EndpointConfigName"])
        desk.allow(_instances(config))
        made = states.created(name, arn, desk.now(), config=config, models=models, policy=policy, tags=tags)
        desk.ledger.put(desk.region, _KIND, made)
    desk.begin(desk.region, name)
    return {"EndpointArn": arn}


def _update(desk: Desk, request: Mapping[str, Any]) -> Mapping[str, Any]:
    policy = _policy(desk, request.get("DeploymentConfig"))
    with desk.ledger.lock:
        endpoint = desk.endpoint(request["EndpointName"])
        config, models = _fleet(desk, request["EndpointConfigName"])
        if endpoint.status == "InService":
            # An endpoint whose present configuration was deleted cannot be updated
            # (hashicorp/terraform-provider-aws issue 40048).
            desk.config(endpoint.config_name)
        changed = states.updating(
            endpoint,
            desk.now(endpoint.modified),
            config=config,
            models=models,
            policy=endpoint.policy if request.get("RetainDeploymentConfig") else policy,
            retain=bool(request.get("RetainAllVariantProperties")),
            exclude=frozenset(
                each["VariantPropertyType"] for each in request.get("ExcludeRetainedVariantProperties") or ()
            ),
        )
        assert changed.pending is not None
        desk.allow(
            _counted((each.config.get("InstanceType"), each.desired_instances) for each in changed.pending.variants)
        )
        desk.ledger.put(desk.region, _KIND, changed)
    desk.begin(desk.region, endpoint.name)
    return {"EndpointArn": endpoint.arn}


def _reweigh(desk: Desk, request: Mapping[str, Any]) -> Mapping[str, Any]:
    changes: Sequence[Mapping[str, Any]] = request["DesiredWeightsAndCapacities"]
    with desk.ledger.lock:
        endpoint = desk.endpoint(request["EndpointName"])
        there = {each.name: each for each in endpoint.variants}
        changed = states.reweighed(endpoint, changes, desk.now(endpoint.modified))
        absent = [each["VariantName"] for each in changes if each["VariantName"] not in there]
        if absent:
            raise variants_absent(absent, endpoint.config_name)
        if all(each.desired_weight == 0 for each in changed.variants):
            raise invalid("The weights of all variants are 0; at least one must be greater.")  # ours
        for each in changed.variants:
            if (
                each.desired_instances == 0
                and "InstanceType" in each.config
                and not changed.config.get("AsyncInferenceConfig")
            ):
                # "Autoscale an asynchronous endpoint" in the developer guide: to zero only there. The sentence is ours.
                raise invalid(
                    f"Variant {each.name} cannot have 0 instances: only asynchronous endpoints scale to zero."
                )
        desk.allow(
            _counted(
                (each.config.get("InstanceType"), each.desired_instances - there[each.name].desired_instances)
                for each in changed.variants
            )
        )
        desk.ledger.put(desk.region, _KIND, changed)
    desk.begin(desk.region, endpoint.name)
    return {"EndpointArn": endpoint.arn}


def _delete(desk: Desk, request: Mapping[str, Any]) -> Mapping[str, Any]:
    with desk.ledger.lock:
        endpoint = desk.endpoint(request["EndpointName"])
        desk.ledger.put(desk.region, _KIND, states.deleting(endpoint, desk.now(endpoint.modified)))
    desk.begin(desk.region, endpoint.name)
    return {}


def _describe(desk: Desk, request: Mapping[str, Any]) -> Mapping[str, Any]:
    return descriptions.endpoint(desk.endpoint(request["EndpointName"]))


def _list(desk: Desk, request: Mapping[str, Any]) -> Mapping[str, Any]:
    found = [each for _, each in desk.ledger.endpoints(desk.region)]
    chosen = paging.selected(
        request,
        found,
        name=lambda each: each.name,
        created=lambda each: each.created,
        modified=lambda each: each.modified,
        status=lambda each: each.status,
    )
    return paging.answer(request, chosen, "Endpoints", _summary, name=lambda each: each.name)


def _summary(endpoint: Endpoint) -> Mapping[str, Any]:
    return {
        "EndpointName": endpoint.name,
        "EndpointArn": endpoint.arn,
        "CreationTime": endpoint.created,
        "LastModifiedTime": endpoint.modified,
        "EndpointStatus": endpoint.status,
    }


def _fleet(desk: Desk, config_name: str) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """A configuration and the models that it names, as they are now."""
    config = desk.config(config_name).request
    variants = [*config["ProductionVariants"], *(config.get("ShadowProductionVariants") or ())]
    return config, {
        each["ModelName"]: desk.model(each["ModelName"]).model for each in variants if each.get("ModelName")
    }


def _policy(desk: Desk, policy: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    alarms = ((policy or {}).get("AutoRollbackConfiguration") or {}).get("Alarms", ())
    names = [alarm["AlarmName"] for alarm in alarms if "AlarmName" in alarm]  # the service model does not require it
    desk.premises.alarms(desk.region, names)
    return policy


def _instances(config: Mapping[str, Any]) -> Mapping[str, int]:
    variants = [*config["ProductionVariants"], *(config.get("ShadowProductionVariants") or ())]
    return _counted((each.get("InstanceType"), int(each.get("InitialInstanceCount") or 0)) for each in variants)


def _counted(pairs: Any) -> Mapping[str, int]:
    found: dict[str, int] = {}
    for kind, count in pairs:
        if kind:
            found[kind] = found.get(kind, 0) + count
    return found


OPERATIONS: Final[Mapping[str, Operation]] = MappingProxyType(
    {
        "CreateEndpoint": _create,
        "DescribeEndpoint": _describe,
        "ListEndpoints": _list,
        "UpdateEndpoint": _update,
        "UpdateEndpointWeightsAndCapacities": _reweigh,
        "DeleteEndpoint": _delete,
    }
)
