"""Runs `tritonforge transform` in a process of its own, and ends it, or its tritonserver, with SIGKILL.

These processes are forks of one that imported what the command imports.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.support.forked_scripts import Forks


class Tool:
    """One run of the command, which may be killed at any moment."""

    def __init__(self, forks: Forks, arguments: Sequence[str | Path], log: Path) -> None:
        self.log = log
        program = Path(sys.executable).with_name("tritonforge")
        self.process = forks.start(program, "transform", *arguments, output=log)

    def kill(self) -> None:
        """SIGKILL to the tool."""
        self.process.kill()
        self.process.wait()

    def kill_server(self) -> bool:
        """SIGKILL to the tritonserver below it; False where it does not exist."""
        for pid in descendants(self.process.pid):
            with contextlib.suppress(OSError):  # it may end while it is looked at
                if Path(f"/proc/{pid}/comm").read_text().strip() == "tritonserver":
                    os.kill(pid, signal.SIGKILL)
                    return True
        return False

    def wait(self, timeout: float) -> int:
        """Its exit status."""
        return self.process.wait(timeout)

    @property
    def ended(self) -> bool:
        """Whether it has ended by itself."""
        return self.process.poll() is not None


def descendants(pid: int) -> list[int]:
    """The processes below one."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, ValueError):
                continue
            if parent == pid:
                found += [int(entry.name), *descendants(int(entry.name))]
    return found


def outputs(folder: Path) -> dict[str, bytes]:
    """Every file that can be seen below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def wait_for(condition: object, seconds: float = 60.0) -> bool:
    """Wait until a function says True."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():  # type: ignore[operator]
            return True
        time.sleep(0.005)
    return False
