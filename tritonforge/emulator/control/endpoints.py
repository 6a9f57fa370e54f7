"""The operations on endpoint configurations and endpoints: Create, Describe, List, Update, Delete.

``ResolvedImage`` is left out of DeployedImages: no registry is asked for a digest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from tritonforge.emulator.control import endpoint_states
from tritonforge.emulator.control.api_errors import build_validation_error, build_variants_error, raise_violations
from tritonforge.emulator.control.model_operations import MODEL
from tritonforge.emulator.control.records import (
    Endpoint,
    PendingDeployment,
    Resource,
    StatusRecord,
    VariantState,
    add_tags,
    build_page,
    describe_record,
)
from tritonforge.emulator.control.request_context import Operation, RequestContext
from tritonforge.emulator.control.resource_store import InstanceUsage, ResourceKind
from tritonforge.sagemaker.limits import check_limits

__all__ = ["ENDPOINT", "ENDPOINT_CONFIG", "INFERENCE_COMPONENT", "OPERATIONS", "InferenceComponent",
           "describe_endpoint", "summarize_endpoint"]  # fmt: skip


def _list_usage(endpoint: Endpoint) -> Iterable[InstanceUsage]:
    """Yield the instances of both fleets while one takes over from the other; a failed endpoint has none."""
    if endpoint.status == "Failed":
        return
    pending = (*endpoint.pending.variants, *endpoint.pending.shadows) if endpoint.pending else ()
    for variant in (*endpoint.variants, *endpoint.shadows, *pending):
        yield InstanceUsage(variant.config.get("InstanceType", ""), "endpoint usage", variant.desired_instances)


@dataclass(frozen=True, slots=True, kw_only=True)
class InferenceComponent(StatusRecord):
    """An inference component of an endpoint. ``model`` is a copy of the model that its specification names.

    The members ``next_`` are those of an update in progress, ``deployment`` is its DeploymentConfig.
    """

    endpoint: str
    variant: str
    specification: Mapping[str, Any]
    model: Mapping[str, Any]
    copies: int = 0
    desired_copies: int = 1
    next_specification: Mapping[str, Any] | None = None
    next_model: Mapping[str, Any] | None = None
    deployment: Mapping[str, Any] | None = None


ENDPOINT_CONFIG: Final = ResourceKind(name="endpoint-config", noun="endpoint configuration", record=Resource)
ENDPOINT: Final = ResourceKind(
    name="endpoint", noun="endpoint", record=Endpoint, usage=_list_usage, log_group="/aws/sagemaker/Endpoints"
)
INFERENCE_COMPONENT: Final = ResourceKind(
    name="inference-component",
    noun="inference component",
    record=InferenceComponent,
    log_group="/aws/sagemaker/InferenceComponents",
)

#: Members that are shown as the variant's configuration has them.
_CONFIG_MEMBERS: Final = ("ManagedInstanceScaling", "RoutingConfig")


def describe_endpoint(endpoint: Endpoint) -> Mapping[str, Any]:
    """Build the response of DescribeEndpoint."""
    answer: dict[str, Any] = {**summarize_endpoint(endpoint), "EndpointConfigName": endpoint.config_name}
    if endpoint.failure:
        answer["FailureReason"] = endpoint.failure
    if endpoint.variants:
        answer["ProductionVariants"] = [_describe_variant(variant, endpoint.created) for variant in endpoint.variants]
    if endpoint.shadows:
        answer["ShadowProductionVariants"] = [
            _describe_variant(variant, endpoint.created) for variant in endpoint.shadows
        ]
    if endpoint.policy:
        answer["LastDeploymentConfig"] = endpoint.policy
    if endpoint.pending is not None:
        answer["PendingDeploymentSummary"] = _describe_pending(endpoint.pending)
    capture = endpoint.config.get("DataCaptureConfig")
    if capture:
        serving = endpoint.status in ("InService", "Updating", "RollingBack")
        answer["DataCaptureConfig"] = {
            "EnableCapture": bool(capture.get("EnableCapture", True)),
            "CaptureStatus": "Started" if serving and capture.get("EnableCapture", True) else "Stopped",
            "CurrentSamplingPercentage": capture["InitialSamplingPercentage"],
            "DestinationS3Uri": capture["DestinationS3Uri"],
            "KmsKeyId": capture.get("KmsKeyId", ""),
        }
    for name in ("AsyncInferenceConfig", "ExplainerConfig", "MetricsConfig", "CrossRegionTrafficConfig"):
        if endpoint.config.get(name):
            answer[name] = endpoint.config[name]
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
            {"Status": stage.status, "StartTime": stage.since}
            | ({"StatusMessage": stage.message} if stage.message else {})
            for stage in variant.stages
        ]
    return answer | {name: variant.config[name] for name in _CONFIG_MEMBERS if variant.config.get(name)}


def _describe_pending(pending: PendingDeployment) -> Mapping[str, Any]:
    answer: dict[str, Any] = {
        "EndpointConfigName": pending.config_name,
        "ProductionVariants": [_describe_pending_variant(variant, pending.started) for variant in pending.variants],
        "StartTime": pending.started,
    }
    if pending.shadows:
        answer["ShadowProductionVariants"] = [
            _describe_pending_variant(variant, pending.started) for variant in pending.shadows
        ]
    return answer


def _describe_pending_variant(variant: VariantState, since: float) -> Mapping[str, Any]:
    kind = variant.config.get("InstanceType")
    return _describe_variant(variant, since) | ({"InstanceType": kind} if kind else {})


def _create_config(context: RequestContext, request: Mapping[str, Any]) -> Mapping[str, Any]:
    fields = context.build_fields(ENDPOINT_CONFIG, request["EndpointConfigName"], request)
    if request.get("ExecutionRoleArn"):
        context.preconditions.check_role(context.region, request["ExecutionRoleArn"])
    with context.store.lock:
        context.check_name(ENDPOINT_CONFIG, fields["name"])
        for variant in _list_variants(request):
            if not variant.get("ModelName") and not request.get("ExecutionRoleArn"):
                # hashicorp/terraform-provider-aws pull request 44977 states the rule; the sentence is ours.
                raise build_validation_error(
                    f"ExecutionRoleArn is required: variant {variant['VariantName']} has no ModelName."
                )
        raise_violations(check_limits("CreateEndpointConfig", request, models=_find_models(context, request)))
        context.create(ENDPOINT_CONFIG, Resource(**fields))
    return {"EndpointConfigArn": fields["arn"]}


def _describe_config(context: RequestContext, request: Mapping[str, Any]) -> Mapping[str, Any]:
    config = context.find(ENDPOINT_CONFIG, request["EndpointConfigName"])
    answer: dict[str, Any] = {"EnableNetworkIsolation": False, **config.request}
    for member in ("ProductionVariants", "ShadowProductionVariants"):
        if member in answer:
            answer[member] = [{"InitialVariantWeight": 1.0, **variant} for variant in answer[member]]
    return {**answer, **describe_record(config, "EndpointConfig")}


def _list_configs(context: RequestContext, request: Mapping[str, Any]) -> Mapping[str, Any]:
    def summarize(config: Resource) -> Mapping[str, Any]:
        return describe_record(config, "EndpointConfig")

    return build_page(request, context.list(ENDPOINT_CONFIG), "EndpointConfigs", summarize)


def _delete_config(context: RequestContext, request: Mapping[str, Any]) -> Mapping[str, Any]:
    """Delete a configuration, whatever uses it: AWS's reference forbids it ("You must not"), AWS does it."""
    context.remove(ENDPOINT_CONFIG, request["EndpointConfigName"])
    return {}


