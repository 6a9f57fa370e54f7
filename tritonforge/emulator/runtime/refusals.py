"""What the runtime answers when it does not answer: AWS's errors, their codes and sentences. This module does no I/O.

Sources: the service model of sagemaker-runtime (codes, statuses, members); the sentences are those quoted from AWS in
public issues, named beside each; where none is quoted, the sentence is ours and says so.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final

from tritonforge.emulator.requests import Answer, Response

__all__ = ["Place", "model_error", "model_sentence", "not_found", "oversize", "refused", "timed_out"]

#: Characters of a container's message that are passed on; of a longer one AWS says that it could not be loaded whole.
#: AWS names no figure.
MAXIMAL_MESSAGE: Final = 32 * 1024

_SERVER_ERROR: Final = 500


@dataclass(frozen=True, slots=True)
class Place:
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


def refused(message: str, *, code: str = "ValidationError", status: int = 400, **members: object) -> Response:
    """An error as the rest-json protocol carries it: its code in a header, its members in the body."""
    body = json.dumps({"Message": message, **members}).encode()
    return Response(status, (("Content-Type", "application/json"), ("x-amzn-ErrorType", code)), body)


def not_found(place: Place) -> Response:
    """There is no such endpoint. Sentence: aws/amazon-sagemaker-examples issue 293."""
    return refused(f"Endpoint {place.endpoint} of account {place.account} not found.")


def oversize(size: int, limit: int, *, serverless: bool, request_id: str) -> Response | None:
    """A body that is too large; None when it is not.

    Sentences: aws/sagemaker-python-sdk issues 171 (413, which has no code) and 4271 (serverless).
    """
    if size <= limit:
        return None
    if serverless:
        return refused(f"Request {request_id} has oversize body.")
    body = json.dumps({"message": f"HTTP content length exceeded {limit} bytes."}).encode()
    return Response(413, (("Content-Type", "application/json"),), body)


def model_sentence(answer: Answer, place: Place) -> str:
    """What AWS says about a container's error. Sentences: sagemaker-python-sdk issue 2955, sagemaker-examples 4324."""
    text = answer.body.decode("utf-8", "replace")
    kind = "server" if answer.status >= _SERVER_ERROR or answer.status == 0 else "client"
    if len(text) > MAXIMAL_MESSAGE:
        start = (
            f"Received {kind} error ({answer.status}) from {answer.container} and could not load the entire response "
            "body."
        )
    else:
        start = f'Received {kind} error ({answer.status}) from {answer.container} with message "{text}".'
    return f"{start} {place.see}"


def model_error(answer: Answer, place: Place) -> Response:
    """The container answered with an error of its own."""
    server = answer.status >= _SERVER_ERROR or answer.status == 0
    return refused(
        model_sentence(answer, place),
        code="ModelError",
        status=424,
        ErrorCode="INTERNAL_FAILURE_FROM_MODEL" if server else "CLIENT_ERROR_FROM_MODEL",
        OriginalStatusCode=answer.status,
        OriginalMessage=answer.body.decode("utf-8", "replace")[:MAXIMAL_MESSAGE],
        LogStreamArn=place.log_stream_arn,
    )


def timed_out(container: str = "primary") -> Answer:
    """What stands for the answer of a container that took too long. Sentence: sagemaker-examples issue 1407."""
    sentence = (
        f"Your invocation timed out while waiting for a response from container {container}. Review the latency "
        "metrics for each container in Amazon CloudWatch, resolve the issue, and try again."
    )
    return Answer(0, {}, sentence.encode(), container)
