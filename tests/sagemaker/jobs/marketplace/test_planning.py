"""Plans of algorithms and model packages, held against what AWS has under their names; nothing is called."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.support.training_requests import IMAGE, ROLE
from tritonforge.errors import DeploymentError, RequestError
from tritonforge.sagemaker.endpoints.resources import ObservedBucket
from tritonforge.sagemaker.jobs.marketplace_plan import ObservedResource, plan_algorithm, plan_model_package
from tritonforge.sagemaker.jobs.publication import (
    AlgorithmRequest,
    ModelPackageRequest,
    SampleData,
    build_validation_profile,
)
from tritonforge.sagemaker.jobs.specification import Container
from tritonforge.sagemaker.jobs.training_plan import DATA, ChannelContent, ContentPart, ObservedData
from tritonforge.sagemaker.plans.executor import check_plan
from tritonforge.sagemaker.plans.plan import Plan
from tritonforge.training.algorithm import Algorithm, Channel, HyperParameter

OBSERVED = ObservedData(region="us-east-1", account="123456789012", bucket=ObservedBucket(name="bucket", folder=DATA))

DECLARED = Algorithm(
    "counter",
    hyperparameters=[HyperParameter("epochs", "Integer", default=1, minimum=1, maximum=9)],
    channels=[Channel("train", required=True)],
    training_instance_types=["ml.m5.large"],
    transform_instance_types=["ml.m5.large"],
    realtime_instance_types=["ml.m5.large"],
    content_types=["text/plain"],
)


def publication(**changes: Any) -> AlgorithmRequest:
    """An algorithm that is validated with data of this machine."""
    profile = build_validation_profile(
        DECLARED, channels={"train": SampleData(uri="data")}, output="s3://bucket/v", transform="objects"
    )
    container = Container(image=IMAGE)
    made = AlgorithmRequest(
        algorithm=DECLARED, training_image=IMAGE, inference=(container,), role=ROLE, profile=profile
    )
    return replace(made, **changes)


def content(digest: str, name: str) -> ChannelContent:
    """Data of one file."""
    key = f"{DATA}channels/{digest}/{name}"
    return ChannelContent(key=key, parts=(ContentPart(kind="data", prefix=key, digest=digest, files={key: 3}),))


CONTENTS = {"train": content("1" * 64, "a"), "transform": content("2" * 64, "b")}


def plan(standing: ObservedResource, wanted: AlgorithmRequest | None = None, *, replaces: bool = False) -> Plan:
    """The plan of the algorithm."""
    made = plan_algorithm(wanted or publication(), CONTENTS, OBSERVED, standing, replaces=replaces)
    check_plan(made)
    return made


def standing(status: str = "Completed", **changes: Any) -> ObservedResource:
    """AWS has the algorithm, but for what is changed."""
    request = plan(ObservedResource()).steps[-1].request
    reported = {**request, "AlgorithmArn": "arn", "AlgorithmStatus": status, "ProductId": "p", **changes}
    return ObservedResource(description=reported)


def operations(made: Plan) -> list[str]:
    """The operations of a plan."""
    return [step.operation for step in made.steps]


def test_sample_data_go_up_before_the_algorithm() -> None:
    """The profile has their addresses."""
    made = plan(ObservedResource())
    assert operations(made) == ["PutObject", "PutObject", "CreateAlgorithm"]
    (profile,) = made.steps[-1].request["ValidationSpecification"]["ValidationProfiles"]
    training = profile["TrainingJobDefinition"]["InputDataConfig"][0]["DataSource"]["S3DataSource"]["S3Uri"]
    transform = profile["TransformJobDefinition"]["TransformInput"]["DataSource"]["S3DataSource"]["S3Uri"]
    assert training == f"s3://bucket/{CONTENTS['train'].key}"
    assert transform == f"s3://bucket/{CONTENTS['transform'].key}"


@pytest.mark.parametrize("status", ["Pending", "InProgress", "Completed"])
def test_what_is_there_is_not_made_again(status: str) -> None:
    assert operations(plan(standing(status))) == []


def test_what_failed_or_is_about_to_go_is_made_anew() -> None:
    """Failed, it is deleted first; Deleting, that is waited for."""
    assert operations(plan(standing("Failed")))[-2:] == ["DeleteAlgorithm", "CreateAlgorithm"]
    assert operations(plan(standing("Deleting")))[-1:] == ["CreateAlgorithm"]
    assert "DeleteAlgorithm" not in operations(plan(standing("Deleting")))


def test_another_one_of_the_name_is_in_the_way() -> None:
    """What differs is named; it goes when that is asked for, and not while it is validated."""
    there = standing(AlgorithmDescription="another", TrainingSpecification={"TrainingImage": "other:1"})
    with pytest.raises(DeploymentError, match=r"counter: exists with another TrainingSpecification\. Choose"):
        plan(there)
    assert operations(plan(there, replaces=True))[-2:] == ["DeleteAlgorithm", "CreateAlgorithm"]
    assert there.description is not None
    busy = ObservedResource(description={**there.description, "AlgorithmStatus": "InProgress"})
    with pytest.raises(DeploymentError, match=r"counter: is InProgress with another TrainingSpecification\. Wait"):
        plan(busy, replaces=True)


def test_everything_that_aws_would_refuse_is_stated() -> None:
    """The service model's constraints and the documented limits; nothing is called."""
    wanted = publication(training_image="x" * 256, role="invalid")
    with pytest.raises(RequestError) as caught:
        check_plan(plan_algorithm(wanted, CONTENTS, OBSERVED, ObservedResource()))
    for place in ("TrainingSpecification.TrainingImage", "ValidationSpecification.ValidationRole"):
        assert place in str(caught.value)


def test_a_model_of_this_machine_goes_up_with_its_package() -> None:
    """Of an algorithm it is the source, of an image its container's; a group that is missing is created first."""
    contents = {"model": content("3" * 64, "model.tar.gz")}
    address = f"s3://bucket/{contents['model'].key}"
    source = ModelPackageRequest(name="one", algorithm_name="counter")
    made = plan_model_package(source, contents, OBSERVED, ObservedResource())
    check_plan(made)
    assert operations(made) == ["PutObject", "CreateModelPackage"]
    (algorithm,) = made.steps[-1].request["SourceAlgorithmSpecification"]["SourceAlgorithms"]
    assert algorithm == {"AlgorithmName": "counter", "ModelDataUrl": address}
    version = ModelPackageRequest(group="all", declared=DECLARED, containers=(Container(image=IMAGE),))
    grouped = plan_model_package(version, contents, OBSERVED, ObservedResource(has_group=False))
    check_plan(grouped)
    assert operations(grouped) == ["CreateModelPackageGroup", "PutObject", "CreateModelPackage"]
    (container,) = grouped.steps[-1].request["InferenceSpecification"]["Containers"]
    assert container == {"Image": IMAGE, "ModelDataUrl": address}
