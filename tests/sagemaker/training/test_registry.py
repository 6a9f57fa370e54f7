"""CreateAlgorithm, CreateModelPackage, their groups and their validation, as boto3 calls; models made from packages."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.sagemaker.training.conftest import IMAGE
from tests.sagemaker.training.test_road import deployed

PREFIX = "arn:aws:sagemaker:us-east-1:123456789012"
INVALID = "ValidationException"


def algorithm(account: Any, name: str, **changes: Any) -> dict[str, Any]:
    """A request for an algorithm with a validation profile over data/."""
    return {
        "AlgorithmName": name,
        "TrainingSpecification": {
            "TrainingImage": IMAGE,
            "SupportedTrainingInstanceTypes": ["ml.m5.xlarge"],
            "SupportedHyperParameters": [
                {
                    "Name": "epochs",
                    "Type": "Integer",
                    "DefaultValue": "2",
                    "Range": {"IntegerParameterRangeSpecification": {"MinValue": "1", "MaxValue": "9"}},
                },
                {"Name": "fail", "Type": "FreeText"},
                {
                    "Name": "optimizer",
                    "Type": "Categorical",
                    "Range": {"CategoricalParameterRangeSpecification": {"Values": ["adam", "sgd"]}},
                },
            ],
            "MetricDefinitions": [{"Name": "samples", "Regex": "samples=([0-9]+);"}],
            "TrainingChannels": [
                {
                    "Name": "train",
                    "IsRequired": True,
                    "SupportedContentTypes": ["text/plain"],
                    "SupportedInputModes": ["File"],
                }
            ],
        },
        "InferenceSpecification": {
            "Containers": [{"Image": IMAGE}],
            "SupportedTransformInstanceTypes": ["ml.m5.xlarge"],
            "SupportedRealtimeInferenceInstanceTypes": ["ml.m5.xlarge"],
            "SupportedContentTypes": ["text/plain"],
            "SupportedResponseMIMETypes": ["application/json"],
        },
        "ValidationSpecification": {
            "ValidationRole": account.emulator.role_arn,
            "ValidationProfiles": [profile(account, name)],
        },
        "CertifyForMarketplace": True,
        **changes,
    }


def profile(account: Any, name: str, **hyperparameters: str) -> dict[str, Any]:
    """A validation profile: a training job, and a transform job of what it made."""
    return {
        "ProfileName": f"{name}-profile",
        "TrainingJobDefinition": {
            "TrainingInputMode": "File",
            "HyperParameters": hyperparameters,
            "InputDataConfig": [account.channel("data/", ContentType="text/plain")],
            "OutputDataConfig": {"S3OutputPath": f"s3://{account.bucket}/validation"},
            "ResourceConfig": {"InstanceType": "ml.m5.xlarge", "InstanceCount": 1, "VolumeSizeInGB": 1},
            "StoppingCondition": {"MaxRuntimeInSeconds": 60},
        },
        "TransformJobDefinition": transform(account, name),
    }


def transform(account: Any, name: str) -> dict[str, Any]:
    """A transform job over data/."""
    source = {"S3DataType": "S3Prefix", "S3Uri": f"s3://{account.bucket}/data/"}
    return {
        "TransformInput": {"DataSource": {"S3DataSource": source}, "ContentType": "text/plain"},
        "TransformOutput": {"S3OutputPath": f"s3://{account.bucket}/validated/{name}"},
        "TransformResources": {"InstanceType": "ml.m5.xlarge", "InstanceCount": 1},
    }


@pytest.fixture(scope="module")
def validated(account: Any) -> dict[str, Any]:
    """An algorithm whose validation has ended."""
    account.sagemaker.create_algorithm(**algorithm(account, "Counter", Tags=[{"Key": "k", "Value": "v"}]))
    return dict(described(account, "Counter"))


def described(account: Any, name: str) -> dict[str, Any]:
    """An algorithm once its validation has ended."""
    return dict(account.settled(lambda: account.sagemaker.describe_algorithm(AlgorithmName=name), "AlgorithmStatus"))


def packaged(account: Any, arn: str) -> dict[str, Any]:
    """A model package once its validation has ended."""
    return dict(
        account.settled(lambda: account.sagemaker.describe_model_package(ModelPackageName=arn), "ModelPackageStatus")
    )


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
    channel = [account.channel("data/", ContentType="text/plain")]
    found = account.job("by-name", AlgorithmSpecification=specification, InputDataConfig=channel)
    assert found["TrainingJobStatus"] == "Completed", found
    assert found["AlgorithmSpecification"]["AlgorithmName"] == "counter"
    assert "HyperParameters" not in found  # Describe tells what was asked for
    assert account.model("by-name")["hyperparameters"] == {"epochs": "2"}
    assert [(each["MetricName"], each["Value"]) for each in found["FinalMetricDataList"]] == [("samples", 2.0)]


def test_a_job_that_does_not_fit_its_algorithm(account: Any, refused: Any, validated: dict[str, Any]) -> None:
    """Everything that does not fit is told at once."""
    request = account.request(
        "misfit",
        AlgorithmSpecification={"AlgorithmName": validated["AlgorithmArn"], "TrainingInputMode": "Pipe"},
        InputDataConfig=[
            account.channel("data/", ContentType="text/csv"),
            account.channel("data/", name="validation"),
        ],
        HyperParameters={"epoch": "1", "epochs": "10", "optimizer": "adagrad", "sagemaker_program": "train.py"},
        ResourceConfig={"InstanceType": "ml.c5.xlarge", "InstanceCount": 1, "VolumeSizeInGB": 1},
    )
    code, sentence = refused(account.sagemaker.create_training_job, **request)
    assert code == INVALID
    for said in (
        "ResourceConfig.InstanceType is ml.c5.xlarge; the algorithm supports ml.m5.xlarge",
        "InputDataConfig[0].InputMode is Pipe; channel 'train' of the algorithm supports File",
        "InputDataConfig[0].ContentType is text/csv",
        "InputDataConfig[1].ChannelName is 'validation'; the algorithm has train",
        "'epoch', which the algorithm does not have; did you mean 'epochs'?",
        "HyperParameters['epochs'] is 10; it must be between 1 and 9",
        "HyperParameters['optimizer'] is 'adagrad'; it must be one of adam, sgd",
    ):
        assert said in sentence
    assert "sagemaker_program" not in sentence
    without = account.request("without", AlgorithmSpecification=request["AlgorithmSpecification"], InputDataConfig=None)
    del without["InputDataConfig"]
    assert "no channel 'train'" in refused(account.sagemaker.create_training_job, **without)[1]
    text = {**request, "HyperParameters": {"epochs": "many"}}
    assert "'many'; it must be an integer" in refused(account.sagemaker.create_training_job, **text)[1]


def test_a_validation_that_fails(account: Any, refused: Any) -> None:
    """The profile's status has the job's FailureReason; the algorithm trains nothing."""
    specification = {
        "ValidationRole": account.emulator.role_arn,
        "ValidationProfiles": [profile(account, "bad", fail="there is no such optimizer")],
    }
    account.sagemaker.create_algorithm(**algorithm(account, "bad", ValidationSpecification=specification))
    found = described(account, "bad")
    assert found["AlgorithmStatus"] == "Failed"
    (status,) = found["AlgorithmStatusDetails"]["ValidationStatuses"]
    assert (status["Name"], status["Status"]) == ("bad-profile", "Failed")
    assert "AlgorithmError: there is no such optimizer, exit code: 1" in status["FailureReason"]
    request = account.request("of-bad", AlgorithmSpecification={"AlgorithmName": "bad", "TrainingInputMode": "File"})
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
    wrong["TrainingJobDefinition"]["InputDataConfig"] = [account.channel("nothing/", ContentType="text/plain")]
    specification = {"ValidationRole": account.emulator.role_arn, "ValidationProfiles": [wrong]}
    account.sagemaker.create_algorithm(**algorithm(account, "empty", ValidationSpecification=specification))
    (status,) = described(account, "empty")["AlgorithmStatusDetails"]["ValidationStatuses"]
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
    assert "has a DefaultValue and IsRequired" in refused(account.sagemaker.create_algorithm, **both)[1]
    alone = algorithm(account, "other")
    del alone["InferenceSpecification"]
    assert "needs InferenceSpecification" in refused(account.sagemaker.create_algorithm, **alone)[1]
    imageless = algorithm(account, "other")
    imageless["TrainingSpecification"]["TrainingImage"] = "nobody/knows:1"
    assert refused(account.sagemaker.create_algorithm, **imageless)[1].startswith("Requested image nobody/knows:1 not")
    elsewhere = "arn:aws:sagemaker:eu-west-1:123456789012:algorithm/counter"
    assert refused(account.sagemaker.describe_algorithm, AlgorithmName=elsewhere)[1] == (
        "ARN should be scoped to correct region: us-east-1"
    )


def test_a_model_package_of_an_algorithm(account: Any, validated: dict[str, Any]) -> None:
    """It takes the algorithm's containers with the trained model, is validated by a transform job, and is deployed."""
    source = {"AlgorithmName": validated["AlgorithmArn"], "ModelDataUrl": trained(account)}
    made = account.sagemaker.create_model_package(
        ModelPackageName="unversioned",
        SourceAlgorithmSpecification={"SourceAlgorithms": [source]},
        ValidationSpecification={
            "ValidationRole": account.emulator.role_arn,
            "ValidationProfiles": [{"ProfileName": "p", "TransformJobDefinition": transform(account, "package")}],
        },
        CertifyForMarketplace=True,
    )
    found = packaged(account, made["ModelPackageArn"])
    assert found["ModelPackageStatus"] == "Completed", found["ModelPackageStatusDetails"]
    assert found["ModelPackageStatusDetails"]["ValidationStatuses"] == [{"Name": "p", "Status": "Completed"}]
    (container,) = found["InferenceSpecification"]["Containers"]
    assert container == {"Image": IMAGE, "ModelDataUrl": source["ModelDataUrl"]}
    assert found["CertifyForMarketplace"] is True
    assert account.keys("validated/package/") == ["a.out", "b.out"]
    endpoint = deployed(account, "of-package", ModelPackageName="unversioned", Image=None)
    assert endpoint["EndpointStatus"] == "InService", endpoint
    answer = account.runtime.invoke_endpoint(EndpointName="of-package", Body=b"x")
    assert json.loads(answer["Body"].read())["samples"] == 2
    primary = account.sagemaker.describe_model(ModelName="of-package")["PrimaryContainer"]
    assert primary["ModelPackageName"] == "unversioned"
    assert "Image" not in primary
    account.sagemaker.delete_endpoint(EndpointName="of-package")


