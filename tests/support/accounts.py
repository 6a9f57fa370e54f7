"""Emulated AWS accounts: an emulator, boto3 clients whose answers are checked, and short ways to jobs and endpoints.

`Account` holds what every test needs; a subclass adds one kind of work. `open_account` starts the emulator.
"""

from __future__ import annotations

import io
import json
import os
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import boto3
import pytest
from botocore.exceptions import ClientError

from tests.support.checkout import ROOT
from tritonforge.emulator import Emulator
from tritonforge.sagemaker import service_model

#: AWS's image of tritonserver.
TRITON_IMAGE = "763104351884.dkr.ecr.us-east-1.amazonaws.com/sagemaker-tritonserver:24.09-py3"
#: An image whose program trains and serves: it counts the samples that it gets.
COUNTER_IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/counter:1"
COUNTER_PROGRAM = ROOT / "tests" / "sagemaker" / "training" / "counter"

ENDED = ("Completed", "Failed", "Stopped")


def pause_between_attempts(seconds: float = 60) -> Iterator[None]:
    """Yield until the time is over: often at first, as an attempt takes computing time from what is waited for."""
    deadline, pause = time.monotonic() + seconds, 0.01
    while time.monotonic() < deadline:
        yield
        time.sleep(pause)
        pause = min(0.25, 1.3 * pause)


def check_answer(parsed: Any, model: Any, http_response: Any, **_: Any) -> None:
    """Compare an answer, as it was sent, with the output of the service model: no member is wrong or unknown."""
    if http_response.status_code < 300 and model.output_shape is not None:
        violations = service_model.check_shape(model.output_shape, json.loads(http_response.content or b"{}"))
        assert not violations, f"{model.name}: {service_model.describe_violations(violations)}"


class Account:
    """The emulator, the sentences of its log, and its clients."""

    def __init__(self, emulator: Emulator, sentences: list[str], containers: Any = None) -> None:
        self.emulator = emulator
        self.sentences = sentences
        self.containers = containers
        self.sagemaker = self.client("sagemaker")
        self.runtime = self.client("sagemaker-runtime")
        self.s3 = self.client("s3")
        self.bucket = emulator.bucket
        self.put(self.initial_objects())

    def initial_objects(self) -> Mapping[str, bytes]:
        """Return the objects of the bucket by key."""
        return {}

    def client(self, service: str, region: str | None = None) -> Any:
        """Return a boto3 client as any program creates one: everything comes from the environment."""
        client = boto3.client(service, region_name=region)
        if service == "sagemaker":
            client.meta.events.register("after-call.sagemaker", check_answer)
        return client

    def put(self, objects: Mapping[str, bytes]) -> None:
        """Write objects by key."""
        for key, body in objects.items():
            self.s3.put_object(Bucket=self.bucket, Key=key, Body=body)

    def get(self, key: str) -> bytes:
        """Read an object."""
        return bytes(self.s3.get_object(Bucket=self.bucket, Key=key)["Body"].read())

    def keys(self, prefix: str) -> list[str]:
        """Return the keys below a prefix, without it."""
        entries = self.s3.list_objects_v2(Bucket=self.bucket, Prefix=prefix).get("Contents", ())
        return [entry["Key"].removeprefix(prefix) for entry in entries]

    def read_logs(self, group: str, job: str) -> dict[str, list[str]]:
        """Return the log of a job, by stream."""
        self.emulator.flush()
        logs = self.client("logs")
        streams = logs.describe_log_streams(logGroupName=group, logStreamNamePrefix=f"{job}/")["logStreams"]
        return {
            stream["logStreamName"]: [
                event["message"]
                for event in logs.get_log_events(
                    logGroupName=group, logStreamName=stream["logStreamName"], startFromHead=True
                )["events"]
            ]
            for stream in streams
        }

    def wait_for(
        self, describe: Callable[[], Any], holds: Callable[[dict[str, Any]], bool], seconds: float = 120
    ) -> dict[str, Any]:
        """Describe a resource again and again until something holds for it."""
        for _ in pause_between_attempts(seconds):
            description = dict(describe())
            if holds(description):
                return description
        raise AssertionError(f"nothing changes any more: {description}")

    def wait_for_status(
        self, describe: Callable[[], Any], member: str, statuses: Sequence[str] = (*ENDED, "InService")
    ) -> dict[str, Any]:
        """Describe a resource again and again until its status is one of these."""
        return self.wait_for(describe, lambda description: description[member] in statuses, 240)


