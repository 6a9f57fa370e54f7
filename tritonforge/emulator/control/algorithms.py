"""CreateAlgorithm, DescribeAlgorithm, ListAlgorithms, DeleteAlgorithm, and whether a training job fits an algorithm.

What an algorithm supports is its TrainingSpecification (API CreateAlgorithm). That a job must fit it is AWS's rule; the
sentences are ours, those of the running program.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from tritonforge.emulator.control import model_registry
from tritonforge.emulator.control.api_errors import build_image_error, raise_violations
from tritonforge.emulator.control.model_registry import ALGORITHM
from tritonforge.emulator.control.records import RegistryEntry, build_page
from tritonforge.emulator.control.request_context import Operation, RequestContext
from tritonforge.emulator.hosting import program_containers
from tritonforge.errors import DefinitionError, InputError
from tritonforge.sagemaker.jobs.specification import read_algorithm
from tritonforge.sagemaker.limits import check_limits
from tritonforge.training.algorithm.declaration import Algorithm
from tritonforge.training.job import TrainingJob

__all__ = ["OPERATIONS", "add_defaults", "check_job"]


def _create(context: RequestContext, request: Mapping[str, Any]) -> Mapping[str, Any]:
    fields = context.build_fields(ALGORITHM, request["AlgorithmName"], request)
    raise_violations(check_limits("CreateAlgorithm", request))
    validation = request.get("ValidationSpecification")
    if validation:
        context.preconditions.check_role(context.region, validation["ValidationRole"])
    image = request["TrainingSpecification"]["TrainingImage"]
    if program_containers.find_program(image, context.images) is None:
        raise build_image_error(image, program_containers.ADVICE)
    entry = RegistryEntry(
        **fields,
        status="Pending",
        inference=request.get("InferenceSpecification") or {},
        validations=model_registry.list_validations(request),
    )
    context.create(ALGORITHM, entry)
    return {"AlgorithmArn": fields["arn"]}


def _describe(context: RequestContext, request: Mapping[str, Any]) -> Mapping[str, Any]:
    entry = context.find(ALGORITHM, request["AlgorithmName"])
    return {
        "CertifyForMarketplace": False,
        **entry.request,
        "AlgorithmName": entry.name,
        "AlgorithmArn": entry.arn,
        "CreationTime": entry.created,
        "AlgorithmStatus": entry.status,
        "AlgorithmStatusDetails": model_registry.describe_details(entry),
    }


def _list(context: RequestContext, request: Mapping[str, Any]) -> Mapping[str, Any]:
    return build_page(request, context.list(ALGORITHM), "AlgorithmSummaryList", _summarize, order="Ascending")


def _summarize(entry: RegistryEntry) -> Mapping[str, Any]:
    summary: dict[str, Any] = {
        "AlgorithmName": entry.name,
        "AlgorithmArn": entry.arn,
        "CreationTime": entry.created,
        "AlgorithmStatus": entry.status,
    }
    description = entry.request.get("AlgorithmDescription")
    return summary | ({} if description is None else {"AlgorithmDescription": description})


def _delete(context: RequestContext, request: Mapping[str, Any]) -> Mapping[str, Any]:
    """Delete an algorithm; jobs that were made from it continue, as they have a copy."""
    with context.store.lock:
        entry = context.find(ALGORITHM, request["AlgorithmName"])
        model_registry.check_deletable(entry, "Algorithm")
        context.remove(ALGORITHM, entry.name)
    return {}


OPERATIONS: Final[Mapping[str, Operation]] = MappingProxyType(
    {"CreateAlgorithm": _create, "DescribeAlgorithm": _describe, "ListAlgorithms": _list, "DeleteAlgorithm": _delete}
)


@dataclass(frozen=True, slots=True)
class _OfferedChannel:
    """A channel of a job, in the form that a declaration is compared with."""

    name: str
    mode: str
    content_type: str


def check_job(request: Mapping[str, Any], algorithm: Mapping[str, Any]) -> Iterator[str]:
    """Yield what of a CreateTrainingJob request an algorithm (its CreateAlgorithm request) does not support."""
    try:
        declared = read_algorithm(algorithm)
    except DefinitionError:  # AWS lets stand what no declaration can: a Categorical without values
        return
    job = TrainingJob.from_request(request)
    yield from _check_instances(job, declared)
    try:
        declared.check(
            [
                _OfferedChannel(channel.name, job.mode(channel), channel.content_type or "")
                for channel in job.channels or ()
            ]
        )
    except InputError as error:
        yield f"InputDataConfig: {error}"
    try:
        declared.read(job.hyperparameters or {})
    except InputError as error:
        yield f"HyperParameters: {error}"


def add_defaults(request: Mapping[str, Any], algorithm: Mapping[str, Any]) -> Mapping[str, Any]:
    """Add an algorithm's defaults of hyperparameters and its metrics (its TrainingSpecification) to a request.

    Source: API HyperParameterSpecification.DefaultValue; API CreateAlgorithm, TrainingSpecification.MetricDefinitions.
    """
    if not algorithm:
        return request
    defaults = {
        parameter["Name"]: parameter["DefaultValue"]
        for parameter in algorithm.get("SupportedHyperParameters") or ()
        if parameter.get("DefaultValue") is not None
    }
    specified = dict(request["AlgorithmSpecification"])
    if algorithm.get("MetricDefinitions"):
        specified.setdefault("MetricDefinitions", algorithm["MetricDefinitions"])
    hyperparameters = {**defaults, **(request.get("HyperParameters") or {})}
    return {**request, "AlgorithmSpecification": specified, "HyperParameters": hyperparameters}


def _check_instances(job: TrainingJob, declared: Algorithm) -> Iterator[str]:
    resources = job.resources
    if resources is None:
        return
    supported = declared.training_instance_types
    if resources.instance_type is not None and resources.instance_type not in supported:
        yield f"ResourceConfig.InstanceType is {resources.instance_type}; the algorithm supports {', '.join(supported)}"
    if (resources.instance_count or 1) > 1 and not declared.distributed:
        yield "ResourceConfig.InstanceCount is more than 1; the algorithm does not support distributed training"
