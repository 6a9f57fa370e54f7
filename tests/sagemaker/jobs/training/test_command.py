"""``tritonforge train --on sagemaker`` as a user runs it, against the emulator, which runs the real program."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.accounts import COUNTER_IMAGE, TrainingAccount, open_training_account
from tests.support.command import tritonforge
from tests.support.declared_program import write_declared_program
from tests.support.training_requests import manifest, pictures
from tritonforge.cli.main import main
from tritonforge.sagemaker.jobs.training_plan import DATA

pytestmark = pytest.mark.process

PROGRAM = Path(sys.executable).with_name("tritonforge")
ROLE = ("--role", "TritonForgeExecutionRole")


@pytest.fixture(scope="module")
def account() -> Iterator[TrainingAccount]:
    """An emulator that runs real programs."""
    with open_training_account() as account:
        yield account


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program folder with its declaration."""
    return write_declared_program(tmp_path_factory.mktemp("programs") / "counter")


def arguments(program: Path, *more: str) -> list[str]:
    """A job of the program on SageMaker."""
    return ["train", str(program), "--on", "sagemaker", "--image-uri", COUNTER_IMAGE, *ROLE, *more]


def refusal(capsys: pytest.CaptureFixture[str], *given: str) -> str:
    """What the command line says where it ends with code 2, without line breaks."""
    with pytest.raises(SystemExit) as ended:
        main(list(given))
    assert ended.value.code == 2
    return " ".join(capsys.readouterr().err.split())


def test_a_folder_is_sent_a_job_runs_and_its_model_comes_here(
    account: TrainingAccount, program: Path, tmp_path: Path
) -> None:
    folder = pictures(tmp_path / "data", "a.txt", "b.txt")
    out = tmp_path / "out"
    given = arguments(
        program, "--channel", f"train={folder}", "-o", str(out), "--hyperparameter", "epochs=2", "--tag", "team=vision"
    )
    plan = tritonforge(*given, "--plan", "--format", "json")
    assert plan.returncode == 0, plan.stderr
    steps = json.loads(plan.stdout)["steps"]
    assert [step["operation"] for step in steps] == ["PutObject", "CreateTrainingJob"]
    request = steps[-1]["request"]
    assert request["ResourceConfig"] == {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 30}
    assert request["RoleArn"] == account.emulator.role_arn
    assert [metric["Name"] for metric in request["AlgorithmSpecification"]["MetricDefinitions"]] == [
        "epoch",
        "samples",
    ]
    assert request["HyperParameters"] == {"epochs": "2"}
    assert account.sagemaker.list_training_jobs()["TrainingJobSummaries"] == []
    done = tritonforge(*given, "--yes")
    assert done.returncode == 0, done.stderr
    (job,) = account.sagemaker.list_training_jobs()["TrainingJobSummaries"]
    name = job["TrainingJobName"]
    assert f"Completed  {name} -> s3://" in done.stdout
    assert f"-> {out}/model.tar.gz" in done.stdout
    assert "epoch 1, samples 2" in done.stdout
    assert "epoch=1 samples=2;" in done.stderr
    assert "Training: " in done.stderr
    assert (out / "model.tar.gz").read_bytes() == account.get(f"tritonforge-training/models/{name}/output/model.tar.gz")
    tags = account.sagemaker.list_tags(ResourceArn=job["TrainingJobArn"])["Tags"]
    assert tags == [{"Key": "team", "Value": "vision"}]


def test_an_augmented_manifest_of_this_machine_is_streamed(
    account: TrainingAccount, program: Path, tmp_path: Path
) -> None:
    """Its files go up, their addresses into the manifest, and the program reads each record from its pipe."""
    pictures(tmp_path, "images/a.jpg", "images/b.jpg")
    path = manifest(
        tmp_path / "train.manifest", *({"source-ref": f"images/{item}.jpg", "label": item} for item in ("a", "b"))
    )
    output = f"s3://{account.bucket}/streamed"
    given = arguments(program, "--channel", f"train={path}:source-ref,label", "-o", output, "--name", "streamed-1")
    done = tritonforge(*given, "--yes", "--format", "json")
    assert done.returncode == 0, done.stderr
    reported = json.loads(done.stdout)
    assert reported["metrics"] == {"epoch": 0.0, "samples": 4.0}
    assert (reported["state"], reported["fetched"]) == ("Completed", None)
    assert reported["model"] == f"{output}/streamed-1/output/model.tar.gz"
    found = account.sagemaker.describe_training_job(TrainingJobName="streamed-1")
    source = found["InputDataConfig"][0]["DataSource"]["S3DataSource"]
    assert source["S3Uri"].startswith(f"s3://{account.bucket}/{DATA}manifests/")
    again = tritonforge(*given, "--yes", "--no-wait")
    assert again.returncode == 0, again.stderr
    assert "InProgress  streamed-1" in again.stdout
    assert len(account.sagemaker.list_training_jobs(NameContains="streamed-1")["TrainingJobSummaries"]) == 1


