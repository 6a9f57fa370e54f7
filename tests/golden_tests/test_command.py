"""`tritonforge test` without a server: usage, and what cannot be tested, in one sentence and with an exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.command import tritonforge


def write_cases(folder: Path, *names: str) -> Path:
    """A directory with cases of one input."""
    folder.mkdir()
    for name in names:
        (folder / f"{name}.json").write_text('{"inputs": {"x": 1}}')
    return folder


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """An empty directory."""
    (tmp_path / "models").mkdir()
    return tmp_path / "models"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--record", "--update"), "--record and --update exclude each other"),
        (("--against", "http://localhost:1", "--record"), "--record asks a local server; remove --against"),
        (
            ("--against", "http://localhost:1", "--region", "us-east-1"),
            "--region applies to --against sagemaker://... only",
        ),
        (("-k", "nine"), "no cases contain 'nine' (expected NAME.json)"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    repository: Path, tmp_path: Path, arguments: tuple[str, ...], sentence: str
) -> None:
    done = tritonforge("test", str(repository), "--cases", str(write_cases(tmp_path / "cases", "one")), *arguments)
    assert done.returncode == 2
    assert sentence in done.stderr


def test_the_default_directory_of_cases_is_named_if_it_does_not_exist(repository: Path, tmp_path: Path) -> None:
    done = tritonforge("test", str(repository))
    assert done.returncode == 2
    assert f"{tmp_path}/tests: cannot read the directory of cases: No such file or directory." in done.stderr
    (tmp_path / "tests").mkdir()
    assert f"{tmp_path}/tests: no cases (expected NAME.json)" in tritonforge("test", str(repository)).stderr


def test_a_repository_without_models_and_a_broken_definition_are_a_sentence(repository: Path, tmp_path: Path) -> None:
    cases = str(write_cases(tmp_path / "cases", "one"))
    done = tritonforge("test", str(repository), "--cases", cases)
    assert done.returncode == 2
    assert "no models found (expected a directory for each model)" in done.stderr
    (repository / "definition.py").write_text("1 / 0\n")
    done = tritonforge("test", str(repository), "--cases", cases, "--json")
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"]["message"].endswith("definition.py:1: ZeroDivisionError: division by zero")


def test_no_server_is_started_for_cases_that_cannot_be_read(repository: Path, tmp_path: Path) -> None:
    """The repository has no models, which a start of the server would refuse."""
    cases = write_cases(tmp_path / "cases", "one")
    (cases / "one.json").write_text("{")
    done = tritonforge("test", str(repository), "--cases", str(cases))
    assert (done.returncode, done.stderr) == (2, "")
    assert done.stdout.startswith(f"ERROR one  {cases}/one.json: expected JSON: ")


def test_a_server_that_does_not_answer_fails_every_case(repository: Path, tmp_path: Path) -> None:
    """Also which cases failed is stored, for --last-failed."""
    cases = write_cases(tmp_path / "cases", "one", "two")
    (cases / "one.json").write_text('{"inputs": {"x": 1}, "outputs": {"y": {"value": 1}}}')
    done = tritonforge("test", str(repository), "--cases", str(cases), "--against", "http://127.0.0.1:9", "--json")
    assert done.returncode == 1
    [one, two] = json.loads(done.stdout)["cases"]
    assert "127.0.0.1:9" in one["message"]
    assert two["message"] == "it has no recording; record it with --record"
    (cases / "two.json").write_text("{}")
    done = tritonforge("test", str(repository), "--cases", str(cases), "--against", "http://127.0.0.1:9", "-k", "two")
    assert done.returncode == 2
    assert done.stdout.startswith(f"ERROR two  {cases}/two.json: inputs: missing.")
