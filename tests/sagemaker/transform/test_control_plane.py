"""CreateTransformJob, DescribeTransformJob, ListTransformJobs, StopTransformJob and tags, asked by boto3."""

from __future__ import annotations

import datetime as dt
import json
import threading
from typing import Any

import pytest
from botocore.exceptions import WaiterError

pytestmark = pytest.mark.process

PREFIX = "arn:aws:sagemaker:us-east-1:123456789012"
INVALID = "ValidationException"


def test_every_member_of_the_request_comes_back(account: Any) -> None:
    """Describe gives what Create was given, nothing that was left out, and arn, status and times."""
    account.put({"Described/in/a": b"x"})
    account.create_model("Described")
    request = account.build_request(
        "Described",
        MaxConcurrentTransforms=2,
        MaxPayloadInMB=1,
        BatchStrategy="SingleRecord",
        ModelClientConfig={"InvocationsTimeoutInSeconds": 30, "InvocationsMaxRetries": 1},
        Environment={"A": "1"},
        DataProcessing={"InputFilter": "$", "OutputFilter": "$", "JoinSource": "None"},
        DataCaptureConfig={"DestinationS3Uri": f"s3://{account.bucket}/captured-described"},
        ExperimentConfig={"TrialComponentDisplayName": "t"},
        Tags=[{"Key": "k", "Value": "v"}],
    )
    request["TransformInput"] |= {"ContentType": "text/csv", "SplitType": "Line", "CompressionType": "None"}
    request["TransformOutput"] |= {"Accept": "text/csv", "AssembleWith": "Line", "KmsKeyId": "alias/key"}
    request["TransformResources"] |= {"VolumeKmsKeyId": "alias/disk"}
    arn = account.sagemaker.create_transform_job(**request)["TransformJobArn"]
    found = account.wait_for_end("Described")
    assert found["TransformJobArn"] == arn == f"{PREFIX}:transform-job/described"
    tags = request.pop("Tags")
    assert {name: found[name] for name in request} == request
    assert found["TransformJobStatus"] == "Completed"
    assert "FailureReason" not in found
    assert found["CreationTime"] <= found["TransformStartTime"] <= found["TransformEndTime"]
    assert abs((dt.datetime.now(dt.timezone.utc) - found["TransformEndTime"]).total_seconds()) < 60
    extra = set(found) - set(request) - {"ResponseMetadata"}
    assert extra == {
        "TransformJobArn",
        "TransformJobStatus",
        "CreationTime",
        "TransformStartTime",
        "TransformEndTime",
    }
    assert account.sagemaker.list_tags(ResourceArn=arn)["Tags"] == tags
    account.sagemaker.add_tags(ResourceArn=arn, Tags=[{"Key": "more", "Value": "w"}])
    account.sagemaker.delete_tags(ResourceArn=arn, TagKeys=["k"])
    assert account.sagemaker.list_tags(ResourceArn=arn)["Tags"] == [{"Key": "more", "Value": "w"}]


def test_what_is_left_out_of_a_job_has_aws_s_defaults(account: Any) -> None:
    found = account.run_job("little", {"a": b"x"})
    for name in ("MaxConcurrentTransforms", "MaxPayloadInMB", "BatchStrategy", "Environment"):
        assert name not in found
    assert found["TransformInput"].keys() == {"DataSource", "ContentType", "CompressionType", "SplitType"}
    assert found["TransformInput"]["CompressionType"] == found["TransformInput"]["SplitType"] == "None"
    assert (found["TransformOutput"]["AssembleWith"], found["TransformOutput"]["KmsKeyId"]) == ("None", "")
    assert found["DataProcessing"] == {"InputFilter": "$", "OutputFilter": "$", "JoinSource": "None"}


def test_a_name_is_taken_for_ever(account: Any, refused: Any) -> None:
    """A job's name is not free again when the job has ended, in whatever case."""
    account.run_job("taken", {"a": b"x"})
    code, sentence = refused(account.sagemaker.create_transform_job, **account.build_request("taken"))
    assert code == "ResourceInUse"
    assert sentence == (
        "Job name must be unique within an AWS account and region, and a job with this name already exists "
        f"({PREFIX}:transform-job/taken)"
    )


