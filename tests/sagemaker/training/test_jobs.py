"""Training jobs that run: the program in its namespaces, its channels from the emulated S3, its model back to it."""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.accounts import COUNTER_IMAGE, is_program_running
from tritonforge.emulator.control import training_jobs

pytestmark = pytest.mark.process


def digests(*contents: bytes) -> list[str]:
    """What the program notes of its samples."""
    return [hashlib.sha256(content).hexdigest()[:8] for content in contents]


def test_file_mode(account: Any) -> None:
    found = account.run_job("filed", HyperParameters={"epochs": "2"})
    assert found["TrainingJobStatus"] == "Completed", found
    assert account.read_model("filed") == {
        "seen": digests(b"one", b"two"),
        "first": 0,
        "hyperparameters": {"epochs": "2"},
        "epoch": 1,
    }
    assert account.read_member("out/filed/output/output.tar.gz", "report.txt") == b"2 samples"
    ((stream, lines),) = account.read_log("filed").items()
    assert stream.startswith("filed/algo-1-")
    assert lines == ["begins with epoch 0", "epoch=0 samples=2;", "epoch=1 samples=2;"]
    history = [transition["Status"] for transition in found["SecondaryStatusTransitions"]]
    assert history == ["Starting", "Downloading", "Training", "Uploading", "Completed"]


def test_an_augmented_manifest_in_pipe_mode(account: Any) -> None:
    """Each attribute is a record, line by line, in the order of AttributeNames; every epoch is a pipe of its own."""
    key = account.put_manifest("labelled", ["0", "1", "0"])
    request = account.build_request(
        "piped", mode="Pipe", InputDataConfig=account.build_manifest_channels(key), HyperParameters={"epochs": "2"}
    )
    samples = {"Name": "samples", "Regex": r"samples=([0-9]+);"}
    request["AlgorithmSpecification"]["MetricDefinitions"] = [samples]
    account.sagemaker.create_training_job(**request)
    found = account.wait_for_end("piped")
    assert found["TrainingJobStatus"] == "Completed", found
    expected = [b"image 0", b"0", b"image 1", b"1", b"image 2", b"0"]
    assert account.read_model("piped")["seen"] == digests(*expected)
    (metric,) = found["FinalMetricDataList"]
    assert (metric["MetricName"], metric["Value"]) == ("samples", 6.0)


def test_uncompressed_models_and_no_model(account: Any) -> None:
    output = {"S3OutputPath": f"s3://{account.bucket}/out", "CompressionType": "NONE"}
    found = account.run_job("loose", OutputDataConfig=output)
    assert found["ModelArtifacts"]["S3ModelArtifacts"] == f"s3://{account.bucket}/out/loose/output/model/"
    assert account.keys("out/loose/output/") == ["model/model.json", "output.tar.gz"]


def test_the_failure_file_is_the_failure_reason(account: Any) -> None:
    """With the exit code behind it; the job leaves no model."""
    sentence = "epochs must be a whole number, found 'many'"
    found = account.run_job("failed", HyperParameters={"fail": sentence, "code": "2"})
    assert (found["TrainingJobStatus"], found["SecondaryStatus"]) == ("Failed", "Failed")
    assert found["FailureReason"] == f"AlgorithmError: {sentence}, exit code: 2"
    assert account.keys("out/failed/") == []
    assert sentence in next(iter(account.read_log("failed").values()))


def test_a_program_that_crashes(account: Any) -> None:
    found = account.run_job("crashed", HyperParameters={"crash": "1"})
    assert found["FailureReason"].startswith("AlgorithmError: the program ended")
    assert found["FailureReason"].endswith(", exit code: 139")


@pytest.mark.parametrize(
    ("name", "line", "stated"),
    [
        ("broken", "{", "line 2"),
        ("unlabelled", json.dumps({"source-ref": "s3://{bucket}/broken/0.jpg"}), "label"),
        ("pictureless", json.dumps({"source-ref": "s3://{bucket}/nothing.jpg", "label": "1"}), "nothing.jpg"),
    ],
)
def test_bad_data_is_a_client_error(account: Any, name: str, line: str, stated: str) -> None:
    """A broken line, a label that is not there, an image that is not there: the sentence says where."""
    key = account.put_manifest("broken", ["0"])
    account.put({f"{name}-bad.manifest": account.get(key) + b"\n" + line.replace("{bucket}", account.bucket).encode()})
    channel = account.build_manifest_channels(f"{name}-bad.manifest")
    found = account.run_job(name, mode="Pipe", InputDataConfig=channel)
    assert found["TrainingJobStatus"] == "Failed"
    assert found["FailureReason"].startswith("ClientError: ")
    assert stated in found["FailureReason"]


def test_a_bucket_that_is_not_there(account: Any) -> None:
    """The job fails before its program starts."""
    found = account.run_job("nowhere", OutputDataConfig={"S3OutputPath": "s3://absent-bucket/out"})
    assert found["TrainingJobStatus"] == "Failed"
    assert "the bucket does not exist" in found["FailureReason"]
    assert account.read_log("nowhere") == {}


