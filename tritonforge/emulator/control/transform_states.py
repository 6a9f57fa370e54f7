"""The life of a transform job: which status follows which, and what changes with it. This module does no I/O.

::

    InProgress -> Completed | Failed | Stopping        Stopping -> Stopped

Statuses are the service model's (TransformJobStatus). A job that comes to its end while it is Stopping is Stopped, and
has no output (API StopTransformJob).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Final

from tritonforge.emulator.control.failures import ended as has_ended
from tritonforge.emulator.control.records import Transform

__all__ = ["NEXT", "UNDER_WAY", "began", "completed", "failed", "stopped", "stopping"]

#: The statuses that may follow a status.
NEXT: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {
        "InProgress": frozenset({"Completed", "Failed", "Stopping"}),
        "Stopping": frozenset({"Stopped"}),
        "Completed": frozenset(),
        "Failed": frozenset(),
        "Stopped": frozenset(),
    }
)

#: The statuses in which something is still to be done.
UNDER_WAY: Final = frozenset({"InProgress", "Stopping"})

#: FailureReason is cut there (the service model's maximum).
_REASON: Final = 1024


def _to(job: Transform, status: str, now: float, **changes: Any) -> Transform:
    if status not in NEXT[job.status]:
        raise ValueError(f"a transform job does not go from {job.status} to {status}")
    return replace(job, status=status, modified=now, **changes)


def began(job: Transform, now: float) -> Transform:
    """Its instances run; after a restart it has begun already."""
    return job if job.began is not None else replace(job, began=now, modified=now)


def completed(job: Transform, now: float) -> Transform:
    """Every object has its output."""
    return _to(job, "Completed", now, ended=now)


def failed(job: Transform, reason: str, now: float) -> Transform:
    """An object has no output, or the job could not begin."""
    if len(reason) > _REASON:
        reason = f"{reason[: _REASON - 4]} ..."
    return _to(job, "Failed", now, ended=now, failure=reason)


def stopping(job: Transform, now: float) -> Transform:
    """StopTransformJob was asked for. Raises ApiError where the job is not InProgress."""
    if "Stopping" not in NEXT[job.status]:
        raise has_ended(job.status)
    return _to(job, "Stopping", now)


def stopped(job: Transform, now: float) -> Transform:
    """It was stopped."""
    return _to(job, "Stopped", now, ended=now)