def test_jobs_that_are_not_there(account: Any, refused: Any) -> None:
    """AWS's sentence for jobs names nothing."""
    for call in (account.sagemaker.describe_transform_job, account.sagemaker.stop_transform_job):
        assert refused(call, TransformJobName="absent") == (INVALID, "Requested resource not found.")


def test_a_model_that_is_not_there(account: Any, refused: Any) -> None:
    """The model is looked for when the job is created."""
    found = refused(account.sagemaker.create_transform_job, **account.build_request("no-model"))
    assert found == (INVALID, f'Could not find model "{PREFIX}:model/no-model".')


def test_models_that_no_job_can_use(account: Any, refused: Any) -> None:
    """ModelDataSource and multi-model containers are for endpoints."""
    uri = f"s3://{account.bucket}/models/"
    source = {"S3DataSource": {"S3Uri": uri, "S3DataType": "S3Prefix", "CompressionType": "None"}}
    for name, container in (
        ("uncompressed", {"Image": "i", "ModelDataSource": source}),
        ("several", {"Image": "i", "Mode": "MultiModel", "ModelDataUrl": uri}),
    ):
        account.sagemaker.create_model(
            ModelName=name, ExecutionRoleArn=account.emulator.role_arn, PrimaryContainer=container
        )
        account.put({f"{name}/in/a": b"x"})
        code, sentence = refused(account.sagemaker.create_transform_job, **account.build_request(name))
        assert code == INVALID
        assert "cannot be used with batch transform" in sentence


@pytest.mark.parametrize("source", ["prefix", "manifest", "bucket", "region"])
def test_input_that_is_not_there(account: Any, refused: Any, source: str) -> None:
    """CreateTransformJob looks for an object, and names bucket, region and role in AWS's sentence."""
    name = f"empty-{source}"
    account.create_model(name)
    request = account.build_request(name)
    place = request["TransformInput"]["DataSource"]["S3DataSource"]
    bucket = account.bucket
    if source == "manifest":
        place["S3DataType"] = "ManifestFile"
    if source == "bucket":
        bucket = "absent-bucket"
        place["S3Uri"] = "s3://absent-bucket/in/"
    if source == "region":
        bucket = "input-in-ireland"
        ireland = account.client("s3", "eu-west-1")
        ireland.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
        ireland.put_object(Bucket=bucket, Key="in/a", Body=b"x")
        place["S3Uri"] = f"s3://{bucket}/in/"
    code, sentence = refused(account.sagemaker.create_transform_job, **request)
    assert code == INVALID
    assert sentence == (
        f'No S3 objects found under S3 URL "{place["S3Uri"]}" given in input data source. Please ensure that the '
        "bucket exists in the selected region (us-east-1), that objects exist under that S3 prefix, and that the role "
        f'"{account.emulator.role_arn}" has "s3:ListBucket" permissions on bucket "{bucket}".'
    )


def data_type(request: Any) -> None:
    """A kind of input that the API has for others."""
    request["TransformInput"]["DataSource"]["S3DataSource"]["S3DataType"] = "AugmentedManifestFile"


def https(request: Any) -> None:
    """An address that the model's pattern lets through."""
    request["TransformOutput"]["S3OutputPath"] = "https://bucket.s3.amazonaws.com/out"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda request: request.update(MaxPayloadInMB=101), "MaxPayloadInMB is 101; it must be from 0 to 100"),
        (
            lambda request: request.update(MaxPayloadInMB=26, MaxConcurrentTransforms=4),
            "MaxConcurrentTransforms * MaxPayloadInMB is 4 * 26 = 104; it cannot exceed 100 MB",
        ),
        (
            lambda request: request["TransformResources"].update(InstanceCount=101),
            "TransformResources.InstanceCount: InstanceCount is 101; it cannot exceed 100",
        ),
        (
            data_type,
            (
                "TransformInput.DataSource.S3DataSource.S3DataType: S3DataType is 'AugmentedManifestFile' (expected "
                "S3Prefix or ManifestFile)"
            ),
        ),
        (
            lambda request: request.update(Environment={f"A{number}": "" for number in range(17)}),
            "at 'environment' failed to satisfy constraint: Member must have length less than or equal to 16",
        ),
        (
            lambda request: request.update(DataProcessing={"JoinSource": "Input"}),
            (
                "DataProcessing: DataProcessing requires text/csv, application/json or application/jsonlines; "
                "ContentType is 'text/plain'"
            ),
        ),
        (https, "TransformOutput.S3OutputPath: S3OutputPath is 'https://bucket.s3.amazonaws.com/out' (expected s3://"),
        (
            lambda request: request["TransformInput"].update(SplitType="Lines"),
            (
                "Value 'Lines' at 'transformInput.splitType' failed to satisfy constraint: Member must satisfy enum "
                "value set: [None, Line, RecordIO, TFRecord]"
            ),
        ),
    ],
)
def test_documented_limits(account: Any, refused: Any, change: Any, sentence: str) -> None:
    """What the documentation says in words is held before anything is looked for."""
    request = account.build_request("limited")
    change(request)
    code, stated = refused(account.sagemaker.create_transform_job, **request)
    assert code == INVALID
    assert sentence in stated


