"""The answer to a request that the front refuses, in the form that the SDK of its service reads.

Source: the protocols of botocore's service models (json, rest-json, rest-xml, query); Amazon S3, "Error Responses".
"""

from __future__ import annotations

import json
from typing import Final
from xml.sax.saxutils import escape

from tritonforge.sagemaker.emulator.front.incoming import Incoming
from tritonforge.sagemaker.emulator.front.routes import route
from tritonforge.sagemaker.emulator.requests import Response

__all__ = ["response"]

#: Services whose errors are XML with a root named ErrorResponse; S3's is named Error, all others are JSON.
_QUERY: Final = frozenset({"autoscaling", "cloudformation", "cloudwatch", "ec2", "iam", "monitoring", "sns", "sts"})
_FORM: Final = "application/x-www-form-urlencoded"


def response(incoming: Incoming, sentence: str) -> Response:
    """403 with AWS's code for a caller who has no access, and the sentence."""
    found = route(incoming.method, incoming.path, incoming.query, incoming.headers)
    if "x-amz-target" in incoming.headers or found.kind == "runtime":
        return _json(sentence)
    error = f"<Code>AccessDenied</Code><Message>{escape(sentence)}</Message>"
    if found.service in _QUERY or incoming.headers.get("content-type", "").startswith(_FORM):
        return _xml(f"<ErrorResponse><Error><Type>Sender</Type>{error}</Error></ErrorResponse>")
    if found.service in ("", "s3"):
        return _xml(f"<Error>{error}</Error>")
    return _json(sentence)


def _json(sentence: str) -> Response:
    document = {"__type": "AccessDeniedException", "message": sentence, "Message": sentence}
    headers = [("Content-Type", "application/json"), ("x-amzn-ErrorType", "AccessDeniedException")]
    return Response(403, headers, json.dumps(document).encode())


def _xml(body: str) -> Response:
    text = f'<?xml version="1.0" encoding="UTF-8"?>\n{body}'
    return Response(403, [("Content-Type", "application/xml")], text.encode())
