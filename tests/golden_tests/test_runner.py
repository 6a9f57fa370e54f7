"""How models are asked that are not one request and one answer: nested, decoupled, and sequences."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.python_models import ACCUMULATE, IDENTITY, REPEAT, write_model
from tritonforge.golden_tests.case_files import CaseDirectory
from tritonforge.golden_tests.runner import RepositoryRunner
from tritonforge.golden_tests.session import open_runner
from tritonforge.golden_tests.suite import CaseResult, Mode, run_case

pytestmark = pytest.mark.server

_TENSORS = (
    'input { name: "in_0" data_type: TYPE_FP32 dims: [2] } output { name: "out_0" data_type: TYPE_FP32 dims: [2] }'
)


def write_ensemble(folder: Path, name: str, steps: str, tensors: str = _TENSORS) -> None:
    """Write an ensemble; ``steps`` are pbtxt."""
    (folder / name / "1").mkdir(parents=True)
    (folder / name / "config.pbtxt").write_text(f'platform: "ensemble" {tensors} ensemble_scheduling {{ {steps} }}')


def step(model: str, source: str, target: str) -> str:
    """A step from in_0 to out_0."""
    return (
        f'step {{ model_name: "{model}" model_version: -1 input_map {{ key: "in_0" value: "{source}" }} '
        f'output_map {{ key: "out_0" value: "{target}" }} }}'
    )


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RepositoryRunner]:
    folder = tmp_path_factory.mktemp("models")
    write_model(folder, "copy", _TENSORS, IDENTITY)
    write_model(folder, "repeat", *REPEAT)
    write_model(folder, "accumulate", *ACCUMULATE)
    write_ensemble(folder, "inner", step("copy", "in_0", "mid") + step("copy", "mid", "out_0"))
    write_ensemble(folder, "outer", step("inner", "in_0", "mid") + step("copy", "mid", "out_0"))
    tensors = REPEAT[0].replace("model_transaction_policy { decoupled: true }", "")
    maps = "".join(f'input_map {{ key: "{name}" value: "{name}" }}' for name in ("text", "count"))
    maps += "".join(f'output_map {{ key: "{name}" value: "{name}" }}' for name in ("piece", "index"))
    write_ensemble(folder, "story", f'step {{ model_name: "repeat" model_version: -1 {maps} }}', tensors)
    with open_runner(folder) as opened:
        yield opened


def run(folder: Path, document: Any, runner: RepositoryRunner, mode: Mode) -> CaseResult:
    """Run a case of this name."""
    folder.mkdir(exist_ok=True)
    (folder / "case.json").write_text(json.dumps(document))
    return run_case(CaseDirectory(folder), "case", runner, mode=mode)


def read_recording(folder: Path) -> Any:
    return json.loads((folder / "recorded" / "case.json").read_text())


def test_steps_of_nested_ensembles_are_recorded(runner: RepositoryRunner, tmp_path: Path) -> None:
    case = {"model": "outer", "inputs": {"in_0": [1, 2]}}
    assert run(tmp_path, case, runner, "record").status == "recorded"
    recorded = read_recording(tmp_path)
    assert [(entry["step"], entry["inputs"]) for entry in recorded["steps"]] == [
        ("inner/copy", {"in_0": "in_0"}),
        ("inner/copy#2", {"in_0": "inner/copy.out_0"}),
        ("copy", {"in_0": "inner/copy#2.out_0"}),
    ]
    assert run(tmp_path, case, runner, "replay").status == "passed"


@pytest.mark.parametrize("model", ["repeat", "story"])
def test_the_responses_of_a_decoupled_model_are_recorded_in_order(
    runner: RepositoryRunner, tmp_path: Path, model: str
) -> None:
    case = {"model": model, "inputs": {"text": ["la"], "count": [3]}}
    recorded = run(tmp_path, case, runner, "record")
    assert recorded.status == "recorded"
    assert list(read_recording(tmp_path)["outputs"])[-2:] == ["2/index", "2/piece"]  # Triton's order varies
    result = run(tmp_path, case, runner, "replay")
    assert result.status == "passed"
    assert run(tmp_path, case, runner, "update").status == "passed"
    if model == "story":
        assert result.notes == ("story is not split into steps: repeat is decoupled and has any number of responses",)


def test_every_case_is_a_sequence_of_its_own(runner: RepositoryRunner, tmp_path: Path) -> None:
    """A model that adds up what a sequence has sent answers the same each time."""
    case = {"model": "accumulate", "inputs": {"x": [[5]]}}
    assert run(tmp_path, case, runner, "record").status == "recorded"
    assert [run(tmp_path, case, runner, "replay").status for _ in range(3)] == ["passed"] * 3


def test_several_outermost_models_need_a_name(runner: RepositoryRunner, tmp_path: Path) -> None:
    result = run(tmp_path, {"inputs": {"in_0": [1, 2]}}, runner, "record")
    assert result.status == "invalid"
    assert result.message == 'case: model is missing. Write "model": one of outer, story'
