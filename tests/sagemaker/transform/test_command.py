"""``tritonforge transform --on sagemaker`` as a user runs it, against the emulator."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.command import tritonforge

pytestmark = pytest.mark.process

PROGRAM = Path(sys.executable).with_name("tritonforge")

CONFIG = """
name: "echo"
backend: "python"
input { name: "x" data_type: TYPE_FP32 dims: [ 1 ] }
output { name: "y" data_type: TYPE_FP32 dims: [ 1 ] }
"""


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository that is right for the image; the emulator's containers only echo."""
    folder = tmp_path_factory.mktemp("models") / "my_echo"
    (folder / "echo" / "1").mkdir(parents=True)
    (folder / "echo" / "config.pbtxt").write_text(CONFIG)
    code = "class TritonPythonModel:\n    def execute(self, requests):\n        return []\n"
    (folder / "echo" / "1" / "model.py").write_text(code)
    return folder


def arguments(account: Any, name: str, *more: str) -> list[str]:
    """INPUT and OUTPUT of NAME, and that it is to run on SageMaker."""
    place = f"s3://{account.bucket}/{name}"
    return ["transform", f"{place}/in/", f"{place}/out", "--on", "sagemaker", *more]


def test_a_repository_is_packed_uploaded_and_run(account: Any, repository: Path) -> None:
    account.put({"command/in/a": b"x", "command/in/b": b"y"})
    flags = ["--repository", str(repository), "--image", "24.09", "--role", "TritonForgeExecutionRole"]
    plan = tritonforge(*arguments(account, "command", *flags, "--plan", "--format", "json"))
    assert plan.returncode == 0, plan.stderr
    steps = json.loads(plan.stdout)["steps"]
    assert [step["operation"] for step in steps] == ["PutObject", "CreateModel", "CreateTransformJob"]
    request = steps[-1]["request"]
    assert request["ModelName"] == steps[1]["name"]
    assert request["TransformResources"] == {"InstanceType": "ml.g4dn.xlarge", "InstanceCount": 1}
    assert request["MaxConcurrentTransforms"] == 16
    jobs = account.sagemaker.list_transform_jobs(NameContains="my-echo")["TransformJobSummaries"]
    assert jobs == []
    done = tritonforge(*arguments(account, "command", *flags, "--yes", "--instance-count", "2"))
    assert done.returncode == 0, done.stderr
    assert "CreateTransformJob" in done.stdout
    assert "Completed  my-echo-20" in done.stdout
    assert "MaxConcurrentTransforms=16, MaxPayloadInMB=6" in done.stderr
    assert account.keys("command/out/") == ["a.out", "b.out"]
    (job,) = account.sagemaker.list_transform_jobs(NameContains="my-echo")["TransformJobSummaries"]
    found = account.sagemaker.describe_transform_job(TransformJobName=job["TransformJobName"])
    assert found["TransformResources"]["InstanceCount"] == 2
    assert account.sagemaker.list_endpoints()["Endpoints"] == []


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package for TensorFlow Serving, as far as it is judged before it is uploaded."""
    folder = tmp_path_factory.mktemp("models") / "served"
    (folder / "served" / "1" / "variables").mkdir(parents=True)
    for name in ("saved_model.pb", "variables/variables.index", "variables/variables.data-00000-of-00001"):
        (folder / "served" / "1" / name).write_bytes(b"x")
    (folder / "code").mkdir()
    (folder / "code" / "inference.py").write_text("def handler(data, context):\n    return data.read(), 'text/plain'\n")
    return folder


def test_a_package_for_tensorflow_serving_is_packed_uploaded_and_run(account: Any, package: Path) -> None:
    """Its image is SageMaker's of the region, for the processor of the instances; Triton's variables are not set."""
    account.put({"packed/in/a": b"x"})
    flags = [
        "--repository",
        str(package),
        "--role",
        "TritonForgeExecutionRole",
        "--content-type",
        "application/x-image",
    ]
    given = arguments(account, "packed", *flags, "--image", "tensorflow-inference:2.19", "--env", "A=b")
    plan = tritonforge(*given, "--instance-type", "ml.c5.xlarge", "--plan", "--format", "json")
    assert plan.returncode == 0, plan.stderr
    put, model, job = json.loads(plan.stdout)["steps"]
    assert (put["operation"], job["operation"]) == ("PutObject", "CreateTransformJob")
    container = model["request"]["PrimaryContainer"]
    registry = "763104351884.dkr.ecr.us-east-1.amazonaws.com"
    assert container == {
        "Image": f"{registry}/tensorflow-inference:2.19-cpu",
        "ModelDataUrl": container["ModelDataUrl"],
    }
    done = tritonforge(*given, "--yes", "--format", "json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["state"] == "Completed"
    assert account.keys("packed/out/") == ["a.out"]
    (summary,) = account.sagemaker.list_transform_jobs(NameContains="served")["TransformJobSummaries"]
    found = account.sagemaker.describe_transform_job(TransformJobName=summary["TransformJobName"])
    assert found["Environment"] == {"A": "b"}
    request = account.sagemaker.describe_model(ModelName=found["ModelName"])["PrimaryContainer"]
    assert request["Image"] == f"{registry}/tensorflow-inference:2.19-gpu"


def test_an_image_of_the_other_kind_is_refused(account: Any, package: Path, repository: Path) -> None:
    """Triton takes no package for TensorFlow Serving, and the other way round; the right image is named."""
    for model, image, right in (
        (package, "24.09", "tensorflow-inference:2.19"),
        (repository, "x/tensorflow-inference:2.19-cpu", "24.09"),
    ):
        flags = ["--repository", str(model), "--role", "TritonForgeExecutionRole", "--image", image]
        done = tritonforge(*arguments(account, "kinds", *flags, "--yes"))
        assert done.returncode == 2
        assert f"--image {right})" in done.stderr


def test_a_model_that_is_there_is_named(account: Any) -> None:
    account.put({"by-name/in/a": b"x", "by-name/in/b": b"refuse"})
    account.create_model("by-name")
    given = arguments(
        account, "by-name", "--sagemaker-model", "by-name", "--name", "by-name-1", "--retries", "0", "--yes"
    )
    done = tritonforge(*given, "--model", "other", "--format", "json")
    assert done.returncode == 1, done.stderr
    reported = json.loads(done.stdout)
    assert (reported["job"], reported["state"]) == ("by-name-1", "Failed")
    assert reported["reason"].startswith("ClientError: See job logs for more information (1 of 2 objects")
    assert "by-name/in/b: " in done.stderr
    found = account.sagemaker.describe_transform_job(TransformJobName="by-name-1")
    assert found["Environment"] == {"SAGEMAKER_TRITON_DEFAULT_MODEL_NAME": "other"}
    assert found["ModelClientConfig"] == {"InvocationsMaxRetries": 0}


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (
            ["--sagemaker-model", "absent"],
            'Could not find model "arn:aws:sagemaker:us-east-1:123456789012:model/absent"',
        ),
        ([], "--on sagemaker needs a model"),
        (["--repository", "no/such/folder"], "Path 'no/such/folder' does not exist"),
        (["--sagemaker-model", "m", "--output-format", "npy"], "--output-format container"),
        (["--sagemaker-model", "m", "--work", "w"], "--work applies to jobs on this machine only"),
        (["--url", "http://127.0.0.1:1"], "--url applies to jobs on this machine only"),
    ],
)
def test_what_cannot_be_run_there(account: Any, more: list[str], sentence: str) -> None:
    """One sentence each, and no job."""
    done = tritonforge(*arguments(account, "refused", *more, "--yes"))
    assert done.returncode in (1, 2)
    assert sentence in " ".join(done.stderr.replace("│", " ").split())


def test_everything_that_is_wrong_is_stated_before_any_call(account: Any) -> None:
    account.create_model("wrong-fields")
    given = arguments(account, "wrong", "--sagemaker-model", "wrong-fields", "--yes", "--name", "a_b")
    done = tritonforge(*given, "--max-payload", "50", "--max-concurrent", "3", "--accept", "x" * 300)
    assert done.returncode == 2, done.stderr
    for place in ("TransformJobName", "Accept", "= 150"):
        assert place in done.stderr


def test_flags_of_a_fleet_need_one() -> None:
    """A flag that would do nothing is an error."""
    done = tritonforge("transform", "in", "out", "--repository", "repos", "--no-wait")
    assert done.returncode == 2
    assert "--no-wait applies to --on sagemaker only" in done.stderr


def test_no_wait_returns_at_once(account: Any) -> None:
    account.put({"unwatched/in/a": b"x"})
    account.create_model("unwatched")
    given = arguments(
        account, "unwatched", "--sagemaker-model", "unwatched", "--name", "unwatched-1", "--yes", "--no-wait"
    )
    done = tritonforge(*given)
    assert done.returncode == 0, done.stderr
    assert "InProgress  unwatched-1" in done.stdout
    assert account.wait_for_end("unwatched-1")["TransformJobStatus"] == "Completed"


@pytest.mark.parametrize("answer", ["y", "n"])
def test_an_interruption_asks_whether_to_stop_the_job(account: Any, answer: str) -> None:
    """Ctrl-C: yes stops the job on SageMaker and waits for that, no leaves it there."""
    name = f"interrupted-{answer}"
    account.put({f"{name}/in/a": b"wait"})
    account.create_model(name)
    account.containers.gate.clear()
    ours, theirs = pty.openpty()
    try:
        process = subprocess.Popen(
            [PROGRAM, *arguments(account, name, "--sagemaker-model", name, "--name", f"{name}-1", "--yes")],
            stdin=theirs,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        found = {}
        for _ in range(1000):
            jobs = account.sagemaker.list_transform_jobs(NameContains=f"{name}-1")["TransformJobSummaries"]
            found = jobs and account.sagemaker.describe_transform_job(TransformJobName=f"{name}-1")
            if found and "TransformStartTime" in found:
                break
            time.sleep(0.02)
        time.sleep(0.5)  # so that it is watched
        process.send_signal(signal.SIGINT)
        os.write(ours, f"{answer}\n".encode())
        out, err = process.communicate(timeout=60)
        assert process.returncode == 130, err
        assert f"Stop the transform job {name}-1 too?" in err
        if answer == "y":
            assert f"Stopped  {name}-1" in out
            assert account.wait_for_end(f"{name}-1")["TransformJobStatus"] == "Stopped"
        else:
            assert "is still running" in err
            account.containers.gate.set()
            assert account.wait_for_end(f"{name}-1")["TransformJobStatus"] == "Completed"
    finally:
        account.containers.gate.set()
        os.close(ours)
        os.close(theirs)
