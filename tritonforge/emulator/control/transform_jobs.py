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

from tritonforge.emulator.control import paging
from tritonforge.emulator.control.api_errors import invalid, taken
from tritonforge.emulator.control.api_errors import job_ended as has_ended
from tritonforge.emulator.control.records import TransformRecord
from tritonforge.emulator.control.request_context import Operation, RequestContext
from tritonforge.emulator.control.tags import add_tags
from tritonforge.sagemaker.jobs.transform import limits

__all__ = [
    "NEXT",
    "OPERATIONS",
    "UNDER_WAY",
    "begin_stop",
    "complete",
    "create_job",
    "describe_job",
    "fail",
    "mark_started",
    "stop",
]

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


def _change_status(job: TransformRecord, status: str, now: float, **changes: Any) -> TransformRecord:
    if status not in NEXT[job.status]:
        raise ValueError(f"a transform job does not go from {job.status} to {status}")
    return replace(job, status=status, modified=now, **changes)


def mark_started(job: TransformRecord, now: float) -> TransformRecord:
    """Its instances run; after a restart it has begun already."""
    return job if job.began is not None else replace(job, began=now, modified=now)


def complete(job: TransformRecord, now: float) -> TransformRecord:
    """Every object has its output."""
    return _change_status(job, "Completed", now, ended=now)


def fail(job: TransformRecord, reason: str, now: float) -> TransformRecord:
    """An object has no output, or the job could not begin."""
    if len(reason) > _REASON:
        reason = f"{reason[: _REASON - 4]} ..."
    return _change_status(job, "Failed", now, ended=now, failure=reason)


def begin_stop(job: TransformRecord, now: float) -> TransformRecord:
    """StopTransformJob was asked for. Raises ApiError where the job is not InProgress."""
    if "Stopping" not in NEXT[job.status]:
        raise has_ended(job.status)
    return _change_status(job, "Stopping", now)


def stop(job: TransformRecord, now: float) -> TransformRecord:
    """It was stopped."""
    return _change_status(job, "Stopped", now, ended=now)


_KIND: Final = "transform-job"

#: What Describe adds to a request that leaves it out. Source: the service model (TransformInput, DataProcessing), and
#: the answer in sagemaker-python-sdk, tests/unit/test_session.py (COMPLETED_DESCRIBE_TRANSFORM_JOB_RESULT).
_DEFAULTS: Final[Mapping[str, Mapping[str, str]]] = MappingProxyType(
    {
        "TransformInput": {"CompressionType": "None", "SplitType": "None"},
        "TransformOutput": {"AssembleWith": "None", "KmsKeyId": ""},
        "DataProcessing": {"InputFilter": "$", "OutputFilter": "$", "JoinSource": "None"},
    }
)


def create_job(context: RequestContext, request: Mapping[str, Any]) -> Mapping[str, Any]:
    """CreateTransformJob: the job is in the store, and under way."""
    name = request["TransformJobName"]
    arn = context.arn(_KIND, name)
    tags = add_tags((), request.get("Tags") or (), arn=arn)
    model = context.model(request["ModelName"]).model
    exceeded = tuple(limits.model(model))
    if exceeded:
        raise invalid("; ".join(f"{each.place}: {each.sentence}" for each in exceeded))
    context.preconditions.input(
        context.region, request["TransformInput"]["DataSource"]["S3DataSource"], model["ExecutionRoleArn"]
    )
    resources = request["TransformResources"]
    now = context.now()
    with context.store.lock:
        if context.store.transform(context.region, name) is not None:
            raise taken(arn)
        context.allow_job(resources["InstanceType"], resources["InstanceCount"])
        made = TransformRecord(
            name=name,
            arn=arn,
            created=now,
            modified=now,
            status="InProgress",
            request={key: value for key, value in request.items() if key != "Tags"},
            model=model,
            tags=tags,
        )
        context.store.put(context.region, _KIND, made)
    context.transform(context.region, name)
    return {"TransformJobArn": arn}


def _stop_job(context: RequestContext, request: Mapping[str, Any]) -> Mapping[str, Any]:
    with context.store.lock:
        job = context.job(request["TransformJobName"])
        context.store.put(context.region, _KIND, begin_stop(job, context.now(job.modified)))
    context.stop_transform(context.region, job.name)
    return {}


def _describe(context: RequestContext, request: Mapping[str, Any]) -> Mapping[str, Any]:
    return describe_job(context.job(request["TransformJobName"]))


def describe_job(job: TransformRecord) -> Mapping[str, Any]:
    """The answer to DescribeTransformJob: every member of the request, and the defaults that AWS shows."""
    answer: dict[str, Any] = {
        **job.request,
        **{name: {**defaults, **(job.request.get(name) or {})} for name, defaults in _DEFAULTS.items()},
        "TransformJobName": job.name,
        "TransformJobArn": job.arn,
        "TransformJobStatus": job.status,
        "CreationTime": job.created,
    }
    return answer | _describe_end(job) | ({} if job.began is None else {"TransformStartTime": job.began})


def _list_jobs(context: RequestContext, request: Mapping[str, Any]) -> Mapping[str, Any]:
    found = [each for _, each in context.store.transforms(context.region)]
    chosen = paging.select_items(
        request,
        found,
        name=lambda each: each.name,
        created=lambda each: each.created,
        modified=lambda each: each.modified,
        status=lambda each: each.status,
    )
    return paging.build_page(request, chosen, "TransformJobSummaries", _summarize, name=lambda each: each.name)


def _summarize(job: TransformRecord) -> Mapping[str, Any]:
    summary: dict[str, Any] = {
        "TransformJobName": job.name,
        "TransformJobArn": job.arn,
        "CreationTime": job.created,
        "LastModifiedTime": job.modified,
        "TransformJobStatus": job.status,
    }
    return summary | _describe_end(job)


def _describe_end(job: TransformRecord) -> dict[str, Any]:
    """When it ended and why, where that can be said."""
    ended = {} if job.ended is None else {"TransformEndTime": job.ended}
    return ended | ({"FailureReason": job.failure} if job.failure else {})


OPERATIONS: Final[Mapping[str, Operation]] = MappingProxyType(
    {
        "CreateTransformJob": create_job,
        "DescribeTransformJob": _describe,
        "ListTransformJobs": _list_jobs,
        "StopTransformJob": _stop_job,
    }
)
