"""The scaling of an endpoint's variants: registered targets, policies and alarms against the desired ones. No I/O.

Everything below ``endpoint/NAME/`` belongs to the endpoint, and so to the deployment.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final

from tritonforge.sagemaker.endpoints import policies
from tritonforge.sagemaker.endpoints.desired import DesiredResources
from tritonforge.sagemaker.endpoints.resources import Observed, ObservedConfig, list_tags
from tritonforge.sagemaker.plans.plan import Action, Change, Step, StepOutput

__all__ = ["delete_alarms", "deregister", "find_replaced_variants", "is_scaled", "must_keep_counts", "plan_scaling",
           "release_targets"]  # fmt: skip

_SERVICE: Final = "application-autoscaling"
_KEY: Final = ("ServiceNamespace", "ResourceId", "ScalableDimension")

#: The values of members that a policy leaves out. Source: API TargetTrackingScalingPolicyConfiguration (SageMaker's
#: cooldowns), StepScalingPolicyConfiguration.
_DEFAULTS: Final[Mapping[str, Mapping[str, Any]]] = {
    "TargetTrackingScalingPolicyConfiguration": {
        "ScaleInCooldown": 300,
        "ScaleOutCooldown": 300,
        "DisableScaleIn": False,
    },
    "StepScalingPolicyConfiguration": {"Cooldown": 300, "MetricAggregationType": "Average"},
}
_ALARM_FIELDS: Final = (
    "MetricName", "Namespace", "Statistic", "Dimensions", "Period", "EvaluationPeriods", "DatapointsToAlarm",
    "Threshold", "ComparisonOperator", "TreatMissingData", "AlarmActions",
)  # fmt: skip


def is_scaled(endpoint: str, variant: Mapping[str, Any], scaled: Collection[str]) -> bool:
    """Return True if something else than the configuration sets how many instances a variant has."""
    managed = variant.get("ManagedInstanceScaling") or {}
    resource = policies.build_resource_id(endpoint, variant["VariantName"])
    return resource in scaled or managed.get("Status") == "ENABLED"


def find_replaced_variants(old: ObservedConfig | None, desired: DesiredResources) -> frozenset[str]:
    """Return the variants whose instance type changes, or which vanish: their targets must go before the update.

    Source: SageMaker developer guide, "Update endpoints that use auto scaling". If the old configuration is unknown,
    all variants count.
    """
    after = {variant["VariantName"]: variant for variant in desired.config["ProductionVariants"]}
    if old is None:
        return frozenset(after)
    return frozenset(
        variant["VariantName"]
        for variant in old.variants
        if variant["VariantName"] not in after
        or after[variant["VariantName"]].get("InstanceType") != variant.get("InstanceType")
    )


def must_keep_counts(old: ObservedConfig | None, desired: DesiredResources, observed: Observed) -> bool:
    """Return True if an update must keep the instance counts: they are scaled now and later, on the same type."""
    if old is None or observed.endpoint is None:
        return False
    replaced = find_replaced_variants(old, desired)
    registered = {str(target["ResourceId"]) for target in observed.targets}
    registered &= {str(target["ResourceId"]) for target in desired.targets}
    names = {variant["VariantName"] for variant in old.variants}
    scaled = {name for name in names if policies.build_resource_id(observed.endpoint.name, name) in registered}
    return bool(scaled) and not replaced & scaled and names <= scaled


def release_targets(observed: Observed, variants: Collection[str] | None) -> Iterator[Step]:
    """Deregister the targets of some variants, or of all (None); their policies go with them."""
    if observed.endpoint is None:
        return
    name = observed.endpoint.name
    released = None if variants is None else {policies.build_resource_id(name, variant) for variant in variants}
    for target in observed.targets:
        if released is None or target["ResourceId"] in released:
            yield deregister(target, "its variant is removed, or gets another instance type")


def plan_scaling(desired: DesiredResources, observed: Observed) -> Iterator[Step]:
    """Plan the changes of targets, policies and alarms that follow the changes of the endpoint itself."""
    released = _find_released(desired, observed)
    targets = {_get_key(target): target for target in observed.targets if target["ResourceId"] not in released}
    existing = {
        (policy["ResourceId"], policy["PolicyName"]): policy
        for policy in observed.policies
        if policy["ResourceId"] not in released and _get_key(policy) in targets
    }
    names = {alarm["AlarmName"] for alarm in desired.alarms.values()}
    surplus = sorted(alarm["AlarmName"] for alarm in observed.alarms if alarm["AlarmName"] not in names)
    if surplus:
        yield delete_alarms(surplus, "no policy of the deployment needs them")
    kept_policies = {(policy["ResourceId"], policy["PolicyName"]) for policy in desired.policies}
    kept_targets = {_get_key(target) for target in desired.targets}
    for key, policy in sorted(existing.items()):
        if _get_key(policy) in kept_targets and key not in kept_policies:
            name = f"{policy['ResourceId']} {policy['PolicyName']}"
            request = {member: policy[member] for member in ("PolicyName", *_KEY)}
            why = "the deployment has no such policy"
            yield Step("delete", "DeleteScalingPolicy", "scaling policy", name, request, why, service=_SERVICE)
    for target_key, target in sorted(targets.items()):
        if target_key not in kept_targets:
            yield deregister(target, "the deployment has no autoscaling for it")
    for target in desired.targets:
        yield from _plan_target(target, targets.get(_get_key(target)))
    for policy in desired.policies:
        yield from _plan_policy(policy, existing.get((policy["ResourceId"], policy["PolicyName"])), desired, observed)


def _find_released(desired: DesiredResources, observed: Observed) -> frozenset[str]:
    """Return the resources whose targets the endpoint's own steps have deregistered already."""
    endpoint = observed.endpoint
    if endpoint is None or endpoint.status == "Deleting":
        return frozenset()
    if endpoint.status == "Failed":
        return frozenset(target["ResourceId"] for target in observed.targets)
    current = endpoint.pending or endpoint.config
    if current == desired.config_name and endpoint.status != "UpdateRollbackFailed":
        return frozenset()
    names = find_replaced_variants(observed.configs.get(current), desired)
    return frozenset(policies.build_resource_id(endpoint.name, name) for name in names)


