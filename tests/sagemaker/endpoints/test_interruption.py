"""Runs that are stopped before and after their calls to AWS: the next run ends as if nothing had happened.

TRITONFORGE_KILLS=all stops them at every call instead of at every twelfth.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import pytest

from tests.support.deployments import deploy, destroy, everything, list_untagged, make_repository
from tests.support.small_parts import PART
from tests.support.stopped_runs import Stopper, small_parts, stop_at_calls
from tritonforge.emulator import Emulator
from tritonforge.sagemaker.client import Session
from tritonforge.sagemaker.endpoints import Autoscaling, Deployment, StepScaling, TargetTracking

pytestmark = pytest.mark.process

TRACKING = TargetTracking(target_value=70, predefined_metric_type="SageMakerVariantInvocationsPerInstance")
SCALED = Autoscaling(min_capacity=1, max_capacity=3, policies=[TRACKING, StepScaling()])

#: The calls that a run makes at least; were there fewer, the test would have stopped none of the writing ones.
LEAST = {"creation": 20, "update": 30, "removal": 15}

Repositories: TypeAlias = tuple[Path, Path, Path]

WHEN = pytest.mark.parametrize("before", [True, False], ids=["before calls", "after calls"])


@pytest.fixture(scope="module")
def repositories(tmp_path_factory: pytest.TempPathFactory) -> Repositories:
    """Three repositories; the first goes up in three parts."""
    place = tmp_path_factory.mktemp("repositories")
    large = make_repository(place / "large", size=2 * PART + 1000)
    return large, make_repository(place / "one", seed=1), make_repository(place / "two", seed=2)


@pytest.fixture(scope="module")
def stopper(emulator: Emulator) -> Iterator[Stopper]:
    """Runs that are stopped at a call."""
    with small_parts(), Stopper() as found:
        yield found


def check_whole(session: Session, wanted: Deployment, repository: Path) -> None:
    """Everything is there once, in service, tagged, and nothing else; another run has nothing to do."""
    assert deploy(session, wanted, repository, only_plan=True, prune=0).steps == ()
    left = everything(session, wanted.name)
    counts = {kind: len(names) for kind, names in left.items()}
    assert counts == {
        "models": 1, "configs": 1, "endpoints": 1, "objects": 1, "half uploads": 0, "targets": 1, "alarms": 1,
    }, left  # fmt: skip
    endpoint = session.client("sagemaker").describe_endpoint(EndpointName=wanted.name)
    assert (endpoint["EndpointStatus"], endpoint["EndpointConfigName"]) == ("InService", left["configs"][0])
    assert list_untagged(session, wanted.name) == []


@WHEN
def test_a_creation_that_is_stopped_at_any_call_is_finished_by_the_next_run(
    session: Session, wanted: Deployment, repositories: Repositories, stopper: Stopper, before: bool
) -> None:
    """From nothing to an endpoint with autoscaling, with an upload in parts."""
    repository = repositories[0]

    def attempt(call: int) -> int | None:
        one = replace(wanted, name=f"{wanted.name}-{call}", autoscaling=SCALED)
        calls = stopper.run("deploy", one, repository, call=call, before=before)
        deploy(session, one, repository)
        check_whole(session, one, repository)
        destroy(session, one)
        return calls

    stop_at_calls(attempt, before=before, least=LEAST["creation"])


@WHEN
def test_an_update_that_is_stopped_at_any_call_is_finished_by_the_next_run(
    session: Session, wanted: Deployment, repositories: Repositories, stopper: Stopper, before: bool
) -> None:
    """To another repository on another instance type, and the old generation is pruned."""
    _, first, second = repositories

    def attempt(call: int) -> int | None:
        one = replace(wanted, name=f"{wanted.name}-{call}", autoscaling=SCALED)
        deploy(session, one, first)
        changed = replace(one, instance_type="ml.c5.xlarge")
        calls = stopper.run("deploy", changed, second, prune=0, call=call, before=before)
        deploy(session, changed, second, prune=0)
        check_whole(session, changed, second)
        destroy(session, one)
        return calls

    stop_at_calls(attempt, before=before, least=LEAST["update"])


@WHEN
def test_a_removal_that_is_stopped_at_any_call_is_finished_by_the_next_run(
    session: Session, wanted: Deployment, repositories: Repositories, stopper: Stopper, before: bool
) -> None:
    """With the archive in a bucket of its own, which only the models name."""
    _, repository, _ = repositories
    bucket = f"bucket-{wanted.name}"
    session.client("s3").create_bucket(Bucket=bucket)

    def attempt(call: int) -> int | None:
        one = replace(wanted, name=f"{wanted.name}-{call}", autoscaling=SCALED, bucket=bucket)
        deploy(session, one, repository)
        nameless = Deployment(name=one.name)
        calls = stopper.run("destroy", nameless, call=call, before=before)
        destroy(session, nameless)
        left = everything(session, one.name)
        assert not any(left.values()), left
        return calls

    stop_at_calls(attempt, before=before, least=LEAST["removal"])


def test_a_run_that_is_stopped_while_aws_works_is_waited_for(
    session: Session, wanted: Deployment, repository: Path
) -> None:
    """The next run finds the endpoint Creating, and neither creates it twice nor gives up."""
    sagemaker = session.client("sagemaker")
    made = deploy(session, wanted, repository)
    sagemaker.delete_endpoint(EndpointName=wanted.name)
    sagemaker.get_waiter("endpoint_deleted").wait(EndpointName=wanted.name, WaiterConfig={"Delay": 0.1})
    sagemaker.create_endpoint(
        EndpointName=wanted.name,
        EndpointConfigName=made.config,
        Tags=[{"Key": "tritonforge:deployment", "Value": wanted.name}],
    )
    deploy(session, wanted, repository)
    assert sagemaker.describe_endpoint(EndpointName=wanted.name)["EndpointStatus"] == "InService"
    assert deploy(session, wanted, repository).steps == ()
