"""Limits of training jobs that AWS documents and its service model does not hold. This module does no I/O.

What a job's own values say against each other is `TrainingJob.problems`; here are the places of these values in the
request, and what belongs to SageMaker's machines. `tritonforge.sagemaker.limits` names the check.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final

from tritonforge.errors import RequestError
from tritonforge.sagemaker.jobs.kinds import TRAINING
from tritonforge.sagemaker.service_model import Violation
from tritonforge.training.job.training_job import TrainingJob

__all__ = ["create_training_job"]

#: Where the fields that `TrainingJob.problems` begins its sentences with lie in the request.
_PLACES: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "MaxRuntimeInSeconds": ("StoppingCondition", "MaxRuntimeInSeconds"),
        "MaxWaitTimeInSeconds": ("StoppingCondition", "MaxWaitTimeInSeconds"),
        "MetricDefinitions": ("AlgorithmSpecification", "MetricDefinitions"),
        "channel": ("InputDataConfig",),
    }
)
_WORDS: Final = re.compile(r"[A-Za-z0-9]+(\.[A-Za-z0-9]+)*")
_CHANNEL: Final = re.compile(r"channel (\S+): ")

#: Families whose instances have no disk of their own. Source: API ResourceConfig.VolumeSizeInGB, which names these.
_WITHOUT_DISK: Final = frozenset({"c5", "p2"})


def create_training_job(request: Mapping[str, Any]) -> Iterator[Violation]:
    """``CreateTrainingJob``; the request is taken to satisfy the service model."""
    try:
        problems = TrainingJob.from_request(request).problems()
    except RequestError:  # a member is missing or of another shape, which the service model says
        return
    for sentence in problems:
        yield Violation(_place(sentence, request), sentence)
    yield from _machines(request)
    yield from _addresses(request)


def _place(sentence: str, request: Mapping[str, Any]) -> tuple[str | int, ...]:
    if channel := _CHANNEL.match(sentence):
        names = [each.get("ChannelName") for each in request.get("InputDataConfig") or ()]
        return ("InputDataConfig", names.index(channel[1])) if channel[1] in names else ("InputDataConfig",)
    words = _WORDS.match(sentence)
    name = words.group() if words else TRAINING.create
    return _PLACES.get(name, tuple(name.split(".")))


def _machines(request: Mapping[str, Any]) -> Iterator[Violation]:
    resources = request.get("ResourceConfig")
    if resources is None:
        if "ServerlessJobConfig" not in request:
            yield Violation(("ResourceConfig",), "ResourceConfig is missing; it says on which instances the job runs")
        return
    groups = [resources, *(resources.get("InstanceGroups") or ())]
    for kind in (str(each["InstanceType"]) for each in groups if each.get("InstanceType")):
        if kind.split(".")[1:2] and kind.split(".")[1] in _WITHOUT_DISK and not resources.get("VolumeSizeInGB"):
            yield Violation(
                ("ResourceConfig", "VolumeSizeInGB"), f"VolumeSizeInGB is missing; {kind} has no disk of its own"
            )
    if resources.get("KeepAlivePeriodInSeconds") and request.get("EnableManagedSpotTraining"):
        # Source: SageMaker developer guide, "Train Using SageMaker Managed Warm Pools", considerations.
        yield Violation(
            ("ResourceConfig", "KeepAlivePeriodInSeconds"),
            "KeepAlivePeriodInSeconds keeps instances that EnableManagedSpotTraining gives back; use one of the two",
        )


def _addresses(request: Mapping[str, Any]) -> Iterator[Violation]:
    for path in (("OutputDataConfig", "S3OutputPath"), ("CheckpointConfig", "S3Uri")):
        uri = (request.get(path[0]) or {}).get(path[1])
        if isinstance(uri, str) and not uri.startswith("s3://"):
            # The service model's pattern lets https through; API OutputDataConfig shows s3:// only. The rule is ours.
            yield Violation(path, f"{path[-1]} is {uri!r}; write s3://bucket/prefix")
    for index, channel in enumerate(request.get("InputDataConfig") or ()):
        uri = ((channel.get("DataSource") or {}).get("S3DataSource") or {}).get("S3Uri")
        if isinstance(uri, str) and not uri.startswith("s3://"):
            yield Violation(
                ("InputDataConfig", index, "DataSource", "S3DataSource", "S3Uri"),
                f"S3Uri is {uri!r}; write s3://bucket/prefix",
            )
