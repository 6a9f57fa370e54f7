"""The container of an algorithm image: a program folder's `serve`, in namespaces of its own, instead of tritonserver.

An image of one's own is declared to be a folder with the executables `train` and `serve`; in the container it lies at
/opt/program, which is first on PATH. What SageMaker promises such a container is held: the model data are in
/opt/ml/model, read-only; there is no network but the port 8080 that SageMaker asks; /ping must answer 200, each time
within two seconds; SIGTERM comes 30 seconds before SIGKILL. Source: SageMaker developer guide, "Use Your Own Inference
Code with Hosting Services".
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import urllib3
from urllib3.exceptions import HTTPError

from tritonforge.emulator.hosting.tritonserver_container import Container, RunningServer
from tritonforge.errors import DefinitionError, LaunchError, TritonForgeError
from tritonforge.serving.tfs.server import start_tfs_server

if TYPE_CHECKING:
    from tritonforge.training.sandbox import Process

__all__ = ["ADVICE", "ProgramContainer", "TensorFlowContainer", "find_program", "resolve_programs"]

#: What to do about an image that is not declared.
ADVICE: Final = (
    "It is not declared as a program folder, with the executables train, serve or process: "
    "Emulator(images={uri: folder}), or tritonforge emulate --image URI=FOLDER."
)

#: Seconds between two looks at /ping, and for each. Source: as above, "How Containers Should Respond to Health Check".
_PERIOD: Final = 0.05
_PING_TIMEOUT: Final = 2.0

#: Seconds between SIGTERM and SIGKILL. Source: as above, "How SageMaker Runs Your Inference Image".
_GRACE: Final = 30.0

#: The port that SageMaker asks, and the variable that says so to a container that can listen on another.
_PORT: Final = 8080

_OK: Final = 200
_PROGRAMS: Final = ("train", "serve", "process")

#: A release of Triton, as images are declared by; a folder of such a name is written with its path.
_RELEASE: Final = re.compile(r"\d\d\.\d\d\b.*")
_PATHS: Final = ("/", "./", "../", "~")


def resolve_programs(images: Mapping[str, str | os.PathLike[str]]) -> dict[str, str]:
    """Return what each image is declared as, with the paths of program folders made absolute.

    Raises:
        DefinitionError: a path leads to no folder, or to one with neither `train` nor `serve`.
    """
    resolved = {}
    for uri, given in images.items():
        value = os.fspath(given)
        path = Path(value).expanduser()
        if path.is_dir() and not _RELEASE.fullmatch(value):
            resolved[uri] = str(_check_program(uri, path.absolute()))
        elif value.startswith(_PATHS):
            raise DefinitionError(f"the image {uri} is declared as {value}: the folder does not exist")
        else:
            resolved[uri] = value
    return resolved


def find_program(uri: str, images: Mapping[str, str]) -> Path | None:
    """Return the program folder that an image is declared as (see `resolve_programs`), None for other images."""
    value = images.get(uri, "")
    return Path(value) if value.startswith("/") else None


def _check_program(uri: str, path: Path) -> Path:
    there = [name for name in _PROGRAMS if (path / name).is_file()]
    if not there:
        raise DefinitionError(
            f"the image {uri} is declared as {path}: expected a program folder, with an executable train, serve "
            "or process"
        )
    for name in there:
        if not os.access(path / name, os.X_OK):
            raise DefinitionError(f"{path / name}: not executable; run chmod 755 {path / name}")
    return path


class ProgramContainer(Container):
    """As `Container`, for the `serve` of a program folder."""

    def __init__(self, program: Path, model: Path, folder: Path, **settings: Any) -> None:
        super().__init__(model, folder, **settings)
        self._program = program

    def launch(self, log: Path, cancelled: threading.Event) -> tuple[RunningServer, str]:
        """Start the program; return it and its address once it answers /ping. Raises LaunchError."""
        from tritonforge.training.sandbox import Bind, start_container

        try:
            process = start_container(
                ["serve"],
                binds=[
                    Bind(self._program, "/opt/program", read_only=True),
                    Bind(self._repository, "/opt/ml/model", read_only=True),
                ],
                environment=self._environment,
                publish=_PORT,
                log=self._log,
            )
        except TritonForgeError as error:
            raise LaunchError(f"cannot start serve: {error}") from error
        served = _RunningProgram(process)
        try:
            self._wait_for_ping(process, cancelled)
        except BaseException:
            served.stop()
            raise
        return served, f"http://127.0.0.1:{process.port}"

    def _wait_for_ping(self, process: Process, cancelled: threading.Event) -> None:
        deadline = time.monotonic() + self._timeout
        with urllib3.PoolManager(retries=False, timeout=_PING_TIMEOUT) as pool:
            problem: Any = "port 8080 is closed"
            while True:
                try:
                    problem = pool.request("GET", f"http://127.0.0.1:{process.port}/ping").status
                    if problem == _OK:
                        return
                    problem = f"it answers {problem}"
                except HTTPError as error:
                    problem = f"no answer on port 8080 ({type(error).__name__})"
                if process.returncode is not None:
                    raise LaunchError(f"serve ended with status {process.returncode} before /ping answered 200.")
                if cancelled.wait(_PERIOD):
                    raise LaunchError("the start was cancelled")
                if time.monotonic() > deadline:
                    raise LaunchError(f"/ping did not answer 200 within {self._timeout:g} s: {problem}.")


class _RunningProgram:
    """A running program as `Container` watches over it."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._stopping = threading.Event()

    @property
    def pid(self) -> int | None:
        """Its process id, seen from outside."""
        return self._process.pid

    def wait(self) -> int:
        """Wait until it has ended; raises LaunchError when it ended by itself."""
        code = self._process.wait()
        if not self._stopping.is_set():
            raise LaunchError(f"serve ended with status {code}.")
        return code

    def stop(self) -> None:
        """End it: SIGTERM, and SIGKILL 30 seconds later."""
        self._stopping.set()
        self._process.terminate(_GRACE)


class TensorFlowContainer(Container):
    """As `Container`, for a package as `tritonforge.serving.tfs` runs it."""

    def launch(self, log: Path, cancelled: threading.Event) -> tuple[RunningServer, str]:
        """Start the package's server; return it and its address. Raises LaunchError."""
        server = start_tfs_server(
            self._repository, self._environment, log=log, startup_timeout=self._timeout, cancelled=cancelled
        )
        return server, server.url
