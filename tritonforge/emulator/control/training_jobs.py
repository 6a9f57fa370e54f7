"""CreateTrainingJob, DescribeTrainingJob, ListTrainingJobs, StopTrainingJob, DeleteTrainingJob."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from tritonforge.emulator.control import algorithms, paging, registry_entries, training_states
from tritonforge.emulator.control.api_errors import ApiError, invalid, taken_training, unknown_image
from tritonforge.emulator.control.records import TrainingRecord
from tritonforge.emulator.control.request_context import Operation, RequestContext
from tritonforge.emulator.control.tags import add_tags
from tritonforge.emulator.hosting import program_containers
from tritonforge.training.job import TrainingJob
from tritonforge.training.job.rules import find_unsupported

__all__ = ["OPERATIONS", "create_job", "describe_job"]

_KIND: Final = "training-job"

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


def create_job(context: RequestContext, request: Mapping[str, Any]) -> Mapping[str, Any]:
    """CreateTrainingJob: the job is in the store, and under way."""
    name = request["TrainingJobName"]
    arn = context.arn(_KIND, name)
    tags = add_tags((), request.get("Tags") or (), arn=arn)
    kind, count = _check_instances(request)
    context.preconditions.role(context.region, request["RoleArn"])
    image, algorithm = _find_algorithm(context, request)
    if program_containers.find_program(image, context.images) is None:
        raise unknown_image(image, program_containers.ADVICE)
    for each in request.get("InputDataConfig") or ():
        context.preconditions.input(context.region, each["DataSource"]["S3DataSource"], request["RoleArn"])
    with context.store.lock:
        if context.store.training(context.region, name) is not None:
            raise taken_training(arn)
        context.allow_training(kind, count, spot=bool(request.get("EnableManagedSpotTraining")))
        kept = {key: value for key, value in request.items() if key != "Tags"}
        made = training_states.create(
            name, arn, context.now(), request=kept, image=image, algorithm=algorithm or {}, tags=tags
        )
        context.store.put(context.region, _KIND, made)
    context.train(context.region, name)
    return {"TrainingJobArn": arn}


def _check_instances(request: Mapping[str, Any]) -> tuple[str, int]:
    """The type and the number of instances. Raises ApiError for what is not emulated; the sentences are ours."""
    resources = request.get("ResourceConfig") or {}
    if not request.get("AlgorithmSpecification") or not resources.get("InstanceType"):
        raise invalid(
            "tritonforge's emulator runs training jobs with AlgorithmSpecification and ResourceConfig.InstanceType; it "
            "has no serverless jobs, no instance groups and no instance preferences."
        )
    refused = find_unsupported(TrainingJob.from_request(request))
    if refused:
        raise invalid("; ".join(refused))
    return str(resources["InstanceType"]), int(resources.get("InstanceCount") or 1)


def _find_algorithm(context: RequestContext, request: Mapping[str, Any]) -> tuple[str, Mapping[str, Any] | None]:
    """The image that a job runs, and the specification of the algorithm that it names."""
    specification = request["AlgorithmSpecification"]
    name = specification.get("AlgorithmName")
    if not name:
        return str(specification["TrainingImage"]), None
    found = registry_entries.find_algorithm(context, name)
    if found.status != "Completed" and not registry_entries.is_validation_job(found, request):
        raise invalid(f"Algorithm {found.arn} is {found.status}; a job needs one that is Completed.")  # ours
    declared: Mapping[str, Any] = found.request["TrainingSpecification"]
    misfits = list(algorithms.check_job(request, found.request))
    if misfits:
        raise invalid("; ".join(misfits))
    return str(declared["TrainingImage"]), declared


def _stop_job(context: RequestContext, request: Mapping[str, Any]) -> Mapping[str, Any]:
    with context.store.lock:
        job = context.training(request["TrainingJobName"])
        context.store.put(context.region, _KIND, training_states.begin_stop(job, context.now(job.modified)))
    context.stop_training(context.region, job.name)
    return {}


def _delete_job(context: RequestContext, request: Mapping[str, Any]) -> Mapping[str, Any]:
    with context.store.lock:
        job = context.training(request["TrainingJobName"])
        if job.status in training_states.UNDER_WAY:
            # API DeleteTrainingJob: only in a terminal state, ResourceInUse else. The sentence is ours.
            raise ApiError("ResourceInUse", f"The training job {job.arn} is {job.status}; stop it first.")
        context.store.remove(context.region, _KIND, job.name)
    return {}


def _describe(context: RequestContext, request: Mapping[str, Any]) -> Mapping[str, Any]:
    return describe_job(context.training(request["TrainingJobName"]))


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


def _list_jobs(context: RequestContext, request: Mapping[str, Any]) -> Mapping[str, Any]:
    for name in ("WarmPoolStatusEquals", "TrainingPlanArnEquals"):
        if request.get(name):
            raise invalid(f"{name}: tritonforge's emulator keeps no warm pools and no training plans.")  # ours
    chosen = paging.select_items(
        request,
        [each for _, each in context.store.trainings(context.region)],
        name=lambda each: each.name,
        created=lambda each: each.created,
        modified=lambda each: each.modified,
        status=lambda each: each.status,
        order="Ascending",
    )
    return paging.build_page(request, chosen, "TrainingJobSummaries", _summarize, name=lambda each: each.name)


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
        "CreateTrainingJob": create_job,
        "DescribeTrainingJob": _describe,
        "ListTrainingJobs": _list_jobs,
        "StopTrainingJob": _stop_job,
        "DeleteTrainingJob": _delete_job,
    }
)
