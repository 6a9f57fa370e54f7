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

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Final

from tritonforge.emulator.control.api_errors import in_progress, invalid
from tritonforge.emulator.control.records import Endpoint, PendingDeployment, VariantStage, VariantState
from tritonforge.emulator.hosting.container_definitions import list_container_definitions

__all__ = [
    "NEXT",
    "SERVING",
    "begin_deletion",
    "begin_rollback",
    "begin_update",
    "build_variants",
    "create",
    "enter_service",
    "enter_stage",
    "fail",
    "finish_rollback",
    "mark_restarted",
    "mark_started",
    "resume_update",
    "shift_traffic",
    "with_weights",
]

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

#: FailureReason is cut there (the service model's maximum).
_REASON: Final = 1024


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
    """The variants of a configuration as a deployment begins with them: nothing there yet."""
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
    """An endpoint that was just asked for: Creating, with nothing behind it."""
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
        pending=_build_pending(now, config=config, models=models, policy=policy, status="Creating"),
        tags=tags,
    )


def _build_pending(
    now: float,
    *,
    config: Mapping[str, Any],
    models: Mapping[str, Any],
    policy: Mapping[str, Any] | None,
    status: str,
    kept: Mapping[str, VariantState] | None = None,
) -> PendingDeployment:
    stages = (VariantStage(status=status, since=now),)
    variants = build_variants(config, models, stages=stages)
    kept = kept or {}
    return PendingDeployment(
        config_name=config["EndpointConfigName"],
        started=now,
        variants=tuple(_retain(variant, kept.get(variant.name)) for variant in variants),
        shadows=build_variants(config, models, which="ShadowProductionVariants", stages=stages),
        policy=policy,
        config=config,
        models=models,
    )


def _retain(variant: VariantState, kept: VariantState | None) -> VariantState:
    """A new variant that takes over what RetainAllVariantProperties keeps of the old one."""
    if kept is None:
        return variant
    return replace(variant, desired_weight=kept.desired_weight, desired_instances=kept.desired_instances)


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
    """UpdateEndpoint was asked for: the new fleet is pending, the old one serves on.

    ``retain`` and ``exclude`` are RetainAllVariantProperties and ExcludeRetainedVariantProperties: weights and instance
    counts of variants of the same name are kept, but for the kinds that are excluded.

    Raises ApiError where the status forbids it.
    """
    _check_changeable(endpoint)
    kept: dict[str, VariantState] = {}
    fresh = {variant.name: variant for variant in build_variants(config, models, stages=())}
    if retain:
        for old in endpoint.variants:
            if old.name in fresh:
                new = fresh[old.name]
                kept[old.name] = replace(
                    old,
                    desired_weight=new.desired_weight if "DesiredWeight" in exclude else old.desired_weight,
                    desired_instances=(
                        new.desired_instances if "DesiredInstanceCount" in exclude else old.desired_instances
                    ),
                )
    pending = _build_pending(now, config=config, models=models, policy=policy, status="Creating", kept=kept)
    return _change_status(endpoint, "Updating", now, pending=pending, failure="")


def _check_changeable(endpoint: Endpoint) -> None:
    if endpoint.status == "InService":
        return
    if endpoint.status in ("Failed", "UpdateRollbackFailed", "OutOfService"):
        # Ours; the rule is the service model's: "DeleteEndpoint is the only operation that can be performed on a
        # failed endpoint" (EndpointStatus).
        raise invalid(f'Cannot update endpoint "{endpoint.arn}" with status "{endpoint.status}". Delete it instead.')
    raise in_progress(endpoint.arn)


def enter_stage(endpoint: Endpoint, status: str, now: float, *, message: str = "") -> Endpoint:
    """The pending variants enter a stage: Creating, ActivatingTraffic, Baking; the endpoint's status stays."""
    if endpoint.pending is None:
        return endpoint
    stages = (VariantStage(status=status, since=now, message=message),)
    pending = replace(
        endpoint.pending,
        variants=tuple(replace(variant, stages=stages) for variant in endpoint.pending.variants),
        shadows=tuple(replace(variant, stages=stages) for variant in endpoint.pending.shadows),
    )
    return replace(endpoint, pending=pending, modified=now)


def mark_started(endpoint: Endpoint, now: float) -> Endpoint:
    """The pending fleet is up, and takes no traffic yet."""
    assert endpoint.pending is not None
    pending = replace(
        endpoint.pending,
        variants=tuple(replace(variant, instances=variant.desired_instances) for variant in endpoint.pending.variants),
        shadows=tuple(replace(variant, instances=variant.desired_instances) for variant in endpoint.pending.shadows),
    )
    return replace(endpoint, pending=pending, modified=now)


