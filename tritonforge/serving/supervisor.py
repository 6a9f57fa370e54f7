"""The supervisor: a small process between a Server and its tritonserver, which outlives neither.

A Server may end in any way, ``kill -9`` included, and must leave no process, no shared memory and no temporary folder
behind. So it starts this file as a program in a session of its own and keeps the write end of its standard input: the
kernel closes it when the Server's process ends, and the supervisor then stops tritonserver and clears up. Should the
supervisor be killed itself, the kernel kills tritonserver (``PR_SET_PDEATHSIG``), and the next Server clears the rest.

Only the standard library is imported, and nothing of tritonforge, so that ``python -S -I supervisor.py`` starts in
milliseconds. The program speaks JSON lines: it reads one `Job` and then ``stop`` or the end of its input; it writes
``{"pid": ...}`` when tritonserver runs, ``{"returncode": ...}`` when it has ended.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final, TypedDict

__all__ = ["SHARED_MEMORY", "Job", "main", "remove_leftovers", "remove_shared_memory"]

#: Where the python backend keeps the shared memory between tritonserver and its stubs.
SHARED_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - not a place of ours for temporary files: POSIX shared memory

_PR_SET_PDEATHSIG: Final = 1


class Job(TypedDict):
    """What to run: sent by the Server as one line of JSON."""

    command: list[str]
    environment: dict[str, str]
    working_directory: str
    log: str
    folder: str  # the Server's temporary folder, removed at the end
    shared_memory_prefix: str  # ends with "_<pid of the supervisor's parent>_"
    grace: float  # seconds between SIGTERM and SIGKILL


def remove_shared_memory(prefix: str) -> None:
    """Remove the shared memory regions whose names start with ``prefix``."""
    with contextlib.suppress(FileNotFoundError):
        for region in SHARED_MEMORY.iterdir():
            if region.name.startswith(prefix):
                region.unlink(missing_ok=True)


def remove_leftovers(prefix: str, folder: Path) -> None:
    """Remove shared memory, and entries of ``folder``, named ``<prefix><pid>_...`` whose process <pid> is gone.

    Only where a supervisor was killed with SIGKILL is there anything to remove.
    """
    for place in (SHARED_MEMORY, folder):
        with contextlib.suppress(OSError):  # another user's, or removed by somebody else meanwhile
            for entry in place.iterdir():
                pid = entry.name.removeprefix(prefix).split("_")[0]
                if not entry.name.startswith(prefix) or not pid.isdigit() or Path("/proc", pid).exists():
                    continue
                if entry.is_dir():
                    shutil.rmtree(entry, ignore_errors=True)
                else:
                    entry.unlink(missing_ok=True)


def main() -> int:
    """Run one job to its end."""
    os.umask(0o077)  # the log and what the server writes may hold tensors: for this user's eyes only
    parent = os.getppid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the Server's business; it says stop
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    wake_read, wake_write = os.pipe()
    for end in (wake_read, wake_write):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(wake_write)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGTERM, lambda *_: None)
    job: Job = json.loads(_line(sys.stdin.fileno()))
    server = _start(job)
    _say({"pid": server.pid})
    returncode = None
    try:
        while (returncode := server.poll()) is None:
            ready, _, _ = select.select([sys.stdin.fileno(), wake_read], [], [], 1.0)
            if wake_read in ready and signal.SIGTERM in os.read(wake_read, 4096):
                break
            # A forked child of the Server's process may hold the pipe open: the parent's death is watched as well.
            if sys.stdin.fileno() in ready or os.getppid() != parent:
                break
        returncode = _stop(server, job["grace"])
    finally:
        _kill(server.pid)
        remove_shared_memory(job["shared_memory_prefix"])
        _say({"returncode": returncode})
        # The Server reads the log's last lines before it closes the pipe.
        while os.getppid() == parent:
            ready, _, _ = select.select([sys.stdin.fileno()], [], [], 1.0)
            if ready and not os.read(sys.stdin.fileno(), 4096):
                break
        shutil.rmtree(job["folder"], ignore_errors=True)
    return 0


def _line(descriptor: int) -> bytes:
    """The first line of a descriptor, read without reading past it into a buffer that `select` cannot see."""
    line = bytearray()
    while not line.endswith(b"\n"):
        byte = os.read(descriptor, 1)
        if not byte:
            raise SystemExit("the job ended before its line did")
        line += byte
    return bytes(line)


def _start(job: Job) -> subprocess.Popen[bytes]:
    libc = ctypes.CDLL(None)
    supervisor = os.getpid()

    def die_with_supervisor() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != supervisor:  # it ended before the line above
            os._exit(1)

    with Path(job["log"]).open("wb") as log:
        return subprocess.Popen(  # noqa: S603 - the command is the Server's own
            job["command"],
            env=job["environment"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=job["working_directory"],
            start_new_session=True,  # one process group with its stubs, which a signal reaches as one
            preexec_fn=die_with_supervisor,  # this process has one thread
        )


def _stop(server: subprocess.Popen[bytes], grace: float) -> int:
    """End tritonserver: ask, wait, insist. It unloads its models at SIGTERM, and each stub ends its own framework."""
    deadline = time.monotonic() + grace
    if server.poll() is None:
        server.terminate()
    while server.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    _kill(server.pid)
    return server.wait()


def _kill(group: int) -> None:
    """SIGKILL to what is left of a process group; stubs outlive a tritonserver that crashed."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def _say(message: Mapping[str, int | None]) -> None:
    with contextlib.suppress(OSError):  # nobody listens when the Server was killed
        os.write(sys.stdout.fileno(), json.dumps(message).encode() + b"\n")


if __name__ == "__main__":
    sys.exit(main())
