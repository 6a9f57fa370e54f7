"""An emulator that trains and serves a program folder of these tests, and short ways to its jobs."""

from __future__ import annotations

import io
import json
import os
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from tests.sagemaker.transform.conftest import checked
from tests.support.fakes import FakeContainers, FakeTrainer
from tritonforge.emulator import Emulator

PROGRAM = Path(__file__).with_name("counter")
IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/counter:1"
GROUP = "/aws/sagemaker/TrainingJobs"
SPEED = 500.0


def looks(seconds: float = 60) -> Iterator[None]:
    """Times to look whether something has come about: often at first, as a look costs what the waited-for needs too."""
    deadline, pause = time.monotonic() + seconds, 0.02
    while time.monotonic() < deadline:
        yield
        time.sleep(pause)
        pause = min(0.25, 1.3 * pause)


class Account:
    """The emulator, its clients, and jobs with the fields that every job has."""

    def __init__(self, emulator: Emulator, sentences: list[str]) -> None:
        self.emulator = emulator
        self.sentences = sentences
        self.sagemaker = self.client("sagemaker")
        self.runtime = self.client("sagemaker-runtime")
        self.s3 = self.client("s3")
        self.bucket = emulator.bucket
        self.put({"data/a": b"one", "data/b": b"two"})

    def client(self, service: str) -> Any:
        """A boto3 client as any program makes one."""
        made = boto3.client(service)
        if service == "sagemaker":
            made.meta.events.register("after-call.sagemaker", checked)
        return made

    def put(self, objects: Mapping[str, bytes]) -> None:
        """Write objects by key."""
        for key, body in objects.items():
            self.s3.put_object(Bucket=self.bucket, Key=key, Body=body)

    def get(self, key: str) -> bytes:
        """Read an object."""
        return bytes(self.s3.get_object(Bucket=self.bucket, Key=key)["Body"].read())

    def keys(self, prefix: str) -> list[str]:
        """The keys below a prefix, without it."""
        found = self.s3.list_objects_v2(Bucket=self.bucket, Prefix=prefix).get("Contents", ())
        return [item["Key"].removeprefix(prefix) for item in found]

    def archived(self, key: str, member: str) -> bytes:
        """A file in a .tar.gz."""
        with tarfile.open(fileobj=io.BytesIO(self.get(key))) as archive:
            content = archive.extractfile(member)
            assert content is not None
            return content.read()

    def model(self, job: str) -> dict[str, Any]:
        """What the program of a job wrote as its model."""
        return dict(json.loads(self.archived(f"out/{job}/output/model.tar.gz", "model.json")))

    def channel(self, prefix: str, *, kind: str = "S3Prefix", name: str = "train", **changes: Any) -> dict[str, Any]:
        """A channel over a prefix or a manifest of the bucket; ``attributes`` are AttributeNames."""
        source = {"S3DataType": kind, "S3Uri": f"s3://{self.bucket}/{prefix}"}
        if "attributes" in changes:
            source["AttributeNames"] = changes.pop("attributes")
        return {"ChannelName": name, "DataSource": {"S3DataSource": source}, **changes}

    def request(self, name: str, *, mode: str = "File", **changes: Any) -> dict[str, Any]:
        """A request for a job over data/, to out/."""
        return {
            "TrainingJobName": name,
            "RoleArn": self.emulator.role_arn,
            "AlgorithmSpecification": {"TrainingImage": IMAGE, "TrainingInputMode": mode},
            "InputDataConfig": [self.channel("data/")],
            "OutputDataConfig": {"S3OutputPath": f"s3://{self.bucket}/out"},
            "ResourceConfig": {"InstanceType": "ml.m5.xlarge", "InstanceCount": 1, "VolumeSizeInGB": 10},
            "StoppingCondition": {"MaxRuntimeInSeconds": 600},
            **changes,
        }

    def job(self, name: str, **changes: Any) -> dict[str, Any]:
        """Create a job, and wait for its end."""
        self.sagemaker.create_training_job(**self.request(name, **changes))
        return self.ended(name)

    def ended(self, name: str, seconds: float = 120) -> dict[str, Any]:
        """The job once nothing is under way."""
        ends = ("Completed", "Failed", "Stopped")
        return self.until(name, lambda found: found["TrainingJobStatus"] in ends, seconds)

    def until(self, name: str, reached: Callable[[dict[str, Any]], bool], seconds: float = 120) -> dict[str, Any]:
        """The job once something is so."""
        for _ in looks(seconds):
            found = dict(self.sagemaker.describe_training_job(TrainingJobName=name))
            if reached(found):
                return found
        raise AssertionError(f"{name} stays {found['TrainingJobStatus']}, {found['SecondaryStatus']}")

    def settled(self, describe: Callable[[], Any], status: str) -> dict[str, Any]:
        """What is described, once its status is an end."""
        for _ in looks(240):
            found = dict(describe())
            if found[status] in ("Completed", "Failed", "InService"):
                return found
        raise AssertionError(f"it stays {found[status]}")

    def lines(self, job: str) -> dict[str, list[str]]:
        """The log of a job, by stream."""
        self.emulator.flush()
        logs = self.client("logs")
        streams = logs.describe_log_streams(logGroupName=GROUP, logStreamNamePrefix=f"{job}/")["logStreams"]
        return {
            stream["logStreamName"]: [
                event["message"]
                for event in logs.get_log_events(
                    logGroupName=GROUP, logStreamName=stream["logStreamName"], startFromHead=True
                )["events"]
            ]
            for stream in streams
        }


def served(**settings: Any) -> Iterator[Account]:
    """An account over an emulator; boto3 finds it by the environment."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        sentences: list[str] = []
        images = {IMAGE: PROGRAM, **settings.pop("images", {})}
        with Emulator(speed=SPEED, images=images, log=sentences.append, **settings) as emulator:
            for name, value in emulator.environment.items():
                patch.setenv(name, value)
            yield Account(emulator, sentences)


@pytest.fixture(scope="module")
def account() -> Iterator[Account]:
    """An emulator that runs real programs, one for a file's tests: every test uses names of its own."""
    yield from served()


@pytest.fixture(scope="module")
def trainer() -> FakeTrainer:
    """What is in for the engine in `fake_account`."""
    return FakeTrainer()


@pytest.fixture(scope="module")
def fake_account(trainer: FakeTrainer) -> Iterator[Account]:
    """An emulator whose jobs and containers run nothing."""
    yield from served(containers=FakeContainers(), trainer=trainer, limits={"ml.c5.xlarge": 1})


@pytest.fixture(scope="session")
def refused() -> Callable[..., tuple[str, str]]:
    """The code and the sentence of an error."""

    def refusal(call: Callable[..., Any], **arguments: Any) -> tuple[str, str]:
        with pytest.raises(ClientError) as caught:
            call(**arguments)
        error = caught.value.response["Error"]
        return error["Code"], error["Message"]

    return refusal
