"""`tritonforge validate` and `explain`, as a user and as CI run them."""

import json
import os
import shutil
from pathlib import Path

import pytest

import tritonforge as package
from tests.support import checkout
from tests.support.checkout import ROOT
from tests.support.command import tritonforge
from tritonforge import TYPE_FP32, Ensemble, File, Input, Output, Python, Tensor
from tritonforge.repository.resolve import resolve
from tritonforge.validation.findings import verdict
from tritonforge.validation.tree import GITKEEP_TEXT

GOOD = {
    "leaf/config.pbtxt": """\
name: "leaf"
backend: "python"
max_batch_size: 4
input { name: "x" data_type: TYPE_FP32 dims: 2 }
output { name: "y" data_type: TYPE_FP32 dims: 2 }
""",
    "leaf/1/model.py": "",
    "all/config.pbtxt": """\
name: "all"
platform: "ensemble"
max_batch_size: 4
input { name: "I" data_type: TYPE_FP32 dims: 2 }
output { name: "O" data_type: TYPE_FP32 dims: 2 }
ensemble_scheduling {
  step {
    model_name: "leaf"
    model_version: -1
    input_map { key: "x" value: "I" }
    output_map { key: "y" value: "O" }
  }
}
""",
    "all/1/.gitkeep": "",
}


def write(folder: Path, files: dict[str, str]) -> Path:
    """A repository on disk."""
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    return folder


@pytest.fixture
def good(tmp_path: Path) -> Path:
    """A repository that loads."""
    return write(tmp_path / "good", GOOD)


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    """The same with a wrong type between its steps."""
    text = GOOD["all/config.pbtxt"].replace("TYPE_FP32", "TYPE_FP16", 1)
    return write(tmp_path / "bad", {**GOOD, "all/config.pbtxt": text})


@pytest.mark.process
def test_a_good_repository_exits_0(good: Path) -> None:
    """No findings: one line."""
    done = checkout.run_tritonforge("validate", str(good))
    assert (done.returncode, done.stdout) == (0, f"{good}: Triton loads it; 2 models, no findings\n")


@pytest.mark.process
def test_a_bad_one_exits_1_with_tritons_words_at_the_place(bad: Path) -> None:
    """The sentence is the server's, and the caret is under the value."""
    done = checkout.run_tritonforge("validate", str(bad))
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert lines[0].startswith(f"{bad}/all/config.pbtxt:")
    assert (
        "in ensemble all, ensemble tensor I: inconsistent data type: TYPE_FP16 is inferred from model all" in lines[0]
    )
    assert lines[2].rstrip().endswith("^")
    assert lines[-1] == f"{bad}: Triton refuses it; 2 models, 1 error"


def test_several_repositories_are_judged_in_one_run(good: Path, bad: Path) -> None:
    """One refused repository makes the run fail."""
    done = tritonforge("validate", str(good), str(bad), "--format", "json")
    document = json.loads(done.stdout)
    assert done.returncode == 1
    assert [report["verdict"] for report in document["repositories"]] == ["loads", "refused"]


@pytest.mark.parametrize("form", ["text", "json", "sarif", "junit", "github", "gitlab"])
def test_every_format_has_the_code(bad: Path, form: str) -> None:
    """No format loses the finding."""
    code = json.loads(tritonforge("validate", str(bad), "--format", "json").stdout)["findings"][0]["code"]
    done = tritonforge("validate", str(bad), "--format", form)
    assert done.returncode == 1
    assert code in done.stdout


def test_findings_are_selected_and_ignored_by_code(bad: Path) -> None:
    """What is hidden is counted, and refuses all the same."""
    code = json.loads(tritonforge("validate", str(bad), "--format", "json").stdout)["findings"][0]["code"]
    ignored = tritonforge("validate", str(bad), "--ignore", code)
    summary = f"{bad}: Triton refuses it; 2 models, 1 finding hidden by --select or --ignore\n"
    assert (ignored.returncode, ignored.stdout) == (1, summary)
    selected = tritonforge("validate", str(bad), "--select", code[:2])
    assert selected.returncode == 1
    assert code in selected.stdout