def test_a_failure_is_reported_in_the_programs_own_words(account: TrainingAccount, program: Path) -> None:
    """The failure file's sentence, and the log's last lines; exit code 1."""
    channel = f"train=s3://{account.bucket}/data/"
    given = arguments(program, "--channel", channel, "--hyperparameter", "fail=there is no label", "--name", "fails-1")
    done = tritonforge(*given, "--yes", "--format", "json")
    assert done.returncode == 1, done.stderr
    reported = json.loads(done.stdout)
    assert (reported["state"], reported["model"]) == ("Failed", None)
    assert "there is no label" in reported["failure"]
    assert "there is no label" in reported["log"]


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--hyperparameter", "epoch=2"], "'epoch' is unknown; did you mean epochs?"),
        (["--hyperparameter", "epochs=0", "--hyperparameter", "seconds=x"], "2 hyperparameters are wrong"),
        (["--channel", "training=s3://b/c/"], "channel 'training' is unknown; did you mean train?"),
        (["--input-mode", "FastFile"], "channel train comes in FastFile mode; give it as File or Pipe"),
        (["--name", "a_b"], "TrainingJobName is 'a_b'"),
        (["--instance-type", "ml.none.large"], "ResourceConfig.InstanceType is 'ml.none.large'"),
        (["--spot"], "EnableManagedSpotTraining needs StoppingCondition.MaxWaitTimeInSeconds"),
        (["--spot", "--max-wait", "5", "--max-runtime", "6"], "it must be at least MaxRuntimeInSeconds, which is 6"),
        (["--checkpoints", "here/"], "checkpoints here/: SageMaker writes to S3"),
        (["--algorithm", "counter"], "--image-uri and --algorithm exclude each other"),
        (["-o", "/dev/null"], "-o /dev/null: /dev/null is a file; give a directory"),
        (["-o", "/dev/null/model"], "-o /dev/null/model: /dev/null is a file; give a directory"),
        (["--tag", "team"], "expected NAME=VALUE, got 'team'"),
        (
            ["--work", "w"],
            "--work applies to jobs on this machine only",
        ),
    ],
)
def test_what_is_wrong_is_stated_before_any_call(
    program: Path, more: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = arguments(program, "--channel", "train=s3://b/c/", "--endpoint-url", "http://127.0.0.1:9", "--region", "x")
    reported = refusal(capsys, *given, *more, "--yes")
    assert sentence in reported
    assert "127.0.0.1" not in reported


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["PROGRAM", "--on", "sagemaker", "--role", "r"], "not an image that SageMaker can run"),
        (["PROGRAM", "--on", "sagemaker", "--image-uri", "i:1"], "the IAM role of the job is missing"),
        (
            ["nowhere", "--on", "sagemaker", "--image-uri", "i:1", "--role", "r"],
            "PROGRAM nowhere: no such directory",
        ),
        (["PROGRAM", "-o", "out", "--spot"], "--spot applies to --on sagemaker only"),
        (["PROGRAM", "-o", "out", "--plan"], "--plan applies to --on sagemaker only"),
    ],
)
def test_what_a_job_needs(
    program: Path, arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """An image, a role; and a fleet for a fleet's flags."""
    given = [str(program) if argument == "PROGRAM" else argument for argument in arguments]
    assert sentence in refusal(capsys, "train", *given)


def test_no_one_carries_a_plan_out_unasked(
    account: TrainingAccount, program: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = arguments(program, "--channel", f"train=s3://{account.bucket}/data/", "--name", "unasked-1")
    assert "not a terminal; pass --yes" in refusal(capsys, *given)
    assert account.sagemaker.list_training_jobs(NameContains="unasked-1")["TrainingJobSummaries"] == []


@pytest.mark.parametrize("answer", ["y", "n", None])
def test_an_interruption_asks_whether_to_stop_the_job(
    account: TrainingAccount, program: Path, answer: str | None
) -> None:
    name = f"interrupted-{answer}-1"
    given = arguments(program, "--channel", f"train=s3://{account.bucket}/data/", "--name", name, "--yes")
    given += ["--hyperparameter", "seconds=60" if answer == "y" else "seconds=2"]
    ours, theirs = pty.openpty()
    try:
        process = subprocess.Popen(
            [PROGRAM, *given],
            stdin=subprocess.DEVNULL if answer is None else theirs,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        found: Any = {}
        for _ in range(1000):
            jobs = account.sagemaker.list_training_jobs(NameContains=name)["TrainingJobSummaries"]
            found = jobs and account.sagemaker.describe_training_job(TrainingJobName=name)
            if found and found["SecondaryStatus"] == "Training":
                break
            time.sleep(0.02)
        time.sleep(0.5)  # so that it is watched
        process.send_signal(signal.SIGINT)
        if answer is not None:
            os.write(ours, f"{answer}\n".encode())
        out, err = process.communicate(timeout=60)
        assert process.returncode == 130, err
        assert (f"Stop the training job {name} too?" in err) == (answer is not None)
        if answer == "y":
            assert f"Stopped  {name}" in out
            assert account.wait_for_end(name)["TrainingJobStatus"] == "Stopped"
        else:
            assert "is still running" in err
            assert account.wait_for_end(name)["TrainingJobStatus"] == "Completed"
    finally:
        os.close(ours)
        os.close(theirs)
