"""CreateTransformJob, DescribeTransformJob, ListTransformJobs, StopTransformJob."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final

from tritonforge.emulator.control import paging
from tritonforge.emulator.control.api_errors import job_taken, missing_job, raise_violations
from tritonforge.emulator.control.job_runner import UNFINISHED
from tritonforge.emulator.control.models import MODEL
from tritonforge.emulator.control.records import TransformRecord
from tritonforge.emulator.control.request_context import Operation, RequestContext
from tritonforge.emulator.control.resources import InstanceUsage, ResourceKind
from tritonforge.emulator.control.tags import add_tags
from tritonforge.sagemaker.jobs.transform import limits

__all__ = ["OPERATIONS", "TRANSFORM_JOB", "describe_job"]


def _list_usage(job: TransformRecord) -> Iterable[InstanceUsage]:
    if job.status in UNFINISHED:
        resources = job.request["TransformResources"]
        yield InstanceUsage(resources["InstanceType"], "transform job usage", resources["InstanceCount"])


TRANSFORM_JOB: Final = ResourceKind(
    name="transform-job",
    noun="transform job",
    record=TransformRecord,
    missing=missing_job,
    taken=job_taken,
    usage=_list_usage,
    log_group="/aws/sagemaker/TransformJobs",
)

#: What Describe adds to a request that leaves it out. Source: the service model (TransformInput, DataProcessing), and
#: the answer in sagemaker-python-sdk, tests/unit/test_session.py (COMPLETED_DESCRIBE_TRANSFORM_JOB_RESULT).
_DEFAULTS: Final[Mapping[str, Mapping[str, str]]] = MappingProxyType(
    {
        "TransformInput": {"CompressionType": "None", "SplitType": "None"},
        "TransformOutput": {"AssembleWith": "None", "KmsKeyId": ""},
        "DataProcessing": {"InputFilter": "$", "OutputFilter": "$", "JoinSource": "None"},
    }
)


def _create(context: RequestContext, request: Mapping[str, Any]) -> Mapping[str, Any]:
    name = request["TransformJobName"]
    arn = context.arn(TRANSFORM_JOB, name)
    tags = add_tags((), request.get("Tags") or (), arn=arn)
    model = context.find(MODEL, request["ModelName"]).model
    raise_violations(limits.model(model))
    source = request["TransformInput"]["DataSource"]["S3DataSource"]
    context.preconditions.check_input(context.region, source, model["ExecutionRoleArn"])
    now = context.now()
    job = TransformRecord(
        name=name,
        arn=arn,
        created=now,
        modified=now,
        status="InProgress",
        request={key: value for key, value in request.items() if key != "Tags"},
        model=model,
        tags=tags,
    )
    context.create(TRANSFORM_JOB, job)
    return {"TransformJobArn": arn}


def _stop(context: RequestContext, request: Mapping[str, Any]) -> Mapping[str, Any]:
    return context.stop_job(TRANSFORM_JOB, request["TransformJobName"])


def _describe(context: RequestContext, request: Mapping[str, Any]) -> Mapping[str, Any]:
    return describe_job(context.find(TRANSFORM_JOB, request["TransformJobName"]))


def describe_job(job: TransformRecord) -> Mapping[str, Any]:
    """Return the answer to DescribeTransformJob: every member of the request, and the defaults that AWS shows."""
    answer: dict[str, Any] = {
        **job.request,
        **{name: {**defaults, **(job.request.get(name) or {})} for name, defaults in _DEFAULTS.items()},
        "TransformJobName": job.name,
        "TransformJobArn": job.arn,
        "TransformJobStatus": job.status,
        "CreationTime": job.created,
    }
    return answer | _describe_end(job) | ({} if job.began is None else {"TransformStartTime": job.began})


def _list(context: RequestContext, request: Mapping[str, Any]) -> Mapping[str, Any]:
    return paging.build_page(request, context.list(TRANSFORM_JOB), "TransformJobSummaries", _summarize)


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
    """Return the time and the reason of the end, as far as there is one."""
    ended = {} if job.ended is None else {"TransformEndTime": job.ended}
    return ended | ({"FailureReason": job.failure} if job.failure else {})


OPERATIONS: Final[Mapping[str, Operation]] = MappingProxyType(
    {
        "CreateTransformJob": _create,
        "DescribeTransformJob": _describe,
        "ListTransformJobs": _list,
        "StopTransformJob": _stop,
    }
)
