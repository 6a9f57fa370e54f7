"""A process under supervision: it ends with this one, however this one ends, and leaves nothing behind.

The `supervisor` stands between; see there for how. `tritonforge.serving.server` runs tritonserver this way, and
`tritonforge.serving.tfs` its container.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from tritonforge import temporary
from tritonforge.errors import LaunchError
from tritonforge.serving import folders, serverlog, supervisor

__all__ = ["GRACE", "ChildExit", "Supervised", "how_it_ended"]

#: Seconds that the process gets between SIGTERM and SIGKILL, in-flight requests included.
GRACE: Final = 10.0

#: Where it runs, inside its folder: an empty place, since Python looks for modules in it first.
_WORKING_DIRECTORY: Final = "work"

_count = itertools.count()


@dataclass(frozen=True, slots=True)
class ChildExit:
    """A child of the supervised process that ended, and that the process itself has not waited for.

    ``command`` is the child's command line, empty where it was too short-lived to be read. ``status`` is its exit
    status, or minus the number of the signal that ended it; ``out_of_memory`` says that the kernel's out-of-memory
    killer was active at that time. ``ended`` is on the clock of `time.monotonic`, in seconds.
    """

    command: tuple[str, ...]
    pid: int
    status: int
    out_of_memory: bool
    ended: float

    def is_unnoticed(self) -> bool:
        """Whether the process still has not waited for the child, which is a zombie then."""
        try:
            return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except (OSError, IndexError):
            return False


def how_it_ended(status: int) -> str:
    """An exit status, or minus a signal's number, as a part of a sentence."""
    if status >= 0:
        return f"with exit status {status}"
    try:
        return f"by signal {signal.Signals(-status).name}"
    except ValueError:  # a real-time signal
        return f"by signal {-status}"


class Supervised:
    """One supervised process, with a temporary folder and a log of its own; `launch` it once, `stop` it any time.

    ``log`` is written anew, or with ``keep_log`` appended to; without it the log lives as long as the folder, and its
    last lines longer. ``on_child_exit``, where it is given, is called from a thread with each child that ended
    unnoticed.

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
        self.prefix = temporary.prefix(f"s{next(_count)}")
        self.folder = folders.make(self.prefix)
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
            raise LaunchError(f"{self.log}: the log cannot be written: {error.strerror}") from error

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
        # -S and -I: the supervisor needs the standard library only, and nothing of this environment. -X utf8: what it
        # is sent holds paths of any bytes, whatever the locale.
        process = subprocess.Popen(  # noqa: S603 - this Python, with a file of this package
            [sys.executable, "-S", "-I", "-X", "utf8", supervisor.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C in a terminal reaches this process alone, which then says stop
        )
        self._supervisor = process
        self._say(json.dumps(job).encode() + b"\n")
        assert process.stdout is not None
        started = threading.Event()
        threading.Thread(target=self._listen, args=(process.stdout, started), daemon=True).start()
        started.wait(30)

    def request_stop(self) -> None:
        """Ask the process to end, without waiting; `ended` is set when it has."""
        self._say(b"stop\n")

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
            with contextlib.suppress(OSError):  # what could not be said to a supervisor that is gone
                process.stdin.close()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()  # the kernel kills the process with it
                process.wait()
            self.ended.wait(5)
        supervisor.remove_shared_memory(self.prefix)
        shutil.rmtree(self.folder, ignore_errors=True)

    def how_it_ended(self) -> str:
        """The exit status or the signal, as a part of a sentence."""
        return how_it_ended(self.returncode or 0)

    def read_log(self) -> str:
        """The log so far, also after the process was stopped."""
        try:
            return self.log.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return self._last_log

    def log_tail(self, lines: int) -> str:
        """The last lines of the log."""
        return serverlog.tail(self.read_log(), lines)

    def _say(self, message: bytes) -> None:
        assert self._supervisor is not None
        assert self._supervisor.stdin is not None
        try:
            self._supervisor.stdin.write(message)
            self._supervisor.stdin.flush()
        except (OSError, ValueError):  # the supervisor is gone, or was told to end; `_listen` notices
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