def test_stop(account: Any) -> None:
    """SIGTERM reaches the program, which ends with its model; the job is Stopped, and the model in S3."""
    request = account.build_request("stopped", HyperParameters={"epochs": "3", "seconds": "60"})
    account.sagemaker.create_training_job(**request)
    account.wait_for_job("stopped", lambda found: found["SecondaryStatus"] == "Training")
    while not any("epoch=0" in line for lines in account.read_log("stopped").values() for line in lines):
        time.sleep(0.02)
    account.sagemaker.stop_training_job(TrainingJobName="stopped")
    account.sagemaker.get_waiter("training_job_completed_or_stopped").wait(
        TrainingJobName="stopped", WaiterConfig={"Delay": 0.1, "MaxAttempts": 600}
    )
    found = account.wait_for_end("stopped")
    assert (found["TrainingJobStatus"], found["SecondaryStatus"]) == ("Stopped", "Stopped")
    assert account.read_model("stopped")["epoch"] == 0
    assert next(iter(account.read_log("stopped").values()))[-1] == "stops"


def test_time_that_is_over(account: Any) -> None:
    """MaxRuntimeInSeconds ends a job as a stop does, with MaxRuntimeExceeded."""
    found = account.run_job("over", HyperParameters={"seconds": "60"}, StoppingCondition={"MaxRuntimeInSeconds": 1})
    assert (found["TrainingJobStatus"], found["SecondaryStatus"]) == ("Stopped", "MaxRuntimeExceeded")
    assert account.read_model("over")["epoch"] == 0


def test_checkpoints_of_a_spot_job(account: Any) -> None:
    config = {"CheckpointConfig": {"S3Uri": f"s3://{account.bucket}/checkpoints"}}
    spot = {
        "EnableManagedSpotTraining": True,
        "StoppingCondition": {"MaxRuntimeInSeconds": 9, "MaxWaitTimeInSeconds": 9},
    }
    assert account.run_job("spot", **config, **spot)["TrainingJobStatus"] == "Completed"
    assert account.get("checkpoints/epoch") == b"1"
    found = account.run_job("spot-again", HyperParameters={"epochs": "2"}, **config, **spot)
    assert found["TrainingJobStatus"] == "Completed"
    assert account.read_model("spot-again")["first"] == 1


def test_the_container(account: Any) -> None:
    """ContainerEntrypoint and ContainerArguments take the place of `train`; the environment is the job's."""
    request = account.build_request("entered", Environment={"COLOUR": "red"})
    script = "import os; print(os.environ['COLOUR'], os.environ['TRAINING_JOB_ARN'])"
    request["AlgorithmSpecification"] |= {"ContainerEntrypoint": ["python3"], "ContainerArguments": ["-c", script]}
    account.sagemaker.create_training_job(**request)
    found = account.wait_for_end("entered")
    assert found["TrainingJobStatus"] == "Completed", found
    (lines,) = account.read_log("entered").values()
    assert lines[0] == f"red {found['TrainingJobArn']}"
    assert any("no model" in line for line in lines)  # what the job did not leave is stated


def test_an_image_that_is_gone(account: Any, refused: Any) -> None:
    """A job without its program folder is refused; there is nothing to run."""
    specification = {"TrainingImage": f"{COUNTER_IMAGE}-other", "TrainingInputMode": "File"}
    request = account.build_request("gone", AlgorithmSpecification=specification)
    assert refused(account.sagemaker.create_training_job, **request)[1].startswith(
        f"Requested image {COUNTER_IMAGE}-other"
    )


def test_a_job_of_a_folder_without_train(account: Any, tmp_path: Path) -> None:
    """A program folder may only serve; a job of it fails with a sentence that says what is missing."""
    serve = tmp_path / "serve"
    serve.write_text("#!/bin/sh\n")
    serve.chmod(0o755)
    account.emulator._images["serving:1"] = str(tmp_path)
    specification = {"TrainingImage": "serving:1", "TrainingInputMode": "File"}
    found = account.run_job("serving-only", AlgorithmSpecification=specification)
    assert found["TrainingJobStatus"] == "Failed"
    assert "no executable named train" in found["FailureReason"]


def test_no_program_outlives_the_emulator(account: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that does not hear SIGTERM is killed when its time is over; the job is as it was, for a restart.

    The last test of this file: it ends the emulator.
    """
    monkeypatch.setattr(training_jobs.TrainingRunner, "grace", 0.2)
    name = f"deaf-{os.getpid()}"
    script = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf'); time.sleep(600)"
    request = account.build_request(name)
    request["AlgorithmSpecification"] |= {"ContainerEntrypoint": ["python3"], "ContainerArguments": ["-c", script]}
    account.sagemaker.create_training_job(**request)
    while not any(account.read_log(name).values()):
        time.sleep(0.02)
    assert is_program_running(name)
    account.emulator.stop()
    assert not is_program_running(name)
