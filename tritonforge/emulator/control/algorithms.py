"""CreateAlgorithm, DescribeAlgorithm, ListAlgorithms, DeleteAlgorithm."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from tritonforge.emulator.control import paging, registry_entries
from tritonforge.emulator.control.api_errors import already_exists, conflict, invalid, unknown_image
from tritonforge.emulator.control.records import RegistryEntry
from tritonforge.emulator.control.request_context import Operation, RequestContext
from tritonforge.emulator.control.resources import KINDS
from tritonforge.emulator.control.tags import add_tags
from tritonforge.emulator.hosting import program_containers
from tritonforge.errors import DefinitionError, InputError
from tritonforge.sagemaker.jobs.marketplace import specification
from tritonforge.sagemaker.limits import check_limits
from tritonforge.training.algorithm.declaration import Algorithm
from tritonforge.training.job import TrainingJob

__all__ = ["OPERATIONS", "add_defaults", "check_job"]

_KIND: Final = registry_entries.ALGORITHM


def _create(context: RequestContext, request: Mapping[str, Any]) -> Mapping[str, Any]:
    name = request["AlgorithmName"]
    arn = context.arn(_KIND, name)
    tags = add_tags((), request.get("Tags") or (), arn=arn)
    violations = check_limits("CreateAlgorithm", request)
    if violations:
        raise invalid("; ".join(f"{violation.place}: {violation.sentence}" for violation in violations))
    validation = request.get("ValidationSpecification")
    if validation:
        context.preconditions.role(context.region, validation["ValidationRole"])
    image = request["TrainingSpecification"]["TrainingImage"]
    if program_containers.find_program(image, context.images) is None:
        raise unknown_image(image, program_containers.ADVICE)
    now = context.now()
    with context.store.lock:
        if context.store.registered(context.region, _KIND, name) is not None:
            raise already_exists(KINDS[_KIND], arn)
        made = RegistryEntry(
            name=name,
            arn=arn,
            created=now,
            modified=now,
            status="Pending",
            request={key: value for key, value in request.items() if key != "Tags"},
            inference=request.get("InferenceSpecification") or {},
            validations=registry_entries.list_validations(request),
            tags=tags,
        )
        context.store.put(context.region, _KIND, made)
    context.validate(context.region, _KIND, name)
    return {"AlgorithmArn": arn}


def _describe(context: RequestContext, request: Mapping[str, Any]) -> Mapping[str, Any]:
    found = registry_entries.find_algorithm(context, request["AlgorithmName"])
    return {
        "CertifyForMarketplace": False,
        **found.request,
        "AlgorithmName": found.name,
        "AlgorithmArn": found.arn,
        "CreationTime": found.created,
        "AlgorithmStatus": found.status,
        "AlgorithmStatusDetails": registry_entries.describe_details(found),
    }


def _list(context: RequestContext, request: Mapping[str, Any]) -> Mapping[str, Any]:
    chosen = paging.select_items(
        request,
        [each for _, each in context.store.registrations(_KIND, context.region)],
        name=lambda each: each.name,
        created=lambda each: each.created,
        order="Ascending",
    )
    return paging.build_page(request, chosen, "AlgorithmSummaryList", _summary, name=lambda each: each.name)


def _summary(found: RegistryEntry) -> Mapping[str, Any]:
    summary: dict[str, Any] = {
        "AlgorithmName": found.name,
        "AlgorithmArn": found.arn,
        "CreationTime": found.created,
        "AlgorithmStatus": found.status,
    }
    description = found.request.get("AlgorithmDescription")
    return summary | ({} if description is None else {"AlgorithmDescription": description})


def _delete(context: RequestContext, request: Mapping[str, Any]) -> Mapping[str, Any]:
    """Jobs that were made from it go on: they have a copy."""
    with context.store.lock:
        found = registry_entries.find_algorithm(context, request["AlgorithmName"])
        if found.status in registry_entries.UNDER_WAY:
            raise conflict(f"Algorithm {found.arn} is {found.status}; delete it once its validation has ended.")
        context.store.remove(context.region, _KIND, found.name)
    return {}


OPERATIONS: Final[Mapping[str, Operation]] = MappingProxyType(
    {
        "CreateAlgorithm": _create,
        "DescribeAlgorithm": _describe,
        "ListAlgorithms": _list,
        "DeleteAlgorithm": _delete,
    }
)


@dataclass(frozen=True, slots=True)
class _OfferedChannel:
    """A channel of a job, as a declaration looks at it."""

    name: str
    mode: str
    content_type: str


def check_job(request: Mapping[str, Any], algorithm: Mapping[str, Any]) -> Iterator[str]:
    """What of a CreateTrainingJob request an algorithm (its CreateAlgorithm request) does not support."""
    try:
        declared = specification.algorithm(algorithm)
    except DefinitionError:  # AWS lets stand what no declaration can: a Categorical without values
        return
    job = TrainingJob.from_request(request)
    yield from _check_instances(job, declared)
    try:
        declared.check(
            [_OfferedChannel(each.name, job.mode(each), each.content_type or "") for each in job.channels or ()]
        )
    except InputError as error:
        yield f"InputDataConfig: {error}"
    try:
        declared.read(job.hyperparameters or {})
    except InputError as error:
        yield f"HyperParameters: {error}"


def add_defaults(request: Mapping[str, Any], algorithm: Mapping[str, Any]) -> Mapping[str, Any]:
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


def _check_instances(job: TrainingJob, declared: Algorithm) -> Iterator[str]:
    resources = job.resources
    if resources is None:
        return
    supported = declared.training_instance_types
    if resources.instance_type is not None and resources.instance_type not in supported:
        yield f"ResourceConfig.InstanceType is {resources.instance_type}; the algorithm supports {', '.join(supported)}"
    if (resources.instance_count or 1) > 1 and not declared.distributed:
        yield "ResourceConfig.InstanceCount is more than 1; the algorithm does not support distributed training"
