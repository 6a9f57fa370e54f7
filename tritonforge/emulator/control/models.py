"""CreateModel, DescribeModel, ListModels, DeleteModel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

from tritonforge.emulator.control import paging, registry_entries
from tritonforge.emulator.control.api_errors import already_exists, invalid
from tritonforge.emulator.control.records import Resource
from tritonforge.emulator.control.request_context import Operation, RequestContext
from tritonforge.emulator.control.resources import KINDS
from tritonforge.emulator.control.tags import add_tags
from tritonforge.emulator.hosting import list_container_definitions

__all__ = ["OPERATIONS", "create_model", "describe_model", "resolve_packages"]

_KIND: Final = "model"


def create_model(context: RequestContext, request: Mapping[str, Any]) -> Mapping[str, Any]:
    """CreateModel."""
    name = request["ModelName"]
    arn = context.arn(_KIND, name)
    tags = add_tags((), request.get("Tags") or (), arn=arn)
    role = request.get("ExecutionRoleArn")
    if not role:
        # The service model does not require it, SageMaker does for every model with containers. The sentence is ours.
        raise invalid("ExecutionRoleArn is required for a model with containers.")
    context.preconditions.role(context.region, role)
    resolved = resolve_packages(context, request)
    for container in list_container_definitions({**request, **resolved}):
        context.preconditions.data(context.region, container, role)
    with context.store.lock:
        if context.store.get(context.region, _KIND, name) is not None:
            raise already_exists(KINDS[_KIND], arn)
        kept = {key: value for key, value in request.items() if key != "Tags"}
        made = Resource(name=name, arn=arn, created=context.now(), request=kept, served=resolved, tags=tags)
        context.store.put(context.region, _KIND, made)
    return {"ModelArn": arn}


def _describe(context: RequestContext, request: Mapping[str, Any]) -> Mapping[str, Any]:
    return describe_model(context.model(request["ModelName"]))


def describe_model(found: Resource) -> Mapping[str, Any]:
    """The answer to DescribeModel."""
    answer: dict[str, Any] = {"EnableNetworkIsolation": False, **found.request}
    if "PrimaryContainer" in answer:
        answer["PrimaryContainer"] = _describe_container(answer["PrimaryContainer"])
    if "Containers" in answer:
        answer["Containers"] = [_describe_container(each) for each in answer["Containers"]]
    return {**answer, "CreationTime": found.created, "ModelArn": found.arn}


def _describe_container(container: Mapping[str, Any]) -> Mapping[str, Any]:
    """A container with what SageMaker adds to it: the mode, and an empty environment."""
    return {"Mode": "SingleModel", "Environment": {}, **container}


def _list_models(context: RequestContext, request: Mapping[str, Any]) -> Mapping[str, Any]:
    found = [each for each in context.store.all(context.region, _KIND) if isinstance(each, Resource)]
    chosen = paging.select_items(request, found, name=lambda each: each.name, created=lambda each: each.created)
    shown, token = paging.take_page(request, chosen, name=lambda each: each.name)
    answer: dict[str, Any] = {
        "Models": [{"ModelName": each.name, "ModelArn": each.arn, "CreationTime": each.created} for each in shown]
    }
    return answer | ({"NextToken": token} if token else {})


def _delete_model(context: RequestContext, request: Mapping[str, Any]) -> Mapping[str, Any]:
    """AWS deletes a model whatever uses it; endpoints serve on."""
    with context.store.lock:
        context.store.remove(context.region, _KIND, context.model(request["ModelName"]).name)
    return {}


OPERATIONS: Final[Mapping[str, Operation]] = MappingProxyType(
    {"CreateModel": create_model, "DescribeModel": _describe, "ListModels": _list_models, "DeleteModel": _delete_model}
)

#: What of a package's container a model's container takes over.
_TAKEN = ("ContainerHostname", "Image", "ModelDataUrl", "ModelDataSource", "AdditionalModelDataSources")


def resolve_packages(context: RequestContext, request: Mapping[str, Any]) -> Mapping[str, Any]:
    """PrimaryContainer or Containers of a CreateModel request as they run, empty where no package is named.

    Raises ApiError for a package that is not there, or cannot be deployed. The sentences of the latter are ours.
    """
    primary, several = request.get("PrimaryContainer"), request.get("Containers") or ()
    given = [primary] if primary else several
    if not any(container.get("ModelPackageName") for container in given):
        return {}
    containers: list[Mapping[str, Any]] = []
    for container in given:
        containers += _list_package_containers(context, container) if container.get("ModelPackageName") else [container]
    # PrimaryContainer None hides the request's own, which names the package.
    return {"PrimaryContainer": containers[0]} if len(containers) == 1 else _hide_primary(containers)


def _hide_primary(containers: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    return {"PrimaryContainer": None, "Containers": containers}


def _list_package_containers(context: RequestContext, given: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """The containers of a model package; what the request says of the environment is for each of them."""
    found = registry_entries.find_package(context, given["ModelPackageName"])
    if found.status != "Completed":
        raise invalid(f"ModelPackage {found.arn} is {found.status}; a model needs one that is Completed.")
    approval = found.request.get("ModelApprovalStatus")
    if found.group and approval != "Approved":
        # API CreateModelPackage.ModelApprovalStatus: "must be set to Approved to deploy the model".
        raise invalid(f"ModelPackage {found.arn} is {approval}; approve it before it is deployed.")
    specification: Mapping[str, Any] = found.inference
    wanted = given.get("InferenceSpecificationName")
    if wanted:
        additional = {each["Name"]: each for each in found.request.get("AdditionalInferenceSpecifications") or ()}
        if wanted not in additional:
            raise invalid(f"ModelPackage {found.arn} has no inference specification {wanted!r}.")
        specification = additional[wanted]
    kept = {name: value for name, value in given.items() if name != "ModelPackageName"}
    return [
        {
            **kept,
            **{name: own[name] for name in _TAKEN if own.get(name)},
            "Environment": {**(own.get("Environment") or {}), **(given.get("Environment") or {})},
        }
        for own in specification["Containers"]
    ]
