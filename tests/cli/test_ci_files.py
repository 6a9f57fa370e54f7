"""The GitHub Action and the GitLab job: their scripts, run as their systems run them, on inputs with shell code."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.checkout import ROOT
from tests.support.composite_action import ActionRun, run_action

MODEL = 'backend: "python" max_batch_size: {size}\n'
TENSORS = 'input [{name: "x" data_type: TYPE_FP32 dims: [1]}] output [{name: "y" data_type: TYPE_FP32 dims: [1]}]'
PROGRAM = Path(sys.executable).with_name("tritonforge")

ACTION = yaml.safe_load((ROOT / "action.yml").read_text())
STEPS: dict[str, Any] = {step.get("name", "set up Python"): step for step in ACTION["runs"]["steps"]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A directory with a repository that loads, in a name with shell code, and one that is refused."""
    for repository, size in (("good; touch $(touch a) `touch b`", 2), ("bad", -1)):
        (tmp_path / repository / "m" / "1").mkdir(parents=True)
        (tmp_path / repository / "m" / "1" / "model.py").touch()
        (tmp_path / repository / "m" / "config.pbtxt").write_text(MODEL.format(size=size) + TENSORS)
    return tmp_path


def run_steps(folder: Path, **inputs: str) -> ActionRun:
    """Run the Action's steps with inputs, but for those that install; `make package` runs these too."""
    return run_action(ACTION, folder, inputs, outputs={"install": {"program": str(PROGRAM)}})


def test_no_expression_is_a_part_of_a_script() -> None:
    for step in STEPS.values():
        assert "${{" not in step.get("run", "")
    used = {value for step in STEPS.values() for value in step.get("env", {}).values()}
    assert {f"${{{{ inputs.{name} }}}}" for name in ACTION["inputs"]} - used == {
        "${{ inputs.sarif }}", "${{ inputs.python-version }}",
    }  # fmt: skip


def test_every_input_is_documented() -> None:
    text = (ROOT / "docs" / "ci.md").read_text()
    for name in (*ACTION["inputs"], *ACTION["outputs"]):
        assert f"`{name}`" in text


@pytest.mark.process
def test_the_action_annotates_and_ends_with_the_exit_code(folder: Path) -> None:
    good = next(folder.glob("good*")).name
    run = run_steps(folder, path=f"{good}\nbad\n", image="24.09")
    assert run.code == 1, run.stderr
    outputs = run.steps["validate"]
    assert outputs["exit-code"] == "1"
    assert "::error file=bad/m/config.pbtxt,line=1" in run.stdout
    assert '"ruleId": "E213"' in Path(outputs["sarif-file"]).read_text()
    assert run_steps(folder, path=good).code == 0
    assert not {"a", "b"} & {path.name for path in folder.iterdir()}


@pytest.mark.process
def test_invalid_usage_fails_the_action_at_once(folder: Path) -> None:
    run = run_steps(folder, path="bad", arguments="--no-such-option=$(touch a)")
    assert (run.code, run.steps["validate"]) == (2, {})
    assert not (folder / "a").exists()


@pytest.mark.process
def test_the_gitlab_job_writes_both_reports_and_fails(folder: Path) -> None:
    job = yaml.safe_load((ROOT / "docs" / "ci" / "gitlab.yml").read_text())["tritonforge-validate"]
    install, *script = job["script"]
    assert install.startswith("pip install")
    variables = {**job["variables"], "TRITONFORGE_PATH": "bad"}
    done = subprocess.run(
        ["bash", "-e", "-c", "\n".join(script)], capture_output=True, text=True, check=False, cwd=folder,
        env={**os.environ, **variables, "PATH": f"{PROGRAM.parent}:{os.environ['PATH']}"},
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert '"check_name": "E213"' in (folder / job["artifacts"]["reports"]["codequality"]).read_text()
    assert "E213" in (folder / job["artifacts"]["reports"]["junit"]).read_text()
