"""Asynchronous inference: requests wait in a queue, and their answers are written to S3."""

from __future__ import annotations

import base64
import datetime as dt
import json
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from tritonforge.emulator.emulated_s3 import EmulatedS3, ObjectMissingError
from tritonforge.emulator.interfaces import AsyncInference, ContainerResponse, LiveEndpoint, LiveVariant, Response
from tritonforge.emulator.runtime_protocol import invoke_container
from tritonforge.errors import RequestError
from tritonforge.triton.service_limits import ASYNCHRONOUS_BODY

__all__ = ["MAX_RESPONSE", "AsyncJob", "AsyncOutcome", "AsyncQueue", "write_notification"]

_OK: Final = 200
_UNAVAILABLE: Final = 503

#: Seconds between two attempts while the container is started again.
_PAUSE: Final = 1.0

_monotonic = time.monotonic


@dataclass(frozen=True, slots=True, kw_only=True)
class AsyncJob:
    """One asynchronous inference that waits: its input is at ``input_location``, or is ``body``.

    ``expires`` is when it is too old to begin, by the monotonic clock; ``timeout`` is what the container may take, in
    seconds.
    """

    endpoint: str
    inference_id: str
    input_location: str
    body: bytes
    headers: Mapping[str, str]
    received: dt.datetime
    expires: float
    timeout: float
    output_location: str
    failure_location: str


