"""The launcher of local servers: a supervised process, with its folder, log, readiness, end and clean-up.

The process ends with this one, however this one ends, and leaves nothing behind: a `supervisor` runs it.
`tritonforge.serving.server` starts tritonserver this way, and `tritonforge.serving.tfs.server` its container.

Names and paths must reach the shell that starts Triton's Python stubs unchanged. Every backend here is a Python one, so
every model but an ensemble has a stub; `tritonforge.triton.backends` has what of a model its command holds.
`tritonforge.validation.rules.model_names` finds the same without a server (E118, W118). Triton puts paths into a
shell's command unquoted, the linker splits LD_LIBRARY_PATH at colons and semicolons, a stub reads ASCII only, and Linux
cuts a script's ``#!`` line at 255 bytes. Where TMPDIR is not such a path, one of the system's own temporary folders is
used instead; what is put there is small.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, TypeVar

from tritonforge import temporary
from tritonforge.errors import LaunchError
from tritonforge.files import describe_error
from tritonforge.serving import supervisor
from tritonforge.triton.backends import is_word, list_odd_characters
from tritonforge.triton.schema import ModelConfig

__all__ = ["GRACE", "ChildExit", "LocalServer", "ServerProcess", "describe_exit", "find_unsafe_names", "make_folder"]

_ENVIRONMENT: Final = "EXECUTION_ENV_PATH"
_MODEL_DIRECTORY: Final = "$$TRITON_MODEL_DIRECTORY"


def find_unsafe_names(repository: Path, configs: Mapping[str, ModelConfig]) -> list[str]:
    """Return a sentence for each string that a shell would change; empty when the models can be served.

    ``repository`` is the folder that tritonserver reads, ``configs`` has the models that it may load, by directory.
    """
    problems = []
    for name, config in configs.items():
        for what, text in _list_stub_arguments(repository, name, config):
            if not is_word(text):
                of_model = "" if text == name else f" of model '{_escape(name)}'"
                problems.append(
                    f"{what} '{_escape(text)}'{of_model} has characters that Triton's python backend passes to a "
                    f"shell unquoted: {list_odd_characters(text)}; use letters, digits and _ . / + @ % : , = - (ASCII)"
                )
    return problems


def _list_stub_arguments(repository: Path, name: str, message: ModelConfig) -> Iterator[tuple[str, str]]:
    config: Any = message  # protobuf makes the class of ModelConfig at run time
    if config.platform == "ensemble":
        return
    yield "the model directory", name
    for group in config.instance_group:
        yield "the instance group", group.name
    yield "default_model_filename", config.default_model_filename
    if _ENVIRONMENT in config.parameters:
        given = config.parameters[_ENVIRONMENT].string_value
        yield _ENVIRONMENT, given.replace(_MODEL_DIRECTORY, "")
        # <environment>/bin/activate is sourced by the path without links (pb_env.cc `ExtractIfNotExtracted`).
        path = Path(given.replace(_MODEL_DIRECTORY, str(repository / name)))
        if path.is_dir():
            yield f"the real path of {_ENVIRONMENT}", str(path.resolve())


def _escape(text: str) -> str:
    return ascii(text)[1:-1]


#: The folders that replace TMPDIR where it cannot be used, in this order.
_SYSTEM_ROOTS: Final = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108 - mkdtemp makes a folder that no other user may enter

_LONGEST_ROOT: Final = 150


def _list_temporary_roots() -> tuple[Path, ...]:
    """Return the possible parents of temporary folders, the preferred one first."""
    return tuple(dict.fromkeys([Path(tempfile.gettempdir()), *map(Path, _SYSTEM_ROOTS)]))


def make_folder(prefix: str) -> Path:
    """Create a folder for this user alone.

    Raises:
        LaunchError: no place can be used; the message names TMPDIR.
    """
    problems = []
    for place in _list_temporary_roots():
        problem = _find_root_problem(place)
        if not problem:
            try:
                return Path(tempfile.mkdtemp(prefix=prefix, dir=place))
            except OSError as error:
                problem = describe_error(error)
        problems.append(f"{ascii(str(place))[1:-1]}: {problem}")
    raise LaunchError(
        f"no folder for temporary files can be used ({'; '.join(problems)}); set TMPDIR to a writable one whose path "
        "has letters, digits and _ . / + @ % , = - (ASCII) only"
    )


def _find_root_problem(place: Path) -> str:
    """Return why programs and libraries cannot be run from a folder; "" when they can."""
    path = str(place)
    if not is_word(path) or ":" in path:
        return f"its path has the characters {list_odd_characters(path) or ':'}"
    if len(path) > _LONGEST_ROOT:
        return f"its path is longer than {_LONGEST_ROOT} characters"
    try:
        if os.statvfs(place).f_flag & os.ST_NOEXEC:
            return "programs cannot be run from it (mounted noexec)"
    except OSError as error:
        return describe_error(error)
    return ""


_Self = TypeVar("_Self", bound="LocalServer")

#: Seconds that the process gets between SIGTERM and SIGKILL, in-flight requests included.
GRACE: Final = 10.0

#: Where it runs, inside its folder: an empty place, since Python looks for modules in it first.
_WORKING_DIRECTORY: Final = "work"

_count = itertools.count()


@dataclass(frozen=True, slots=True)
class ChildExit:
    """A child of the supervised process that ended, and that the process itself has not waited for.

    ``command`` is the child's command line, empty where it ended before it could be read. ``status`` is its exit
    status, or minus the number of the signal that ended it; ``out_of_memory`` means that the kernel's out-of-memory
    killer was active at that time. ``ended`` is a time of `time.monotonic`, in seconds.
    """

    command: tuple[str, ...]
    pid: int
    status: int
    out_of_memory: bool
    ended: float

    def is_unnoticed(self) -> bool:
        """Return True while the process has not waited for the child, which is then a zombie."""
        try:
            return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except (OSError, IndexError):
            return False


def describe_exit(status: int) -> str:
    """Return an exit status, or minus a signal's number, as a part of a sentence."""
    if status >= 0:
        return f"with exit status {status}"
    try:
        return f"by signal {signal.Signals(-status).name}"
    except ValueError:  # a real-time signal
        return f"by signal {-status}"


