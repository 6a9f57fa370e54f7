"""Errors in the form that the SDK of a service reads: JSON, XML, EC2's XML or CBOR, with the service's code.

The protocol is read from the request itself. Source: the protocols of botocore's service models and of the Smithy
specification (AWS JSON, AWS restJson1, AWS query, EC2 query, restXml, RPC v2 CBOR); Amazon S3, "Error responses"; the
codes are those of each service's "Common Errors".
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Literal, TypeAlias
from urllib.parse import parse_qs
from xml.sax.saxutils import escape

from tritonforge.emulator.front.http_request import HttpRequest, parse_route
from tritonforge.emulator.interfaces import Response
from tritonforge.errors import TritonForgeError
from tritonforge.escaping import escape_xml

__all__ = ["ErrorKind", "build_error", "build_failure", "build_unsupported", "detect_protocol", "find_operation",
           "write_error"]  # fmt: skip

Protocol: TypeAlias = Literal["json", "rest-json", "query", "ec2", "rest-xml", "s3", "cbor"]

#: Services whose requests have neither a target nor a form, and whose answers are XML, by the name in signatures.
_REST_XML: Final = frozenset({"cloudfront", "route53", "s3", "s3-outposts", "s3express"})

#: Services that answer XML to a form, for requests that are refused before their body is read.
_QUERY: Final = frozenset(
    {"autoscaling", "cloudformation", "ec2", "elasticache", "elasticloadbalancing", "email", "iam", "monitoring", "rds"}
    | {"redshift", "sdb", "sns", "sts"}
)
#: Characters of what moto raised that an error repeats: it may hold the whole body.
_MAX_REASON: Final = 1000

_FORM: Final = "application/x-www-form-urlencoded"

ErrorKind: TypeAlias = Literal["denied", "failed", "invalid", "region", "too large", "unknown", "unsupported"]


@dataclass(frozen=True, slots=True)
class _Codes:
    """The status of an error, and its code in JSON and CBOR, in S3's XML, and in the query protocol's XML."""

    status: int
    json: str
    s3: str
    query: str


_CODES: Final[Mapping[ErrorKind, _Codes]] = MappingProxyType(
    {
        "denied": _Codes(403, "AccessDeniedException", "AccessDenied", "AccessDenied"),
        "failed": _Codes(500, "InternalFailure", "InternalError", "InternalFailure"),
        "invalid": _Codes(400, "ValidationException", "InvalidRequest", "ValidationError"),
        "region": _Codes(400, "InvalidSignatureException", "AuthorizationHeaderMalformed", "SignatureDoesNotMatch"),
        "too large": _Codes(413, "RequestEntityTooLargeException", "EntityTooLarge", "RequestEntityTooLarge"),
        "unknown": _Codes(404, "UnknownOperationException", "MethodNotAllowed", "InvalidAction"),
        # AWS has the operation and the emulator does not; 501 is a status that botocore does not retry.
        "unsupported": _Codes(501, "UnknownOperationException", "NotImplemented", "InvalidAction"),
    }
)


def build_error(incoming: HttpRequest, kind: ErrorKind, sentence: str) -> Response:
    """Build an error response with AWS's code of that kind, and the sentence."""
    codes = _CODES[kind]
    form = detect_protocol(incoming)
    code = codes.s3 if form == "s3" else codes.query if form in ("query", "ec2", "rest-xml") else codes.json
    return write_error(incoming, codes.status, code, sentence)


def build_unsupported(incoming: HttpRequest, kind: ErrorKind = "unsupported") -> Response:
    """Build the response for an operation that the emulator does not have; the sentence names the operation."""
    service = _find_service(incoming) or "s3"
    return build_error(
        incoming, kind, f"tritonforge's emulator does not implement {find_operation(incoming)} of {service}."
    )


def build_failure(incoming: HttpRequest, raised: Exception) -> Response:
    """Build the response to a request whose handling raised: moto raises exceptions of many types for invalid input."""
    if isinstance(raised, NotImplementedError | ModuleNotFoundError):  # moto lacks the operation, or a package for it
        return build_unsupported(incoming)
    reason = f"{type(raised).__name__}: {raised}"[:_MAX_REASON]
    if isinstance(raised, OSError | MemoryError | TritonForgeError):  # this machine's fault, or ours
        return build_error(incoming, "failed", f"tritonforge's emulator failed: {reason}")
    return build_error(incoming, "invalid", f"moto cannot read this request: {reason}")


