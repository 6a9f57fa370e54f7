"""Answers requests of AWS's JSON protocol with the operations of all kinds of resources; those on tags are here.

Order as on AWS: the operation is known, the body is JSON, its members have the model's types, then lengths, patterns
and enumerations (one sentence for all of them), then the documented limits, then what exists. Source: AWS's JSON
protocols 1.0 and 1.1 (Smithy); a service answers what it cannot read with SerializationException.
"""

from __future__ import annotations

import datetime as dt
import json
import math
import re
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Final, NoReturn

from tritonforge.emulator.control import (
    algorithms,
    endpoints,
    inference_components,
    model_operations,
    model_registry,
    processing_jobs,
    resource_store,
    search,
    training_jobs,
    transform_jobs,
)
from tritonforge.emulator.control.api_errors import (
    ApiError,
    build_not_emulated_error,
    build_not_found_error,
    build_serialization_error,
    build_unknown_operation_error,
    build_validation_error,
    raise_violations,
)
from tritonforge.emulator.control.deployments import DeploymentRunner
from tritonforge.emulator.control.job_runner import JobRunner, Services
from tritonforge.emulator.control.processing_jobs import ProcessingRunner
from tritonforge.emulator.control.records import Record, Tags, add_tags, list_tags, take_page
from tritonforge.emulator.control.request_context import Operation, RequestContext
from tritonforge.emulator.control.resource_store import AnyKind, ResourceStore
from tritonforge.emulator.control.training_jobs import TrainingRunner
from tritonforge.emulator.control.transform_jobs import TransformRunner
from tritonforge.emulator.control.validation_runner import ValidationRunner
from tritonforge.emulator.front.http_request import HttpRequest
from tritonforge.emulator.interfaces import Response
from tritonforge.sagemaker import service_model
from tritonforge.sagemaker.limits import check_limits
from tritonforge.triton.service_limits import TAGS

__all__ = ["AUTOSCALING", "KINDS", "OPERATIONS", "AutoscalingGate", "Dispatcher", "create_runners", "read_request"]


def _remove_tags(tags: Tags, keys: Iterable[str]) -> Tags:
    """Return tags without those of some keys, which may be missing."""
    removed = set(keys)
    return tuple((key, value) for key, value in tags if key not in removed)


def _find_resource(context: RequestContext, text: str) -> tuple[AnyKind, Record]:
    arn = resource_store.parse_arn(text)
    kinds = context.store.kinds
    if arn is None or arn.kind not in kinds:
        # AWS tags some forty kinds; the sentence is ours.
        nouns = ", ".join(f"{kind.noun}s" for kind in kinds.values())
        raise build_validation_error(f"tritonforge's emulator has no resource {text!r}; its resources are {nouns}.")
    if (arn.region, arn.account) != (context.region, context.account):
        raise build_validation_error(
            f"{text!r} is not of region {context.region} and account {context.account}."
        )  # ours
    kind = kinds[arn.kind]
    record = context.store.find(kind, context.region, arn.name)
    if record is None:
        raise build_not_found_error(kind.noun, text)
    return kind, record


def _add_tags(context: RequestContext, request: Mapping[str, Any]) -> Mapping[str, Any]:
    with context.store.lock:
        kind, record = _find_resource(context, request["ResourceArn"])
        tags = add_tags(record.tags, request["Tags"], arn=record.arn)
        context.store.put(kind, context.region, replace(record, tags=tags))
    return {"Tags": list_tags(tags)}


def _list_tags(context: RequestContext, request: Mapping[str, Any]) -> Mapping[str, Any]:
    _, record = _find_resource(context, request["ResourceArn"])
    shown, token = take_page(request, list_tags(record.tags), name=lambda tag: tag["Key"], size=TAGS.value)
    return {"Tags": list(shown), **({"NextToken": token} if token else {})}


def _delete_tags(context: RequestContext, request: Mapping[str, Any]) -> Mapping[str, Any]:
    with context.store.lock:
        kind, record = _find_resource(context, request["ResourceArn"])
        context.store.put(kind, context.region, replace(record, tags=_remove_tags(record.tags, request["TagKeys"])))
    return {}


#: AddTags, ListTags and DeleteTags, on a resource of any kind.
_TAG_OPERATIONS: Final[Mapping[str, Operation]] = MappingProxyType(
    {"AddTags": _add_tags, "ListTags": _list_tags, "DeleteTags": _delete_tags}
)


#: Objects and arrays within one another; the service model's deepest input has about a dozen.
_MAX_DEPTH: Final = 64

#: The seconds since 1970 of dates with a year of four digits.
_EARLIEST: Final = dt.datetime(1, 1, 1, tzinfo=dt.timezone.utc).timestamp()
_LATEST: Final = dt.datetime(9999, 12, 31, tzinfo=dt.timezone.utc).timestamp()


