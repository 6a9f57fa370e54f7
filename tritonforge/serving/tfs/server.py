"""SageMaker's TensorFlow Serving container on this machine, as a context manager.

The package runs as it does there: its handlers in a process of their own, in front of TensorFlow Serving where that is
installed, else of TensorFlow in a process of its own behind the same REST API. It listens on loopback only, and a
`supervisor` ends it when this process ends.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from importlib import metadata
from pathlib import Path
from typing import Final

import urllib3
from urllib3.exceptions import HTTPError, ReadTimeoutError

from tritonforge.errors import ConnectError, LaunchError, MissingExtraError
from tritonforge.serving import loopback
from tritonforge.serving.server_process import LocalServer, ServerProcess
from tritonforge.serving.tfs import container, package, predictor
from tritonforge.triton import tfs_container
from tritonforge.triton.tfs_layout import LIBRARY, REQUIREMENTS

__all__ = ["Answer", "TfsServer", "start_tfs_server"]

#: The program of TensorFlow Serving, where it is installed (Debian package tensorflow-model-server).
_PROGRAM: Final = "tensorflow_model_server"

#: Variables of a user's own shell that a container does not have.
_NOT_INHERITED: Final = ("SAGEMAKER_", "PYTHON", "TFS_", "AIP_")

#: Packages that the container's Python service needs, which handlers import too.
_SERVICE: Final = ("falcon", "requests")


@dataclass(frozen=True, slots=True)
class Answer:
    """A response of the container: ``headers`` by lower-case name."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class TfsServer(LocalServer):
    """A running package, ready when the constructor returns; leave the ``with`` block, or call `stop`, to end it.

    ``folder`` is a package as SageMaker unpacks it: numbered SavedModels and ``code/``. ``port`` 0 is any free one, the
    host is always 127.0.0.1. ``environment`` is the container's: ``SAGEMAKER_TFS_ENABLE_BATCHING`` and the like.
    ``program`` is TensorFlow Serving's; by default it is looked up on the PATH. ``log`` is overwritten; without it the
    log lives as long as the server. ``startup_timeout`` is in seconds; the container's own limit for loading models,
    ``SAGEMAKER_TFS_WAIT_TIME_SECONDS`` (60), applies to TensorFlow Serving itself. ``cancelled``, once set, cancels a
    start. ``on_progress`` gets short sentences while models load.

    ``predictor`` names the program that predicts, ``models`` has the versions of each model by its name,
    ``default_model`` answers requests that name none, ``warnings`` are differences from the container.

    Raises:
        MissingExtraError: TensorFlow is not installed, or a package of the container's Python service.
        LaunchError: no such package, a port in use, a model or handlers that do not load, a container that ended.
    """

    def __init__(
        self,
        folder: Path | str,
        *,
        port: int = 0,
        environment: Mapping[str, str] | None = None,
        program: Path | str | None = None,
        log: Path | str | None = None,
        startup_timeout: float = 300.0,
        cancelled: threading.Event | None = None,
        on_progress: Callable[[str], None] = lambda sentence: None,
    ) -> None:
        self.folder = Path(folder).absolute()
        variables = dict(environment or {})
        if problems := tfs_container.find_problems(variables):
            raise LaunchError("; ".join(problems.values()))
        if variables.get("SAGEMAKER_MULTI_MODEL", "false").lower() == "true":
            raise LaunchError(
                "SAGEMAKER_MULTI_MODEL is true: multi-model containers of TensorFlow Serving are not supported"
            )
        served = package.read_package(self.folder)
        default_model = tfs_container.read_settings(variables, cpus=os.cpu_count() or 1).default_model
        self.default_model = package.choose_default_model(served, default_model).name
        self.models: Mapping[str, tuple[int, ...]] = {model.name: tuple(model.versions) for model in served.models}
        if served.has_code:
            _check_service()
        command, self.predictor = _find_predictor(program)
        self.warnings: tuple[str, ...] = ()
        self._process = ServerProcess(log=None if log is None else Path(log))
        self._pool: urllib3.HTTPConnectionPool | None = None
        try:
            with loopback.hold_ports({"sagemaker": port}) as held:
                self._port = held["sagemaker"] or 0
                if served.requirements is not None and not (self.folder / LIBRARY).exists():
                    on_progress(f"installing {REQUIREMENTS}")
                self._launch(command, _build_environment(variables), on_progress)
                self._wait_until_ready("the container", timeout=startup_timeout, cancelled=cancelled)
        except BaseException:
            self.stop()
            raise
        self._pool = urllib3.HTTPConnectionPool(loopback.HOST, self._port, maxsize=64)

    @property
    def url(self) -> str:
        """The address, with ``/invocations`` and ``/ping``."""
        return f"http://{loopback.HOST}:{self._port}"

    def request(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        *,
        timeout: float = 60.0,
    ) -> Answer:
        """Send a request and return the response, whatever its status; from any thread.

        Raises:
            ConnectError: the container is not running, or ended before it answered.
            TimeoutError: there was no response within ``timeout`` seconds.
        """
        if self._pool is None:
            raise ConnectError("the container was stopped")
        try:
            # retries=False: the model may have seen a request whose answer was lost, so it is not sent twice.
            response = self._pool.urlopen(
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
        except (HTTPError, OSError) as error:
            raise ConnectError(f"the container at {self.url} gave no answer: {error}") from error
        return Answer(response.status, {name.lower(): value for name, value in response.headers.items()}, response.data)

    def invoke(self, body: bytes, headers: Mapping[str, str] | None = None, *, timeout: float = 60.0) -> Answer:
        """Return the response to POST /invocations; raises as `request`."""
        return self.request("POST", "/invocations", body, headers, timeout=timeout)

    def ping(self, *, timeout: float = 2.0) -> Answer:
        """Return the response to GET /ping; raises as `request`."""
        return self.request("GET", "/ping", timeout=timeout)

    def stop(self) -> None:
        """End the container: no process and no temporary folder is left when this returns. May be called twice."""
        pool, self._pool = self._pool, None
        self._process.stop()
        if pool is not None:
            pool.close()

    def _launch(self, program: list[str], environment: dict[str, str], on_progress: Callable[[str], None]) -> None:
        on_progress(f"loading {', '.join(self.models)} with {self.predictor}")
        own = program[0] != sys.executable  # TensorFlow Serving's own program
        job: container.Job = {
            "package": str(self.folder),
            "folder": str(self._process.folder),
            "port": self._port,
            "program": program,
            "grpc": own,
            # TensorFlow Serving has no option for its address.
            "preload": str(loopback.install_library(self._process.folder)) if own else "",
        }
        command = [sys.executable, "-u", "-m", container.__name__, json.dumps(job)]
        self._process.launch(command, environment)

    def _is_ready(self) -> bool:
        try:
            with urllib3.HTTPConnectionPool(loopback.HOST, self._port, retries=False, timeout=10.0) as pool:
                return bool(pool.request("GET", "/ping").status == HTTPStatus.OK)
        except HTTPError:
            return False  # it does not listen yet

    def _explain_end(self) -> LaunchError:
        """Return why the container ended, in the words of its log."""
        lines = self._process.read_log().splitlines()
        for line in reversed(lines):
            if line.startswith(container.FAILED):
                with contextlib.suppress(ValueError):  # a handler printed the line
                    return LaunchError(str(json.loads(line.removeprefix(container.FAILED))))
        tail = "\n".join(lines[-15:])
        return LaunchError(f"the container ended {self._process.describe_exit()}; its log ends with:\n{tail}")


def start_tfs_server(
    folder: Path,
    environment: Mapping[str, str],
    *,
    log: Path | None = None,
    startup_timeout: float = 300.0,
    cancelled: threading.Event | None = None,
) -> TfsServer:
    """Start a `TfsServer` on a free port, as the container of a model. Raises as `TfsServer`."""
    return TfsServer(folder, environment=environment, log=log, startup_timeout=startup_timeout, cancelled=cancelled)


def _find_predictor(program: Path | str | None) -> tuple[list[str], str]:
    """Return the command that predicts, and a phrase that names it."""
    path = shutil.which(str(program or _PROGRAM))
    if path is not None:
        done = subprocess.run(  # noqa: S603 - the user's own program
            [path, "--version"], capture_output=True, text=True, check=False, timeout=60
        )
        version = (done.stdout or done.stderr).strip().splitlines()
        return [path], f"{path} ({version[0] if version else 'of unknown version'})"
    if program is not None:
        raise LaunchError(f"{program}: program not found; give the path of {_PROGRAM}")
    for name in ("tensorflow-cpu", "tensorflow"):
        try:
            version_installed = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
        description = (
            f"TensorFlow {version_installed} behind TensorFlow Serving's REST API ({_PROGRAM} is not installed)"
        )
        return [sys.executable, "-u", "-m", predictor.__name__], description
    raise MissingExtraError("tensorflow", extra="local")


def _check_service() -> None:
    for name in _SERVICE:
        if importlib.util.find_spec(name) is None:
            raise MissingExtraError(name, extra="local")


def _build_environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the container's environment: that of this process without `_NOT_INHERITED`, and the given variables."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_NOT_INHERITED)}
    return {
        "OMP_NUM_THREADS": "1",  # as the container sets it, unless it is set already
        "TF_CPP_MIN_LOG_LEVEL": "2",
        **kept,
        **variables,
        "PYTHONPATH": str(Path(__file__).parents[3]),
        "PYTHONSAFEPATH": "1",
    }
