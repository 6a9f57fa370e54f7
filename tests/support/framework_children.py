"""Child processes of builds and conversions, as forks of one process that has imported their frameworks.

`FrameworkProcess.forks` replaces the start of the processes of `tritonforge.repository.child_process`. Each
is still a process of its own, with the same arguments, environment and pipes. This file is also the program that forks
them: ``python framework_children.py SOCKET CODE``, where ``CODE`` imports the frameworks.
"""

from __future__ import annotations

import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import IO, Any

import pytest

from tritonforge.repository import child_process


class _Child:
    """A forked process, with the methods of `subprocess.Popen` that `run_in_child` calls."""

    def __init__(self, server: socket.socket, command: Sequence[str], error: IO[bytes], env: Mapping[str, str]) -> None:
        assert command[:2] == [sys.executable, "-m"]
        given, stdin = os.pipe()
        stdout, made = os.pipe()
        request = json.dumps({"command": list(command[2:]), "environment": dict(env)}).encode()
        with tempfile.TemporaryFile() as file:
            file.write(request)
            file.flush()
            socket.send_fds(server, [b"\0"], [given, made, error.fileno(), file.fileno()])
        os.close(given)
        os.close(made)
        self._server = server
        self.pid = int(server.recv(32))
        self.stdin, self.stdout = os.fdopen(stdin, "wb"), os.fdopen(stdout, "rb")
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """The exit status, None before the first wait."""
        return self.returncode

    def wait(self) -> int:
        """Wait for the end; gives the exit status."""
        if self.returncode is None:
            self.returncode = int(self._server.recv(32))
        return self.returncode

    def kill(self) -> None:
        """Send SIGKILL."""
        os.kill(self.pid, signal.SIGKILL)


class FrameworkProcess:
    """A process that has run some imports, and forks the processes of builds and conversions, one at a time."""

    def __init__(self, imports: str) -> None:
        self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(theirs.fileno()), imports],
                pass_fds=[theirs.fileno()],
                env=child_process._build_environment(),
                stderr=subprocess.DEVNULL,
            )

    def __enter__(self) -> FrameworkProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self._ours.close()
        self._process.wait()

    @contextmanager
    def forks(self) -> Iterator[None]:
        """Fork the processes that are started in this context."""

        def start(command: Sequence[str], *, stdin: int, stdout: int, stderr: IO[bytes], env: Mapping[str, str]) -> Any:
            assert stdin == stdout == subprocess.PIPE
            return _Child(self._ours, command, stderr, env)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(child_process, "subprocess", SimpleNamespace(Popen=start, PIPE=subprocess.PIPE))
            yield


def _serve(server: socket.socket) -> None:
    """Fork a child for each request until the other side closes."""
    while True:
        message, descriptors, _, _ = socket.recv_fds(server, 1, 4)
        if not message:
            return
        pid = os.fork()
        if pid == 0:
            server.close()
            os._exit(_run(*descriptors))
        for descriptor in descriptors:
            os.close(descriptor)
        server.send(str(pid).encode())
        server.send(str(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])).encode())


def _run(given: int, made: int, error: int, request: int) -> int:
    """Be the program ``python -m MODULE ARGUMENTS`` with these pipes."""
    with os.fdopen(request, "rb") as file:
        file.seek(0)
        asked = json.load(file)
    for number, descriptor in enumerate((given, made, error)):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(asked["environment"])
    module, *arguments = asked["command"]
    sys.argv = [module, *arguments]
    status: Any = 0
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        status = ended.code
    except BaseException:
        sys.excepthook(*sys.exc_info())
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return status or 0


if __name__ == "__main__":
    exec(sys.argv[2], {})
    _serve(socket.socket(fileno=int(sys.argv[1])))
