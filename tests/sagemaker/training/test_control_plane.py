"""CreateTrainingJob, DescribeTrainingJob, ListTrainingJobs, StopTrainingJob, DeleteTrainingJob and tags, by boto3."""

from __future__ import annotations

import datetime as dt
import itertools
from typing import Any

import pytest
from botocore.exceptions import WaiterError

from tests.support.accounts import COUNTER_IMAGE
from tests.support.documents import includes
from tritonforge.training.job import Outcome

pytestmark = pytest.mark.process

PREFIX = "arn:aws:sagemaker:us-east-1:123456789012"
INVALID = "ValidationException"


def test_every_member_of_the_request_comes_back(fake_account: Any) -> None:
    """Describe gives what Create was given, the status and its history, times, metrics and the model's address."""
    request = fake_account.build_request("Described")
    request["AlgorithmSpecification"]["MetricDefinitions"] = [{"Name": "loss", "Regex": "loss=([0-9.]+)"}]
    request |= {
        "HyperParameters": {"epochs": "2"},
        "Environment": {"A": "1"},
        "EnableNetworkIsolation": True,
        "EnableManagedSpotTraining": True,
        "StoppingCondition": {"MaxRuntimeInSeconds": 60, "MaxWaitTimeInSeconds": 90},
        "CheckpointConfig": {"S3Uri": f"s3://{fake_account.bucket}/checkpoints"},
        "RetryStrategy": {"MaximumRetryAttempts": 2},
        "Tags": [{"Key": "k", "Value": "v"}],
    }
    arn = fake_account.sagemaker.create_training_job(**request)["TrainingJobArn"]
    assert arn == f"{PREFIX}:training-job/described"
    found = fake_account.wait_for_end("Described")
    tags = request.pop("Tags")
    reported = found["AlgorithmSpecification"]
    assert reported.pop("EnableSageMakerMetricsTimeSeries") is True
    assert includes(found, request)
    assert (found["TrainingJobStatus"], found["SecondaryStatus"]) == ("Completed", "Completed")
    assert found["ModelArtifacts"] == {
        "S3ModelArtifacts": f"s3://{fake_account.bucket}/out/Described/output/model.tar.gz"
    }
    (metric,) = found["FinalMetricDataList"]
    assert (metric["MetricName"], metric["Value"]) == ("loss", 0.5)
    assert found["TrainingTimeInSeconds"] == found["BillableTimeInSeconds"] == 1  # whole seconds, one at least
    assert found["CreationTime"] <= found["TrainingStartTime"] <= found["TrainingEndTime"] == found["LastModifiedTime"]
    assert abs((dt.datetime.now(dt.timezone.utc) - found["TrainingEndTime"]).total_seconds()) < 60
    assert "FailureReason" not in found
    history = found["SecondaryStatusTransitions"]
    assert [item["Status"] for item in history] == ["Starting", "Downloading", "Training", "Uploading", "Completed"]
    assert history[2]["StatusMessage"] == "Training image download completed. Training in progress."
    assert all(one["EndTime"] == other["StartTime"] for one, other in itertools.pairwise(history))
    assert fake_account.sagemaker.list_tags(ResourceArn=arn)["Tags"] == tags
    fake_account.sagemaker.add_tags(ResourceArn=arn, Tags=[{"Key": "more", "Value": "w"}])
    fake_account.sagemaker.delete_tags(ResourceArn=arn, TagKeys=["k"])
    assert fake_account.sagemaker.list_tags(ResourceArn=arn)["Tags"] == [{"Key": "more", "Value": "w"}]


def test_what_is_left_out_has_aws_s_defaults(fake_account: Any) -> None:
    """The stopping condition is one day; the switches are off."""
    request = fake_account.build_request("little")
    del request["StoppingCondition"]
    fake_account.sagemaker.create_training_job(**request)
    found = fake_account.wait_for_end("little")
    assert found["StoppingCondition"] == {"MaxRuntimeInSeconds": 86400}
    for name in ("EnableNetworkIsolation", "EnableInterContainerTrafficEncryption", "EnableManagedSpotTraining"):
        assert found[name] is False
    assert found["AlgorithmSpecification"]["EnableSageMakerMetricsTimeSeries"] is False
    assert "FinalMetricDataList" not in found


