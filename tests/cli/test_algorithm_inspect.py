"""`tritonforge algorithm show` and `... requests`: what a program folder declares, for people and for SageMaker."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.checkout import ROOT, run_tritonforge
from tritonforge.cli.main import main
from tritonforge.sagemaker.jobs.publication import (
    AlgorithmRequest,
    ModelPackageRequest,
)
from tritonforge.training.algorithm import render_markdown
from tritonforge.training.algorithm.program import load_algorithm

DECLARED = ROOT / "tests" / "training" / "sandbox" / "programs" / "declared"
REGISTRY = "123456789012.dkr.ecr.us-east-1.amazonaws.com"
IMAGES = (f"--training-image={REGISTRY}/lines-train:1", f"--inference-image={REGISTRY}/lines-serve:1")
VALIDATED = (
    "--role=arn:aws:iam::123456789012:role/SageMaker",
    "--sample=training=s3://bucket/lines/",
    "--transform=s3://bucket/more/",
    "--output=s3://bucket/validation",
    "--hyperparameter=epochs=2",
)


def run(capsys: pytest.CaptureFixture[str], *given: str) -> tuple[int, str, str]:
    """Run `tritonforge algorithm` in this process: exit code, standard output, standard error."""
    with pytest.raises(SystemExit) as ended:
        main(["algorithm", *given])
    captured = capsys.readouterr()
    return int(str(ended.value.code)), captured.out, captured.err


@pytest.mark.process
def test_show_prints_the_table() -> None:
    """The page of documentation, as Markdown; as JSON the specifications of CreateAlgorithm."""
    done = run_tritonforge("algorithm", "show", str(DECLARED))
    assert (done.returncode, done.stdout) == (0, render_markdown(load_algorithm(DECLARED)))
    report = json.loads(run_tritonforge("algorithm", "show", str(DECLARED), "--format=json").stdout)
    assert report["name"] == "lines"
    assert report["TrainingSpecification"]["TrainingChannels"][0]["SupportedInputModes"] == ["File", "Pipe"]
    assert report["InferenceSpecification"]["SupportedContentTypes"] == ["text/csv"]


@pytest.mark.process
def test_the_requests_are_those_of_the_declaration() -> None:
    """They can be read back, and hold the images, the profile, and the model to package."""
    package = ("--model-package=lines-1", "--model-data=s3://bucket/model.tar.gz", "--certify")
    done = run_tritonforge("algorithm", "requests", str(DECLARED), *IMAGES, *VALIDATED, *package)
    assert done.returncode == 0, done.stderr
    requests = json.loads(done.stdout)
    assert list(requests) == ["CreateAlgorithm", "CreateModelPackage"]
    algorithm = AlgorithmRequest.from_request(requests["CreateAlgorithm"])
    assert algorithm.algorithm == load_algorithm(DECLARED)
    assert algorithm.training_image == f"{REGISTRY}/lines-train:1"
    assert algorithm.certify_for_marketplace is True
    assert algorithm.profile is not None
    assert algorithm.profile.training is not None
    assert algorithm.profile.training.hyperparameters == {"epochs": "2"}
    model = ModelPackageRequest.from_request(requests["CreateModelPackage"])
    assert (model.name, model.algorithm_name, model.model_data_url) == ("lines-1", "lines", "s3://bucket/model.tar.gz")
    assert model.profile is not None
    assert model.profile.training is None


def test_an_algorithm_without_validation_is_one_request(capsys: pytest.CaptureFixture[str]) -> None:
    """No role, no data: it has nothing of a profile."""
    requests = json.loads(run(capsys, "requests", str(DECLARED), IMAGES[0])[1])
    assert list(requests) == ["CreateAlgorithm"]
    assert "ValidationSpecification" not in requests["CreateAlgorithm"]
    assert "InferenceSpecification" not in requests["CreateAlgorithm"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([*VALIDATED, "--hyperparameter=epochs=20"], "epochs"),
        ([*VALIDATED, "--sample=tarining=s3://bucket/x/"], "sample data for unknown channel 'tarining'"),
        (["--sample=training=s3://bucket/x/"], "--sample requires --role"),
        (["--transform=s3://bucket/x/"], "require --sample"),
        (["--model-package=x"], "--model-package and --model-data require each other"),
        (["--certify"], "AWS Marketplace requires a validation"),
    ],
)
def test_what_aws_would_refuse_is_refused_before_any_call(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2 and a sentence."""
    code, out, err = run(capsys, "requests", str(DECLARED), *IMAGES, *arguments)
    assert (code, out) == (2, "")
    assert says in err


def test_a_program_without_a_declaration_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As the guide's own programs, which declare nothing."""
    code, _, err = run(capsys, "show", str(tmp_path))
    assert code == 2
    assert "there is no algorithm.py in it" in err
