"""The transport to an asynchronous endpoint: request and response go through S3, and the response is waited for.

A body of up to 1 GB is uploaded in parts, whether it is a list of arrays or a file; a small one goes inline if the
installed botocore supports it. The response's object has its content type; where that is lost, the end of its JSON is
found in the body itself.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

from tritonforge.errors import ConnectError, DeploymentError, EncodeError
from tritonforge.files import describe_error
from tritonforge.inference.client import Answer, Call, ModelError, ModelMetadata, RelayError
from tritonforge.inference.wire import (
    SAGEMAKER_BINARY_JSON,
    Payload,
    decode_error,
    find_header_length,
    sagemaker_content_type,
    sagemaker_header_length,
)
from tritonforge.sagemaker import service_model
from tritonforge.sagemaker.client.errors import AwsError, grow_delays
from tritonforge.sagemaker.client.session import FOR_EVER, READ_TIMEOUT, Session
from tritonforge.sagemaker.client.store import Store
from tritonforge.sagemaker.client.transfers import Location
from tritonforge.sagemaker.client.transport import Endpoint, build_request, build_size_error
from tritonforge.triton.service_limits import ASYNCHRONOUS_BODY

__all__ = ["RAW", "AsyncTransport", "PendingInference"]

#: The content type of a body that is the bytes of the model's only input.
RAW: Final = f"{SAGEMAKER_BINARY_JSON}0"

#: Seconds between two requests for the response: the first, their growth, and the longest.
_FIRST: Final = 0.1
_GROWTH: Final = 1.5
_LONGEST: Final = 5.0
#: Seconds to wait for a response: a queue, and the 900 s that an inference may take by default (InvokeEndpointAsync,
#: InvocationTimeoutSeconds).
_PATIENCE: Final = 1200.0
_NOT_THERE: Final = frozenset({"404", "NoSuchKey", "NotFound"})
#: SageMaker's message about a container's response.
_RECEIVED: Final = re.compile(r'Received \w+ error \((\d+)\) from .*? with message "(.*)"', re.DOTALL)
_FAILED_DEPENDENCY: Final = 424


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingInference:
    """An inference that was sent: its id, and the addresses of its response, its failure and its request.

    ``failure`` is None if the endpoint's configuration has no ``S3FailurePath``, ``source`` if the request was sent
    inline.
    """

    inference_id: str
    output: str
    failure: str | None = None
    source: str | None = None


class AsyncTransport:
    """A transport over ``InvokeEndpointAsync`` and S3, for `Client` and for requests that are collected later.

    ``prefix`` (``s3://bucket/prefix``) is the address of requests; None sends only what fits inline. ``patience`` is in
    seconds for a response, ``timeout`` for each wait for bytes. ``request_ttl`` (60 to 21600 s) and
    ``invocation_timeout`` (1 to 3600 s) are AWS's. ``clean`` removes the request from S3 when its response was read;
    responses are never removed. ``inline`` False puts every request to S3. ``options``, ``session`` and the rest as in
    `EndpointTransport`; ``store`` is the access to S3, for example with a KMS key.
    """

    def __init__(
        self,
        endpoint_name: str,
        *,
        prefix: str | None,
        session: Session | None = None,
        region_name: str | None = None,
        profile_name: str | None = None,
        endpoint_url: str | None = None,
        timeout: float | None = READ_TIMEOUT,
        options: Mapping[str, str] | None = None,
        patience: float = _PATIENCE,
        request_ttl: int | None = None,
        invocation_timeout: int | None = None,
        clean: bool = False,
        inline: bool = True,
        store: Store | None = None,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.session = session or Session(region_name=region_name, profile_name=profile_name, endpoint_url=endpoint_url)
        self.endpoint = Endpoint(endpoint_name, self.session, owned=session is None)
        self.store = store or Store(self.session)
        self.options = dict(options or {})
        self.patience = patience
        self.clean = clean
        self._folder = None if prefix is None else Location.parse(prefix).folder
        limits = {"RequestTTLSeconds": request_ttl, "InvocationTimeoutSeconds": invocation_timeout}
        self._limits = {member: value for member, value in limits.items() if value is not None}
        self._inline = _find_inline_limit() if inline else 0
        self._sleep, self._clock = sleep, clock
        build_request("InvokeEndpointAsync", endpoint_name, self.options)
        service_model.check_request(
            "sagemaker-runtime", "InvokeEndpointAsync", {"EndpointName": endpoint_name, **self._limits}
        )
        self._runtime = self.session.client(
            "sagemaker-runtime", attempts=1, read_timeout=FOR_EVER if timeout is None else timeout
        )

    def infer(self, call: Call) -> Answer:
        """Run one inference, and wait for its response."""
        if call.model_version or call.model is not None:
            raise EncodeError("an asynchronous endpoint serves one version of one model; leave model and version out")
        return self.collect(self.submit(call.payload, options=call.options))

    def submit(
        self, body: Payload | Path, *, content_type: str | None = None, options: Mapping[str, str] | None = None
    ) -> PendingInference:
        """Send one inference, and do not wait.

        ``body`` is a payload, or a file, which is not read into memory and needs a ``content_type`` (for a file with
        the bytes of the model's only input: `RAW`). Raises EncodeError for a body above 1 GB.
        """
        if isinstance(body, Payload):
            content_type, size = sagemaker_content_type(body), body.size
        else:
            size = _read_size(body)
        if content_type is None:
            raise EncodeError(f"{body}: the content_type of the file is missing")
        if size > ASYNCHRONOUS_BODY.value:
            raise build_size_error(
                self.endpoint.name, size, ASYNCHRONOUS_BODY, "an asynchronous endpoint", instead="split the batch"
            )
        request = build_request("InvokeEndpointAsync", self.endpoint.name, {**self.options, **(options or {})})
        request |= {**self._limits, "ContentType": content_type}
        source = None
        if size <= self._inline:
            request["Body"] = body.body if isinstance(body, Payload) else body.read_bytes()
        else:
            source = request["InputLocation"] = self._put(body, size, content_type)
        try:
            response = self.endpoint.invoke(
                "InvokeEndpointAsync", lambda: self._runtime.invoke_endpoint_async(**request), sleep=self._sleep
            )
        except RelayError:
            # SageMaker did not accept the request, so it will not be read.
            self._remove(source)
            raise
        return PendingInference(
            inference_id=str(response.get("InferenceId") or request.get("InferenceId") or ""),
            output=str(response["OutputLocation"]),
            failure=response.get("FailureLocation") or None,
            source=source,
        )

    def collect(self, pending: PendingInference) -> Answer:
        """Wait for the response of an inference that was sent.

        Raises `ModelError` if the model rejected it, `RelayError` if SageMaker did, ConnectError if neither responded
        in time.
        """
        ends, denied = self._clock() + self.patience, ""
        for delay in grow_delays(_FIRST, growth=_GROWTH, longest=_LONGEST):
            for uri in (pending.output, pending.failure):
                try:
                    download = self.store.get(uri) if uri else None
                except AwsError as error:
                    if error.code not in _NOT_THERE and not error.denied:
                        raise
                    denied = str(error) if error.denied else denied
                    continue
                if download is None:
                    continue
                body = b"".join(download)
                if self.clean:
                    self._remove(pending.source)
                if uri == pending.failure:
                    raise _build_failure(body)
                return _build_answer(body, download.content_type, pending)
            if self._clock() >= ends:
                raise ConnectError(self._describe_timeout(pending, denied))
            self._sleep(delay)
        raise AssertionError("the delays have no end")

    def ready(self, model: str | None) -> bool:
        """Return True if ``DescribeEndpoint`` returns InService."""
        return self.endpoint.ready()

    def metadata(self, model: str | None) -> ModelMetadata | None:
        """Return None: an endpoint has no such call."""
        return None

    def close(self) -> None:
        """Close the connections of a session of its own."""
        self.endpoint.close()

    def _put(self, body: Payload | Path, size: int, content_type: str) -> str:
        if self._folder is None:
            raise EncodeError(
                f"{self.endpoint.url}: a body of {size:,} bytes must be sent through S3; give its address: "
                "--async s3://bucket/prefix"
            )
        uri = str(self._folder / f"{self.endpoint.name}/{uuid.uuid4()}")
        content = body if isinstance(body, Path) else cast("BinaryIO", io.BufferedReader(_Buffers(body)))
        self.store.put(content, uri, content_type=content_type)
        return uri

    def _remove(self, source: str | None) -> None:
        """Remove a request; it was used, so that a failure to remove it is not an error."""
        if source is not None:
            with contextlib.suppress(DeploymentError, ConnectError):
                self.store.delete(source)

    def _describe_timeout(self, pending: PendingInference, denied: str) -> str:
        log_only = "; its configuration has no S3FailurePath, so a failure is in its log only"
        unreported = "" if pending.failure else log_only
        refused = f"; the last request was denied: {denied}" if denied else ""
        return (
            f"{self.endpoint.url}: no response within {self.patience:g} s; it may still appear at {pending.output}"
            f"{unreported}, see the log /aws/sagemaker/Endpoints/{self.endpoint.name}{refused}"
        )


class _Buffers(io.RawIOBase):
    """The buffers of a payload as a seekable stream, without a copy."""

    def __init__(self, payload: Payload) -> None:
        super().__init__()
        self._buffers = [memoryview(buffer).cast("B") for buffer in payload.buffers if len(buffer)]
        self._size, self._at = payload.size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = max(0, offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence])
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, target: Any) -> int:
        view, start = memoryview(target).cast("B"), 0
        for buffer in self._buffers:
            if start <= self._at < start + len(buffer):
                piece = buffer[self._at - start : self._at - start + len(view)]
                view[: len(piece)] = piece
                self._at += len(piece)
                return len(piece)
            start += len(buffer)
        return 0


def _find_inline_limit() -> int:
    """Return the bytes that the installed botocore allows as ``Body`` of InvokeEndpointAsync, 0 without that member."""
    body = service_model.find_operation("sagemaker-runtime", "InvokeEndpointAsync").input_shape.members.get("Body")
    return 0 if body is None else int(body.metadata.get("max", 0))


def _read_size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise EncodeError(f"{path}: cannot read: {describe_error(error)}") from error


def _build_answer(body: bytes, content_type: str | None, pending: PendingInference) -> Answer:
    length = (
        sagemaker_header_length(content_type, size=len(body))
        if (content_type or "").startswith(SAGEMAKER_BINARY_JSON)
        else find_header_length(body)
    )
    return Answer(body, length, {"inference_id": pending.inference_id, "output_location": pending.output})


def _build_failure(body: bytes) -> ModelError | RelayError:
    """Return the error at a failure location: the container's own response, or SageMaker's message, with or without it.

    Only SageMaker's message has the container's status; otherwise it is 424, as of InvokeEndpoint's ModelError.
    """
    sentence = decode_error(body)
    if (received := _RECEIVED.search(sentence)) is not None:
        return ModelError(decode_error(received[2].encode()), status=int(received[1]) or _FAILED_DEPENDENCY)
    try:
        document = json.loads(body)
    except ValueError:
        document = None
    if isinstance(document, dict) and "error" in document:
        return ModelError(sentence, status=_FAILED_DEPENDENCY)
    return RelayError(sentence, status=_FAILED_DEPENDENCY)
