"""Markers that are true: a test without one starts no program and loads no framework.

`check_markers` is called by the conftest around each test. It listens to the interpreter's audit events: a test that is
marked neither ``server`` nor ``framework`` nor ``process`` nor ``long`` fails when it starts a program, and when it is
the first in its process to import a framework. So `make test-fast` stays what its name says.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

#: The markers that allow a test to start programs.
SLOW_MARKERS = ("server", "framework", "process", "long")
_FRAMEWORKS = frozenset(
    {"tensorflow", "nvidia.dali", "onnxruntime", "torch", "keras", "openvino", "treelite", "xgboost", "lightgbm"}
)
_PROGRAM_EVENTS = frozenset({"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.system", "pty.spawn"})

_events: list[str] | None = None


def _listen(event: str, arguments: tuple[object, ...]) -> None:
    if _events is None:
        return
    if event in _PROGRAM_EVENTS and arguments[:1] != ("lscpu",):  # joblib, below scikit-learn, counts the cores with it
        _events.append(f"it starts a program ({event} {str(arguments)[:200]}): mark it with `process` or `server`")
    elif event == "import" and arguments[0] in _FRAMEWORKS:
        _events.append(f"it imports {arguments[0]}: mark it with `framework`")


def install() -> None:
    """Listen from now on; audit hooks cannot be removed."""
    sys.addaudithook(_listen)


@contextmanager
def check_markers(item: pytest.Item) -> Iterator[None]:
    """Fail an unmarked test that does what only marked tests may do.

    With ``TRITONFORGE_RECORD_MARKERS=FILE`` nothing fails: node ids and events are appended to the file.
    """
    global _events
    if any(item.get_closest_marker(name) for name in SLOW_MARKERS):
        yield
        return
    events = _events = []
    try:
        yield
    finally:
        _events = None
    if events and (record := os.environ.get("TRITONFORGE_RECORD_MARKERS")):
        with Path(record).open("a", encoding="utf-8") as file:
            file.write(f"{item.nodeid}\t{events[0]}\n".replace("\n", " ").rstrip() + "\n")
    elif events:
        pytest.fail(f"{item.nodeid}: {events[0]}", pytrace=False)