class EndpointAccount(Account):
    """Short ways to models, configurations and endpoints."""

    def initial_objects(self) -> Mapping[str, bytes]:
        """Return a model."""
        return {"models/model.tar.gz": b"an archive"}

    @property
    def data(self) -> str:
        """The address of the model."""
        return f"s3://{self.bucket}/models/model.tar.gz"

    def create_model(self, name: str, **environment: str) -> str:
        """Create a model."""
        container = {"Image": TRITON_IMAGE, "ModelDataUrl": self.data, "Environment": environment}
        answer = self.sagemaker.create_model(
            ModelName=name, ExecutionRoleArn=self.emulator.role_arn, PrimaryContainer=container
        )
        return str(answer["ModelArn"])

    def create_config(self, name: str, *models: str, instances: int = 1, **more: Any) -> str:
        """Create a configuration with a variant for each model, named after it."""
        variants = [
            {
                "VariantName": model,
                "ModelName": model,
                "InitialInstanceCount": instances,
                "InstanceType": "ml.m5.xlarge",
            }
            for model in models
        ]
        answer = self.sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=variants, **more)
        return str(answer["EndpointConfigArn"])

    def create_endpoint(self, name: str, config: str, **more: Any) -> dict[str, Any]:
        """Create an endpoint and wait until its creation has ended."""
        self.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=config, **more)
        return self.wait_for_endpoint(name)

    def wait_for_endpoint(self, name: str) -> dict[str, Any]:
        """Wait until no change of an endpoint is in progress."""
        return self.wait_for_status(
            lambda: self.sagemaker.describe_endpoint(EndpointName=name),
            "EndpointStatus",
            ("InService", "Failed", "UpdateRollbackFailed"),
        )

    def remove_endpoint(self, name: str) -> None:
        """Delete an endpoint and wait until it does not exist."""
        self.sagemaker.delete_endpoint(EndpointName=name)
        for _ in pause_between_attempts():
            with suppress(ClientError):
                self.sagemaker.describe_endpoint(EndpointName=name)
                continue
            return
        raise AssertionError(f"{name} is not deleted")


class TransformAccount(Account):
    """Short ways to models and transform jobs."""

    def initial_objects(self) -> Mapping[str, bytes]:
        """Return a model."""
        return {"models/model.tar.gz": b"an archive"}

    def create_model(
        self, name: str, *, image: str = TRITON_IMAGE, data: str = "models/model.tar.gz", **environment: str
    ) -> str:
        """Create a model and return its name."""
        container = {"Image": image, "ModelDataUrl": f"s3://{self.bucket}/{data}", "Environment": environment}
        self.sagemaker.create_model(ModelName=name, ExecutionRoleArn=self.emulator.role_arn, PrimaryContainer=container)
        return name

    def build_request(self, name: str, **changes: Any) -> dict[str, Any]:
        """Return a request for a job NAME of model NAME, from NAME/in/ to NAME/out."""
        source = {"S3DataType": "S3Prefix", "S3Uri": f"s3://{self.bucket}/{name}/in/"}
        return {
            "TransformJobName": name,
            "ModelName": name,
            "TransformInput": {"DataSource": {"S3DataSource": source}, "ContentType": "text/plain"},
            "TransformOutput": {"S3OutputPath": f"s3://{self.bucket}/{name}/out"},
            "TransformResources": {"InstanceType": "ml.m5.xlarge", "InstanceCount": 1},
            **changes,
        }

    def run_job(
        self, name: str, objects: Mapping[str, bytes], /, *, environment: Any = None, **changes: Any
    ) -> dict[str, Any]:
        """Put objects, create the model and the job, and wait for its end."""
        self.put({f"{name}/in/{key}": body for key, body in objects.items()})
        self.create_model(name, **(environment or {}))
        self.sagemaker.create_transform_job(**self.build_request(name, **changes))
        return self.wait_for_end(name)

    def wait_for_end(self, name: str) -> dict[str, Any]:
        """Wait for the end of a job."""
        return self.wait_for_job(name, *ENDED)

    def wait_for_job(self, name: str, *statuses: str) -> dict[str, Any]:
        """Wait until a job has one of the statuses."""
        return self.wait_for_status(
            lambda: self.sagemaker.describe_transform_job(TransformJobName=name), "TransformJobStatus", statuses
        )

    def read_log(self, job: str) -> dict[str, list[str]]:
        """Return the log of a job, by stream."""
        return self.read_logs("/aws/sagemaker/TransformJobs", job)

    def read_data_log(self, job: str) -> list[str]:
        """Return the lines of all data-logs of a job."""
        return [line for name, lines in self.read_log(job).items() if name.endswith("/data-log") for line in lines]


