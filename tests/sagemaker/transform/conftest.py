"""An emulator whose containers echo, refuse, fail or wait as a record asks, and short ways to a transform job."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from tests.support.fakes import FakeContainer, FakeContainers
from tritonforge.emulator import Emulator
from tritonforge.emulator.emulated_s3 import EmulatedS3
from tritonforge.emulator.hosting import ContainerError, ContainerGoneError, UnhealthyError, Variant
from tritonforge.emulator.interfaces import ContainerResponse
from tritonforge.sagemaker import service_model

IMAGE = "763104351884.dkr.ecr.us-east-1.amazonaws.com/sagemaker-tritonserver:24.09-py3"
GROUP = "/aws/sagemaker/TransformJobs"
SPEED = 500.0


class Echo(FakeContainer):
    """Answers with the body in capitals; ``refuse``, ``break``, ``slow``, ``pause``, ``wait`` in a body do so."""

    def __init__(self, variant: Variant, ended: Callable[[FakeContainer], None], gate: threading.Event) -> None:
        super().__init__(variant, ended)
        self.gate = gate
        self.seen: list[tuple[bytes, Mapping[str, str], float]] = []
        self.in_flight = 0
        self.most_in_flight = 0
        self.lock = threading.Lock()

    def invoke(self, body: bytes, headers: Mapping[str, str], *, timeout: float) -> ContainerResponse:
        """The body in capitals."""
        body = b"".join(body) if isinstance(body, Iterator) else bytes(body)  # type: ignore[arg-type]  # chunked
        with self.lock:
            self.in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
            self.seen.append((body, headers, timeout))
        try:
            if b"wait" in body:
                while not self.gate.wait(0.01):
                    if self.stopped:
                        raise ContainerGoneError("the container was stopped", in_flight=True)
            if self.stopped:
                raise ContainerGoneError("the container was stopped")
            if b"pause" in body:
                time.sleep(0.005)  # long enough for others to come in between
            if b"slow" in body:
                raise TimeoutError(f"no answer within {timeout:g} s")
            if b"refuse" in body:
                return ContainerResponse(
                    400, {"content-type": "application/json"}, b'{"error": "this is not a record"}'
                )
            if b"break" in body:
                return ContainerResponse(500, {}, b"a bug")
            return ContainerResponse(200, {"content-type": "text/plain"}, body.upper())
        finally:
            with self.lock:
                self.in_flight -= 1

    def get(self, path: str, *, timeout: float) -> ContainerResponse:
        """/execution-parameters where the model's environment has them."""
        reported = self.variant.container.environment.get("PARAMETERS")
        if path == "/execution-parameters" and reported:
            return ContainerResponse(200, {"content-type": "application/json"}, reported.encode())
        return super().get(path, timeout=timeout)


class Echoes(FakeContainers):
    """Starts such containers; ``UNHEALTHY`` and ``MISSING`` in a model's environment keep one from starting."""

    def start(
        self,
        variant: Variant,
        *,
        objects: EmulatedS3,
        folder: Path,
        log: Callable[[str], None],
        images: Mapping[str, str] | None = None,
        cancelled: threading.Event | None = None,
    ) -> Echo:
        """A container for a job."""
        log(f"a container of {variant.container.image} starts")
        environment = variant.container.environment
        if "UNHEALTHY" in environment:
            raise UnhealthyError("The primary container did not pass the ping health check.", detail="No weights.")
        if "MISSING" in environment:
            raise ContainerError("Failed to download model data.")
        container = Echo(variant, self.running.remove, self.gate)
        self.started.append(container)
        self.running.append(container)
        return container


def checked(parsed: Any, model: Any, http_response: Any, **_: Any) -> None:
    """Hold the answer, as it was sent, against the output of the service model: no member may be wrong or unknown."""
    if http_response.status_code < 300 and model.output_shape is not None:
        found = service_model.check_shape(model.output_shape, json.loads(http_response.content or b"{}"))
        assert not found, f"{model.name}: {service_model.describe_violations(found)}"


