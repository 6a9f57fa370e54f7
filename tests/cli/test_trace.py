"""`tritonforge trace`, as a user runs it, on files."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.support.triton_traces import write_request
from tritonforge.cli.main import main


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A trace of three requests."""
    path = tmp_path / "trace.json"
    texts = (write_request(3 * number + 1, scale=number + 1, request_id=f"r{number}") for number in range(3))
    path.write_text(f"[{','.join(texts)}]")
    os.utime(path, ns=(0, 10**18))
    return path


def run(*arguments: str) -> int:
    """Return the exit code of a command."""
    with pytest.raises(SystemExit) as ended:
        main(["trace", *arguments])
    code = ended.value.code
    assert isinstance(code, int)
    return code


def test_the_summary_lists_steps_and_the_slowest_requests(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(str(file), "--slowest", "1") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "3 requests; queue to rest are averages"
    assert lines[1].split() == ["step", "requests", "mean", "p50", "p99", "max", "queue", "input", "infer", "output",
                                "rest"]  # fmt: skip
    assert [line.split()[0] for line in lines[2:5]] == ["digits", "decode", "classify"]
    assert lines[-1].split(None, 3)[2:] == ["ms", "digits  id r2: decode 1.09 ms, classify 1.35 ms"]


def test_json_and_filters(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(str(file), "--json", "--id", "r1") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["requests"] == 1
    assert [step["path"][-1] for step in document["steps"]] == ["digits", "decode", "classify"]
    assert document["slowest"][0]["executions"][2]["phases_ms"]["infer"] == 0.58
    assert run(str(file), "--model", "nosuch") == 2
    assert "no request matches --model and --id" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "start"), [("x.svg", "<svg "), ("x.html", "<!DOCTYPE html>"), ("x.json", "{")])
def test_the_name_of_the_file_decides_its_format(
    file: Path, tmp_path: Path, name: str, start: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(str(file), "-o", str(tmp_path / name)) == 0
    assert capsys.readouterr().out == f"{tmp_path / name}: 3 requests\n"
    content = (tmp_path / name).read_text()
    assert content.startswith(start)
    run(str(file), "-o", str(tmp_path / name))
    assert (tmp_path / name).read_text() == content


def test_the_newest_timestamp_is_as_old_as_the_file(file: Path, tmp_path: Path) -> None:
    assert run(str(file), "-o", str(tmp_path / "x.json")) == 0
    spans = json.loads((tmp_path / "x.json").read_text())["resourceSpans"][0]["scopeSpans"][0]["spans"]
    assert max(int(span["endTimeUnixNano"]) for span in spans) == 10**18


def test_a_cut_off_or_foreign_file_gives_one_sentence(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_text(file.read_text()[:-100])
    assert run(str(file)) == 0
    assert "the file is cut off after 2 complete requests" in " ".join(capsys.readouterr().err.split())
    file.write_text("[]")
    assert run(str(file)) == 2
    assert "no complete request" in capsys.readouterr().err
    (tmp_path / "other").write_bytes(bytes(range(256)))
    assert run(str(tmp_path / "other")) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert run(str(file), "-o", str(tmp_path / "x.gif")) == 2
    assert "expected a name that ends in .svg" in capsys.readouterr().err