class ServerProcess:
    """One supervised process, with a temporary folder and a log of its own; `launch` it once, `stop` it any time.

    ``log`` is overwritten, or with ``keep_log`` appended to; without it the log is kept until the process is stopped.
    ``on_child_exit``, where it is given, is called from a thread with each child that ended and that the process has
    not waited for.

    Raises:
        LaunchError: the log cannot be written, or no temporary folder can be used.
    """

    def __init__(
        self,
        *,
        log: Path | None,
        keep_log: bool = False,
        on_child_exit: Callable[[ChildExit], None] | None = None,
    ) -> None:
        self.prefix = temporary.build_prefix(f"s{next(_count)}")
        self.folder = make_folder(self.prefix)
        self.log = self.folder / "process.log" if log is None else log.absolute()
        self.ended = threading.Event()
        self.pid: int | None = None
        self.returncode: int | None = None
        self.stopped = False
        self._on_child_exit = on_child_exit
        self._last_log = ""
        self._supervisor: subprocess.Popen[bytes] | None = None
        try:
            with self.log.open("ab" if keep_log else "wb"):
                pass
        except OSError as error:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise LaunchError(f"{self.log}: cannot write: {describe_error(error)}") from error

    @property
    def supervisor_pid(self) -> int | None:
        """The process id of the supervisor; None before `launch`."""
        return None if self._supervisor is None else self._supervisor.pid

    def launch(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Start the process; returns when it runs."""
        temporary.sweep()
        temporary.sweep_backend()
        working_directory = self.folder / _WORKING_DIRECTORY
        working_directory.mkdir()
        job: supervisor.Job = {
            "command": list(command),
            "environment": dict(environment),
            "working_directory": str(working_directory),
            "log": str(self.log),
            "folder": str(self.folder),
            "shared_memory_prefix": self.prefix,
            "grace": GRACE,
            "watch_children": self._on_child_exit is not None,
        }
        # -S and -I: the supervisor needs the standard library only, and nothing of this environment. -X utf8: the job
        # holds paths of any bytes, whatever the locale.
        process = subprocess.Popen(  # noqa: S603 - this Python, with a file of this package
            [sys.executable, "-S", "-I", "-X", "utf8", supervisor.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C in a terminal reaches this process alone, which then sends stop
        )
        self._supervisor = process
        self._send(json.dumps(job).encode() + b"\n")
        assert process.stdout is not None
        started = threading.Event()
        threading.Thread(target=self._listen, args=(process.stdout, started), daemon=True).start()
        started.wait(30)

    def request_stop(self) -> None:
        """Ask the process to end, without waiting; `ended` is set when it has."""
        self._send(b"stop\n")

    def stop(self) -> None:
        """End the process: nothing of it is left when this returns. May be called twice."""
        if self.stopped:
            return
        self.stopped = True
        process = self._supervisor
        if process is not None:
            self.request_stop()
            self.ended.wait(GRACE + 5)
        self._last_log = self.read_log()
        if process is not None:
            assert process.stdin is not None
            with contextlib.suppress(OSError):  # the supervisor is gone
                process.stdin.close()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()  # the kernel kills the process with it
                process.wait()
            self.ended.wait(5)
        supervisor.remove_shared_memory(self.prefix)
        shutil.rmtree(self.folder, ignore_errors=True)

    def describe_exit(self) -> str:
        """Return the exit status or the signal as a part of a sentence."""
        return describe_exit(self.returncode or 0)

    def read_log(self) -> str:
        """Return the log so far, also after the process was stopped."""
        try:
            return self.log.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return self._last_log

    def log_tail(self, lines: int) -> str:
        """Return the last lines of the log."""
        return "\n".join(self.read_log().splitlines()[-lines:])

    def _send(self, message: bytes) -> None:
        assert self._supervisor is not None
        assert self._supervisor.stdin is not None
        try:
            self._supervisor.stdin.write(message)
            self._supervisor.stdin.flush()
        except (OSError, ValueError):  # the supervisor is gone or ending; `_listen` notices
            pass

    def _listen(self, messages: IO[bytes], started: threading.Event) -> None:
        """Take the supervisor's messages until it ends; run by a thread of its own."""
        with messages:
            for line in messages:
                message = json.loads(line)
                if "child" in message:
                    if self._on_child_exit is not None and not self.stopped:
                        command = tuple(message.pop("child"))
                        self._on_child_exit(ChildExit(command, **message))
                elif "pid" in message:
                    self.pid = message["pid"]
                    started.set()
                else:
                    self.returncode = message["returncode"]
                    self.ended.set()
        if self.returncode is None:
            self.returncode = -signal.SIGKILL  # the supervisor was killed, and the process with it
        started.set()
        self.ended.set()


class LocalServer:
    """A server on this machine, in a `ServerProcess`: a context manager that ends it.

    A subclass sets ``_process``, and defines `_is_ready` and `_explain_end`.
    """

    _process: ServerProcess

    def __enter__(self: _Self) -> _Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int | None:
        """The process id; None before the process started."""
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """The exit status of the process, or minus a signal's number; None while it runs."""
        return self._process.returncode

    def wait(self) -> int:
        """Wait for the end of the process and return its exit status. Raises LaunchError unless `stop` ended it."""
        while not self._process.ended.wait(1.0):
            pass
        if not self._process.stopped:
            raise self._explain_end()
        return self._process.returncode or 0

    def log_tail(self, lines: int = 40) -> str:
        """Return the last lines of the log, also after `stop`."""
        return self._process.log_tail(lines)

    def stop(self) -> None:
        """End the server: no process, shared memory or temporary folder is left. May be called twice."""
        self._process.stop()

    def _wait_until_ready(
        self,
        name: str,
        *,
        timeout: float,
        cancelled: threading.Event | None,
        on_line: Callable[[str], None] = lambda line: None,
    ) -> None:
        """Wait for `_is_ready`, and pass the lines of the log on; raises LaunchError. ``name`` is for messages."""
        deadline = time.monotonic() + timeout
        with self._process.log.open(encoding="utf-8", errors="replace") as log:
            while True:
                for line in log:
                    on_line(line)
                if self._process.ended.wait(0.02):
                    raise self._explain_end()
                if self._is_ready():
                    return
                if cancelled is not None and cancelled.is_set():
                    raise LaunchError("startup cancelled")
                if time.monotonic() > deadline:
                    raise LaunchError(
                        f"{name} was not ready after {timeout:g} s; its log ends with:\n{self.log_tail(15)}"
                    )

    def _is_ready(self) -> bool:
        raise NotImplementedError

    def _explain_end(self) -> LaunchError:
        """Return why the process ended."""
        raise NotImplementedError