def _create_endpoint(context: RequestContext, request: Mapping[str, Any]) -> Mapping[str, Any]:
    name = request["EndpointName"]
    arn = context.arn(ENDPOINT, name)
    policy = _check_policy(context, request.get("DeploymentConfig"))
    tags = add_tags((), request.get("Tags") or (), arn=arn)
    with context.store.lock:
        context.check_name(ENDPOINT, name)
        config, models = _find_config(context, request["EndpointConfigName"])
        endpoint = endpoint_states.create(
            name, arn, context.now(), config=config, models=models, policy=policy, tags=tags
        )
        context.create(ENDPOINT, endpoint)
    return {"EndpointArn": arn}


def _update_endpoint(context: RequestContext, request: Mapping[str, Any]) -> Mapping[str, Any]:
    policy = _check_policy(context, request.get("DeploymentConfig"))

    def update(endpoint: Endpoint, now: float) -> Endpoint:
        config, models = _find_config(context, request["EndpointConfigName"])
        if endpoint.status == "InService":
            # An endpoint whose present configuration was deleted cannot be updated
            # (hashicorp/terraform-provider-aws issue 40048).
            context.find(ENDPOINT_CONFIG, endpoint.config_name)
        excluded = request.get("ExcludeRetainedVariantProperties") or ()
        return endpoint_states.begin_update(
            endpoint,
            now,
            config=config,
            models=models,
            policy=endpoint.policy if request.get("RetainDeploymentConfig") else policy,
            retain=bool(request.get("RetainAllVariantProperties")),
            exclude=frozenset(variant_property["VariantPropertyType"] for variant_property in excluded),
        )

    return _begin(context, context.change(ENDPOINT, request["EndpointName"], update))