def test_a_name_is_taken_until_the_job_is_deleted(fake_account: Any, refused: Any) -> None:
    """AWS's sentence, in whatever case the name is; DeleteTrainingJob makes it free."""
    fake_account.run_job("taken")
    code, sentence = refused(fake_account.sagemaker.create_training_job, **fake_account.build_request("Taken"))
    assert code == "ResourceInUse"
    assert sentence == (
        "Training job names must be unique within an AWS account and region, and a training job with this name already "
        f"exists ({PREFIX}:training-job/taken)"
    )
    fake_account.sagemaker.delete_training_job(TrainingJobName="taken")
    assert fake_account.run_job("taken")["TrainingJobStatus"] == "Completed"


def test_jobs_that_are_not_there(fake_account: Any, refused: Any) -> None:
    """AWS's sentence for jobs names nothing."""
    for call in ("describe_training_job", "stop_training_job", "delete_training_job"):
        assert refused(getattr(fake_account.sagemaker, call), TrainingJobName="absent") == (
            INVALID,
            "Requested resource not found.",
        )


def test_stop_and_its_waiter(fake_account: Any, trainer: Any, refused: Any) -> None:
    """Stopping, then Stopped, with the model that there was; once only; boto3's waiter takes it for a success."""
    trainer.gate.clear()
    fake_account.sagemaker.create_training_job(**fake_account.build_request("stopped"))
    fake_account.wait_for_job("stopped", lambda found: found["SecondaryStatus"] == "Training")
    code, sentence = refused(fake_account.sagemaker.delete_training_job, TrainingJobName="stopped")
    assert (code, sentence.endswith("is InProgress; stop it first.")) == ("ResourceInUse", True)
    fake_account.sagemaker.stop_training_job(TrainingJobName="stopped")
    fake_account.sagemaker.get_waiter("training_job_completed_or_stopped").wait(
        TrainingJobName="stopped", WaiterConfig={"Delay": 0, "MaxAttempts": 1000}
    )
    trainer.gate.set()
    found = fake_account.wait_for_end("stopped")
    assert (found["TrainingJobStatus"], found["SecondaryStatus"]) == ("Stopped", "Stopped")
    assert [transition["Status"] for transition in found["SecondaryStatusTransitions"]][-2:] == ["Stopping", "Stopped"]
    assert fake_account.keys("out/stopped/") == ["output/model.tar.gz"]
    code, sentence = refused(fake_account.sagemaker.stop_training_job, TrainingJobName="stopped")
    assert (code, sentence) == (INVALID, "The request was rejected because the training job is in status Stopped.")


def test_time_that_is_over_and_failures(fake_account: Any, trainer: Any) -> None:
    """MaxRuntimeExceeded, the failure file's text with the exit code, a data failure, and the waiter's verdict."""
    ends = {
        "over": Outcome(state="Stopped", stop_reason="MaxRuntimeExceeded", exit_code=0),
        "wrong": Outcome(state="Failed", failure="epochs is not a number", exit_code=1),
        "killed": Outcome(state="Failed", failure="", exit_code=-9),
        "long": Outcome(state="Failed", failure="x" * 1024, exit_code=1),
        "dataless": Outcome(state="Failed", failure="ClientError: line 3 has no source-ref"),
    }
    trainer.ends = lambda job: ends.get(job.name)
    found = {name: fake_account.run_job(name) for name in ends}
    trainer.ends = lambda job: None
    assert (found["over"]["TrainingJobStatus"], found["over"]["SecondaryStatus"]) == ("Stopped", "MaxRuntimeExceeded")
    assert "FailureReason" not in found["over"]
    reasons = {name: item["FailureReason"] for name, item in found.items() if item["TrainingJobStatus"] == "Failed"}
    assert reasons["wrong"] == "AlgorithmError: epochs is not a number, exit code: 1"
    assert reasons["killed"] == "AlgorithmError: , exit code: 137"
    assert len(reasons["long"]) == 1024
    assert reasons["long"].endswith("x, exit code: 1")
    assert reasons["dataless"] == "ClientError: line 3 has no source-ref"
    with pytest.raises(WaiterError):
        fake_account.sagemaker.get_waiter("training_job_completed_or_stopped").wait(TrainingJobName="wrong")


