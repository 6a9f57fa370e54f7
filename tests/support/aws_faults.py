"""Faults of AWS and of the network, put before chosen requests of a session by botocore's own hook."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from botocore import exceptions
from botocore.awsrequest import AWSResponse

from tritonforge.sagemaker.client import Session


class Raw:
    """The body of an answer."""

    def __init__(self, content: bytes) -> None:
        self._content = [content]

    def stream(self, **_: Any) -> list[bytes]:
        """All of it, once."""
        content, self._content = self._content, []
        return content


def answer(status: int, code: str) -> Callable[[Any, str], Any]:
    """An answer of AWS's with an error, in the form of the service that was asked."""

    def build(request: Any, service: str) -> AWSResponse:
        if service in ("s3", "sts"):
            error = f"<Error><Code>{code}</Code><Message>made for a test</Message></Error>"
            body = error if service == "s3" else f"<ErrorResponse>{error}</ErrorResponse>"
        else:
            body = f'{{"__type": "{code}", "message": "made for a test"}}'
        headers = {"content-type": "application/xml", "x-amzn-errortype": code}
        return AWSResponse(request.url, status, headers, Raw(body.encode()))

    return build


def network(error: Callable[[str], Exception]) -> Callable[[Any, str], Any]:
    """An error of the network."""

    def build(request: Any, _: str) -> Any:
        raise error(request.url)

    return build


FAULTS: dict[str, Callable[[Any, str], Any]] = {
    "throttled": answer(400, "ThrottlingException"),
    "slow down": answer(503, "SlowDown"),
    "internal error": answer(500, "InternalFailure"),
    "timed out": network(lambda url: exceptions.ReadTimeoutError(endpoint_url=url)),
    "no connection": network(lambda url: exceptions.EndpointConnectionError(endpoint_url=url)),
    "reset": network(lambda url: exceptions.ConnectionClosedError(endpoint_url=url)),
}


class Faults:
    """Puts a fault before chosen requests of a session: each with a number, or all of an operation."""

    def __init__(self, session: Session, kind: str = "reset", *, every: int = 0, always: str = "") -> None:
        self.sent = 0
        self.chosen: Callable[[int, str], bool] = lambda number, operation: (
            operation == always or bool(every and number % every == 0)
        )
        self.fault = FAULTS[kind]
        for service in ("sts", "sagemaker", "s3", "application-autoscaling", "cloudwatch", "logs"):
            session.client(service).meta.events.register("before-send", self)

    def __call__(self, request: Any, event_name: str, **_: Any) -> Any:
        """A fault, or None, which sends the request."""
        _, service, operation = event_name.split(".")
        self.sent += 1
        return self.fault(request, service) if self.chosen(self.sent, operation) else None


@contextmanager
def shorten_retries() -> Iterator[None]:
    """Shorten botocore's pauses between attempts; the number of attempts stays."""
    sleep = time.sleep
    with pytest.MonkeyPatch.context() as patch:
        for module in ("retries.standard", "endpoint"):
            patch.setattr(f"botocore.{module}.time.sleep", lambda seconds: sleep(min(seconds, 0.001)))
        yield


def fresh(session: Session) -> Session:
    """A session of its own, without clients, whose quota of retries no other test has used up."""
    return Session(endpoint_url=session.endpoint_url, region_name=session.region)
