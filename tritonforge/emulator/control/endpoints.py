"""CreateEndpointConfig, DescribeEndpointConfig, ListEndpointConfigs, DeleteEndpointConfig."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

from tritonforge.emulator.control import endpoint_states, paging
from tritonforge.emulator.control.api_errors import already_exists, invalid, variants_absent
from tritonforge.emulator.control.records import Endpoint, PendingDeployment, Resource, VariantState
from tritonforge.emulator.control.request_context import Operation, RequestContext
from tritonforge.emulator.control.resources import KINDS
from tritonforge.emulator.control.tags import add_tags
from tritonforge.sagemaker.limits import check_limits

__all__ = ["CONFIG_OPERATIONS", "ENDPOINT_OPERATIONS", "describe_endpoint"]

_CONFIG: Final = "endpoint-config"


def _create_config(context: RequestContext, request: Mapping[str, Any]) -> Mapping[str, Any]:
    name = request["EndpointConfigName"]
    arn = context.arn(_CONFIG, name)
    tags = add_tags((), request.get("Tags") or (), arn=arn)
    if request.get("ExecutionRoleArn"):
        context.preconditions.role(context.region, request["ExecutionRoleArn"])
    with context.store.lock:
        if context.store.get(context.region, _CONFIG, name) is not None:
            raise already_exists(KINDS[_CONFIG], arn)
        models = {}
        for each in (*request["ProductionVariants"], *(request.get("ShadowProductionVariants") or ())):
            if each.get("ModelName"):
                models[each["ModelName"]] = context.model(each["ModelName"]).model
            elif not request.get("ExecutionRoleArn"):
                # hashicorp/terraform-provider-aws pull request 44977 tells the rule; the sentence is ours.
                raise invalid(f"ExecutionRoleArn is required: variant {each['VariantName']} has no ModelName.")
        violations = check_limits("CreateEndpointConfig", request, models=models)
        if violations:
            raise invalid("; ".join(f"{violation.place}: {violation.sentence}" for violation in violations))
        kept = {key: value for key, value in request.items() if key != "Tags"}
        context.store.put(
            context.region, _CONFIG, Resource(name=name, arn=arn, created=context.now(), request=kept, tags=tags)
        )
    return {"EndpointConfigArn": arn}


def _describe_config(context: RequestContext, request: Mapping[str, Any]) -> Mapping[str, Any]:
    found = context.config(request["EndpointConfigName"])
    answer: dict[str, Any] = {"EnableNetworkIsolation": False, **found.request}
    for which in ("ProductionVariants", "ShadowProductionVariants"):
        if which in answer:
            answer[which] = [{"InitialVariantWeight": 1.0, **each} for each in answer[which]]
    return {**answer, "EndpointConfigArn": found.arn, "CreationTime": found.created}


def _list_configs(context: RequestContext, request: Mapping[str, Any]) -> Mapping[str, Any]:
    found = [each for each in context.store.all(context.region, _CONFIG) if isinstance(each, Resource)]
    chosen = paging.select_items(request, found, name=lambda each: each.name, created=lambda each: each.created)
    shown, token = paging.take_page(request, chosen, name=lambda each: each.name)
    answer: dict[str, Any] = {
        "EndpointConfigs": [
            {"EndpointConfigName": each.name, "EndpointConfigArn": each.arn, "CreationTime": each.created}
            for each in shown
        ]
    }
    return answer | ({"NextToken": token} if token else {})


def _delete_config(context: RequestContext, request: Mapping[str, Any]) -> Mapping[str, Any]:
    """AWS deletes a configuration whatever uses it ("You must not", says its reference, and lets it happen)."""
    with context.store.lock:
        context.store.remove(context.region, _CONFIG, context.config(request["EndpointConfigName"]).name)
    return {}


CONFIG_OPERATIONS: Final[Mapping[str, Operation]] = MappingProxyType(
    {
        "CreateEndpointConfig": _create_config,
        "DescribeEndpointConfig": _describe_config,
        "ListEndpointConfigs": _list_configs,
        "DeleteEndpointConfig": _delete_config,
    }
)

#: What is taken from the variant's configuration as it is.
_CARRIED: Final = ("ManagedInstanceScaling", "RoutingConfig")


def describe_endpoint(found: Endpoint) -> Mapping[str, Any]:
    """The answer to DescribeEndpoint."""
    answer: dict[str, Any] = {
        "EndpointName": found.name,
        "EndpointArn": found.arn,
        "EndpointConfigName": found.config_name,
        "EndpointStatus": found.status,
        "CreationTime": found.created,
        "LastModifiedTime": found.modified,
    }
    if found.failure:
        answer["FailureReason"] = found.failure
    if found.variants:
        answer["ProductionVariants"] = [_describe_variant(each, found.created) for each in found.variants]
    if found.shadows:
        answer["ShadowProductionVariants"] = [_describe_variant(each, found.created) for each in found.shadows]
    if found.policy:
        answer["LastDeploymentConfig"] = found.policy
    if found.pending is not None:
        answer["PendingDeploymentSummary"] = _describe_pending(found.pending)
    capture = found.config.get("DataCaptureConfig")
    if capture:
        serving = found.status in ("InService", "Updating", "RollingBack")
        answer["DataCaptureConfig"] = {
            "EnableCapture": bool(capture.get("EnableCapture", True)),
            "CaptureStatus": "Started" if serving and capture.get("EnableCapture", True) else "Stopped",
            "CurrentSamplingPercentage": capture["InitialSamplingPercentage"],
            "DestinationS3Uri": capture["DestinationS3Uri"],
            "KmsKeyId": capture.get("KmsKeyId", ""),
        }
    for name in ("AsyncInferenceConfig", "ExplainerConfig", "MetricsConfig", "CrossRegionTrafficConfig"):
        if found.config.get(name):
            answer[name] = found.config[name]
    return answer


def _describe_variant(variant: VariantState, since: float) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "VariantName": variant.name,
        "DeployedImages": [{"SpecifiedImage": image, "ResolutionTime": since} for image in variant.images if image],
        "CurrentWeight": variant.weight,
        "DesiredWeight": variant.desired_weight,
    }
    serverless = variant.config.get("ServerlessConfig")
    if serverless:
        answer["CurrentServerlessConfig"] = answer["DesiredServerlessConfig"] = serverless
    else:
        answer["CurrentInstanceCount"] = variant.instances
        answer["DesiredInstanceCount"] = variant.desired_instances
    if variant.stages:
        answer["VariantStatus"] = [
            {"Status": each.status, "StartTime": each.since} | ({"StatusMessage": each.message} if each.message else {})
            for each in variant.stages
        ]
    return answer | {name: variant.config[name] for name in _CARRIED if variant.config.get(name)}


def _describe_pending(pending: PendingDeployment) -> Mapping[str, Any]:
    answer: dict[str, Any] = {
        "EndpointConfigName": pending.config_name,
        "ProductionVariants": [_describe_pending_variant(each, pending.started) for each in pending.variants],
        "StartTime": pending.started,
    }
    if pending.shadows:
        answer["ShadowProductionVariants"] = [
            _describe_pending_variant(each, pending.started) for each in pending.shadows
        ]
    return answer


def _describe_pending_variant(variant: VariantState, since: float) -> Mapping[str, Any]:
    kind = variant.config.get("InstanceType")
    return _describe_variant(variant, since) | ({"InstanceType": kind} if kind else {})


_ENDPOINT: Final = "endpoint"


def _create_endpoint(context: RequestContext, request: Mapping[str, Any]) -> Mapping[str, Any]:
    name = request["EndpointName"]
    arn = context.arn(_ENDPOINT, name)
    policy = _check_policy(context, request.get("DeploymentConfig"))
    tags = add_tags((), request.get("Tags") or (), arn=arn)
    with context.store.lock:
        if context.store.endpoint(context.region, name) is not None:
            raise already_exists(KINDS[_ENDPOINT], arn)
        config, models = _find_config(context, request["EndpointConfigName"])
        context.allow(_count_config(config))
        made = endpoint_states.create(name, arn, context.now(), config=config, models=models, policy=policy, tags=tags)
        context.store.put(context.region, _ENDPOINT, made)
    context.begin(context.region, name)
    return {"EndpointArn": arn}


def _update_endpoint(context: RequestContext, request: Mapping[str, Any]) -> Mapping[str, Any]:
    policy = _check_policy(context, request.get("DeploymentConfig"))
    with context.store.lock:
        endpoint = context.endpoint(request["EndpointName"])
        config, models = _find_config(context, request["EndpointConfigName"])
        if endpoint.status == "InService":
            # An endpoint whose present configuration was deleted cannot be updated
            # (hashicorp/terraform-provider-aws issue 40048).
            context.config(endpoint.config_name)
        changed = endpoint_states.begin_update(
            endpoint,
            context.now(endpoint.modified),
            config=config,
            models=models,
            policy=endpoint.policy if request.get("RetainDeploymentConfig") else policy,
            retain=bool(request.get("RetainAllVariantProperties")),
            exclude=frozenset(
                each["VariantPropertyType"] for each in request.get("ExcludeRetainedVariantProperties") or ()
            ),
        )
        assert changed.pending is not None
        context.allow(
            _count_instances(
                (each.config.get("InstanceType"), each.desired_instances) for each in changed.pending.variants
            )
        )
        context.store.put(context.region, _ENDPOINT, changed)
    context.begin(context.region, endpoint.name)
    return {"EndpointArn": endpoint.arn}


def _update_weights(context: RequestContext, request: Mapping[str, Any]) -> Mapping[str, Any]:
    changes: Sequence[Mapping[str, Any]] = request["DesiredWeightsAndCapacities"]
    with context.store.lock:
        endpoint = context.endpoint(request["EndpointName"])
        there = {each.name: each for each in endpoint.variants}
        changed = endpoint_states.with_weights(endpoint, changes, context.now(endpoint.modified))
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
        context.allow(
            _count_instances(
                (each.config.get("InstanceType"), each.desired_instances - there[each.name].desired_instances)
                for each in changed.variants
            )
        )
        context.store.put(context.region, _ENDPOINT, changed)
    context.begin(context.region, endpoint.name)
    return {"EndpointArn": endpoint.arn}


def _delete_endpoint(context: RequestContext, request: Mapping[str, Any]) -> Mapping[str, Any]:
    with context.store.lock:
        endpoint = context.endpoint(request["EndpointName"])
        context.store.put(
            context.region, _ENDPOINT, endpoint_states.begin_deletion(endpoint, context.now(endpoint.modified))
        )
    context.begin(context.region, endpoint.name)
    return {}


def _describe(context: RequestContext, request: Mapping[str, Any]) -> Mapping[str, Any]:
    return describe_endpoint(context.endpoint(request["EndpointName"]))


def _list_endpoints(context: RequestContext, request: Mapping[str, Any]) -> Mapping[str, Any]:
    found = [each for _, each in context.store.endpoints(context.region)]
    chosen = paging.select_items(
        request,
        found,
        name=lambda each: each.name,
        created=lambda each: each.created,
        modified=lambda each: each.modified,
        status=lambda each: each.status,
    )
    return paging.build_page(request, chosen, "Endpoints", _summarize, name=lambda each: each.name)


def _summarize(endpoint: Endpoint) -> Mapping[str, Any]:
    return {
        "EndpointName": endpoint.name,
        "EndpointArn": endpoint.arn,
        "CreationTime": endpoint.created,
        "LastModifiedTime": endpoint.modified,
        "EndpointStatus": endpoint.status,
    }


def _find_config(context: RequestContext, config_name: str) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """A configuration and the models that it names, as they are now."""
    config = context.config(config_name).request
    variants = [*config["ProductionVariants"], *(config.get("ShadowProductionVariants") or ())]
    return config, {
        each["ModelName"]: context.model(each["ModelName"]).model for each in variants if each.get("ModelName")
    }


def _check_policy(context: RequestContext, policy: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    alarms = ((policy or {}).get("AutoRollbackConfiguration") or {}).get("Alarms", ())
    names = [alarm["AlarmName"] for alarm in alarms if "AlarmName" in alarm]  # the service model does not require it
    context.preconditions.alarms(context.region, names)
    return policy


def _count_config(config: Mapping[str, Any]) -> Mapping[str, int]:
    variants = [*config["ProductionVariants"], *(config.get("ShadowProductionVariants") or ())]
    return _count_instances((each.get("InstanceType"), int(each.get("InitialInstanceCount") or 0)) for each in variants)


def _count_instances(pairs: Any) -> Mapping[str, int]:
    found: dict[str, int] = {}
    for kind, count in pairs:
        if kind:
            found[kind] = found.get(kind, 0) + count
    return found


ENDPOINT_OPERATIONS: Final[Mapping[str, Operation]] = MappingProxyType(
    {
        "CreateEndpoint": _create_endpoint,
        "DescribeEndpoint": _describe,
        "ListEndpoints": _list_endpoints,
        "UpdateEndpoint": _update_endpoint,
        "UpdateEndpointWeightsAndCapacities": _update_weights,
        "DeleteEndpoint": _delete_endpoint,
    }
)
