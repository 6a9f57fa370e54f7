"""The emulator's own errors in the form that the SDK of a request's service reads.

Source: the protocols of botocore's service models (json, rest-json, rest-xml, query); Amazon S3, "Error Responses";
AWS's "Common Errors".
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal, TypeAlias
from xml.sax.saxutils import escape

from tritonforge.sagemaker.emulator.front.incoming import Incoming
from tritonforge.sagemaker.emulator.front.routes import route
from tritonforge.sagemaker.emulator.requests import Response

__all__ = ["Kind", "response"]

#: Services whose errors are XML with a root named ErrorResponse; S3's is named Error, all others are JSON.
_QUERY: Final = frozenset({"autoscaling", "cloudformation", "cloudwatch", "ec2", "iam", "monitoring", "sns", "sts"})
_FORM: Final = "application/x-www-form-urlencoded"

Kind: TypeAlias = Literal["denied", "failed", "invalid", "region", "too large", "unknown", "unsupported"]


@dataclass(frozen=True, slots=True)
class _Codes:
    """The status of an error, and its code in JSON, in S3's XML and in the query protocol's."""

    status: int
    json: str
    s3: str
    query: str


_CODES: Final[Mapping[Kind, _Codes]] = MappingProxyType(
    {
        "denied": _Codes(403, "AccessDeniedException", "AccessDenied", "AccessDenied"),
        "failed": _Codes(500, "InternalFailure", "InternalError", "InternalFailure"),
        "invalid": _Codes(400, "ValidationException", "InvalidRequest", "ValidationError"),
        "region": _Codes(400, "InvalidSignatureException", "AuthorizationHeaderMalformed", "SignatureDoesNotMatch"),
        "too large": _Codes(413, "RequestEntityTooLargeException", "EntityTooLarge", "RequestEntityTooLarge"),
        "unknown": _Codes(404, "UnknownOperationException", "MethodNotAllowed", "InvalidAction"),
        "unsupported": _Codes(501, "NotImplementedException", "NotImplemented", "NotImplemented"),
    }
)


def response(incoming: Incoming, kind: Kind, sentence: str) -> Response:
    """An error with AWS's code of that kind, and the sentence."""
    found = route(incoming.method, incoming.path, incoming.query, incoming.headers)
    codes = _CODES[kind]
    error = f"<Message>{escape(_printable(sentence))}</Message>"
    if "x-amz-target" not in incoming.headers and found.kind != "runtime":
        if found.service in _QUERY or incoming.headers.get("content-type", "").startswith(_FORM):
            text = f"<ErrorResponse><Error><Type>Sender</Type><Code>{codes.query}</Code>{error}</Error></ErrorResponse>"
            return _xml(codes.status, text)
        if found.service in ("", "s3"):
            return _xml(codes.status, f"<Error><Code>{codes.s3}</Code>{error}</Error>")
    document = {"__type": codes.json, "message": sentence, "Message": sentence}
    headers = [
        ("Content-Type", "application/json"),
        ("x-amzn-ErrorType", codes.json),
        ("x-amzn-RequestId", str(uuid.uuid4())),
    ]
    return Response(codes.status, headers, json.dumps(document).encode())


def _printable(sentence: str) -> str:
    """The sentence without what XML 1.0 cannot carry."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in sentence)


def _xml(status: int, body: str) -> Response:
    text = f'<?xml version="1.0" encoding="UTF-8"?>\n{body}'
    return Response(status, [("Content-Type", "application/xml")], text.encode("utf-8", "backslashreplace"))
