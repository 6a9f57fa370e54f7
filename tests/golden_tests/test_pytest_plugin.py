"""pytest collects golden tests of what its configuration names, and is otherwise left alone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.checkout import ROOT

PLUGIN = "tritonforge.golden_tests.pytest_plugin"


def run_pytest(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run pytest in a folder as a user does; tritonforge's entry point may not be installed in this checkout."""
    command = [sys.executable, "-m", "pytest", "-p", PLUGIN, "-p", "no:cacheprovider", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.server
def test_a_case_is_a_test_that_names_the_step(tmp_path: Path) -> None:
    from tests.support.python_models import IDENTITY, write_model

    config = (
        'input { name: "in_0" data_type: TYPE_FP32 dims: [2] } output { name: "out_0" data_type: TYPE_FP32 dims: [2] }'
    )
    write_model(tmp_path / "models", "copy", config, IDENTITY)
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "right.json").write_text(
        '{"inputs": {"in_0": [1, 2]}, "outputs": {"out_0": {"value": [1, 2]}}}'
    )
    (tmp_path / "tests" / "wrong.json").write_text(
        '{"inputs": {"in_0": [1, 2]}, "outputs": {"out_0": {"value": [1, 3]}}}'
    )
    (tmp_path / "tests" / "invalid.json").write_text('{"input": 1}')
    (tmp_path / "other.json").write_text("{}")
    (tmp_path / "pytest.ini").write_text("[pytest]\ntritonforge = models\n")
    done = run_pytest(tmp_path, "-q")
    assert "copy.out_0: 1 of 2 elements differ, by up to 1 at [1]: 3 expected, 2 now" in done.stdout
    assert "input: unknown field (expected description, model, inputs" in done.stdout
    assert "2 failed, 1 passed" in done.stdout
    assert "Traceback" not in done.stdout
    recorded = run_pytest(tmp_path, "-q", "--golden-record", "-k", "right")
    assert "1 passed" in recorded.stdout


@pytest.mark.process
def test_without_the_setting_nothing_is_collected_and_nothing_is_imported(tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "case.json").write_text("{}")
    (tmp_path / "tests" / "test_modules.py").write_text(
        "import sys\n"
        "def test_modules():\n"
        f"    loaded = {{name for name in sys.modules if name.startswith('tritonforge')}}\n"
        f"    assert loaded == {{'tritonforge', 'tritonforge.golden_tests', '{PLUGIN}'}}\n"
        "    assert not {'numpy', 'click', 'rich'} & set(sys.modules)\n"
    )
    done = run_pytest(tmp_path, "-q", "-p", "no:hypothesispytest")
    assert "1 passed" in done.stdout, done.stdout
    assert done.returncode == 0
