"""Programs that import the same modules, started as forks of one process that imported them once.

`Forks` starts this file as a program, ``python forked_scripts.py MODULE_OR_SCRIPT ...``, with any interpreter; it
uses the standard library only. A program so started is a process of its own, with its own arguments, environment,
folder and output, which can be killed at any moment.
"""

from __future__ import annotations

import importlib
import json
import os
import runpy
import select
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any


class Fork:
    """A running program; the methods are those of `subprocess.Popen`."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self.ended = threading.Event()

    def poll(self) -> int | None:
        """The exit code; None while it runs."""
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the exit code."""
        if not self.ended.wait(timeout):
            raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.returncode is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)


class Forks:
    """The process that forks: ``command`` is its interpreter with flags, ``warm`` what it imports or runs at first."""

    def __init__(
        self, command: Sequence[str | Path], *warm: str | Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self._process = subprocess.Popen(
            [*command, __file__, *warm], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self._starting = threading.Lock()
        self._started: list[Fork] = []
        self._changed = threading.Condition()
        self._running: dict[int, Fork] = {}
        self._lost = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Forks:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._reader.join()
        self._process.stdout.close()

    def start(
        self,
        program: Path | str,
        *arguments: Path | str,
        output: Path,
        error: Path | None = None,
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
    ) -> Fork:
        """Start a Python script; its output is appended to a file, and its errors to another one or to the same."""
        request = {
            "arguments": [str(program), *map(str, arguments)],
            "output": str(output),
            "error": str(error or output),
            "environment": dict(os.environ if environment is None else environment),
            "folder": str(folder or Path.cwd()),
        }
        assert self._process.stdin is not None
        with self._starting, self._changed:
            number = len(self._started)
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            self._changed.wait_for(lambda: len(self._started) > number or self._lost)
            assert len(self._started) > number, "the process that forks has ended"
            return self._started[number]

    def run(self, program: Path | str, *arguments: Path | str, **settings: Any) -> subprocess.CompletedProcess[str]:
        """Run a Python script to its end, as `subprocess.run` does."""
        with tempfile.TemporaryDirectory() as folder:
            output, error = Path(folder, "output"), Path(folder, "error")
            code = self.start(program, *arguments, output=output, error=error, **settings).wait(540)
            return subprocess.CompletedProcess(arguments, code, output.read_text(), error.read_text())

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            report = json.loads(line)
            with self._changed:
                if "code" in report:
                    fork = self._running.pop(report["pid"])
                    fork.returncode = report["code"]
                    fork.ended.set()
                else:
                    fork = self._running[report["pid"]] = Fork(report["pid"])
                    self._started.append(fork)
                self._changed.notify_all()
        with self._changed:
            self._lost = True
            self._changed.notify_all()


def serve() -> dict[str, Any]:
    """Fork for each request on standard input; returns it, in each child only."""
    reports, requests = os.dup(1), os.dup(0)
    _redirect(os.devnull, os.devnull)
    wake, wakes = os.pipe()
    for end in (wake, wakes):
        os.set_blocking(end, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is for the programs, each of which handles it again
    signal.set_wakeup_fd(wakes, warn_on_full_buffer=False)
    buffer = b""
    while True:
        ready, _, _ = select.select([requests, wake], [], [])
        if wake in ready:
            os.read(wake, 4096)
            while (ended := _reap()) is not None:
                _report(reports, {"pid": ended[0], "code": ended[1]})
        if requests in ready:
            received = os.read(requests, 1 << 20)
            if not received:
                sys.exit()
            buffer += received
            while b"\n" in buffer:
                line, _, buffer = buffer.partition(b"\n")
                if (pid := os.fork()) == 0:
                    signal.set_wakeup_fd(-1)
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    signal.signal(signal.SIGINT, signal.default_int_handler)
                    for descriptor in (reports, requests, wake, wakes):
                        os.close(descriptor)
                    return dict(json.loads(line))
                _report(reports, {"pid": pid})


def _reap() -> tuple[int, int] | None:
    try:
        pid, status = os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return None
    return (pid, os.waitstatus_to_exitcode(status)) if pid else None


def _report(reports: int, report: dict[str, int]) -> None:
    os.write(reports, json.dumps(report).encode() + b"\n")


def _redirect(output: str, error: str) -> None:
    descriptors = [
        os.open(os.devnull, os.O_RDONLY),
        *(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644) for path in (output, error)),
    ]
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)


if __name__ == "__main__":
    sys.path.pop(0)  # the folder of this file
    inherited = dict(os.environ)
    for warm in sys.argv[1:]:
        if warm.endswith(".py"):
            runpy.run_path(warm)
        else:
            importlib.import_module(warm)
    of_imports = {name: value for name, value in os.environ.items() if inherited.get(name) != value}
    request = serve()
    _redirect(request["output"], request["error"])
    os.environ.clear()
    os.environ.update(of_imports | request["environment"])
    os.chdir(request["folder"])
    sys.argv = request["arguments"]
    sys.path.insert(0, str(Path(sys.argv[0]).parent))
    runpy.run_path(sys.argv[0], run_name="__main__")
