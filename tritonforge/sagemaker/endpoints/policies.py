"""Policies of an endpoint: how it is updated and rolled back, and how its variants are scaled. No I/O.

Sizes are a number of instances (``2``) or a share of the capacity (``"25%"``). Source of the names and of the step
policy that wakes an asynchronous endpoint: the SageMaker developer guide, "Automatic scaling of models" and "Autoscale
an asynchronous endpoint".
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from tritonforge.errors import DefinitionError
from tritonforge.field_types import check_fields

__all__ = ["CONCURRENCY", "INSTANCES", "NAMESPACE", "Autoscaling", "BlueGreen", "Rolling", "Size", "StepScaling",
           "TargetTracking", "UpdatePolicy", "build_alarm_name", "build_resource_id", "drop_none"]  # fmt: skip

Size: TypeAlias = int | str

_SHARE: Final = re.compile(r"(\d+) ?%")


def drop_none(**members: Any) -> dict[str, Any]:
    """Return the members of a request that are not None, sequences as lists."""
    return {
        name: list(value) if isinstance(value, tuple) else value for name, value in members.items() if value is not None
    }


def _build_capacity(size: Size | None) -> dict[str, Any] | None:
    if size is None:
        return None
    if isinstance(size, int):
        return {"Type": "INSTANCE_COUNT", "Value": size}
    share = _SHARE.fullmatch(size)
    if share is None:
        raise DefinitionError(f"size {size!r}: write a number of instances (2) or a share of the capacity ('25%')")
    return {"Type": "CAPACITY_PERCENT", "Value": int(share[1])}


def _build_alarms(names: Sequence[str]) -> dict[str, Any] | None:
    return {"Alarms": [{"AlarmName": name} for name in names]} if names else None


@dataclass(frozen=True, slots=True, kw_only=True)
class BlueGreen:
    """Start a new fleet beside the old one; shift the traffic at once, after a canary, or in equal steps.

    ``size`` is the canary's (at most 50 %) or the step's (10 to 50 %); times are seconds. ``alarms`` are names of
    CloudWatch alarms: one that goes off while traffic is shifted rolls the update back.
    """

    type: Literal["ALL_AT_ONCE", "CANARY", "LINEAR"] = "ALL_AT_ONCE"
    size: Size | None = None
    wait_interval_in_seconds: int = 0
    termination_wait_in_seconds: int | None = None
    maximum_execution_timeout_in_seconds: int | None = None
    alarms: Sequence[str] = ()

    def __post_init__(self) -> None:
        check_fields(self)
        object.__setattr__(self, "alarms", tuple(self.alarms))
        _build_capacity(self.size)

    def to_request(self) -> dict[str, Any]:
        """Return ``DeploymentConfig``."""
        routing = drop_none(
            Type=self.type,
            WaitIntervalInSeconds=self.wait_interval_in_seconds,
            CanarySize=_build_capacity(self.size) if self.type == "CANARY" else None,
            LinearStepSize=_build_capacity(self.size) if self.type == "LINEAR" else None,
        )
        policy = drop_none(
            TrafficRoutingConfiguration=routing,
            TerminationWaitInSeconds=self.termination_wait_in_seconds,
            MaximumExecutionTimeoutInSeconds=self.maximum_execution_timeout_in_seconds,
        )
        return drop_none(BlueGreenUpdatePolicy=policy, AutoRollbackConfiguration=_build_alarms(self.alarms))


@dataclass(frozen=True, slots=True, kw_only=True)
class Rolling:
    """Replace the old fleet batch by batch; ``maximum_batch_size`` is 5 to 50 % of the capacity."""

    maximum_batch_size: Size
    wait_interval_in_seconds: int = 0
    maximum_execution_timeout_in_seconds: int | None = None
    rollback_maximum_batch_size: Size | None = None
    alarms: Sequence[str] = ()

    def __post_init__(self) -> None:
        check_fields(self)
        object.__setattr__(self, "alarms", tuple(self.alarms))
        _build_capacity(self.maximum_batch_size)
        _build_capacity(self.rollback_maximum_batch_size)

    def to_request(self) -> dict[str, Any]:
        """Return ``DeploymentConfig``."""
        policy = drop_none(
            MaximumBatchSize=_build_capacity(self.maximum_batch_size),
            WaitIntervalInSeconds=self.wait_interval_in_seconds,
            MaximumExecutionTimeoutInSeconds=self.maximum_execution_timeout_in_seconds,
            RollbackMaximumBatchSize=_build_capacity(self.rollback_maximum_batch_size),
        )
        return drop_none(RollingUpdatePolicy=policy, AutoRollbackConfiguration=_build_alarms(self.alarms))


UpdatePolicy: TypeAlias = BlueGreen | Rolling


NAMESPACE: Final = "sagemaker"
#: What is scaled: the instances of a variant, or what a serverless one keeps warm.
INSTANCES: Final = "sagemaker:variant:DesiredInstanceCount"
CONCURRENCY: Final = "sagemaker:variant:DesiredProvisionedConcurrency"


def build_resource_id(endpoint: str, variant: str) -> str:
    """Return the name of a variant in application-autoscaling: ``endpoint/NAME/variant/NAME``."""
    return f"endpoint/{endpoint}/variant/{variant}"


def build_alarm_name(endpoint: str, variant: str, metric: str) -> str:
    """Return the name of a step policy's alarm: ``tritonforge/ENDPOINT/VARIANT/METRIC``."""
    return f"tritonforge/{endpoint}/{variant}/{metric}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetTracking:
    """Keep a metric near ``target_value``: a predefined one, or one of your own by name.

    Your own is ``metric_name`` in ``namespace``; its ``dimensions`` are by default the endpoint's name, as those of the
    metrics of an asynchronous endpoint. Cooldowns are seconds.
    """

    target_value: float
    predefined_metric_type: str | None = None
    metric_name: str | None = None
    namespace: str = "AWS/SageMaker"
    statistic: str = "Average"
    dimensions: Mapping[str, str] | None = None
    scale_in_cooldown: int = 300
    scale_out_cooldown: int = 300
    disable_scale_in: bool = False

    def __post_init__(self) -> None:
        check_fields(self)
        if (self.predefined_metric_type is None) == (self.metric_name is None):
            raise DefinitionError("TargetTracking: give predefined_metric_type or metric_name, one of the two")

    @property
    def metric(self) -> str:
        """The metric's name, predefined or own."""
        return self.predefined_metric_type or self.metric_name or ""

    def to_request(self, endpoint: str) -> dict[str, Any]:
        """Return ``TargetTrackingScalingPolicyConfiguration``."""
        if self.predefined_metric_type is not None:
            metric: dict[str, Any] = {
                "PredefinedMetricSpecification": {"PredefinedMetricType": self.predefined_metric_type}
            }
        else:
            metric = {
                "CustomizedMetricSpecification": {
                    "MetricName": self.metric_name,
                    "Namespace": self.namespace,
                    "Dimensions": _build_dimensions(self.dimensions, endpoint),
                    "Statistic": self.statistic,
                }
            }
        return {
            "TargetValue": float(self.target_value),
            **metric,
            "ScaleInCooldown": self.scale_in_cooldown,
            "ScaleOutCooldown": self.scale_out_cooldown,
            "DisableScaleIn": self.disable_scale_in,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class StepScaling:
    """Add instances when an alarm goes off; the defaults wake an asynchronous endpoint that has scaled to zero.

    The alarm is created too: ``metric_name`` compared with ``threshold`` over ``evaluation_periods`` of ``period``
    seconds.
    """

    scaling_adjustment: int = 1
    adjustment_type: str = "ChangeInCapacity"
    cooldown: int = 300
    metric_name: str = "HasBacklogWithoutCapacity"
    namespace: str = "AWS/SageMaker"
    statistic: str = "Average"
    dimensions: Mapping[str, str] | None = None
    comparison_operator: str = "GreaterThanOrEqualToThreshold"
    threshold: float = 1.0
    period: int = 60
    evaluation_periods: int = 2
    treat_missing_data: str = "missing"

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def metric(self) -> str:
        """The name of the metric that the alarm watches."""
        return self.metric_name

    def to_request(self) -> dict[str, Any]:
        """Return ``StepScalingPolicyConfiguration``."""
        return {
            "AdjustmentType": self.adjustment_type,
            "StepAdjustments": [{"MetricIntervalLowerBound": 0.0, "ScalingAdjustment": self.scaling_adjustment}],
            "Cooldown": self.cooldown,
            "MetricAggregationType": "Average",
        }

    def to_alarm(self, name: str, endpoint: str) -> dict[str, Any]:
        """Return ``PutMetricAlarm`` without its actions, which name the policy."""
        return {
            "AlarmName": name,
            "MetricName": self.metric_name,
            "Namespace": self.namespace,
            "Statistic": self.statistic,
            "Dimensions": _build_dimensions(self.dimensions, endpoint),
            "Period": self.period,
            "EvaluationPeriods": self.evaluation_periods,
            "DatapointsToAlarm": self.evaluation_periods,
            "Threshold": float(self.threshold),
            "ComparisonOperator": self.comparison_operator,
            "TreatMissingData": self.treat_missing_data,
        }


Policy: TypeAlias = TargetTracking | StepScaling


@dataclass(frozen=True, slots=True, kw_only=True)
class Autoscaling:
    """The minimum and maximum capacity of a variant, and the policies that choose between them."""

    min_capacity: int
    max_capacity: int
    policies: Sequence[Policy]

    def __post_init__(self) -> None:
        check_fields(self)
        object.__setattr__(self, "policies", tuple(self.policies))
        metrics = [policy.metric for policy in self.policies]
        if len(set(metrics)) != len(metrics):
            raise DefinitionError(f"Autoscaling: two policies watch one metric: {', '.join(sorted(metrics))}")

    def to_target(self, resource: str, dimension: str) -> dict[str, Any]:
        """Return ``RegisterScalableTarget`` without its tags."""
        return {
            "ServiceNamespace": NAMESPACE,
            "ResourceId": resource,
            "ScalableDimension": dimension,
            "MinCapacity": self.min_capacity,
            "MaxCapacity": self.max_capacity,
        }

    def to_policies(self, resource: str, dimension: str, *, endpoint: str) -> list[tuple[Policy, dict[str, Any]]]:
        """Return each policy with its ``PutScalingPolicy``; the name is that of the metric."""
        requests: list[tuple[Policy, dict[str, Any]]] = []
        for policy in self.policies:
            kind: Literal["TargetTrackingScaling", "StepScaling"]
            if isinstance(policy, TargetTracking):
                kind, configuration = "TargetTrackingScaling", policy.to_request(endpoint)
                settings = {"TargetTrackingScalingPolicyConfiguration": configuration}
            else:
                kind, settings = "StepScaling", {"StepScalingPolicyConfiguration": policy.to_request()}
            request = drop_none(
                PolicyName=f"{endpoint}-{policy.metric}",
                ServiceNamespace=NAMESPACE,
                ResourceId=resource,
                ScalableDimension=dimension,
                PolicyType=kind,
                **settings,
            )
            requests.append((policy, request))
        return requests


def _build_dimensions(dimensions: Mapping[str, str] | None, endpoint: str) -> list[dict[str, str]]:
    chosen = {"EndpointName": endpoint} if dimensions is None else dimensions
    return [{"Name": name, "Value": value} for name, value in sorted(chosen.items())]
