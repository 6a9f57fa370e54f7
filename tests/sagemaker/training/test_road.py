"""The whole road as boto3 calls: labelled data, a training job, a model, an endpoint that answers, a transform job."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tritonforge.emulator import Emulator
from tritonforge.errors import DefinitionError

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def artifact(account: Any) -> str:
    """The model of a training job over an augmented manifest: its address."""
    key = account.put_manifest("road", ["0", "1"])
    found = account.run_job("road", mode="Pipe", InputDataConfig=account.build_manifest_channels(key))
    assert found["TrainingJobStatus"] == "Completed", found
    return str(found["ModelArtifacts"]["S3ModelArtifacts"])


@pytest.fixture(scope="module")
def endpoint(account: Any, artifact: str) -> Iterator[str]:
    """An endpoint of that model."""
    found = account.deploy_model("road", ModelDataUrl=artifact, Environment={"COLOUR": "red"})
    assert found["EndpointStatus"] == "InService", found
    yield "road"
    account.sagemaker.delete_endpoint(EndpointName="road")


def test_the_endpoint_answers_from_the_model(account: Any, endpoint: str) -> None:
    """Body, types, custom attributes and environment reach `serve`, and its answer comes back."""
    found = account.runtime.invoke_endpoint(
        EndpointName=endpoint,
        Body=b"a picture",
        ContentType="application/x-image",
        Accept="application/json;verbose",
        CustomAttributes="a=b",
    )
    reported = json.loads(found["Body"].read())
    assert reported["samples"] == 4
    assert reported["body"] == "a picture"
    assert reported["content_type"] == "application/x-image"
    assert reported["accept"] == "application/json;verbose"
    assert reported["attributes"] == "a=b"
    assert reported["environment"] == {"COLOUR": "red"}
    assert found["CustomAttributes"] == "from=serve"
    assert found["InvokedProductionVariant"] == "all"


def test_the_container_has_no_network_and_a_model_that_is_read_only(account: Any, endpoint: str) -> None:
    """Loopback is the only interface; /opt/ml/model takes no writing."""
    reported = json.loads(account.runtime.invoke_endpoint(EndpointName=endpoint, Body=b"write")["Body"].read())
    assert "Read-only file system" in reported["body"]
    assert reported["files"] == ["model.json"]
    assert reported["interfaces"] == ["lo"]


def test_a_container_that_dies_is_started_again(account: Any, endpoint: str) -> None:
    """The request that killed it gets an error, those after the restart are answered."""
    with pytest.raises(ClientError):
        account.runtime.invoke_endpoint(EndpointName=endpoint, Body=b"die")
    for _ in range(500):
        try:
            found = account.runtime.invoke_endpoint(EndpointName=endpoint, Body=b"again")
            break
        except ClientError:
            time.sleep(0.05)
    assert json.loads(found["Body"].read())["body"] == "again"


def test_a_transform_job_runs_the_program_too(account: Any, endpoint: str) -> None:
    account.put({"batch/in/lines": b"one\ntwo\n"})
    source = {"S3DataType": "S3Prefix", "S3Uri": f"s3://{account.bucket}/batch/in/"}
    account.sagemaker.create_transform_job(
        TransformJobName="road",
        ModelName=endpoint,
        TransformInput={"DataSource": {"S3DataSource": source}, "SplitType": "Line"},
        TransformOutput={"S3OutputPath": f"s3://{account.bucket}/batch/out", "AssembleWith": "Line"},
        TransformResources={"InstanceType": "ml.m5.xlarge", "InstanceCount": 1},
    )
    found = account.wait_for_status(
        lambda: account.sagemaker.describe_transform_job(TransformJobName="road"), "TransformJobStatus"
    )
    assert found["TransformJobStatus"] == "Completed", found
    answers = [json.loads(line) for line in account.get("batch/out/lines.out").splitlines()]
    assert [item["body"].strip() for item in answers] == ["one", "two"]  # SINGLE_RECORD, as the program says
    assert answers[0]["environment"] == {"COLOUR": "red", "SAGEMAKER_BATCH": "true"}


def test_a_model_that_the_program_refuses(account: Any, artifact: str, tmp_path: Path) -> None:
    """AWS's FailureReason, and what the program's end was; its words are in the endpoint's log."""
    account.put({"empty.tar.gz": account.get("out/road/output/output.tar.gz")})
    found = account.deploy_model("refusing", ModelDataUrl=f"s3://{account.bucket}/empty.tar.gz")
    assert found["EndpointStatus"] == "Failed"
    assert "did not pass the ping health check" in found["FailureReason"]
    assert "serve ended with status 1 before /ping answered 200" in found["FailureReason"]
    account.emulator.flush()
    logs = account.client("logs")
    events = [
        event["message"]
        for stream in logs.describe_log_streams(logGroupName="/aws/sagemaker/Endpoints/refusing")["logStreams"]
        for event in logs.get_log_events(
            logGroupName="/aws/sagemaker/Endpoints/refusing", logStreamName=stream["logStreamName"]
        )["events"]
    ]
    assert "there is no model.json in /opt/ml/model" in events


def test_a_model_that_is_not_compressed(account: Any) -> None:
    """The files that a job with CompressionType NONE leaves are a model as they lie there."""
    output = {"S3OutputPath": f"s3://{account.bucket}/out", "CompressionType": "NONE"}
    job = account.run_job("loose", OutputDataConfig=output)
    data = {
        "S3Uri": job["ModelArtifacts"]["S3ModelArtifacts"],
        "S3DataType": "S3Prefix",
        "CompressionType": "None",
    }
    found = account.deploy_model("loose", ModelDataSource={"S3DataSource": data})
    assert found["EndpointStatus"] == "InService", found
    answer = account.runtime.invoke_endpoint(EndpointName="loose", Body=b"x")
    assert json.loads(answer["Body"].read())["files"] == ["model.json"]
    account.sagemaker.delete_endpoint(EndpointName="loose")


def test_a_multi_model_container_is_not_run(account: Any, artifact: str) -> None:
    """The sentence says so; nothing is faked."""
    found = account.deploy_model("several", ModelDataUrl=f"s3://{account.bucket}/out/", Mode="MultiModel")
    assert found["EndpointStatus"] == "Failed"
    assert "a multi-model one is not run" in found["FailureReason"]


def test_nothing_is_left_when_an_endpoint_is_deleted(account: Any, artifact: str) -> None:
    """The program's processes end with it."""
    found = account.deploy_model("leaving", ModelDataUrl=artifact)
    assert found["EndpointStatus"] == "InService", found
    before = children()
    account.sagemaker.delete_endpoint(EndpointName="leaving")
    for _ in range(500):
        if len(children()) < len(before):
            break
        time.sleep(0.02)
    assert len(children()) < len(before)


def children() -> list[int]:
    """The processes that this one has started and that live."""
    found: list[int] = []
    for thread in Path(f"/proc/{os.getpid()}/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):  # a thread that has just ended
            found += map(int, (thread / "children").read_text().split())
    return found


@pytest.mark.parametrize(
    ("made", "stated"),
    [
        (None, "the folder does not exist"),
        ((), "expected a program folder"),
        (("train",), r"not executable; run chmod 755"),
    ],
)
def test_a_folder_that_is_no_program(tmp_path: Path, made: tuple[str, ...] | None, stated: str) -> None:
    """It is refused before anything starts."""
    folder = tmp_path / "program"
    if made is not None:
        folder.mkdir()
        for name in made:
            (folder / name).write_text("#!/bin/sh\n")
    with pytest.raises(DefinitionError, match=stated):
        Emulator(images={"own:1": folder})