def test_advice_fails_a_strict_run_only(good: Path) -> None:
    """A warning exits 0, and with --strict 1."""
    (good / "stray").write_text("x")
    write(good, {"leaf/1abc/model.py": ""})
    relaxed, strict = tritonforge("validate", str(good)), tritonforge("validate", str(good), "--strict")
    assert "warning" in relaxed.stdout
    assert (relaxed.returncode, strict.returncode) == (0, 1)


def test_an_empty_folder_is_an_error_unless_it_is_allowed(tmp_path: Path) -> None:
    """A wrong path is far more likely than a repository without models."""
    done = tritonforge("validate", str(tmp_path))
    assert (done.returncode, done.stdout) == (2, "")
    assert f"{tmp_path}: no models found" in done.stderr
    assert tritonforge("validate", str(tmp_path), "--allow-empty").returncode == 0


@pytest.mark.process
def test_what_is_not_judged_exits_1(good: Path) -> None:
    """A pipe instead of a configuration: it is not opened, and the verdict is not that it loads."""
    (good / "leaf" / "config.pbtxt").unlink()
    os.mkfifo(good / "leaf" / "config.pbtxt")
    done = checkout.run_tritonforge("validate", str(good), "--ignore", "E", timeout=60)
    assert done.returncode == 1
    assert done.stdout.startswith(f"{good}: not judged, since not all of it was read; 2 models")
    assert verdict(package.validate(good)) == "not judged"


