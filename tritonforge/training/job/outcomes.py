"""Outcomes: how a training job ended, and the values of its metrics. This module does no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

__all__ = ["FAILURE_LENGTH", "Measured", "Outcome", "Phase", "State", "Why"]

#: As `TrainingJobStatus` at the end of a job.
State: TypeAlias = Literal["Completed", "Failed", "Stopped"]

#: As a job's `SecondaryStatus` while it runs. Source: API_DescribeTrainingJob.
Phase: TypeAlias = Literal["Starting", "Downloading", "Training", "Stopping", "Uploading"]

#: Why a job was stopped: somebody asked for it, or its time was up (`SecondaryStatus` MaxRuntimeExceeded).
Why: TypeAlias = Literal["", "stop", "MaxRuntimeExceeded"]

#: Characters of the failure file that are told. Source: SageMaker developer guide, "How Amazon SageMaker Processes
#: Training Output".
FAILURE_LENGTH: Final = 1024


@dataclass(frozen=True, slots=True)
class Measured:
    """A metric's value in a line of the log; ``seconds`` is when the line was read, since 1970."""

    name: str
    value: float
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The end of a training job.

    ``failure`` is one sentence, empty unless ``state`` is Failed: the failure file's first 1024 characters, or
    ``ClientError: ...`` where the data were wrong. ``exit_code`` is the program's, 128 + n where signal n
    ended it, None where it was not started. ``seconds`` is how long it ran, ``metrics`` the last value of each.
    ``artifact`` and ``output_data`` are the addresses of the model and of what was in output/data, None where there
    is none. ``notes`` are sentences that must not be missed.
    """

    state: State
    failure: str = ""
    why_stopped: Why = ""
    exit_code: int | None = None
    seconds: float = 0.0
    metrics: Mapping[str, Measured] = field(default_factory=dict)
    artifact: str | None = None
    output_data: str | None = None
    notes: tuple[str, ...] = ()
