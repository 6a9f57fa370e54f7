"""docs/import.md: its repository is imported, and its output and definition are what the command gives."""

import re
from pathlib import Path

import pytest

from tests.support.checkout import ROOT
from tests.support.command import tritonforge

PAGE = (ROOT / "docs" / "import.md").read_text()


def test_the_page_shows_the_real_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    configs = re.findall(r"^`(model_repository/\S+)`\n\n```text\n(.*?)^```", PAGE, flags=re.DOTALL | re.MULTILINE)
    assert len(configs) == 3
    files = ["decode/1/model.dali", "classifier/1/model.onnx", "classifier/labels.txt", "pipeline/1/.gitkeep"]
    for path, text in [*configs, *((f"model_repository/{file}", "") for file in files)]:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(text)
    (console,) = re.findall(r"^```console\n\$ tritonforge (.*?)\n(.*?)^```", PAGE, flags=re.DOTALL | re.MULTILINE)
    done = tritonforge(*console[0].split())
    assert (done.returncode, done.stdout, done.stderr) == (0, console[1], "")
    (definition,) = re.findall(r"^```python\n(.*?)^```", PAGE, flags=re.DOTALL | re.MULTILINE)
    assert Path("definition.py").read_text() == definition
