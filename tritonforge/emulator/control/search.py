"""Search: the resources of a kind that satisfy an expression.

The kinds are those that the emulator keeps. Of every other kind that the API has, this account has none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final

from tritonforge.emulator.control import descriptions, models, paging, search_expressions, tagging, transform_jobs
from tritonforge.emulator.control.records import Endpoint, Resource, Transform
from tritonforge.emulator.control.registry import groups, naming, packages
from tritonforge.emulator.control.request_context import Desk, Operation
from tritonforge.emulator.control.training import jobs
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


def _training_jobs(desk: Desk) -> Iterable[Mapping[str, Any]]:
    for _, job in desk.ledger.trainings(desk.region):
        yield _tagged(jobs.description(job), job.tags)


def _endpoints(desk: Desk) -> Iterable[Mapping[str, Any]]:
    for _, endpoint in desk.ledger.endpoints(desk.region):
        yield _tagged(descriptions.endpoint(endpoint), endpoint.tags)


def _packages(desk: Desk) -> Iterable[Mapping[str, Any]]:
    for _, package in desk.ledger.registrations(naming.PACKAGE, desk.region):
        yield _tagged(packages.description(package), package.tags)


def _groups(desk: Desk) -> Iterable[Mapping[str, Any]]:
    for group in desk.ledger.all(desk.region, naming.GROUP):
        assert isinstance(group, Resource)
        yield _tagged(groups.description(group), group.tags)


def _models(desk: Desk) -> Iterable[Mapping[str, Any]]:
    """Models as the model dashboard shows them: with their endpoints, and the transform job that ran last."""
    endpoints = [endpoint for _, endpoint in desk.ledger.endpoints(desk.region)]
    transforms = [job for _, job in desk.ledger.transforms(desk.region)]
    for model in desk.ledger.all(desk.region, "model"):
        assert isinstance(model, Resource)
        record: dict[str, Any] = {"Model": _tagged(models.description(model), model.tags)}
        serving = [_dashboard(endpoint) for endpoint in endpoints if model.name in endpoint.models]
        if serving:
            record["Endpoints"] = serving
        used: list[Transform] = [job for job in transforms if job.request["ModelName"].lower() == model.name.lower()]
        if used:
            record["LastBatchTransformJob"] = transform_jobs.description(max(used, key=lambda job: job.created))
        yield record


def _dashboard(endpoint: Endpoint) -> Mapping[str, Any]:
    return {
        "EndpointName": endpoint.name,
        "EndpointArn": endpoint.arn,
        "CreationTime": endpoint.created,
        "LastModifiedTime": endpoint.modified,
        "EndpointStatus": endpoint.status,
    }


def _tagged(document: Mapping[str, Any], tags: tuple[tuple[str, str], ...]) -> Mapping[str, Any]:
    return {**document, "Tags": tagging.listed(tags)}


_RECORDS: Final[Mapping[str, Callable[[Desk], Iterable[Mapping[str, Any]]]]] = MappingProxyType(
    {
        "TrainingJob": _training_jobs,
        "Endpoint": _endpoints,
        "Model": _models,
        "ModelPackage": _packages,
        "ModelPackageGroup": _groups,
    }
)


def _search(desk: Desk, request: Mapping[str, Any]) -> Mapping[str, Any]:
    kind = request["Resource"]
    member = _MEMBERS.get(kind, kind)
    records = service_model.find_operation("sagemaker", "Search").output_shape.members["Results"].member.members
    shape = records.get(member)
    if shape is None:  # Image and ImageVersion have no record of their own in the service model
        return {"Results": [], "TotalHits": {"Value": 0, "Relation": "EqualTo"}}
    expression = request.get("SearchExpression")
    if expression is not None:
        search_expressions.check(shape, expression)
    found = [] if request.get("CrossAccountFilterOption") == "CrossAccount" else _found(desk, kind, shape)
    if expression is not None:
        found = [document for document in found if search_expressions.matches(shape, expression, document)]
    for condition in request.get("VisibilityConditions") or ():
        found = [document for document in found if _is_visible(document, condition)]
    found = _sorted(request, shape, found)
    shown, token = paging.page(request, found, name=_name)
    answer: dict[str, Any] = {
        "Results": [{member: document} for document in shown],
        "TotalHits": {"Value": len(found), "Relation": "EqualTo"},
    }
    return answer | ({"NextToken": token} if token else {})


def _found(desk: Desk, kind: str, shape: Any) -> list[Mapping[str, Any]]:
    """The resources of a kind, each with the members that its search record has."""
    make = _RECORDS.get(kind)
    return [
        {name: value for name, value in document.items() if name in shape.members}
        for document in (() if make is None else make(desk))
    ]


def _is_visible(document: Mapping[str, Any], condition: Mapping[str, Any]) -> bool:
    """Whether a resource has a tag's value, or does not have the tag at all."""
    key = str(condition.get("Key", "")).removeprefix(_TAG)
    values = [tag["Value"] for tag in document.get("Tags") or () if tag["Key"] == key]
    return not values or condition.get("Value") in values


def _sorted(request: Mapping[str, Any], shape: Any, found: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
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
        return (float(value) if numeric else str(value), _name(document))

    return sorted(having, key=order, reverse=backwards) + sorted(lacking, key=_name)


def _name(document: Mapping[str, Any]) -> str:
    """What tells a record from all others: its ARN."""
    inner = document.get("Model", document)
    return next(str(inner[name]) for name in inner if name.endswith("Arn") and "Role" not in name)


OPERATIONS: Final[Mapping[str, Operation]] = MappingProxyType({"Search": _search})
