"""Run a program as ``docker run`` would, without Docker: `start` gives a `Process` in namespaces of its own."""

from __future__ import annotations

from tritonforge.training.sandbox.limits import NO_LIMITS, Limits
from tritonforge.training.sandbox.process import (
    PROGRAM,
    SHARED_MEMORY,
    Bind,
    BindError,
    IsolationError,
    Process,
    environment,
    start,
)

__all__ = [
    "NO_LIMITS",
    "PROGRAM",
    "SHARED_MEMORY",
    "Bind",
    "BindError",
    "IsolationError",
    "Limits",
    "Process",
    "environment",
    "start",
]
