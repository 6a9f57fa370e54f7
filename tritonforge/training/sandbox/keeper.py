"""The keeper of one container: a small process between a `Process` and the container, which outlives neither.

It makes the namespaces and forks the container's first process (`init`) into them. It stays outside of the container's
process, mount and file system namespaces, but in its network: so it can hold a listening socket of this machine and
connect to the container's port, for sockets keep the namespace that they were made in.

It reads one `Container` as a line of JSON, then ``terminate`` and ``kill``; it writes ``{"pid": ...}`` or
``{"refused": ...}``, and at the end ``{"returncode": ...}``. The end of its input is the end of whoever wants the
container: it is killed, as it is by the kernel should the keeper be killed itself (``PR_SET_PDEATHSIG``).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import Mapping
from typing import Final

from tritonforge.training.sandbox import init, kernel, leavings, limits, relay

__all__ = ["main"]

#: Seconds between two looks at whether the parent is still there: a forked child of it may hold our input open.
_LOOK: Final = 1.0


def main() -> int:
    """Keep one container to its end. Arguments: the descriptors of its output, and of the listening socket or -1."""
    output, listening = int(sys.argv[2]), int(sys.argv[3])
    for number in (
        signal.SIGINT,
        signal.SIGTERM,
        signal.SIGHUP,
    ):  # Ctrl-C is the Process's business; it says
        signal.signal(number, signal.SIG_IGN)
    for descriptor in (output, listening):  # inherited, but not to be handed on
        if descriptor >= 0:
            os.set_inheritable(descriptor, False)
    parent = os.getppid()
    commands = os.fdopen(sys.stdin.fileno(), "rb", buffering=0)
    line = commands.readline()
    if not line:  # it was called off, or killed, before it said what to run
        return 1
    container: init.Container = json.loads(line)
    kept, alive = os.pipe()  # `alive` stays open here as long as this process lives
    reported, report = os.pipe()
    try:
        _namespaces(container)
        pid = os.fork()
    except OSError as error:
        limits.release(container["limits"])
        _say({"refused": str(error)})
        return 1
    if pid == 0:
        for descriptor in (alive, reported, *([listening] if listening >= 0 else [])):
            os.close(descriptor)
        os.dup2(os.open(os.devnull, os.O_RDWR), 0)
        os.dup2(0, 1)
        init.run(container, keeper=kept, report=report, output=output)
    for descriptor in (kept, report, output):
        os.close(descriptor)
    with os.fdopen(reported, "rb") as messages:
        message = json.loads(messages.readline() or b'{"refused": "the container ended before its command began"}')
    if "refused" in message:
        os.waitpid(pid, 0)
        limits.release(container["limits"])
        _say(message)
        return 1
    _say({"pid": pid})
    listener = socket.socket(fileno=listening) if listening >= 0 else None
    code = asyncio.run(_keep(pid, parent, listener, container["publish"]))
    limits.release(container["limits"])
    for bound in container["binds"]:
        if not bound["read_only"]:
            leavings.strip_privileges(bound["source"])
    _say({"returncode": code})
    return 0


def _namespaces(container: init.Container) -> None:
    """Put this process's children, and its own sockets, where the container will be."""
    wanted = {"pids": kernel.PID, "IPC": kernel.IPC, "the host name": kernel.UTS}
    if not container["network"]:
        wanted["network"] = kernel.NETWORK
    if container["user_namespace"]:
        kernel.unshare(kernel.USER, "users")
    for what, flag in wanted.items():
        kernel.unshare(flag, what)
    socket.sethostname(container["hostname"])
    if not container["network"]:
        kernel.loopback_up()


async def _keep(pid: int, parent: int, listener: socket.socket | None, port: int) -> int:
    """Do as the input says until the container has ended; gives its exit status."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(os.pidfd_open(pid), ended.set)

    def told() -> None:
        words = os.read(0, 4096)
        if not words or b"kill" in words:
            loop.remove_reader(0)
            _signal(pid, signal.SIGKILL)
        elif b"terminate" in words:
            _signal(pid, signal.SIGTERM)

    loop.add_reader(0, told)
    relaying = None if listener is None else asyncio.create_task(relay.serve(listener, (kernel.ADDRESS, port)))
    while not ended.is_set():
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(ended.wait(), _LOOK)
        if os.getppid() != parent:
            _signal(pid, signal.SIGKILL)
    if relaying is not None:
        relaying.cancel()
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return code if code >= 0 else 128 - code


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _say(message: Mapping[str, object]) -> None:
    with contextlib.suppress(OSError):  # nobody listens when the Process's own process was killed
        os.write(sys.stdout.fileno(), json.dumps(message).encode() + b"\n")
