"""A real tritonserver on this machine, as a context manager.

The server is the one of the nvidia-pytriton wheel (`installation`), with tritonforge's backends beside its python
backend. It listens on loopback only, under the eye of a `supervisor` that ends it whatever becomes of this process.
"""

from __future__ import annotations

import http.client
import json
import os
import secrets
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final

from tritonforge.errors import LaunchError
from tritonforge.serving import entry, installation, ports, repository_overlay, restrictions, serverlog, shell_safety
from tritonforge.serving import stand_in as stand_ins
from tritonforge.serving.model_death import ModelDeath, death_of, is_unhealthy, load_failures
from tritonforge.serving.server_process import ChildExit, Supervised
from tritonforge.serving.serverlog import ModelStatus
from tritonforge.triton.schema import ModelConfig

__all__ = ["ModelStatus", "Server"]

#: Seconds that tritonserver waits for requests in flight; a client's idle connection makes it wait this long too.
_EXIT_TIMEOUT: Final = 3

#: Bytes of the response cache, for models that ask for one.
_CACHE_SIZE: Final = 64 * 2**20

#: Seconds that tritonserver gets, after a stub died while it was loaded, to say what is wrong with the other models.
_PATIENCE: Final = 1.5

#: Seconds after which a stub that died is not waited for by tritonserver any more, also on a busy machine.
_UNNOTICED: Final = 0.7

#: Seconds within which it is noticed here that a stub died.
_NOTICED: Final = 5.0


