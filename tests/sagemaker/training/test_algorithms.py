"""CreateAlgorithm and its validation as boto3 calls, jobs by an algorithm's name, and lists of what is registered."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.accounts import COUNTER_IMAGE
from tests.support.algorithm_requests import INVALID, PREFIX, algorithm, profile, wait_for_algorithm
from tritonforge.sagemaker.jobs.publication import (
    AlgorithmRequest,
    SampleData,
    build_validation_profile,
)
from tritonforge.sagemaker.jobs.specification import Container
from tritonforge.training.algorithm import Algorithm, Channel, HyperParameter, Metric

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def validated(account: Any) -> dict[str, Any]:
    """An algorithm whose validation has ended."""
    account.sagemaker.create_algorithm(**algorithm(account, "Counter", Tags=[{"Key": "k", "Value": "v"}]))
    return dict(wait_for_algorithm(account, "Counter"))


def test_an_algorithm_is_validated_by_training_and_transforming(account: Any, validated: dict[str, Any]) -> None:
    """Its profile's jobs ran with its images; Describe gives what Create was given, and how validation went."""
    request = algorithm(account, "Counter")
    assert {name: validated[name] for name in request} == request
    assert validated["AlgorithmArn"] == f"{PREFIX}:algorithm/counter"
    assert validated["AlgorithmStatus"] == "Completed", validated["AlgorithmStatusDetails"]
    assert validated["AlgorithmStatusDetails"] == {
        "ValidationStatuses": [{"Name": "Counter-profile", "Status": "Completed"}],
        "ImageScanStatuses": [],
    }
    (training,) = account.sagemaker.list_training_jobs(NameContains="counter")["TrainingJobSummaries"]
    job = account.sagemaker.describe_training_job(TrainingJobName=training["TrainingJobName"])
    assert job["AlgorithmSpecification"]["AlgorithmName"] == validated["AlgorithmArn"]
    assert job["EnableNetworkIsolation"] is True
    assert account.keys("validated/Counter/") == ["a.out", "b.out"]
    assert json.loads(account.get("validated/Counter/a.out"))["samples"] == 2
    assert account.sagemaker.list_models(NameContains="counter")["Models"] == []
    assert account.sagemaker.list_tags(ResourceArn=validated["AlgorithmArn"])["Tags"] == [{"Key": "k", "Value": "v"}]


def test_a_job_by_algorithm_name(account: Any, validated: dict[str, Any]) -> None:
    """The algorithm's image runs, with its defaults and its metrics; the name or the ARN will do."""
    specification = {"AlgorithmName": "counter", "TrainingInputMode": "File"}
    channel = [account.build_channel("data/", ContentType="text/plain")]
    found = account.run_job("by-name", AlgorithmSpecification=specification, InputDataConfig=channel)
    assert found["TrainingJobStatus"] == "Completed", found
    assert found["AlgorithmSpecification"]["AlgorithmName"] == "counter"
    assert "HyperParameters" not in found  # Describe reports what was asked for
    assert account.read_model("by-name")["hyperparameters"] == {"epochs": "2"}
    assert [(item["MetricName"], item["Value"]) for item in found["FinalMetricDataList"]] == [("samples", 2.0)]


def test_a_job_that_does_not_fit_its_algorithm(account: Any, refused: Any, validated: dict[str, Any]) -> None:
    request = account.build_request(
        "misfit",
        AlgorithmSpecification={"AlgorithmName": validated["AlgorithmArn"], "TrainingInputMode": "Pipe"},
        InputDataConfig=[
            account.build_channel("data/", ContentType="text/csv"),
            account.build_channel("data/", name="validation"),
        ],
        HyperParameters={"epoch": "1", "epochs": "10", "optimizer": "adagrad", "sagemaker_program": "train.py"},
        ResourceConfig={"InstanceType": "ml.c5.xlarge", "InstanceCount": 1, "VolumeSizeInGB": 1},
    )
    code, sentence = refused(account.sagemaker.create_training_job, **request)
    assert code == INVALID
    for stated in (
        "ResourceConfig.InstanceType is ml.c5.xlarge; the algorithm supports ml.m5.xlarge",
        "channel train comes in Pipe mode; give it as File",
        "channel train has content type 'text/csv'; it accepts text/plain",
        "channel 'validation' is unknown",
        "'epoch' is unknown; did you mean epochs?",
        "epochs is '10'; it must be from 1 to 9",
        "optimizer is 'adagrad'; write adam or sgd",
    ):
        assert stated in sentence
    assert "sagemaker_program" not in sentence
    without = account.build_request(
        "without", AlgorithmSpecification=request["AlgorithmSpecification"], InputDataConfig=None
    )
    del without["InputDataConfig"]
    assert "channel train is missing" in refused(account.sagemaker.create_training_job, **without)[1]
    text = {**request, "HyperParameters": {"epochs": "many"}}
    assert "many" in refused(account.sagemaker.create_training_job, **text)[1]


def test_a_validation_that_fails(account: Any, refused: Any) -> None:
    """The profile's status has the job's FailureReason; the algorithm trains nothing."""
    specification = {
        "ValidationRole": account.emulator.role_arn,
        "ValidationProfiles": [profile(account, "bad", fail="there is no such optimizer")],
    }
    account.sagemaker.create_algorithm(**algorithm(account, "bad", ValidationSpecification=specification))
    found = wait_for_algorithm(account, "bad")
    assert found["AlgorithmStatus"] == "Failed"
    (status,) = found["AlgorithmStatusDetails"]["ValidationStatuses"]
    assert (status["Name"], status["Status"]) == ("bad-profile", "Failed")
    assert "AlgorithmError: there is no such optimizer, exit code: 1" in status["FailureReason"]
    request = account.build_request(
        "of-bad", AlgorithmSpecification={"AlgorithmName": "bad", "TrainingInputMode": "File"}
    )
    assert (
        "is Failed; a job needs one that is Completed" in refused(account.sagemaker.create_training_job, **request)[1]
    )
    account.sagemaker.delete_algorithm(AlgorithmName="bad")
    assert refused(account.sagemaker.describe_algorithm, AlgorithmName="bad") == (
        INVALID,
        f"Algorithm {PREFIX}:algorithm/bad does not exist.",
    )


