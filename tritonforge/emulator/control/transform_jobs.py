"""CreateTransformJob, DescribeTransformJob, ListTransformJobs, StopTransformJob."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from tritonforge.emulator.control import paging, tagging, transform_states
from tritonforge.emulator.control.failures import invalid, taken
from tritonforge.emulator.control.records import Transform
from tritonforge.emulator.control.request_context import Desk, Operation
from tritonforge.sagemaker.jobs.transform import limits

__all__ = ["OPERATIONS", "create", "description"]

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


def create(desk: Desk, request: Mapping[str, Any]) -> Mapping[str, Any]:
    """CreateTransformJob: the job is in the ledger, and under way."""
    name = request["TransformJobName"]
    arn = desk.arn(_KIND, name)
    tags = tagging.added((), request.get("Tags") or (), arn=arn)
    model = desk.model(request["ModelName"]).model
    exceeded = tuple(limits.model(model))
    if exceeded:
        raise invalid("; ".join(f"{each.place}: {each.sentence}" for each in exceeded))
    desk.premises.input(desk.region, request["TransformInput"]["DataSource"]["S3DataSource"], model["ExecutionRoleArn"])
    resources = request["TransformResources"]
    now = desk.now()
    with desk.ledger.lock:
        if desk.ledger.transform(desk.region, name) is not None:
            raise taken(arn)
        desk.allow_job(resources["InstanceType"], resources["InstanceCount"])
        made = Transform(
            name=name,
            arn=arn,
            created=now,
            modified=now,
            status="InProgress",
            request={key: value for key, value in request.items() if key != "Tags"},
            model=model,
            tags=tags,
        )
        desk.ledger.put(desk.region, _KIND, made)
    desk.transform(desk.region, name)
    return {"TransformJobArn": arn}


def _stop(desk: Desk, request: Mapping[str, Any]) -> Mapping[str, Any]:
    with desk.ledger.lock:
        job = desk.job(request["TransformJobName"])
        desk.ledger.put(desk.region, _KIND, transform_states.stopping(job, desk.now(job.modified)))
    desk.stop_transform(desk.region, job.name)
    return {}


def _describe(desk: Desk, request: Mapping[str, Any]) -> Mapping[str, Any]:
    return description(desk.job(request["TransformJobName"]))


def description(job: Transform) -> Mapping[str, Any]:
    """The answer to DescribeTransformJob: every member of the request, and the defaults that AWS shows."""
    answer: dict[str, Any] = {
        **job.request,
        **{name: {**defaults, **(job.request.get(name) or {})} for name, defaults in _DEFAULTS.items()},
        "TransformJobName": job.name,
        "TransformJobArn": job.arn,
        "TransformJobStatus": job.status,
        "CreationTime": job.created,
    }
    return answer | _ends(job) | ({} if job.began is None else {"TransformStartTime": job.began})


def _list(desk: Desk, request: Mapping[str, Any]) -> Mapping[str, Any]:
    found = [each for _, each in desk.ledger.transforms(desk.region)]
    chosen = paging.selected(
        request,
        found,
        name=lambda each: each.name,
        created=lambda each: each.created,
        modified=lambda each: each.modified,
        status=lambda each: each.status,
    )
    return paging.answer(request, chosen, "TransformJobSummaries", _summary, name=lambda each: each.name)


def _summary(job: Transform) -> Mapping[str, Any]:
    summary: dict[str, Any] = {
        "TransformJobName": job.name,
        "TransformJobArn": job.arn,
        "CreationTime": job.created,
        "LastModifiedTime": job.modified,
        "TransformJobStatus": job.status,
    }
    return summary | _ends(job)


def _ends(job: Transform) -> dict[str, Any]:
    """When it ended and why, where that can be said."""
    ended = {} if job.ended is None else {"TransformEndTime": job.ended}
    return ended | ({"FailureReason": job.failure} if job.failure else {})


OPERATIONS: Final[Mapping[str, Operation]] = MappingProxyType(
    {
        "CreateTransformJob": create,
        "DescribeTransformJob": _describe,
        "ListTransformJobs": _list,
        "StopTransformJob": _stop,
    }
)
