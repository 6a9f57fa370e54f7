"""The supervisor's view of the children of a process."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tritonforge.serving.supervisor import _Children

pytestmark = pytest.mark.process

COMMAND = [sys.executable, "-c", "import time; time.sleep(60)"]


def test_a_child_that_one_listing_misses_keeps_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """When a thread of the parent ends, its children pass to another one, which may have been listed already."""
    with subprocess.Popen(COMMAND) as child:
        children = _Children(os.getpid())
        list_pids = children._list_pids
        assert children.check() == []
        monkeypatch.setattr(children, "_list_pids", list)
        assert children.check() == []
        monkeypatch.setattr(children, "_list_pids", list_pids)
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # it stays a zombie
        exited = [exit_ for _ in range(2) for exit_ in children.check() if exit_["pid"] == child.pid]
        assert [exit_["child"] for exit_ in exited] == [COMMAND]


def test_the_command_of_a_child_that_is_gone_is_removed() -> None:
    children = _Children(os.getpid())
    with subprocess.Popen(COMMAND) as child:
        children.check()
        assert child.pid in children._commands
        child.kill()
    children.check()
    assert child.pid not in children._commands
