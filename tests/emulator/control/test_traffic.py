"""Deployment policies as steps."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tritonforge.emulator.traffic import DEFAULT_TIMEOUT, Bake, Shift, plan_shifts

pytestmark = pytest.mark.process


def sized(kind: str, value: int) -> dict[str, Any]:
    """A CapacitySize."""
    return {"Type": kind, "Value": value}


def blue_green(kind: str, wait: int, **more: Any) -> dict[str, Any]:
    """A BlueGreenUpdatePolicy."""
    routing = {"Type": kind, "WaitIntervalInSeconds": wait, **more.pop("routing", {})}
    return {"BlueGreenUpdatePolicy": {"TrafficRoutingConfiguration": routing, **more}}


@pytest.mark.parametrize(
    ("config", "instances", "steps"),
    [
        (None, 1, (Shift(1.0),)),
        (blue_green("ALL_AT_ONCE", 0), 1, (Shift(1.0),)),
        (
            blue_green("ALL_AT_ONCE", 30, TerminationWaitInSeconds=60),
            1,
            (Shift(1.0), Bake(30.0), Bake(60.0, last=True)),
        ),
        (
            blue_green("CANARY", 5, routing={"CanarySize": sized("INSTANCE_COUNT", 1)}),
            4,
            (Shift(0.25), Bake(5.0), Shift(1.0), Bake(5.0)),
        ),
        (
            blue_green("LINEAR", 5, routing={"LinearStepSize": sized("CAPACITY_PERCENT", 40)}),
            1,
            (Shift(0.4), Bake(5.0), Shift(0.8), Bake(5.0), Shift(1.0), Bake(5.0)),
        ),
        (
            {"RollingUpdatePolicy": {"MaximumBatchSize": sized("INSTANCE_COUNT", 1), "WaitIntervalInSeconds": 0}},
            3,
            (Shift(pytest.approx(1 / 3)), Shift(pytest.approx(2 / 3)), Shift(1.0)),
        ),
    ],
)
def test_a_policy_as_steps(config: Any, instances: int, steps: Any) -> None:
    """Each kind of policy, with sizes in percent and in instances."""
    assert plan_shifts(config, instances=instances).steps == steps


def test_alarms_and_the_time_limit_are_carried() -> None:
    """What undoes a deployment is part of its plan."""
    config = {
        **blue_green("ALL_AT_ONCE", 1, MaximumExecutionTimeoutInSeconds=700),
        "AutoRollbackConfiguration": {"Alarms": [{"AlarmName": "a"}, {"AlarmName": "b"}]},
    }
    found = plan_shifts(config, instances=1)
    assert (found.alarms, found.timeout, found.waits) == (("a", "b"), 700.0, 1.0)
    assert plan_shifts(None, instances=1).timeout == DEFAULT_TIMEOUT


SIZES = st.one_of(
    st.builds(sized, st.just("CAPACITY_PERCENT"), st.integers(1, 100)),
    st.builds(sized, st.just("INSTANCE_COUNT"), st.integers(1, 50)),
)
POLICIES = st.one_of(
    st.builds(lambda size, wait: blue_green("CANARY", wait, routing={"CanarySize": size}), SIZES, st.integers(0, 3600)),
    st.builds(
        lambda size, wait: blue_green("LINEAR", wait, routing={"LinearStepSize": size}), SIZES, st.integers(0, 3600)
    ),
    st.builds(
        lambda size, wait: {"RollingUpdatePolicy": {"MaximumBatchSize": size, "WaitIntervalInSeconds": wait}},
        SIZES,
        st.integers(0, 3600),
    ),
)


@given(POLICIES, st.integers(1, 60))
def test_every_policy_ends_with_all_of_the_traffic(config: Any, instances: int) -> None:
    """Shares grow strictly to 1 and stay above 0, whatever the size and the fleet; waits are as often as shifts."""
    steps = plan_shifts(config, instances=instances).steps
    shares = [step.share for step in steps if isinstance(step, Shift)]
    assert all(0 < share <= 1 for share in shares)
    assert shares == sorted(set(shares))
    assert shares[-1] == 1.0
    bakes = [step for step in steps if isinstance(step, Bake)]
    assert len(bakes) in (0, len(shares))
