"""The first process of a container: it makes the root, starts the command, and buries what the command leaves behind.

It is process 1 of its namespace: when it ends the kernel kills whatever else runs there. The signals that it is sent go
on to the command, and to nothing else; it ends with the command, and with the command's status (128 + n for signal n).
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
from typing import Final, NoReturn, TypedDict

from tritonforge.training.sandbox import kernel, limits, root

__all__ = ["NOT_EXECUTABLE", "NOT_FOUND", "Container", "run"]

#: The statuses of docker run for a command that cannot be executed, and for one that is not there.
NOT_EXECUTABLE: Final = 126
NOT_FOUND: Final = 127

#: What is passed on to the command.
_PASSED: Final = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGWINCH,
)


class Container(TypedDict):
    """What to run, and in what; one line of JSON from the `Process` to its keeper."""

    command: list[str]
    environment: dict[str, str]
    directory: str
    binds: list[root.Bound]
    files: dict[str, str]  # texts by path, read-only
    hostname: str
    network: bool  # of this machine, instead of loopback only
    shared_memory: int  # bytes
    user_namespace: bool
    publish: int  # the container's port; 0: none
    limits: limits.Enforced


def run(container: Container, *, keeper: int, report: int, output: int) -> NoReturn:
    """Be process 1 of the container until its command has ended; called in a fresh child of the keeper.

    Args:
        container: what to run.
        keeper: the read end of a pipe whose other end only the keeper has.
        report: where one line goes when the command runs, or what the kernel refused.
        output: the command's standard output and error.
    """
    try:
        kernel.die_with_parent()
        if select.select([keeper], [], [], 0)[0]:  # the end of the pipe: the keeper was killed before the line above
            os._exit(1)
        limits.enter(container["limits"])  # before anything of this machine's is out of sight
        kernel.own_mounts()
        address = "127.0.0.1" if container["network"] else kernel.ADDRESS
        hosts = f"127.0.0.1 localhost\n::1 localhost\n{address} {container['hostname']}\n"
        files = {"/etc/hosts": hosts, **container["files"]}
        root.build(container["binds"], files, shared_memory=container["shared_memory"])
        os.chdir(container["directory"])
        # Before the fork, so that none is lost: they wait until `_serve` takes them.
        signal.pthread_sigmask(signal.SIG_BLOCK, {*_PASSED, signal.SIGCHLD})
        command = os.fork()
    except OSError as error:
        _say(report, {"refused": str(error)})
        os._exit(1)
    if command == 0:
        _execute(container, output)
    os.close(output)
    _say(report, {"started": command})
    os.close(report)
    _serve(command)


def _execute(container: Container, output: int) -> NoReturn:
    """Become the command, in exec form: no shell reads it."""
    os.setsid()
    program = container["command"][0]
    status = NOT_EXECUTABLE
    try:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        kernel.limit_rights()
        for number in range(1, signal.NSIG):
            with contextlib.suppress(OSError, ValueError):  # KILL and STOP, and what the C library keeps for itself
                signal.signal(number, signal.SIG_DFL)  # Python ignores SIGPIPE, and execve would hand that on
        signal.pthread_sigmask(signal.SIG_SETMASK, set())
        os.umask(0o022)
        os.execvpe(program, container["command"], container["environment"])  # noqa: S606 - the exec form: no shell
    except FileNotFoundError:
        status = NOT_FOUND
        sentence = f"{program}: not found on the container's PATH, or the interpreter of its first line is not there"
    except PermissionError:
        sentence = f"{program}: not executable; run: chmod 755 {program}"
    except OSError as error:
        sentence = f"{program}: {error.strerror}; a script begins with #! and its interpreter"
    os.write(2, f"{sentence}\n".encode())
    os._exit(status)


def _serve(command: int) -> NoReturn:
    """Pass signals on and bury the dead until the command has ended."""
    while True:
        number = signal.sigwait({*_PASSED, signal.SIGCHLD})
        if number != signal.SIGCHLD:
            with contextlib.suppress(ProcessLookupError):
                os.kill(command, number)
            continue
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                if ended[0] == command:
                    code = os.waitstatus_to_exitcode(ended[1])
                    os._exit(code if code >= 0 else 128 - code)


def _say(report: int, message: dict[str, str | int]) -> None:
    with contextlib.suppress(OSError):  # the keeper is gone, and this process with it in a moment
        os.write(report, json.dumps(message).encode() + b"\n")
