"""A real tritonserver on this machine for one job: started for it, started again when it dies, ended with it.

A model whose Python process dies counts as a death of the server: tritonserver would answer 500 for it from then on.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Any, Final
from urllib.parse import quote

import urllib3

from tritonforge.errors import LaunchError, TritonForgeError
from tritonforge.inference.client import Client
from tritonforge.records import Buffer
from tritonforge.serving import entry, repository_overlay
from tritonforge.serving.server import Server
from tritonforge.transform.asker import HttpAsker, Reply, ServerLostError
from tritonforge.transform.gathering import Gathering

__all__ = ["LocalServer"]

_OK: Final = 200

#: How often the server may die without one answer in between.
_MOST_DEATHS: Final = 5

#: Seconds for which a server that does not answer is watched, until it is known whether it died.
_PERIOD: Final = 0.05
_PATIENCE: Final = 60.0


class LocalServer:
    """An `Asker` over a `Server`; a context manager. ``told`` is given a sentence when the server is started again.

    ``environment`` are the variables that SageMaker sets in the container (`container_environment`), ``connections``
    how many requests go at once. Raises LaunchError and MissingExtraError as `Server` does.
    """

    def __init__(
        self,
        repository: Path | str,
        *,
        default_model: str | None = None,
        environment: Mapping[str, str] | None = None,
        connections: int = 8,
        log: Path | None = None,
        startup_timeout: float = 300.0,
        on_progress: Callable[[str], None] = lambda sentence: None,
        told: Callable[[str], None] = lambda sentence: None,
    ) -> None:
        self._repository = repository
        self._default_model = default_model
        self._environment = dict(environment or {})
        self._connections = connections
        self._log = log
        self._timeout = startup_timeout
        self._told = told
        self._lock = threading.Lock()
        self._deaths = 0
        self._check_default_model()
        self._server = self._started(on_progress)
        self._asker = self._connected()

    def __enter__(self) -> LocalServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def server(self) -> Server:
        """The server that runs now."""
        return self._server

    def ask(self, body: Buffer | Iterator[Buffer], headers: Mapping[str, str], *, timeout: float) -> Reply:
        """The answer to POST /invocations."""
        server, sent = self._server, time.monotonic()
        reply = self._asker.ask(body, headers, timeout=timeout)
        if (death := server.death_behind(reply.status, reply.body)) is not None:
            # What was sent after the model died cannot be why it did.
            raise ServerLostError("the model's process ended before it answered", received=sent < death.ended)
        self._deaths = 0
        return reply

    def execution_parameters(self) -> Mapping[str, Any] | None:
        """None: Triton's front end has none."""
        return self._asker.execution_parameters()

    def recover(self, stop: threading.Event) -> None:
        """Start the server again where it died; raises LaunchError where that is no use."""
        with self._lock:
            waited = 0.0
            while self._server.returncode is None:
                if stop.is_set() or (self._server.death is None and self._asker.ping()):
                    return
                if waited > _PATIENCE:
                    raise LaunchError(f"tritonserver gives no answer, and has not ended after {_PATIENCE:g} s")
                waited += _PERIOD
                stop.wait(_PERIOD)
            if stop.is_set():
                return
            self._deaths += 1
            if self._deaths > _MOST_DEATHS:
                raise LaunchError(
                    f"tritonserver ended {self._deaths} times without an answer in between, at last because "
                    f"{self._how()}; its last words:\n{self._server.log_tail(15)}"
                )
            self._told(f"{self._how()}; it is started again, and what it had in hand is sent again")
            self._asker.close()
            self._server.stop()
            self._server = self._started(lambda sentence: None)
            self._asker = self._connected()

    def gathering(self) -> Gathering | None:
        """How the served model takes several records at once; None where it does not."""
        model = self._server.default_model
        if self._server.http_url is None or model is None:
            return None
        try:
            with closing(Client(self._server.http_url, model=model, front_end="triton")) as client:
                inputs = client.metadata().inputs
        except TritonForgeError:
            return None
        if len(inputs) != 1 or inputs[0].datatype not in ("UINT8", "BYTES") or inputs[0].shape[:1] != (-1,):
            return None
        most = self._max_batch_size(model)
        if most < 2:
            return None
        (tensor,) = inputs
        return Gathering(name=tensor.name, datatype=tensor.datatype, max_batch=most, column=len(tensor.shape) != 1)

    def _max_batch_size(self, model: str) -> int:
        """What the model's configuration says, as the server reads it; 0 where it does not tell."""
        response = urllib3.request("GET", f"{self._server.http_url}/v2/models/{quote(model, safe='')}/config")
        found = json.loads(response.data).get("max_batch_size", 0) if response.status == _OK else 0
        return found if isinstance(found, int) else 0

    def close(self) -> None:
        """End the server."""
        self._asker.close()
        self._server.stop()

    def _check_default_model(self) -> None:
        """Refuse a repository of several models before it is loaded: each request goes to the default model."""
        if Path(self._repository).is_dir() and self._default_model is None:
            configs = repository_overlay.configs(Path(self._repository))
            if entry.choose(configs, None) is None:
                names = ", ".join(entry.candidates(configs))
                raise LaunchError(f"{self._repository} has several models: {names}; name one with --default-model")

    def _started(self, on_progress: Callable[[str], None]) -> Server:
        return Server(
            self._repository,
            default_model=self._default_model,
            sagemaker_port=0,
            http_port=0,
            grpc_port=None,
            metrics_port=None,
            log=self._log,
            unguessable=True,
            environment=self._environment,
            startup_timeout=self._timeout,
            on_progress=on_progress,
        )

    def _connected(self) -> HttpAsker:
        assert self._server.sagemaker_url is not None
        return HttpAsker(self._server.sagemaker_url, connections=self._connections)

    def _how(self) -> str:
        if self._server.death is not None:
            return f"{self._server.death.reason}, and tritonserver with it"
        code = self._server.returncode or 0
        return f"tritonserver ended ({f'signal {-code}' if code < 0 else f'exit status {code}'})"
