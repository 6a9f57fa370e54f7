"""The real server's verdict with stand-ins for the models: what they decide, and what they leave open."""

from __future__ import annotations

from pathlib import Path

import pytest

from tritonforge.errors import LaunchError
from tritonforge.serving.repository_copy import copy_repository, disarm
from tritonforge.serving.repository_overlay import parse_config
from tritonforge.serving.server import Server
from tritonforge.serving.server_check import check_on_server
from tritonforge.serving.server_process import ChildExit

X = 'input { name: "x" data_type: TYPE_FP32 dims: [ 1 ] }'
Y = 'output { name: "y" data_type: TYPE_FP32 dims: [ 1 ] }'
WARMUP = 'model_warmup { name: "w" inputs { key: "x" value { data_type: TYPE_%s dims: [ 1 ] zero_data: true } } }'
DECOUPLED = "model_transaction_policy { decoupled: true }"


def ensemble(step: str) -> str:
    """An ensemble of one step, whose output has a type that no step writes."""
    maps = 'input_map { key: "x" value: "x" } output_map { key: "y" value: "y" }'
    steps = f'ensemble_scheduling {{ step {{ model_name: "{step}" model_version: -1 {maps} }} }}'
    return f'platform: "ensemble" {X} {Y.replace("FP32", "INT8")} {steps}'


def repository(folder: Path, models: dict[str, str]) -> Path:
    """Models of these configurations, each with an empty file of every backend."""
    for name, config in models.items():
        (folder / name / "1").mkdir(parents=True)
        (folder / name / "config.pbtxt").write_text(config)
        for file in ("model.py", "model.onnx", "model.dali"):
            (folder / name / "1" / file).write_text("def auto_complete_config(config): ..." if name == "own" else "")
    return folder


@pytest.mark.server
def test_what_a_backend_completes_is_left_open(tmp_path: Path) -> None:
    """Warm-ups run, of decoupled models too; a model without dims, and the ensembles of it, are left open."""
    models = {
        "decoupled": f'backend: "python" {X} {Y} {DECOUPLED} {WARMUP % "FP32"}',
        "text": f'backend: "onnxruntime" {X} {Y} {WARMUP % "STRING"}'.replace("TYPE_FP32", "TYPE_STRING"),
        "bfloat": f'backend: "onnxruntime" {X} {Y} {WARMUP % "BF16"}'.replace("TYPE_FP32", "TYPE_BF16"),
        "dali": 'backend: "dali"',
        "own": f'backend: "python" input {{ name: "x" }} {Y}',
        "of_dali": ensemble("dali"),
        "of_that": ensemble("of_dali"),
    }
    found = check_on_server(repository(tmp_path, models))
    assert (found.loads, found.messages) == (None, ())
    assert set(found.undecided) == {"dali", "own", "of_dali", "of_that"}
    assert "completes from the model's file" in found.undecided["own"]
    assert found.undecided["of_that"] == "its step 'of_dali' is not decided"


@pytest.mark.server
def test_what_is_wrong_beside_it_is_refused(tmp_path: Path) -> None:
    """In the server's words; without completion by backends everything is decided."""
    models = {
        "dali": 'backend: "dali"',
        "good": f'backend: "python" {X} {Y}',
        "wrong": ensemble("good"),
        "agent": f'backend: "python" {X} {Y} model_repository_agents {{ agents {{ name: "../x" }} }}',
        "lost": f'backend: "dali" runtime: "lost.so" {X} {Y}',
    }
    found = check_on_server(repository(tmp_path, models))
    assert found.loads is False
    assert set(found.undecided) == {"dali"}
    messages = "\n".join(found.messages)
    assert "in ensemble wrong, ensemble tensor y: inconsistent data type" in messages
    assert (
        "unable to find 'libtritonrepoagent_../x.so' for repo agent '../x', searched: /opt/tritonserver/repo"
        in messages
    )
    assert (
        "unable to find backend library 'lost.so' for model 'lost', searched: '<repo>/lost/1' '<repo>/lost'" in messages
    )
    assert "'<backends>/dali'" in messages
    assert "/tmp" not in messages


@pytest.mark.parametrize(
    ("text", "left", "noted"),
    [
        ('parameters { key: "EXECUTION_ENV_PATH" value { string_value: "%s" } } backend: "python"', "", "not opened"),
        ('parameters { key: "EXECUTION_ENV_PATH" value { string_value: "/nowhere/x" } } backend: "python"', None, ""),
        ('parameters { key: "TRITON_BATCH_STRATEGY_PATH" value { string_value: "%s" } }', "", "not loaded"),
        ('backend: "../../x"', 'backend: "python"', "is a path"),
        ('backend: "b" runtime: "../../x/any.so"', 'backend: "b"', "leads out"),
        ('backend: "b" runtime: "libtriton_b.so"', 'backend: "b"', ""),
        ('model_repository_agents { agents { name: "checksum" } }', "model_repository_agents {}", "checksum agent"),
        ('output { label_filename: "../../l" }', "output {}", "label file"),
        ("instance_group { count: 1000 }", "instance_group { count: 2 }", ""),
        ('model_warmup { inputs { key: "x" value { dims: [ 1073741824 ] } } }', "", "64 MiB"),
        ("dynamic_batching { priority_levels: 18446744073709551615 }", "", "priority levels"),
    ],
)
def test_a_configuration_is_disarmed(tmp_path: Path, text: str, left: str | None, noted: str) -> None:
    """What would be run, loaded, read or filled is removed, and reported where it may matter."""
    text = text.replace("%s", str(tmp_path))
    config = parse_config(text.encode())
    expected = parse_config((text if left is None else left).encode())
    notes = disarm(config, tmp_path / "model", tmp_path / "copy")
    if "EXECUTION" in text and left == "":
        expected = parse_config(b'backend: "python"')
    assert config == expected
    assert bool(notes) == bool(noted)
    assert noted in "".join(notes)


@pytest.mark.parametrize(("status", "is_fatal"), [(0, False), (-9, True)])
def test_a_stub_that_ended_with_0_and_was_waited_for_does_not_end_the_start(
    status: int, is_fatal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stub that completes a configuration does; on a busy machine tritonserver waits for it late."""
    server = Server.__new__(Server)
    server._ready, server._ports, server._exit = False, {}, None
    monkeypatch.setattr(server, "_is_healthy", lambda: False)
    monkeypatch.setattr(server, "_explain_end", lambda: LaunchError("a stub died"))
    server._note_exit(ChildExit((), pid=-1, status=status, out_of_memory=False, ended=0.0))
    if is_fatal:
        with pytest.raises(LaunchError, match="a stub died"):
            server._is_ready()
    else:
        assert not server._is_ready()


def test_a_configuration_that_is_a_directory_is_copied_as_one(tmp_path: Path) -> None:
    (tmp_path / "r" / "m" / "config.pbtxt").mkdir(parents=True)
    copy = copy_repository(tmp_path / "r", tmp_path / "copy")
    assert (copy.folder / "m" / "config.pbtxt").is_dir()
    assert not copy.hidden
