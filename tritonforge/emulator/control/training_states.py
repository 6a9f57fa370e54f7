"""The life of a training job: which status follows which, and what changes with it.

::

    InProgress -> Completed | Failed | Stopping | Stopped        Stopping -> Stopped | Failed

Statuses and secondary statuses are the service model's (TrainingJobStatus, SecondaryStatus, and what its documentation
says of which goes with which). A job that comes to its end while it is Stopping is Stopped, with the model that it had
by then (API StopTrainingJob); one whose time is over goes to Stopped by itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Final

from tritonforge.emulator.control import job_runner
from tritonforge.emulator.control.records import Phase, TrainingRecord

__all__ = ["begin_stop", "complete", "count_seconds", "create", "enter_phase", "fail", "list_transitions",
           "mark_restarted", "record_metric", "stop"]  # fmt: skip

#: The last message of each secondary status. Source: the service model (SecondaryStatusTransition.StatusMessage), and
#: the lines "2019-08-08 18:54:50 Starting - ..." that AWS's SDK prints of them, as in aws/amazon-sagemaker-examples
#: issue 842. Of Interrupted none was found: it is ours.
_MESSAGES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "Starting": "Preparing the instances for training",
        "Downloading": "Downloading input data",
        "Training": "Training image download completed. Training in progress.",
        "Uploading": "Uploading generated training model",
        "Interrupted": "The training instances were interrupted",
        "Completed": "Training job completed",
        "Failed": "Training job failed",
        "Stopping": "Stopping the training job",
        "Stopped": "Training job stopped",
        "MaxRuntimeExceeded": "Training job runtime exceeded MaxRuntimeInSeconds provided",
        "MaxWaitTimeExceeded": "Training job runtime exceeded MaxWaitTimeInSeconds provided",
    }
)

#: Secondary statuses that are an end, and have none themselves.
_ENDS: Final = frozenset({"Completed", "Failed", "Stopped", "MaxRuntimeExceeded", "MaxWaitTimeExceeded"})

#: Secondary statuses in which an instance is paid for: TrainingStartTime is when the first of them begins.
_AT_WORK: Final = frozenset({"Downloading", "Training", "Uploading"})


def create(
    name: str,
    arn: str,
    now: float,
    *,
    request: Mapping[str, Any],
    image: str,
    algorithm: Mapping[str, Any],
    tags: tuple[tuple[str, str], ...],
) -> TrainingRecord:
    """Return a job as CreateTrainingJob creates it."""
    return TrainingRecord(
        name=name,
        arn=arn,
        created=now,
        modified=now,
        status="InProgress",
        request=request,
        image=image,
        algorithm=algorithm,
        phases=(_build_phase("Starting", now),),
        tags=tags,
    )


def enter_phase(job: TrainingRecord, secondary: str, now: float) -> TrainingRecord:
    """Return the job in another secondary status, unless it is in it already or is Stopping."""
    if job.status != "InProgress" or job.secondary == secondary:
        return job
    return _append_phase(job, secondary, now)


def mark_restarted(job: TrainingRecord, now: float) -> TrainingRecord:
    """Return the job as it starts again after a restart of the emulator: interrupted as spot instances are."""
    if job.status != "InProgress" or job.secondary == "Starting":
        return job
    return _append_phase(_append_phase(job, "Interrupted", now), "Starting", now)


def record_metric(job: TrainingRecord, metric: str, value: float, now: float) -> TrainingRecord:
    """Return the job with a new value of a metric, which FinalMetricDataList shows."""
    kept = tuple(entry for entry in job.metrics if entry["MetricName"] != metric)
    return replace(job, metrics=(*kept, {"MetricName": metric, "Value": value, "Timestamp": now}))


def complete(job: TrainingRecord, now: float) -> TrainingRecord:
    """Return the job as Completed: its program ended with 0, and its model is in S3."""
    return _append_phase(job_runner.complete(job, now), "Completed", now)


def fail(job: TrainingRecord, reason: str, now: float) -> TrainingRecord:
    """Return the job as Failed: its program failed, or it could not begin."""
    return _append_phase(job_runner.fail(job, reason, now), "Failed", now)


def begin_stop(job: TrainingRecord, now: float) -> TrainingRecord:
    """Return the job as Stopping. Raises ApiError if it has ended or is Stopping already."""
    return _append_phase(job_runner.begin_stop(job, now, noun="training job"), "Stopping", now)


def stop(job: TrainingRecord, now: float, *, secondary: str = "Stopped") -> TrainingRecord:
    """Return the job as Stopped: it was stopped, or its time was over (``secondary`` MaxRuntimeExceeded)."""
    return _append_phase(job_runner.stop(job, now), secondary, now)


def count_seconds(job: TrainingRecord) -> tuple[int, int] | None:
    """Return TrainingTimeInSeconds and BillableTimeInSeconds of a job that has ended: whole seconds, at least 1.

    What is billed is the time in which instances were at work. None where the job never began or has not ended.
    """
    if job.began is None or job.ended is None:
        return None
    billed = sum((phase.until or job.ended) - phase.since for phase in job.phases if phase.status in _AT_WORK)
    return max(1, round(job.ended - job.began)), max(1, round(billed))


def _append_phase(job: TrainingRecord, secondary: str, now: float) -> TrainingRecord:
    """Return the job in a new phase; the one before ends, at its begin if the clock was set back."""
    *before, last = job.phases
    phases = (*before, replace(last, until=max(now, last.since)), _build_phase(secondary, now))
    return replace(job, phases=phases, modified=now)


def _build_phase(secondary: str, now: float) -> Phase:
    return Phase(status=secondary, since=now, until=now if secondary in _ENDS else None, message=_MESSAGES[secondary])


def list_transitions(phases: Sequence[Phase]) -> list[dict[str, Any]]:
    """Return the SecondaryStatusTransitions of DescribeTrainingJob."""
    return [
        {
            "Status": phase.status,
            "StartTime": phase.since,
            **({} if phase.until is None else {"EndTime": phase.until}),
            "StatusMessage": phase.message,
        }
        for phase in phases
    ]
