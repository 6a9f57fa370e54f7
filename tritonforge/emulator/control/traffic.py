"""A deployment as steps: from a DeploymentConfig to what is shifted when, and how long is waited. No I/O.

Sources: the service model's documentation of BlueGreenUpdatePolicy, TrafficRoutingConfig and RollingUpdatePolicy, and
"Deployment guardrails" in SageMaker's developer guide. After every shift the new fleet bakes for WaitIntervalInSeconds
while the rollback alarms are watched; before the old fleet ends TerminationWaitInSeconds are waited, watched too.
What a policy may say is `tritonforge.sagemaker.limits`' to judge.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from tritonforge.triton.service_limits import UPDATE_TIME

__all__ = ["DEFAULT_TIMEOUT", "Bake", "Plan", "Shift", "plan"]

#: Seconds that a deployment without MaximumExecutionTimeoutInSeconds may take: the longest that AWS takes for one.
DEFAULT_TIMEOUT: Final = UPDATE_TIME.value


@dataclass(frozen=True, slots=True)
class Shift:
    """The new fleet takes this share of the traffic, 0 to 1."""

    share: float


@dataclass(frozen=True, slots=True)
class Bake:
    """Wait so many seconds, watching the alarms; ``last`` is the wait before the old fleet ends."""

    seconds: float
    last: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """The steps of a deployment, the alarms that undo it, and the seconds that it may take."""

    steps: tuple[Shift | Bake, ...]
    alarms: tuple[str, ...] = ()
    timeout: float = DEFAULT_TIMEOUT

    @property
    def waits(self) -> float:
        """The seconds that the plan waits in all."""
        return sum(step.seconds for step in self.steps if isinstance(step, Bake))


def plan(config: Mapping[str, Any] | None, *, instances: int) -> Plan:
    """The steps for a DeploymentConfig; without one AWS shifts everything at once and waits for nothing.

    ``instances`` are those of the new fleet, of which a CapacitySize in INSTANCE_COUNT is a share.

    >>> plan({"BlueGreenUpdatePolicy": {"TrafficRoutingConfiguration": {"Type": "CANARY", "WaitIntervalInSeconds": 60,
    ...     "CanarySize": {"Type": "CAPACITY_PERCENT", "Value": 10}}}}, instances=1).steps
    (Shift(share=0.1), Bake(seconds=60.0, last=False), Shift(share=1.0), Bake(seconds=60.0, last=False))
    """
    config = config or {}
    alarms = tuple(
        alarm["AlarmName"]
        for alarm in (config.get("AutoRollbackConfiguration") or {}).get("Alarms", ())
        if "AlarmName" in alarm
    )
    steps: list[Shift | Bake] = []
    if rolling := config.get("RollingUpdatePolicy"):
        batch = _share(rolling["MaximumBatchSize"], instances)
        for share in _shares(batch, batch):
            steps += [Shift(share), Bake(float(rolling["WaitIntervalInSeconds"]))]
        return Plan(_waiting(steps), alarms, float(rolling.get("MaximumExecutionTimeoutInSeconds", DEFAULT_TIMEOUT)))
    policy = config.get("BlueGreenUpdatePolicy")
    if not policy:
        return Plan((Shift(1.0),), alarms)
    routing = policy["TrafficRoutingConfiguration"]
    wait = float(routing["WaitIntervalInSeconds"])
    if routing["Type"] == "CANARY":
        shares = _shares(_share(routing["CanarySize"], instances), 1.0)
    elif routing["Type"] == "LINEAR":
        step = _share(routing["LinearStepSize"], instances)
        shares = _shares(step, step)
    else:
        shares = (1.0,)
    for share in shares:
        steps += [Shift(share), Bake(wait)]
    steps.append(Bake(float(policy.get("TerminationWaitInSeconds", 0)), last=True))
    return Plan(_waiting(steps), alarms, float(policy.get("MaximumExecutionTimeoutInSeconds", DEFAULT_TIMEOUT)))


def _share(size: Mapping[str, Any], instances: int) -> float:
    """A CapacitySize as a share of the fleet; whole instances, as the fleet has them, and at least one."""
    value = float(size["Value"])
    if size["Type"] == "CAPACITY_PERCENT":
        return min(value / 100, 1.0)
    return min(value / max(instances, 1), 1.0)


def _shares(first: float, step: float) -> tuple[float, ...]:
    """The shares after each shift, the last of which is everything."""
    count = 1 + math.ceil(round((1.0 - first) / step, 9))
    return (*(round(first + step * index, 9) for index in range(count - 1)), 1.0)


def _waiting(steps: list[Shift | Bake]) -> tuple[Shift | Bake, ...]:
    return tuple(step for step in steps if not (isinstance(step, Bake) and step.seconds == 0))
