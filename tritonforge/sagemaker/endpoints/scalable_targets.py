"""The scaling of an endpoint's variants: registered targets, policies and alarms against the desired ones. No I/O.

Everything below ``endpoint/NAME/`` belongs to the endpoint, and so to the deployment.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final

from tritonforge.sagemaker.endpoints import policies
from tritonforge.sagemaker.endpoints.desired import DesiredResources
from tritonforge.sagemaker.endpoints.resources import Observed, ObservedConfig
from tritonforge.sagemaker.plans.plan import Change, Step, StepOutput

__all__ = [
    "delete_alarms",
    "deregister",
    "find_replaced_variants",
    "is_scaled",
    "must_keep_counts",
    "plan_scaling",
    "release_targets",
]

_SERVICE: Final = "application-autoscaling"
_ALARMS: Final = "cloudwatch"
_KEY: Final = ("ServiceNamespace", "ResourceId", "ScalableDimension")

#: What AWS fills in where a policy leaves it out. Source: API TargetTrackingScalingPolicyConfiguration (SageMaker's
#: cooldowns), StepScalingPolicyConfiguration.
_TRACKING: Final = "TargetTrackingScalingPolicyConfiguration"
_STEPS: Final = "StepScalingPolicyConfiguration"
_DEFAULTS: Final[Mapping[str, Mapping[str, Any]]] = {
    _TRACKING: {"ScaleInCooldown": 300, "ScaleOutCooldown": 300, "DisableScaleIn": False},
    _STEPS: {"Cooldown": 300, "MetricAggregationType": "Average"},
}
_ALARM_FIELDS: Final = (
    "MetricName", "Namespace", "Statistic", "Dimensions", "Period", "EvaluationPeriods", "DatapointsToAlarm",
    "Threshold", "ComparisonOperator", "TreatMissingData",
)  # fmt: skip


def is_scaled(endpoint: str, variant: Mapping[str, Any], scaled: Collection[str]) -> bool:
    """Whether something else than the configuration says how many instances a variant has."""
    managed = variant.get("ManagedInstanceScaling") or {}
    resource = policies.build_resource_id(endpoint, variant["VariantName"])
    return resource in scaled or managed.get("Status") == "ENABLED"


def find_replaced_variants(old: ObservedConfig | None, wanted: DesiredResources) -> frozenset[str]:
    """The variants whose instance type changes, or which vanish: their targets must go before the update.

    Source: SageMaker developer guide, "Update endpoints that use auto scaling". Of an unknown old configuration nothing
    is certain, so all its variants count.
    """
    after = {each["VariantName"]: each for each in wanted.config["ProductionVariants"]}
    if old is None:
        return frozenset(after)
    return frozenset(
        each["VariantName"]
        for each in old.variants
        if each["VariantName"] not in after
        or after[each["VariantName"]].get("InstanceType") != each.get("InstanceType")
    )


def must_keep_counts(old: ObservedConfig | None, wanted: DesiredResources, observed: Observed) -> bool:
    """Whether an update is to keep the counts of instances: something scales them now and will, on the same type."""
    if old is None or observed.endpoint is None:
        return False
    gone = find_replaced_variants(old, wanted)
    now = {str(each["ResourceId"]) for each in observed.targets}
    then = {str(each["ResourceId"]) for each in wanted.targets}
    names = {each["VariantName"] for each in old.variants}
    scaled = {name for name in names if policies.build_resource_id(observed.endpoint.name, name) in now & then}
    return bool(scaled) and not gone & scaled and names <= scaled


def release_targets(observed: Observed, variants: Collection[str] | None) -> Iterator[Step]:
    """Deregister the targets of some variants, or of all (None); their policies go with them."""
    if observed.endpoint is None:
        return
    name = observed.endpoint.name
    resources = None if variants is None else {policies.build_resource_id(name, variant) for variant in variants}
    for target in observed.targets:
        if resources is None or target["ResourceId"] in resources:
            yield deregister(target, "its variant goes, or gets another instance type")


def plan_scaling(wanted: DesiredResources, observed: Observed) -> Iterator[Step]:
    """What is left to do for targets, policies and alarms, after the endpoint is what it is to be."""
    gone = _released(wanted, observed)
    targets = {_key(each): each for each in observed.targets if each["ResourceId"] not in gone}
    policies = {
        (each["ResourceId"], each["PolicyName"]): each
        for each in observed.policies
        if each["ResourceId"] not in gone and _key(each) in targets
    }
    yield from _surplus_alarms(wanted, observed)
    wanted_policies = {(each["ResourceId"], each["PolicyName"]) for each in wanted.policies}
    wanted_targets = {_key(each) for each in wanted.targets}
    for (_, name), policy in sorted(policies.items()):
        if _key(policy) in wanted_targets and (policy["ResourceId"], name) not in wanted_policies:
            yield _delete_policy(policy)
    for key, target in sorted(targets.items()):
        if key not in wanted_targets:
            yield deregister(target, "the deployment has no autoscaling for it")
    for target in wanted.targets:
        yield from _target(target, targets.get(_key(target)))
    for policy in wanted.policies:
        yield from _policy(policy, policies.get((policy["ResourceId"], policy["PolicyName"])), wanted, observed)


def _released(wanted: DesiredResources, observed: Observed) -> frozenset[str]:
    """The resources whose targets the endpoint's own steps have deregistered already."""
    seen = observed.endpoint
    if seen is None or seen.status == "Deleting":
        return frozenset()
    if seen.status == "Failed":
        return frozenset(each["ResourceId"] for each in observed.targets)
    current = seen.pending or seen.config
    if current == wanted.config_name and seen.status != "UpdateRollbackFailed":
        return frozenset()
    names = find_replaced_variants(observed.configs.get(current), wanted)
    return frozenset(policies.build_resource_id(seen.name, name) for name in names)