def read_request(operation: str, shape: Any, body: bytes) -> dict[str, Any]:
    """Parse the request of an operation whose input is ``shape``; omit members that are null, give times as seconds.

    Raises ApiError: SerializationException for a body that is not JSON or has another type than the model's, else
    ValidationException with every constraint that is broken.
    """
    request = _parse_json(operation, body)
    violations = service_model.check_shape(shape, request)
    for violation in violations:
        if violation.kind in ("type", "unknown"):
            raise build_serialization_error(f"{violation.place or 'The request'}: {violation.sentence}")
    if violations:
        raise build_validation_error(service_model.format_service_message(violations))
    return {name: _convert(shape.members[name], value, name) for name, value in request.items() if value is not None}


def _parse_json(operation: str, body: bytes) -> Any:
    try:
        document = json.loads(body.decode("utf-8") or "{}", parse_constant=_reject_constant, parse_float=_parse_number)
        _check_document(document)
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise build_serialization_error(f"The request of {operation} is not JSON: {reason}") from None
    return document


def _reject_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a number of JSON")


def _parse_number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text:.20} is larger than the numbers of this protocol")
    return value


def _check_document(document: Any) -> None:
    """Refuse what is nested too deeply, and texts that no encoding can carry; raises ValueError."""
    waiting = [(document, 0)]
    while waiting:
        value, depth = waiting.pop()
        if depth > _MAX_DEPTH:
            raise ValueError(f"it is nested more than {_MAX_DEPTH} deep")
        if isinstance(value, str):
            value.encode("utf-8")  # raises UnicodeEncodeError, which is a ValueError, for half of a surrogate pair
        elif isinstance(value, dict):
            waiting += [(text, depth + 1) for pair in value.items() for text in pair]
        elif isinstance(value, list):
            waiting += [(element, depth + 1) for element in value]


def _convert(shape: Any, value: Any, place: str) -> Any:
    """Convert a value that fits its shape: times become seconds since 1970, members that are null are omitted."""
    kind = shape.type_name
    if kind == "timestamp":
        return _parse_time(value, place)
    if kind == "structure" and isinstance(value, Mapping):
        return {
            name: _convert(shape.members[name], item, f"{place}.{name}")
            for name, item in value.items()
            if item is not None
        }
    if kind == "list":
        return [_convert(shape.member, element, place) for element in value]
    if kind == "map" and isinstance(value, Mapping):
        return {name: _convert(shape.value, member, place) for name, member in value.items()}
    return value


def _parse_time(value: Any, place: str) -> float:
    """Parse a time: a number, as the protocol sends it, or ISO 8601."""
    seconds: float
    try:
        if isinstance(value, str):
            read_as = dt.datetime.fromisoformat(value.replace("Z", "+00:00"))
            seconds = (read_as if read_as.tzinfo else read_as.replace(tzinfo=dt.timezone.utc)).timestamp()
        else:
            seconds = float(value)
    except (ValueError, OverflowError):
        seconds = math.nan
    if not _EARLIEST <= seconds <= _LATEST:
        raise build_serialization_error(f"{place}: expected a time, in seconds since 1970 or as ISO 8601 writes it")
    return seconds


#: The modules of operations.
_MODULES: Final = (
    model_operations,
    endpoints,
    inference_components,
    transform_jobs,
    training_jobs,
    processing_jobs,
    algorithms,
    model_registry,
    search,
)

#: Every kind of resource, and the runner that does its work if it has any. Runners are restored in this order, and
#: closed in the reverse order: validations use the jobs' runners.
_KINDS: Final[tuple[tuple[AnyKind, type[JobRunner[Any]] | None], ...]] = (
    (model_operations.MODEL, None),
    (endpoints.ENDPOINT_CONFIG, None),
    (endpoints.ENDPOINT, DeploymentRunner),
    (endpoints.INFERENCE_COMPONENT, inference_components.InferenceComponentRunner),
    (transform_jobs.TRANSFORM_JOB, TransformRunner),
    (training_jobs.TRAINING_JOB, TrainingRunner),
    (processing_jobs.PROCESSING_JOB, ProcessingRunner),
    (model_registry.MODEL_PACKAGE_GROUP, None),
    (model_registry.ALGORITHM, ValidationRunner),
    (model_registry.MODEL_PACKAGE, ValidationRunner),
)

KINDS: Final = tuple(kind for kind, _ in _KINDS)

#: Every operation that is emulated.
OPERATIONS: Final[Mapping[str, Operation]] = MappingProxyType(
    {
        **{name: operation for module in _MODULES for name, operation in module.OPERATIONS.items()},
        **_TAG_OPERATIONS,
    }
)

#: Operations that check the documented limits themselves: AWS has sentences of its own for what comes before them.
_CHECKED_LATER: Final = frozenset({"CreateAlgorithm", "CreateModelPackage"})

#: Operations that change nothing; they are not logged when they succeed.
_READING: Final = ("Describe", "List", "Search")

_JSON: Final = "application/x-amz-json-1.1"

#: AWS's code for an error of its own (the API reference's "Common Errors", InternalFailure).
_INTERNAL: Final = "InternalFailure"


