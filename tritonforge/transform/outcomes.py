"""Outcomes: what became of a job and its objects, and how far it is. This module does no I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

__all__ = ["Failure", "Outcome", "Progress", "State"]

#: As a transform job's `TransformJobStatus`.
State: TypeAlias = Literal["Completed", "Failed", "Stopped"]


@dataclass(frozen=True, slots=True)
class Failure:
    """An object without an output: why, and at which of its records (counted from 0), None where it is none of them."""

    uri: str
    reason: str
    record: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a job is: what was done in this run, and before it; the totals are None until they are counted.

    ``seconds`` are those since the first request of this run; sizes are in bytes of input.
    """

    objects: int
    failed: int
    records: int
    size: int
    seconds: float
    objects_before: int = 0
    records_before: int = 0
    size_before: int = 0
    total_objects: int | None = None
    total_size: int | None = None

    @property
    def rate(self) -> float:
        """Records a second in this run."""
        return self.records / self.seconds if self.seconds > 0 else 0.0

    @property
    def seconds_left(self) -> float | None:
        """How long the rest takes at the speed of this run so far, None where that is not known."""
        if not self.total_size or not self.size or self.seconds <= 0:
            return None
        left = self.total_size - self.size - self.size_before
        return max(0.0, left * self.seconds / self.size)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The end of a job, or of a run of it.

    ``objects`` is how many have their output, ``objects_before`` how many of these were finished by an earlier run;
    ``records`` is how many were asked for in this run, ``size`` their input in bytes, ``seconds`` how long it took.
    ``failed`` counts all failures, ``failures`` are the first of them. ``reason`` is one sentence, empty when all is
    well; ``notes`` are sentences that must not be missed.
    """

    state: State
    objects: int
    failed: int
    records: int
    size: int
    seconds: float
    objects_before: int = 0
    records_before: int = 0
    failures: tuple[Failure, ...] = ()
    reason: str = ""
    notes: tuple[str, ...] = ()
