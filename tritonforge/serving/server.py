"""A real tritonserver on this machine, as a context manager.

The server is the one of the nvidia-pytriton wheel (`installation`), with tritonforge's backends beside its python
backend. It listens on loopback only, under the eye of a `supervisor` that ends it whatever becomes of this process.
"""

from __future__ import annotations

import http.client
import itertools
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Final

from tritonforge.errors import LaunchError
from tritonforge.schema import ModelConfig
from tritonforge.serving import entry, installation, ports, restrictions, serverlog, supervisor, view
from tritonforge.serving.serverlog import ModelStatus

__all__ = ["ModelStatus", "Server"]

#: Seconds that tritonserver gets between SIGTERM and SIGKILL, in-flight requests included.
GRACE: Final = 10.0

#: Seconds that tritonserver waits for requests in flight; a client's idle connection makes it wait this long too.
_EXIT_TIMEOUT: Final = 3

#: Bytes of the response cache, for models that ask for one.
_CACHE_SIZE: Final = 64 * 2**20

_count = itertools.count()


class Server:
    """A running tritonserver, ready when the constructor returns; leave the ``with`` block, or call `stop`, to end it.

    ``repository`` is a model repository as Triton reads it. ``default_model`` is what the SageMaker front end's
    ``/invocations`` asks: left out, it is the only model, or the only ensemble that is not a step of another. With
    ``default_model`` or ``models`` only these are loaded, and what ensembles among them need, as SageMaker's own
    ``serve`` script does (server/docker/sagemaker/serve); else every model is. A port of 0 is any free one, None turns
    that front end off; the host is always 127.0.0.1. ``log`` is written anew; without it the log lives as long as the
    server. With ``stand_in`` no model file is opened and every answer is zeros: for Triton's judgement alone (`judge`).
    Parts of Triton's own HTTP API are closed to web pages (`restrictions`); ``allow_client_shm`` opens shared memory.
    With ``unguessable`` the host is a random address of 127.0.0.0/8, which no page finds, for a server that only this
    process asks; only such a server, and one with ``multi_model``, loads models by request.
    ``arguments`` are further ones for tritonserver, ``environment`` further variables for it and for Python models.
    With ``multi_model`` nothing is loaded: the SageMaker front end is asked to, model by model (``POST /models``).
    ``startup_timeout`` is in seconds; ``cancelled``, once set, ends a start that is under way. ``on_progress`` is given
    short sentences while models load.

    Raises:
        MissingExtraError: nvidia-pytriton is not installed.
        LaunchError: no such repository, a port in use, a model that does not load (with Triton's own reason), a server
            that ended by itself (with the last lines of its log), or not ready in time.
    """

    def __init__(
        self,
        repository: Path | str,
        *,
        default_model: str | None = None,
        models: Sequence[str] | None = None,
        sagemaker_port: int | None = 8080,
        http_port: int | None = 8000,
        grpc_port: int | None = 8001,
        metrics_port: int | None = 8002,
        log: Path | str | None = None,
        stand_in: bool = False,
        multi_model: bool = False,
        allow_client_shm: bool = False,
        unguessable: bool = False,
        arguments: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        startup_timeout: float = 300.0,
        cancelled: threading.Event | None = None,
        on_progress: Callable[[str], None] = lambda sentence: None,
    ) -> None:
        repository = Path(repository).absolute()
        if not repository.is_dir():
            raise LaunchError(f"{repository} is not a directory; give the folder that holds the models' folders")
        found = installation.find()
        configs = view.configs(repository)
        everything = default_model is None and models is None and not multi_model
        loaded = None if everything else {*(models or ()), default_model} - {None}
        served = configs if loaded is None else entry.with_steps(configs, sorted(str(each) for each in loaded))
        self.repository = repository
        entryless = sagemaker_port is None or multi_model
        self.default_model = None if entryless else entry.choose(served, default_model)
        self._stopped = False
        self._ended = threading.Event()
        self._returncode: int | None = None
        self._last_log = ""
        self._prefix = f"{_prefix()}{os.getpid()}_{next(_count)}_"
        self._folder = Path(tempfile.mkdtemp(prefix=self._prefix))
        self._log = self._folder / "server.log" if log is None else Path(log).absolute()
        self._supervisor: subprocess.Popen[bytes] | None = None
        self._pid: int | None = None
        self._address = ports.unguessable_address() if unguessable else ports.HOST
        self._allow_client_shm = allow_client_shm
        wanted = {"sagemaker": sagemaker_port, "http": http_port, "grpc": grpc_port, "metrics": metrics_port}
        try:
            _create(self._log)
            self._explicit = loaded is not None and (unguessable or multi_model)
            self._view, self.warnings = self._viewed(served, only=None if self._explicit or loaded is None else served)
            with ports.held(wanted, address=self._address) as self._ports:
                backends = installation.prepare(found, self._folder, stand_in=stand_in, address=self._address)
                surroundings = installation.environment(found, self._folder, os.environ, added=environment or {})
                if self.default_model is not None:
                    surroundings["SAGEMAKER_TRITON_DEFAULT_MODEL_NAME"] = self.default_model
                if multi_model:
                    surroundings["SAGEMAKER_MULTI_MODEL"] = "true"
                named = sorted(served.keys() & (loaded or set())) if self._explicit else None
                command = self._arguments(found, backends, served, named)
                self._launch([str(found.program), *command, *arguments], surroundings)
                self._wait_until_ready(startup_timeout, on_progress, cancelled or threading.Event())
        except BaseException:
            self.stop()
            raise

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def sagemaker_url(self) -> str | None:
        """Address of the SageMaker front end, with ``/invocations`` and ``/ping``; None when it is off."""
        return self._url("sagemaker")

    @property
    def http_url(self) -> str | None:
        """Address of Triton's own HTTP API; None when it is off."""
        return self._url("http")

    @property
    def grpc_url(self) -> str | None:
        """Address of Triton's gRPC API, as ``grpc://host:port``; None when it is off."""
        return self._url("grpc", scheme="grpc")

    @property
    def metrics_url(self) -> str | None:
        """Address of the Prometheus metrics; None when they are off."""
        url = self._url("metrics")
        return None if url is None else url + "/metrics"

    @property
    def pid(self) -> int | None:
        """The process id of tritonserver; None before it started."""
        return self._pid

    @property
    def returncode(self) -> int | None:
        """How tritonserver ended: its exit status, or minus a signal's number; None while it runs."""
        return self._returncode

    def models(self) -> tuple[ModelStatus, ...]:
        """The model table, asked of the server; as it was at the start where its HTTP API does not tell."""
        port = self._ports["http"]
        if port is None or self._explicit:
            return tuple(serverlog.models(self._read_log()))
        status, body = self._ask("POST", port, "/v2/repository/index")
        if status != http.client.OK:
            raise LaunchError(f"tritonserver did not give its models: {body.decode(errors='replace')}")
        return tuple(
            ModelStatus(row["name"], row.get("version", ""), row["state"], row.get("reason", ""))
            for row in json.loads(body)
            if row.get("state")  # a model that was not asked for has a name only
        )

    def wait(self) -> int:
        """Wait until the server has ended; gives its exit status after `stop`, raises LaunchError when it died."""
        while not self._ended.wait(1.0):
            pass
        if not self._stopped:
            raise self._died()
        return self._returncode or 0

    def log_tail(self, lines: int = 40) -> str:
        """The last lines of the server's log, also after it was stopped."""
        return serverlog.tail(self._read_log(), lines)

    def stop(self) -> None:
        """End the server: no process, no shared memory and no temporary folder is left when this returns."""
        if self._stopped:
            return
        self._stopped = True
        process = self._supervisor
        if process is not None:
            _say(process, b"stop\n")
            self._ended.wait(GRACE + 5)
        self._last_log = self._read_log()
        if process is not None:
            if process.stdin is not None:
                process.stdin.close()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()  # the kernel kills tritonserver with it
                process.wait()
            self._ended.wait(5)
        supervisor.remove_shared_memory(self._prefix)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _viewed(
        self, served: Mapping[str, ModelConfig], *, only: Collection[str] | None
    ) -> tuple[Path, tuple[str, ...]]:
        """The repository that tritonserver is given, and what to tell the user about it.

        ``only`` are the models that it has; None for all of the repository.
        """
        for name in served:
            if not view.is_plain(name):
                raise LaunchError(
                    f"the model directory {name!r} has a character in its name that Triton's python backend cannot "
                    "take (a blank, say); rename it"
                )
        moved = {name: config for name, config in served.items() if view.uses_gpu(config)}
        link = self._folder / "repository"
        if not moved or view.has_gpu():
            if only is None:
                return view.plain(self.repository, link), ()
            return view.on_cpu(self.repository, link, {}, only=only), ()
        names = ", ".join(sorted(moved))
        warning = f"this machine has no GPU: instances of {names} that ask for one are served on the CPU"
        return view.on_cpu(self.repository, link, moved, only=only), (warning,)

    def _arguments(
        self,
        found: installation.Installation,
        backends: Path,
        served: Mapping[str, ModelConfig],
        loaded: Sequence[str] | None,
    ) -> list[str]:
        arguments = [
            f"--model-repository={self._view}",
            f"--backend-directory={backends}",
            f"--cache-directory={found.caches}",
            f"--backend-config=python,shm-region-prefix-name={self._prefix}",
            f"--exit-timeout-secs={_EXIT_TIMEOUT}",
            "--allow-gpu-metrics=false",
        ]
        for name, port in self._ports.items():
            arguments.append(f"--allow-{name}={str(port is not None).lower()}")
            if port is not None:
                arguments.append(f"--{name}-port={port}")
                if name != "sagemaker":  # which has no address: `loopback` gives it one
                    arguments.append(f"--{name}-address={self._address}")
        if self._ports["http"] is not None:
            arguments += restrictions.arguments(
                secrets.token_hex(16), explicit=loaded is not None, allow_client_shm=self._allow_client_shm
            )
        if any(view.uses_cache(config) for config in served.values()):
            arguments.append(f"--cache-config=local,size={_CACHE_SIZE}")
        if loaded is not None:
            arguments.append("--model-control-mode=explicit")
            arguments += [f"--load-model={name}" for name in loaded]
        return arguments

    def _launch(self, command: list[str], environment: dict[str, str]) -> None:
        supervisor.remove_leftovers(_prefix(), Path(tempfile.gettempdir()))
        job: supervisor.Job = {
            "command": command,
            "environment": environment,
            "working_directory": str(self._folder / installation.WORKING_DIRECTORY),
            "log": str(self._log),
            "folder": str(self._folder),
            "shared_memory_prefix": self._prefix,
            "grace": GRACE,
        }
        # -S and -I: the supervisor needs the standard library only, and nothing of this environment.
        process = subprocess.Popen(  # noqa: S603 - this Python, with a file of this package
            [sys.executable, "-S", "-I", supervisor.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C in a terminal reaches this process alone, which then says stop
        )
        self._supervisor = process
        _say(process, json.dumps(job).encode() + b"\n")
        assert process.stdout is not None
        started = threading.Event()
        threading.Thread(target=self._listen, args=(process.stdout, started), daemon=True).start()
        started.wait(30)

    def _listen(self, messages: IO[bytes], started: threading.Event) -> None:
        """Take the supervisor's messages until it ends; run by a thread of its own."""
        with messages:
            for line in messages:
                message = json.loads(line)
                if "pid" in message:
                    self._pid = message["pid"]
                    started.set()
                else:
                    self._returncode = message["returncode"]
                    self._ended.set()
        if self._returncode is None:
            self._returncode = -signal.SIGKILL  # the supervisor was killed, and tritonserver with it
        started.set()
        self._ended.set()

    def _wait_until_ready(self, timeout: float, on_progress: Callable[[str], None], cancelled: threading.Event) -> None:
        deadline = time.monotonic() + timeout
        opened = [port for port in self._ports.values() if port is not None]
        with self._log.open(encoding="utf-8", errors="replace") as log:
            while True:
                for line in log:
                    if sentence := serverlog.progress(line):
                        on_progress(sentence)
                if self._ended.wait(0.02):
                    raise self._died()
                if all(ports.is_open(port, address=self._address) for port in opened) and self._is_ready():
                    return
                if cancelled.is_set():
                    raise LaunchError("the start was called off")
                if time.monotonic() > deadline:
                    raise LaunchError(
                        f"tritonserver was not ready after {timeout:g} s; its last words:\n{self.log_tail(15)}"
                    )

    def _is_ready(self) -> bool:
        for name, path in (("http", "/v2/health/ready"), ("sagemaker", "/ping")):
            port = self._ports[name]
            if port is not None:
                return self._ask("GET", port, path)[0] == http.client.OK
        return True  # with neither, tritonserver opens its other ports after the models are loaded

    def _died(self) -> LaunchError:
        """Why the server ended, in the words of its log."""
        log = self._read_log().replace(str(self._view), str(self.repository))
        port = serverlog.port_in_use(log)
        for name, each in self._ports.items():
            if port is not None and each == port:
                return ports.in_use(name, port)
        if found := serverlog.reasons(log):
            return LaunchError("\n".join(dict.fromkeys(found)))
        code = self._returncode or 0
        how = f"by signal {signal.Signals(-code).name}" if code < 0 else f"with exit status {code}"
        return LaunchError(f"tritonserver ended {how}; its last words:\n{serverlog.tail(log, 15)}")

    def _url(self, name: str, *, scheme: str = "http") -> str | None:
        port = self._ports[name]
        return None if port is None else f"{scheme}://{self._address}:{port}"

    def _ask(self, method: str, port: int, path: str) -> tuple[int, bytes]:
        """One request to a front end of the server: status and body; status 0 when there was no answer."""
        connection = http.client.HTTPConnection(self._address, port, timeout=10)
        try:
            connection.request(method, path)
            response = connection.getresponse()
            return response.status, response.read()
        except (OSError, http.client.HTTPException):
            return 0, b"no answer"
        finally:
            connection.close()

    def _read_log(self) -> str:
        try:
            return self._log.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return self._last_log


def _create(log: Path) -> None:
    """Make the log, empty."""
    try:
        log.write_bytes(b"")
    except OSError as error:
        raise LaunchError(f"{log}: the log cannot be written: {error.strerror}") from error


def _prefix() -> str:
    """The start of the names of temporary things; process ids are told apart by their namespace."""
    return f"tritonforge_{Path('/proc/self/ns/pid').stat().st_ino}_"


def _say(process: subprocess.Popen[bytes], message: bytes) -> None:
    assert process.stdin is not None
    try:
        process.stdin.write(message)
        process.stdin.flush()
    except OSError:  # the supervisor is gone; `_listen` notices
        pass
