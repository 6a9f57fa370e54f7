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
from tritonforge.sagemaker.client.errors import AwsError
from tritonforge.sagemaker.client.retries import grow_delays
from tritonforge.sagemaker.client.session import FOR_EVER, READ_TIMEOUT, Session
from tritonforge.sagemaker.client.store import Store
from tritonforge.sagemaker.client.transfers import Location
from tritonforge.sagemaker.client.transport import Endpoint, build_request, build_size_error
from tritonforge.triton.service_limits import ASYNCHRONOUS_BODY

__all__ = ["RAW", "AsyncTransport", "PendingInference"]

#: The content type of a body that is the model's one input as it stands.
RAW: Final = f"{SAGEMAKER_BINARY_JSON}0"

#: Seconds between two requests for the response: the first, their growth, and the longest.
_FIRST: Final = 0.1
_GROWTH: Final = 1.5
_LONGEST: Final = 5.0
#: Seconds to wait for an answer: a queue, and the 900 s that an inference may take by default (InvokeEndpointAsync,
#: InvocationTimeoutSeconds).
_PATIENCE: Final = 1200.0
_NOT_THERE: Final = frozenset({"404", "NoSuchKey", "NotFound"})
#: How SageMaker tells what a container said.
_RECEIVED: Final = re.compile(r'Received \w+ error \((\d+)\) from .*? with message "(.*)"', re.DOTALL)
_FAILED_DEPENDENCY: Final = 424


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingInference:
    """An inference that was sent: its id, where its answer or its failure will be, and where its request lies.

    ``failure`` is None where the endpoint's configuration has no ``S3FailurePath``, ``source`` where the request went
    inline.
    """

    inference_id: str
    output: str
    failure: str | None = None
    source: str | None = None


class AsyncTransport:
    """A transport over ``InvokeEndpointAsync`` and S3, for `Client` and for requests that are collected later.

    ``prefix`` (``s3://bucket/prefix``) is where requests are put; None sends only what fits inline. ``patience`` is in
    seconds for an answer, ``timeout`` for each wait for bytes. ``request_ttl`` (60 to 21600 s) and
    ``invocation_timeout`` (1 to 3600 s) are AWS's. ``clean`` removes the request from S3 when its answer was read;
    answers are never removed. ``inline`` False puts every request to S3. ``options``, ``session`` and the rest as in
    `EndpointTransport`; ``store`` is what S3 is reached by, where it is to have a KMS key, say.
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
        self._inline = _inline_limit() if inline else 0
        self._sleep, self._clock = sleep, clock
        build_request("InvokeEndpointAsync", endpoint_name, self.options)
        service_model.check_request(
            "sagemaker-runtime", "InvokeEndpointAsync", {"EndpointName": endpoint_name, **self._limits}
        )
        self._runtime = self.session.client(
            "sagemaker-runtime", attempts=1, read_timeout=FOR_EVER if timeout is None else timeout
        )

    def infer(self, call: Call) -> Answer:
        """Carry one inference, and wait for its answer."""
        if call.model_version or call.model is not None:
            raise EncodeError("an asynchronous endpoint serves one version of one model; leave model and version out")
        return self.collect(self.submit(call.payload, options=call.options))

    def submit(
        self, body: Payload | Path, *, content_type: str | None = None, options: Mapping[str, str] | None = None
    ) -> PendingInference:
        """Send one inference, and do not wait.

        ``body`` is a payload, or a file, which is not read into memory; a file's ``content_type`` must be said (for a
        file that is the model's one input as it stands: `RAW`). Raises EncodeError for a body above 1 GB.
        """
        if isinstance(body, Payload):
            content_type, size = sagemaker_content_type(body), body.size
        else:
            size = _size(body)
        if content_type is None:
            raise EncodeError(f"{body}: say the content_type of a file")
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
            told = self.endpoint.invoke(
                "InvokeEndpointAsync", lambda: self._runtime.invoke_endpoint_async(**request), sleep=self._sleep
            )
        except RelayError:
            # SageMaker did not take the request, so that no one will read it.
            self._remove(source)
            raise
        return PendingInference(
            inference_id=str(told.get("InferenceId") or request.get("InferenceId") or ""),
            output=str(told["OutputLocation"]),
            failure=told.get("FailureLocation") or None,
            source=source,
        )

    def collect(self, pending: PendingInference) -> Answer:
        """Wait for the answer of an inference that was sent.

        Raises `ModelError` for what the model refused, `RelayError` for what SageMaker did, ConnectError where neither
        came in time.
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
                    raise _failure(body)
                return _answer(body, download.content_type, pending)
            if self._clock() >= ends:
                raise ConnectError(self._overdue(pending, denied))
            self._sleep(delay)
        raise AssertionError("the delays have no end")

    def ready(self, model: str | None) -> bool:
        """Whether ``DescribeEndpoint`` says InService."""
        return self.endpoint.ready()

    def metadata(self, model: str | None) -> ModelMetadata | None:
        """None: an endpoint has no such call."""
        return None

    def close(self) -> None:
        """Close the connections, where the session is its own."""
        self.endpoint.close()

    def _put(self, body: Payload | Path, size: int, content_type: str) -> str:
        if self._folder is None:
            raise EncodeError(
                f"{self.endpoint.url}: a body of {size:,} bytes goes by S3; say where to put it: "
                "--async s3://bucket/prefix"
            )
        uri = str(self._folder / f"{self.endpoint.name}/{uuid.uuid4()}")
        content = body if isinstance(body, Path) else cast("BinaryIO", io.BufferedReader(_Buffers(body)))
        self.store.put(content, uri, content_type=content_type)
        return uri

    def _remove(self, source: str | None) -> None:
        """Remove a request; what it is for is done, so that being refused this is no error."""
        if source is not None:
            with contextlib.suppress(DeploymentError, ConnectError):
                self.store.delete(source)

    def _overdue(self, pending: PendingInference, denied: str) -> str:
        untold = (
            ""
            if pending.failure
            else "; its configuration has no S3FailurePath, so that a failure stands in its log only"
        )
        refused = f"; the last look was refused: {denied}" if denied else ""
        return (
            f"{self.endpoint.url}: no answer within {self.patience:g} s; it may still come to {pending.output}"
            f"{untold}, see the log /aws/sagemaker/Endpoints/{self.endpoint.name}{refused}"
        )


class _Buffers(io.RawIOBase):
    """The buffers of a payload as a stream that can seek, unjoined."""

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


def _inline_limit() -> int:
    """Bytes that the installed botocore takes as ``Body`` of InvokeEndpointAsync, 0 where it has no such member."""
    body = service_model.find_operation("sagemaker-runtime", "InvokeEndpointAsync").input_shape.members.get("Body")
    return 0 if body is None else int(body.metadata.get("max", 0))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise EncodeError(f"{path}: {error.strerror}") from error


def _answer(body: bytes, content_type: str | None, pending: PendingInference) -> Answer:
    length = (
        sagemaker_header_length(content_type, size=len(body))
        if (content_type or "").startswith(SAGEMAKER_BINARY_JSON)
        else find_header_length(body)
    )
    return Answer(body, length, {"inference_id": pending.inference_id, "output_location": pending.output})


def _failure(body: bytes) -> ModelError | RelayError:
    """What stands at a failure location: the container's own answer, or SageMaker's sentence, with or without that.

    The container's status is told in the last case only; 424, as of InvokeEndpoint's ModelError, stands for it.
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
