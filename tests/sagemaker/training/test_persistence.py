"""A state folder: what was trained, registered and under way when the emulator was killed is there after a restart."""

from __future__ import annotations

import io
import json
import os
import signal
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from tests.support.accounts import COUNTER_IMAGE, COUNTER_PROGRAM, is_program_running, pause_between_attempts
from tests.support.forked import Forked
from tritonforge.cli.main import main

pytestmark = pytest.mark.process

BUCKET = "sagemaker-us-east-1-123456789012"


def _emulate(state: Path) -> None:
    """Run `tritonforge emulate`."""
    sys.argv[0] = "tritonforge"
    main(
        [
            "emulate",
            "--port=0",
            "--state",
            str(state),
            "--speed=500",
            "--format=json",
            "--image",
            f"{COUNTER_IMAGE}={COUNTER_PROGRAM}",
        ]
    )


class Served(Forked):
    """`tritonforge emulate` in a process of its own, that can be killed."""

    def __init__(self, state: Path) -> None:
        super().__init__(_emulate, state)
        reported = json.loads(self.output.readline())
        self.url, self.role = reported["url"], reported["role"]
        self.sagemaker, self.s3 = self.client("sagemaker"), self.client("s3")

    def client(self, service: str) -> Any:
        """A client of it."""
        return boto3.client(
            service,
            region_name="us-east-1",
            endpoint_url=self.url,
            aws_access_key_id="testing",
            aws_secret_access_key="testing",
            config=Config(retries={"total_max_attempts": 1}),
        )

    def job(self, name: str, **changes: Any) -> None:
        """Create a job over data/ that keeps checkpoints."""
        self.s3.put_object(Bucket=BUCKET, Key="data/a", Body=b"one")
        source = {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/data/"}
        self.sagemaker.create_training_job(
            TrainingJobName=name,
            RoleArn=self.role,
            AlgorithmSpecification={"TrainingImage": COUNTER_IMAGE, "TrainingInputMode": "File"},
            InputDataConfig=[{"ChannelName": "train", "DataSource": {"S3DataSource": source}}],
            OutputDataConfig={"S3OutputPath": f"s3://{BUCKET}/out"},
            ResourceConfig={"InstanceType": "ml.m5.xlarge", "InstanceCount": 1, "VolumeSizeInGB": 1},
            StoppingCondition={"MaxRuntimeInSeconds": 600, "MaxWaitTimeInSeconds": 600},
            EnableManagedSpotTraining=True,
            CheckpointConfig={"S3Uri": f"s3://{BUCKET}/checkpoints/{name}"},
            **changes,
        )

    def ended(self, name: str) -> dict[str, Any]:
        """The job once nothing is under way."""
        for _ in pause_between_attempts():
            found = dict(self.sagemaker.describe_training_job(TrainingJobName=name))
            if found["TrainingJobStatus"] not in ("InProgress", "Stopping"):
                return found
        raise AssertionError(found["SecondaryStatus"])

    def until_checkpoint(self, name: str) -> None:
        """Wait for a checkpoint in S3."""
        for _ in pause_between_attempts():
            if self.s3.list_objects_v2(Bucket=BUCKET, Prefix=f"checkpoints/{name}/").get("KeyCount"):
                return
        raise AssertionError("no checkpoint")


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[[], Served]]:
    """Starts emulators over one state folder; none outlives the test, however that ends."""
    started: list[Served] = []

    def start() -> Served:
        started.append(Served(tmp_path / "state"))
        return started[-1]

    yield start
    for item in started:
        if item.running:
            item.end(signal.SIGTERM)


def test_a_spot_job_goes_on_from_its_checkpoint_after_kill_9(serve: Callable[[], Served]) -> None:
    """It was interrupted, starts again, and ends Completed with the epochs that were left; its program did not stay."""
    served = serve()
    job = f"killed-{os.getpid()}"
    served.job(job, HyperParameters={"epochs": "2", "seconds": "60", "once": "yes"})
    served.until_checkpoint(job)
    assert is_program_running(job)
    served.end()
    deadline = time.monotonic() + 10
    while is_program_running(job) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_program_running(job)
    served = serve()
    found = served.ended(job)
    assert found["TrainingJobStatus"] == "Completed", found
    history = [transition["Status"] for transition in found["SecondaryStatusTransitions"]]
    assert history[:4] == ["Starting", "Downloading", "Training", "Interrupted"]
    assert history[4:] == ["Starting", "Downloading", "Training", "Uploading", "Completed"]
    body = served.s3.get_object(Bucket=BUCKET, Key=f"out/{job}/output/model.tar.gz")["Body"].read()
    with tarfile.open(fileobj=io.BytesIO(body)) as archive:
        model = archive.extractfile("model.json")
        assert model is not None
        assert json.loads(model.read())["first"] == 1
    assert found["BillableTimeInSeconds"] <= found["TrainingTimeInSeconds"]


