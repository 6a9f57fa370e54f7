"""Ctrl-C while a command loads or starts: one word and exit code 130, never a traceback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import pytest
from click.testing import CliRunner

from tritonforge.cli import console
from tritonforge.cli.serving import serve


class Interrupted:
    """A finder that is interrupted when it looks for the command line."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Stand for the signal that arrives while modules are loaded."""
        if name == "tritonforge.cli.main":
            raise KeyboardInterrupt
        return None


def test_an_interruption_while_the_command_line_loads(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The console script catches it, since no command has begun."""
    monkeypatch.delitem(sys.modules, "tritonforge.cli.main", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Interrupted(), *sys.meta_path])
    with pytest.raises(SystemExit) as ended:
        console.main()
    assert ended.value.code == 130
    assert capsys.readouterr().err == "interrupted\n"


@pytest.mark.process
def test_the_console_script_loads_nothing_before_it_can_be_interrupted() -> None:
    """Three modules of the package, and none of Python's that it has not loaded itself."""
    script = (
        "import sys; had = set(sys.modules); import tritonforge.cli.console; print(*sorted(set(sys.modules) - had))"
    )
    done = subprocess.run([sys.executable, "-I", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["tritonforge", "tritonforge.cli", "tritonforge.cli.console"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serve_is_interrupted_while_models_load(monkeypatch: pytest.MonkeyPatch, number: signal.Signals) -> None:
    """Nothing was served, so it is not a normal end."""

    def start(*_: Any, **__: Any) -> None:
        os.kill(os.getpid(), number)
        signal.pause()

    monkeypatch.setattr("tritonforge.cli.serving.Server", start)
    done = CliRunner().invoke(serve, ["repos"], standalone_mode=False)
    assert (done.return_value, done.stderr.splitlines()[-1]) == (130, "interrupted")