class Account:
    """The emulator, its clients, and jobs with the fields that every job has."""

    def __init__(self, emulator: Emulator, containers: Any, sentences: list[str]) -> None:
        self.emulator = emulator
        self.containers = containers
        self.sentences = sentences
        self.sagemaker = self.client("sagemaker")
        self.s3 = self.client("s3")
        self.bucket = emulator.bucket
        self.put({"models/model.tar.gz": b"an archive"})

    def client(self, service: str, region: str | None = None) -> Any:
        """A boto3 client as any program makes one."""
        made = boto3.client(service, region_name=region)
        if service == "sagemaker":
            made.meta.events.register("after-call.sagemaker", checked)
        return made

    def model(self, name: str, *, image: str = IMAGE, data: str = "models/model.tar.gz", **environment: str) -> str:
        """Create a model; gives its name."""
        container = {"Image": image, "ModelDataUrl": f"s3://{self.bucket}/{data}", "Environment": environment}
        self.sagemaker.create_model(ModelName=name, ExecutionRoleArn=self.emulator.role_arn, PrimaryContainer=container)
        return name

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

    def request(self, name: str, **changes: Any) -> dict[str, Any]:
        """A request for a job NAME of model NAME, from NAME/in/ to NAME/out."""
        source = {"S3DataType": "S3Prefix", "S3Uri": f"s3://{self.bucket}/{name}/in/"}
        return {
            "TransformJobName": name,
            "ModelName": name,
            "TransformInput": {"DataSource": {"S3DataSource": source}, "ContentType": "text/plain"},
            "TransformOutput": {"S3OutputPath": f"s3://{self.bucket}/{name}/out"},
            "TransformResources": {"InstanceType": "ml.m5.xlarge", "InstanceCount": 1},
            **changes,
        }

    def job(
        self, name: str, objects: Mapping[str, bytes], /, *, environment: Any = None, **changes: Any
    ) -> dict[str, Any]:
        """Put objects, create the model and the job, and wait for its end."""
        self.put({f"{name}/in/{key}": body for key, body in objects.items()})
        self.model(name, **(environment or {}))
        self.sagemaker.create_transform_job(**self.request(name, **changes))
        return self.ended(name)

    def ended(self, name: str) -> dict[str, Any]:
        """The job once nothing is under way."""
        return self.until(name, "Completed", "Failed", "Stopped")

    def until(self, name: str, *statuses: str) -> dict[str, Any]:
        """The job once it has one of the statuses."""
        for _ in range(3000):
            found = self.sagemaker.describe_transform_job(TransformJobName=name)
            if found["TransformJobStatus"] in statuses:
                return dict(found)
            time.sleep(0.02)
        raise AssertionError(f"{name} stays {found['TransformJobStatus']}")

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

    def data_log(self, job: str) -> list[str]:
        """The lines of all data-logs of a job."""
        return [line for name, lines in self.lines(job).items() if name.endswith("/data-log") for line in lines]


def served(containers: Any, **settings: Any) -> Iterator[Account]:
    """An account over an emulator with these containers; boto3 finds it by the environment."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        sentences: list[str] = []
        with Emulator(containers=containers, speed=SPEED, log=sentences.append, **settings) as emulator:
            for name, value in emulator.environment.items():
                patch.setenv(name, value)
            yield Account(emulator, containers, sentences)


@pytest.fixture(scope="module")
def account() -> Iterator[Account]:
    """One emulator for a file's tests: every test uses names of its own."""
    containers = Echoes()
    yield from served(containers, limits={"ml.c5.xlarge": 3})
    assert containers.running == []


@pytest.fixture(scope="session")
def refused() -> Callable[..., tuple[str, str]]:
    """The code and the sentence of an error."""

    def refusal(call: Callable[..., Any], **arguments: Any) -> tuple[str, str]:
        with pytest.raises(ClientError) as caught:
            call(**arguments)
        error = caught.value.response["Error"]
        return error["Code"], error["Message"]

    return refusal
