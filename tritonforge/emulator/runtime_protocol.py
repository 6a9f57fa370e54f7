"""The protocol of the runtime: parameters in headers, checked by AWS's service model, errors, and event streams."""

from __future__ import annotations

import binascii
import json
import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from tritonforge.emulator.hosting.container_definitions import (
    ContainerGoneError,
    ContainerTimeoutError,
    TargetModelError,
)
from tritonforge.emulator.interfaces import Container, ContainerResponse, Response
from tritonforge.sagemaker import service_model

__all__ = ["CUSTOM_ATTRIBUTES", "EVENT_STREAM", "EndpointLocation", "build_error", "build_model_error",
           "build_not_found", "build_oversize", "build_timeout", "check_parameters", "describe_model_error",
           "encode_event_stream", "invoke_container", "read_parameters"]  # fmt: skip


def read_parameters(operation: str, headers: Mapping[str, str]) -> dict[str, str]:
    """Read the operation's members that are headers, by member name; ``headers`` have lower-case names."""
    members = _list_header_members(operation)
    return {members[name][0]: value for name, value in headers.items() if name in members}


@lru_cache(maxsize=1024)
def check_parameters(operation: str, values: tuple[tuple[str, str], ...]) -> str:
    """Return AWS's sentence about values that the model does not allow; "" if it allows all of them."""
    given = service_model.find_operation("sagemaker-runtime", operation).input_shape.members
    violations: list[service_model.Violation] = []
    for name, value in values:
        shape = given[name]
        typed: Any = value
        if shape.type_name in ("integer", "long"):
            typed = int(value) if re.fullmatch(r"[+-]?[0-9]{1,18}", value) else value
        violations += service_model.check_shape(shape, typed, path=(name,))
    return service_model.format_service_message(violations) if violations else ""


@lru_cache(maxsize=8)
def _list_header_members(operation: str) -> dict[str, tuple[str, Any]]:
    shape = service_model.find_operation("sagemaker-runtime", operation).input_shape
    return {
        member.serialization["name"].lower(): (name, member)
        for name, member in shape.members.items()
        if member.serialization.get("location") == "header"
    }


#: Characters of a container's message that are passed on; of a longer one AWS says that it could not be loaded whole.
#: AWS names no figure.
MAX_MESSAGE: Final = 32 * 1024

_SERVER_ERROR: Final = 500


@dataclass(frozen=True, slots=True)
class EndpointLocation:
    """Where an endpoint is, for sentences that name it."""

    endpoint: str
    account: str
    region: str

    @property
    def log_group(self) -> str:
        """The group of the endpoint's containers in CloudWatch Logs."""
        return f"/aws/sagemaker/Endpoints/{self.endpoint}"

    @property
    def log_stream_arn(self) -> str:
        """What ModelError calls LogStreamArn: the ARN of the log group."""
        return f"arn:aws:logs:{self.region}:{self.account}:log-group:{self.log_group}"

    @property
    def see(self) -> str:
        """The end of AWS's sentences about a container."""
        return (
            f"See https://{self.region}.console.aws.amazon.com/cloudwatch/home?region={self.region}#logEventViewer:"
            f"group={self.log_group} in account {self.account} for more information."
        )


def build_error(message: str, *, code: str = "ValidationError", status: int = 400, **members: object) -> Response:
    """Build an error of the rest-json protocol: its code in a header, its members in the body."""
    body = json.dumps({"Message": message, **members}).encode()
    return Response(status, (("Content-Type", "application/json"), ("x-amzn-ErrorType", code)), body)


def build_not_found(place: EndpointLocation) -> Response:
    """Build the error of a missing endpoint. Sentence: aws/amazon-sagemaker-examples issue 293."""
    return build_error(f"Endpoint {place.endpoint} of account {place.account} not found.")


def build_oversize(size: int, limit: int, *, serverless: bool, request_id: str) -> Response | None:
    """Build the error of a body that is too large; None if it is not.

    Sentences: aws/sagemaker-python-sdk issues 171 (413, which has no code) and 4271 (serverless).
    """
    if size <= limit:
        return None
    if serverless:
        return build_error(f"Request {request_id} has oversize body.")
    body = json.dumps({"message": f"HTTP content length exceeded {limit} bytes."}).encode()
    return Response(413, (("Content-Type", "application/json"),), body)


