"""A state folder: a job that was under way when the emulator was killed continues after its restart."""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from tests.support.echo_containers import Echo, Echoes
from tests.support.forked import Forked
from tritonforge.emulator import Emulator
from tritonforge.emulator.hosting import Variant
from tritonforge.emulator.interfaces import ContainerResponse

pytestmark = pytest.mark.process

BUCKET = "sagemaker-us-east-1-123456789012"
OBJECTS = 120


class _Slow(Echo):
    """A container that takes its time, and notes every body that reaches it."""

    seen_file: Path

    def invoke(self, body: bytes, headers: Mapping[str, str], *, timeout: float) -> ContainerResponse:
        """The body in capitals, after a while."""
        with self.seen_file.open("ab") as file:
            file.write(bytes(body) + b"\n")
        time.sleep(0.05)
        return super().invoke(body, headers, timeout=timeout)


class _Slows(Echoes):
    """Starts such containers."""

    def start(self, variant: Variant, **settings: Any) -> Echo:
        """A container for a job."""
        made = _Slow(variant, lambda ended: None, self.gate)
        self.started.append(made)
        return made


def _serve(folder: Path) -> None:
    """Run an emulator until the process is killed, and print its address."""
    _Slow.seen_file = folder / "seen"
    emulator = Emulator(state=folder / "state", containers=_Slows(), speed=500)
    sys.stdout.write(f"{emulator.url}\n")
    sys.stdout.flush()
    time.sleep(600)


class Served(Forked):
    """An emulator in a process of its own, that can be killed."""

    def __init__(self, folder: Path) -> None:
        super().__init__(_serve, folder)
        self.url = self.output.readline().strip()
        assert self.url.startswith("http://127.0.0.1:")

    @functools.cache  # noqa: B019 - a client takes longer to make than to ask, and the tests make few emulators
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

    def outputs(self, name: str) -> dict[str, bytes]:
        """The outputs of a job by key."""
        s3 = self.client("s3")
        found = s3.list_objects_v2(Bucket=BUCKET, Prefix=f"{name}/out/").get("Contents", ())
        return {
            item["Key"].rpartition("/")[2]: s3.get_object(Bucket=BUCKET, Key=item["Key"])["Body"].read()
            for item in found
        }

    def until(self, name: str, outputs: int) -> None:
        """Wait for that many outputs."""
        for _ in range(1000):
            found = self.client("s3").list_objects_v2(Bucket=BUCKET, Prefix=f"{name}/out/").get("KeyCount", 0)
            if found >= outputs:
                return
            time.sleep(0.05)
        raise AssertionError("no outputs")

    def ended(self, name: str) -> dict[str, Any]:
        """The job once nothing is under way."""
        for _ in range(1000):
            found = self.client("sagemaker").describe_transform_job(TransformJobName=name)
            if found["TransformJobStatus"] in ("Completed", "Failed", "Stopped"):
                return dict(found)
            time.sleep(0.05)
        raise AssertionError(found["TransformJobStatus"])


def begun(served: Served, name: str) -> dict[str, Any]:
    """A job over many objects, as it was created."""
    s3, sagemaker = served.client("s3"), served.client("sagemaker")
    for number in range(OBJECTS):
        s3.put_object(Bucket=BUCKET, Key=f"{name}/in/{number:03}", Body=f"{name} {number}".encode())
    role = served.client("iam").list_roles(PathPrefix="/service-role/")["Roles"][0]["Arn"]
    sagemaker.create_model(ModelName=name, ExecutionRoleArn=role, PrimaryContainer={"Image": "i"})
    source = {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/{name}/in/"}
    sagemaker.create_transform_job(
        TransformJobName=name,
        ModelName=name,
        TransformInput={"DataSource": {"S3DataSource": source}},
        TransformOutput={"S3OutputPath": f"s3://{BUCKET}/{name}/out"},
        TransformResources={"InstanceType": "ml.m5.xlarge", "InstanceCount": 2},
        Tags=[{"Key": "k", "Value": "v"}],
    )
    return dict(sagemaker.describe_transform_job(TransformJobName=name))


def test_a_job_goes_on_after_kill_9(tmp_path: Path) -> None:
    """Killed three times, it ends Completed with every output right, and does little of its work twice."""
    served = Served(tmp_path)
    created = begun(served, "killed")
    for outputs in (30, 60, 90):
        served.until("killed", outputs)
        served.end()
        served = Served(tmp_path)
    try:
        ended = served.ended("killed")
        assert ended["TransformJobStatus"] == "Completed"
        assert ended["CreationTime"] == created["CreationTime"]
        assert served.outputs("killed") == {
            f"{number:03}.out": f"KILLED {number}".encode() for number in range(OBJECTS)
        }
        tags = served.client("sagemaker").list_tags(ResourceArn=ended["TransformJobArn"])["Tags"]
        assert tags == [{"Key": "k", "Value": "v"}]
        seen = (tmp_path / "seen").read_bytes().splitlines()
        # Rows of the journal go to the disk every half second, in which two instances do twenty objects; without a
        # journal the three kills would cost 180.
        assert OBJECTS <= len(seen) <= OBJECTS + 3 * 30
        assert not any((tmp_path / "state" / "transforms").rglob("*.sqlite"))
    finally:
        served.end()


def test_a_stop_outlasts_the_process(tmp_path: Path) -> None:
    """Killed while it was Stopping, the job is Stopped after the restart, and has no output of any run."""
    served = Served(tmp_path)
    begun(served, "halted")
    served.until("halted", 5)
    served.end()
    served = Served(tmp_path)
    served.until("halted", 8)
    served.client("sagemaker").stop_transform_job(TransformJobName="halted")
    served.end()
    served = Served(tmp_path)
    try:
        assert served.ended("halted")["TransformJobStatus"] == "Stopped"
        assert served.outputs("halted") == {}
    finally:
        served.end()
