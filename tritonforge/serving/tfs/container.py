"""The container: the process that starts the predictors and the workers of a package, and restarts them.

`server.TfsServer` starts it: ``python -m tritonforge.serving.tfs.container JOB``, with a container's environment. The
reason for its end is the last line of its log, after `FAILED`. Source:
aws/deep-learning-containers scripts/docker/tensorflow/inference/sagemaker/serve.py `ServiceManager`.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, TypedDict

import urllib3

from tritonforge.errors import LaunchError
from tritonforge.serving import listener, loopback
from tritonforge.serving.tfs import handlers, package, worker
from tritonforge.triton import tfs_container
from tritonforge.triton.tfs_layout import CODE, INFERENCE, LIBRARY, ServedModel

__all__ = ["FAILED", "NOTE", "Job", "main"]

#: The starts of the log's line with the reason for the container's end, and of lines for the user.
FAILED: Final = "FAILED: "
NOTE: Final = "NOTE: "

#: Seconds that children get between SIGTERM and SIGKILL; less than the supervisor gives this process.
_GRACE: Final = 7.0

#: Seconds between a child's end and its next start, so that one that always fails does not use up the machine.
_PAUSE: Final = 1.0

_PR_SET_PDEATHSIG: Final = 1


class Job(TypedDict):
    """What the container is started with, as JSON."""

    package: str
    folder: str  # for its own files
    port: int
    program: list[str]  # tensorflow_model_server, or its replacement
    grpc: bool  # whether that has gRPC
    preload: str  # the library that keeps it on loopback, "" for a program that needs none


class _Stop(Exception):  # noqa: N818  # not an error: it ends `main`
    """SIGTERM arrived."""


@dataclass
class _Predictor:
    """One predictor: its command, where it listens, and its process."""

    command: list[str]
    rest_port: int
    grpc_port: int | None
    environment: dict[str, str] = field(repr=False)
    process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"http://{loopback.HOST}:{self.rest_port}"

    def start(self) -> None:
        self.process = subprocess.Popen(  # noqa: S603 - our own command
            self.command, env=self.environment, preexec_fn=_die_with_container
        )


def main() -> int:
    """Run until SIGTERM or an error."""
    job: Job = json.loads(sys.argv[1])
    signal.signal(signal.SIGTERM, _request_stop)
    container = None
    try:
        container = _Container(job)
        container.start()
        container.watch()
    except LaunchError as error:
        _write(f"{FAILED}{json.dumps(str(error))}")
        return 1
    except _Stop:
        pass
    finally:
        if container is not None:
            container.stop()
    return 0


def _request_stop(*_: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise _Stop


class _Container:
    """The processes of one package."""

    def __init__(self, job: Job) -> None:
        problems = tfs_container.find_problems(os.environ)
        if problems:
            raise LaunchError("; ".join(problems.values()))
        self._job = job
        self._folder = Path(job["folder"])
        self._package = package.read_package(Path(job["package"]))
        self._settings = tfs_container.read_settings(os.environ, cpus=os.cpu_count() or 1)
        self._default = package.choose_default_model(self._package, self._settings.default_model)
        self._predictors: list[_Predictor] = []
        self._workers: list[subprocess.Popen[bytes]] = []
        self._opened: Any = None
        self._python = Path(sys.executable)

    def start(self) -> None:
        """Start the predictors, then the workers; returns when requests are answered."""
        if self._package.has_code:
            self._python = self._prepare_python()
        with ExitStack() as stack:
            for number in range(self._settings.instance_count):
                wanted: dict[str, int | None] = {"rest": 0, "grpc": 0 if self._job["grpc"] else None}
                ports = stack.enter_context(loopback.hold_ports(wanted))
                predictor = self._create_predictor(number, ports)
                self._predictors.append(predictor)
                predictor.start()
            self._wait_for_models()
        self._opened = listener.open_socket(loopback.HOST, self._job["port"])
        self._workers = [self._start_worker() for _ in range(self._settings.workers)]

    def watch(self) -> None:
        """Restart processes that end by themselves."""
        while True:
            pid, status = os.wait()
            time.sleep(_PAUSE)
            for predictor in self._predictors:
                if predictor.process is not None and predictor.process.pid == pid:
                    _note(f"unexpected tensorflow serving exit (status: {status}). restarting.")
                    predictor.start()
            for index, process in enumerate(self._workers):
                if process.pid == pid:
                    _note(f"unexpected gunicorn exit (status: {status}). restarting.")
                    self._workers[index] = self._start_worker()

    def stop(self) -> None:
        """End every child: the workers first, which wait for their answers."""
        for group in (
            self._workers,
            [predictor.process for predictor in self._predictors if predictor.process is not None],
        ):
            for process in group:
                process.terminate()
            deadline = time.monotonic() + _GRACE
            for process in group:
                while process.poll() is None and time.monotonic() < deadline:
                    time.sleep(0.01)
                if process.poll() is None:
                    process.kill()

    def _prepare_python(self) -> Path:
        """Create the handlers' environment with what requirements.txt names, and return its Python."""
        requirements = self._package.requirements
        python = handlers.create_environment(self._folder, with_pip=requirements is not None)
        if (self._package.folder / LIBRARY).exists():
            if requirements is not None:
                _note(f"loading modules in {self._package.folder / LIBRARY}, ignoring requirements.txt")
        elif requirements is not None:
            _note(f"installing packages from {requirements}")
            handlers.install_requirements(
                python, requirements, environment=os.environ, on_line=_write, preexec=_die_with_container
            )
        return python

    def _create_predictor(self, number: int, ports: dict[str, int | None]) -> _Predictor:
        models, batching = self._folder / "model-config.cfg", self._folder / "batching-config.cfg"
        models.write_text(package.build_model_config(self._package.models, self._package.folder), encoding="utf-8")
        if self._settings.batching is not None:
            batching.write_text(package.build_batching_parameters(self._settings.batching), encoding="utf-8")
        rest_port = ports["rest"]
        assert rest_port is not None
        command = package.build_command(
            self._job["program"],
            self._settings,
            grpc_port=ports["grpc"] or 0,
            rest_port=rest_port,
            model_config_file=models,
            batching_file=batching,
        )
        if number == 0:
            _note(f"tensorflow serving command: {' '.join(command)}")
        environment = dict(os.environ)
        if self._job["preload"]:
            environment["LD_PRELOAD"] = " ".join(filter(None, [self._job["preload"], os.environ.get("LD_PRELOAD")]))
        return _Predictor(command, rest_port, ports["grpc"], environment)

    def _wait_for_models(self) -> None:
        """Wait until every model is loaded; the default model must be."""
        # The replacement of TensorFlow Serving imports Python's TensorFlow first: the container's limit is not for it.
        deadline = time.monotonic() + (self._settings.wait_time if self._job["grpc"] else float("inf"))
        pool = urllib3.PoolManager(retries=False, timeout=5.0)
        for predictor in self._predictors:
            for model in self._package.models:
                reasons = _wait_for_model(pool, predictor, model, deadline, self._settings.wait_time)
                for reason in reasons:
                    _note(reason)
                if reasons and model is self._default:
                    raise LaunchError("; ".join(reasons))

    def _start_worker(self) -> subprocess.Popen[bytes]:
        """Start a worker, and wait until it answers or reports why it cannot.

        Raises:
            LaunchError: the package's handlers cannot be imported.
        """
        read, write = os.pipe()
        inference = self._package.folder / INFERENCE
        job: worker.Job = {
            "listening": self._opened.fileno(),
            "report": write,
            "inference": str(inference) if inference.is_file() else None,
            "python_service": self._package.has_code,
            "predictors": [
                (predictor.address, None if predictor.grpc_port is None else str(predictor.grpc_port))
                for predictor in self._predictors
            ],
            "default_model": self._default.name,
            "timeout": self._settings.wait_time,
        }
        process = subprocess.Popen(  # noqa: S603 - this Python, with a module of this package
            [str(self._python), "-u", "-m", worker.__name__, json.dumps(job)],
            pass_fds=(self._opened.fileno(), write),
            env=self._build_worker_environment(),
            preexec_fn=_die_with_container,
        )
        os.close(write)
        with os.fdopen(read) as report:
            select.select([report], [], [])
            line = report.readline()
        if not line:
            raise LaunchError(f"the worker ended with {process.wait()} before it answered")
        report_line = json.loads(line)
        if "failed" in report_line:
            process.wait()
            raise LaunchError(report_line["failed"])
        return process

    def _build_worker_environment(self) -> dict[str, str]:
        """Return the environment of the container's Python service: the code's folders are first on Python's path."""
        paths = [str(Path(worker.__file__).parents[3])]
        if self._package.has_code:
            own = str(self._folder / handlers.PACKAGE_PATH)
            paths = [str(self._package.folder / CODE), str(self._package.folder / LIBRARY), own]
        return {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(paths),
            "PYTHONSAFEPATH": "1",
            "PYTHONDONTWRITEBYTECODE": "1",  # as in the image: the package is left as it is
            "TFS_DEFAULT_MODEL_NAME": self._default.name,
            "TFS_GRPC_PORTS": ",".join(str(predictor.grpc_port or 0) for predictor in self._predictors),
            "TFS_REST_PORTS": ",".join(str(predictor.rest_port) for predictor in self._predictors),
        }