def describe_model_error(answer: ContainerResponse, place: EndpointLocation) -> str:
    """Describe a container's error as AWS does. Sentences: sagemaker-python-sdk issue 2955, sagemaker-examples 4324."""
    text = answer.body.decode("utf-8", "replace")
    kind = "server" if answer.status >= _SERVER_ERROR or answer.status == 0 else "client"
    if len(text) > MAX_MESSAGE:
        start = (
            f"Received {kind} error ({answer.status}) from {answer.container} and could not load the entire response "
            "body."
        )
    else:
        start = f'Received {kind} error ({answer.status}) from {answer.container} with message "{text}".'
    return f"{start} {place.see}"


def build_model_error(answer: ContainerResponse, place: EndpointLocation) -> Response:
    """Build the error of a container that responded with an error."""
    server = answer.status >= _SERVER_ERROR or answer.status == 0
    return build_error(
        describe_model_error(answer, place),
        code="ModelError",
        status=424,
        ErrorCode="INTERNAL_FAILURE_FROM_MODEL" if server else "CLIENT_ERROR_FROM_MODEL",
        OriginalStatusCode=answer.status,
        OriginalMessage=answer.body.decode("utf-8", "replace")[:MAX_MESSAGE],
        LogStreamArn=place.log_stream_arn,
    )


def build_timeout(container: str = "primary") -> ContainerResponse:
    """Return the answer for a container that took too long. Sentence: sagemaker-examples issue 1407."""
    sentence = (
        f"Your invocation timed out while waiting for a response from container {container}. Review the latency "
        "metrics for each container in Amazon CloudWatch, resolve the issue, and try again."
    )
    return ContainerResponse(0, {}, sentence.encode(), container)


EVENT_STREAM: Final = "application/vnd.amazon.eventstream"

#: Bytes of the response in one event. AWS names no figure, and its parts follow the container's writes.
_PART: Final = 65_536
_STRING: Final = 7


def encode_event_stream(body: bytes) -> bytes:
    """Encode a response as events: at least one, also for an empty response."""
    return b"".join(_encode_event(part) for part in _split_body(body))


def _split_body(body: bytes) -> Iterator[bytes]:
    for start in range(0, max(len(body), 1), _PART):
        yield body[start : start + _PART]


def _encode_event(payload: bytes) -> bytes:
    """Encode one ``PayloadPart``: lengths and their checksum, headers, payload, checksum of all before it."""
    headers = b"".join(
        struct.pack("!B", len(name)) + name + struct.pack("!BH", _STRING, len(value)) + value
        for name, value in (
            (b":event-type", b"PayloadPart"),
            (b":content-type", b"application/octet-stream"),
            (b":message-type", b"event"),
        )
    )
    prelude = struct.pack("!II", 16 + len(headers) + len(payload), len(headers))
    message = prelude + struct.pack("!I", binascii.crc32(prelude)) + headers + payload
    return message + struct.pack("!I", binascii.crc32(message))


CUSTOM_ATTRIBUTES: Final = "X-Amzn-SageMaker-Custom-Attributes"


def invoke_container(
    container: Container, body: bytes, headers: Mapping[str, str], *, target_model: str, timeout: float
) -> ContainerResponse | Response:
    """Invoke the container; return its response, errors included, or a Response where SageMaker itself rejects.

    ``headers`` are those that SageMaker passes on.
    """
    try:
        if target_model:
            return container.invoke_model(target_model, body, headers, timeout=timeout)
        return container.invoke(body, headers, timeout=timeout)
    except ContainerTimeoutError as error:
        return build_timeout(error.container)
    except TimeoutError:
        return build_timeout()
    except TargetModelError as error:
        return build_error(str(error), code=error.code, status=error.status)
    except ContainerGoneError as error:
        if error.in_flight:
            sentence = f"The connection to container {error.container} was closed before it answered."
            return ContainerResponse(0, {}, sentence.encode(), error.container)
        # AWS's sentence while no instance of a variant is healthy, as quoted in public forums.
        return build_error(
            "A transient exception occurred while retrieving variant instances. Please try again later.",
            code="ServiceUnavailable",
            status=503,
        )
