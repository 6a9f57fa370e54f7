"""Search: the resources of a kind that satisfy an expression.

The kinds are those that the emulator keeps. Of every other kind that the API has, this account has none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final

from tritonforge.emulator.control import (
    endpoints,
    model_packages,
    models,
    paging,
    registry_entries,
    search_expressions,
    training_jobs,
    transform_jobs,
)
from tritonforge.emulator.control.records import Endpoint, Resource, TransformRecord
from tritonforge.emulator.control.request_context import Operation, RequestContext
from tritonforge.emulator.control.tags import list_tags
from tritonforge.sagemaker import service_model

__all__ = ["OPERATIONS"]

#: How a resource is sorted where the request does not say it. Source: API Search.
_SORT_BY: Final = "LastModifiedTime"
_CREATED: Final = "CreationTime"

#: The members of SearchRecord whose name is not that of the Resource.
_MEMBERS: Final[Mapping[str, str]] = MappingProxyType(
    {"ExperimentTrial": "Trial", "ExperimentTrialComponent": "TrialComponent"}
)

_TAG: Final = "Tags."


def _list_training_jobs(context: RequestContext) -> Iterable[Mapping[str, Any]]:
    for _, job in context.store.trainings(context.region):
        yield _with_tags(training_jobs.describe_job(job), job.tags)


def _list_endpoints(context: RequestContext) -> Iterable[Mapping[str, Any]]:
    for _, endpoint in context.store.endpoints(context.region):
        yield _with_tags(endpoints.describe_endpoint(endpoint), endpoint.tags)


def _list_packages(context: RequestContext) -> Iterable[Mapping[str, Any]]:
    for _, package in context.store.registrations(registry_entries.PACKAGE, context.region):
        yield _with_tags(model_packages.describe_package(package), package.tags)


def _list_groups(context: RequestContext) -> Iterable[Mapping[str, Any]]:
    for group in context.store.all(context.region, registry_entries.GROUP):
        assert isinstance(group, Resource)
        yield _with_tags(model_packages.describe_group(group), group.tags)


def _list_models(context: RequestContext) -> Iterable[Mapping[str, Any]]:
    """Models as the model dashboard shows them: with their endpoints, and the transform job that ran last."""
    endpoints = [endpoint for _, endpoint in context.store.endpoints(context.region)]
    transforms = [job for _, job in context.store.transforms(context.region)]
    for model in context.store.all(context.region, "model"):
        assert isinstance(model, Resource)
        record: dict[str, Any] = {"Model": _with_tags(models.describe_model(model), model.tags)}
        serving = [_summarize_endpoint(endpoint) for endpoint in endpoints if model.name in endpoint.models]
        if serving:
            record["Endpoints"] = serving
        used: list[TransformRecord] = [
            job for job in transforms if job.request["ModelName"].lower() == model.name.lower()
        ]
        if used:
            record["LastBatchTransformJob"] = transform_jobs.describe_job(max(used, key=lambda job: job.created))
        yield record


def _summarize_endpoint(endpoint: Endpoint) -> Mapping[str, Any]:
    return {
        "EndpointName": endpoint.name,
        "EndpointArn": endpoint.arn,
        "CreationTime": endpoint.created,
        "LastModifiedTime": endpoint.modified,
        "EndpointStatus": endpoint.status,
    }


def _with_tags(document: Mapping[str, Any], tags: tuple[tuple[str, str], ...]) -> Mapping[str, Any]:
    return {**document, "Tags": list_tags(tags)}


_RECORDS: Final[Mapping[str, Callable[[RequestContext], Iterable[Mapping[str, Any]]]]] = MappingProxyType(
    {
        "TrainingJob": _list_training_jobs,
        "Endpoint": _list_endpoints,
        "Model": _list_models,
        "ModelPackage": _list_packages,
        "ModelPackageGroup": _list_groups,
    }
)


def _search(context: RequestContext, request: Mapping[str, Any]) -> Mapping[str, Any]:
    kind = request["Resource"]
    member = _MEMBERS.get(kind, kind)
    records = service_model.find_operation("sagemaker", "Search").output_shape.members["Results"].member.members
    shape = records.get(member)
    if shape is None:  # Image and ImageVersion have no record of their own in the service model
        return {"Results": [], "TotalHits": {"Value": 0, "Relation": "EqualTo"}}
    expression = request.get("SearchExpression")
    if expression is not None:
        search_expressions.check_expression(shape, expression)
    found = [] if request.get("CrossAccountFilterOption") == "CrossAccount" else _find_documents(context, kind, shape)
    if expression is not None:
        found = [document for document in found if search_expressions.is_match(shape, expression, document)]
    for condition in request.get("VisibilityConditions") or ():
        found = [document for document in found if _is_visible(document, condition)]
    found = _sort_documents(request, shape, found)
    shown, token = paging.take_page(request, found, name=_find_arn)
    answer: dict[str, Any] = {
        "Results": [{member: document} for document in shown],
        "TotalHits": {"Value": len(found), "Relation": "EqualTo"},
    }
    return answer | ({"NextToken": token} if token else {})


def _find_documents(context: RequestContext, kind: str, shape: Any) -> list[Mapping[str, Any]]:
    """The resources of a kind, each with the members that its search record has."""
    make = _RECORDS.get(kind)
    return [
        {name: value for name, value in document.items() if name in shape.members}
        for document in (() if make is None else make(context))
    ]


def _is_visible(document: Mapping[str, Any], condition: Mapping[str, Any]) -> bool:
    """Whether a resource has a tag's value, or does not have the tag at all."""
    key = str(condition.get("Key", "")).removeprefix(_TAG)
    values = [tag["Value"] for tag in document.get("Tags") or () if tag["Key"] == key]
    return not values or condition.get("Value") in values


def _sort_documents(request: Mapping[str, Any], shape: Any, found: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """In the order that a request asks for; those that do not have the property come last."""
    by = request.get("SortBy") or (_SORT_BY if _SORT_BY in shape.members else _CREATED)
    if "SortBy" not in request and by not in shape.members:  # the records of models
        by = f"Model.{_CREATED}"
    key = search_expressions.find_property(shape, by)
    backwards = (request.get("SortOrder") or "Descending") == "Descending"
    having = [document for document in found if key.values(document)]
    lacking = [document for document in found if not key.values(document)]
    numeric = key.kind in ("number", "timestamp")

    def order(document: Mapping[str, Any]) -> tuple[Any, str]:
        value = key.values(document)[0]
        return (float(value) if numeric else str(value), _find_arn(document))

    return sorted(having, key=order, reverse=backwards) + sorted(lacking, key=_find_arn)


def _find_arn(document: Mapping[str, Any]) -> str:
    """What tells a record from all others: its ARN."""
    inner = document.get("Model", document)
    return next(str(inner[name]) for name in inner if name.endswith("Arn") and "Role" not in name)


OPERATIONS: Final[Mapping[str, Operation]] = MappingProxyType({"Search": _search})
