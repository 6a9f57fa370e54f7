"""The extension for VS Code with the real vscode-languageclient, on `tritonforge lsp`: `make test-editors`.

The module ``vscode`` exists inside of VS Code only; `tests/support/vscode/editor.js` is its stand-in.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.checkout import ROOT
from tests.support.rule_repositories import e, x

pytestmark = pytest.mark.process

NODE = shutil.which("node")
MODULES = os.environ.get("VSCODE_MODULES")
EXTENSION = ROOT / "docs" / "editors" / "vscode"


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a session in an ensemble with a wrong name and without a version saw."""
    if NODE is None or MODULES is None:
        pytest.skip("node is not installed, or VSCODE_MODULES does not name the extension's modules: make test-editors")
    folder = tmp_path_factory.mktemp("vscode").resolve()
    files = {**x(), "e/config.pbtxt": f'name: "old" {e()["e/config.pbtxt"]}'}
    for path, text in files.items():
        place = folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.mkdir() if path.endswith("/") else place.write_text(str(text))
    done = subprocess.run(
        [NODE, ROOT / "tests/support/vscode/session.js", EXTENSION, folder,
         Path(sys.executable).with_name("tritonforge"), "lsp"],
        capture_output=True, text=True, check=False, timeout=120, env={**os.environ, "NODE_PATH": MODULES},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return {**json.loads(done.stdout), "folder": folder}


def test_the_extension_shows_findings_fixes_and_documentation(seen: dict[str, Any]) -> None:
    folder = seen["folder"]
    assert "E104" in seen["codes"]
    assert seen["page"].startswith("file:///")
    (action,) = seen["actions"]
    assert action["kind"] == "quickfix"
    assert action["created"] == [(folder / "e/1/.gitkeep").as_uri()]
    assert (folder / "e/config.pbtxt").as_uri() in action["edited"]
    assert seen["proposals"] == ["A"]
    assert seen["hover"].startswith("**x** identity")
    assert seen["definition"] == [(folder / "x/config.pbtxt").as_uri()]


def test_changed_settings_start_the_server_again_with_the_open_documents(seen: dict[str, Any]) -> None:
    assert seen["after"]
    assert set(seen["after"]) < set(seen["codes"])
