"""The processes around a container's command: its first process, and the keeper between it and a `Process`.

The first process is process 1 of its namespace: it builds the root, starts the command, and reaps orphaned processes.
When it ends the kernel kills all other processes of the container. It forwards its signals to the command alone; it
ends with the command, and with the command's status (128 + n for signal n).

The keeper creates the namespaces and forks the first process into them. It stays outside of the container's process,
mount and file system namespaces, but in its network: so it can hold a listening socket of this machine and connect to
the container's port, since sockets keep the namespace in which they were created.

The keeper reads one `ContainerSpec` as a line of JSON, then ``terminate`` and ``kill``; it writes ``{"pid": ...}`` or
``{"refused": ...}``, and at the end ``{"returncode": ...}``. It kills the container at the end of its input, and the
kernel kills the container if the keeper is killed (``PR_SET_PDEATHSIG``).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import select
import signal
import socket
import sys
from collections.abc import Mapping
from typing import Final, NoReturn, TypedDict

from tritonforge.training.sandbox import kernel, limits
from tritonforge.training.sandbox.relay import serve_relay
from tritonforge.training.sandbox.root import BindSpec, build_root, strip_privileges

__all__ = ["NOT_EXECUTABLE", "NOT_FOUND", "ContainerSpec", "main", "run_first_process"]

#: The statuses of docker run for a command that cannot be executed, and for one that is not found.
NOT_EXECUTABLE: Final = 126
NOT_FOUND: Final = 127

#: The signals that are forwarded to the command.
_FORWARDED: Final = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGWINCH,
)


class ContainerSpec(TypedDict):
    """A command and its container; one line of JSON from the `Process` to its keeper."""

    command: list[str]
    environment: dict[str, str]
    directory: str
    binds: list[BindSpec]
    files: dict[str, str]  # texts by path, read-only
    hostname: str
    network: bool  # this machine's, instead of loopback only
    shared_memory: int  # bytes
    user_namespace: bool
    publish: int  # the container's port; 0: none
    limits: limits.EnforcedLimits


def run_first_process(container: ContainerSpec, *, keeper: int, report: int, output: int) -> NoReturn:
    """Be process 1 of the container until its command has ended; called in a new child of the keeper.

    Args:
        container: the command and its container.
        keeper: the read end of a pipe whose other end only the keeper has.
        report: gets one line when the command runs, or the kernel's error.
        output: the command's standard output and error.
    """
    try:
        kernel.die_with_parent()
        if select.select([keeper], [], [], 0)[0]:  # the keeper was killed before the line above
            os._exit(1)
        limits.apply_limits(container["limits"])  # before this machine's files are hidden
        kernel.isolate_mounts()
        address = "127.0.0.1" if container["network"] else kernel.ADDRESS
        hosts = f"127.0.0.1 localhost\n::1 localhost\n{address} {container['hostname']}\n"
        files = {"/etc/hosts": hosts, **container["files"]}
        build_root(container["binds"], files, shared_memory=container["shared_memory"])
        os.chdir(container["directory"])
        # Before the fork, so that no signal is lost: they are pending until `_forward_signals` takes them.
        signal.pthread_sigmask(signal.SIG_BLOCK, {*_FORWARDED, signal.SIGCHLD})
        command = os.fork()
    except OSError as error:
        _report_start(report, {"refused": str(error)})
        os._exit(1)
    if command == 0:
        _execute(container, output)
    os.close(output)
    _report_start(report, {"started": command})
    os.close(report)
    _forward_signals(command)


def _execute(container: ContainerSpec, output: int) -> NoReturn:
    """Replace this process by the command, without a shell."""
    os.setsid()
    program = container["command"][0]
    status = NOT_EXECUTABLE
    try:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        kernel.drop_capabilities()
        for number in range(1, signal.NSIG):
            with contextlib.suppress(OSError, ValueError):  # KILL and STOP, and those of the C library
                signal.signal(number, signal.SIG_DFL)  # Python ignores SIGPIPE, and execve would keep that
        signal.pthread_sigmask(signal.SIG_SETMASK, set())
        os.umask(0o022)
        os.execvpe(program, container["command"], container["environment"])  # noqa: S606 - the exec form: no shell
    except FileNotFoundError:
        status = NOT_FOUND
        sentence = f"{program}: not found on the container's PATH, or the interpreter of its first line is missing"
    except PermissionError:
        sentence = f"{program}: not executable; run: chmod 755 {program}"
    except OSError as error:
        sentence = f"{program}: {error.strerror}; a script begins with #! and its interpreter"
    os.write(2, f"{sentence}\n".encode())
    os._exit(status)


def _forward_signals(command: int) -> NoReturn:
    """Forward signals and reap processes until the command has ended."""
    while True:
        number = signal.sigwait({*_FORWARDED, signal.SIGCHLD})
        if number != signal.SIGCHLD:
            with contextlib.suppress(ProcessLookupError):
                os.kill(command, number)
            continue
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                if ended[0] == command:
                    code = os.waitstatus_to_exitcode(ended[1])
                    os._exit(code if code >= 0 else 128 - code)


def _report_start(report: int, message: dict[str, str | int]) -> None:
    with contextlib.suppress(OSError):  # the keeper ended, and this process is about to
        os.write(report, json.dumps(message).encode() + b"\n")


#: Seconds between two checks whether the parent still exists: a forked child of it may hold the input open.
_PARENT_PERIOD: Final = 1.0


def main() -> int:
    """Keep one container until its end. Arguments: the descriptors of its output, and of the listening socket or -1."""
    output, listening = int(sys.argv[2]), int(sys.argv[3])
    for number in (
        signal.SIGINT,
        signal.SIGTERM,
        signal.SIGHUP,
    ):  # Ctrl-C is handled by the `Process`
        signal.signal(number, signal.SIG_IGN)
    for descriptor in (output, listening):  # inherited by this process, not by its children
        if descriptor >= 0:
            os.set_inheritable(descriptor, False)
    parent = os.getppid()
    commands = os.fdopen(sys.stdin.fileno(), "rb", buffering=0)
    line = commands.readline()
    if not line:  # the parent was cancelled or killed
        return 1
    container: ContainerSpec = json.loads(line)
    keeper_pipe, alive = os.pipe()  # `alive` stays open here as long as this process lives
    reported, report = os.pipe()
    try:
        _create_namespaces(container)
        pid = os.fork()
    except OSError as error:
        limits.release_limits(container["limits"])
        _report_to_process({"refused": str(error)})
        return 1
    if pid == 0:
        for descriptor in (alive, reported, *([listening] if listening >= 0 else [])):
            os.close(descriptor)
        os.dup2(os.open(os.devnull, os.O_RDWR), 0)
        os.dup2(0, 1)
        run_first_process(container, keeper=keeper_pipe, report=report, output=output)
    for descriptor in (keeper_pipe, report, output):
        os.close(descriptor)
    with os.fdopen(reported, "rb") as messages:
        message = json.loads(messages.readline() or b'{"refused": "the container ended before its command started"}')
    if "refused" in message:
        os.waitpid(pid, 0)
        limits.release_limits(container["limits"])
        _report_to_process(message)
        return 1
    _report_to_process({"pid": pid})
    listener = socket.socket(fileno=listening) if listening >= 0 else None
    code = asyncio.run(_run_until_end(pid, parent, listener, container["publish"]))
    limits.release_limits(container["limits"])
    for bound in container["binds"]:
        if not bound["read_only"]:
            strip_privileges(bound["source"])
    _report_to_process({"returncode": code})
    return 0


def _create_namespaces(container: ContainerSpec) -> None:
    """Create the namespaces of the container, for this process's children and its own sockets."""
    namespaces = {"pids": kernel.PID, "IPC": kernel.IPC, "the host name": kernel.UTS}
    if not container["network"]:
        namespaces["network"] = kernel.NETWORK
    if container["user_namespace"]:
        kernel.unshare(kernel.USER, "users")
    for what, flag in namespaces.items():
        kernel.unshare(flag, what)
    socket.sethostname(container["hostname"])
    if not container["network"]:
        kernel.bring_up_loopback()


async def _run_until_end(pid: int, parent: int, listener: socket.socket | None, port: int) -> int:
    """Follow the input's commands until the container has ended; return its exit status."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(os.pidfd_open(pid), ended.set)

    def read_command() -> None:
        words = os.read(0, 4096)
        if not words or b"kill" in words:
            loop.remove_reader(0)
            _send_signal(pid, signal.SIGKILL)
        elif b"terminate" in words:
            _send_signal(pid, signal.SIGTERM)

    loop.add_reader(0, read_command)
    relaying = None if listener is None else asyncio.create_task(serve_relay(listener, (kernel.ADDRESS, port)))
    while not ended.is_set():
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(ended.wait(), _PARENT_PERIOD)
        if os.getppid() != parent:
            _send_signal(pid, signal.SIGKILL)
    if relaying is not None:
        relaying.cancel()
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return code if code >= 0 else 128 - code


def _send_signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _report_to_process(message: Mapping[str, object]) -> None:
    with contextlib.suppress(OSError):  # the parent was killed
        os.write(sys.stdout.fileno(), json.dumps(message).encode() + b"\n")
