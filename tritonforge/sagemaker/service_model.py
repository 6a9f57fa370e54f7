"""AWS's own service models, as botocore carries them, and requests that are checked against them. An edge.

botocore is imported when a model is first asked for; a model is read once.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from tritonforge.errors import MissingExtraError, RequestError
from tritonforge.sagemaker import shapes

__all__ = ["check", "operation", "operations", "service"]


@lru_cache(maxsize=16)
def service(name: str) -> Any:
    """The newest model of a service (``sagemaker``, ``sagemaker-runtime``, ...): botocore's ``ServiceModel``.

    Raises:
        MissingExtraError: botocore is not installed.
    """
    try:
        from botocore.loaders import Loader
        from botocore.model import ServiceModel
    except ImportError as error:
        raise MissingExtraError("boto3", extra="aws") from error
    return ServiceModel(Loader().load_service_model(name, "service-2"), name)


def operations(name: str) -> tuple[str, ...]:
    """The operations of a service, by name."""
    return tuple(service(name).operation_names)


@lru_cache(maxsize=256)
def operation(name: str, of: str) -> Any:
    """The operation ``of`` of a service: botocore's ``OperationModel``, with input_shape and output_shape.

    Raises:
        RequestError: the installed botocore knows no such operation.
    """
    if of not in operations(name):
        raise RequestError(f"the installed botocore knows no operation {of} of {name}; pip install -U boto3")
    return service(name).operation_model(of)


def check(name: str, of: str, request: Mapping[str, Any]) -> None:
    """Hold a request against the model of its operation, before any call.

    Raises:
        RequestError: with every constraint that is broken, and where.
    """
    found = shapes.problems(operation(name, of).input_shape, request)
    if found:
        raise RequestError(f"{of}: AWS would refuse this request:\n{shapes.summary(found)}")