def test_whatever_a_stopping_job_does_it_is_stopped(fake_account: Any, trainer: Any) -> None:
    """A program that ends with an error when it hears SIGTERM has not failed."""
    trainer.gate.clear()
    trainer.ends = lambda job: Outcome(state="Failed", failure="interrupted", exit_code=1)
    fake_account.sagemaker.create_training_job(**fake_account.build_request("stubborn"))
    fake_account.wait_for_job("stubborn", lambda found: found["SecondaryStatus"] == "Training")
    fake_account.sagemaker.stop_training_job(TrainingJobName="stubborn")
    found = fake_account.wait_for_end("stubborn")
    trainer.ends = lambda job: None
    trainer.gate.set()
    assert (found["TrainingJobStatus"], "FailureReason" in found) == ("Stopped", False)


def test_what_goes_wrong_in_the_emulator_itself(fake_account: Any, trainer: Any) -> None:

    def broken(job: Any) -> None:
        raise RuntimeError("a bug")

    trainer.ends = broken
    found = fake_account.run_job("unlucky")
    trainer.ends = lambda job: None
    assert found["FailureReason"].startswith("InternalServerError: We encountered an internal error.")
    assert "training job unlucky: RuntimeError: a bug" in fake_account.sentences


def test_lists_are_filtered_sorted_and_paged(fake_account: Any) -> None:
    """By name, status and time, in pages; oldest first unless asked otherwise."""
    for number in range(5):
        fake_account.run_job(f"listed-{number}")
    pages = fake_account.sagemaker.get_paginator("list_training_jobs").paginate(
        NameContains="LISTED", PaginationConfig={"PageSize": 2}
    )
    names = [[item["TrainingJobName"] for item in page["TrainingJobSummaries"]] for page in pages]
    assert names == [["listed-0", "listed-1"], ["listed-2", "listed-3"], ["listed-4"]]
    found = fake_account.sagemaker.list_training_jobs(
        NameContains="listed", StatusEquals="Completed", SortBy="Name", SortOrder="Descending", MaxResults=1
    )
    (summary,) = found["TrainingJobSummaries"]
    assert summary["TrainingJobName"] == "listed-4"
    assert summary["TrainingJobArn"] == f"{PREFIX}:training-job/listed-4"
    assert {"CreationTime", "TrainingEndTime", "LastModifiedTime", "TrainingJobStatus"} <= summary.keys()
    assert (
        fake_account.sagemaker.list_training_jobs(StatusEquals="Failed", NameContains="listed")["TrainingJobSummaries"]
        == []
    )