class TrainingAccount(Account):
    """Short ways to training jobs of the counter."""

    def initial_objects(self) -> Mapping[str, bytes]:
        """Return two samples."""
        return {"data/a": b"one", "data/b": b"two"}

    def read_member(self, key: str, member: str) -> bytes:
        """Read a file of a .tar.gz in the bucket."""
        with tarfile.open(fileobj=io.BytesIO(self.get(key))) as archive:
            content = archive.extractfile(member)
            assert content is not None
            return content.read()

    def read_model(self, job: str) -> dict[str, Any]:
        """Return what the program of a job wrote as its model."""
        return dict(json.loads(self.read_member(f"out/{job}/output/model.tar.gz", "model.json")))

    def build_channel(
        self, prefix: str, *, kind: str = "S3Prefix", name: str = "train", **changes: Any
    ) -> dict[str, Any]:
        """Return a channel over a prefix or a manifest of the bucket; ``attributes`` are AttributeNames."""
        source = {"S3DataType": kind, "S3Uri": f"s3://{self.bucket}/{prefix}"}
        if "attributes" in changes:
            source["AttributeNames"] = changes.pop("attributes")
        return {"ChannelName": name, "DataSource": {"S3DataSource": source}, **changes}

    def build_request(self, name: str, *, mode: str = "File", **changes: Any) -> dict[str, Any]:
        """Return a request for a job over data/, to out/."""
        return {
            "TrainingJobName": name,
            "RoleArn": self.emulator.role_arn,
            "AlgorithmSpecification": {"TrainingImage": COUNTER_IMAGE, "TrainingInputMode": mode},
            "InputDataConfig": [self.build_channel("data/")],
            "OutputDataConfig": {"S3OutputPath": f"s3://{self.bucket}/out"},
            "ResourceConfig": {"InstanceType": "ml.m5.xlarge", "InstanceCount": 1, "VolumeSizeInGB": 10},
            "StoppingCondition": {"MaxRuntimeInSeconds": 600},
            **changes,
        }

    def run_job(self, name: str, **changes: Any) -> dict[str, Any]:
        """Create a job and wait for its end."""
        self.sagemaker.create_training_job(**self.build_request(name, **changes))
        return self.wait_for_end(name)

    def wait_for_end(self, name: str, seconds: float = 120) -> dict[str, Any]:
        """Wait for the end of a job."""
        return self.wait_for_job(name, lambda job: job["TrainingJobStatus"] in ENDED, seconds)

    def wait_for_job(self, name: str, holds: Callable[[dict[str, Any]], bool], seconds: float = 120) -> dict[str, Any]:
        """Wait until something holds for a job."""
        return self.wait_for(lambda: self.sagemaker.describe_training_job(TrainingJobName=name), holds, seconds)

    def read_log(self, job: str) -> dict[str, list[str]]:
        """Return the log of a job, by stream."""
        return self.read_logs("/aws/sagemaker/TrainingJobs", job)

    def put_manifest(self, name: str, labels: list[str], **more: Any) -> str:
        """Write images and an augmented manifest over them; return the key of the manifest."""
        lines = []
        for number, label in enumerate(labels):
            self.put({f"{name}/{number}.jpg": f"image {number}".encode()})
            reference = f"s3://{self.bucket}/{name}/{number}.jpg"
            lines.append(
                json.dumps({"source-ref": reference, "label": label, "label-metadata": {"job-name": "l"}} | more)
            )
        self.put({f"{name}.manifest": "\n".join(lines).encode()})
        return f"{name}.manifest"

    def build_manifest_channels(self, key: str, **changes: Any) -> list[dict[str, Any]]:
        """Return the channel of such a manifest."""
        return [
            self.build_channel(
                key,
                kind="AugmentedManifestFile",
                attributes=["source-ref", "label"],
                RecordWrapperType="RecordIO",
                ContentType="application/x-recordio",
                **changes,
            )
        ]

    def deploy_model(self, name: str, **container: Any) -> dict[str, Any]:
        """Create a model of an image, a configuration and an endpoint of one name; wait for the endpoint."""
        primary = {key: value for key, value in {"Image": COUNTER_IMAGE, **container}.items() if value is not None}
        self.sagemaker.create_model(ModelName=name, ExecutionRoleArn=self.emulator.role_arn, PrimaryContainer=primary)
        variant = {"VariantName": "all", "ModelName": name, "InstanceType": "ml.m5.xlarge", "InitialInstanceCount": 1}
        self.sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant])
        self.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
        return self.wait_for_status(lambda: self.sagemaker.describe_endpoint(EndpointName=name), "EndpointStatus")


def is_program_running(job: str) -> bool:
    """Return True if the program of a training job runs on this machine."""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it may end in between
            if f"TRAINING_JOB_NAME={job}\0".encode() in (process / "environ").read_bytes():
                return True
    return False


AnyAccount = TypeVar("AnyAccount", bound=Account)


@contextmanager
def open_account(kind: type[AnyAccount], *, speed: float = 500.0, **settings: Any) -> Iterator[AnyAccount]:
    """Start an emulator with these settings, which boto3 finds by the environment; the machine's own AWS is hidden."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        sentences: list[str] = []
        with Emulator(speed=speed, log=sentences.append, **settings) as emulator:
            for name, value in emulator.environment.items():
                patch.setenv(name, value)
            yield kind(emulator, sentences, settings.get("containers"))


@contextmanager
def open_training_account(*, images: Mapping[str, Path] | None = None, **settings: Any) -> Iterator[TrainingAccount]:
    """Start an emulator that has the counter's image, and others."""
    with open_account(
        TrainingAccount, images={COUNTER_IMAGE: COUNTER_PROGRAM, **(images or {})}, **settings
    ) as account:
        yield account