def _update_weights(context: RequestContext, request: Mapping[str, Any]) -> Mapping[str, Any]:
    changes: Sequence[Mapping[str, Any]] = request["DesiredWeightsAndCapacities"]

    def update(endpoint: Endpoint, now: float) -> Endpoint:
        changed = endpoint_states.with_weights(endpoint, changes, now)
        names = {variant.name for variant in endpoint.variants}
        absent = [change["VariantName"] for change in changes if change["VariantName"] not in names]
        if absent:
            raise build_variants_error(absent, endpoint.config_name)
        if all(variant.desired_weight == 0 for variant in changed.variants):
            raise build_validation_error("The weights of all variants are 0; at least one must be greater.")  # ours
        for variant in changed.variants:
            can_be_empty = "InstanceType" not in variant.config or changed.config.get("AsyncInferenceConfig")
            if variant.desired_instances == 0 and not can_be_empty:
                # "Autoscale an asynchronous endpoint" in the developer guide: to zero only there. The sentence is ours.
                raise build_validation_error(
                    f"Variant {variant.name} cannot have 0 instances: only asynchronous endpoints scale to zero."
                )
        return changed

    return _begin(context, context.change(ENDPOINT, request["EndpointName"], update))


def _delete_endpoint(context: RequestContext, request: Mapping[str, Any]) -> Mapping[str, Any]:
    with context.store.lock:
        endpoint = context.find(ENDPOINT, request["EndpointName"])
        components = context.list(INFERENCE_COMPONENT)
        names = sorted(component.name for component in components if component.endpoint == endpoint.name)
        if names:
            # aws/amazon-sagemaker-examples issue 3432 states the rule; the sentence is ours.
            raise build_validation_error(
                f'Cannot delete endpoint "{endpoint.arn}" with inference components: {", ".join(names)}.'
            )
        _begin(context, context.change(ENDPOINT, endpoint.name, endpoint_states.begin_deletion))
    return {}


def _begin(context: RequestContext, endpoint: Endpoint) -> Mapping[str, Any]:
    context.begin(ENDPOINT, endpoint.name)
    return {"EndpointArn": endpoint.arn}


def _describe(context: RequestContext, request: Mapping[str, Any]) -> Mapping[str, Any]:
    return describe_endpoint(context.find(ENDPOINT, request["EndpointName"]))


def _list_endpoints(context: RequestContext, request: Mapping[str, Any]) -> Mapping[str, Any]:
    return build_page(request, context.list(ENDPOINT), "Endpoints", summarize_endpoint)


def summarize_endpoint(endpoint: Endpoint) -> Mapping[str, Any]:
    """Return an endpoint as ListEndpoints and the model dashboard show it."""
    return describe_record(endpoint, "Endpoint")


def _list_variants(config: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [*config["ProductionVariants"], *(config.get("ShadowProductionVariants") or ())]


def _find_models(context: RequestContext, config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the models that a configuration names, as they are now. Raises ApiError for one that is missing."""
    names = [variant["ModelName"] for variant in _list_variants(config) if variant.get("ModelName")]
    return {name: context.find(MODEL, name).model for name in names}


def _find_config(context: RequestContext, name: str) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Return a configuration and the models that it names, as they are now."""
    config = context.find(ENDPOINT_CONFIG, name).request
    return config, _find_models(context, config)


def _check_policy(context: RequestContext, policy: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    alarms = ((policy or {}).get("AutoRollbackConfiguration") or {}).get("Alarms", ())
    names = [alarm["AlarmName"] for alarm in alarms if "AlarmName" in alarm]  # the service model does not require it
    context.preconditions.check_alarms(context.region, names)
    return policy


OPERATIONS: Final[Mapping[str, Operation]] = MappingProxyType(
    {
        "CreateEndpointConfig": _create_config,
        "DescribeEndpointConfig": _describe_config,
        "ListEndpointConfigs": _list_configs,
        "DeleteEndpointConfig": _delete_config,
        "CreateEndpoint": _create_endpoint,
        "DescribeEndpoint": _describe,
        "ListEndpoints": _list_endpoints,
        "UpdateEndpoint": _update_endpoint,
        "UpdateEndpointWeightsAndCapacities": _update_weights,
        "DeleteEndpoint": _delete_endpoint,
    }
)