def test_the_largest_job_that_is_allowed(account: Any) -> None:
    """100 MB in flight, 16 variables and 100 instances are within the limits."""
    variables = {f"A{number}": "" for number in range(16)}
    found = account.run_job(
        "largest",
        {"a": b"x"},
        MaxPayloadInMB=25,
        MaxConcurrentTransforms=4,
        Environment=variables,
        TransformResources={"InstanceType": "ml.m5.xlarge", "InstanceCount": 100},
    )
    assert found["TransformJobStatus"] == "Completed"
    assert account.keys("largest/out/") == ["a.out"]


def test_instances_have_an_account_limit_of_their_own(account: Any, refused: Any) -> None:
    """The limit counts what is under way, and nothing that has ended."""
    few = {"InstanceType": "ml.c5.xlarge", "InstanceCount": 2}
    assert account.run_job("first-of-c5", {"a": b"x"}, TransformResources=few)["TransformJobStatus"] == "Completed"
    account.put({"second-of-c5/in/a": b"x", "third-of-c5/in/a": b"x"})
    account.create_model("second-of-c5")
    account.create_model("third-of-c5")
    account.put({"second-of-c5/in/b": b"wait"})
    account.containers.gate.clear()
    try:
        account.sagemaker.create_transform_job(**account.build_request("second-of-c5", TransformResources=few))
        found = refused(
            account.sagemaker.create_transform_job, **account.build_request("third-of-c5", TransformResources=few)
        )
    finally:
        account.containers.gate.set()
    assert found == (
        "ResourceLimitExceeded",
        (
            "The account-level service limit 'ml.c5.xlarge for transform job usage' is 3 Instances, with current "
            "utilization of 2 Instances and a request delta of 2 Instances. Please contact AWS support to request an "
            "increase for this limit."
        ),
    )
    account.wait_for_end("second-of-c5")


def test_lists_are_filtered_sorted_and_paged(account: Any) -> None:
    """By name, status and time, one page after another."""
    for name in ("listed-b", "listed-a", "listed-c"):
        account.run_job(
            name, {"a": b"refuse" if name.endswith("c") else b"x"}, ModelClientConfig={"InvocationsMaxRetries": 0}
        )
    ask = account.sagemaker.list_transform_jobs

    def names(**request: Any) -> list[str]:
        return [job["TransformJobName"] for job in ask(NameContains="listed", **request)["TransformJobSummaries"]]

    assert names() == ["listed-c", "listed-a", "listed-b"]
    assert names(SortBy="Name", SortOrder="Ascending") == ["listed-a", "listed-b", "listed-c"]
    assert names(StatusEquals="Failed") == ["listed-c"]
    assert names(StatusEquals="InProgress") == []
    created = account.sagemaker.describe_transform_job(TransformJobName="listed-a")["CreationTime"]
    assert names(CreationTimeAfter=created) == ["listed-c", "listed-a"]
    assert names(CreationTimeBefore=created) == ["listed-b"]
    ended = account.sagemaker.describe_transform_job(TransformJobName="listed-a")["TransformEndTime"]
    assert names(LastModifiedTimeAfter=ended, CreationTimeBefore=ended) == ["listed-a"]
    assert names(LastModifiedTimeAfter=dt.datetime.now(dt.timezone.utc) + dt.timedelta(hours=1)) == []
    pages = account.sagemaker.get_paginator("list_transform_jobs").paginate(
        NameContains="listed", PaginationConfig={"PageSize": 2}
    )
    assert [len(page["TransformJobSummaries"]) for page in pages] == [2, 1]
    (failed,) = ask(NameContains="listed", StatusEquals="Failed")["TransformJobSummaries"]
    described = account.sagemaker.describe_transform_job(TransformJobName="listed-c")
    assert failed["FailureReason"] == described["FailureReason"]
    assert failed["TransformEndTime"] == failed["LastModifiedTime"] == described["TransformEndTime"]


