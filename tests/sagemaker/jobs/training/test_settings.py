"""Settings of jobs on SageMaker: those of the options, the job and the declaration, in this order."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.training_requests import IMAGE, ROLE, channel, job, request
from tritonforge.errors import DefinitionError
from tritonforge.sagemaker.jobs.training import SageMakerSettings, check_against_declaration, is_image
from tritonforge.sagemaker.jobs.training_plan import build_draft_plan
from tritonforge.training.algorithm import Algorithm, Channel, HyperParameter, InputError, Metric
from tritonforge.training.job import AlgorithmSpecification, Output, TrainingJob

DECLARED = Algorithm(
    "learner",
    hyperparameters=[HyperParameter("epochs", "Integer", default=1, minimum=1, maximum=9)],
    channels=[Channel("training", required=True, input_modes=["Pipe"])],
    metrics=[Metric("loss", "loss=([0-9.]+)")],
    training_instance_types=["ml.g4dn.xlarge", "ml.m5.xlarge"],
)


def bare(**changes: Any) -> TrainingJob:
    """A job of this machine, which says nothing of machines; ``program`` is for its image."""
    algorithm = AlgorithmSpecification(training_input_mode="Pipe", training_image="repos/learner")
    return TrainingJob(algorithm=algorithm, output=Output(uri="s3://b/out"), **changes)


def test_what_is_not_stated_comes_from_the_declaration() -> None:
    """The first machine, the metrics; how long and how much disk are written out."""
    made = SageMakerSettings(name="n", role="role", image=IMAGE).apply_to(bare(), DECLARED).to_request()
    assert made == {
        "TrainingJobName": "n",
        "RoleArn": "role",
        "AlgorithmSpecification": {
            "TrainingImage": IMAGE,
            "TrainingInputMode": "Pipe",
            "MetricDefinitions": [{"Name": "loss", "Regex": "loss=([0-9.]+)"}],
        },
        "OutputDataConfig": {"S3OutputPath": "s3://b/out"},
        "ResourceConfig": {"InstanceType": "ml.g4dn.xlarge", "InstanceCount": 1, "VolumeSizeInGB": 30},
        "StoppingCondition": {"MaxRuntimeInSeconds": 86400},
    }


def test_what_a_job_says_itself_stays_and_flags_win() -> None:
    """A job file has its machines, role and metrics; a flag goes over them."""
    given = request("file", RoleArn=ROLE)
    given["AlgorithmSpecification"]["MetricDefinitions"] = [{"Name": "mine", "Regex": "a=(.)"}]
    kept = SageMakerSettings(name="n").apply_to(TrainingJob.from_request(given), DECLARED).to_request()
    assert kept == {**given, "TrainingJobName": "n"}
    flags = SageMakerSettings(
        name="n",
        role="other",
        image="new:2",
        instance_type="ml.p3.2xlarge",
        instance_count=2,
        volume_size_in_gb=50,
        spot=True,
        max_wait_time_in_seconds=7200,
        network_isolation=True,
        tags={"a": "b"},
    )
    made = flags.apply_to(TrainingJob.from_request(given), DECLARED).to_request()
    assert made["ResourceConfig"] == {"InstanceType": "ml.p3.2xlarge", "InstanceCount": 2, "VolumeSizeInGB": 50}
    assert made["StoppingCondition"] == {"MaxRuntimeInSeconds": 3600, "MaxWaitTimeInSeconds": 7200}
    assert (made["RoleArn"], made["AlgorithmSpecification"]["TrainingImage"]) == ("other", "new:2")
    assert (made["EnableManagedSpotTraining"], made["EnableNetworkIsolation"]) == (True, True)
    assert made["Tags"] == [{"Key": "a", "Value": "b"}]


def test_an_algorithm_of_sagemakers_has_its_own_metrics() -> None:
    """It takes the image's place."""
    made = SageMakerSettings(name="n", role="r", algorithm="learner").apply_to(bare(), DECLARED).to_request()
    assert made["AlgorithmSpecification"] == {"AlgorithmName": "learner", "TrainingInputMode": "Pipe"}


def test_groups_of_instances_stay_as_they_are() -> None:
    """A cluster of several types has no type of its own."""
    groups = [{"InstanceType": "ml.m5.large", "InstanceCount": 1, "InstanceGroupName": "g"}]
    one = job("n", ResourceConfig={"InstanceGroups": groups, "VolumeSizeInGB": 10})
    assert SageMakerSettings(name="n").apply_to(one, DECLARED).to_request()["ResourceConfig"] == {
        "InstanceGroups": groups,
        "VolumeSizeInGB": 10,
    }


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        (IMAGE, True),
        ("learner:1", True),
        ("learner@sha256:abc", True),
        ("registry.example.com/learner", True),
        ("repos/detector", False),
        ("./learner", False),
        ("../a/b", False),
        ("learner", False),
        ("", False),
    ],
)
def test_images_are_reported_from_folders(text: str, is_one: bool) -> None:
    """A registry's name, a tag or a digest."""
    assert is_image(text) == is_one


def test_what_cannot_be_run() -> None:
    with pytest.raises(DefinitionError, match="repos/learner: not an image that SageMaker can run"):
        SageMakerSettings(name="n", role="r").apply_to(bare(), DECLARED)
    with pytest.raises(DefinitionError, match="the IAM role of the job is missing"):
        SageMakerSettings(name="n", image=IMAGE).apply_to(bare(), DECLARED)


def test_everything_that_the_program_would_refuse_is_stated_at_once() -> None:
    """Hyperparameters and channels."""
    check_against_declaration(
        job("n", channel("training", "s3://b/c", InputMode="Pipe"), HyperParameters={"epochs": "3"}), DECLARED
    )
    with pytest.raises(InputError) as caught:
        check_against_declaration(job("n", channel("train", "s3://b/c"), HyperParameters={"epoch": "3"}), DECLARED)
    for item in (
        "'epoch' is unknown; did you mean epochs?",
        "channel 'train' is unknown",
        "channel training is missing",
    ):
        assert item in str(caught.value)


def test_a_sketch_needs_no_account() -> None:
    made = build_draft_plan(job("n", channel("training", "data/"), RoleArn="service-role/Mine"))
    (step,) = made.steps
    assert step.request["RoleArn"] == "arn:aws:iam::000000000000:role/Mine"
    uri = step.request["InputDataConfig"][0]["DataSource"]["S3DataSource"]["S3Uri"]
    assert uri.startswith("s3://bucket/")
