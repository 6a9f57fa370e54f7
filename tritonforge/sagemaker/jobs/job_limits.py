"""Documented limits of training and transform jobs that AWS's service model does not state. No I/O.

`tritonforge.sagemaker.limits` registers the checks by operation. The rules between a job's own values are in
`TrainingJob.problems` and `TransformJob.find_problems`; this module locates these values in the request and adds what
concerns SageMaker's instances.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final

from tritonforge.errors import RequestError
from tritonforge.sagemaker.jobs.kinds import TRAINING, TRANSFORM
from tritonforge.sagemaker.service_model import Violation
from tritonforge.training.job.training_job import TrainingJob
from tritonforge.transform.job import TransformJob
from tritonforge.triton.service_limits import TRANSFORM_INSTANCES

__all__ = ["check_batch_model", "check_training_job", "check_transform_job"]

#: Where in the request the fields are with which the sentences about a job begin.
_PATHS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "AssembleWith": ("TransformOutput", "AssembleWith"),
        "CompressionType": ("TransformInput", "CompressionType"),
        "InputFilter": ("DataProcessing", "InputFilter"),
        "InvocationsMaxRetries": ("ModelClientConfig", "InvocationsMaxRetries"),
        "InvocationsTimeoutInSeconds": ("ModelClientConfig", "InvocationsTimeoutInSeconds"),
        "JoinSource": ("DataProcessing", "JoinSource"),
        "MaxRuntimeInSeconds": ("StoppingCondition", "MaxRuntimeInSeconds"),
        "MaxWaitTimeInSeconds": ("StoppingCondition", "MaxWaitTimeInSeconds"),
        "MetricDefinitions": ("AlgorithmSpecification", "MetricDefinitions"),
        "OutputFilter": ("DataProcessing", "OutputFilter"),
        "S3DataType": ("TransformInput", "DataSource", "S3DataSource", "S3DataType"),
        "SplitType": ("TransformInput", "SplitType"),
        "channel": ("InputDataConfig",),
    }
)
_FIELD: Final = re.compile(r"[A-Za-z0-9]+(\.[A-Za-z0-9]+)*")
_CHANNEL: Final = re.compile(r"channel (\S+): ")

#: Families whose instances have no disk of their own. Source: API ResourceConfig.VolumeSizeInGB, which names these.
_WITHOUT_DISK: Final = frozenset({"c5", "p2"})


def check_training_job(request: Mapping[str, Any]) -> Iterator[Violation]:
    """Check a ``CreateTrainingJob`` request that satisfies the service model."""
    try:
        problems = TrainingJob.from_request(request).problems()
    except RequestError:  # a violation of the service model
        return
    channels = request.get("InputDataConfig") or ()
    names = [channel.get("ChannelName") for channel in channels]
    for sentence in problems:
        channel = _CHANNEL.match(sentence)
        if channel and channel[1] in names:
            yield Violation(("InputDataConfig", names.index(channel[1])), sentence)
        else:
            yield Violation(_find_path(sentence, TRAINING.create), sentence)
    yield from _check_instances(request)
    yield from _check_addresses(request, ("OutputDataConfig", "S3OutputPath"), ("CheckpointConfig", "S3Uri"))
    for index in range(len(channels)):
        yield from _check_addresses(request, ("InputDataConfig", index, "DataSource", "S3DataSource", "S3Uri"))


def check_transform_job(request: Mapping[str, Any]) -> Iterator[Violation]:
    """Check a ``CreateTransformJob`` request that satisfies the service model."""
    try:
        problems = TransformJob.from_request(request).find_problems()
    except RequestError as error:  # a member that is newer than this version
        yield Violation((TRANSFORM.create,), str(error))
        return
    for sentence in problems:
        yield Violation(_find_path(sentence, "TransformJob"), sentence)
    count = (request.get("TransformResources") or {}).get("InstanceCount")
    if isinstance(count, int) and count > TRANSFORM_INSTANCES.value:
        yield Violation(
            ("TransformResources", "InstanceCount"),
            f"InstanceCount is {count}; it cannot exceed {TRANSFORM_INSTANCES.value}",
        )
    yield from _check_addresses(request, ("TransformOutput", "S3OutputPath"), ("DataCaptureConfig", "DestinationS3Uri"))


def check_batch_model(request: Mapping[str, Any]) -> Iterator[Violation]:
    """Check that batch transform can use the model of a ``CreateModel`` request."""
    containers = [request.get("PrimaryContainer"), *(request.get("Containers") or ())]
    for container in containers:
        if not isinstance(container, Mapping):
            continue
        if container.get("ModelDataSource"):
            # API ContainerDefinition.ModelDataSource: "Currently you cannot use ModelDataSource in conjunction with
            # SageMaker batch transform".
            yield Violation(
                ("ModelName",),
                "a model with ModelDataSource cannot be used with batch transform; give its container ModelDataUrl, "
                "one model.tar.gz",
            )
        if container.get("Mode") == "MultiModel":
            # A job's requests carry no TargetModel. Not documented by AWS.
            yield Violation(("ModelName",), "a multi-model container cannot be used with batch transform")


def _find_path(sentence: str, default: str) -> tuple[str | int, ...]:
    """Return where in the request the field is with which a sentence begins."""
    match = _FIELD.match(sentence)
    name = match.group() if match else default
    return _PATHS.get(name, tuple(name.split(".")))


def _check_instances(request: Mapping[str, Any]) -> Iterator[Violation]:
    resources = request.get("ResourceConfig")
    if resources is None:
        if "ServerlessJobConfig" not in request:
            yield Violation(("ResourceConfig",), "ResourceConfig is missing; it names the instances of the job")
        return
    groups = [resources, *(resources.get("InstanceGroups") or ())]
    for instance_type in (str(group["InstanceType"]) for group in groups if group.get("InstanceType")):
        family = instance_type.split(".")[1:2]
        if family and family[0] in _WITHOUT_DISK and not resources.get("VolumeSizeInGB"):
            yield Violation(
                ("ResourceConfig", "VolumeSizeInGB"),
                f"VolumeSizeInGB is missing; {instance_type} has no disk of its own",
            )
    if resources.get("KeepAlivePeriodInSeconds") and request.get("EnableManagedSpotTraining"):
        # Source: SageMaker developer guide, "Train Using SageMaker Managed Warm Pools", considerations.
        yield Violation(
            ("ResourceConfig", "KeepAlivePeriodInSeconds"),
            "KeepAlivePeriodInSeconds keeps instances that EnableManagedSpotTraining gives back; use one of the two",
        )


def _check_addresses(request: Mapping[str, Any], *paths: tuple[str | int, ...]) -> Iterator[Violation]:
    """Check that addresses are in S3. The service model's patterns allow https; API pages show s3:// only."""
    for path in paths:
        value: Any = request
        for part in path:
            value = value[part] if isinstance(part, int) else (value or {}).get(part)
        if isinstance(value, str) and not value.startswith("s3://"):
            yield Violation(path, f"{path[-1]} is {value!r} (expected s3://bucket/prefix)")