class Server:
    """A running tritonserver, ready when the constructor returns; leave the ``with`` block, or call `stop`, to end it.

    ``repository`` is a model repository as Triton reads it. ``default_model`` is what the SageMaker front end's
    ``/invocations`` asks: left out, it is the only model, or the only ensemble that is not a step of another; where
    there are several it is None, and ``/invocations`` answers with their names (`candidates`). With
    ``default_model`` or ``models`` only these are loaded, and what ensembles among them need, as SageMaker's own
    ``serve`` script does (server/docker/sagemaker/serve); else every model is. A port of 0 is any free one, None turns
    that front end off; the host is always 127.0.0.1. ``log`` is written anew; without it the log lives as long as the
    server; with ``keep_log`` it is appended to. A model whose Python process dies ends the server: `wait` raises with
    the reason, and `death` has it. With ``stand_in`` every model is one that opens no file, for Triton's verdict alone
    (`judge`); it names further backends to stand in for, and ``repository`` is a copy.
    Parts of Triton's own HTTP API are closed to web pages (`restrictions`); ``allow_client_shm`` opens shared memory.
    With ``unguessable`` the host is a random address of 127.0.0.0/8, which no page finds, for a server that only this
    process asks; only such a server, and one with ``multi_model``, loads models by request.
    ``arguments`` are further ones for tritonserver, ``environment`` further variables for it and for Python models.
    With ``multi_model`` nothing is loaded: the SageMaker front end is asked to, model by model (``POST /models``).
    ``startup_timeout`` is in seconds; ``cancelled``, once set, ends a start that is under way. ``on_progress`` is given
    short sentences while models load.

    Raises:
        MissingExtraError: nvidia-pytriton is not installed.
        LaunchError: no such repository, a name in it that must not reach a shell, a port in use, a model that does not
            load (with Triton's own reason), a server that ended by itself (with the last lines of its log), or not
            ready in time.
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
        keep_log: bool = False,
        stand_in: Collection[str] | None = None,
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
        configs = repository_overlay.configs(repository)
        if not configs and not multi_model:
            raise LaunchError(f"{repository} has no model; expected {repository}/<model>/config.pbtxt")
        everything = default_model is None and models is None and not multi_model
        loaded = None if everything else {*(models or ()), default_model} - {None}
        served = configs if loaded is None else entry.with_steps(configs, sorted(str(each) for each in loaded))
        self.repository = repository
        entryless = sagemaker_port is None or multi_model
        self.default_model = None if entryless else entry.choose(served, default_model)
        #: The models that ``/invocations`` may be meant for, where there is no default model.
        self.candidates = () if entryless or self.default_model is not None else entry.candidates(served)
        if stand_in is None and (problems := shell_safety.problems(repository, served)):
            raise LaunchError("\n".join(problems))
        self.warnings: tuple[str, ...] = ()
        self._death: ModelDeath | None = None
        self._exit: ChildExit | None = None
        self._ready = False
        self._address = ports.unguessable_address() if unguessable else ports.HOST
        self._allow_client_shm = allow_client_shm
        self._explicit = loaded is not None and (unguessable or multi_model)
        self._process = Supervised(
            log=None if log is None else Path(log), keep_log=keep_log, on_child_exit=self._note_exit
        )
        wanted = {"sagemaker": sagemaker_port, "http": http_port, "grpc": grpc_port, "metrics": metrics_port}
        folder = self._process.folder
        try:
            self._view = self._viewed(served, only=None if self._explicit or loaded is None else served)
            with ports.held(wanted, address=self._address) as self._ports:
                if stand_in is None:
                    backends = installation.prepare(found, folder, address=self._address)
                else:
                    prefix = self._process.prefix
                    backends = stand_ins.prepare(found, folder, prefix=prefix, backends=stand_in)
                surroundings = installation.environment(found, folder, os.environ, added=environment or {})
                if self.default_model is not None or self.candidates:
                    named_default = self.default_model or entry.no_default_model(self.candidates)
                    surroundings["SAGEMAKER_TRITON_DEFAULT_MODEL_NAME"] = named_default
                if multi_model:
                    surroundings["SAGEMAKER_MULTI_MODEL"] = "true"
                named = sorted(served.keys() & (loaded or set())) if self._explicit else None
                command = [str(found.program), *self._arguments(found, backends, served, named), *arguments]
                if stand_in is not None:
                    command = stand_ins.command(
                        command,
                        found,
                        libraries=surroundings["LD_LIBRARY_PATH"],
                        folder=folder,
                        copy=self.repository,
                        log=self._process.log,
                    )
                self._process.launch(command, surroundings)
                self._wait_until_ready(startup_timeout, on_progress, cancelled or threading.Event())
        except OSError as error:
            self.stop()
            raise LaunchError(
                f"{folder.parent}: the files of the server cannot be written there: {error.strerror or error}. Free "
                "space there, or set TMPDIR to another directory."
            ) from error
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
    def ports(self) -> Mapping[str, int | None]:
        """The port of each front end, None where it is off: ``sagemaker``, ``http``, ``grpc``, ``metrics``."""
        return dict(self._ports)

    @property
    def pid(self) -> int | None:
        """The process id of tritonserver; None before it started."""
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """How tritonserver ended: its exit status, or minus a signal's number; None while it runs."""
        return self._process.returncode

    @property
    def death(self) -> ModelDeath | None:
        """The model that ended this server; None while all are alive."""
        return self._death

    def death_behind(self, status: int, body: bytes) -> ModelDeath | None:
        """The death that explains an answer of this server, None for an answer of its models.

        An answer that a stub is not healthy comes before the death is noticed, so that is waited for.
        """
        deadline = time.monotonic() + _NOTICED
        while status != http.client.OK and self._death is None:
            if not is_unhealthy(body.decode(errors="replace")) or time.monotonic() > deadline:
                return None
            time.sleep(0.05)
        return None if status == http.client.OK else self._death

    def models(self) -> tuple[ModelStatus, ...]:
        """The model table, asked of the server; as it was at the start where its HTTP API does not tell."""
        port = self._ports["http"]
        if port is None or self._explicit:
            return tuple(serverlog.models(self._process.read_log()))
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
        while not self._process.ended.wait(1.0):
            pass
        if not self._process.stopped:
            raise self._died()
        return self._process.returncode or 0

    def log_tail(self, lines: int = 40) -> str:
        """The last lines of the server's log, also after it was stopped."""
        return self._process.log_tail(lines)

    def stop(self) -> None:
        """End the server: no process, no shared memory and no temporary folder is left when this returns."""
        self._process.stop()

    def _viewed(self, served: Mapping[str, ModelConfig], *, only: Collection[str] | None) -> Path:
        """The repository that tritonserver is given: of the models ``only`` these, None for all."""
        folder = self._process.folder / "repository"
        moved = sorted(name for name, config in served.items() if repository_overlay.uses_gpu(config))
        to_cpu = bool(moved) and not repository_overlay.has_gpu()
        if to_cpu:
            names = ", ".join(moved)
            self.warnings = (f"this machine has no GPU: instances of {names} that ask for one are served on the CPU",)
        texts = repository_overlay.rewritten(self.repository, served, to_cpu=to_cpu)
        if texts or only is not None:
            return repository_overlay.overlay(self.repository, folder, texts, only=only)
        return repository_overlay.plain(self.repository, folder)

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
            # None is there: a path through a folder that is missing leads nowhere, whatever an agent's name is.
            f"--repoagent-directory={backends / 'missing' / 'repoagents'}",
            f"--cache-directory={found.caches}",
            f"--backend-config=python,shm-region-prefix-name={self._process.prefix}",
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
        if any(repository_overlay.uses_cache(config) for config in served.values()):
            arguments.append(f"--cache-config=local,size={_CACHE_SIZE}")
        if loaded is not None:
            arguments.append("--model-control-mode=explicit")
            arguments += [f"--load-model={name}" for name in loaded]
        return arguments

    def _note_exit(self, child: ChildExit) -> None:
        """A stub died: keep it for the start that waits, or end the server, which would not recover."""
        if not self._ready:
            self._exit = self._exit or child
            return
        time.sleep(_UNNOTICED)
        if self._death is None and child.is_unnoticed():
            self._death = death_of(child, self._process.prefix)
            self._process.request_stop()

    def _wait_until_ready(self, timeout: float, on_progress: Callable[[str], None], cancelled: threading.Event) -> None:
        deadline = time.monotonic() + timeout
        opened = [port for port in self._ports.values() if port is not None]
        with self._process.log.open(encoding="utf-8", errors="replace") as log:
            while True:
                for line in log:
                    if sentence := serverlog.progress(line):
                        on_progress(sentence)
                if self._process.ended.wait(0.02):
                    raise self._died()
                lost = self._exit is not None and self._exit.is_unnoticed()
                if not lost and all(ports.is_open(port, address=self._address) for port in opened) and self._is_ready():
                    self._ready = True
                    return
                if cancelled.is_set():
                    raise LaunchError("the start was called off")
                if self._exit is not None and time.monotonic() > self._exit.ended + _PATIENCE:
                    raise self._died()
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
        """Why the server ended, or cannot start any more: in the words of its log, where it has any."""
        if self._death is not None:
            return LaunchError(self._death.reason)
        log = self._process.read_log().replace(str(self._view), str(self.repository))
        port = serverlog.port_in_use(log)
        for name, each in self._ports.items():
            if port is not None and each == port:
                return ports.in_use(name, port)
        if crash := serverlog.crash(log):
            return LaunchError(crash)
        # Once it was ready, errors in the log are those of requests.
        found = [] if self._ready else list(dict.fromkeys(serverlog.reasons(log)))
        if self._exit is not None and not self._ready:
            found = load_failures(self._exit, found, log=log, prefix=self._process.prefix)
        if found:
            return LaunchError("\n".join(found))
        how = self._process.how_it_ended()
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