class AsyncQueue:
    """The queues of all endpoints.

    ``endpoint`` finds a live endpoint, ``choose`` its next variant, ``notify`` is given (topic, message).
    """

    def __init__(
        self,
        *,
        objects: EmulatedS3,
        region: str,
        endpoint: Callable[[str], LiveEndpoint | None],
        choose: Callable[[LiveEndpoint], LiveVariant | None],
        notify: Callable[[str, str], None],
        log: Callable[[str, str], None],
    ) -> None:
        self._objects = objects
        self._region = region
        self._endpoint = endpoint
        self._choose = choose
        self._notify = notify
        self._log = log
        self._lock = threading.Lock()
        self._waiting: dict[str, deque[AsyncJob]] = {}
        self._workers: dict[str, int] = {}
        self._closed = threading.Event()

    def put(self, job: AsyncJob, *, workers: int) -> None:
        """Add a job; at most ``workers`` of an endpoint's jobs are at its container at a time."""
        with self._lock:
            self._waiting.setdefault(job.endpoint, deque()).append(job)
            if self._workers.get(job.endpoint, 0) >= workers:
                return
            self._workers[job.endpoint] = self._workers.get(job.endpoint, 0) + 1
        threading.Thread(target=self._run_jobs, args=(job.endpoint,), daemon=True, name="async-inference").start()

    def count(self, endpoint: str) -> int:
        """Return how many of an endpoint's jobs wait."""
        with self._lock:
            return len(self._waiting.get(endpoint, ()))

    def discard(self, endpoint: str) -> None:
        """Drop the jobs of an endpoint that wait."""
        with self._lock:
            self._waiting.pop(endpoint, None)

    def close(self) -> None:
        """Drop every job that waits, and the results of those that are at a container."""
        self._closed.set()
        with self._lock:
            self._waiting.clear()

    def _run_jobs(self, endpoint: str) -> None:
        """Do jobs until none waits; run by a thread of its own."""
        while True:
            with self._lock:
                waiting = self._waiting.get(endpoint)
                if not waiting or self._closed.is_set():
                    self._workers[endpoint] -= 1
                    return
                job = waiting.popleft()
            try:
                self._do(job)
            except Exception as error:  # an error of one job must not end the queue
                self._log(endpoint, f"asynchronous inference {job.inference_id} was lost: {error!r}")

    def _do(self, job: AsyncJob) -> None:
        live = self._endpoint(job.endpoint)
        if live is None or live.asynchronous is None:
            return  # deleted meanwhile
        if _monotonic() > job.expires:
            self._end(job, live.asynchronous, "Expired", "The request was not begun within RequestTTLSeconds.", None)
            return
        try:
            body = self._read_input(job)
        except (ObjectMissingError, RequestError, OSError) as error:
            reason = f"ClientError: Unable to download input from {job.input_location}: {error}"
            self._end(job, live.asynchronous, "Failed", reason, None)
            return
        answer = self._invoke(job, body)
        if isinstance(answer, Response):
            reason = f"InternalServerError: {json.loads(answer.body)['Message']}"
            self._end(job, live.asynchronous, "Failed", reason, None)
        elif answer.status != _OK:
            kind = "server" if answer.status >= 500 or answer.status == 0 else "client"
            reason = (
                f"ClientError: Received {kind} error ({answer.status}) from model. See the SageMaker Endpoint logs in "
                "your account for more information."
            )
            self._end(job, live.asynchronous, "Failed", reason, answer)
        else:
            self._end(job, live.asynchronous, "Completed", "", answer)

    def _read_input(self, job: AsyncJob) -> bytes:
        if not job.input_location:
            return job.body
        if self._objects.head(job.input_location).size > ASYNCHRONOUS_BODY.value:
            raise ObjectMissingError(f"{job.input_location} is larger than 1 GB")
        return self._objects.read(job.input_location)

    def _invoke(self, job: AsyncJob, body: bytes) -> ContainerResponse | Response:
        """Send the job to the container and return its answer; wait for a restarting one until the job expires."""
        while True:
            live = self._endpoint(job.endpoint)
            variant = None if live is None else self._choose(live)
            answer: ContainerResponse | Response = Response(
                _UNAVAILABLE, (), b'{"Message": "The endpoint has no variant."}'
            )
            if variant is not None:
                answer = invoke_container(variant.container, body, job.headers, target_model="", timeout=job.timeout)
            unavailable = isinstance(answer, Response) and answer.status == _UNAVAILABLE
            if not unavailable or _monotonic() > job.expires or self._closed.wait(_PAUSE):
                return answer

    def _end(
        self,
        job: AsyncJob,
        settings: AsyncInference,
        status: Literal["Completed", "Failed", "Expired"],
        reason: str,
        answer: ContainerResponse | None,
    ) -> None:
        """Write the result of a job, and publish its notification."""
        if answer is not None:
            content_type = answer.headers.get("content-type", "")
            content = answer.body
        else:
            content_type = "application/json"
            content = json.dumps({"message": reason}).encode()
        location = job.output_location if status == "Completed" else job.failure_location
        if location:
            try:
                self._objects.put(location, content, content_type=content_type or "binary/octet-stream")
            except (ObjectMissingError, RequestError) as error:
                self._log(job.endpoint, f"asynchronous inference {job.inference_id}: {location} not written: {error}")
                if status == "Completed":
                    status, reason = "Failed", f"ClientError: Unable to upload the response to {location}: {error}"
        topic = settings.success_topic if status == "Completed" else settings.error_topic
        if not topic:
            return
        wanted = "SUCCESS_NOTIFICATION_TOPIC" if status == "Completed" else "ERROR_NOTIFICATION_TOPIC"
        outcome = AsyncOutcome(
            status=status,
            endpoint=job.endpoint,
            region=self._region,
            inference_id=job.inference_id,
            received=job.received,
            ended=_get_time(),
            input_location=job.input_location,
            content_type=job.headers.get("Content-Type", ""),
            accept=job.headers.get("Accept", ""),
            output_type=content_type if answer is not None else "",
            output_location=job.output_location,
            failure_location=job.failure_location,
            reason=reason,
        )
        response = content if answer is not None and wanted in settings.include_response else None
        self._notify(topic, write_notification(outcome, response=response))


def _get_time() -> dt.datetime:
    return dt.datetime.now(dt.timezone.utc)


#: Bytes of a response that a message carries (IncludeInferenceResponseIn).
MAX_RESPONSE: Final = 128 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class AsyncOutcome:
    """The result of one asynchronous inference; members that do not apply are empty."""

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


def write_notification(outcome: AsyncOutcome, *, response: bytes | None = None) -> str:
    """Build the text of a notification; ``response`` is the body to include, None where it is larger than 128 KB."""
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
        "eventTime": _format_time(outcome.ended),
        "receivedTime": _format_time(outcome.received),
        "invocationStatus": outcome.status,
    }
    if outcome.reason:
        document["failureReason"] = outcome.reason
    document["requestParameters"] = {name: value for name, value in request.items() if value}
    if parameters := {name: value for name, value in answer.items() if value}:
        document["responseParameters"] = parameters
    if response is not None and len(response) <= MAX_RESPONSE:
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


def _format_time(time: dt.datetime) -> str:
    return f"{time:%Y-%m-%dT%H:%M:%S}.{time.microsecond // 1000:03d}Z"
