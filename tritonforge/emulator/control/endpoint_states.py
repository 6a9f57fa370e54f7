"""The life of an endpoint: which status follows which, and what changes with it. This module does no I/O.

::

    Creating -> InService | Failed            InService -> Updating | Deleting | SystemUpdating
    Updating -> InService | RollingBack       RollingBack -> InService | UpdateRollbackFailed
    SystemUpdating -> InService | Failed      Failed, UpdateRollbackFailed, OutOfService -> Deleting -> gone

Statuses and what they mean are the service model's (EndpointStatus). An update that failed leaves the old fleet in
service with a FailureReason, which the next update clears (aws-controllers-k8s/sagemaker-controller, pull request 7).
Here SystemUpdating is what an endpoint is in while a restarted emulator starts its containers again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Final

from tritonforge.emulator.control.api_errors import build_in_progress_error, build_validation_error
from tritonforge.emulator.control.job_runner import shorten_reason
from tritonforge.emulator.control.records import Endpoint, PendingDeployment, VariantStage, VariantState
from tritonforge.emulator.hosting.container_definitions import list_container_definitions

__all__ = ["NEXT", "SERVING", "begin_deletion", "begin_rollback", "begin_update", "build_variants", "create",
           "enter_service", "enter_stage", "fail", "finish_rollback", "mark_restarted", "mark_started",
           "resume_update", "shift_traffic", "with_weights"]  # fmt: skip

#: The statuses that may follow a status; "" is gone.
NEXT: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {
        "Creating": frozenset({"InService", "Failed"}),
        "InService": frozenset({"Updating", "Deleting", "SystemUpdating"}),
        "Updating": frozenset({"InService", "RollingBack", "SystemUpdating"}),
        "RollingBack": frozenset({"InService", "UpdateRollbackFailed", "SystemUpdating"}),
        "SystemUpdating": frozenset({"InService", "Failed", "Updating"}),
        "Failed": frozenset({"Deleting"}),
        "UpdateRollbackFailed": frozenset({"Deleting"}),
        "OutOfService": frozenset({"Deleting"}),
        "Deleting": frozenset({""}),
    }
)

#: The statuses in which an endpoint answers.
SERVING: Final = frozenset({"InService", "Updating", "RollingBack", "SystemUpdating"})


def _change_status(endpoint: Endpoint, status: str, now: float, **changes: Any) -> Endpoint:
    if status not in NEXT[endpoint.status]:
        raise ValueError(f"an endpoint does not go from {endpoint.status} to {status}")
    return replace(endpoint, status=status, modified=now, **changes)


def build_variants(
    config: Mapping[str, Any],
    models: Mapping[str, Any],
    *,
    which: str = "ProductionVariants",
    stages: Sequence[VariantStage],
) -> tuple[VariantState, ...]:
    """Return the variants of a configuration as a deployment begins with them, without instances."""
    return tuple(
        VariantState(
            name=variant["VariantName"],
            config=variant,
            images=tuple(_list_images(models.get(variant.get("ModelName", ""), {}))),
            weight=0.0,
            desired_weight=float(variant.get("InitialVariantWeight", 1.0)),
            instances=0,
            desired_instances=int(variant.get("InitialInstanceCount", 0)),
            stages=tuple(stages),
        )
        for variant in config.get(which, ())
    )


def _list_images(model: Mapping[str, Any]) -> Sequence[str]:
    return [container.get("Image", "") for container in list_container_definitions(model)]


def create(
    name: str,
    arn: str,
    now: float,
    *,
    config: Mapping[str, Any],
    models: Mapping[str, Any],
    policy: Mapping[str, Any] | None,
    tags: tuple[tuple[str, str], ...] = (),
) -> Endpoint:
    """Return a new endpoint: Creating, with nothing that serves."""
    return Endpoint(
        name=name,
        arn=arn,
        created=now,
        modified=now,
        status="Creating",
        config_name=config["EndpointConfigName"],
        config=config,
        models=models,
        policy=policy,
        pending=_build_pending(now, config=config, models=models, policy=policy),
        tags=tags,
    )


def _build_pending(
    now: float, *, config: Mapping[str, Any], models: Mapping[str, Any], policy: Mapping[str, Any] | None
) -> PendingDeployment:
    stages = (VariantStage(status="Creating", since=now),)
    return PendingDeployment(
        config_name=config["EndpointConfigName"],
        started=now,
        variants=build_variants(config, models, stages=stages),
        shadows=build_variants(config, models, which="ShadowProductionVariants", stages=stages),
        policy=policy,
        config=config,
        models=models,
    )


def begin_update(
    endpoint: Endpoint,
    now: float,
    *,
    config: Mapping[str, Any],
    models: Mapping[str, Any],
    policy: Mapping[str, Any] | None,
    retain: bool = False,
    exclude: frozenset[str] = frozenset(),
) -> Endpoint:
    """Return the endpoint as Updating: the new fleet is pending, the old one still serves.

    ``retain`` and ``exclude`` are RetainAllVariantProperties and ExcludeRetainedVariantProperties: weights and instance
    counts of variants of the same name are kept, except the kinds that are excluded.

    Raises ApiError if the status forbids it.
    """
    _check_changeable(endpoint)
    old = {variant.name: variant for variant in endpoint.variants} if retain else {}

    def retain_properties(new: VariantState) -> VariantState:
        kept = old.get(new.name, new)
        return replace(
            new,
            desired_weight=(new if "DesiredWeight" in exclude else kept).desired_weight,
            desired_instances=(new if "DesiredInstanceCount" in exclude else kept).desired_instances,
        )

    pending = _build_pending(now, config=config, models=models, policy=policy)
    pending = replace(pending, variants=tuple(map(retain_properties, pending.variants)))
    return _change_status(endpoint, "Updating", now, pending=pending, failure="")


def _check_changeable(endpoint: Endpoint) -> None:
    if endpoint.status == "InService":
        return
    if endpoint.status in ("Failed", "UpdateRollbackFailed", "OutOfService"):
        # Ours; the rule is the service model's: "DeleteEndpoint is the only operation that can be performed on a
        # failed endpoint" (EndpointStatus).
        raise build_validation_error(
            f'Cannot update endpoint "{endpoint.arn}" with status "{endpoint.status}". Delete it instead.'
        )
    raise build_in_progress_error(endpoint.arn)


def _change_pending(
    endpoint: Endpoint, now: float, change: Callable[[VariantState], VariantState], *, shadows: bool = True
) -> Endpoint:
    """Return the endpoint with every pending variant changed; its status stays."""
    pending = endpoint.pending
    assert pending is not None
    changed = replace(
        pending,
        variants=tuple(map(change, pending.variants)),
        shadows=tuple(map(change, pending.shadows)) if shadows else pending.shadows,
    )
    return replace(endpoint, pending=changed, modified=now)


def enter_stage(endpoint: Endpoint, status: str, now: float, *, message: str = "") -> Endpoint:
    """Return the endpoint with its pending variants in a stage: Creating, ActivatingTraffic or Baking."""
    if endpoint.pending is None:
        return endpoint
    stages = (VariantStage(status=status, since=now, message=message),)
    return _change_pending(endpoint, now, lambda variant: replace(variant, stages=stages))


def mark_started(endpoint: Endpoint, now: float) -> Endpoint:
    """Return the endpoint with its pending fleet started, without traffic."""
    return _change_pending(endpoint, now, lambda variant: replace(variant, instances=variant.desired_instances))


def shift_traffic(endpoint: Endpoint, share: float, now: float) -> Endpoint:
    """Return the endpoint with ``share`` (0 to 1) of the traffic at its pending fleet."""
    stages = (VariantStage(status="ActivatingTraffic", since=now),)

    def shift(variant: VariantState) -> VariantState:
        return replace(variant, weight=variant.desired_weight * share, stages=stages)

    return _change_pending(endpoint, now, shift, shadows=False)


def enter_service(endpoint: Endpoint, now: float) -> Endpoint:
    """Return the endpoint InService with what was pending, or with its desired weights and instances."""
    pending = endpoint.pending
    if pending is None:
        return _change_status(endpoint, "InService", now, variants=tuple(map(_settle, endpoint.variants)))
    return _change_status(
        endpoint,
        "InService",
        now,
        config_name=pending.config_name,
        config=pending.config,
        models=pending.models,
        variants=tuple(map(_settle, pending.variants)),
        shadows=tuple(map(_settle, pending.shadows)),
        policy=pending.policy,
        pending=None,
        failure="",
    )


def _settle(variant: VariantState) -> VariantState:
    return replace(variant, weight=variant.desired_weight, instances=variant.desired_instances, stages=())


def fail(endpoint: Endpoint, reason: str, now: float) -> Endpoint:
    """Return the endpoint as Failed: its creation, or its start after a restart, failed."""
    return _change_status(
        endpoint, "Failed", now, failure=shorten_reason(reason), pending=None, variants=(), shadows=()
    )


def begin_rollback(endpoint: Endpoint, reason: str, now: float) -> Endpoint:
    """Return the endpoint as RollingBack: its update failed."""
    return _change_status(endpoint, "RollingBack", now, failure=shorten_reason(reason))


def finish_rollback(endpoint: Endpoint, now: float) -> Endpoint:
    """Return the endpoint with its old fleet alone and the weights before the update; FailureReason stays."""
    variants = tuple(
        replace(variant, desired_weight=variant.weight, desired_instances=variant.instances, stages=())
        for variant in endpoint.variants
    )
    return _change_status(endpoint, "InService", now, pending=None, variants=variants)


def with_weights(endpoint: Endpoint, changes: Sequence[Mapping[str, Any]], now: float) -> Endpoint:
    """Return the endpoint as Updating, with the desired figures of UpdateEndpointWeightsAndCapacities.

    Raises ApiError if the status forbids it.
    """
    _check_changeable(endpoint)
    by_name = {change["VariantName"]: change for change in changes}
    stages = (VariantStage(status="Updating", since=now),)

    def update(variant: VariantState) -> VariantState:
        change = by_name.get(variant.name)
        if change is None:
            return variant
        config, serverless = variant.config, change.get("ServerlessUpdateConfig")
        if serverless and "ServerlessConfig" in config:
            config = {**config, "ServerlessConfig": {**config["ServerlessConfig"], **serverless}}
        return replace(
            variant,
            desired_weight=float(change.get("DesiredWeight", variant.desired_weight)),
            desired_instances=int(change.get("DesiredInstanceCount", variant.desired_instances)),
            config=config,
            stages=stages,
        )

    return _change_status(endpoint, "Updating", now, variants=tuple(map(update, endpoint.variants)), failure="")


def begin_deletion(endpoint: Endpoint, now: float) -> Endpoint:
    """Return the endpoint as Deleting. Raises ApiError while it is Creating or Updating, as AWS does."""
    if "Deleting" not in NEXT[endpoint.status]:
        raise build_in_progress_error(endpoint.arn)
    stages = (VariantStage(status="Deleting", since=now),)
    gone = tuple(replace(variant, stages=stages) for variant in endpoint.variants)
    return _change_status(endpoint, "Deleting", now, variants=gone)


def mark_restarted(endpoint: Endpoint, now: float) -> Endpoint:
    """Return a serving endpoint as SystemUpdating, until its containers run again after a restart."""
    if endpoint.status in ("InService", "Updating", "RollingBack"):
        pending = None if endpoint.status == "RollingBack" else endpoint.pending
        return _change_status(endpoint, "SystemUpdating", now, pending=pending)
    return endpoint


def resume_update(endpoint: Endpoint, now: float) -> Endpoint:
    """Return the endpoint as Updating again: after a restart an update starts from its beginning."""
    return _change_status(endpoint, "Updating", now)