def trained(account: Any) -> str:
    """The address of a model."""
    name = "for-packages"
    try:
        found = account.sagemaker.describe_training_job(TrainingJobName=name)
    except account.sagemaker.exceptions.ClientError:
        found = account.job(name)
    return str(found["ModelArtifacts"]["S3ModelArtifacts"])


def specification(account: Any, **container: Any) -> dict[str, Any]:
    """An InferenceSpecification of one container."""
    return {
        "Containers": [{"Image": IMAGE, "ModelDataUrl": trained(account), **container}],
        "SupportedContentTypes": ["text/plain"],
        "SupportedResponseMIMETypes": ["application/json"],
    }


def test_versions_of_a_group(account: Any, refused: Callable[..., tuple[str, str]]) -> None:
    """They are numbered, wait for approval, and are deployed once they have it; the group goes when it is empty."""
    sagemaker = account.sagemaker
    group = sagemaker.create_model_package_group(ModelPackageGroupName="Group", ModelPackageGroupDescription="d")
    assert group["ModelPackageGroupArn"] == f"{PREFIX}:model-package-group/group"
    arns = [
        sagemaker.create_model_package(
            ModelPackageGroupName=name, InferenceSpecification=specification(account, Environment={"COLOUR": "blue"})
        )["ModelPackageArn"]
        for name in ("Group", group["ModelPackageGroupArn"])
    ]
    assert arns == [f"{PREFIX}:model-package/group/1", f"{PREFIX}:model-package/group/2"]
    found = packaged(account, arns[0])
    assert (found["ModelPackageGroupName"], found["ModelPackageVersion"]) == ("Group", 1)
    assert found["ModelApprovalStatus"] == "PendingManualApproval"
    role = account.emulator.role_arn
    primary = {"ModelPackageName": arns[0]}
    code, sentence = refused(
        sagemaker.create_model, ModelName="unapproved", ExecutionRoleArn=role, PrimaryContainer=primary
    )
    assert (code, "is PendingManualApproval; approve it" in sentence) == (INVALID, True)
    sagemaker.update_model_package(
        ModelPackageArn=arns[0],
        ModelApprovalStatus="Approved",
        ApprovalDescription="good",
        CustomerMetadataProperties={"a": "1", "b": "2"},
    )
    sagemaker.update_model_package(ModelPackageArn=arns[0], CustomerMetadataPropertiesToRemove=["a"])
    found = packaged(account, arns[0])
    assert (found["ModelApprovalStatus"], found["ApprovalDescription"]) == ("Approved", "good")
    assert found["CustomerMetadataProperties"] == {"b": "2"}
    endpoint = deployed(account, "approved", Image=None, **primary)
    assert endpoint["EndpointStatus"] == "InService", endpoint
    answer = account.runtime.invoke_endpoint(EndpointName="approved", Body=b"x")
    assert json.loads(answer["Body"].read())["environment"] == {"COLOUR": "blue"}
    sagemaker.delete_endpoint(EndpointName="approved")
    listed = sagemaker.list_model_packages(ModelPackageGroupName="Group")["ModelPackageSummaryList"]
    assert [each["ModelPackageVersion"] for each in listed] == [1, 2]
    assert "ModelPackageName" not in listed[0]
    waiting = sagemaker.list_model_packages(ModelPackageGroupName="Group", ModelApprovalStatus="PendingManualApproval")
    assert [each["ModelPackageArn"] for each in waiting["ModelPackageSummaryList"]] == [arns[1]]
    unversioned = sagemaker.list_model_packages(NameContains="group")["ModelPackageSummaryList"]
    assert unversioned == []
    code, sentence = refused(sagemaker.delete_model_package_group, ModelPackageGroupName="Group")
    assert (code, "still has model packages" in sentence) == ("ConflictException", True)
    for arn in arns:
        packaged(account, arn)
        sagemaker.delete_model_package(ModelPackageName=arn)
    sagemaker.delete_model_package_group(ModelPackageGroupName="Group")
    code, sentence = refused(sagemaker.describe_model_package_group, ModelPackageGroupName="Group")
    assert sentence == f"ModelPackageGroup {PREFIX}:model-package-group/group does not exist."


