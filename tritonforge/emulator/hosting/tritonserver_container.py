"""A container: a real tritonserver with a container's environment, its log followed, started again when it dies.

A model whose Python process dies ends the server too (`Server.death`), so it is started again with all its models.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, Protocol

import urllib3
from urllib3.exceptions import ClosedPoolError, HTTPError, NewConnectionError, ReadTimeoutError

from tritonforge.emulator.hosting.container_definitions import ContainerGoneError
from tritonforge.emulator.hosting.container_images import ScriptOutcome
from tritonforge.emulator.interfaces import ContainerResponse
from tritonforge.errors import LaunchError
from tritonforge.serving.server import Server

__all__ = ["Container", "RunningServer"]

#: Connections that are kept open to a container; more requests at once open further ones for themselves.
_CONNECTIONS: Final = 64

#: Seconds between two looks at the log, and the longest pause before a container is started once more.
_LOG_PERIOD: Final = 0.2
_MAX_PAUSE: Final = 30.0

#: Arguments of the script that are the local server's own business: ports, front ends, where the models lie, which of
#: them are loaded. The script's default of verbose logging, several lines a request, is not taken over either.
_LOCAL_ARGUMENTS: Final = (
    "--allow-",
    "--grpc-port",
    "--http-port",
    "--load-model",
    "--metrics-port",
    "--model-control-mode",
    "--model-repository",
    "--sagemaker-port",
    "--sagemaker-safe-port-range",
)
_VERBOSE: Final = "--log-verbose=true"


#: The script of an image that has none.
_NO_SCRIPT: Final = ScriptOutcome(())


class RunningServer(Protocol):
    """A server that runs: `tritonforge.serving.server.Server`, or `tritonforge.serving.tfs.server.TfsServer`."""

    @property
    def pid(self) -> int | None:
        """Its process id."""
        ...

    def wait(self) -> int:
        """Wait until it has ended; raises LaunchError when it ended by itself."""
        ...

    def stop(self) -> None:
        """End it."""
        ...


class Container:
    """One container. ``start`` blocks until it answers /ping; afterwards requests may come from any thread.

    ``restarted`` is called, from a thread of the container, after it died and was started again.
    """

    def __init__(
        self,
        repository: Path,
        folder: Path,
        *,
        outcome: ScriptOutcome = _NO_SCRIPT,
        environment: Mapping[str, str],
        log: Callable[[str], None],
        startup_timeout: float,
    ) -> None:
        self._repository = repository
        self._folder = folder
        self._outcome = outcome
        self._environment = {**environment, **outcome.exports}
        self._lines = log
        self._timeout = startup_timeout
        self.restarted: Callable[[], None] = lambda: None
        self._stopping = threading.Event()
        self._server: RunningServer | None = None
        self._pool: urllib3.HTTPConnectionPool | None = None
        self._starts = 0
        self._watcher: threading.Thread | None = None

    @property
    def pid(self) -> int | None:
        """The process id of tritonserver; None while it does not run."""
        return None if self._server is None else self._server.pid

    @property
    def url(self) -> str | None:
        """The address of the container's front end; None while it does not listen."""
        return None if self._pool is None else f"http://{self._pool.host}:{self._pool.port}"

    def to_container_paths(self, text: str) -> str:
        """Replace the path of the model folder in a text of Triton's by the one that it has in a container."""
        return text.replace(f"{self._repository}::", "").replace(str(self._repository), "/opt/ml/model")

    def start(self, cancelled: threading.Event | None = None) -> None:
        """Start tritonserver, and watch over it; raises LaunchError with Triton's own reason."""
        server, follower = self._launch(cancelled or self._stopping)
        self._watcher = threading.Thread(target=self._watch, args=(server, follower), daemon=True, name="container")
        self._watcher.start()

    def request(
        self, method: str, path: str, body: bytes, headers: Mapping[str, str], *, timeout: float
    ) -> ContainerResponse:
        """Send a request to the container and return its response, whatever the status.

        Raises:
            ContainerGoneError: it is not there, or ended before it answered.
            TimeoutError: there was no answer within ``timeout`` seconds.
        """
        pool, server, sent = self._pool, self._server, time.monotonic()
        if pool is None:
            raise ContainerGoneError("the container is being started again")
        try:
            # retries=False: the model may have seen a request whose answer was lost, so it is not sent twice.
            response = pool.urlopen(
                method,
                path,
                body=body,
                headers=headers,
                retries=False,
                redirect=False,
                timeout=urllib3.Timeout(connect=5.0, read=timeout),
            )
        except ReadTimeoutError as error:
            raise TimeoutError(f"no answer within {timeout:g} s") from error
        except (NewConnectionError, ClosedPoolError) as error:
            raise ContainerGoneError("the container does not listen") from error
        except (HTTPError, OSError) as error:
            raise ContainerGoneError("the container ended before it answered", in_flight=True) from error
        death = server.find_death(response.status, response.data) if isinstance(server, Server) else None
        if death is not None:
            in_flight = sent < death.ended
            raise ContainerGoneError(f"the container is being started again: {death.reason}", in_flight=in_flight)
        return ContainerResponse(
            response.status, {name.lower(): value for name, value in response.headers.items()}, response.data
        )

    def stop(self) -> None:
        """End the container; may be called twice."""
        self._stopping.set()
        self._close_connections()
        if self._server is not None:
            self._server.stop()
        if self._watcher is not None and self._watcher is not threading.current_thread():
            self._watcher.join(30)

    def launch(self, log: Path, cancelled: threading.Event) -> tuple[RunningServer, str]:
        """Start a server that logs to a file; return it and its address. Raises LaunchError."""
        loaded = [
            argument.partition("=")[2] for argument in self._outcome.arguments if argument.startswith("--load-model=")
        ]
        given = bool(self._environment.get("SAGEMAKER_TRITON_LOG_VERBOSE"))
        server = Server(
            self._repository,
            default_model=self._outcome.default_model,
            models=None if self._outcome.multi_model else loaded,
            multi_model=self._outcome.multi_model,
            sagemaker_port=0,
            http_port=None,
            grpc_port=None,
            metrics_port=None,
            log=log,
            unguessable=True,
            arguments=_select_arguments(self._outcome.arguments, verbose=given),
            environment=self._environment,
            startup_timeout=self._timeout,
            cancelled=cancelled,
        )
        return server, str(server.sagemaker_url)

    def _log(self, line: str) -> None:
        self._lines(self.to_container_paths(line))

    def _close_connections(self) -> None:
        """Close the connections: tritonserver waits seconds for those that are idle."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.close()

    def _launch(self, cancelled: threading.Event) -> tuple[RunningServer, _Follower]:
        self._starts += 1
        path = self._folder / f"container-{self._starts}.log"
        follower = _Follower(path, self._log)
        try:
            server, address = self.launch(path, cancelled)
        except BaseException:
            follower.end()
            raise
        url = urllib3.util.parse_url(address)
        self._pool = urllib3.HTTPConnectionPool(str(url.host), url.port, maxsize=_CONNECTIONS)
        self._server = server
        if self._stopping.is_set():  # stopped while it started
            server.stop()
        return server, follower

    def _watch(self, server: RunningServer, follower: _Follower) -> None:
        """Start the container again whenever it ends by itself, as SageMaker does; run by a thread of its own."""
        pause = 1.0
        while True:
            began = time.monotonic()
            try:
                server.wait()
            except LaunchError as error:
                self._log(f"The container ended: {error}")
            self._close_connections()
            server.stop()
            follower.end()
            if time.monotonic() - began > _MAX_PAUSE * 2:
                pause = 1.0
            while not self._stopping.wait(pause):
                pause = min(pause * 2, _MAX_PAUSE)
                try:
                    server, follower = self._launch(self._stopping)
                except LaunchError as error:
                    self._log(f"The container was not started again: {error}")
                else:
                    self.restarted()
                    break
            if self._stopping.is_set():
                return


class _Follower:
    """Passes on the lines of a growing log, from a thread of its own."""

    def __init__(self, path: Path, log: Callable[[str], None]) -> None:
        self._path = path
        self._log = log
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="container-log")
        self._thread.start()

    def end(self) -> None:
        """Pass on the remaining lines, and stop."""
        self._ended.set()
        self._thread.join(10)

    def _run(self) -> None:
        position, rest = 0, b""
        while True:
            last = self._ended.wait(_LOG_PERIOD)
            try:
                with self._path.open("rb") as file:
                    file.seek(position)
                    piece = file.read()
            except OSError:
                piece = b""  # not there yet
            position += len(piece)
            *lines, rest = (rest + piece).split(b"\n")
            for line in [*lines, rest] if last and rest else lines:
                self._log(line.decode("utf-8", "replace"))
            if last:
                return


def _select_arguments(arguments: Sequence[str], *, verbose: bool) -> list[str]:
    return [
        argument
        for argument in arguments
        if not argument.startswith(_LOCAL_ARGUMENTS) and (verbose or argument != _VERBOSE)
    ]
