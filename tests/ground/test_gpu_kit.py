"""The parts of the GPU kit (tests/benchmarks/gpu) that need no GPU."""

import argparse
import importlib
import json
from pathlib import Path
from typing import Any

import pytest

KIT = Path(__file__).parents[1] / "benchmarks" / "gpu"


@pytest.fixture
def kit(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module `gpu_check`, which imports its neighbour as a program does."""
    monkeypatch.syspath_prepend(str(KIT))
    return importlib.import_module("gpu_check")


def test_files_survive_being_split_into_parts(kit: Any, tmp_path: Path) -> None:
    parts = importlib.import_module("parts")
    source, folder, target = (tmp_path / name for name in ("source", "parts", "target"))
    source.mkdir()
    (source / "large.whl").write_bytes(bytes(range(256)) * 10)
    (source / "empty.whl").write_bytes(b"")
    names = parts.split_files(source, folder, limit=1000)
    assert names == ["large.whl.000", "large.whl.001", "large.whl.002"]
    late = (folder / "large.whl.001").read_bytes()
    (folder / "large.whl.001").unlink()
    assert parts.join_parts(folder, target) == ["large.whl"]
    (folder / "large.whl.001").write_bytes(late[::-1])
    with pytest.raises(ValueError, match="copy them again"):
        parts.join_parts(folder, target)
    (folder / "large.whl.001").write_bytes(late)
    assert parts.join_parts(folder, target) == []
    assert (target / "large.whl").read_bytes() == (source / "large.whl").read_bytes()


def options(tmp_path: Path, *arguments: str) -> list[str]:
    """Arguments of a run below a folder."""
    return ["--work", str(tmp_path / "work"), "--result", str(tmp_path / "gpu.json"), *arguments]


def test_a_stage_that_succeeded_is_not_repeated(kit: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []
    outcomes = {"first": [True], "second": [False, True], "third": [True]}

    def run(name: str, given: argparse.Namespace, *, timeout: float) -> dict[str, Any]:
        ran.append(name)
        return {"ok": outcomes[name].pop(0)}

    monkeypatch.setattr(kit, "STAGES", dict.fromkeys(outcomes))
    monkeypatch.setattr(kit, "run_stage", run)
    assert kit.main(options(tmp_path)) == 1
    assert kit.main(options(tmp_path)) == 0
    assert ran == ["first", "second", "second", "third"]
    result = json.loads((tmp_path / "gpu.json").read_text())
    assert result["baseline"] == {"two_v100_images_per_second": [139, 208]}
    assert all(result[name]["ok"] for name in outcomes)


def test_a_machine_without_a_gpu_is_named(kit: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert kit.main(options(tmp_path)) == 3
    result = json.loads((tmp_path / "gpu.json").read_text())
    assert result["environment"]["gpu"] == []
    assert not result["environment"]["ok"]


def test_missing_parts_fail_the_installation(kit: Any, tmp_path: Path) -> None:
    parts = tmp_path / "parts"
    parts.mkdir()
    (parts / "parts.json").write_text(json.dumps({"x.whl": {"sha256": "0" * 64, "parts": ["x.whl.000"]}}))
    given = argparse.Namespace(wheels=parts, work=tmp_path / "work", no_install=False)
    found = kit.run_stage("install", given, timeout=60)
    assert found == {
        "ok": False,
        "error": "FileNotFoundError: parts are missing of x.whl; bring them and run this again",
    }


def test_no_stage_begins_after_the_time_is_over(kit: Any, tmp_path: Path) -> None:
    found = kit.run_stage("dali", argparse.Namespace(work=tmp_path), timeout=0)
    assert found == {"ok": False, "error": "no time is left; run this again"}
