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
    search_expressions,
    training_jobs,
    transform_jobs,
)
from tritonforge.emulator.control.endpoints import ENDPOINT
from tritonforge.emulator.control.models import MODEL
from tritonforge.emulator.control.registry_entries import MODEL_PACKAGE, MODEL_PACKAGE_GROUP
from tritonforge.emulator.control.request_context import Operation, RequestContext
from tritonforge.emulator.control.resources import AnyKind
from tritonforge.emulator.control.tags import list_tags
from tritonforge.emulator.control.training_jobs import TRAINING_JOB
from tritonforge.emulator.control.transform_jobs import TRANSFORM_JOB
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


#: The kinds that have a record of their own, and what describes them.
_DESCRIBED: Final[Mapping[str, tuple[AnyKind, Callable[[Any], Mapping[str, Any]]]]] = MappingProxyType(
    {
        "TrainingJob": (TRAINING_JOB, training_jobs.describe_job),
        "Endpoint": (ENDPOINT, endpoints.describe_endpoint),
        "ModelPackage": (MODEL_PACKAGE, model_packages.describe_package),
        "ModelPackageGroup": (MODEL_PACKAGE_GROUP, model_packages.describe_group),
    }
)


def _list_documents(context: RequestContext, name: str) -> Iterable[Mapping[str, Any]]:
    if name == "Model":
        yield from _list_dashboard_models(context)
    elif name in _DESCRIBED:
        kind, describe = _DESCRIBED[name]
        for record in context.list(kind):
            yield {**describe(record), "Tags": list_tags(record.tags)}


def _list_dashboard_models(context: RequestContext) -> Iterable[Mapping[str, Any]]:
    """Yield models as the model dashboard shows them: with their endpoints, and the transform job that ran last."""
    for model in context.list(MODEL):
        document: dict[str, Any] = {"Model": {**models.describe_model(model), "Tags": list_tags(model.tags)}}
        serving = [endpoint for endpoint in context.list(ENDPOINT) if model.name in endpoint.models]
        if serving:
            document["Endpoints"] = [endpoints.summarize_endpoint(endpoint) for endpoint in serving]
        jobs = [job for job in context.list(TRANSFORM_JOB) if job.request["ModelName"].lower() == model.name.lower()]
        if jobs:
            document["LastBatchTransformJob"] = transform_jobs.describe_job(max(jobs, key=lambda job: job.created))
        yield document


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


def _find_documents(context: RequestContext, name: str, shape: Any) -> list[Mapping[str, Any]]:
    """Return the resources of a kind with the members that its search record has."""
    return [
        {member: value for member, value in document.items() if member in shape.members}
        for document in _list_documents(context, name)
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
