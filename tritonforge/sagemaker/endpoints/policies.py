"""How an endpoint moves from one configuration to the next: blue/green or rolling, and what rolls it back. No I/O.

Sizes are a number of instances (``2``) or a share of the capacity (``"25%"``).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from tritonforge.errors import DefinitionError
from tritonforge.field_types import check_fields
from tritonforge.sagemaker.endpoints.settings import given

__all__ = ["BlueGreen", "Rolling", "Size", "UpdatePolicy"]

Size: TypeAlias = int | str

_SHARE: Final = re.compile(r"(\d+) ?%")


def _capacity(size: Size | None) -> dict[str, Any] | None:
    if size is None:
        return None
    if isinstance(size, int):
        return {"Type": "INSTANCE_COUNT", "Value": size}
    share = _SHARE.fullmatch(size)
    if share is None:
        raise DefinitionError(f"size {size!r}: write a number of instances (2) or a share of the capacity ('25%')")
    return {"Type": "CAPACITY_PERCENT", "Value": int(share[1])}


def _alarms(names: Sequence[str]) -> dict[str, Any] | None:
    return {"Alarms": [{"AlarmName": name} for name in names]} if names else None


@dataclass(frozen=True, slots=True, kw_only=True)
class BlueGreen:
    """A new fleet beside the old one, which gets the traffic at once, after a canary, or in equal steps.

    ``size`` is the canary's (at most 50 %) or the step's (10 to 50 %); times are seconds. ``alarms`` are names of
    CloudWatch alarms: one that goes off while traffic moves rolls the update back.
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
        _capacity(self.size)

    def request(self) -> dict[str, Any]:
        """``DeploymentConfig``."""
        routing = given(
            Type=self.type,
            WaitIntervalInSeconds=self.wait_interval_in_seconds,
            CanarySize=_capacity(self.size) if self.type == "CANARY" else None,
            LinearStepSize=_capacity(self.size) if self.type == "LINEAR" else None,
        )
        policy = given(
            TrafficRoutingConfiguration=routing,
            TerminationWaitInSeconds=self.termination_wait_in_seconds,
            MaximumExecutionTimeoutInSeconds=self.maximum_execution_timeout_in_seconds,
        )
        return given(BlueGreenUpdatePolicy=policy, AutoRollbackConfiguration=_alarms(self.alarms))


@dataclass(frozen=True, slots=True, kw_only=True)
class Rolling:
    """The old fleet is replaced batch by batch; ``maximum_batch_size`` is 5 to 50 % of the capacity."""

    maximum_batch_size: Size
    wait_interval_in_seconds: int = 0
    maximum_execution_timeout_in_seconds: int | None = None
    rollback_maximum_batch_size: Size | None = None
    alarms: Sequence[str] = ()

    def __post_init__(self) -> None:
        check_fields(self)
        object.__setattr__(self, "alarms", tuple(self.alarms))
        _capacity(self.maximum_batch_size)
        _capacity(self.rollback_maximum_batch_size)

    def request(self) -> dict[str, Any]:
        """``DeploymentConfig``."""
        policy = given(
            MaximumBatchSize=_capacity(self.maximum_batch_size),
            WaitIntervalInSeconds=self.wait_interval_in_seconds,
            MaximumExecutionTimeoutInSeconds=self.maximum_execution_timeout_in_seconds,
            RollbackMaximumBatchSize=_capacity(self.rollback_maximum_batch_size),
        )
        return given(RollingUpdatePolicy=policy, AutoRollbackConfiguration=_alarms(self.alarms))


UpdatePolicy: TypeAlias = BlueGreen | Rolling
