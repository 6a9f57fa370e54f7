"""The backends of this installation, and the commands that install the others."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tritonforge.cli import serving
from tritonforge.errors import LaunchError, MissingExtraError
from tritonforge.serving import installation
from tritonforge.triton.backends import BACKENDS


def test_a_backend_without_its_package_is_missing_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    absent = {"onnxruntime", "nvidia.dali"}

    def find(name: str) -> Any:
        if name == "nvidia.dali":
            raise ModuleNotFoundError(name="nvidia")
        return None if name in absent else object()

    monkeypatch.setattr(importlib.util, "find_spec", find)
    missing = installation.find_missing_backends()
    assert sorted(missing) == ["dali", "onnxruntime"]
    assert missing["dali"].command.startswith("pip install ")
    assert "[dali]" in missing["dali"].command
    assert str(missing["onnxruntime"]).startswith("onnxruntime is not installed; run: pip install ")


def test_every_local_backend_has_a_folder_and_an_extra() -> None:
    own = installation.Path(installation.__file__).parent / "backends"
    folders = {path.parent.name for path in own.glob("*/model.py")} - {"stand_in"}
    assert {*installation.BACKENDS} == folders
    assert all(BACKENDS[name].extra for name in folders)


def test_serve_lists_the_backends_and_one_command_for_the_missing_ones(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = {name: MissingExtraError(name, extra=extra) for name, extra in (("dali", "dali"), ("pytorch", "pytorch"))}
    monkeypatch.setattr(serving, "find_missing_backends", lambda: missing)
    server: Any = SimpleNamespace(models=tuple, warnings=(), candidates=(), default_model="m")
    for name in ("sagemaker", "http", "grpc", "metrics"):
        setattr(server, f"{name}_url", None)
    serving._report(server, None, as_json=False)
    first, second = capsys.readouterr().out.splitlines()[-2:]
    assert first == "backends  fil, onnxruntime, openvino, python, tensorflow"
    assert second.startswith("          not installed: dali, pytorch; run: pip install ")
    assert "[dali,pytorch]" in second
    serving._report(server, None, as_json=True)
    document = json.loads(capsys.readouterr().out)["backends"]
    assert document["installed"] == ["fil", "onnxruntime", "openvino", "python", "tensorflow"]
    assert document["missing"] == {name: error.command for name, error in missing.items()}


def test_a_machine_without_a_wheel_is_named_with_those_that_have_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installation.platform, "machine", lambda: "riscv64")
    with pytest.raises(LaunchError, match=r"for Linux on x86_64 and aarch64 only; this machine is Linux on riscv64"):
        installation.find_installation()
    monkeypatch.setattr(installation.platform, "machine", lambda: "aarch64")
    installation.find_installation()  # the wheels have the same files


def test_added_variables_keep_their_libraries_and_programs(tmp_path: Path) -> None:
    files = installation.Installation(*[tmp_path / "wheel"] * 5)
    given = {"LD_LIBRARY_PATH": "/given", "LD_PRELOAD": "given.so", "PATH": "/usr/bin", "KEPT": "1"}
    added = {"LD_LIBRARY_PATH": "/added:/more", "LD_PRELOAD": "added.so", "PATH": "/added/bin"}
    variables = installation.build_environment(files, tmp_path, given, added=added)
    libraries = variables["LD_LIBRARY_PATH"].split(":")
    assert libraries[:2] == [str(tmp_path), str(tmp_path / "wheel")]
    assert libraries[-2:] == ["/added", "/more"]
    assert "/given" not in libraries
    assert variables["LD_PRELOAD"] == "added.so"
    assert variables["PATH"] == f"{tmp_path / 'python' / 'bin'}:/added/bin:/usr/bin"
    assert installation.build_environment(files, tmp_path, given)["LD_LIBRARY_PATH"].endswith(":/given")
    assert variables["KEPT"] == "1"