def test_a_validation_goes_on_after_kill_9(serve: Callable[[], Served]) -> None:
    """Its training job starts again under its name, and what comes after it is done."""
    served = serve()
    served.s3.put_object(Bucket=BUCKET, Key="data/a", Body=b"one")
    source = {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/data/"}
    types = {
        "SupportedTransformInstanceTypes": ["ml.m5.xlarge"],
        "SupportedRealtimeInferenceInstanceTypes": ["ml.m5.xlarge"],
    }
    profile = {
        "ProfileName": "profile",
        "TrainingJobDefinition": {
            "TrainingInputMode": "File",
            "HyperParameters": {"seconds": "2"},
            "InputDataConfig": [{"ChannelName": "train", "DataSource": {"S3DataSource": source}}],
            "OutputDataConfig": {"S3OutputPath": f"s3://{BUCKET}/validation"},
            "ResourceConfig": {"InstanceType": "ml.m5.xlarge", "InstanceCount": 1, "VolumeSizeInGB": 1},
            "StoppingCondition": {"MaxRuntimeInSeconds": 60},
        },
        "TransformJobDefinition": {
            "TransformInput": {"DataSource": {"S3DataSource": source}, "ContentType": "text/plain"},
            "TransformOutput": {"S3OutputPath": f"s3://{BUCKET}/validated"},
            "TransformResources": {"InstanceType": "ml.m5.xlarge", "InstanceCount": 1},
        },
    }
    served.sagemaker.create_algorithm(
        AlgorithmName="validated",
        TrainingSpecification={
            "TrainingImage": COUNTER_IMAGE,
            "SupportedTrainingInstanceTypes": ["ml.m5.xlarge"],
            "SupportedHyperParameters": [{"Name": "seconds", "Type": "FreeText"}],
            "TrainingChannels": [{"Name": "train", "SupportedContentTypes": ["a/b"], "SupportedInputModes": ["File"]}],
        },
        InferenceSpecification={
            "Containers": [{"Image": COUNTER_IMAGE}],
            "SupportedContentTypes": ["text/plain"],
            "SupportedResponseMIMETypes": ["application/json"],
            **types,
        },
        ValidationSpecification={"ValidationRole": served.role, "ValidationProfiles": [profile]},
    )
    for _ in pause_between_attempts():
        jobs = served.sagemaker.list_training_jobs()["TrainingJobSummaries"]
        if jobs and jobs[0]["SecondaryStatus"] == "Training":
            break
    served.end()
    served = serve()
    for _ in pause_between_attempts(120):
        found = served.sagemaker.describe_algorithm(AlgorithmName="validated")
        if found["AlgorithmStatus"] not in ("Pending", "InProgress"):
            break
    assert found["AlgorithmStatus"] == "Completed", found["AlgorithmStatusDetails"]
    (job,) = served.sagemaker.list_training_jobs()["TrainingJobSummaries"]
    assert job["TrainingJobName"] == jobs[0]["TrainingJobName"]
    assert served.s3.get_object(Bucket=BUCKET, Key="validated/a.out")["Body"].read()


def test_what_was_there_is_there_again(serve: Callable[[], Served]) -> None:
    """Jobs, algorithms, packages, groups, their tags and statuses; and a job that was being stopped is Stopped."""
    served = serve()
    served.job("done")
    assert served.ended("done")["TrainingJobStatus"] == "Completed"
    sagemaker = served.sagemaker
    specification = {
        "Containers": [{"Image": COUNTER_IMAGE, "ModelDataUrl": f"s3://{BUCKET}/out/done/output/model.tar.gz"}],
        "SupportedContentTypes": ["text/plain"],
        "SupportedResponseMIMETypes": ["application/json"],
    }
    sagemaker.create_model_package_group(ModelPackageGroupName="group", Tags=[{"Key": "k", "Value": "v"}])
    arn = sagemaker.create_model_package(ModelPackageGroupName="group", InferenceSpecification=specification)[
        "ModelPackageArn"
    ]
    sagemaker.update_model_package(ModelPackageArn=arn, ModelApprovalStatus="Approved")
    sagemaker.create_algorithm(
        AlgorithmName="algorithm",
        TrainingSpecification={
            "TrainingImage": COUNTER_IMAGE,
            "SupportedTrainingInstanceTypes": ["ml.m5.xlarge"],
            "TrainingChannels": [{"Name": "train", "SupportedContentTypes": ["a/b"], "SupportedInputModes": ["File"]}],
        },
    )
    # More epochs than a checkpoint may say are done when the signal comes.
    served.job("stopping", HyperParameters={"seconds": "60", "epochs": "9"})
    served.end(signal.SIGTERM)  # the job itself continues after the restart
    served = serve()
    sagemaker = served.sagemaker
    assert served.ended("done")["SecondaryStatusTransitions"][-1]["Status"] == "Completed"
    found = sagemaker.describe_model_package(ModelPackageName=arn)
    assert (found["ModelApprovalStatus"], found["ModelPackageVersion"]) == ("Approved", 1)
    group = sagemaker.describe_model_package_group(ModelPackageGroupName="group")["ModelPackageGroupArn"]
    assert sagemaker.list_tags(ResourceArn=group)["Tags"] == [{"Key": "k", "Value": "v"}]
    for _ in pause_between_attempts():
        status = sagemaker.describe_algorithm(AlgorithmName="algorithm")["AlgorithmStatus"]
        if status == "Completed":
            break
    assert status == "Completed"
    assert sagemaker.describe_training_job(TrainingJobName="stopping")["TrainingJobStatus"] == "InProgress"
    sagemaker.stop_training_job(TrainingJobName="stopping")
    assert served.ended("stopping")["TrainingJobStatus"] == "Stopped"
