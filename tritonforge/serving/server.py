"""A real tritonserver on this machine, as a context manager.

The server is the one of the nvidia-pytriton wheel (`installation`), with tritonforge's backends beside its python
backend. It listens on loopback only, and a `supervisor` ends it when this process ends.

Any web page can send requests to a server on loopback: tritonserver checks neither Host nor Origin, and takes a JSON
body of any content type, so that a page needs no preflight. So some of its HTTP APIs are closed (`restrict_http_apis`):
they need a header with a secret value; its name, which the server's refusal repeats, is advice. gRPC has all of them:
no page can use HTTP/2 without TLS. Source: tritonserver's option ``--http-restricted-api``; server/src/http_server.cc.
"""

from __future__ import annotations

import http.client
import json
import os
import secrets
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from tritonforge.errors import LaunchError, ModelChoiceError
from tritonforge.files import describe_error
from tritonforge.serving import (
    config_completion,
    execution_environments,
    installation,
    loopback,
    repository_overlay,
    server_log,
    server_process,
)
from tritonforge.serving.server_log import ModelDeath, ModelStatus
from tritonforge.serving.server_process import ChildExit, LocalServer, ServerProcess
from tritonforge.triton.schema import ModelConfig

__all__ = ["ModelStatus", "Server", "restrict_http_apis"]

#: Seconds that tritonserver waits for requests in flight; a client's idle connection makes it wait this long too.
_EXIT_TIMEOUT: Final = 3

#: The header without which models are not loaded over HTTP; its name is advice, since the refusal quotes it.
_LOAD_HEADER: Final = "use-grpc-to-load-models"

#: Bytes of the response cache, for models that use it.
_CACHE_SIZE: Final = 64 * 2**20

#: Seconds that tritonserver gets, after a stub died during the start, to report what is wrong with the other models.
_PATIENCE: Final = 1.5

#: Seconds after which tritonserver does not wait for a stub that died any more, also on a busy machine.
_UNNOTICED: Final = 0.7

#: Seconds within which the end of a stub is noticed here.
_NOTICED: Final = 5.0


