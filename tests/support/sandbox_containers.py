"""Containers for these tests: started with their lines recorded, and searched for when they must have ended."""

from __future__ import annotations

import contextlib
import itertools
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tritonforge.training.sandbox import Process, start_container

PROGRAMS = Path(__file__).parents[1] / "training" / "sandbox" / "programs"

_count = itertools.count()


class Ran:
    """A container and the lines that it wrote so far."""

    def __init__(self, *command: str, **given: Any) -> None:
        self.lines: list[str] = []
        self.process: Process = start_container(command, log=self.lines.append, **given)

    def end(self) -> tuple[int, list[str]]:
        """Its exit status and its lines."""
        return self.process.wait(60), self.lines


def run_container(*command: str, **given: Any) -> tuple[int, list[str]]:
    """Run a command to its end."""
    return Ran(*command, **given).end()


def shell(script: str, **given: Any) -> tuple[int, list[str]]:
    """Run a shell script to its end."""
    return run_container("sh", "-c", script, **given)


def python(script: str, **given: Any) -> tuple[int, list[str]]:
    """Run a Python script to its end."""
    return run_container("python3", "-c", script, **given)


def until(true: Callable[[], object], seconds: float = 30) -> bool:
    """Whether something came true in time."""
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def seconds() -> str:
    """Seconds for `sleep` that no other process on this machine uses, so that it can be found again."""
    return f"{100_000 + os.getpid()}.{next(_count)}"


def running(word: str) -> list[int]:
    """The processes of this machine with a word among their arguments, zombies and this one's kin aside."""
    found = []
    for path in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if path.name.isdigit() and word.encode() in (path / "cmdline").read_bytes().split(b"\0"):
                found.append(int(path.name))
    return found


def descendants(pid: int) -> set[int]:
    """The processes that a process started, and theirs."""
    parents: dict[int, int] = {}
    for path in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if path.name.isdigit():
                parents[int(path.name)] = int((path / "stat").read_text().rpartition(")")[2].split()[1])
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {pid}


def are_gone(pids: set[int]) -> bool:
    """Whether none of these processes is there any more, as a zombie either."""
    return not any(Path(f"/proc/{pid}").exists() for pid in pids)


def mounts() -> str:
    """What is mounted in this process's own namespace."""
    return Path("/proc/self/mountinfo").read_text()


def folders() -> set[str]:
    """What lies where a container could leave something: names of these tests only."""
    return {path.name for place in ("/opt", "/") for path in Path(place).iterdir()}


#: Starts a container in a process of its own, says its process id and its port, and waits.
_STARTER = """
import sys, time
from tritonforge.training.sandbox import start_container
process = start_container(["sleep", sys.argv[1]], publish=8080)
print(process.pid, process.port, flush=True)
time.sleep(600)
"""
STARTER = [sys.executable, "-c", _STARTER]
