"""Search: the resources of a kind that satisfy a SearchExpression.

The kinds are those that the emulator has. Of every other kind that the API has, this account has none.

Properties are those of the resource's shape in the service model (SearchRecord), written as paths: ``TrainingJobName``,
``ModelArtifacts.S3ModelArtifacts``, ``InputDataConfig.ChannelName`` (of any element of the list),
``HyperParameters.<name>``, ``Metrics.<name>``, ``Tags.<key>``. Source: the service model's documentation of Filter,
NestedFilters and SearchExpression. Sentences without a source beside them are this project's.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import eq, ge, gt, le, lt
from types import MappingProxyType
from typing import Any, Final

from tritonforge.emulator.control import endpoints, model_registry, training_jobs, transform_jobs
from tritonforge.emulator.control.api_errors import build_validation_error
from tritonforge.emulator.control.endpoints import ENDPOINT
from tritonforge.emulator.control.model_operations import MODEL, describe_model
from tritonforge.emulator.control.model_registry import MODEL_PACKAGE, MODEL_PACKAGE_GROUP
from tritonforge.emulator.control.records import list_tags, take_page
from tritonforge.emulator.control.request_context import Operation, RequestContext
from tritonforge.emulator.control.resource_store import AnyKind
from tritonforge.emulator.control.training_jobs import TRAINING_JOB
from tritonforge.emulator.control.transform_jobs import TRANSFORM_JOB
from tritonforge.sagemaker import service_model
from tritonforge.triton.service_limits import SEARCH_FILTERS

__all__ = ["OPERATIONS", "Property", "check_expression", "find_property", "is_match"]

_EXISTENCE: Final = frozenset({"Exists", "NotExists"})
_ORDERED: Final = MappingProxyType(
    {"GreaterThan": gt, "GreaterThanOrEqualTo": ge, "LessThan": lt, "LessThanOrEqualTo": le}
)
_COMPARISONS: Final = MappingProxyType({"Equals": eq, **_ORDERED})
_TEXT_ONLY: Final = frozenset({"Contains", "In"})

#: Properties whose second part is a name of the user's own, with where it is found in the resource.
_HYPERPARAMETERS: Final = "HyperParameters."
_METRICS: Final = "Metrics."
_TAGS: Final = "Tags."

_NUMBERS: Final = frozenset({"integer", "long", "float", "double"})


@dataclass(frozen=True, slots=True)
class Property:
    """A property of a resource: its path and ``kind``: text, number, timestamp, boolean or structure.

    ``kind`` hyperparameter is a text that is compared as a number where both sides are numbers.
    """

    path: str
    kind: str

    def list_values(self, document: Mapping[str, Any]) -> list[Any]:
        """Return the values that a resource has for this property: several where a list is on the path."""
        if self.path.startswith(_TAGS):
            key = self.path[len(_TAGS) :]
            return [tag["Value"] for tag in document.get("Tags") or () if tag["Key"] == key]
        if self.path.startswith(_METRICS):
            name = self.path[len(_METRICS) :]
            metrics = document.get("FinalMetricDataList") or ()
            return [metric["Value"] for metric in metrics if metric["MetricName"] == name]
        if self.kind == "hyperparameter":
            value = (document.get("HyperParameters") or {}).get(self.path[len(_HYPERPARAMETERS) :])
            return [] if value is None else [value]
        return list(_walk(document, self.path.split(".")))


def find_property(shape: Any, path: str) -> Property:
    """Find the property of a path in a resource's shape. Raises ApiError if the resource does not have it."""
    if path.startswith(_TAGS) and "Tags" in shape.members:
        return Property(path, "text")
    if path.startswith(_METRICS) and "FinalMetricDataList" in shape.members:
        return Property(path, "number")
    if path.startswith(_HYPERPARAMETERS) and "HyperParameters" in shape.members:
        return Property(path, "hyperparameter")
    at = shape
    for part in path.split("."):
        while at.type_name == "list":
            at = at.member
        if at.type_name == "map":
            at = at.value
        elif at.type_name == "structure" and part in at.members:
            at = at.members[part]
        else:
            raise build_validation_error(f"Unknown property name: {path}. {shape.name} has {', '.join(shape.members)}.")
    while at.type_name == "list":
        at = at.member
    kinds = {"string": "text", "timestamp": "timestamp", "boolean": "boolean"}
    return Property(path, "number" if at.type_name in _NUMBERS else kinds.get(at.type_name, "structure"))


def check_expression(shape: Any, expression: Mapping[str, Any]) -> None:
    """Check an expression by the rules of the API, before any resource is read.

    Raises ApiError: an unknown property, an operator that the property does not have, a value that is missing or
    cannot be read, too many conditions, an expression without any.
    """
    contained = []
    for count, condition in enumerate(_list_conditions(expression), start=1):
        if count > SEARCH_FILTERS.value:  # which bounds the nesting as well
            raise build_validation_error(f"The search expression has more than {SEARCH_FILTERS.value} conditions.")
        if "Name" not in condition:
            continue
        searched = find_property(shape, condition["Name"])
        operator = condition.get("Operator") or "Equals"
        if operator == "Contains":
            contained.append(searched.path)
        _check_filter(searched, operator, condition.get("Value"))
    if len(contained) != len(set(contained)):
        raise build_validation_error(
            "'CONTAINS' operator usage limit of 1 exceeded."
        )  # the words are AWS's: API Filter


