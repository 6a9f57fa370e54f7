"""SageMaker's runtime over HTTP, before a model of one FP32 input."""

from __future__ import annotations

import json

import numpy as np

from tests.support.faulty_proxy import Incoming, Reply
from tritonforge.inference.wire import decode_request, encode_response, sagemaker_header_length, sagemaker_headers

MISSING_INPUT = (
    "[request id: <id_unknown>] expected 1 inputs but got 0 inputs for model 'm'. Got input(s) [], but missing "
    "required input(s) ['x']. Please provide all required input(s)."
)


def answer_invocation(request: Incoming) -> Reply:
    """Answer an invocation of the endpoint."""
    received = decode_request(
        request.body, header_length=sagemaker_header_length(request.headers["Content-Type"], size=len(request.body))
    )
    if "x" not in received.inputs:
        return build_model_error(400, MISSING_INPUT)
    x = received.inputs["x"]
    if x.dtype != np.float32:
        return build_model_error(400, "inference input 'x' data-type is 'BOOL', but model 'm' expects 'FP32'")
    if x.ndim != 2:
        return build_model_error(
            400, "unexpected shape for input 'x' for model 'm'. Expected [-1,2], got [1]. NOTE: ..."
        )
    payload = encode_response({"y": x * 2}, model_name="m", id=received.id)
    return 200, {**sagemaker_headers(payload), "x-Amzn-Invoked-Production-Variant": "AllTraffic"}, payload.body


def build_model_error(status: int, sentence: str) -> Reply:
    """Return a ModelError as it is on the wire."""
    text = {
        "ErrorCode": "CLIENT_ERROR_FROM_MODEL",
        "Message": f'Received client error ({status}) from primary with message "..."',
        "OriginalMessage": json.dumps({"error": sentence}),
        "OriginalStatusCode": status,
        "LogStreamArn": "arn:aws:logs:eu-west-1:123456789012:log-group:/aws/sagemaker/Endpoints/inception",
    }
    return 424, {"Content-Type": "application/json", "x-amzn-ErrorType": "ModelError"}, json.dumps(text).encode()
