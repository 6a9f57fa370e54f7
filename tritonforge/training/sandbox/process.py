"""A program in a container like that of ``docker run``, without Docker: namespaces, its own root, the same signals.

`start_container` returns a `Process`. It ends with this Python process, however that ends, and leaves nothing behind:
no process, no mount, no folder (see `keeper` and `root`). An edge.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import platform
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType, TracebackType
from typing import IO, Any, Final

from tritonforge.training.sandbox import kernel, limits, volumes
from tritonforge.training.sandbox.keeper import ContainerSpec
from tritonforge.training.sandbox.limits import NO_LIMITS, Limits
from tritonforge.training.sandbox.volumes import (
    Bind,
    SandboxError,
    find_package_folder,
    list_interpreter_binds,
    read_resolver,
    resolve_bind,
    resolve_target,
)

__all__ = ["SHARED_MEMORY", "Process", "describe_isolation", "describe_sharing", "explain_refusal", "start_container"]


def describe_isolation(*, network: bool) -> tuple[str, ...]:
    """Describe what is the container's own; ``network``: it has this machine's network."""
    return (
        "its processes see only each other, and all end with the command",
        *([] if network else ["its network is loopback only: nothing outside, and no server of this machine"]),
        "of this machine's files it has the system's (/usr, /lib, parts of /etc), this Python, and what is bound",
        "home directories and all other data are hidden",
        "its files are read-only, except for what is bound writable; new files in other places are kept in memory",
        "it leaves no file with a set-user-ID or set-group-ID bit",
        "its environment, host name, IPC and devices are its own, and root has the rights that docker run leaves it",
    )


def describe_sharing(*, network: bool, limit: Limits = NO_LIMITS) -> tuple[str, ...]:
    """Describe what the container shares with this machine, and how it differs from a container of an image."""
    unlimited = [
        name
        for name, value in (
            ("memory (--memory)", limit.memory),
            ("CPU (--cpus)", limit.cpus),
            ("processes (--pids-limit)", limit.pids),
        )
        if value is None
    ]
    return (
        "the system's files, this Python and its packages are this machine's, readable, instead of an image's",
        "the kernel and the users are this machine's; there is no GPU",
        *([f"without a limit: {', '.join(unlimited)}"] if unlimited else []),
        *(
            ["the network is this machine's: it can call out, and its ports are this machine's ports"]
            if network
            else []
        ),
        "a SIGTERM that the command does not handle ends it; in a container it is process 1, and would ignore that",
    )


def explain_refusal(what: str, *, root: bool) -> str:
    """Build the message for a start that the kernel rejected; ``root``: the user is root already."""
    advice = (
        "inside a container give it the right to (docker run --privileged, or --security-opt seccomp=unconfined "
        "--cap-add SYS_ADMIN)"
        if root
        else "run as root, or let users make namespaces (sysctl kernel.unprivileged_userns_clone=1, "
        "kernel.apparmor_restrict_unprivileged_userns=0)"
    )
    return f"the container cannot be isolated on this machine, so nothing was run: {what}; {advice}"


#: Bytes of /dev/shm: the default of docker run (--shm-size).
SHARED_MEMORY: Final = 64 * 2**20

_HOST: Final = "127.0.0.1"

#: Bytes of a line of the log; a longer one is split. The limit of an event of CloudWatch Logs.
_MAX_LINE: Final = 256 * 2**10

#: Starts `keeper` with the standard library and this tritonforge, without the rest of this environment.
_KEEPER: Final = (
    "import sys; sys.path.append(sys.argv[1]); from tritonforge.training.sandbox.keeper import main; sys.exit(main())"
)


class Process:
    """A running container; built by `start_container`. Leaving the ``with`` block, or `kill`, ends it at once.

    Attributes:
        pid: the container's first process, as this machine numbers it.
        port: a loopback port of this machine that leads to the published one, None without one.
        isolates: sentences about what is isolated and what is not.
        limited: sentences about what is limited, and by what.
    """

    def __init__(
        self,
        keeper: subprocess.Popen[bytes],
        output: IO[bytes],
        log: Callable[[str], None],
        *,
        pid: int,
        port: int | None,
        isolates: tuple[str, ...],
        limited: tuple[str, ...] = (),
    ) -> None:
        self.pid = pid
        self.port = port
        self.isolates = isolates
        self.limited = limited
        self._keeper = keeper
        self._returncode: int | None = None
        self._log_error: BaseException | None = None
        self._ended = threading.Event()
        self._send_lock = threading.Lock()
        reading = threading.Thread(target=self._read_log, args=(output, log), daemon=True)
        reading.start()
        threading.Thread(target=self._watch_keeper, args=(reading,), daemon=True).start()

    def __enter__(self) -> Process:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.kill()

    @property
    def returncode(self) -> int | None:
        """The exit status, as `wait` returns it; None while the command runs."""
        return self._returncode if self._ended.is_set() else None

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the command's end; return its exit status, 128 + n if signal n ended it.

        When this returns, the last line was passed to ``log``. An error that ``log`` raised is raised here.

        Raises:
            TimeoutError: it still runs after ``timeout`` seconds.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self._ended.wait(1.0 if deadline is None else max(0.0, min(1.0, deadline - time.monotonic()))):
            if deadline is not None and time.monotonic() >= deadline:
                raise TimeoutError(f"the container still runs after {timeout:g} s")
        if self._log_error is not None:
            raise self._log_error
        assert self._returncode is not None
        return self._returncode

    def terminate(self, grace: float) -> int:
        """Send SIGTERM to the command, and SIGKILL to the container if it still runs ``grace`` seconds later."""
        self._send(b"terminate\n")
        try:
            return self.wait(grace)
        except TimeoutError:
            return self.kill()

    def kill(self) -> int:
        """Send SIGKILL to the container; return the exit status, 137 unless the command had ended before."""
        self._send(b"kill\n")
        if not self._ended.wait(10):
            self._keeper.kill()  # and the kernel kills the container with it
        self._ended.wait()
        return self._returncode or 0

    def _send(self, word: bytes) -> None:
        assert self._keeper.stdin is not None
        with self._send_lock, contextlib.suppress(OSError, ValueError):  # it has ended
            self._keeper.stdin.write(word)
            self._keeper.stdin.flush()

    def _read_log(self, output: IO[bytes], log: Callable[[str], None]) -> None:
        """Pass the command's lines to ``log`` until the last process that could write one has ended."""
        with output:
            for line in iter(lambda: output.readline(_MAX_LINE), b""):
                if self._log_error is None:
                    try:
                        log(line.decode(errors="replace").removesuffix("\n"))
                    except BaseException as error:  # raised by `wait`; the command must not block meanwhile
                        self._log_error = error

    def _watch_keeper(self, reading: threading.Thread) -> None:
        """Read the exit status from the keeper, and wait for its end."""
        keeper = self._keeper
        assert keeper.stdout is not None
        assert keeper.stdin is not None
        with keeper.stdout:
            for line in keeper.stdout:
                self._returncode = json.loads(line)["returncode"]
        keeper.wait()
        if self._returncode is None:
            self._returncode = 137  # the keeper was killed, and the container with it
        reading.join()
        with self._send_lock, contextlib.suppress(OSError):
            keeper.stdin.close()
        self._ended.set()


