"""``tritonforge algorithm publish`` and ``package`` as a user runs them; the emulator validates with the program."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.accounts import COUNTER_IMAGE, TrainingAccount
from tests.support.checkout import run_tritonforge
from tests.support.training_requests import pictures
from tritonforge.cli.main import main

pytestmark = pytest.mark.process

ROLE = ("--role", "TritonForgeExecutionRole")


def report(capsys: pytest.CaptureFixture[str], *given: str) -> tuple[int, dict[str, Any]]:
    """Run the command line in this process: its exit code, and its report."""
    with pytest.raises(SystemExit) as ended:
        main([*given, "--format", "json"])
    return int(str(ended.value.code)), json.loads(capsys.readouterr().out)


def publish(program: Path, *more: str) -> list[str]:
    """Publish the program."""
    return [
        "algorithm",
        "publish",
        str(program),
        "--training-image",
        COUNTER_IMAGE,
        "--inference-image",
        COUNTER_IMAGE,
        *ROLE,
        *more,
    ]


def test_an_algorithm_is_published_trains_and_its_model_becomes_a_package(
    account: TrainingAccount, program: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """CreateAlgorithm with data of this machine, a job of the algorithm, and a package of the job's model."""
    sample = pictures(tmp_path / "sample", "a.txt", "b.txt")
    objects = pictures(tmp_path / "objects", "1.txt")
    given = publish(program, "--sample", f"train={sample}", "--transform", str(objects))
    done = run_tritonforge(*given, "--yes")
    assert done.returncode == 0, done.stderr
    assert "Completed  algorithm counter" in done.stdout
    assert "profile validation: Completed" in done.stderr
    again = run_tritonforge(*given, "--yes")
    assert again.returncode == 0, again.stderr
    assert "nothing to do, AWS has it" in again.stdout
    train = ("train", str(program), "--on", "sagemaker", "--algorithm", "counter", *ROLE, "--yes")
    code, trained = report(capsys, *train, "--channel", f"train={sample}")
    assert code == 0
    model = trained["model"]
    given = ["algorithm", "package", "counted", "--algorithm", "counter", "--model-data", model, *ROLE]
    code, reported = report(capsys, *given, "--transform", str(objects), "--yes")
    assert code == 0
    assert (reported["name"], reported["state"], reported["failures"]) == ("counted", "Completed", [])
    found = account.sagemaker.describe_model_package(ModelPackageName="counted")
    assert found["ModelPackageStatus"] == "Completed"


def test_a_validation_that_fails_is_reported(
    account: TrainingAccount, program: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = publish(program, "--name", "fails", "--sample", f"train=s3://{account.bucket}/data/")
    code, reported = report(capsys, *given, "--hyperparameter", "fail=no samples", "--yes")
    assert (code, reported["state"]) == (1, "Failed")
    assert "no samples" in reported["failures"][0]
    steps = [step["operation"] for step in report(capsys, *given, "--plan")[1]["steps"]]
    assert steps == ["DeleteAlgorithm", "CreateAlgorithm"]


def test_a_model_becomes_a_version_of_a_group_once(
    account: TrainingAccount, program: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The second run finds it; another model is the next version."""
    model = tmp_path / "model.tar.gz"
    given = ["algorithm", "package", "all", "--group", "--inference-image", COUNTER_IMAGE, "--program", str(program)]
    arns = []
    for content in (b"one", b"one", b"two"):
        model.write_bytes(content)
        code, reported = report(capsys, *given, "--model-data", str(model), "--yes")
        assert code == 0
        arns.append(reported["arn"])
    assert [arn.rpartition("/")[2] for arn in arns] == ["1", "1", "2"]
    found = account.sagemaker.describe_model_package(ModelPackageName=arns[-1])
    (container,) = found["InferenceSpecification"]["Containers"]
    assert account.get(container["ModelDataUrl"].removeprefix(f"s3://{account.bucket}/")) == b"two"


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (["publish", "PROGRAM", "--training-image", "i:1", "--sample", "train=s3://b/c"], "requires --role"),
        (["publish", "PROGRAM", "--training-image", "i:1", "--transform", "s3://b/c"], "require --sample"),
        (["publish", "PROGRAM", "--training-image", "i:1", "--sample", "x=s3://b/c", "--role", "r"], "channel 'x'"),
        (["package", "n", "--model-data", "s3://b/m.tar.gz"], "give --algorithm NAME, or --inference-image"),
        (
            ["package", "n", "--model-data", "m", "--inference-image", "i:1"],
            "--inference-image and --program require each other",
        ),
        (["package", "n", "--model-data", "m", "--algorithm", "a", "--transform", "t"], "requires --role"),
    ],
)
def test_what_does_not_go_together(
    program: Path, given: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """One sentence, exit code 2, and nothing is called."""
    with pytest.raises(SystemExit) as ended:
        main(["algorithm", *[str(program) if item == "PROGRAM" else item for item in given]])
    assert ended.value.code == 2
    assert sentence in " ".join(capsys.readouterr().err.split())
