"""`tritonforge deploy --to kserve` and `--to helm`, without a cluster."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from tests.support.command import tritonforge

MODEL = """backend: "python" max_batch_size: 2 instance_group [{ kind: KIND_CPU }]
input [{name: "x" data_type: TYPE_FP32 dims: [1]}] output [{name: "y" data_type: TYPE_FP32 dims: [1]}]"""
ENSEMBLE = """platform: "ensemble" max_batch_size: 2
input [{name: "x" data_type: TYPE_FP32 dims: [1]}] output [{name: "y" data_type: TYPE_FP32 dims: [1]}]
ensemble_scheduling { step [{ model_name: "m" model_version: -1
  input_map { key: "x" value: "x" } output_map { key: "y" value: "y" } }] }"""
CODE = "class TritonPythonModel:\n    def execute(self, requests):\n        return []\n"
FLAGS = ("--image", "24.09", "--name", "digits")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    files = {"m/config.pbtxt": MODEL, "m/1/model.py": CODE, "all/config.pbtxt": ENSEMBLE, "all/1/.gitkeep": ""}
    for path, text in files.items():
        (tmp_path / "repository" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "repository" / path).write_text(text)
    return tmp_path / "repository"


def test_manifests_are_written_as_files_and_equal_on_standard_output(repository: Path, tmp_path: Path) -> None:
    command = ("deploy", str(repository), "--to", "kserve", *FLAGS, "--storage-uri", "pvc://models/digits")
    assert tritonforge(*command, "-o", str(tmp_path / "out")).returncode == 0
    texts = [(tmp_path / "out" / name).read_text() for name in ("serving-runtime.yaml", "inference-service.yaml")]
    assert tritonforge(*command, "-o", "-").stdout == "---\n".join(texts)
    assert yaml.safe_load(texts[0])["spec"]["volumes"][0]["emptyDir"]["sizeLimit"] == "64Mi"
    document = json.loads(tritonforge(*command, "--plan", "--format", "json").stdout)
    assert [step["manifest"] for step in document["steps"]] == [yaml.safe_load(text) for text in texts]
    assert document["server"] is None


def test_a_repository_that_the_target_would_not_serve_is_refused(repository: Path) -> None:
    done = tritonforge(
        "deploy", str(repository), "--to", "kserve", *FLAGS, "--storage-uri", "s3://models/digits", "--plan"
    )
    assert done.returncode == 1
    assert "E451 all/1: the download of s3://models/digits drops all/1" in done.stderr


def test_secrets_are_masked_in_the_plan_and_not_in_the_manifests(repository: Path) -> None:
    command = (
        "deploy",
        str(repository),
        "--to",
        "kserve",
        *FLAGS,
        "--storage-uri",
        "pvc://m/d",
        "--env",
        "A_TOKEN=xyz",
    )
    assert "xyz" not in tritonforge(*command, "--plan").stdout
    assert "value: xyz" in tritonforge(*command, "-o", "-").stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--to", "kserve"), "give --plan to print the manifests, -o DIR to write them, or --apply to send them"),
        (("--to", "kserve", "--plan", "--role", "x"), "execution_role_arn has no meaning on Kubernetes"),
        (("--to", "kserve", "--plan", "--profile", "x"), "--profile applies to --to sagemaker, and to the upload of"),
        (("--to", "kserve", "--plan", "--context", "x"), "--context needs --apply"),
        (("--to", "kserve", "--plan", "--no-upload"), "--no-upload needs --apply"),
        (("--to", "helm", "--apply"), "--apply applies to --to kserve only"),
        (("--memory", "4Gi", "--plan"), "--memory applies to --to kserve and --to helm only"),
        (("--to", "kserve", "-o", "-", "--json", "--storage-uri", "pvc://m/d"), "both write to standard output"),
    ],
)
def test_options_that_do_not_apply_are_refused(repository: Path, options: tuple[str, ...], message: str) -> None:
    done = tritonforge("deploy", str(repository), *FLAGS, *options)
    assert done.returncode == 2
    assert message in done.stderr


def test_settings_of_the_definition_are_overridden_by_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    project = tmp_path / "project"
    project.mkdir()
    (project / "m.py").write_text(CODE)
    (project / "definition.py").write_text(
        "from tritonforge import TYPE_FP32, Deployment, File, Input, Output, Python\n"
        "from tritonforge.kubernetes import ClusterSettings\n"
        "m = Python('m', input=[Input('x', TYPE_FP32, [1])], output=[Output('y', TYPE_FP32, [1])],\n"
        "           artifact=File('m.py'))\n"
        "deployment = Deployment(name='digits', image='24.09')\n"
        "settings = ClusterSettings(namespace='ml', storage_uri='pvc://models/digits', memory='4Gi')\n"
    )
    done = tritonforge("deploy", str(project), "--to", "kserve", "-o", "-", "--memory", "8Gi")
    assert done.returncode == 0, done.stderr
    service = list(yaml.safe_load_all(done.stdout))[1]
    assert service["metadata"]["namespace"] == "ml"
    assert service["spec"]["predictor"]["model"]["resources"]["limits"] == {"memory": "8Gi"}