def _wait_for_model(
    pool: urllib3.PoolManager, predictor: _Predictor, model: ServedModel, deadline: float, wait_time: int
) -> Sequence[str]:
    """Wait until a model is loaded; return why its versions are not, one sentence each.

    Raises:
        LaunchError: the predictor ended, or the time is up.
    """
    while True:
        assert predictor.process is not None
        if predictor.process.poll() is not None:
            raise LaunchError(f"TensorFlow Serving ended with {predictor.process.returncode} before its models loaded")
        try:
            response = pool.request("GET", f"{predictor.address}/v1/models/{model.name}")
        except urllib3.exceptions.HTTPError:
            response = None
        if response is not None and response.status == HTTPStatus.OK:
            rows = json.loads(response.data)["model_version_status"]
            if all(row["state"] in ("AVAILABLE", "END") for row in rows):
                return [
                    f"{model.name} version {row['version']} did not load: {row['status']['error_message']}"
                    for row in rows
                    if row["state"] == "END"
                ]
        if time.monotonic() > deadline:
            raise LaunchError(
                f"{model.name}: Timed out after {wait_time} seconds; the variable SAGEMAKER_TFS_WAIT_TIME_SECONDS "
                "gives it more"
            )
        time.sleep(0.05)


def _die_with_container() -> None:
    """Have the kernel end a child when this process ends (prctl(2)); called in the child before exec."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _note(sentence: str) -> None:
    _write(f"{NOTE}{sentence}")


def _write(line: str) -> None:
    """Write a line of the log, which is this program's output; names of folders and models may have line breaks."""
    sys.stdout.write(line.replace("\r", "\\r").replace("\n", "\\n") + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
