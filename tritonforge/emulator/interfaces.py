"""The values that the emulator's front, control plane and runtime exchange. This module does no I/O.

The front converts HTTP to a `Request`, and a `Response` to HTTP. The control plane describes what serves an endpoint
now by a `LiveEndpoint`, an immutable value that is replaced whenever weights, variants or the status change.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from tritonforge.triton.service_limits import REAL_TIME_BODY

__all__ = ["MAX_BODY", "AsyncInference", "Capture", "Container", "ContainerResponse", "LiveEndpoint",
           "LiveVariant", "Request", "Response"]  # fmt: skip

#: Bytes that a real-time request may have.
MAX_BODY: Final = REAL_TIME_BODY.value


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request to the runtime.

    ``path`` is as sent, without the query and percent-encoded. ``headers`` have lower-case names. ``body`` is
    whole, or empty if ``length`` (the Content-Length) is above `MAX_BODY`: the runtime then rejects the request by its
    length. ``length`` -1 means that of the body.
    """

    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    length: int = -1

    @property
    def size(self) -> int:
        """The bytes of the body, as declared."""
        return len(self.body) if self.length < 0 else self.length


@dataclass(frozen=True, slots=True)
class Response:
    """One HTTP response; the front adds Content-Length, Date and x-amzn-RequestId."""

    status: int
    headers: Sequence[tuple[str, str]] = ()
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class ContainerResponse:
    """What a container answered: headers have lower-case names; ``container`` is its name in its model."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    container: str = "primary"


class Container(Protocol):
    """What runs behind a variant; `hosting.HostedContainer` is the real one.

    ``invoke`` raises `hosting.ContainerGoneError` when the container gives no answer (while it restarts), and
    TimeoutError when it gave none in ``timeout`` seconds. ``invoke_model`` is its form for multi-model containers, in
    which ``target_model`` is the key of an archive below the model's S3 prefix; it loads the model first where needed,
    and raises `hosting.TargetModelError` if it is missing.
    """

    @property
    def multi_model(self) -> bool:
        """Whether requests must name a TargetModel."""
        ...

    def invoke(self, body: bytes, headers: Mapping[str, str], *, timeout: float) -> ContainerResponse:
        """Send POST /invocations and return the container's response."""
        ...

    def invoke_model(
        self, target_model: str, body: bytes, headers: Mapping[str, str], *, timeout: float
    ) -> ContainerResponse:
        """Send POST /models/{hash}/invoke and return the container's response."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveVariant:
    """A production variant that serves.

    ``weight`` is the current one; ``instances`` their number (they share one container here).
    ``serverless`` lowers the limit of bodies. ``targets`` has containers by hostname where requests must name one.
    """

    name: str
    weight: float
    container: Container
    instances: int = 1
    serverless: bool = False
    targets: Mapping[str, Container] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Capture:
    """DataCaptureConfig, as far as the runtime needs it: ``modes`` holds "Input", "Output" or both."""

    percentage: int
    destination: str
    modes: frozenset[str]
    csv_types: frozenset[str] = frozenset()
    json_types: frozenset[str] = frozenset()

    @classmethod
    def from_request(cls, config: Mapping[str, Any] | None) -> Capture | None:
        """Parse a request's ``DataCaptureConfig``; None if it is missing or capture is disabled."""
        if not config or not config.get("EnableCapture", True):
            return None
        modes: set[str] = set()
        for option in config["CaptureOptions"]:
            mode = option["CaptureMode"]
            modes |= {"Input", "Output"} if mode == "InputAndOutput" else {mode}
        types = config.get("CaptureContentTypeHeader") or {}
        return cls(
            percentage=int(config["InitialSamplingPercentage"]),
            destination=config["DestinationS3Uri"],
            modes=frozenset(modes),
            csv_types=frozenset(types.get("CsvContentTypes", ())),
            json_types=frozenset(types.get("JsonContentTypes", ())),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class AsyncInference:
    """AsyncInferenceConfig, as far as the runtime needs it; empty strings for members that are missing.

    ``concurrency`` is MaxConcurrentInvocationsPerInstance; AWS chooses one where it is left out, here it is 4.
    """

    output: str
    failure: str = ""
    success_topic: str = ""
    error_topic: str = ""
    include_response: frozenset[str] = frozenset()
    concurrency: int = 4

    @classmethod
    def from_request(cls, config: Mapping[str, Any] | None) -> AsyncInference | None:
        """Parse a request's ``AsyncInferenceConfig``; None if it is missing."""
        if not config:
            return None
        output = config["OutputConfig"]
        notification = output.get("NotificationConfig") or {}
        return cls(
            output=output.get("S3OutputPath", ""),
            failure=output.get("S3FailurePath", ""),
            success_topic=notification.get("SuccessTopic", ""),
            error_topic=notification.get("ErrorTopic", ""),
            include_response=frozenset(notification.get("IncludeInferenceResponseIn", ())),
            concurrency=int((config.get("ClientConfig") or {}).get("MaxConcurrentInvocationsPerInstance", 4)),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveEndpoint:
    """An endpoint as the runtime sees it.

    ``status`` is the EndpointStatus; ``variants`` are those that take traffic now, empty while it is Creating or after
    it Failed. During a blue/green update they are the old ones until the traffic moves; with a canary, both fleets'
    variants may be listed, of the same name, with the shares as weights.
    """

    name: str
    status: str
    variants: tuple[LiveVariant, ...] = ()
    capture: Capture | None = None
    asynchronous: AsyncInference | None = None
    shadows: tuple[LiveVariant, ...] = ()
