"""CreateModelPackage and its groups, as boto3 calls: validation, versions, approval; models that are made of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.accounts import COUNTER_IMAGE
from tests.support.algorithm_requests import (
    INVALID,
    PREFIX,
    algorithm,
    specification,
    train_model,
    transform,
    wait_for_algorithm,
    wait_for_package,
)

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def validated(account: Any) -> dict[str, Any]:
    """An algorithm that was not validated, and need not be."""
    request = algorithm(account, "Counter")
    del request["ValidationSpecification"], request["CertifyForMarketplace"]
    account.sagemaker.create_algorithm(**request)
    return wait_for_algorithm(account, "Counter")


def test_a_model_package_of_an_algorithm(account: Any, validated: dict[str, Any]) -> None:
    """It takes the algorithm's containers with the trained model, is validated by a transform job, and is deployed."""
    source = {"AlgorithmName": validated["AlgorithmArn"], "ModelDataUrl": train_model(account)}
    made = account.sagemaker.create_model_package(
        ModelPackageName="unversioned",
        SourceAlgorithmSpecification={"SourceAlgorithms": [source]},
        ValidationSpecification={
            "ValidationRole": account.emulator.role_arn,
            "ValidationProfiles": [{"ProfileName": "p", "TransformJobDefinition": transform(account, "package")}],
        },
        CertifyForMarketplace=True,
    )
    found = wait_for_package(account, made["ModelPackageArn"])
    assert found["ModelPackageStatus"] == "Completed", found["ModelPackageStatusDetails"]
    assert found["ModelPackageStatusDetails"]["ValidationStatuses"] == [{"Name": "p", "Status": "Completed"}]
    (container,) = found["InferenceSpecification"]["Containers"]
    assert container == {"Image": COUNTER_IMAGE, "ModelDataUrl": source["ModelDataUrl"]}
    assert found["CertifyForMarketplace"] is True
    assert account.keys("validated/package/") == ["a.out", "b.out"]
    endpoint = account.deploy_model("of-package", ModelPackageName="unversioned", Image=None)
    assert endpoint["EndpointStatus"] == "InService", endpoint
    answer = account.runtime.invoke_endpoint(EndpointName="of-package", Body=b"x")
    assert json.loads(answer["Body"].read())["samples"] == 2
    primary = account.sagemaker.describe_model(ModelName="of-package")["PrimaryContainer"]
    assert primary["ModelPackageName"] == "unversioned"
    assert "Image" not in primary
    account.sagemaker.delete_endpoint(EndpointName="of-package")


def test_a_validation_whose_transform_job_fails(account: Any, refused: Any) -> None:
    """Its FailureReason is the profile's, and no model is made of the package."""
    account.put({"breaking/a": b"break"})
    job = transform(account, "breaking")
    job["TransformInput"]["DataSource"]["S3DataSource"]["S3Uri"] = f"s3://{account.bucket}/breaking/"
    made = account.sagemaker.create_model_package(
        ModelPackageName="breaking",
        InferenceSpecification=specification(account),
        ValidationSpecification={
            "ValidationRole": account.emulator.role_arn,
            "ValidationProfiles": [{"ProfileName": "p", "TransformJobDefinition": job}],
        },
    )
    found = wait_for_package(account, made["ModelPackageArn"])
    assert found["ModelPackageStatus"] == "Failed"
    (status,) = found["ModelPackageStatusDetails"]["ValidationStatuses"]
    assert status["FailureReason"].startswith("ClientError: Transform job breaking-")
    assert (
        "Failed: AlgorithmError: See job logs for more information (1 of 1 objects have no output"
        in (status["FailureReason"])
    )
    primary = {"ModelPackageName": "breaking"}
    role = account.emulator.role_arn
    sentence = refused(
        account.sagemaker.create_model, ModelName="breaking", ExecutionRoleArn=role, PrimaryContainer=primary
    )[1]
    assert "is Failed; a model needs one that is Completed" in sentence


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
    found = wait_for_package(account, arns[0])
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
    found = wait_for_package(account, arns[0])
    assert (found["ModelApprovalStatus"], found["ApprovalDescription"]) == ("Approved", "good")
    assert found["CustomerMetadataProperties"] == {"b": "2"}
    endpoint = account.deploy_model("approved", Image=None, **primary)
    assert endpoint["EndpointStatus"] == "InService", endpoint
    answer = account.runtime.invoke_endpoint(EndpointName="approved", Body=b"x")
    assert json.loads(answer["Body"].read())["environment"] == {"COLOUR": "blue"}
    sagemaker.delete_endpoint(EndpointName="approved")
    listed = sagemaker.list_model_packages(ModelPackageGroupName="Group")["ModelPackageSummaryList"]
    assert [item["ModelPackageVersion"] for item in listed] == [1, 2]
    assert "ModelPackageName" not in listed[0]
    waiting = sagemaker.list_model_packages(ModelPackageGroupName="Group", ModelApprovalStatus="PendingManualApproval")
    assert [item["ModelPackageArn"] for item in waiting["ModelPackageSummaryList"]] == [arns[1]]
    unversioned = sagemaker.list_model_packages(NameContains="group")["ModelPackageSummaryList"]
    assert unversioned == []
    code, sentence = refused(sagemaker.delete_model_package_group, ModelPackageGroupName="Group")
    assert (code, "still has model packages" in sentence) == ("ConflictException", True)
    for arn in arns:
        wait_for_package(account, arn)
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
    wait_for_package(account, made)
    more = {"Name": "green", "Containers": specification(account, Environment={"COLOUR": "green"})["Containers"]}
    sagemaker.update_model_package(ModelPackageArn=made, AdditionalInferenceSpecificationsToAdd=[more])
    endpoint = account.deploy_model("green", Image=None, ModelPackageName=made, InferenceSpecificationName="green")
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
    assert "a model package requires InferenceSpecification" in refused(create, ModelPackageName="a")[1]
    assert "provide one" in refused(create, ModelPackageName="a", SourceUri=f"{PREFIX}:model/m")[1]
    assert (
        "ModelApprovalStatus is for versions of a group"
        in refused(create, ModelPackageName="a", InferenceSpecification=spec, ModelApprovalStatus="Approved")[1]
    )
    absent = {"SourceAlgorithms": [{"AlgorithmName": "absent"}]}
    assert refused(create, ModelPackageName="a", SourceAlgorithmSpecification=absent)[1] == (
        f"Algorithm {PREFIX}:algorithm/absent does not exist."
    )