def detect_protocol(incoming: HttpRequest) -> Protocol:
    """Detect the protocol of a request from its headers, its path and the service that it is signed for."""
    headers = incoming.headers
    service = _find_service(incoming)
    if headers.get("smithy-protocol") == "rpc-v2-cbor":
        return "cbor"
    if "x-amz-target" in headers:
        return "json"
    if headers.get("content-type", "").startswith(_FORM) or service in _QUERY:
        return "ec2" if service == "ec2" else "query"
    if service in ("", "s3"):
        return (
            "s3"
            if parse_route(incoming.method, incoming.path, incoming.query, headers).kind != "runtime"
            else "rest-json"
        )
    return "rest-xml" if service in _REST_XML else "rest-json"


def find_operation(incoming: HttpRequest) -> str:
    """Find the operation of a request: its name where the protocol sends one, else method and path.

    Reads the body of a query protocol's request.
    """
    kind = detect_protocol(incoming)
    if kind == "json":
        return incoming.headers["x-amz-target"].rpartition(".")[2]
    if kind == "cbor":
        return incoming.path.rpartition("/")[2]
    if kind in ("query", "ec2"):
        form = parse_qs(incoming.body().decode("utf-8", "replace")) or parse_qs(incoming.query)
        return form.get("Action", ["the action"])[0]
    query = f"?{incoming.query.partition('&')[0]}" if kind == "s3" and incoming.query else ""
    return f"{incoming.method} {incoming.path}{query}"


def write_error(incoming: HttpRequest, status: int, code: str, sentence: str) -> Response:
    """Write an error response in the protocol of the request's service."""
    request_id = str(uuid.uuid4())
    kind = detect_protocol(incoming)
    if kind == "cbor":
        document = _encode_cbor({"__type": code, "message": sentence})
        headers = [("Content-Type", "application/cbor"), ("smithy-protocol", "rpc-v2-cbor")]
        return Response(status, [*headers, ("x-amzn-RequestId", request_id)], document)
    if kind in ("json", "rest-json"):
        content_type = incoming.headers.get("content-type", "") if kind == "json" else ""
        headers = [
            ("Content-Type", content_type if content_type.startswith("application/x-amz-json") else "application/json"),
            ("x-amzn-RequestId", request_id),
            ("x-amzn-ErrorType", code),
        ]
        if incoming.headers.get("x-amzn-query-mode"):  # services that were of the query protocol, as SQS
            headers.append(("x-amzn-query-error", f"{code};{'Sender' if status < 500 else 'Receiver'}"))
        body: dict[str, Any] = {"__type": code, "message": sentence, "Message": sentence}
        return Response(status, headers, json.dumps(body).encode())
    detail = f"<Code>{code}</Code><Message>{escape(escape_xml(sentence))}</Message>"
    if kind == "s3":
        text = f"<Error>{detail}<RequestId>{request_id}</RequestId></Error>"
    elif kind == "ec2":
        text = f"<Response><Errors><Error>{detail}</Error></Errors><RequestID>{request_id}</RequestID></Response>"
    else:
        fault = f"<Error><Type>{'Sender' if status < 500 else 'Receiver'}</Type>{detail}</Error>"
        text = f"<ErrorResponse>{fault}<RequestId>{request_id}</RequestId></ErrorResponse>"
    content = f'<?xml version="1.0" encoding="UTF-8"?>\n{text}'.encode("utf-8", "backslashreplace")
    return Response(status, [("Content-Type", "text/xml"), ("x-amzn-RequestId", request_id)], content)


def _find_service(incoming: HttpRequest) -> str:
    return parse_route(incoming.method, incoming.path, incoming.query, incoming.headers).service


def _encode_cbor(members: Mapping[str, str]) -> bytes:
    """Encode a map of texts (RFC 8949, sections 3 and 3.1); it must have less than 24 members."""
    pieces = [bytes([0xA0 | len(members)])]
    for text in (text for pair in members.items() for text in pair):
        content = text.encode()
        head = bytes([0x79]) + len(content).to_bytes(2, "big") if len(content) > 23 else bytes([0x60 | len(content)])
        pieces.append(head + content)
    return b"".join(pieces)