def test_the_waiter_of_boto3(account: Any) -> None:
    """transform_job_completed_or_stopped ends well for Completed and Stopped, and raises for Failed."""
    account.run_job("waited", {"a": b"x"})
    waiter = account.sagemaker.get_waiter("transform_job_completed_or_stopped")
    waiter.wait(TransformJobName="waited", WaiterConfig={"Delay": 1, "MaxAttempts": 5})
    account.run_job("waited-in-vain", {"a": b"break"}, ModelClientConfig={"InvocationsMaxRetries": 0})
    with pytest.raises(WaiterError, match="Failed"):
        waiter.wait(TransformJobName="waited-in-vain", WaiterConfig={"Delay": 1, "MaxAttempts": 5})


def test_a_job_is_stopped(account: Any, refused: Any) -> None:
    """Stopping, then Stopped, with no output, although an object was done already; a second stop is refused."""
    account.put({"stopped/in/a": b"done", "stopped/in/b": b"wait"})
    account.create_model("stopped")
    account.containers.gate.clear()
    try:
        account.sagemaker.create_transform_job(**account.build_request("stopped", MaxConcurrentTransforms=2))
        for _ in range(1000):
            if account.keys("stopped/out/"):
                break
            threading.Event().wait(0.01)
        assert account.keys("stopped/out/") == ["a.out"]
        account.sagemaker.stop_transform_job(TransformJobName="stopped")
        status = account.sagemaker.describe_transform_job(TransformJobName="stopped")["TransformJobStatus"]
        assert status in ("Stopping", "Stopped")
    finally:
        account.containers.gate.set()
    found = account.wait_for_end("stopped")
    assert found["TransformJobStatus"] == "Stopped"
    assert found["TransformEndTime"] >= found["TransformStartTime"]
    assert "FailureReason" not in found
    assert account.keys("stopped/out/") == []
    code, sentence = refused(account.sagemaker.stop_transform_job, TransformJobName="stopped")
    assert (code, sentence) == (
        INVALID,
        "The request was rejected because the transform job is in status Stopped.",
    )
    account.sagemaker.get_waiter("transform_job_completed_or_stopped").wait(TransformJobName="stopped")


@pytest.mark.parametrize(("body", "status"), [(b"x", "Completed"), (b"refuse", "Failed")])
def test_a_job_that_has_ended_cannot_be_stopped(account: Any, refused: Any, body: bytes, status: str) -> None:
    """AWS says in which status it is, and the job stays in it."""
    name = f"ended-{status}"
    found = account.run_job(name, {"a": b"y", "b": body}, ModelClientConfig={"InvocationsMaxRetries": 0})
    assert refused(account.sagemaker.stop_transform_job, TransformJobName=name) == (
        INVALID,
        f"The request was rejected because the transform job is in status {status}.",
    )
    again = account.sagemaker.describe_transform_job(TransformJobName=name)
    assert again["TransformJobStatus"] == found["TransformJobStatus"] == status
    assert "a.out" in account.keys(f"{name}/out/")


def test_a_model_may_be_deleted_under_its_job(account: Any) -> None:
    """The job has a copy of what it needs."""
    account.put({"orphan/in/a": b"x"})
    account.create_model("orphan")
    account.sagemaker.create_transform_job(**account.build_request("orphan"))
    account.sagemaker.delete_model(ModelName="orphan")
    assert account.wait_for_end("orphan")["TransformJobStatus"] == "Completed"


def test_regions_are_separate(account: Any, refused: Any) -> None:
    """A job of one region is not found in another."""
    account.run_job("regional", {"a": b"x"})
    ireland = account.client("sagemaker", "eu-west-1")
    assert refused(ireland.describe_transform_job, TransformJobName="regional")[0] == INVALID
    assert json.dumps(ireland.list_transform_jobs()["TransformJobSummaries"]) == "[]"
