"""Processing jobs on real programs in namespaces; AWS's ScriptProcessor is in peers/test_sagemaker_sdk.py."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.support.accounts import ENDED, Account, open_account
from tritonforge.emulator.control import cloudwatch

pytestmark = pytest.mark.process

IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/processor:1"

#: The entry point of the image: counts the inputs, and does what its arguments ask for.
PROGRAM = """#!/usr/bin/env python3
import json, os, pathlib, sys, time
base = pathlib.Path("/opt/ml/processing")
config = json.loads(pathlib.Path("/opt/ml/config/processingjobconfig.json").read_text())
hosts = json.loads(pathlib.Path("/opt/ml/config/resourceconfig.json").read_text())
inputs = {path.relative_to(base / "input").as_posix(): path.read_text() for path in sorted((base / "input").rglob("*"))
          if path.is_file()}
print("processing", config["ProcessingJobName"], hosts["current_host"], flush=True)
if "wait" in sys.argv:
    time.sleep(600)
if "escape" in sys.argv:
    (base / "output").rmdir()
    (base / "output").symlink_to("SECRET")
else:
    report = {"inputs": inputs, "arguments": sys.argv[1:], "colour": os.environ.get("COLOUR")}
    report["arn"] = config["ProcessingJobArn"]
    (base / "output" / "nested").mkdir()
    (base / "output" / "nested" / "report.json").write_text(json.dumps(report))
pathlib.Path("/opt/ml/output/message").write_text("counted " + str(len(inputs)))
sys.exit(3 if "fail" in sys.argv else 0)
"""


class ProcessingAccount(Account):
    """Short ways to processing jobs."""

    def initial_objects(self) -> Mapping[str, bytes]:
        """Return two inputs."""
        return {"in/a": b"one", "in/b/c": b"two"}

    def request(self, name: str, *arguments: str, **changes: Any) -> dict[str, Any]:
        """Return a request for a job over in/, to out/."""
        bucket = self.emulator.bucket
        source = {"S3Uri": f"s3://{bucket}/in/", "LocalPath": "/opt/ml/processing/input", "S3DataType": "S3Prefix"}
        target = {
            "S3Uri": f"s3://{bucket}/out/{name}",
            "LocalPath": "/opt/ml/processing/output",
            "S3UploadMode": "EndOfJob",
        }
        cluster = {"InstanceCount": 1, "InstanceType": "ml.m5.large", "VolumeSizeInGB": 1}
        return {
            "ProcessingJobName": name,
            "RoleArn": self.emulator.role_arn,
            "AppSpecification": {"ImageUri": IMAGE, **({"ContainerArguments": list(arguments)} if arguments else {})},
            "ProcessingInputs": [{"InputName": "data", "S3Input": source}],
            "ProcessingOutputConfig": {"Outputs": [{"OutputName": "report", "S3Output": target}]},
            "ProcessingResources": {"ClusterConfig": cluster},
            "Environment": {"COLOUR": "green"},
            **changes,
        }

    def wait(self, name: str, *statuses: str) -> dict[str, Any]:
        """Return a job once it has one of the statuses, by default once it has ended."""
        return self.wait_for_status(
            lambda: self.sagemaker.describe_processing_job(ProcessingJobName=name),
            "ProcessingJobStatus",
            statuses or ENDED,
        )

    def process(self, name: str, *arguments: str, **changes: Any) -> dict[str, Any]:
        """Create a job and wait for its end."""
        self.sagemaker.create_processing_job(**self.request(name, *arguments, **changes))
        return self.wait(name)

    def read(self, key: str) -> Mapping[str, Any]:
        """Return an object as JSON."""
        return dict(json.loads(self.get(key)))

    def lines(self, job: str) -> list[str]:
        """Return the log of a job."""
        (lines,) = self.read_logs("/aws/sagemaker/ProcessingJobs", job).values()
        return lines


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProcessingAccount]:
    """An emulator that runs the program."""
    folder, secret = tmp_path_factory.mktemp("program"), tmp_path_factory.mktemp("secret")
    (secret / "key").write_text("hidden")
    (folder / "process").write_text(PROGRAM.replace("SECRET", str(secret)))
    (folder / "process").chmod(0o755)
    settings = {"images": {IMAGE: folder}, "limits": {"ml.m5.4xlarge": 1}}
    with open_account(ProcessingAccount, speed=1000, **settings) as account:
        yield account


def test_a_job_reads_its_inputs_and_leaves_its_outputs(account: ProcessingAccount) -> None:
    """Inputs keep their paths; arguments, environment, configuration, log and message are SageMaker's."""
    job = account.process("Counting", "--depth", "2", Tags=[{"Key": "team", "Value": "vision"}])
    assert (job["ProcessingJobStatus"], job["ExitMessage"]) == ("Completed", "counted 2"), account.lines("Counting")
    assert job["ProcessingJobArn"].endswith(":processing-job/counting")
    assert job["CreationTime"] <= job["ProcessingStartTime"] <= job["ProcessingEndTime"]
    assert job["StoppingCondition"] == {"MaxRuntimeInSeconds": 86400}
    assert job["ProcessingInputs"][0]["S3Input"]["S3DataDistributionType"] == "FullyReplicated"
    assert account.read("out/Counting/nested/report.json") == {
        "inputs": {"a": "one", "b/c": "two"},
        "arguments": ["--depth", "2"],
        "colour": "green",
        "arn": job["ProcessingJobArn"],
    }
    assert account.lines("Counting") == ["processing Counting algo-1"]
    assert account.sagemaker.list_tags(ResourceArn=job["ProcessingJobArn"])["Tags"][0]["Value"] == "vision"
    listed = account.sagemaker.list_processing_jobs(NameContains="count")["ProcessingJobSummaries"]
    assert [summary["ProcessingJobName"] for summary in listed] == ["Counting"]


