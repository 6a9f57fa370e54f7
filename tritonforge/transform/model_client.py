"""Model clients: they send the body of a request to the model and return its response, with the retries of a job.

`HttpModelClient` sends to the ``/invocations`` of a container, as Triton's SageMaker front end, the TensorFlow Serving
container and every other container on SageMaker serves it. `RetryingInvoker` sends a failed request again as often as
``InvocationsMaxRetries`` allows. A request whose server ended while it ran is then sent alone, so that a record that
ends the server fails no other record. A request that never reached the server costs no retry.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, cast

import urllib3
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError, ReadTimeoutError

from tritonforge.errors import ConnectError, DecodeError, TritonForgeError
from tritonforge.inference.wire import decode_error
from tritonforge.records import Buffer
from tritonforge.transform.request_coalescer import RequestCoalescer

__all__ = [
    "HttpModelClient",
    "ModelClient",
    "RecordRejectedError",
    "Reply",
    "RetryingInvoker",
    "RunStoppedError",
    "ServerLostError",
    "ServerUnavailableError",
]

_OK: Final = 200

#: Seconds between two requests to /ping, and for each. Source: developer guide, "How Containers Serve Requests": 2 s.
_PING_PERIOD: Final = 0.1
_PING_TIMEOUT: Final = 2.0
_CONNECT_TIMEOUT: Final = 5.0

#: Seconds before the first retry; doubled for each further one.
_RETRY_DELAY: Final = 0.05

#: Seconds between two checks whether the job was stopped, while the server is down.
_STOP_PERIOD: Final = 0.1

#: How often a request may fail to reach a server that has just recovered.
_MAX_UNREACHED: Final = 20


class ServerLostError(ConnectError):
    """The model's server cannot be reached, or ended before it answered.

    ``received`` is True if the server may have begun to work on the request.
    """

    def __init__(self, message: str, *, received: bool) -> None:
        super().__init__(message)
        self.received = received


class RecordRejectedError(TritonForgeError):
    """A record has no answer: the model's error, and after how many attempts."""


class RunStoppedError(TritonForgeError):
    """The run was stopped before the record had its answer."""


class ServerUnavailableError(TritonForgeError):
    """The model's server ended and does not come back."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A response of any status; the names of its headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class ModelClient(Protocol):
    """The interface of a model's server that a job uses. Safe for use by several threads."""

    def invoke(self, body: Buffer | Iterator[Buffer], headers: Mapping[str, str], *, timeout: float) -> Reply:
        """Send POST /invocations once and return the response. An iterator is sent by HTTP's chunked encoding.

        Raises ServerLostError if the server cannot be reached or ended, ConnectError if no response came within
        ``timeout`` seconds.
        """
        ...

    def fetch_parameters(self) -> Mapping[str, Any] | None:
        """Return the JSON of GET /execution-parameters, None if the server has none."""
        ...

    def recover(self, stop: threading.Event) -> None:
        """Wait after ServerLostError until the server answers again; restart a server that this client owns.

        Return at once if it answers already or ``stop`` is set. Raises TritonForgeError if it does not come back; that
        ends the job.
        """
        ...


class HttpModelClient:
    """Client of a server that runs elsewhere; ``patience`` is how many seconds the server may be unreachable."""

    def __init__(self, url: str, *, connections: int = 64, patience: float = 120.0) -> None:
        parsed = urllib3.util.parse_url(url)
        self.url = url.rstrip("/")
        self.patience = patience
        self._path = (parsed.path or "").rstrip("/")
        self._pool = urllib3.connectionpool.connection_from_url(
            f"{parsed.scheme}://{parsed.netloc}", maxsize=connections, block=False
        )

    def invoke(self, body: Buffer | Iterator[Buffer], headers: Mapping[str, str], *, timeout: float) -> Reply:
        """Send POST /invocations and return the response."""
        sized = dict(headers)
        chunked = not isinstance(body, (bytes, bytearray, memoryview))
        if not chunked:
            sized["Content-Length"] = str(len(cast("bytes", body)))
        return self._send("POST", "/invocations", body, sized, chunked=chunked, timeout=timeout)

    def fetch_parameters(self) -> Mapping[str, Any] | None:
        """Return the JSON of GET /execution-parameters with status 200, else None."""
        reply = self._send("GET", "/execution-parameters", None, {}, timeout=_CONNECT_TIMEOUT)
        if reply.status != _OK:
            return None
        try:
            parameters = json.loads(reply.body)
        except ValueError:
            return None
        return parameters if isinstance(parameters, dict) else None

    def ping(self) -> bool:
        """Return True if GET /ping answers 200."""
        try:
            return self._send("GET", "/ping", None, {}, timeout=_PING_TIMEOUT).status == _OK
        except ConnectError:
            return False

    def recover(self, stop: threading.Event) -> None:
        """Wait until the server answers /ping."""
        deadline = time.monotonic() + self.patience
        while not self.ping():
            if stop.wait(_PING_PERIOD):
                return
            if time.monotonic() > deadline:
                raise ConnectError(f"{self.url}: the server ended and did not come back within {self.patience:g} s")

    def close(self) -> None:
        """Close the pooled connections."""
        self._pool.close()

    def _send(
        self,
        method: str,
        path: str,
        body: Buffer | Iterator[Buffer] | None,
        headers: Mapping[str, str],
        *,
        chunked: bool = False,
        timeout: float,
    ) -> Reply:
        try:
            # retries=False: RetryingInvoker decides whether a request is sent again.
            response = self._pool.urlopen(
                method,
                self._path + path,
                # http.client sends anything with a buffer; urllib3's types allow bytes only.
                body=cast("bytes", body),
                headers=headers,
                chunked=chunked,
                retries=False,
                redirect=False,
                timeout=urllib3.Timeout(connect=_CONNECT_TIMEOUT, read=timeout),
            )
        except ReadTimeoutError as error:
            raise ConnectError(f"no response within {timeout:g} s") from error
        except (ConnectTimeoutError, NewConnectionError) as error:
            raise ServerLostError(f"no server answers at {self.url}", received=False) from error
        except (HTTPError, OSError) as error:
            raise ServerLostError("the model's server ended before it answered", received=True) from error
        return Reply(response.status, {name.lower(): value for name, value in response.headers.items()}, response.data)


