"""Algorithms and model packages on SageMaker: published, watched to the end of their validation, found again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.accounts import COUNTER_IMAGE, TrainingAccount
from tritonforge.errors import DeploymentError
from tritonforge.sagemaker.client import Session
from tritonforge.sagemaker.jobs import marketplace
from tritonforge.sagemaker.jobs.kinds import ALGORITHM, MODEL_PACKAGE
from tritonforge.sagemaker.jobs.marketplace import AlgorithmPublication, PublicationSettings
from tritonforge.sagemaker.jobs.publication import AlgorithmRequest, SampleData
from tritonforge.training.algorithm import Algorithm, Channel

pytestmark = pytest.mark.process

Publish = Callable[..., AlgorithmPublication]


@pytest.fixture
def publish(session: Session, desk: TrainingAccount) -> Publish:
    """Makes the publication of an algorithm of one channel."""

    def prepare(name: str, description: str = "", *, replaces: bool = False) -> AlgorithmPublication:
        algorithm = Algorithm(
            name,
            description=description,
            channels=[Channel("train", required=True)],
            training_instance_types=["ml.m5.large"],
        )
        role = desk.emulator.role_arn
        return AlgorithmPublication(
            AlgorithmRequest(algorithm=algorithm, training_image=COUNTER_IMAGE, role=role, tags={"team": "vision"}),
            session=session,
            samples={"train": SampleData(uri=f"s3://{desk.bucket}/data/")},
            settings=PublicationSettings(output=f"s3://{desk.bucket}/v", replaces=replaces),
        )

    return prepare


def test_an_algorithm_is_validated_and_not_created_twice(publish: Publish) -> None:
    parts: list[tuple[str, str]] = []
    with publish("twice") as publication:
        arn = publication.submit()
        publication.watch(on_phase=lambda *part: parts.append(part))
        result = publication.result()
    assert (result.name, result.arn, result.status, result.reasons) == ("twice", arn, "Completed", ())
    assert parts[-1] == ("profile validation", "Completed")
    with publish("twice") as again:
        assert again.plan().steps == ()
        assert again.submit() == "twice"
        assert again.result().status == "Completed"


def test_an_algorithm_whose_response_was_lost_is_recognized(publish: Publish) -> None:
    """The plan is made before the first call, so AWS reports that the name is taken."""
    with publish("lost") as first, publish("lost") as again, publish("lost", "another") as other:
        for publication in (first, again, other):
            publication.plan()
        arn = first.submit()
        assert again.submit() == arn
        with pytest.raises(DeploymentError, match="already existing"):
            other.submit()


def test_another_algorithm_replaces_the_first(
    publish: Publish, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SageMaker may delete the old one late: the new one is created again until its name is free."""
    with publish("over") as first:
        first.submit()
        first.watch()
    other = publish("over", "new", replaces=True)
    assert [step.operation for step in other.plan().steps] == ["DeleteAlgorithm", "CreateAlgorithm"]
    call, rejected = session.call, []

    def delete_late(service: str, operation: str, /, **request: Any) -> Any:
        if operation == "DeleteAlgorithm" and not rejected:
            return {}  # it is being deleted
        if operation == "CreateAlgorithm" and len(rejected) < 2:
            rejected.append(operation)
            if len(rejected) == 2:
                call("sagemaker", "DeleteAlgorithm", AlgorithmName="over")
                return call(service, operation, **request)
        return call(service, operation, **request)

    monkeypatch.setattr(session, "call", delete_late)
    with other:
        other.submit()
        assert len(rejected) == 2
        assert other.result().status == "Completed"
    description = marketplace._observe(session, ALGORITHM, "over").description
    assert description is not None
    assert description["AlgorithmDescription"] == "new"


def test_a_missing_resource_is_observed_as_missing(session: Session) -> None:
    assert marketplace._observe(session, ALGORITHM, "nothing").description is None
    observed = marketplace._observe(session, MODEL_PACKAGE, "nothing", group="none")
    assert (observed.description, observed.has_group) == (None, False)
    assert marketplace._find_version(session, "none", {}) is None
