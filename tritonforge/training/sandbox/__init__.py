"""A program in a container like that of ``docker run``, without Docker: `start_container` returns a `Process`."""

from __future__ import annotations

from tritonforge.training.sandbox.limits import NO_LIMITS, Limits
from tritonforge.training.sandbox.process import SHARED_MEMORY, Process, start_container
from tritonforge.training.sandbox.volumes import PROGRAM, Bind, BindError, SandboxError, build_environment

__all__ = [
    "NO_LIMITS", "PROGRAM", "SHARED_MEMORY", "Bind", "BindError", "Limits", "Process", "SandboxError",
    "build_environment", "start_container",
]  # fmt: skip
