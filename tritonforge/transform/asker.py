"""Askers: what carries a body to the model and its answer back. `HttpAsker` speaks to a container's /invocations.

Triton's SageMaker front end, the TensorFlow Serving container and everything else that SageMaker hosts answer alike.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol, cast

import urllib3
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError, ReadTimeoutError

from tritonforge.errors import ConnectError
from tritonforge.records import Buffer

__all__ = ["Asker", "HttpAsker", "Reply", "ServerLostError"]

_OK: Final = 200

#: Seconds between two looks at /ping, and for each. Source: developer guide, "How Containers Serve Requests": 2 s.
_PERIOD: Final = 0.1
_PING_TIMEOUT: Final = 2.0
_CONNECT_TIMEOUT: Final = 5.0


class ServerLostError(ConnectError):
    """The model's server is not there, or ended before it answered.

    ``received`` says whether it may have begun to work on the request.
    """

    def __init__(self, message: str, *, received: bool) -> None:
        super().__init__(message)
        self.received = received


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer, whatever its status; the names of the headers are in small letters."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Asker(Protocol):
    """What a job needs of the model's server; for use by many threads."""

    def ask(self, body: Buffer | Iterator[Buffer], headers: Mapping[str, str], *, timeout: float) -> Reply:
        """The answer to POST /invocations, sent once; an iterator goes by HTTP's chunked encoding.

        Raises ServerLostError if the server is not there or ended, ConnectError if no answer came in time (seconds).
        """
        ...

    def execution_parameters(self) -> Mapping[str, Any] | None:
        """The JSON of GET /execution-parameters; None where the server has none."""
        ...

    def recover(self, stop: threading.Event) -> None:
        """Called after a ServerLostError: wait until the server answers again; restart it where it is the job's own.

        Returns at once where it answers already, and when ``stop`` is set. Raises TritonForgeError where it will not
        come back; that ends the job.
        """
        ...


class HttpAsker:
    """A server at an address that somebody else keeps running; ``patience`` is how long it may be away, in seconds."""

    def __init__(self, url: str, *, connections: int = 64, patience: float = 120.0) -> None:
        parsed = urllib3.util.parse_url(url)
        self.url = url.rstrip("/")
        self.patience = patience
        self._path = (parsed.path or "").rstrip("/")
        self._pool = urllib3.connectionpool.connection_from_url(
            f"{parsed.scheme}://{parsed.netloc}", maxsize=connections, block=False
        )

    def ask(self, body: Buffer | Iterator[Buffer], headers: Mapping[str, str], *, timeout: float) -> Reply:
        """The answer to POST /invocations."""
        sized = dict(headers)
        chunked = not isinstance(body, (bytes, bytearray, memoryview))
        if not chunked:
            sized["Content-Length"] = str(len(cast("bytes", body)))
        return self._reply("POST", "/invocations", body, sized, chunked=chunked, timeout=timeout)

    def execution_parameters(self) -> Mapping[str, Any] | None:
        """What GET /execution-parameters says with status 200; None else."""
        reply = self._reply("GET", "/execution-parameters", None, {}, timeout=_CONNECT_TIMEOUT)
        if reply.status != _OK:
            return None
        try:
            parameters = json.loads(reply.body)
        except ValueError:
            return None
        return parameters if isinstance(parameters, dict) else None

    def ping(self) -> bool:
        """Whether GET /ping says 200."""
        try:
            return self._reply("GET", "/ping", None, {}, timeout=_PING_TIMEOUT).status == _OK
        except ConnectError:
            return False

    def recover(self, stop: threading.Event) -> None:
        """Wait until the server answers /ping."""
        deadline = time.monotonic() + self.patience
        while not self.ping():
            if stop.wait(_PERIOD):
                return
            if time.monotonic() > deadline:
                raise ConnectError(f"{self.url}: the server ended, and did not come back within {self.patience:g} s")

    def close(self) -> None:
        """Close the pooled connections."""
        self._pool.close()

    def _reply(
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
            # retries=False: whether a request is sent again is for the job to decide.
            response = self._pool.urlopen(
                method,
                self._path + path,
                # http.client sends whatever has a buffer; urllib3's types know bytes only.
                body=cast("bytes", body),
                headers=headers,
                chunked=chunked,
                retries=False,
                redirect=False,
                timeout=urllib3.Timeout(connect=_CONNECT_TIMEOUT, read=timeout),
            )
        except ReadTimeoutError as error:
            raise ConnectError(f"no answer came within {timeout:g} s") from error
        except (ConnectTimeoutError, NewConnectionError) as error:
            raise ServerLostError(f"no server answers at {self.url}", received=False) from error
        except (HTTPError, OSError) as error:
            raise ServerLostError("the model's server ended before it answered", received=True) from error
        return Reply(response.status, {name.lower(): value for name, value in response.headers.items()}, response.data)