def create_runners(services: Services) -> None:
    """Create the runner of every kind that has work to do."""
    services.runners.update({kind.name: runner(services, kind) for kind, runner in _KINDS if runner is not None})


class Dispatcher:
    """Answers SageMaker's operations; ``context`` returns the context of a region, ``log`` takes sentences."""

    def __init__(self, context: Callable[[str], RequestContext], log: Callable[[str], None]) -> None:
        self._context = context
        self._log = log

    def answer(self, operation: str, region: str, body: bytes) -> Response:
        """Execute one request and return its response. Safe for use by many threads."""
        try:
            document = self._run(operation, region, body)
        except ApiError as error:
            self._log(f"{operation} {error.status} {error.code}: {error.message}")
            return _write_response(error.status, {"__type": error.code, "message": error.message}, error.code)
        except Exception as error:  # whatever is wrong here must reach the client as AWS's own failures do
            self._log(f"{operation} 500 {type(error).__name__}: {error}")
            return _write_response(
                500, {"__type": _INTERNAL, "message": f"tritonforge's emulator failed: {error}"}, _INTERNAL
            )
        if not operation.startswith(_READING):
            self._log(f"{operation} 200")
        return _write_response(200, document)

    def _run(self, operation: str, region: str, body: bytes) -> Mapping[str, Any]:
        run = OPERATIONS.get(operation)
        if run is None:
            known = operation in service_model.list_operations("sagemaker")
            raise build_not_emulated_error(operation) if known else build_unknown_operation_error(operation)
        return run(self._context(region), _read_checked(operation, body))


def _read_checked(operation: str, body: bytes) -> Mapping[str, Any]:
    request = read_request(operation, service_model.find_operation("sagemaker", operation).input_shape, body)
    if operation not in _CHECKED_LATER:
        raise_violations(check_limits(operation, request))
    return request


def _write_response(status: int, document: Mapping[str, Any], code: str = "") -> Response:
    body = json.dumps(document).encode() if document or status >= 400 else b""
    headers = [("Content-Type", _JSON), ("x-amzn-RequestId", str(uuid.uuid4()))]
    if code:
        headers.append(("x-amzn-ErrorType", code))
    return Response(status, headers, body)


AUTOSCALING: Final = "application-autoscaling"

#: What ``X-Amz-Target`` begins with for the service.
_AUTOSCALING_TARGET: Final = "AnyScaleFrontendService."

_CHECKED: Final = frozenset({"RegisterScalableTarget", "PutScalingPolicy"})
_RESOURCE: Final = re.compile(r"endpoint/(?P<endpoint>[^/]+)/variant/(?P<variant>[^/]+)")


class AutoscalingGate:
    """Refuses what the real service refuses for ``sagemaker`` and moto would keep."""

    def __init__(self, store: ResourceStore) -> None:
        self._store = store

    def check(self, region: str, incoming: HttpRequest) -> Response | None:
        """Return the error for a request, or None if moto may answer it."""
        operation = incoming.headers.get("x-amz-target", "").removeprefix(_AUTOSCALING_TARGET)
        if operation not in _CHECKED:
            return None
        try:
            self._check_request(operation, region, incoming.body())
        except ApiError as error:
            document = json.dumps({"__type": error.code, "message": error.message}).encode()
            headers = [("Content-Type", "application/x-amz-json-1.1"), ("x-amzn-ErrorType", error.code)]
            return Response(error.status, headers, document)
        return None

    def _check_request(self, operation: str, region: str, body: bytes) -> None:
        request: Mapping[str, Any] = read_request(
            operation, service_model.find_operation(AUTOSCALING, operation).input_shape, body
        )
        raise_violations(check_limits(operation, request))
        if request["ServiceNamespace"] == "sagemaker":
            self._check_resource(region, request["ResourceId"])

    def _check_resource(self, region: str, resource: str) -> None:
        """Raise ApiError unless the resource exists, as application-autoscaling does. The sentences are ours."""
        named = _RESOURCE.fullmatch(resource)
        if named is None:
            name = resource.removeprefix("inference-component/")
            if name == resource:
                raise build_validation_error(
                    f"Resource ID {resource} is not of the form endpoint/<endpoint>/variant/<variant>."
                )
            if self._store.find(endpoints.INFERENCE_COMPONENT, region, name) is None:
                raise build_validation_error(f'Could not find inference component "{name}" of resource ID {resource}.')
            return
        endpoint = self._store.find(endpoints.ENDPOINT, region, named["endpoint"])
        if endpoint is None:
            raise build_validation_error(f'Could not find endpoint "{named["endpoint"]}" of resource ID {resource}.')
        variants = [variant.name for variant in endpoint.variants]
        if named["variant"] not in variants:
            there = f"its variants are {', '.join(variants)}" if variants else f"it is {endpoint.status}"
            raise build_validation_error(f'Endpoint "{endpoint.name}" has no variant "{named["variant"]}"; {there}.')
