"""Run a program as ``docker run`` would, without Docker: `start` gives a `Process` in namespaces of its own."""

from __future__ import annotations

from tritonforge.training.isolation.process import (
    PROGRAM,
    SHARED_MEMORY,
    Bind,
    BindError,
    IsolationError,
    Process,
    environment,
    start,
)

__all__ = ["PROGRAM", "SHARED_MEMORY", "Bind", "BindError", "IsolationError", "Process", "environment", "start"]