def _get_key(target: Mapping[str, Any]) -> tuple[str, str]:
    return target["ResourceId"], target["ScalableDimension"]


def deregister(target: Mapping[str, Any], why: str) -> Step:
    """Take a variant out of autoscaling; AWS deletes its policies with it, and the alarms of target tracking."""
    request = {name: target[name] for name in _KEY}
    name = target["ResourceId"]
    return Step("delete", "DeregisterScalableTarget", "scalable target", name, request, why, service=_SERVICE)


def delete_alarms(names: list[str], why: str) -> Step:
    """Delete alarms by name."""
    request = {"AlarmNames": names}
    return Step("delete", "DeleteAlarms", "alarm", ", ".join(names), request, why, service="cloudwatch")


def _plan_target(desired: Mapping[str, Any], existing: Mapping[str, Any] | None) -> Iterator[Step]:
    changes = _compare(existing, desired, ("MinCapacity", "MaxCapacity"))
    if existing is None or changes:
        why = "the variant is not registered" if existing is None else "its range differs"
        yield Step(
            "create" if existing is None else "update", "RegisterScalableTarget", "scalable target",
            desired["ResourceId"], desired, why, service=_SERVICE, changes=changes,
        )  # fmt: skip


def _plan_policy(
    policy: Mapping[str, Any], existing: Mapping[str, Any] | None, desired: DesiredResources, observed: Observed
) -> Iterator[Step]:
    name = f"{policy['ResourceId']} {policy['PolicyName']}"
    member = next(member for member in _DEFAULTS if member in policy)
    before = None if existing is None else _fill_defaults(existing.get(member) or {}, member)
    after = _fill_defaults(policy[member], member)
    changes = _compare(before, after, sorted({*(before or ()), *after}))
    why = "the variant has no such policy" if existing is None else "it was changed by hand"
    step = Step(
        "create" if existing is None else "update", "PutScalingPolicy", "scaling policy", name, policy, why,
        service=_SERVICE, changes=changes,
    )  # fmt: skip
    if before != after:
        yield step
    alarm = desired.alarms.get(name)
    if alarm is not None:
        example = f"arn:{observed.partition}:autoscaling:{observed.region}:{observed.account}:scalingPolicy:known-later"
        arn: Any = existing["PolicyARN"] if existing is not None else StepOutput(step.id, "PolicyARN", example)
        yield from _plan_alarm({**alarm, "AlarmActions": [arn], "Tags": list_tags(desired.tags)}, observed)


def _fill_defaults(configuration: Mapping[str, Any], member: str) -> dict[str, Any]:
    return {**_DEFAULTS[member], **{name: value for name, value in configuration.items() if value is not None}}


def _plan_alarm(desired: Mapping[str, Any], observed: Observed) -> Iterator[Step]:
    name = desired["AlarmName"]
    existing = next((alarm for alarm in observed.alarms if alarm["AlarmName"] == name), None)
    changes = _compare(existing, desired, _ALARM_FIELDS)
    if existing is None or changes:
        action: Action = "create" if existing is None else "update"
        why = "the step policy has no alarm that sets it off" if existing is None else "it differs"
        yield Step(action, "PutMetricAlarm", "alarm", name, desired, why, service="cloudwatch", changes=changes)


def _compare(existing: Mapping[str, Any] | None, desired: Mapping[str, Any], names: Collection[str]) -> list[Change]:
    """Return the members that differ; none for what does not exist yet."""
    if existing is None:
        return []
    differing = (name for name in names if existing.get(name) != desired.get(name))
    return [Change(name, existing.get(name), desired.get(name)) for name in differing]
