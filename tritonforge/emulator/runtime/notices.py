"""The messages that SageMaker publishes about asynchronous inferences, as Amazon SNS carries them. No I/O.

Sources: Amazon SageMaker developer guide, "Check prediction results" and "Monitor asynchronous endpoint"; recorded
messages in public repositories.
"""

from __future__ import annotations

import base64
import datetime as dt
import json
from dataclasses import dataclass
from typing import Any, Final, Literal

__all__ = ["MAXIMAL_RESPONSE", "Outcome", "message"]

#: Bytes of a response that a message carries (IncludeInferenceResponseIn).
MAXIMAL_RESPONSE: Final = 128 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one asynchronous inference; empty strings where there is nothing to say."""

    status: Literal["Completed", "Failed", "Expired"]
    endpoint: str
    region: str
    inference_id: str
    received: dt.datetime
    ended: dt.datetime
    input_location: str = ""
    content_type: str = ""
    accept: str = ""
    output_type: str = ""
    output_location: str = ""
    failure_location: str = ""
    reason: str = ""


def message(outcome: Outcome, *, response: bytes | None = None) -> str:
    """The message's text; ``response`` is the body to include, left out where it is larger than 128 KB."""
    request = {
        "accept": outcome.accept,
        "contentType": outcome.content_type,
        "endpointName": outcome.endpoint,
        "inputLocation": outcome.input_location,
    }
    answer: dict[str, Any] = {"contentType": outcome.output_type, "outputLocation": outcome.output_location}
    if outcome.status != "Completed":
        answer = {"contentType": outcome.output_type, "failureLocation": outcome.failure_location}
    document: dict[str, Any] = {
        "awsRegion": outcome.region,
        "eventTime": _written(outcome.ended),
        "receivedTime": _written(outcome.received),
        "invocationStatus": outcome.status,
    }
    if outcome.reason:
        document["failureReason"] = outcome.reason
    document["requestParameters"] = {name: value for name, value in request.items() if value}
    if found := {name: value for name, value in answer.items() if value}:
        document["responseParameters"] = found
    if response is not None and len(response) <= MAXIMAL_RESPONSE:
        content = base64.b64encode(response).decode()
        document["responseBody"] = {"message": "", "content": content, "encoding": "BASE64"}
    return json.dumps(
        {
            **document,
            "inferenceId": outcome.inference_id,
            "eventVersion": "1.0",
            "eventSource": "aws:sagemaker",
            "eventName": "InferenceResult",
        },
        separators=(",", ":"),
    )


def _written(time: dt.datetime) -> str:
    return f"{time:%Y-%m-%dT%H:%M:%S}.{time.microsecond // 1000:03d}Z"
