"""`tritonforge graph`, as a user runs it; and that docs/graph.md shows what it prints."""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path

import pytest

from tests.support.checkout import ROOT
from tests.support.command import tritonforge
from tests.support.graph_repositories import HOSTILE, WRONG

DOCUMENT = ROOT / "docs" / "graph.md"


@pytest.fixture
def wrong(tmp_path: Path) -> Path:
    """A repository with findings."""
    for path, text in WRONG.items():
        (tmp_path / "wrong" / path).parent.mkdir(parents=True, exist_ok=True)
        if path.endswith("/"):
            (tmp_path / "wrong" / path).mkdir()
        elif isinstance(text, str):
            (tmp_path / "wrong" / path).write_text(text)
    return tmp_path / "wrong"


@pytest.mark.parametrize(
    ("name", "start"),
    [("x.svg", b"<svg "), ("x.png", b"\x89PNG"), ("x.html", b"<!DOCTYPE"), ("x.mmd", b"%%{init"),
     ("x.dot", b"digraph"), ("x.json", b"{"), ("x.txt", b"e: ensemble")],
)  # fmt: skip
def test_the_name_of_the_file_decides_its_format(wrong: Path, tmp_path: Path, name: str, start: bytes) -> None:
    done = tritonforge("graph", str(wrong), "-o", str(tmp_path / name))
    assert done.returncode == 0
    assert re.fullmatch(rf"{re.escape(str(tmp_path / name))}: \d diagrams, \d+ findings\n", done.stdout)
    assert (tmp_path / name).read_bytes().startswith(start)


def test_json_has_the_graph_with_its_findings(wrong: Path) -> None:
    document = json.loads(tritonforge("graph", str(wrong), "--json").stdout)
    assert [diagram["name"] for diagram in document["diagrams"]][:1] == ["e"]
    assert "E337" in [finding["code"] for finding in document["findings"]]


def test_invalid_usage_exits_2_with_a_sentence(wrong: Path, tmp_path: Path) -> None:
    for arguments, sentence in (
        (["-o", str(tmp_path / "x.gif")], "expected a name that ends in .svg"),
        (["-o", str(tmp_path / "x.svg"), "--format", "dot"], "--format is the format of standard output"),
        (["--model", "nosuch"], "model 'nosuch' not found"),
    ):
        done = tritonforge("graph", str(wrong), *arguments)
        assert done.returncode == 2
        assert sentence in done.stderr
    (tmp_path / "empty").mkdir()
    assert "no models found" in tritonforge("graph", str(tmp_path / "empty")).stderr


def test_a_directory_is_read_and_its_definition_is_not_run(wrong: Path) -> None:
    (wrong / "definition.py").write_text("raise SystemExit('it ran')\n")
    done = tritonforge("graph", str(wrong))
    assert done.returncode == 0
    assert "definition.py is not run" in done.stderr
    assert tritonforge("graph", str(wrong / "definition.py")).returncode != 0


def test_broken_and_hostile_repositories_are_drawn(tmp_path: Path) -> None:
    for path, text in HOSTILE.items():
        (tmp_path / "r" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "r" / path).write_text(text)
    (tmp_path / "r" / "broken").mkdir()
    (tmp_path / "r" / "broken" / "config.pbtxt").write_text('input [ { name: "A" ')
    for form in ("text", "json", "mermaid", "dot", "svg", "html"):
        done = tritonforge("graph", str(tmp_path / "r"), "--format", form)
        assert done.returncode == 0
        assert "\x1b" not in done.stdout
        assert "E200" in done.stdout


def test_without_the_extra_a_png_names_it(wrong: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "resvg_py", None)
    done = tritonforge("graph", str(wrong), "-o", str(tmp_path / "x.png"))
    assert done.returncode == 2
    assert "resvg-py is not installed" in done.stderr
    assert not (tmp_path / "x.png").exists()


@pytest.mark.slow
def test_the_document_shows_what_the_command_draws() -> None:
    """The pictures and the Mermaid of docs/graph.md; `tests/end_to_end/test_documents.py` has its console blocks."""
    text = DOCUMENT.read_text()
    mermaid = tritonforge(*_find_definitions("graph repos/digits/definition.py --format mermaid")).stdout
    assert f"```mermaid\n{mermaid}```" in text
    for name, command in re.findall(r"pictures/(\w+\.svg)\) *\n*<!-- tritonforge (graph [^\n]*) -->", text):
        picture = (DOCUMENT.parent / "pictures" / name).read_text()
        assert tritonforge(*_find_definitions(command)).stdout == picture


def _find_definitions(command: str) -> list[str]:
    """The words of a command, with paths in this checkout."""
    return [str(ROOT / word) if word.startswith("repos/") else word for word in shlex.split(command)]