def _key(value: Mapping[str, Any]) -> tuple[str, str]:
    return value["ResourceId"], value["ScalableDimension"]


def deregister(target: Mapping[str, Any], why: str) -> Step:
    """Take a variant out of autoscaling; AWS deletes its policies with it, and the alarms of target tracking."""
    return Step(
        action="delete",
        service=_SERVICE,
        operation="DeregisterScalableTarget",
        kind="scalable target",
        name=target["ResourceId"],
        request={name: target[name] for name in _KEY},
        why=why,
    )


def _delete_policy(policy: Mapping[str, Any]) -> Step:
    return Step(
        action="delete",
        service=_SERVICE,
        operation="DeleteScalingPolicy",
        kind="scaling policy",
        name=f"{policy['ResourceId']} {policy['PolicyName']}",
        request={name: policy[name] for name in ("PolicyName", *_KEY)},
        why="the deployment has no such policy",
    )


def _target(wanted: Mapping[str, Any], seen: Mapping[str, Any] | None) -> Iterator[Step]:
    fields = ("MinCapacity", "MaxCapacity")
    changes = (
        []
        if seen is None
        else [Change(name, seen.get(name), wanted[name]) for name in fields if seen.get(name) != wanted[name]]
    )
    if seen is None or changes:
        yield Step(
            action="create" if seen is None else "update",
            service=_SERVICE,
            operation="RegisterScalableTarget",
            kind="scalable target",
            name=wanted["ResourceId"],
            request=wanted,
            why="the variant is not registered" if seen is None else "its range differs",
            changes=changes,
        )


def _policy(
    wanted: Mapping[str, Any], seen: Mapping[str, Any] | None, desired: DesiredResources, observed: Observed
) -> Iterator[Step]:
    name = f"{wanted['ResourceId']} {wanted['PolicyName']}"
    configuration = next(each for each in (_TRACKING, _STEPS) if each in wanted)
    before = None if seen is None else _full(seen.get(configuration) or {}, configuration)
    after = _full(wanted[configuration], configuration)
    step = Step(
        action="create" if seen is None else "update",
        service=_SERVICE,
        operation="PutScalingPolicy",
        kind="scaling policy",
        name=name,
        request=wanted,
        why="the variant has no such policy" if seen is None else "somebody has changed it",
        changes=[]
        if before is None
        else [
            Change(field, before.get(field), after.get(field))
            for field in sorted({*before, *after})
            if before.get(field) != after.get(field)
        ],
    )
    if before != after:
        yield step
    alarm = desired.alarms.get(name)
    if alarm is not None:
        example = f"arn:{observed.partition}:autoscaling:{observed.region}:{observed.account}:scalingPolicy:known-later"
        arn: Any = seen["PolicyARN"] if seen is not None else StepOutput(step.id, "PolicyARN", example)
        yield from _alarm(desired, alarm, arn, observed)


def _full(configuration: Mapping[str, Any], kind: str) -> dict[str, Any]:
    return {**_DEFAULTS[kind], **{name: value for name, value in configuration.items() if value is not None}}


def _alarm(desired: DesiredResources, wanted: Mapping[str, Any], arn: Any, observed: Observed) -> Iterator[Step]:
    seen = next((each for each in observed.alarms if each["AlarmName"] == wanted["AlarmName"]), None)
    full = {
        **wanted,
        "AlarmActions": [arn],
        "Tags": [{"Key": key, "Value": value} for key, value in sorted(desired.tags.items())],
    }
    fields = (*_ALARM_FIELDS, "AlarmActions")
    changes = (
        []
        if seen is None
        else [Change(name, seen.get(name), full[name]) for name in fields if seen.get(name) != full[name]]
    )
    if seen is None or changes:
        yield Step(
            action="create" if seen is None else "update",
            service=_ALARMS,
            operation="PutMetricAlarm",
            kind="alarm",
            name=wanted["AlarmName"],
            request=full,
            why="the step policy has no alarm that sets it off" if seen is None else "it differs",
            changes=changes,
        )


def _surplus_alarms(wanted: DesiredResources, observed: Observed) -> Iterator[Step]:
    names = {alarm["AlarmName"] for alarm in wanted.alarms.values()}
    surplus = sorted(each["AlarmName"] for each in observed.alarms if each["AlarmName"] not in names)
    if surplus:
        yield delete_alarms(surplus, "no policy of the deployment needs them")


def delete_alarms(names: list[str], why: str) -> Step:
    """Delete alarms by name."""
    return Step(
        action="delete",
        service=_ALARMS,
        operation="DeleteAlarms",
        kind="alarm",
        name=", ".join(names),
        request={"AlarmNames": names},
        why=why,
    )
