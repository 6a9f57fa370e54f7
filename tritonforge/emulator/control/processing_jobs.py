"""CreateProcessingJob, DescribeProcessingJob, ListProcessingJobs, StopProcessingJob."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Any, Final

from tritonforge.emulator.control import paging
from tritonforge.emulator.control.api_errors import invalid, job_taken, missing_job, unknown_image
from tritonforge.emulator.control.job_runner import UNFINISHED
from tritonforge.emulator.control.records import JobRecord
from tritonforge.emulator.control.request_context import Operation, RequestContext
from tritonforge.emulator.control.resources import InstanceUsage, ResourceKind
from tritonforge.emulator.control.tags import add_tags
from tritonforge.emulator.hosting import program_containers

__all__ = ["BASE", "OPERATIONS", "PROCESSING_JOB", "ProcessingRecord", "list_outputs"]

#: Inputs and outputs are below this directory of the container. Source: API ProcessingS3Input, LocalPath.
BASE: Final = PurePosixPath("/opt/ml/processing")

#: What Describe adds to a request that omits it. Source: the service model (ProcessingStoppingCondition, "1 day"), and
#: the answers that aws/sagemaker-python-sdk prints of its inputs and outputs (amazon-sagemaker-examples issue 1604).
_INPUT_DEFAULTS: Final[Mapping[str, Any]] = MappingProxyType(
    {"S3InputMode": "File", "S3DataDistributionType": "FullyReplicated", "S3CompressionType": "None"}
)
_DEFAULTS: Final[Mapping[str, Any]] = MappingProxyType({"StoppingCondition": {"MaxRuntimeInSeconds": 86400}})


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessingRecord(JobRecord):
    """A processing job; ``message`` is its ExitMessage."""

    message: str = ""


def _list_usage(job: ProcessingRecord) -> Iterable[InstanceUsage]:
    if job.status in UNFINISHED:
        cluster = job.request["ProcessingResources"]["ClusterConfig"]
        yield InstanceUsage(cluster["InstanceType"], "processing job usage", int(cluster.get("InstanceCount") or 1))


PROCESSING_JOB: Final = ResourceKind(
    name="processing-job",
    noun="processing job",
    record=ProcessingRecord,
    missing=missing_job,
    taken=job_taken,
    usage=_list_usage,
    log_group="/aws/sagemaker/ProcessingJobs",
)


def list_outputs(request: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the outputs of a request, as it has them."""
    return list((request.get("ProcessingOutputConfig") or {}).get("Outputs") or ())


def _create(context: RequestContext, request: Mapping[str, Any]) -> Mapping[str, Any]:
    name = request["ProcessingJobName"]
    arn = context.arn(PROCESSING_JOB, name)
    tags = add_tags((), request.get("Tags") or (), arn=arn)
    if sentences := list(_find_unsupported(request)):
        raise invalid("; ".join(sentences))
    context.preconditions.check_role(context.region, request["RoleArn"])
    image = request["AppSpecification"]["ImageUri"]
    if program_containers.find_program(image, context.images) is None:
        raise unknown_image(image, program_containers.ADVICE)
    for processing_input in request.get("ProcessingInputs") or ():
        context.preconditions.check_input(context.region, processing_input["S3Input"], request["RoleArn"])
    now = context.now()
    kept = {key: value for key, value in request.items() if key != "Tags"}
    job = ProcessingRecord(name=name, arn=arn, created=now, modified=now, status="InProgress", request=kept, tags=tags)
    context.create(PROCESSING_JOB, job)
    return {"ProcessingJobArn": arn}


def _find_unsupported(request: Mapping[str, Any]) -> Iterator[str]:
    """Yield what a request has that is invalid or not emulated; the sentences are ours."""
    cluster = request["ProcessingResources"]["ClusterConfig"]
    if not cluster.get("InstanceType"):
        yield "ClusterConfig.InstanceType is required: tritonforge's emulator has no instance preferences"
    if int(cluster.get("InstanceCount") or 1) > 1:
        yield "ClusterConfig.InstanceCount is more than 1: tritonforge's emulator runs a processing job on one instance"
    paths: list[str] = []
    for processing_input in request.get("ProcessingInputs") or ():
        where, source = f"ProcessingInputs[{processing_input['InputName']}]", processing_input.get("S3Input")
        if source is None:
            yield f"{where}: tritonforge's emulator takes S3Input only, no DatasetDefinition"
            continue
        if source.get("S3InputMode") == "Pipe" or source.get("S3CompressionType") == "Gzip":
            yield f"{where}: tritonforge's emulator takes S3InputMode File without S3CompressionType only"
        paths.append(source.get("LocalPath", ""))
        yield from _check_path(where, paths[-1])
    for output in list_outputs(request):
        where, target = f"ProcessingOutputConfig.Outputs[{output['OutputName']}]", output.get("S3Output")
        if target is None:
            yield f"{where}: tritonforge's emulator takes S3Output only, no FeatureStoreOutput"
            continue
        yield from _check_path(where, target.get("LocalPath", ""))
    if len(paths) != len(set(paths)):
        # aws/sagemaker-python-sdk issue 4939 states the rule.
        yield "ProcessingInputs: the LocalPath of each input must be unique"


def _check_path(where: str, text: str) -> Iterator[str]:
    path = PurePosixPath(text)
    if ".." in path.parts or not path.is_relative_to(BASE) or path == BASE:
        yield f"{where}: LocalPath is {text!r} (expected a directory below {BASE})"


def _stop(context: RequestContext, request: Mapping[str, Any]) -> Mapping[str, Any]:
    return context.stop_job(PROCESSING_JOB, request["ProcessingJobName"])


def _describe(context: RequestContext, request: Mapping[str, Any]) -> Mapping[str, Any]:
    job = context.find(PROCESSING_JOB, request["ProcessingJobName"])
    answer: dict[str, Any] = {
        **_DEFAULTS,
        **job.request,
        **_summarize(job),
    }
    if "ProcessingInputs" in answer:
        answer["ProcessingInputs"] = [
            {"AppManaged": False, **given, "S3Input": {**_INPUT_DEFAULTS, **given["S3Input"]}}
            for given in answer["ProcessingInputs"]
        ]
    if outputs := list_outputs(job.request):
        described = [{"AppManaged": False, **output} for output in outputs]
        answer["ProcessingOutputConfig"] = {**job.request["ProcessingOutputConfig"], "Outputs": described}
    return answer | ({} if job.began is None else {"ProcessingStartTime": job.began})


def _list(context: RequestContext, request: Mapping[str, Any]) -> Mapping[str, Any]:
    return paging.build_page(
        request, context.list(PROCESSING_JOB), "ProcessingJobSummaries", _summarize, order="Ascending"
    )


def _summarize(job: ProcessingRecord) -> dict[str, Any]:
    optional = {
        "ProcessingEndTime": job.ended,
        "FailureReason": job.failure or None,
        "ExitMessage": job.message or None,
    }
    return {
        "ProcessingJobName": job.name,
        "ProcessingJobArn": job.arn,
        "CreationTime": job.created,
        "LastModifiedTime": job.modified,
        "ProcessingJobStatus": job.status,
        **{name: value for name, value in optional.items() if value is not None},
    }


OPERATIONS: Final[Mapping[str, Operation]] = MappingProxyType(
    {
        "CreateProcessingJob": _create,
        "DescribeProcessingJob": _describe,
        "ListProcessingJobs": _list,
        "StopProcessingJob": _stop,
    }
)
