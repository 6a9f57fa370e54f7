"""Invocations: what an address and a call say about an inference on SageMaker, as members of AWS's own requests.

``sagemaker://name?region=eu-west-1&target_variant=blue`` and ``Client("sagemaker://name", region="eu-west-1")`` say the
same. This module does no I/O.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qsl

from tritonforge.errors import EncodeError
from tritonforge.sagemaker import service_model

__all__ = ["ASYNCHRONOUS", "REAL_TIME", "SERVERLESS", "SESSION", "EndpointAddress", "members", "too_large"]

#: Bytes of a body that a real-time endpoint takes: "25 MB" (Amazon SageMaker, "Model Hosting FAQs"). AWS's megabyte is
#: 1 048 576 bytes here: what it called 6 MB stands as 6 291 456 in its service model (InvokeEndpoint, BodyBlob).
REAL_TIME: Final = 25 << 20
#: The same for a serverless endpoint, "4 MB", and for an asynchronous one, "1 GB" (both from the same page).
SERVERLESS: Final = 4 << 20
ASYNCHRONOUS: Final = 1 << 30

#: Options that say who asks, and where, by the argument of `Session` that they are.
SESSION: Final[Mapping[str, str]] = {
    "region": "region_name",
    "profile": "profile_name",
    "endpoint_url": "endpoint_url",
}
#: Options that an inference carries, by the member of AWS's request that they are.
_MEMBERS: Final[Mapping[str, str]] = {
    "custom_attributes": "CustomAttributes",
    "enable_explanations": "EnableExplanations",
    "filename": "Filename",
    "inference_component_name": "InferenceComponentName",
    "inference_id": "InferenceId",
    "prefix_aware_id": "PrefixAwareId",
    "s3_output_path_extension": "S3OutputPathExtension",
    "session_id": "SessionId",
    "target_container_hostname": "TargetContainerHostname",
    "target_model": "TargetModel",
    "target_variant": "TargetVariant",
}


@dataclass(frozen=True, slots=True)
class EndpointAddress:
    """An endpoint's name, and what its address says besides; raises EncodeError for what is no such address.

    >>> EndpointAddress.parse("sagemaker://inception?target_variant=blue").options["target_variant"]
    'blue'
    """

    name: str
    options: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, url: str) -> EndpointAddress:
        """The address in ``sagemaker://name?option=value&...``."""
        scheme, _, rest = url.partition("://")
        name, _, query = rest.partition("?")
        name = name.rstrip("/")
        if scheme != "sagemaker" or not name:
            raise EncodeError(f"{url!r} is no endpoint; write sagemaker://endpoint-name")
        try:
            pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True) if query else []
        except ValueError as error:
            raise EncodeError(f"{url!r}: after the ? come option=value pairs joined by &") from error
        if len(dict(pairs)) != len(pairs):
            raise EncodeError(f"{url!r} says an option twice")
        return cls(name, dict(pairs))


def members(operation: str, endpoint_name: str, options: Mapping[str, str]) -> dict[str, Any]:
    """The request of an operation on an endpoint, without its body, held against AWS's own service model.

    Raises EncodeError for an option that the operation does not have, RequestError for a value that AWS would refuse.
    """
    shape = service_model.find_operation("sagemaker-runtime", operation).input_shape
    known = shape.members
    request = {"EndpointName": endpoint_name}
    for option, value in options.items():
        member = _MEMBERS.get(option, "")
        if member not in known:
            able = sorted(each for each, theirs in _MEMBERS.items() if theirs in known)
            raise EncodeError(f"sagemaker://{endpoint_name}: {operation} has no option {option!r}; it has {able}")
        request[member] = value
    body = {"Body": b""} if "Body" in shape.required_members else {}
    service_model.check_request("sagemaker-runtime", operation, {**request, **body})
    return request


def too_large(endpoint_name: str, size: int, limit: int, kind: str, *, instead: str) -> EncodeError:
    """The error of a body above a limit."""
    told = f"{limit >> 30} GB" if limit >= 1 << 30 else f"{limit >> 20} MB"
    takes = f"{kind} takes {told} ({limit:,} bytes)"
    return EncodeError(f"sagemaker://{endpoint_name}: the body has {size:,} bytes and {takes}; {instead}")