def start_container(
    command: Sequence[str],
    *,
    binds: Sequence[Bind] = (),
    files: Mapping[str, str] = MappingProxyType({}),
    environment: Mapping[str, str] = MappingProxyType({}),
    publish: int | None = None,
    port: int = 0,
    network: bool = False,
    hostname: str = "algo-1",
    directory: str = "/",
    shared_memory: int = SHARED_MEMORY,
    limit: limits.Limits = limits.NO_LIMITS,
    log: Callable[[str], None] = lambda line: None,
) -> Process:
    """Start a command in a container of its own; return when it runs.

    Args:
        command: executed without a shell (the exec form of ENTRYPOINT); found on the container's PATH. Its status is
        127 if
            it is not found, 126 if it cannot be executed, as in docker run, with a message in the log.
        binds: folders and files of this machine in the container; mount points need not exist on this machine.
        files: texts by their absolute path, read-only; no file of this machine is created for them.
        environment: added to the variables of `build_environment`; nothing else is inherited.
        publish: a port of the container that a loopback port of this machine leads to. The program must listen on all
            addresses (0.0.0.0), as in Docker; a program that listens on 127.0.0.1 is not reached.
        port: that port of this machine; 0 is any free one.
        network: this machine's network instead of loopback only; ``publish`` is then a port of this machine itself.
        hostname: the container's name; a training job's hosts are algo-1, algo-2, ...
        directory: the working directory, WORKDIR.
        shared_memory: the size of /dev/shm in bytes.
        limit: of memory, CPU and processes; `Process.limited` says what enforces each.
        log: called by a thread with each line of the command's output and errors, without the line's end.

    Raises:
        BindError: a bind's source is missing, or its target is invalid.
        SandboxError: this machine does not allow the namespaces or the port, or a mount point cannot be created.
    """
    if platform.system() != "Linux":
        raise SandboxError(f"this machine is {platform.system()}, and only Linux has such namespaces; use Docker here")
    bound = [resolve_bind(bind) for bind in (*list_interpreter_binds(), *binds)]
    variables = {**volumes.build_environment(hostname), **environment}
    names = {"/etc/resolv.conf": read_resolver()} if network else {}
    prepared = limits.prepare_limits(limit)
    container: ContainerSpec = {
        "command": list(command),
        "environment": variables,
        "directory": directory,
        "binds": bound,
        "files": {resolve_target(path): text for path, text in {**names, **files}.items()},
        "hostname": hostname,
        "network": network,
        "shared_memory": shared_memory,
        "user_namespace": not kernel.has_admin_capability(),
        "publish": publish or 0,
        "limits": prepared.enforced,
    }
    with contextlib.ExitStack() as stack:
        unstarted = stack.enter_context(contextlib.ExitStack())
        unstarted.callback(limits.release_limits, prepared.enforced)
        listener = _open_listener(port) if publish is not None and not network else None
        if listener is not None:
            stack.enter_context(listener)
        read, write = os.pipe()
        output = os.fdopen(read, "rb")
        listening = -1 if listener is None else listener.fileno()
        try:
            keeper = subprocess.Popen(  # noqa: S603 - this Python, with a module of this package
                [sys.executable, "-S", "-I", "-c", _KEEPER, str(find_package_folder()), str(write), str(listening)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                pass_fds=[write] if listener is None else [write, listening],
                start_new_session=True,  # Ctrl-C in a terminal reaches this process alone
                cwd="/",
            )
        finally:
            os.close(write)
        pid = _launch_keeper(keeper, output, container)
        unstarted.pop_all()  # from here on the keeper releases them
        reached = None if publish is None else publish if listener is None else listener.getsockname()[1]
        return Process(
            keeper,
            output,
            log,
            pid=pid,
            port=reached,
            isolates=(
                *describe_isolation(network=network),
                *prepared.sentences,
                *describe_sharing(network=network, limit=limit),
            ),
            limited=prepared.sentences,
        )


def _open_listener(port: int) -> socket.socket:
    """Open a listening socket of this machine's network, on loopback."""
    try:
        return socket.create_server((_HOST, port), backlog=512)
    except (OSError, OverflowError) as error:
        if getattr(error, "errno", None) == errno.EADDRINUSE:
            raise SandboxError(
                f"port {port} on {_HOST} is in use; choose another one with --port (0: any free)"
            ) from error
        raise SandboxError(
            f"port {port} on {_HOST} cannot be opened: {error}; choose another one with --port (0: any free)"
        ) from error


def _launch_keeper(keeper: subprocess.Popen[bytes], output: IO[bytes], container: ContainerSpec) -> int:
    """Send the keeper its container, and return the process id that it reports; on failure end both."""
    assert keeper.stdin is not None
    assert keeper.stdout is not None
    message: dict[str, Any] = {"refused": "the keeper ended before the container started"}
    try:
        with contextlib.suppress(BrokenPipeError):
            keeper.stdin.write(json.dumps(container).encode() + b"\n")
            keeper.stdin.flush()
        if line := keeper.stdout.readline():
            message = json.loads(line)
    finally:  # on an interruption (Ctrl-C) too
        if "pid" not in message:
            keeper.kill()
            keeper.wait()
            for stream in (keeper.stdin, keeper.stdout, output):
                with contextlib.suppress(BrokenPipeError):
                    stream.close()
    if "pid" not in message:
        raise SandboxError(explain_refusal(message["refused"], root=os.geteuid() == 0))
    return int(message["pid"])