def test_additional_specifications(account: Any, refused: Any) -> None:
    """InferenceSpecificationName chooses one of them."""
    sagemaker = account.sagemaker
    made = sagemaker.create_model_package(ModelPackageName="additional", InferenceSpecification=specification(account))[
        "ModelPackageArn"
    ]
    packaged(account, made)
    more = {"Name": "green", "Containers": specification(account, Environment={"COLOUR": "green"})["Containers"]}
    sagemaker.update_model_package(ModelPackageArn=made, AdditionalInferenceSpecificationsToAdd=[more])
    endpoint = deployed(account, "green", Image=None, ModelPackageName=made, InferenceSpecificationName="green")
    assert endpoint["EndpointStatus"] == "InService", endpoint
    answer = account.runtime.invoke_endpoint(EndpointName="green", Body=b"x")
    assert json.loads(answer["Body"].read())["environment"] == {"COLOUR": "green"}
    sagemaker.delete_endpoint(EndpointName="green")
    sentence = refused(
        sagemaker.create_model,
        ModelName="red",
        ExecutionRoleArn=account.emulator.role_arn,
        PrimaryContainer={"ModelPackageName": made, "InferenceSpecificationName": "red"},
    )[1]
    assert "has no inference specification 'red'" in sentence


def test_packages_that_are_refused(account: Any, refused: Any, validated: dict[str, Any]) -> None:
    """AWS's sentences where they are known."""
    create = account.sagemaker.create_model_package
    spec = specification(account)
    assert refused(create, InferenceSpecification=spec)[1] == "Missing ARN."
    assert refused(create, ModelPackageName="a", ModelPackageGroupName="b", InferenceSpecification=spec)[1] == (
        "Both ModelPackageName and ModelPackageGroupName are provided in the input. Cannot determine which one to use."
    )
    assert "does not exist" in refused(create, ModelPackageGroupName="absent", InferenceSpecification=spec)[1]
    assert "provide one" in refused(create, ModelPackageName="a")[1]
    assert (
        "is for versions"
        in refused(create, ModelPackageName="a", InferenceSpecification=spec, ModelApprovalStatus="Approved")[1]
    )
    absent = {"SourceAlgorithms": [{"AlgorithmName": "absent"}]}
    assert refused(create, ModelPackageName="a", SourceAlgorithmSpecification=absent)[1] == (
        f"Algorithm {PREFIX}:algorithm/absent does not exist."
    )


def test_lists_are_paged(account: Any) -> None:
    """Algorithms, packages and groups, oldest first; without a profile there is nothing to validate."""
    sagemaker = account.sagemaker
    for number in range(3):
        request = algorithm(account, f"a-listed-{number}")
        del request["ValidationSpecification"]
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
        found = [[each[name][-1] for each in page[field]] for page in pages]
        assert found == [["0", "1"], ["2"]]
    found = described(account, "a-listed-0")
    assert found["AlgorithmStatusDetails"] == {"ValidationStatuses": [], "ImageScanStatuses": []}