def test_a_profile_whose_input_is_not_there(account: Any) -> None:
    """What CreateTrainingJob would refuse is the profile's FailureReason."""
    wrong = profile(account, "empty")
    wrong["TrainingJobDefinition"]["InputDataConfig"] = [account.build_channel("nothing/", ContentType="text/plain")]
    specification = {"ValidationRole": account.emulator.role_arn, "ValidationProfiles": [wrong]}
    account.sagemaker.create_algorithm(**algorithm(account, "empty", ValidationSpecification=specification))
    (status,) = wait_for_algorithm(account, "empty")["AlgorithmStatusDetails"]["ValidationStatuses"]
    assert "No S3 objects found under S3 URL" in status["FailureReason"]


def test_algorithms_that_are_refused(account: Any, refused: Any, validated: dict[str, Any]) -> None:
    """A taken name, a default that is required, an image that is not there, an ARN of elsewhere."""
    request = algorithm(account, "Counter")
    assert refused(account.sagemaker.create_algorithm, **request) == (
        INVALID,
        f'Cannot create already existing algorithm "{PREFIX}:algorithm/counter".',
    )
    both = algorithm(account, "other")
    both["TrainingSpecification"]["SupportedHyperParameters"][0]["IsRequired"] = True
    assert (
        "'epochs': if a default is given it cannot be required"
        in refused(account.sagemaker.create_algorithm, **both)[1]
    )
    alone = algorithm(account, "other")
    del alone["InferenceSpecification"]
    assert "a transform job requires a model that serves" in refused(account.sagemaker.create_algorithm, **alone)[1]
    imageless = algorithm(account, "other")
    imageless["TrainingSpecification"]["TrainingImage"] = "example/missing:1"
    assert refused(account.sagemaker.create_algorithm, **imageless)[1].startswith(
        "Requested image example/missing:1 not"
    )
    elsewhere = "arn:aws:sagemaker:eu-west-1:123456789012:algorithm/counter"
    assert refused(account.sagemaker.describe_algorithm, AlgorithmName=elsewhere)[1] == (
        "ARN should be scoped to correct region: us-east-1"
    )


def test_lists_are_paged(account: Any) -> None:
    """Algorithms, packages and groups, oldest first; without a profile there is nothing to validate."""
    sagemaker = account.sagemaker
    for number in range(3):
        request = algorithm(account, f"a-listed-{number}")
        del request["ValidationSpecification"], request["CertifyForMarketplace"]
        sagemaker.create_algorithm(**request)
        sagemaker.create_model_package_group(ModelPackageGroupName=f"g-listed-{number}")
        sagemaker.create_model_package(
            ModelPackageName=f"p-listed-{number}", InferenceSpecification=request["InferenceSpecification"]
        )
    for operation, field, name in (
        ("list_algorithms", "AlgorithmSummaryList", "AlgorithmName"),
        ("list_model_package_groups", "ModelPackageGroupSummaryList", "ModelPackageGroupName"),
        ("list_model_packages", "ModelPackageSummaryList", "ModelPackageName"),
    ):
        pages = sagemaker.get_paginator(operation).paginate(NameContains="-listed-", PaginationConfig={"PageSize": 2})
        found = [[item[name][-1] for item in page[field]] for page in pages]
        assert found == [["0", "1"], ["2"]]
    found = wait_for_algorithm(account, "a-listed-0")
    assert found["AlgorithmStatusDetails"] == {"ValidationStatuses": [], "ImageScanStatuses": []}


def test_a_declaration_is_validated_as_it_is_published(account: Any) -> None:
    declared = Algorithm(
        "declared",
        description="Counts samples.",
        hyperparameters=[HyperParameter("epochs", "Integer", "How often.", 1, minimum=1, maximum=9)],
        channels=[Channel("train", "Anything.", required=True, content_types=("text/plain",), input_modes=("Pipe",))],
        metrics=[Metric("samples", "samples=([0-9]+);")],
        training_instance_types=["ml.m5.large"],
        transform_instance_types=["ml.m5.large"],
        realtime_instance_types=["ml.m5.large"],
        content_types=["text/plain"],
        response_types=["application/json"],
    )
    place = f"s3://{account.bucket}"
    profiled = build_validation_profile(
        declared,
        channels={"train": SampleData(uri=f"{place}/data/")},
        output=f"{place}/declared",
        hyperparameters={"epochs": "2"},
        transform=f"{place}/data/",
    )
    request = AlgorithmRequest(
        algorithm=declared,
        training_image=COUNTER_IMAGE,
        inference=[Container(image=COUNTER_IMAGE)],
        role=account.emulator.role_arn,
        profile=profiled,
        certify_for_marketplace=True,
    ).to_request()
    account.sagemaker.create_algorithm(**request)
    found = wait_for_algorithm(account, "declared")
    assert found["AlgorithmStatus"] == "Completed", found["AlgorithmStatusDetails"]
    assert {name: found[name] for name in request} == request
    assert account.keys("declared/transform/") == ["a.out", "b.out"]
