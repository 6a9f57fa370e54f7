"""The backends of this installation, and the commands that install the others."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest

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