@pytest.mark.parametrize(
    "arguments", [["nowhere"], ["repos", "--image", "99.99"], [], ["repos", "--ignore", "E105,E999"]]
)
def test_a_wrong_command_exits_2(arguments: list[str]) -> None:
    """A path that is not there, an unknown image, no path at all, an unknown code."""
    done = tritonforge("validate", *arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")


@pytest.mark.framework
def test_an_image_without_tensorflow_offers_two_ways_out(digits: Path) -> None:
    """24.09 carries the TensorFlow backend, 26.05 does not."""
    assert tritonforge("validate", str(digits), "--image", "24.09").returncode == 0
    done = tritonforge("validate", str(digits), "--image", "26.05")
    assert done.returncode == 1
    assert "--tensorflow onnx" in done.stdout
    assert "--tensorflow python-backend" in done.stdout
    assert tritonforge("validate", str(digits), "--image", "26.05+tensorflow").returncode == 0


def test_a_models_own_directory_is_noticed(good: Path) -> None:
    """A common slip: the folder of one model in the place of the repository."""
    assert "pass its parent directory" in tritonforge("validate", str(good / "leaf")).stderr
    assert tritonforge("validate", str(good)).stderr == ""


def test_an_instance_type_and_an_environment_are_judged_with_it(good: Path) -> None:
    """A GPU that the image no longer supports, and a variable that the container does not take."""
    run = ["validate", str(good), "--target", "sagemaker", "--image", "25.09", "--instance-type"]
    model = "SAGEMAKER_TRITON_DEFAULT_MODEL_NAME=all"
    assert tritonforge(*run, "ml.g5.xlarge", "--env", model, "--strict").returncode == 0
    old = tritonforge(*run, "ml.p3.2xlarge", "--env", model, "--strict")
    assert old.returncode == 1
    assert "ml.p3.2xlarge has older ones" in old.stdout
    refused = tritonforge(*run, "ml.g5.xlarge", "--env", "SAGEMAKER_TRITON_DEFAULT_MODEL_NAME=unknown")
    assert refused.returncode == 1
    assert "SAGEMAKER_TRITON_DEFAULT_MODEL_NAME unknown does not exist" in refused.stdout
    assert "SageMaker refuses it" in refused.stdout
    assert tritonforge(*run, "g5.xlarge").returncode == 2
    assert tritonforge(*run, "ml.g5.xlarge", "--env", "nothing").returncode == 2


def test_what_has_one_correct_value_is_fixed(good: Path) -> None:
    """The diff is shown, the files are written, and the repository loads."""
    shutil.rmtree(good / "all" / "1")
    config = good / "all" / "config.pbtxt"
    config.write_text(config.read_text().replace('"all"', '"other"').replace("    model_version: -1\n", ""))
    assert tritonforge("validate", str(good)).returncode == 1
    done = tritonforge("validate", str(good), "--fix")
    assert done.returncode == 0, done.stdout
    assert '-name: "other"\n+name: "all"\n' in done.stdout
    assert "+    model_version: -1\n" in done.stdout
    assert (good / "all" / "1" / ".gitkeep").read_bytes() == GITKEEP_TEXT
    assert config.read_text() == GOOD["all/config.pbtxt"]


@pytest.mark.server
def test_the_real_server_is_asked_and_agrees(good: Path, bad: Path) -> None:
    """Its sentences stand beside ours, and no difference is found."""
    fine = json.loads(checkout.run_tritonforge("validate", str(good), "--with-server", "--format", "json").stdout)
    assert fine["server"] == {"verdict": "loads", "messages": [], "undecided": {}, "differences": []}
    document = json.loads(checkout.run_tritonforge("validate", str(bad), "--with-server", "--format", "json").stdout)
    assert document["server"]["verdict"] == "refused"
    assert document["server"]["differences"] == []
    assert document["server"]["messages"] == [document["findings"][0]["message"]]


def test_the_function_judges_folders_and_repositories_alike(good: Path, bad: Path) -> None:
    """`tritonforge.validate` takes a path, or a repository that is not written yet."""
    assert package.validate(good) == []
    (finding,) = package.validate(str(bad))
    assert (finding.refused_by, finding.path) == ("triton", "all/config.pbtxt")
    leaf = Python(
        "leaf",
        max_batch_size=2,
        input=[Input("x", TYPE_FP32, [1])],
        output=[Output("y", TYPE_FP32, [1])],
        artifact=File(path="model.py"),
    )
    ensemble = Ensemble("all", outputs={"O": leaf(Tensor("I"))})
    assert [finding for finding in package.validate(resolve({"all": ensemble})) if finding.refused_by] == []


def test_configurations_are_printed_as_the_server_has_them(good: Path) -> None:
    shown = tritonforge("validate", str(good), "--show-config")
    assert shown.stderr.startswith(f"{good}: Triton loads it")
    assert f'# {good}/leaf\nname: "leaf"\n' in shown.stdout
    assert "num_versions: 1" in shown.stdout
    document = json.loads(tritonforge("validate", str(good), "--show-config", "--format", "json").stdout)
    leaf = document["configs"]["leaf"]
    assert leaf["reason"] == ""
    assert leaf["config"]["input"][0]["dims"] == [2]
    assert leaf["config"]["instance_group"][0]["kind"] == "KIND_CPU"
    refused = tritonforge("validate", str(good), "--show-config", "--format", "sarif")
    assert refused.returncode == 2
    assert "--show-config: expected --format text or json, got sarif" in refused.stderr


def test_a_rule_is_explained_with_a_wrong_and_a_correct_example() -> None:
    """And an unknown code is answered with those that are there."""
    done = tritonforge("explain", "e213")
    assert done.returncode == 0
    for part in ("E213", "Triton refuses it", "invalid:", "valid:", "source: "):
        assert part in done.stdout
    unknown = tritonforge("explain", "E999")
    assert unknown.returncode == 2
    assert "rule 'E999' not found" in unknown.stderr


def test_the_table_of_rules_in_the_docs_is_the_codes_own() -> None:
    """docs/rules.md is what `tritonforge explain --table` prints."""
    committed = (ROOT / "docs" / "rules.md").read_text()
    assert tritonforge("explain", "--table").stdout == committed