class Server(LocalServer):
    """A running tritonserver, ready when the constructor returns; leave the ``with`` block, or call `stop`, to end it.

    ``repository`` is a model repository as Triton reads it. ``default_model`` answers the SageMaker front end's
    ``/invocations``: the default is the only model, or the only ensemble that is not a step of another; where there are
    several it is None, and ``/invocations`` answers with their names (`candidates`). With ``default_model`` or
    ``models`` only these and the steps of ensembles among them are loaded, as SageMaker's own ``serve`` script does
    (server/docker/sagemaker/serve); else every model is. A port of 0 is any free one, None turns that front end off;
    the host is always 127.0.0.1. ``log`` is overwritten, or appended to with ``keep_log``; without it the log lives as
    long as the server. A model whose Python process dies ends the server: `wait` raises with the reason, and `death`
    has it. ``arguments`` are further ones for tritonserver, ``environment`` further variables for it and for Python
    models. ``allow_client_shm`` opens shared memory to HTTP. ``startup_timeout`` is in seconds; ``cancelled``, once
    set, cancels a start. ``on_progress`` gets short sentences while models load.

    With ``multi_model`` nothing is loaded at the start: models are loaded through the SageMaker front end (``POST
    /models``). With ``unguessable`` the host is a random address of 127.0.0.0/8, which no web page finds, for a server
    that only this process uses; only such a server, and one with ``multi_model``, loads models by request. With
    ``stand_in`` every model is replaced by one that opens no file, so that Triton's core alone checks them
    (`server_check`); it names further backends to replace, and ``repository`` is a copy.

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
        self.repository = Path(repository).absolute()
        configs = repository_overlay.read_configs(self.repository)
        self._installation = installation.find_installation()
        if not configs and not multi_model:
            raise ModelChoiceError(f"{self.repository}: no models found (expected a directory for each model)")
        requested = {name for name in (*(models or ()), default_model) if name is not None}
        is_partial = default_model is not None or models is not None or multi_model
        self._configs = repository_overlay.select_models(configs, sorted(requested)) if is_partial else configs
        self.default_model: str | None = None
        #: The models that ``/invocations`` may be meant for, where there is no default model.
        self.candidates: tuple[str, ...] = ()
        if sagemaker_port is not None and not multi_model:
            self.default_model = repository_overlay.choose_default_model(self._configs, default_model)
            if self.default_model is None:
                self.candidates = repository_overlay.list_default_candidates(self._configs)
        if stand_in is None and (problems := server_process.find_unsafe_names(self.repository, self._configs)):
            raise LaunchError("\n".join(problems))
        self.warnings: tuple[str, ...] = ()
        self._death: ModelDeath | None = None
        self._exit: ChildExit | None = None
        self._ready = False
        self._control_headers: dict[str, str] = {}
        self._address = loopback.choose_unguessable_address() if unguessable else loopback.HOST
        #: The models that tritonserver is started with by name; None where it loads all of its repository.
        self._loaded = sorted(self._configs.keys() & requested) if is_partial and (unguessable or multi_model) else None
        self._process = ServerProcess(
            log=None if log is None else Path(log), keep_log=keep_log, on_child_exit=self._note_exit
        )
        wanted = {"sagemaker": sagemaker_port, "http": http_port, "grpc": grpc_port, "metrics": metrics_port}
        folder = self._process.folder
        try:
            completed = None
            if self._loaded is None:  # a request that loads a model may bring an incomplete configuration
                completed = config_completion.read_complete_configs(
                    self.repository, self._configs, arguments, is_stand_in=stand_in is not None
                )
            if completed is not None:
                arguments = [*arguments, config_completion.FLAG]
            self._overlay = self._prepare_repository(completed or {}, is_partial=is_partial and self._loaded is None)
            with loopback.hold_ports(wanted, address=self._address) as self._ports:
                command = [*self._build_command(stand_in, allow_client_shm=allow_client_shm), *arguments]
                variables = installation.build_environment(
                    self._installation, folder, os.environ, added=environment or {}, address=self._address
                )
                if self.default_model is not None or self.candidates:
                    variables["SAGEMAKER_TRITON_DEFAULT_MODEL_NAME"] = (
                        self.default_model or repository_overlay.explain_missing_default(self.candidates)
                    )
                if multi_model:
                    variables["SAGEMAKER_MULTI_MODEL"] = "true"
                if stand_in is not None:
                    command = installation.confine_command(
                        command,
                        self._installation,
                        libraries=variables["LD_LIBRARY_PATH"],
                        folder=folder,
                        copy=self.repository,
                        log=self._process.log,
                    )
                self._process.launch(command, variables)
                self._wait_until_ready(
                    "tritonserver",
                    timeout=startup_timeout,
                    cancelled=cancelled,
                    on_line=lambda line: on_progress(step) if (step := server_log.parse_progress(line)) else None,
                )
        except OSError as error:
            self.stop()
            raise LaunchError(
                f"{folder.parent}: cannot write the files of the server: {describe_error(error)}. Free space there, or "
                "set TMPDIR to another directory."
            ) from error
        except BaseException:
            self.stop()
            raise

    @property
    def sagemaker_url(self) -> str | None:
        """Address of the SageMaker front end, with ``/invocations`` and ``/ping``; None when it is off."""
        return self._build_url("sagemaker")

    @property
    def http_url(self) -> str | None:
        """Address of Triton's own HTTP API; None when it is off."""
        return self._build_url("http")

    @property
    def grpc_url(self) -> str | None:
        """Address of Triton's gRPC API, as ``grpc://host:port``; None when it is off."""
        return self._build_url("grpc", scheme="grpc")

    @property
    def metrics_url(self) -> str | None:
        """Address of the Prometheus metrics; None when they are off."""
        url = self._build_url("metrics")
        return None if url is None else url + "/metrics"

    @property
    def model_control_headers(self) -> Mapping[str, str]:
        """The header with which this server's HTTP API loads and unloads models; empty where it does not."""
        return dict(self._control_headers)

    @property
    def ports(self) -> Mapping[str, int | None]:
        """The port of each front end, None where it is off: ``sagemaker``, ``http``, ``grpc``, ``metrics``."""
        return dict(self._ports)

    @property
    def death(self) -> ModelDeath | None:
        """The model that ended this server; None while all are alive."""
        return self._death

    def find_death(self, status: int, body: bytes) -> ModelDeath | None:
        """Return the death of a model that explains a response of this server; None for a response of its models.

        The response that a stub is not healthy comes before its end is noticed, so this waits for that.
        """
        deadline = time.monotonic() + _NOTICED
        while status != http.client.OK and self._death is None:
            if not server_log.is_unhealthy(body.decode(errors="replace")) or time.monotonic() > deadline:
                return None
            time.sleep(0.05)
        return None if status == http.client.OK else self._death

    def models(self) -> tuple[ModelStatus, ...]:
        """Return the model table: as the HTTP API has it, else as it was at the start."""
        port = self._ports["http"]
        if port is None or self._loaded is not None:
            return tuple(server_log.read_model_table(self._process.read_log()))
        status, body = self._request("POST", port, "/v2/repository/index")
        if status != http.client.OK:
            raise LaunchError(f"tritonserver did not list its models: {body.decode(errors='replace')}")
        return tuple(
            ModelStatus(row["name"], row.get("version", ""), row["state"], row.get("reason", ""))
            for row in json.loads(body)
            if row.get("state")  # a model that is not loaded has a name only
        )

    def _prepare_repository(self, completed: Mapping[str, ModelConfig], *, is_partial: bool) -> Path:
        """Return the repository that tritonserver reads; ``is_partial``: with the served models only.

        ``completed`` are configurations to write instead of those of the repository.
        """
        folder = self._process.folder / "repository"
        on_gpu = sorted(name for name, config in self._configs.items() if repository_overlay.has_gpu_instances(config))
        to_cpu = bool(on_gpu) and not repository_overlay.has_gpu()
        if to_cpu:
            names = ", ".join(on_gpu)
            self.warnings = (f"this machine has no GPU: instances of {names} that ask for one are served on the CPU",)
        texts = repository_overlay.list_rewritten_configs(
            self.repository, self._configs, to_cpu=to_cpu, completed=completed
        )
        stubs = execution_environments.list_stubs(
            self.repository,
            self._configs,
            self._installation.stub.parent.parent,
            version=self._installation.stub.parent.name,
        )
        self.warnings += tuple(
            f"model '{name}': its environment has Python {stub.version}; the stub for it comes from nvidia-pytriton, "
            f"while Triton's images need one in the model's directory unless their Python is {stub.version}"
            for name, stub in stubs.items()
        )
        if texts or stubs or is_partial:
            paths = {name: stub.path for name, stub in stubs.items()}
            only = self._configs if is_partial else None
            return repository_overlay.write_overlay(self.repository, folder, texts, stubs=paths, only=only)
        return repository_overlay.link_plain_path(self.repository, folder)

    def _build_command(self, stand_in: Collection[str] | None, *, allow_client_shm: bool) -> list[str]:
        folder, prefix = self._process.folder, self._process.prefix
        if stand_in is None:
            has_library = self._ports["sagemaker"] is not None
            backends = installation.prepare_folder(self._installation, folder, has_library=has_library)
        else:
            backends = installation.prepare_stand_in(self._installation, folder, prefix=prefix, backends=stand_in)
        command = [
            str(self._installation.program),
            f"--model-repository={self._overlay}",
            f"--backend-directory={backends}",
            # It must not exist: a path through a missing folder leads nowhere, whatever an agent's name is.
            f"--repoagent-directory={backends / 'missing' / 'repoagents'}",
            f"--cache-directory={self._installation.caches}",
            f"--backend-config=python,shm-region-prefix-name={prefix}",
            f"--exit-timeout-secs={_EXIT_TIMEOUT}",
            "--allow-gpu-metrics=false",
        ]
        for name, port in self._ports.items():
            command.append(f"--allow-{name}={str(port is not None).lower()}")
            if port is not None:
                command.append(f"--{name}-port={port}")
                if name != "sagemaker":  # it has no option for the address: `loopback` sets it
                    command.append(f"--{name}-address={self._address}")
        if self._ports["http"] is not None:
            secret, explicit = secrets.token_hex(16), self._loaded is not None
            self._control_headers = {_LOAD_HEADER: secret} if explicit else {}
            command += restrict_http_apis(secret, explicit=explicit, allow_client_shm=allow_client_shm)
        if any(repository_overlay.has_response_cache(config) for config in self._configs.values()):
            command.append(f"--cache-config=local,size={_CACHE_SIZE}")
        if self._loaded is not None:
            command += ["--model-control-mode=explicit", *(f"--load-model={name}" for name in self._loaded)]
        return command

    def _note_exit(self, child: ChildExit) -> None:
        """Keep the end of a stub for the start that waits, or end the server, which would not recover."""
        if not self._ready:
            if self._exit is None or self._exit.status == 0:
                self._exit = child
            return
        time.sleep(_UNNOTICED)
        if self._death is None and child.is_unnoticed():
            self._death = server_log.explain_model_death(child, self._process.prefix)
            self._process.request_stop()

    def _is_ready(self) -> bool:
        exited = self._exit
        opened = [port for port in self._ports.values() if port is not None]
        is_lost = exited is not None and exited.is_unnoticed()
        if not is_lost and all(loopback.is_open(port, address=self._address) for port in opened):
            self._ready = self._is_healthy()
        # A stub that only completes a configuration ends with 0; on a busy machine tritonserver waits for it late.
        has_died = is_lost or (exited is not None and exited.status != 0)
        if not self._ready and exited is not None and has_died and time.monotonic() > exited.ended + _PATIENCE:
            raise self._explain_end()
        return self._ready

    def _is_healthy(self) -> bool:
        for name, path in (("http", "/v2/health/ready"), ("sagemaker", "/ping")):
            port = self._ports[name]
            if port is not None:
                return self._request("GET", port, path)[0] == http.client.OK
        return True  # with neither, tritonserver opens its other ports after the models are loaded

    def _explain_end(self) -> LaunchError:
        """Return why the server ended, or cannot start any more: in the words of its log, where it has any."""
        if self._death is not None:
            return LaunchError(self._death.reason)
        log = self._process.read_log().replace(str(self._overlay), str(self.repository))
        taken = server_log.find_port_in_use(log)
        for name, port in self._ports.items():
            if taken is not None and port == taken:
                return loopback.port_in_use_error(name, port)
        if self._ready and (crash := server_log.explain_crash(log)):
            return LaunchError(crash)
        for config in () if self._ready else sorted(self.repository.glob("*/config.pbtxt")):
            if config.is_dir():  # tritonserver dies of it without a word
                return LaunchError(f"{config} is a directory (expected a file): tritonserver cannot start with it")
        # Once it was ready, errors in the log are those of requests.
        reasons = [] if self._ready else list(dict.fromkeys(server_log.find_reasons(log)))
        if self._exit is not None and not self._ready:
            reasons = server_log.explain_load_failures(self._exit, reasons, log=log, prefix=self._process.prefix)
        if reasons:
            return LaunchError("\n".join(reasons))
        tail = "\n".join(log.splitlines()[-15:])
        return LaunchError(f"tritonserver ended {self._process.describe_exit()}; its log ends with:\n{tail}")

    def _build_url(self, name: str, *, scheme: str = "http") -> str | None:
        port = self._ports[name]
        return None if port is None else f"{scheme}://{self._address}:{port}"

    def _request(self, method: str, port: int, path: str) -> tuple[int, bytes]:
        """Send a request to a front end; return status and body, status 0 without a response."""
        connection = http.client.HTTPConnection(self._address, port, timeout=10)
        try:
            connection.request(method, path)
            response = connection.getresponse()
            return response.status, response.read()
        except (OSError, http.client.HTTPException):
            return 0, b"no answer"
        finally:
            connection.close()


def restrict_http_apis(secret: str, *, explicit: bool, allow_client_shm: bool) -> Iterator[str]:
    """Yield the arguments of tritonserver that close parts of its HTTP API to web pages.

    Loading models by request, which can carry the code of a model, is closed where it is on at all (``explicit`` model
    control). Shared memory is closed unless ``allow_client_shm``, since a page could have tensors written into that of
    other processes; 26.04 has it off too, and an option of this name. So are trace and log settings.

    >>> list(restrict_http_apis("x", explicit=False, allow_client_shm=True))
    ['--http-restricted-api=trace,logging:use-grpc-for-trace-and-log-settings=x']
    """
    if explicit:
        yield f"--http-restricted-api=model-repository:{_LOAD_HEADER}={secret}"
    if not allow_client_shm:
        yield f"--http-restricted-api=shared-memory:restart-with-allow-client-shm-or-use-grpc={secret}"
    yield f"--http-restricted-api=trace,logging:use-grpc-for-trace-and-log-settings={secret}"
