"""The model client of a transform job: it sends the engine's requests to a container of the host."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any, Final, cast

from tritonforge.emulator.control.fleet import RunningContainer
from tritonforge.emulator.hosting import ContainerGoneError
from tritonforge.errors import ConnectError
from tritonforge.records import Buffer
from tritonforge.transform.model_client import Reply, ServerLostError

__all__ = ["BatchModelClient"]

_OK: Final = 200
_SERVER_ERROR: Final = 500

#: Seconds between two requests of /ping, and for each. Source: developer guide, "Use Your Own Inference Code with Batch
#: Transform": a container must answer a ping within 2 seconds.
_PERIOD: Final = 0.1
_PING_TIMEOUT: Final = 2.0
_PARAMETERS_TIMEOUT: Final = 5.0

#: Seconds that a container may be away; the host starts it again by itself.
_PATIENCE: Final = 120.0


class BatchModelClient:
    """The model client of one job; for use by many threads.

    ``refused`` and ``broke`` state afterwards whether the container answered with a status of its client's fault (4xx),
    and whether it failed (5xx), ended or was too slow.
    """

    def __init__(self, container: RunningContainer, *, patience: float = _PATIENCE) -> None:
        self._container = container
        self._patience = patience
        self.refused = False
        self.broke = False

    def invoke(self, body: Buffer | Iterator[Buffer], headers: Mapping[str, str], *, timeout: float) -> Reply:
        """Send POST /invocations and return the container's response."""
        try:
            # urllib3 sends whatever has a buffer, and an iterator by chunked encoding; its types know bytes only.
            answer = self._container.invoke(cast("bytes", body), headers, timeout=timeout)
        except TimeoutError as error:
            self.broke = True
            raise ConnectError(str(error)) from error
        except ContainerGoneError as error:
            self.broke = True
            raise ServerLostError(str(error), received=error.in_flight) from error
        self.broke = self.broke or answer.status >= _SERVER_ERROR
        self.refused = self.refused or _OK != answer.status < _SERVER_ERROR
        return Reply(answer.status, answer.headers, answer.body)

    def fetch_parameters(self) -> Mapping[str, Any] | None:
        """Return the answer to GET /execution-parameters; None unless its status is 200."""
        try:
            answer = self._container.get("/execution-parameters", timeout=_PARAMETERS_TIMEOUT)
            parameters = json.loads(answer.body) if answer.status == _OK else None
        except (ContainerGoneError, TimeoutError, ValueError):
            return None
        return parameters if isinstance(parameters, dict) else None

    def recover(self, stop: threading.Event) -> None:
        """Wait until the host has started the container again."""
        deadline = time.monotonic() + self._patience
        while not self._is_healthy():
            if stop.wait(_PERIOD):
                return
            if time.monotonic() > deadline:
                raise ConnectError(f"the container ended, and did not come back within {self._patience:g} s")

    def _is_healthy(self) -> bool:
        try:
            return self._container.get("/ping", timeout=_PING_TIMEOUT).status == _OK
        except (ContainerGoneError, TimeoutError):
            return False
