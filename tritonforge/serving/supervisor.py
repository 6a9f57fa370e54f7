"""The supervisor: a small process between a Server and its tritonserver, which outlives neither.

A Server may end in any way, ``kill -9`` included, and must leave no process, shared memory or temporary folder behind.
So it starts this file as a program in a session of its own and keeps the write end of its standard input: the kernel
closes it when the Server's process ends, and the supervisor then stops tritonserver and cleans up. If the supervisor
itself is killed, the kernel kills tritonserver (``PR_SET_PDEATHSIG``), and the next command removes the rest
(`tritonforge.temporary`).

Only the standard library is imported, and nothing of tritonforge, so that ``python -S -I supervisor.py`` starts in
milliseconds. The program speaks JSON lines: it reads one `Job` and then ``stop`` or the end of its input; it writes
``{"pid": ...}`` when tritonserver runs, ``{"returncode": ...}`` when it has ended, and on request
``{"child": [...], "pid": ..., "status": ..., "out_of_memory": ..., "ended": ...}`` for each Python stub that ended and
that tritonserver did not wait for: 2.51 does not restart one that died, and answers 500 for its model from then on.
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

__all__ = ["SHARED_MEMORY", "Job", "main", "remove_shared_memory"]

#: Where the python backend keeps the shared memory between tritonserver and its stubs.
SHARED_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - POSIX shared memory, no temporary files

_PR_SET_PDEATHSIG: Final = 1

#: Seconds between two checks of the children of tritonserver. A child is reported that is a zombie in two checks:
#: tritonserver waits at once for those that it ends itself.
_PERIOD: Final = 0.2

#: Checks between two searches for new children, which read a file for each of tritonserver's 100 and more threads, and
#: the number of checks from the start on before each of which there is one: a minute, in which models are loaded.
_SEARCH_PERIOD: Final = 5
_EARLY_CHECKS: Final = 300

#: Fields of /proc/<pid>/stat after the name, counted from the state (man 5 proc_pid_stat).
_STATE: Final = 0
_EXIT_CODE: Final = 49


class Job(TypedDict):
    """What to run: sent by the Server as one line of JSON."""

    command: list[str]
    environment: dict[str, str]
    working_directory: str
    log: str
    folder: str  # the Server's temporary folder, removed at the end
    shared_memory_prefix: str  # see `tritonforge.temporary`
    grace: float  # seconds between SIGTERM and SIGKILL
    watch_children: bool  # report children that end while nothing waits for them


def remove_shared_memory(prefix: str) -> None:
    """Remove the shared memory regions whose names start with ``prefix``."""
    with contextlib.suppress(FileNotFoundError):
        for region in SHARED_MEMORY.iterdir():
            if region.name.startswith(prefix):
                region.unlink(missing_ok=True)


def main() -> int:
    """Run one job to its end."""
    os.umask(0o077)  # the log and the server's files may contain tensors: only this user may read them
    parent = os.getppid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the Server handles Ctrl-C, and sends stop
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    wake_read, wake_write = os.pipe()
    for end in (wake_read, wake_write):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(wake_write)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGTERM, lambda *_: None)
    job: Job = json.loads(_read_line(sys.stdin.fileno()))
    server = _start_server(job)
    _send({"pid": server.pid})
    returncode = None
    children = _Children(server.pid) if job["watch_children"] else None
    try:
        while (returncode := server.poll()) is None:
            timeout = 1.0 if children is None else _PERIOD
            ready, _, _ = select.select([sys.stdin.fileno(), wake_read], [], [], timeout)
            if wake_read in ready and signal.SIGTERM in os.read(wake_read, 4096):
                break
            # A forked child of the Server's process may hold the pipe open: the parent's death is watched as well.
            if sys.stdin.fileno() in ready or os.getppid() != parent:
                break
            if children is not None:
                for exited in children.check():
                    _send(exited)
        returncode = _stop_server(server, job["grace"])
    finally:
        _kill_group(server.pid)
        remove_shared_memory(job["shared_memory_prefix"])
        _send({"returncode": returncode})
        # The Server reads the log's last lines before it closes the pipe.
        while os.getppid() == parent:
            ready, _, _ = select.select([sys.stdin.fileno()], [], [], 1.0)
            if ready and not os.read(sys.stdin.fileno(), 4096):
                break
        shutil.rmtree(job["folder"], ignore_errors=True)
    return 0


def _read_line(descriptor: int) -> bytes:
    """Return the first line of a descriptor, without reading past it into a buffer that `select` cannot see."""
    line = bytearray()
    while not line.endswith(b"\n"):
        byte = os.read(descriptor, 1)
        if not byte:
            raise SystemExit("the job ended before its line did")
        line += byte
    return bytes(line)


def _start_server(job: Job) -> subprocess.Popen[bytes]:
    libc = ctypes.CDLL(None)
    supervisor = os.getpid()

    def die_with_supervisor() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != supervisor:  # it ended before the line above
            os._exit(1)

    with Path(job["log"]).open("ab") as log:
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


def _stop_server(server: subprocess.Popen[bytes], grace: float) -> int:
    """End tritonserver: SIGTERM, on which it unloads its models and each stub its framework, later SIGKILL."""
    deadline = time.monotonic() + grace
    if server.poll() is None:
        server.terminate()
    while server.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    _kill_group(server.pid)
    return server.wait()


def _kill_group(group: int) -> None:
    """Send SIGKILL to the rest of a process group; stubs outlive a tritonserver that crashed."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