def shift_traffic(endpoint: Endpoint, share: float, now: float) -> Endpoint:
    """The pending fleet takes ``share`` (0 to 1) of the traffic."""
    assert endpoint.pending is not None
    stages = (VariantStage(status="ActivatingTraffic", since=now),)
    pending = replace(
        endpoint.pending,
        variants=tuple(
            replace(variant, weight=variant.desired_weight * share, stages=stages)
            for variant in endpoint.pending.variants
        ),
    )
    return replace(endpoint, pending=pending, modified=now)


def enter_service(endpoint: Endpoint, now: float) -> Endpoint:
    """What was pending is what serves now; without anything pending the endpoint is back in service as it was."""
    pending = endpoint.pending
    if pending is None:
        settled = tuple(
            replace(variant, weight=variant.desired_weight, instances=variant.desired_instances, stages=())
            for variant in endpoint.variants
        )
        return _change_status(endpoint, "InService", now, variants=settled)
    return _change_status(
        endpoint,
        "InService",
        now,
        config_name=pending.config_name,
        config=pending.config,
        models=pending.models,
        variants=tuple(_settle(variant) for variant in pending.variants),
        shadows=tuple(_settle(variant) for variant in pending.shadows),
        policy=pending.policy,
        pending=None,
        failure="",
    )


def _settle(variant: VariantState) -> VariantState:
    return replace(variant, weight=variant.desired_weight, instances=variant.desired_instances, stages=())


def fail(endpoint: Endpoint, reason: str, now: float) -> Endpoint:
    """A creation, or a start after a restart, failed."""
    return _change_status(endpoint, "Failed", now, failure=reason[:_REASON], pending=None, variants=(), shadows=())


def begin_rollback(endpoint: Endpoint, reason: str, now: float) -> Endpoint:
    """An update goes back to the old fleet."""
    return _change_status(endpoint, "RollingBack", now, failure=reason[:_REASON])


def finish_rollback(endpoint: Endpoint, now: float) -> Endpoint:
    """The old fleet serves again, alone, and the FailureReason says why; new weights that failed are taken back."""
    variants = tuple(
        replace(variant, desired_weight=variant.weight, desired_instances=variant.instances, stages=())
        for variant in endpoint.variants
    )
    return _change_status(endpoint, "InService", now, pending=None, variants=variants)


def with_weights(endpoint: Endpoint, changes: Sequence[Mapping[str, Any]], now: float) -> Endpoint:
    """UpdateEndpointWeightsAndCapacities was asked for: Updating, with new desired figures.

    Raises ApiError where the status forbids it.
    """
    _check_changeable(endpoint)
    by_name = {change["VariantName"]: change for change in changes}
    stages = (VariantStage(status="Updating", since=now),)
    variants = tuple(
        replace(
            variant,
            desired_weight=float(by_name[variant.name].get("DesiredWeight", variant.desired_weight)),
            desired_instances=int(by_name[variant.name].get("DesiredInstanceCount", variant.desired_instances)),
            config=_update_serverless(variant.config, by_name[variant.name].get("ServerlessUpdateConfig")),
            stages=stages,
        )
        if variant.name in by_name
        else variant
        for variant in endpoint.variants
    )
    return _change_status(endpoint, "Updating", now, variants=variants, failure="")


def _update_serverless(config: Mapping[str, Any], update: Mapping[str, Any] | None) -> Mapping[str, Any]:
    if not update or "ServerlessConfig" not in config:
        return config
    return {**config, "ServerlessConfig": {**config["ServerlessConfig"], **update}}


def begin_deletion(endpoint: Endpoint, now: float) -> Endpoint:
    """DeleteEndpoint was asked for.

    Raises ApiError while something else is under way: AWS deletes no endpoint that is Creating or Updating.
    """
    if "Deleting" not in NEXT[endpoint.status]:
        raise in_progress(endpoint.arn)
    stages = (VariantStage(status="Deleting", since=now),)
    gone = tuple(replace(variant, stages=stages) for variant in endpoint.variants)
    return _change_status(endpoint, "Deleting", now, variants=gone)


def mark_restarted(endpoint: Endpoint, now: float) -> Endpoint:
    """The emulator came back: what was serving is SystemUpdating until its containers run again."""
    if endpoint.status in ("InService", "Updating", "RollingBack"):
        pending = None if endpoint.status == "RollingBack" else endpoint.pending
        return _change_status(endpoint, "SystemUpdating", now, pending=pending)
    return endpoint


def resume_update(endpoint: Endpoint, now: float) -> Endpoint:
    """The containers run again, and the update that was under way is taken up from its beginning."""
    return _change_status(endpoint, "Updating", now)