class RetryingInvoker:
    """Sends the requests of one job, with retries. Safe for use by several threads.

    Args:
        client: what sends a request once.
        content_type: the header of every request, None to send none; ``accept`` likewise.
        accept: see ``content_type``.
        timeout: seconds to wait for a response.
        retries: how often a failed request is sent again.
        stop: ends the waiting between attempts; a request that was sent is not interrupted.
        coalescer: how several records become one request, None to send them one by one.
        trusted: coalesce without comparing the first answer with that to the record alone.
        on_note: called with a sentence that the user must read.
    """

    def __init__(
        self,
        client: ModelClient,
        *,
        content_type: str | None,
        accept: str | None,
        timeout: float,
        retries: int,
        stop: threading.Event,
        coalescer: RequestCoalescer | None = None,
        trusted: bool = False,
        on_note: Callable[[str], None] = lambda sentence: None,
    ) -> None:
        self._client = client
        self._headers = {
            **({} if content_type is None else {"Content-Type": content_type}),
            **({} if accept is None else {"Accept": accept}),
        }
        self._timeout = timeout
        self._retries = retries
        self._stop = stop
        self._exclusive = threading.Lock()
        self._server_up = threading.Event()
        self._server_up.set()
        self._comparison = threading.Lock()
        self._trusted = trusted
        self._on_note = on_note
        self.coalescer = coalescer

    def invoke(self, make_body: Callable[[], Buffer | Iterator[Buffer]]) -> Reply:
        """Return the response of status 200 to a body, which is made anew for each attempt.

        Raises RecordRejectedError, RunStoppedError, ServerUnavailableError, and what ``make_body`` raises.
        """
        failed, unreached = 0, 0
        is_suspect = False
        while True:
            try:
                reply = self._send(make_body(), self._headers, alone=is_suspect)
            except ServerLostError as error:
                if error.received:
                    is_suspect = True
                    failed += 1
                else:
                    unreached += 1
                if unreached > _MAX_UNREACHED:
                    raise ServerUnavailableError(str(error)) from error
                reason = str(error)
            except ConnectError as error:
                failed += 1
                reason = str(error)
            else:
                if reply.status == _OK:
                    return reply
                failed += 1
                message = decode_error(reply.body)
                reason = f"the model answered {reply.status}{f': {message}' if message else ''}"
            if failed > self._retries:
                raise RecordRejectedError(f"{reason}{f' (sent {failed} times)' if failed > 1 else ''}")
            if self._stop.wait(_RETRY_DELAY * 2 ** max(0, failed - 1)):
                raise RunStoppedError(reason)

    def invoke_together(self, bodies: Sequence[Buffer]) -> list[Reply] | None:
        """Send several records as one request. Return None if they must be sent one by one.

        Raises ServerUnavailableError.
        """
        coalescer = self.coalescer
        if coalescer is None or len(bodies) < 2:
            return None
        body, content_type = coalescer.build_request(bodies)
        try:
            reply = self._send(body, {**self._headers, "Content-Type": content_type}, alone=False)
            if reply.status != _OK:
                return None
            split = coalescer.split_response(reply.body, reply.headers, len(bodies))
            replies = [Reply(_OK, headers, content) for content, headers in split]
            if self._trusted or self._is_equal_alone(replies[0], bodies[0]):
                return replies
        except (ConnectError, DecodeError, RecordRejectedError, RunStoppedError):
            pass  # sent one by one, each record gets its own error
        return None

    def _is_equal_alone(self, reply: Reply, body: Buffer) -> bool:
        """Return True if coalescing changes no answer: once in a job, one record is sent alone as well."""
        with self._comparison:
            if self._trusted or self.coalescer is None:
                return self._trusted
            if self.invoke(lambda: body).body == reply.body:
                self._trusted = True
            else:
                self.coalescer = None
                self._on_note(
                    "records are sent one by one: this model's numbers for a record depend on what else is in the batch"
                )
            return self._trusted

    def _send(self, body: Buffer | Iterator[Buffer], headers: Mapping[str, str], *, alone: bool) -> Reply:
        with self._exclusive if alone else contextlib.nullcontext():
            while not (self._server_up.wait(_STOP_PERIOD) or self._stop.is_set()):
                pass
            try:
                return self._client.invoke(body, headers, timeout=self._timeout)
            except ServerLostError:
                # The next request would reach what is left of the server and count that as its own failure.
                self._server_up.clear()
                try:
                    self._client.recover(self._stop)
                except TritonForgeError as lost:
                    raise ServerUnavailableError(str(lost)) from lost
                finally:
                    self._server_up.set()
                raise