def test_an_entry_point_replaces_the_program_of_the_image(account: ProcessingAccount) -> None:
    """The command of the request is run as it is, with its arguments."""
    command = ["/bin/sh", "-c", 'echo "$0" > /opt/ml/processing/output/name']
    specification = {"ImageUri": IMAGE, "ContainerEntrypoint": command, "ContainerArguments": ["word"]}
    assert account.process("entry", AppSpecification=specification)["ProcessingJobStatus"] == "Completed"
    assert account.keys("out/entry/") == ["name"]


def test_failures(account: ProcessingAccount) -> None:
    """A program that fails leaves its message and no output; one that links out of its container uploads nothing."""
    failed = account.process("failing", "fail")
    assert (failed["ProcessingJobStatus"], failed["ExitMessage"]) == ("Failed", "counted 2")
    assert failed["FailureReason"] == "AlgorithmError: See job logs for more information (exit code: 3)"
    assert account.keys("out/failing") == []
    assert account.process("escaping", "escape")["ProcessingJobStatus"] == "Completed"
    assert account.keys("out/escaping") == []
    stopped = account.process("long", "wait", StoppingCondition={"MaxRuntimeInSeconds": 1})
    assert stopped["ProcessingJobStatus"] == "Stopped"


def test_a_job_is_stopped(account: ProcessingAccount) -> None:
    """Once; an ended job is refused with AWS's sentence."""
    account.sagemaker.create_processing_job(**account.request("stopping", "wait"))
    for _ in range(1000):
        if "ProcessingStartTime" in account.wait("stopping", "InProgress"):
            break
        time.sleep(0.01)
    account.sagemaker.stop_processing_job(ProcessingJobName="stopping")
    assert account.wait("stopping")["ProcessingJobStatus"] == "Stopped"
    with pytest.raises(ClientError, match="the processing job is in status Stopped"):
        account.sagemaker.stop_processing_job(ProcessingJobName="stopping")


def test_what_is_refused(account: ProcessingAccount) -> None:
    """With AWS's codes, and its sentences where they are known."""

    def refuse(name: str, **changes: Any) -> tuple[str, str]:
        with pytest.raises(ClientError) as caught:
            account.sagemaker.create_processing_job(**account.request(name, **changes))
        error = caught.value.response["Error"]
        return error["Code"], error["Message"]

    account.process("unique")
    code, sentence = refuse("Unique")
    assert (code, sentence[:23]) == ("ResourceInUse", "Job name must be unique")
    assert refuse("n", AppSpecification={"ImageUri": "other:1"})[1].startswith("Requested image other:1 not found.")
    source = account.request("n")["ProcessingInputs"][0]["S3Input"]
    assert (
        "No S3 objects found under S3 URL"
        in refuse(
            "n", ProcessingInputs=[{"InputName": "i", "S3Input": {**source, "S3Uri": f"{source['S3Uri']}none/"}}]
        )[1]
    )
    outside = {"InputName": "i", "S3Input": {**source, "LocalPath": "/opt/ml/processing/../../../etc"}}
    assert "expected a directory below /opt/ml/processing" in refuse("n", ProcessingInputs=[outside])[1]
    twice = [{"InputName": name, "S3Input": source} for name in ("i", "j")]
    assert "must be unique" in refuse("n", ProcessingInputs=twice)[1]
    cluster = {"InstanceCount": 2, "InstanceType": "ml.m5.4xlarge", "VolumeSizeInGB": 1}
    assert "one instance" in refuse("n", ProcessingResources={"ClusterConfig": cluster})[1]
    with pytest.raises(ClientError, match="Requested resource not found"):
        account.sagemaker.describe_processing_job(ProcessingJobName="absent")


def test_the_log_is_complete_when_the_status_says_that_the_job_ended(
    account: ProcessingAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clients read the log once more when a job has ended, and then never again."""
    monkeypatch.setattr(cloudwatch, "_PERIOD", 3.0)  # no write in between: the one of the end must be there
    time.sleep(0.3)  # the wait that had begun before is over
    monkeypatch.setattr(account.emulator, "flush", lambda: None)
    account.process("Logged")
    assert account.lines("Logged")


def test_quota_of_the_account(account: ProcessingAccount) -> None:
    """Processing jobs have a quota of their own."""
    cluster = {"InstanceCount": 1, "InstanceType": "ml.m5.4xlarge", "VolumeSizeInGB": 1}
    resources = {"ClusterConfig": cluster}
    account.sagemaker.create_processing_job(**account.request("quota-1", "wait", ProcessingResources=resources))
    with pytest.raises(ClientError, match=r"ml\.m5\.4xlarge for processing job usage' is 1 Instances"):
        account.sagemaker.create_processing_job(**account.request("quota-2", ProcessingResources=resources))
    account.sagemaker.stop_processing_job(ProcessingJobName="quota-1")
    assert account.wait("quota-1")["ProcessingJobStatus"] == "Stopped"
