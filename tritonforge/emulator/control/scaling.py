"""What application-autoscaling asks of SageMaker: whether the variant exists that is to be scaled.

moto keeps scalable targets and policies without a look at SageMaker or at its service model. Scaling itself is not
emulated: no metric changes a DesiredInstanceCount, only UpdateEndpointWeightsAndCapacities does.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from tritonforge.emulator.control import serialization
from tritonforge.emulator.control.failures import ApiError, invalid
from tritonforge.emulator.control.resource_store import Ledger
from tritonforge.emulator.front.http_request import Incoming
from tritonforge.emulator.requests import Response
from tritonforge.sagemaker import service_model
from tritonforge.sagemaker.limits import check_limits

__all__ = ["SERVICE", "Gate"]

SERVICE: Final = "application-autoscaling"

#: What ``X-Amz-Target`` begins with for the service.
_TARGET: Final = "AnyScaleFrontendService."

_CHECKED: Final = frozenset({"RegisterScalableTarget", "PutScalingPolicy"})
_RESOURCE: Final = re.compile(r"endpoint/(?P<endpoint>[^/]+)/variant/(?P<variant>[^/]+)")


class Gate:
    """Refuses what the real service refuses for ``sagemaker`` and moto would keep."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def refusal(self, region: str, incoming: Incoming) -> Response | None:
        """The error for a request; None for one that moto may answer."""
        operation = incoming.headers.get("x-amz-target", "").removeprefix(_TARGET)
        if operation not in _CHECKED:
            return None
        try:
            self._check(operation, region, incoming.body())
        except ApiError as error:
            document = json.dumps({"__type": error.code, "message": error.message}).encode()
            headers = [("Content-Type", "application/x-amz-json-1.1"), ("x-amzn-ErrorType", error.code)]
            return Response(error.status, headers, document)
        return None

    def _check(self, operation: str, region: str, body: bytes) -> None:
        request: Mapping[str, Any] = serialization.read(
            operation, service_model.find_operation(SERVICE, operation).input_shape, body
        )
        violations = check_limits(operation, request)
        if violations:
            raise invalid("; ".join(f"{violation.place}: {violation.sentence}" for violation in violations))
        if request["ServiceNamespace"] == "sagemaker":
            self._variant(region, request["ResourceId"])

    def _variant(self, region: str, resource: str) -> None:
        """The sentences are ours; application-autoscaling checks the same."""
        named = _RESOURCE.fullmatch(resource)
        if named is None:
            if resource.startswith("inference-component/"):
                raise invalid(f"tritonforge's emulator has no inference components, and so no {resource}.")
            raise invalid(f"Resource ID {resource} is not of the form endpoint/<endpoint>/variant/<variant>.")
        endpoint = self._ledger.endpoint(region, named["endpoint"])
        if endpoint is None:
            raise invalid(f'Could not find endpoint "{named["endpoint"]}" of resource ID {resource}.')
        variants = [each.name for each in endpoint.variants]
        if named["variant"] not in variants:
            there = f"its variants are {', '.join(variants)}" if variants else f"it is {endpoint.status}"
            raise invalid(f'Endpoint "{endpoint.name}" has no variant "{named["variant"]}"; {there}.')
