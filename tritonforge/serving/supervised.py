"""A process under supervision: it ends with this one, however this one ends, and leaves nothing behind.

The `supervisor` stands between; see there for how. `tritonforge.serving.tfs` runs its container this way.
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
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Final

from tritonforge.errors import LaunchError
from tritonforge.serving import serverlog, supervisor

__all__ = ["GRACE", "Supervised"]

#: Seconds that the process gets between SIGTERM and SIGKILL.
GRACE: Final = 10.0

#: Where it runs, inside its folder: an empty place, since Python looks for modules in it first.
_WORKING_DIRECTORY: Final = "work"

_count = itertools.count()


class Supervised:
    """One supervised process, with a temporary folder and a log of its own; `launch` it once, `stop` it any time.

    ``log`` is written anew; without it the log lives as long as the folder, and its last lines longer.

    Raises:
        LaunchError: the log cannot be written.
    """

    def __init__(self, *, log: Path | None) -> None:
        # Process ids are told apart by their namespace.
        self._family = f"tritonforge_{Path('/proc/self/ns/pid').stat().st_ino}_"
        self._prefix = f"{self._family}{os.getpid()}_s{next(_count)}_"
        self.folder = Path(tempfile.mkdtemp(prefix=self._prefix))
        self.log = self.folder / "process.log" if log is None else log.absolute()
        self.ended = threading.Event()
        self.pid: int | None = None
        self.returncode: int | None = None
        self.stopped = False
        self._last_log = ""
        self._supervisor: subprocess.Popen[bytes] | None = None
        try:
            self.log.write_bytes(b"")
        except OSError as error:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise LaunchError(f"{self.log}: the log cannot be written: {error.strerror}") from error

    def launch(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Start the process; returns when it runs."""
        supervisor.remove_leftovers(self._family, Path(tempfile.gettempdir()))
        place = self.folder / _WORKING_DIRECTORY
        place.mkdir()
        job: supervisor.Job = {
            "command": list(command),
            "environment": dict(environment),
            "working_directory": str(place),
            "log": str(self.log),
            "folder": str(self.folder),
            "shared_memory_prefix": self._prefix,
            "grace": GRACE,
        }
        # -S and -I: the supervisor needs the standard library only, and nothing of this environment.
        process = subprocess.Popen(  # noqa: S603 - this Python, with a file of this package
            [sys.executable, "-S", "-I", supervisor.__file__],
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

    def stop(self) -> None:
        """End the process: nothing of it is left when this returns. May be called twice."""
        if self.stopped:
            return
        self.stopped = True
        process = self._supervisor
        if process is not None:
            self._say(b"stop\n")
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
        shutil.rmtree(self.folder, ignore_errors=True)

    def how_it_ended(self) -> str:
        """The exit status or the signal, as a part of a sentence."""
        code = self.returncode or 0
        return f"by signal {signal.Signals(-code).name}" if code < 0 else f"with exit status {code}"

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
        except OSError:  # the supervisor is gone; `_listen` notices
            pass

    def _listen(self, messages: IO[bytes], started: threading.Event) -> None:
        """Take the supervisor's messages until it ends; run by a thread of its own."""
        with messages:
            for line in messages:
                message = json.loads(line)
                if "pid" in message:
                    self.pid = message["pid"]
                    started.set()
                else:
                    self.returncode = message["returncode"]
                    self.ended.set()
        if self.returncode is None:
            self.returncode = -signal.SIGKILL  # the supervisor was killed, and the process with it
        started.set()
        self.ended.set()
