"""Whether a training job fits the algorithm that it names: channels, hyperparameters, instances. No I/O.

What an algorithm supports is its TrainingSpecification (API CreateAlgorithm); that a job is held to it is AWS's, the
sentences are ours, those of the running program: all of them are told at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tritonforge.errors import DefinitionError, InputError
from tritonforge.sagemaker.jobs.marketplace import specification
from tritonforge.training.algorithm.declaration import Algorithm
from tritonforge.training.job import TrainingJob

__all__ = ["completed", "problems"]


@dataclass(frozen=True, slots=True)
class _Offered:
    """A channel of a job, as a declaration looks at it."""

    name: str
    mode: str
    content_type: str


def problems(request: Mapping[str, Any], algorithm: Mapping[str, Any]) -> Iterator[str]:
    """What of a CreateTrainingJob request an algorithm (its CreateAlgorithm request) does not support."""
    try:
        declared = specification.algorithm(algorithm)
    except DefinitionError:  # AWS lets stand what no declaration can: a Categorical without values
        return
    job = TrainingJob.from_request(request)
    yield from _instances(job, declared)
    try:
        declared.check([_Offered(each.name, job.mode(each), each.content_type or "") for each in job.channels or ()])
    except InputError as error:
        yield f"InputDataConfig: {error}"
    try:
        declared.read(job.hyperparameters or {})
    except InputError as error:
        yield f"HyperParameters: {error}"


def completed(request: Mapping[str, Any], algorithm: Mapping[str, Any]) -> Mapping[str, Any]:
    """A request with what an algorithm (its TrainingSpecification) adds: defaults of hyperparameters, and its metrics.

    Source: API HyperParameterSpecification.DefaultValue; API CreateAlgorithm, TrainingSpecification.MetricDefinitions.
    """
    if not algorithm:
        return request
    defaults = {
        each["Name"]: each["DefaultValue"]
        for each in algorithm.get("SupportedHyperParameters") or ()
        if each.get("DefaultValue") is not None
    }
    specified = dict(request["AlgorithmSpecification"])
    if algorithm.get("MetricDefinitions"):
        specified.setdefault("MetricDefinitions", algorithm["MetricDefinitions"])
    hyperparameters = {**defaults, **(request.get("HyperParameters") or {})}
    return {**request, "AlgorithmSpecification": specified, "HyperParameters": hyperparameters}


def _instances(job: TrainingJob, declared: Algorithm) -> Iterator[str]:
    resources = job.resources
    if resources is None:
        return
    supported = declared.training_instance_types
    if resources.instance_type is not None and resources.instance_type not in supported:
        yield f"ResourceConfig.InstanceType is {resources.instance_type}; the algorithm supports {', '.join(supported)}"
    if (resources.instance_count or 1) > 1 and not declared.distributed:
        yield "ResourceConfig.InstanceCount is more than 1; the algorithm does not support distributed training"
