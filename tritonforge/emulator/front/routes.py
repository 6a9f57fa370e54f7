"""Who answers a request, and in which region: read from its path and headers alone. This module does no I/O.

An AWS request says whom it is for in the scope of its signature, ``Credential=<key>/<day>/<region>/<service>/...``
(AWS Signature Version 4), or in the query of a presigned URL. Signatures are not verified: any key is let in.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import unquote

__all__ = ["DEFAULT_REGION", "TARGET", "Route", "is_region", "route"]

#: The region of a request that names none.
DEFAULT_REGION: Final = "us-east-1"

#: What ``X-Amz-Target`` begins with for SageMaker's control plane (the service model's ``targetPrefix``).
TARGET: Final = "SageMaker."

_SCOPE: Final = re.compile(r"Credential=[^/,\s]+/\d{8}/(?P<region>[^/,\s]+)/(?P<service>[^/,\s]+)/")
_REGION: Final = re.compile(r"[a-z]{2,4}(?:-[a-z]{1,20}){1,3}-[0-9]{1,2}")
_RUNTIME: Final = re.compile(r"/endpoints/[^/]+/(?:invocations|async-invocations|invocations-response-stream)")


@dataclass(frozen=True, slots=True)
class Route:
    """Where a request goes: ``kind`` is control, runtime or neighbour; ``operation`` is set for the control plane."""

    kind: Literal["control", "runtime", "neighbour"]
    region: str
    service: str = ""
    operation: str = ""


def route(method: str, path: str, query: str, headers: Mapping[str, str]) -> Route:
    """The route of a request; ``headers`` have lower-case names, ``path`` is as sent.

    >>> route("POST", "/", "", {"x-amz-target": "SageMaker.ListModels"})
    Route(kind='control', region='us-east-1', service='sagemaker', operation='ListModels')
    """
    region, service = _scope(query, headers)
    target = headers.get("x-amz-target", "")
    if target.startswith(TARGET):
        return Route("control", region, "sagemaker", target[len(TARGET) :])
    if method == "POST" and service in ("sagemaker", "") and _RUNTIME.fullmatch(path):
        return Route("runtime", region, "sagemaker")
    return Route("neighbour", region, service)


def is_region(name: str) -> bool:
    """Whether a name has the form of AWS's regions: ``us-east-1``, ``us-gov-west-1``."""
    return _REGION.fullmatch(name) is not None


def _scope(query: str, headers: Mapping[str, str]) -> tuple[str, str]:
    text = headers.get("authorization", "")
    if not text and "X-Amz-Credential=" in query:
        text = unquote(query).replace("X-Amz-Credential=", "Credential=")
    found = _SCOPE.search(text)
    return (found["region"], found["service"].lower()) if found else (DEFAULT_REGION, "")
