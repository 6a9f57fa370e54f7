"""The control plane's door: a request of the JSON protocol comes in, an answer or one of AWS's errors goes out.

Order as on AWS: the operation is known, the body is JSON, its members have the model's types, then lengths, patterns
and enumerations (one sentence for all of them), then what the documentation says in words, then what is there.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from tritonforge.emulator.control import (
    endpoint_configs,
    endpoints,
    models,
    search,
    serialization,
    tags,
    transform_jobs,
)
from tritonforge.emulator.control.failures import ApiError, invalid, not_emulated, unknown_operation
from tritonforge.emulator.control.registry import algorithms, groups, packages
from tritonforge.emulator.control.request_context import Desk, Operation
from tritonforge.emulator.control.training import jobs
from tritonforge.emulator.requests import Response
from tritonforge.sagemaker import service_model
from tritonforge.sagemaker.limits import check_limits

__all__ = ["OPERATIONS", "Plane"]

#: Every operation that is emulated. A resource to come brings its own module, and its row here.
OPERATIONS: Final[Mapping[str, Operation]] = MappingProxyType(
    {
        **models.OPERATIONS,
        **endpoint_configs.OPERATIONS,
        **endpoints.OPERATIONS,
        **transform_jobs.OPERATIONS,
        **jobs.OPERATIONS,
        **algorithms.OPERATIONS,
        **packages.OPERATIONS,
        **groups.OPERATIONS,
        **tags.OPERATIONS,
        **search.OPERATIONS,
    }
)

#: Operations that check the documented limits themselves: AWS has sentences of its own for what comes before them.
_CHECKED_LATER: Final = frozenset({"CreateAlgorithm", "CreateModelPackage"})

#: Operations that change nothing, and are not worth a sentence when they succeed.
_READING: Final = ("Describe", "List", "Search")

_JSON: Final = "application/x-amz-json-1.1"

#: AWS's code and sentence for what is its own fault (the API reference's "Common Errors", InternalFailure).
_OURS: Final = "InternalFailure"


class Plane:
    """Answers SageMaker's operations; ``desk`` gives the desk of a region, ``log`` takes sentences for the person."""

    def __init__(self, desk: Callable[[str], Desk], log: Callable[[str], None]) -> None:
        self._desk = desk
        self._log = log

    def answer(self, operation: str, region: str, body: bytes) -> Response:
        """The answer to one request, from any thread."""
        try:
            found = self._answered(operation, region, body)
        except ApiError as error:
            self._log(f"{operation} {error.status} {error.code}: {error.message}")
            return _response(error.status, {"__type": error.code, "message": error.message}, error.code)
        except Exception as error:  # whatever is wrong here must reach the client as AWS's own failures do
            self._log(f"{operation} 500 {type(error).__name__}: {error}")
            return _response(500, {"__type": _OURS, "message": f"tritonforge's emulator failed: {error}"}, _OURS)
        if not operation.startswith(_READING):
            self._log(f"{operation} 200")
        return _response(200, found)

    def _answered(self, operation: str, region: str, body: bytes) -> Mapping[str, Any]:
        act = OPERATIONS.get(operation)
        if act is None:
            known = operation in service_model.list_operations("sagemaker")
            raise not_emulated(operation) if known else unknown_operation(operation)
        return act(self._desk(region), _request(operation, body))


def _request(operation: str, body: bytes) -> Mapping[str, Any]:
    request = serialization.read(operation, service_model.find_operation("sagemaker", operation).input_shape, body)
    violations = () if operation in _CHECKED_LATER else check_limits(operation, request)
    if violations:
        raise invalid("; ".join(f"{violation.place}: {violation.sentence}" for violation in violations))
    return request


def _response(status: int, document: Mapping[str, Any], code: str = "") -> Response:
    body = json.dumps(document).encode() if document or status >= 400 else b""
    headers = [("Content-Type", _JSON), ("x-amzn-RequestId", str(uuid.uuid4()))]
    if code:
        headers.append(("x-amzn-ErrorType", code))
    return Response(status, headers, body)