def changed(request: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A request with members replaced; None takes one out."""
    return {name: value for name, value in {**request, **changes}.items() if value is not None}


def test_what_aws_refuses_is_refused(fake_account: Any, refused: Any) -> None:
    """Patterns and enumerations of the service model, rules of its documentation, roles, inputs, images."""

    def refusal(**changes: Any) -> str:
        code, sentence = refused(
            fake_account.sagemaker.create_training_job, **changed(fake_account.build_request("refused"), **changes)
        )
        assert code == INVALID
        return str(sentence)

    manifest = fake_account.build_channel("data/a", kind="AugmentedManifestFile", attributes=["source-ref"])
    assert "Member must satisfy enum value set" in refusal(
        ResourceConfig={"InstanceType": "ml.none", "InstanceCount": 1, "VolumeSizeInGB": 1}
    )
    assert "needs InputMode Pipe" in refusal(InputDataConfig=[manifest])
    assert refusal(InputDataConfig=[fake_account.build_channel("nothing/")]).startswith(
        f'No S3 objects found under S3 URL "s3://{fake_account.bucket}/nothing/" given in input data source.'
    )
    assert refusal(RoleArn="arn:aws:iam::123456789012:role/absent").startswith("Could not assume role")
    unknown = {"TrainingImage": f"{COUNTER_IMAGE}0", "TrainingInputMode": "File"}
    sentence = refusal(AlgorithmSpecification=unknown)
    assert sentence.startswith(f"Requested image {COUNTER_IMAGE}0 not found.")
    assert "--image URI=FOLDER" in sentence
    both = {"TrainingImage": COUNTER_IMAGE, "AlgorithmName": "a", "TrainingInputMode": "File"}
    assert "either TrainingImage or AlgorithmName" in refusal(AlgorithmSpecification=both)
    named = {"AlgorithmName": "absent", "TrainingInputMode": "File"}
    assert refusal(AlgorithmSpecification=named) == f"Algorithm {PREFIX}:algorithm/absent does not exist."
    assert "the job requests 2 instances, and this machine is one" in refusal(
        ResourceConfig={"InstanceType": "ml.m5.xlarge", "InstanceCount": 2, "VolumeSizeInGB": 1}
    )
    shared = {"FileSystemId": "fs-12345678901", "FileSystemAccessMode": "ro", "FileSystemType": "EFS"}
    source = {"FileSystemDataSource": {**shared, "DirectoryPath": "/d"}}
    assert "only S3DataSource can be read on this machine" in refusal(
        InputDataConfig=[{"ChannelName": "train", "DataSource": source}]
    )
    assert "no warm pools" in refused(fake_account.sagemaker.list_training_jobs, WarmPoolStatusEquals="InUse")[1]


def test_the_account_s_limits(fake_account: Any, trainer: Any, refused: Any) -> None:
    """Instances of a type are counted over the jobs under way; spot has a count of its own."""
    resources = {"InstanceType": "ml.c5.xlarge", "InstanceCount": 1, "VolumeSizeInGB": 1}
    trainer.gate.clear()
    fake_account.sagemaker.create_training_job(**fake_account.build_request("first", ResourceConfig=resources))
    code, sentence = refused(
        fake_account.sagemaker.create_training_job, **fake_account.build_request("second", ResourceConfig=resources)
    )
    assert code == "ResourceLimitExceeded"
    assert "'ml.c5.xlarge for training job usage' is 1 Instances, with current utilization of 1" in sentence
    spot = fake_account.build_request(
        "third",
        ResourceConfig=resources,
        EnableManagedSpotTraining=True,
        StoppingCondition={"MaxRuntimeInSeconds": 5, "MaxWaitTimeInSeconds": 5},
    )
    fake_account.sagemaker.create_training_job(**spot)
    trainer.gate.set()
    assert (
        fake_account.wait_for_end("first")["TrainingJobStatus"]
        == fake_account.wait_for_end("third")["TrainingJobStatus"]
        == "Completed"
    )


def test_metrics_reach_cloudwatch(fake_account: Any) -> None:
    """In SageMaker's namespace, by the job's name."""
    request = fake_account.build_request("measured")
    request["AlgorithmSpecification"]["MetricDefinitions"] = [{"Name": "m", "Regex": "m=([0-9.]+)"}]
    fake_account.sagemaker.create_training_job(**request)
    fake_account.wait_for_end("measured")
    now = dt.datetime.now(dt.timezone.utc)
    found = fake_account.client("cloudwatch").get_metric_statistics(
        Namespace="/aws/sagemaker/TrainingJobs",
        MetricName="m",
        Dimensions=[{"Name": "TrainingJobName", "Value": "measured"}],
        StartTime=now - dt.timedelta(minutes=5),
        EndTime=now + dt.timedelta(minutes=5),
        Period=600,
        Statistics=["Average"],
    )
    assert [datapoint["Average"] for datapoint in found["Datapoints"]] == [0.5]