def _list_conditions(expression: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """List every filter, nested filter and subexpression; the names in nested filters become whole paths.

    Raises ApiError for an expression without a condition.
    """
    parts = [expression.get(name) or () for name in ("Filters", "NestedFilters", "SubExpressions")]
    if not any(parts):
        raise build_validation_error("A search expression needs at least one filter, nested filter or subexpression.")
    filters, nested, subexpressions = parts
    yield from filters
    for group in nested:
        yield {"NestedPropertyName": group["NestedPropertyName"]}
        for condition in group["Filters"]:
            yield {**condition, "Name": _join_path(group["NestedPropertyName"], condition["Name"])}
    for subexpression in subexpressions:
        yield {}
        yield from _list_conditions(subexpression)


def _join_path(prefix: str, name: str) -> str:
    """Return the path of a nested filter's name; add the prefix, which AWS's examples write, where it is missing."""
    return name if name.startswith(f"{prefix}.") else f"{prefix}.{name}"


def _check_filter(searched: Property, operator: str, value: str | None) -> None:
    if operator in _EXISTENCE:
        return
    if value is None:
        raise build_validation_error(f"Filter {searched.path}: operator {operator} needs a Value.")
    if searched.kind == "structure":
        raise build_validation_error(
            f"Filter {searched.path}: the property is a structure; use Exists or NotExists, or name a member."
        )
    if operator in _ORDERED and searched.kind in ("text", "boolean"):
        raise build_validation_error(
            f"Filter {searched.path}: operator {operator} is not supported for text properties."
        )
    if operator in _TEXT_ONLY and searched.kind not in ("text", "hyperparameter"):
        raise build_validation_error(
            f"Filter {searched.path}: operator {operator} is supported for text properties only."
        )
    if searched.kind == "number" and _parse_number(value) is None:
        raise build_validation_error(f"Filter {searched.path}: {value!r} is not a number.")
    if searched.kind == "timestamp" and _parse_time(value) is None:
        raise build_validation_error(
            f"Filter {searched.path}: {value!r} is not a date and time of the form YYYY-mm-dd'T'HH:MM:SS."
        )


def is_match(shape: Any, expression: Mapping[str, Any], document: Mapping[str, Any]) -> bool:
    """Return True if a resource satisfies an expression that `check_expression` accepted."""
    results = [_is_satisfied(shape, condition, document) for condition in expression.get("Filters") or ()]
    for group in expression.get("NestedFilters") or ():
        prefix = group["NestedPropertyName"]
        conditions = [{**one, "Name": _join_path(prefix, one["Name"])} for one in group["Filters"]]
        results.append(
            any(
                all(_is_satisfied(shape, one, _place_element(prefix, element)) for one in conditions)
                for element in _walk(document, prefix.split("."))
            )
        )
    results += [is_match(shape, subexpression, document) for subexpression in expression.get("SubExpressions") or ()]
    return any(results) if expression.get("Operator") == "Or" else all(results)


def _place_element(prefix: str, element: Any) -> Mapping[str, Any]:
    """Return a resource that has nothing but one element of a list, at its path."""
    document: Mapping[str, Any] = element
    for part in reversed(prefix.split(".")):
        document = {part: document}
    return document


def _is_satisfied(shape: Any, condition: Mapping[str, Any], document: Mapping[str, Any]) -> bool:
    searched = find_property(shape, condition["Name"])
    values = searched.list_values(document)
    operator = condition.get("Operator") or "Equals"
    if operator in _EXISTENCE:
        return bool(values) is (operator == "Exists")
    wanted = str(condition["Value"])
    if operator == "NotEquals":
        return not any(_compare(searched.kind, "Equals", value, wanted) for value in values)
    return any(_compare(searched.kind, operator, value, wanted) for value in values)


def _compare(kind: str, operator: str, value: Any, wanted: str) -> bool:
    left: Any
    right: Any
    if kind == "timestamp":
        left, right = float(value), _parse_time(wanted)
    elif kind == "boolean":
        left, right = str(value).lower(), wanted.lower()
    elif kind == "number" or (kind == "hyperparameter" and operator not in _TEXT_ONLY):
        left, right = _parse_number(value), _parse_number(wanted)
        if left is None or right is None:
            if operator in _ORDERED:
                return False  # a hyperparameter that is not a number
            left, right = str(value), wanted
        elif kind == "hyperparameter" and right == int(right) and "." not in wanted:
            left = int(left)  # API Filter: compared with an integer, a decimal hyperparameter is taken as one
    else:
        left, right = str(value), wanted
    if operator == "Contains":
        return bool(right in left)
    if operator == "In":
        return str(left) in [part.strip() for part in str(right).split(",")]
    return bool(_COMPARISONS[operator](left, right))


def _walk(value: Any, path: Sequence[str]) -> Iterator[Any]:
    """Yield the values at the end of a path; a list on it, or at its end, yields its elements."""
    if isinstance(value, (list, tuple)):
        for element in value:
            yield from _walk(element, path)
    elif not path:
        if value is not None:
            yield value
    elif isinstance(value, Mapping) and path[0] in value:
        yield from _walk(value[path[0]], path[1:])


def _parse_number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if number == number and abs(number) != float("inf") else None  # not NaN, not infinite


def _parse_time(text: str) -> float | None:
    """Return the seconds since 1970 of an ISO 8601 date and time, UTC if it names no zone; None for other text."""
    try:
        time = dt.datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return None
    return (time if time.tzinfo else time.replace(tzinfo=dt.timezone.utc)).timestamp()


#: How a resource is sorted where the request does not say it. Source: API Search.
_SORT_BY: Final = "LastModifiedTime"
_CREATED: Final = "CreationTime"

#: The members of SearchRecord whose name is not that of the Resource.
_MEMBERS: Final[Mapping[str, str]] = MappingProxyType(
    {"ExperimentTrial": "Trial", "ExperimentTrialComponent": "TrialComponent"}
)


#: The kinds that have a record of their own, and what describes them.
_DESCRIBED: Final[Mapping[str, tuple[AnyKind, Callable[[Any], Mapping[str, Any]]]]] = MappingProxyType(
    {
        "TrainingJob": (TRAINING_JOB, training_jobs.describe_job),
        "Endpoint": (ENDPOINT, endpoints.describe_endpoint),
        "ModelPackage": (MODEL_PACKAGE, model_registry.describe_package),
        "ModelPackageGroup": (MODEL_PACKAGE_GROUP, model_registry.describe_group),
    }
)


def _list_documents(context: RequestContext, name: str, shape: Any) -> list[Mapping[str, Any]]:
    """Return the resources of a kind with the members that its search record has."""
    documents: Iterable[Mapping[str, Any]] = ()
    if name == "Model":
        documents = _list_dashboard_models(context)
    elif name in _DESCRIBED:
        kind, describe = _DESCRIBED[name]
        documents = ({**describe(record), "Tags": list_tags(record.tags)} for record in context.list(kind))
    return [{name: value for name, value in document.items() if name in shape.members} for document in documents]


def _list_dashboard_models(context: RequestContext) -> Iterable[Mapping[str, Any]]:
    """Yield models as the model dashboard shows them: with their endpoints, and the transform job that ran last."""
    for model in context.list(MODEL):
        document: dict[str, Any] = {"Model": {**describe_model(model), "Tags": list_tags(model.tags)}}
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
        check_expression(shape, expression)
    documents = _list_documents(context, kind, shape)
    if request.get("CrossAccountFilterOption") == "CrossAccount":
        documents = []  # the emulator has one account
    if expression is not None:
        documents = [document for document in documents if is_match(shape, expression, document)]
    for condition in request.get("VisibilityConditions") or ():
        documents = [document for document in documents if _is_visible(document, condition)]
    documents = _sort_documents(request, shape, documents)
    shown, token = take_page(request, documents, name=_find_arn)
    hits = {"Value": len(documents), "Relation": "EqualTo"}
    answer: dict[str, Any] = {"Results": [{member: document} for document in shown], "TotalHits": hits}
    return answer | ({"NextToken": token} if token else {})


def _is_visible(document: Mapping[str, Any], condition: Mapping[str, Any]) -> bool:
    """Return True if a resource has a tag's value, or does not have the tag at all."""
    key = str(condition.get("Key", "")).removeprefix(_TAGS)
    values = [tag["Value"] for tag in document.get("Tags") or () if tag["Key"] == key]
    return not values or condition.get("Value") in values


def _sort_documents(
    request: Mapping[str, Any], shape: Any, documents: list[Mapping[str, Any]]
) -> list[Mapping[str, Any]]:
    """Sort in the order that a request asks for; resources without the property come last."""
    by = request.get("SortBy") or (_SORT_BY if _SORT_BY in shape.members else _CREATED)
    if "SortBy" not in request and by not in shape.members:  # the records of models
        by = f"Model.{_CREATED}"
    key = find_property(shape, by)
    backwards = (request.get("SortOrder") or "Descending") == "Descending"
    having = [document for document in documents if key.list_values(document)]
    lacking = [document for document in documents if not key.list_values(document)]
    numeric = key.kind in ("number", "timestamp")

    def sort_key(document: Mapping[str, Any]) -> tuple[Any, str]:
        value = key.list_values(document)[0]
        return (float(value) if numeric else str(value), _find_arn(document))

    return sorted(having, key=sort_key, reverse=backwards) + sorted(lacking, key=_find_arn)


def _find_arn(document: Mapping[str, Any]) -> str:
    """Return the ARN of a record, which is unique."""
    inner = document.get("Model", document)
    return next(str(inner[name]) for name in inner if name.endswith("Arn") and "Role" not in name)


OPERATIONS: Final[Mapping[str, Operation]] = MappingProxyType({"Search": _search})