class _Children:
    """The children of tritonserver, and those that ended without its notice."""

    def __init__(self, parent: int) -> None:
        self._parent = parent
        self._commands: dict[int, list[str]] = {}
        self._ended: dict[int, float] = {}
        self._reported: set[int] = set()
        self._kills = _count_memory_kills()
        self._checks = 0

    def check(self) -> list[Mapping[str, object]]:
        """Return the children that ended before the last check and that the server still has not waited for.

        A child is returned once.
        """
        exited: list[Mapping[str, object]] = []
        self._checks += 1
        if self._checks > _EARLY_CHECKS and self._checks % _SEARCH_PERIOD:
            present = [*{*self._commands, *self._ended}]
        else:
            present = self._list_pids()
        for pid in present:
            try:
                fields = _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()
                if fields[_STATE] != b"Z":
                    command = _read(f"/proc/{pid}/cmdline").rstrip(b"\0").split(b"\0")
                    self._commands[pid] = [os.fsdecode(word) for word in command]
                    continue
            except (OSError, IndexError):
                continue
            if pid not in self._ended:
                self._ended[pid] = time.monotonic()
            elif pid not in self._reported:
                self._reported.add(pid)
                exited.append(self._describe_exit(pid, int(fields[_EXIT_CODE])))
        # A listing may miss a child: those of a thread that ends pass to another one.
        missing = {*self._commands, *self._ended} - {*present}
        for pid in [pid for pid in missing if not os.path.exists(f"/proc/{pid}")]:  # noqa: PTH110 - as in `_read`
            self._commands.pop(pid, None)
            self._ended.pop(pid, None)
            self._reported.discard(pid)
        return exited

    def _list_pids(self) -> list[int]:
        pids: list[int] = []
        tasks = f"/proc/{self._parent}/task"
        with contextlib.suppress(OSError):
            for task in os.listdir(tasks):  # noqa: PTH208 - as in `_read`
                with contextlib.suppress(OSError):  # a thread that ended meanwhile
                    pids += map(int, _read(f"{tasks}/{task}/children").split())
        return pids

    def _describe_exit(self, pid: int, code: int) -> Mapping[str, object]:
        kills, self._kills = self._kills, _count_memory_kills()
        killed = os.WIFSIGNALED(code) and os.WTERMSIG(code) == signal.SIGKILL
        return {
            "child": self._commands.get(pid, []),
            "pid": pid,
            "status": os.waitstatus_to_exitcode(code),
            "out_of_memory": killed and self._kills > kills,
            "ended": self._ended[pid],
        }


def _read(path: str) -> bytes:
    """Return the content of a file below /proc, without the cost of pathlib: tritonserver has over 100 threads."""
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - see above
        return file.readall()


def _count_memory_kills() -> int:
    """Return how many processes the kernel has killed for memory; 0 where it does not report them.

    Sources: /proc/vmstat (the whole machine, Linux 4.13 and later), memory.events of this process's cgroup (version 2).
    """
    total = 0
    files = [Path("/proc/vmstat")]
    with contextlib.suppress(OSError):
        group = Path("/proc/self/cgroup").read_text().rpartition("::")[2].strip()
        files.append(Path(f"/sys/fs/cgroup{group}/memory.events"))
    for file in files:
        with contextlib.suppress(OSError, ValueError):
            for line in file.read_text().splitlines():
                name, _, value = line.partition(" ")
                if name == "oom_kill":
                    total += int(value)
    return total


def _send(message: Mapping[str, object]) -> None:
    with contextlib.suppress(OSError):  # the Server was killed
        os.write(sys.stdout.fileno(), json.dumps(message).encode() + b"\n")


if __name__ == "__main__":
    sys.exit(main())
