"""A tritonserver on this machine for one job: started for it, restarted when it dies, stopped with it.

A model whose Python process dies counts as a death of the server: tritonserver would answer 500 for it from then on.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Final
from urllib.parse import quote

import urllib3

from tritonforge.errors import LaunchError, ModelChoiceError, TritonForgeError
from tritonforge.inference.client import Client
from tritonforge.records import Buffer
from tritonforge.serving import repository_overlay
from tritonforge.serving.server import Server
from tritonforge.transform.job import MAX_PAYLOAD_IN_MB, TransformJob
from tritonforge.transform.model_client import HttpModelClient, Reply, ServerLostError
from tritonforge.transform.request_coalescer import RequestCoalescer

__all__ = ["LocalServer", "choose_requests_in_flight", "identify_repository"]

_OK: Final = 200

#: How often the server may die without one answer in between.
_MAX_DEATHS: Final = 5

#: Seconds to wait until a server that does not answer has ended, and between two checks.
_PERIOD: Final = 0.05
_PATIENCE: Final = 60.0


def choose_requests_in_flight(job: TransformJob, cpus: float) -> TransformJob:
    """Return a job with its number of requests in flight; by default one runs on each CPU while the next is decoded."""
    if job.max_concurrent_transforms is not None:
        return job
    concurrent, payload = max(4, int(2 * cpus)), job.max_payload_in_mb
    return replace(
        job, max_concurrent_transforms=min(concurrent, MAX_PAYLOAD_IN_MB // payload) if payload else concurrent
    )


def identify_repository(repository: Path) -> str:
    """Return a text that changes when a repository's files do."""
    digest = hashlib.sha256()
    for path in sorted(repository.rglob("*")):
        status = path.stat()
        digest.update(f"{path.relative_to(repository)} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]


class LocalServer:
    """A `ModelClient` of a `Server` that it runs; a context manager.

    ``environment`` holds the variables that SageMaker sets in the container (`build_container_environment`),
    ``connections`` is the number of requests sent at once. ``on_restart`` is called with a sentence when the server is
    restarted. Raises LaunchError and MissingExtraError as `Server` does.
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
        on_restart: Callable[[str], None] = lambda sentence: None,
    ) -> None:
        self._repository = repository
        self._default_model = default_model
        self._environment = dict(environment or {})
        self._connections = connections
        self._log = log
        self._timeout = startup_timeout
        self._on_restart = on_restart
        self._lock = threading.Lock()
        self._deaths = 0
        self._check_default_model()
        self._server = self._start_server(on_progress)
        self._client = self._connect()

    def __enter__(self) -> LocalServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def server(self) -> Server:
        """The running server."""
        return self._server

    def invoke(self, body: Buffer | Iterator[Buffer], headers: Mapping[str, str], *, timeout: float) -> Reply:
        """Send POST /invocations and return the response."""
        server, sent = self._server, time.monotonic()
        reply = self._client.invoke(body, headers, timeout=timeout)
        if (death := server.find_death(reply.status, reply.body)) is not None:
            # A request that was sent after the model died did not cause it.
            raise ServerLostError("the model's process ended before it answered", received=sent < death.ended)
        self._deaths = 0
        return reply

    def fetch_parameters(self) -> Mapping[str, Any] | None:
        """Return None: Triton's front end has no execution parameters."""
        return self._client.fetch_parameters()

    def recover(self, stop: threading.Event) -> None:
        """Restart the server if it died. Raises LaunchError if it dies again and again, or does not answer."""
        with self._lock:
            waited = 0.0
            while self._server.returncode is None:
                if stop.is_set() or (self._server.death is None and self._client.ping()):
                    return
                if waited > _PATIENCE:
                    raise LaunchError(f"tritonserver does not answer and has not ended after {_PATIENCE:g} s")
                waited += _PERIOD
                stop.wait(_PERIOD)
            if stop.is_set():
                return
            self._deaths += 1
            if self._deaths > _MAX_DEATHS:
                raise LaunchError(
                    f"tritonserver ended {self._deaths} times without an answer in between, the last time because "
                    f"{self._describe_end()}. The end of its log:\n{self._server.log_tail(15)}"
                )
            self._on_restart(f"{self._describe_end()}; restarting it and sending its requests again")
            self._client.close()
            self._server.stop()
            self._server = self._start_server(lambda sentence: None)
            self._client = self._connect()

    def probe_coalescer(self) -> RequestCoalescer | None:
        """Return how the served model accepts several records at once, None if it does not."""
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
        max_batch = self._fetch_max_batch_size(model)
        if max_batch < 2:
            return None
        (tensor,) = inputs
        return RequestCoalescer(
            name=tensor.name, datatype=tensor.datatype, max_batch=max_batch, column=len(tensor.shape) != 1
        )

    def _fetch_max_batch_size(self, model: str) -> int:
        """Return max_batch_size of the model's configuration as the server reads it, 0 if it is missing."""
        response = urllib3.request("GET", f"{self._server.http_url}/v2/models/{quote(model, safe='')}/config")
        size = json.loads(response.data).get("max_batch_size", 0) if response.status == _OK else 0
        return size if isinstance(size, int) else 0

    def close(self) -> None:
        """Stop the server."""
        self._client.close()
        self._server.stop()

    def _check_default_model(self) -> None:
        """Reject a repository of several models without a default before it is loaded: requests name no model."""
        if Path(self._repository).is_dir() and self._default_model is None:
            configs = repository_overlay.read_configs(Path(self._repository))
            if not configs:
                raise ModelChoiceError(f"{self._repository}: no models found (expected a directory for each model)")
            if repository_overlay.choose_default_model(configs, None) is None:
                names = ", ".join(repository_overlay.list_default_candidates(configs))
                raise ModelChoiceError(f"{self._repository}: contains several models: {names}. Choose one with --model")

    def _start_server(self, on_progress: Callable[[str], None]) -> Server:
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

    def _connect(self) -> HttpModelClient:
        assert self._server.sagemaker_url is not None
        return HttpModelClient(self._server.sagemaker_url, connections=self._connections)

    def _describe_end(self) -> str:
        if self._server.death is not None:
            return f"{self._server.death.reason}, and tritonserver with it"
        code = self._server.returncode or 0
        return f"tritonserver ended ({f'signal {-code}' if code < 0 else f'exit status {code}'})"
