"""CreateTrainingJob, DescribeTrainingJob, ListTrainingJobs, StopTrainingJob, DeleteTrainingJob."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final

from tritonforge.emulator.control import algorithms, paging, training_states
from tritonforge.emulator.control.api_errors import ApiError, invalid, missing_job, training_job_taken, unknown_image
from tritonforge.emulator.control.job_runner import UNFINISHED
from tritonforge.emulator.control.records import TrainingRecord
from tritonforge.emulator.control.registry_entries import ALGORITHM, is_validation_job
from tritonforge.emulator.control.request_context import Operation, RequestContext
from tritonforge.emulator.control.resources import InstanceUsage, ResourceKind
from tritonforge.emulator.control.tags import add_tags
from tritonforge.emulator.hosting import program_containers
from tritonforge.training.job import TrainingJob
from tritonforge.training.job.rules import find_unsupported

__all__ = ["OPERATIONS", "TRAINING_JOB", "describe_job"]


def _list_usage(job: TrainingRecord) -> Iterable[InstanceUsage]:
    if job.status in UNFINISHED:
        resources = job.request["ResourceConfig"]
        purpose = "spot training job usage" if job.request.get("EnableManagedSpotTraining") else "training job usage"
        yield InstanceUsage(resources["InstanceType"], purpose, int(resources.get("InstanceCount") or 1))


TRAINING_JOB: Final = ResourceKind(
    name="training-job",
    noun="training job",
    record=TrainingRecord,
    missing=missing_job,
    taken=training_job_taken,
    usage=_list_usage,
    log_group="/aws/sagemaker/TrainingJobs",
)

#: What Describe adds to a request that leaves it out. Source: API StoppingCondition ("The default value is 1 day"), and
#: what DescribeTrainingJob's answers hold in public notebooks of aws/amazon-sagemaker-examples.
_DEFAULTS: Final[Mapping[str, Any]] = MappingProxyType(
    {
        "StoppingCondition": {"MaxRuntimeInSeconds": 86400},
        "EnableNetworkIsolation": False,
        "EnableInterContainerTrafficEncryption": False,
        "EnableManagedSpotTraining": False,
    }
)


def _create(context: RequestContext, request: Mapping[str, Any]) -> Mapping[str, Any]:
    name = request["TrainingJobName"]
    arn = context.arn(TRAINING_JOB, name)
    tags = add_tags((), request.get("Tags") or (), arn=arn)
    _check_request(request)
    context.preconditions.check_role(context.region, request["RoleArn"])
    image, algorithm = _find_algorithm(context, request)
    if program_containers.find_program(image, context.images) is None:
        raise unknown_image(image, program_containers.ADVICE)
    for channel in request.get("InputDataConfig") or ():
        context.preconditions.check_input(context.region, channel["DataSource"]["S3DataSource"], request["RoleArn"])
    kept = {key: value for key, value in request.items() if key != "Tags"}
    job = training_states.create(
        name, arn, context.now(), request=kept, image=image, algorithm=algorithm or {}, tags=tags
    )
    context.create(TRAINING_JOB, job)
    return {"TrainingJobArn": arn}


def _check_request(request: Mapping[str, Any]) -> None:
    """Raise ApiError for what is not emulated; the sentences are ours."""
    resources = request.get("ResourceConfig") or {}
    if not request.get("AlgorithmSpecification") or not resources.get("InstanceType"):
        raise invalid(
            "tritonforge's emulator runs training jobs with AlgorithmSpecification and ResourceConfig.InstanceType; it "
            "has no serverless jobs, no instance groups and no instance preferences."
        )
    refused = find_unsupported(TrainingJob.from_request(request))
    if refused:
        raise invalid("; ".join(refused))


def _find_algorithm(context: RequestContext, request: Mapping[str, Any]) -> tuple[str, Mapping[str, Any] | None]:
    """The image that a job runs, and the specification of the algorithm that it names."""
    specification = request["AlgorithmSpecification"]
    name = specification.get("AlgorithmName")
    if not name:
        return str(specification["TrainingImage"]), None
    algorithm = context.find(ALGORITHM, name)
    if algorithm.status != "Completed" and not is_validation_job(algorithm, request):
        raise invalid(f"Algorithm {algorithm.arn} is {algorithm.status}; a job needs one that is Completed.")  # ours
    if sentences := list(algorithms.check_job(request, algorithm.request)):
        raise invalid("; ".join(sentences))
    training: Mapping[str, Any] = algorithm.request["TrainingSpecification"]
    return str(training["TrainingImage"]), training


def _stop(context: RequestContext, request: Mapping[str, Any]) -> Mapping[str, Any]:
    return context.stop_job(TRAINING_JOB, request["TrainingJobName"], training_states.begin_stop)


def _delete(context: RequestContext, request: Mapping[str, Any]) -> Mapping[str, Any]:
    with context.store.lock:
        job = context.find(TRAINING_JOB, request["TrainingJobName"])
        if job.status in UNFINISHED:
            # API DeleteTrainingJob: only in a terminal state, ResourceInUse else. The sentence is ours.
            raise ApiError("ResourceInUse", f"The training job {job.arn} is {job.status}; stop it first.")
        context.remove(TRAINING_JOB, job.name)
    return {}


def _describe(context: RequestContext, request: Mapping[str, Any]) -> Mapping[str, Any]:
    return describe_job(context.find(TRAINING_JOB, request["TrainingJobName"]))


def describe_job(job: TrainingRecord) -> Mapping[str, Any]:
    """The answer to DescribeTrainingJob."""
    specification = job.request["AlgorithmSpecification"]
    timed = training_states.count_seconds(job)
    answer: dict[str, Any] = {
        **_DEFAULTS,
        **job.request,
        # sagemaker-python-sdk, Estimator.attach, indexes it; also in the answers of aws/amazon-sagemaker-examples.
        "OutputDataConfig": {"KmsKeyId": "", **job.request["OutputDataConfig"]},
        # API AlgorithmSpecification: true where there are metric definitions, for images of one's own.
        "AlgorithmSpecification": {
            "EnableSageMakerMetricsTimeSeries": bool(specification.get("MetricDefinitions")),
            **specification,
        },
        "TrainingJobName": job.name,
        "TrainingJobArn": job.arn,
        "ModelArtifacts": {"S3ModelArtifacts": TrainingJob.from_request(job.request).artifact_uri},
        "TrainingJobStatus": job.status,
        "SecondaryStatus": job.secondary,
        "SecondaryStatusTransitions": training_states.list_transitions(job.phases),
        "CreationTime": job.created,
        "LastModifiedTime": job.modified,
    }
    if job.request.get("InputDataConfig"):
        answer["InputDataConfig"] = [_describe_channel(channel) for channel in job.request["InputDataConfig"]]
    later: Mapping[str, Any] = {
        "TrainingStartTime": job.began,
        "TrainingEndTime": job.ended,
        "FailureReason": job.failure or None,
        "FinalMetricDataList": list(job.metrics) or None,
        "TrainingTimeInSeconds": None if timed is None else timed[0],
        "BillableTimeInSeconds": None if timed is None else timed[1],
    }
    return answer | {name: value for name, value in later.items() if value is not None}


def _describe_channel(channel: Mapping[str, Any]) -> Mapping[str, Any]:
    """A channel with its defaults. Source: the service model (Channel, S3DataSource)."""
    source = channel["DataSource"]
    if source.get("S3DataSource"):
        source = {**source, "S3DataSource": {"S3DataDistributionType": "FullyReplicated", **source["S3DataSource"]}}
    return {"CompressionType": "None", "RecordWrapperType": "None", **channel, "DataSource": source}


def _list(context: RequestContext, request: Mapping[str, Any]) -> Mapping[str, Any]:
    for name in ("WarmPoolStatusEquals", "TrainingPlanArnEquals"):
        if request.get(name):
            raise invalid(f"{name}: tritonforge's emulator keeps no warm pools and no training plans.")  # ours
    return paging.build_page(request, context.list(TRAINING_JOB), "TrainingJobSummaries", _summarize, order="Ascending")


def _summarize(job: TrainingRecord) -> Mapping[str, Any]:
    summary: dict[str, Any] = {
        "TrainingJobName": job.name,
        "TrainingJobArn": job.arn,
        "CreationTime": job.created,
        "LastModifiedTime": job.modified,
        "TrainingJobStatus": job.status,
        "SecondaryStatus": job.secondary,
    }
    return summary | ({} if job.ended is None else {"TrainingEndTime": job.ended})


OPERATIONS: Final[Mapping[str, Operation]] = MappingProxyType(
    {
        "CreateTrainingJob": _create,
        "DescribeTrainingJob": _describe,
        "ListTrainingJobs": _list,
        "StopTrainingJob": _stop,
        "DeleteTrainingJob": _delete,
    }
)
