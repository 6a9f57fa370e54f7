"""CreateModel, DescribeModel, ListModels, DeleteModel, and the containers of models that name a model package."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

from tritonforge.emulator.control.api_errors import build_validation_error
from tritonforge.emulator.control.model_registry import MODEL_PACKAGE
from tritonforge.emulator.control.records import Resource, build_page, describe_record
from tritonforge.emulator.control.request_context import Operation, RequestContext
from tritonforge.emulator.control.resource_store import ResourceKind
from tritonforge.emulator.hosting import list_container_definitions

__all__ = ["MODEL", "OPERATIONS", "describe_model"]

MODEL: Final = ResourceKind(name="model", noun="model", record=Resource)

#: Members that a model's container takes from the container of a package.
_PACKAGE_MEMBERS: Final = (
    "ContainerHostname",
    "Image",
    "ModelDataUrl",
    "ModelDataSource",
    "AdditionalModelDataSources",
)


def _create(context: RequestContext, request: Mapping[str, Any]) -> Mapping[str, Any]:
    fields = context.build_fields(MODEL, request["ModelName"], request)
    role = request.get("ExecutionRoleArn")
    if not role:
        # The service model does not require it, SageMaker does for every model with containers. The sentence is ours.
        raise build_validation_error("ExecutionRoleArn is required for a model with containers.")
    context.preconditions.check_role(context.region, role)
    served = _resolve_packages(context, request)
    for container in list_container_definitions({**request, **served}):
        context.preconditions.check_model_data(context.region, container, role)
    context.create(MODEL, Resource(**fields, served=served))
    return {"ModelArn": fields["arn"]}


def _describe(context: RequestContext, request: Mapping[str, Any]) -> Mapping[str, Any]:
    return describe_model(context.find(MODEL, request["ModelName"]))


def describe_model(model: Resource) -> Mapping[str, Any]:
    """Return the answer to DescribeModel."""
    answer: dict[str, Any] = {"EnableNetworkIsolation": False, **model.request}
    # What SageMaker adds to a container.
    defaults = {"Mode": "SingleModel", "Environment": {}}
    if "PrimaryContainer" in answer:
        answer["PrimaryContainer"] = {**defaults, **answer["PrimaryContainer"]}
    if "Containers" in answer:
        answer["Containers"] = [{**defaults, **container} for container in answer["Containers"]]
    return {**answer, **describe_record(model, "Model")}


def _list(context: RequestContext, request: Mapping[str, Any]) -> Mapping[str, Any]:
    models = context.list(MODEL)
    return build_page(request, models, "Models", lambda model: describe_record(model, "Model"))


def _delete(context: RequestContext, request: Mapping[str, Any]) -> Mapping[str, Any]:
    """Delete a model, whatever uses it, as AWS does; endpoints continue to serve."""
    context.remove(MODEL, request["ModelName"])
    return {}


def _resolve_packages(context: RequestContext, request: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return PrimaryContainer or Containers of a CreateModel request as they run, empty if no package is named.

    Raises ApiError for a package that is missing or cannot be deployed. The sentences of the latter are ours.
    """
    primary, several = request.get("PrimaryContainer"), request.get("Containers") or ()
    given = [primary] if primary else several
    if not any(container.get("ModelPackageName") for container in given):
        return {}
    containers: list[Mapping[str, Any]] = []
    for container in given:
        containers += _list_package_containers(context, container) if container.get("ModelPackageName") else [container]
    if len(containers) == 1:
        return {"PrimaryContainer": containers[0]}
    return {"PrimaryContainer": None, "Containers": containers}  # None hides the request's own, which names the package


def _list_package_containers(context: RequestContext, given: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """Return the containers of a model package; the request's environment is added to each of them."""
    package = context.find(MODEL_PACKAGE, given["ModelPackageName"])
    if package.status != "Completed":
        raise build_validation_error(
            f"ModelPackage {package.arn} is {package.status}; a model needs one that is Completed."
        )
    approval = package.request.get("ModelApprovalStatus")
    if package.group and approval != "Approved":
        # API CreateModelPackage.ModelApprovalStatus: "must be set to Approved to deploy the model".
        raise build_validation_error(f"ModelPackage {package.arn} is {approval}; approve it before it is deployed.")
    specification: Mapping[str, Any] = package.inference
    name = given.get("InferenceSpecificationName")
    if name:
        additional = package.request.get("AdditionalInferenceSpecifications") or ()
        by_name = {candidate["Name"]: candidate for candidate in additional}
        if name not in by_name:
            raise build_validation_error(f"ModelPackage {package.arn} has no inference specification {name!r}.")
        specification = by_name[name]
    kept = {member: value for member, value in given.items() if member != "ModelPackageName"}
    return [
        {
            **kept,
            **{member: own[member] for member in _PACKAGE_MEMBERS if own.get(member)},
            "Environment": {**(own.get("Environment") or {}), **(given.get("Environment") or {})},
        }
        for own in specification["Containers"]
    ]


OPERATIONS: Final[Mapping[str, Operation]] = MappingProxyType(
    {"CreateModel": _create, "DescribeModel": _describe, "ListModels": _list, "DeleteModel": _delete}
)
