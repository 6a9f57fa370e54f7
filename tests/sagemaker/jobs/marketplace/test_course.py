"""Algorithms and model packages on SageMaker: created, watched to the end of their validation, found again."""

from __future__ import annotations

from typing import Any

import pytest

from tests.sagemaker.training.conftest import IMAGE, Account
from tritonforge.errors import DeploymentError
from tritonforge.sagemaker.client import Session
from tritonforge.sagemaker.jobs import creation
from tritonforge.sagemaker.jobs.kinds import ALGORITHM, MODEL_PACKAGE
from tritonforge.sagemaker.jobs.marketplace import Publication, Sample, lifecycle, planning, validation
from tritonforge.sagemaker.jobs.training.observation import observe
from tritonforge.sagemaker.plans.plan import SilentProgress
from tritonforge.training.algorithm import Algorithm, Channel


def declared(name: str, description: str = "") -> Algorithm:
    """An algorithm of one channel."""
    return Algorithm(
        name,
        description=description,
        channels=[Channel("train", required=True)],
        training_instance_types=["ml.m5.large"],
    )


def published(session: Session, desk: Account, algorithm: Algorithm, *, replaces: bool = False) -> Any:
    """The algorithm's plan."""
    data = f"s3://{desk.bucket}/data/"
    profile = validation(algorithm, channels={"train": Sample(uri=data)}, output=f"s3://{desk.bucket}/v")
    wanted = Publication(
        algorithm=algorithm, training_image=IMAGE, role=desk.emulator.role_arn, profile=profile, tags={"team": "vision"}
    )
    standing = lifecycle.observe(session, ALGORITHM, algorithm.name)
    return planning.algorithm(wanted, {}, observe(session, {}), standing, replaces=replaces)


def test_an_algorithm_is_validated_and_not_made_twice(session: Session, desk: Account) -> None:
    """The parts of its validation are told as they go on; a second plan is empty."""
    plan = published(session, desk, declared("twice"))
    arn = lifecycle.create(plan, ALGORITHM, session, materials={}, progress=SilentProgress())
    parts: list[tuple[str, str]] = []
    ended = lifecycle.watch(
        session, ALGORITHM, arn, progress=SilentProgress(), phase=lambda part, status: parts.append((part, status))
    )
    assert (ended.name, ended.arn, ended.status, ended.reasons) == ("twice", arn, "Completed", ())
    assert parts[-1] == ("profile validation", "Completed")
    assert published(session, desk, declared("twice")).steps == ()


def test_an_algorithm_whose_answer_was_lost_is_found_again(session: Session, desk: Account) -> None:
    """The same plan once more: AWS says that the name is taken, by what was asked for; another one is in the way."""
    plan = published(session, desk, declared("lost"))
    other = published(session, desk, declared("lost", "another"))
    arn = lifecycle.create(plan, ALGORITHM, session, materials={}, progress=SilentProgress())
    assert lifecycle.create(plan, ALGORITHM, session, materials={}, progress=SilentProgress()) == arn
    with pytest.raises(DeploymentError, match="already existing"):
        lifecycle.create(other, ALGORITHM, session, materials={}, progress=SilentProgress())


def test_another_algorithm_takes_the_name_over(
    session: Session, desk: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SageMaker may take a while to forget the old one: the new one is asked for until it has."""
    monkeypatch.setattr(creation, "_PAUSES", (0.01, 0.01, 0.01))
    lifecycle.create(
        published(session, desk, declared("over")), ALGORITHM, session, materials={}, progress=SilentProgress()
    )
    lifecycle.watch(session, ALGORITHM, "over", progress=SilentProgress())
    plan = published(session, desk, declared("over", "new"), replaces=True)
    assert [step.operation for step in plan.steps] == ["DeleteAlgorithm", "CreateAlgorithm"]
    call, refused = session.call, []

    def late(service: str, operation: str, /, **request: Any) -> Any:
        if operation == "DeleteAlgorithm" and not refused:
            return {}  # it is being deleted
        if operation == "CreateAlgorithm" and len(refused) < 2:
            refused.append(operation)
            if len(refused) == 2:
                call("sagemaker", "DeleteAlgorithm", AlgorithmName="over")
                return call(service, operation, **request)
        return call(service, operation, **request)

    monkeypatch.setattr(session, "call", late)
    lifecycle.create(plan, ALGORITHM, session, materials={}, progress=SilentProgress())
    assert len(refused) == 2
    assert lifecycle.watch(session, ALGORITHM, "over", progress=SilentProgress()).status == "Completed"
    found = lifecycle.observe(session, ALGORITHM, "over").described
    assert found is not None
    assert found["AlgorithmDescription"] == "new"


def test_nothing_is_there_of_another_name(session: Session, desk: Account) -> None:
    """Neither an algorithm, nor a package, nor a group."""
    assert lifecycle.observe(session, ALGORITHM, "nothing").described is None
    found = lifecycle.observe(session, MODEL_PACKAGE, "nothing", group="none")
    assert (found.described, found.has_group) == (None, False)
    assert lifecycle.version(session, "none", {}) is None
