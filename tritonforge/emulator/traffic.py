"""A deployment as steps: which share of the traffic a DeploymentConfig shifts when, and the waits between. No I/O.

Sources: the service model's documentation of BlueGreenUpdatePolicy, TrafficRoutingConfig and RollingUpdatePolicy, and
"Deployment guardrails" in SageMaker's developer guide. After every shift the new fleet bakes for WaitIntervalInSeconds
while the rollback alarms are watched, and again for TerminationWaitInSeconds before the old fleet ends.
`tritonforge.sagemaker.limits` checks what a policy may contain.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tritonforge.triton.service_limits import UPDATE_TIME

__all__ = ["DEFAULT_TIMEOUT", "Bake", "Sampler", "Shift", "ShiftPlan", "VariantBalancer", "plan_shifts"]

#: Seconds that a deployment without MaximumExecutionTimeoutInSeconds may take: the longest that AWS takes for one.
DEFAULT_TIMEOUT: Final = UPDATE_TIME.value


@dataclass(frozen=True, slots=True)
class Shift:
    """The new fleet takes this share of the traffic, 0 to 1."""

    share: float


@dataclass(frozen=True, slots=True)
class Bake:
    """Wait a number of seconds, watching the alarms; ``last`` is the wait before the old fleet ends."""

    seconds: float
    last: bool = False


@dataclass(frozen=True, slots=True)
class ShiftPlan:
    """The steps of a deployment, the alarms that undo it, and the seconds that it may take."""

    steps: tuple[Shift | Bake, ...]
    alarms: tuple[str, ...] = ()
    timeout: float = DEFAULT_TIMEOUT

    @property
    def waits(self) -> float:
        """The seconds that the plan waits in all."""
        return sum(step.seconds for step in self.steps if isinstance(step, Bake))


def plan_shifts(config: Mapping[str, Any] | None, *, instances: int) -> ShiftPlan:
    """Plan the steps of a DeploymentConfig; without one AWS shifts all traffic at once and does not wait.

    ``instances`` are those of the new fleet, of which a CapacitySize in INSTANCE_COUNT is a share.

    >>> canary = {"Type": "CAPACITY_PERCENT", "Value": 10}
    >>> routing = {"Type": "CANARY", "WaitIntervalInSeconds": 60, "CanarySize": canary}
    >>> plan_shifts({"BlueGreenUpdatePolicy": {"TrafficRoutingConfiguration": routing}}, instances=1).steps
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
        batch = _to_share(rolling["MaximumBatchSize"], instances)
        for share in _list_shares(batch, batch):
            steps += [Shift(share), Bake(float(rolling["WaitIntervalInSeconds"]))]
        return ShiftPlan(
            _drop_empty_waits(steps), alarms, float(rolling.get("MaximumExecutionTimeoutInSeconds", DEFAULT_TIMEOUT))
        )
    policy = config.get("BlueGreenUpdatePolicy")
    if not policy:
        return ShiftPlan((Shift(1.0),), alarms)
    routing = policy["TrafficRoutingConfiguration"]
    wait = float(routing["WaitIntervalInSeconds"])
    if routing["Type"] == "CANARY":
        shares = _list_shares(_to_share(routing["CanarySize"], instances), 1.0)
    elif routing["Type"] == "LINEAR":
        step = _to_share(routing["LinearStepSize"], instances)
        shares = _list_shares(step, step)
    else:
        shares = (1.0,)
    for share in shares:
        steps += [Shift(share), Bake(wait)]
    steps.append(Bake(float(policy.get("TerminationWaitInSeconds", 0)), last=True))
    return ShiftPlan(
        _drop_empty_waits(steps), alarms, float(policy.get("MaximumExecutionTimeoutInSeconds", DEFAULT_TIMEOUT))
    )


def _to_share(size: Mapping[str, Any], instances: int) -> float:
    """Convert a CapacitySize to a share of the fleet, rounded to whole instances, at least one."""
    value = float(size["Value"])
    if size["Type"] == "CAPACITY_PERCENT":
        return min(value / 100, 1.0)
    return min(value / max(instances, 1), 1.0)


def _list_shares(first: float, step: float) -> tuple[float, ...]:
    """List the share after each shift; the last one is 1."""
    count = 1 + math.ceil(round((1.0 - first) / step, 9))
    return (*(round(first + step * index, 9) for index in range(count - 1)), 1.0)


def _drop_empty_waits(steps: list[Shift | Bake]) -> tuple[Shift | Bake, ...]:
    return tuple(step for step in steps if not (isinstance(step, Bake) and step.seconds == 0))


class VariantBalancer:
    """Chooses among weights so that every one gets its share, spread evenly (the smooth weighted round robin).

    >>> balance = VariantBalancer()
    >>> [balance.choose((2.0, 1.0)) for _ in range(6)]
    [0, 1, 0, 0, 1, 0]
    """

    def __init__(self) -> None:
        self._weights: tuple[float, ...] = ()
        self._credit: list[float] = []

    def choose(self, weights: Sequence[float]) -> int:
        """Choose the next index; a weight of 0 is never chosen. A change of the weights starts a new count.

        Raises:
            ValueError: no weight is above 0.
        """
        if tuple(weights) != self._weights:
            self._weights = tuple(weights)
            self._credit = [0.0] * len(self._weights)
        candidates = [index for index, weight in enumerate(self._weights) if weight > 0]
        if not candidates:
            raise ValueError("no weight is above 0")
        for index in candidates:
            self._credit[index] += self._weights[index]
        chosen = max(candidates, key=lambda index: self._credit[index])
        self._credit[chosen] -= sum(self._weights)
        return chosen


class Sampler:
    """Selects a percentage of events, evenly spread: at 20 % every fifth one.

    >>> sampling = Sampler()
    >>> [sampling.should_take(50) for _ in range(4)]
    [False, True, False, True]
    """

    def __init__(self) -> None:
        self._credit = 0.0

    def should_take(self, percentage: float) -> bool:
        """Return True if the next one is taken; of 100 % all are, of 0 % none."""
        self._credit += min(max(percentage, 0.0), 100.0)
        if self._credit < 100.0:
            return False
        self._credit -= 100.0
        return True
