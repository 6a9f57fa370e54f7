"""A shell as a user has it: commands one after another, background jobs, a terminal that answers questions."""

from __future__ import annotations

import contextlib
import os
import pty
import random
import re
import select
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final

__all__ = ["ShellSession"]

#: Reads commands, runs each one here, and prints its exit code.
_LOOP: Final = """\
set -m
while IFS= read -r -d '' -u {descriptor} command; do
  eval "$command"
  printf '\\036%d\\036' $?
done
kill -INT $(jobs -p) 2>/dev/null
wait
"""
_END: Final = re.compile(rb"\x1e(\d+)\x1e")
#: What a shell says of its jobs.
_JOB: Final = re.compile(r"\[\d+\][+-]? +(?:Running|Done|Exit \d+|Interrupt|Terminated)\b.*\n?")

#: The ports that documents name, by the option that chooses another one.
_SERVE_PORTS: Final = {"--sagemaker-port": 8080, "--http-port": 8000, "--grpc-port": 8001, "--metrics-port": 8002}
_EMULATE_PORTS: Final = {"--port": 4566, "--proxy-port": 4567}
_OTHER_PORTS: Final = (8099,)

#: A program of the session's own in front of the real one: servers get ports that are free.
_PROGRAM: Final = """\
#!/bin/bash
case "$1 $*" in
  serve\\ *) shift; exec {program} serve {serve} "$@" ;;
  emulate\\ *--env*) shift; exec {program} emulate --port={emulator} "$@" ;;
  emulate\\ *) shift; exec {program} emulate {emulate} "$@" ;;
  *) exec {program} "$@" ;;
esac
"""


class ShellSession:
    """A bash in a folder, with free ports instead of those that documents name; a context manager.

    Commands and their output have the ports of the documents.
    """

    def __init__(self, folder: Path, programs: Path, environment: Mapping[str, str]) -> None:
        """Start the shell; ``programs`` is a folder for the program that it calls."""
        named = [*_SERVE_PORTS.values(), *_EMULATE_PORTS.values(), *_OTHER_PORTS]
        self._ports = {str(port): str(free) for port, free in _find_free_ports(named).items()}
        self._originals = {free: port for port, free in self._ports.items()}
        self._write_program(programs)
        search_path = os.pathsep.join((str(programs), str(Path(sys.executable).parent), os.environ["PATH"]))
        self._terminal, follower = pty.openpty()
        reading, self._commands = os.pipe()
        self._process = subprocess.Popen(
            ["bash", "--norc", "--noprofile", "-c", _LOOP.format(descriptor=reading)],
            cwd=folder,
            env={**os.environ, "PATH": search_path, "PYTHONUNBUFFERED": "1", "NO_COLOR": "1", **environment},
            stdin=follower,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=(reading,),
        )
        os.close(reading)
        os.close(follower)

    def _write_program(self, programs: Path) -> None:
        def choose(options: Mapping[str, int]) -> str:
            return " ".join(f"{option}={self._ports[str(port)]}" for option, port in options.items())

        program = programs / "tritonforge"
        program.write_text(
            _PROGRAM.format(
                program=Path(sys.executable).with_name("tritonforge"),
                serve=choose(_SERVE_PORTS),
                emulate=choose(_EMULATE_PORTS),
                emulator=self._ports["4566"],
            )
        )
        program.chmod(program.stat().st_mode | stat.S_IXUSR)

    def __enter__(self) -> ShellSession:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the jobs, as Ctrl-C does, and the shell."""
        os.close(self._commands)
        try:
            self._process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            self._process.send_signal(signal.SIGKILL)
            self._process.communicate()
        finally:
            os.close(self._terminal)

    def run(self, command: str, *, answer: str = "", timeout: float = 120) -> tuple[int, str]:
        """Run a command; return its exit code and what the terminal shows. ``answer`` is typed where it asks."""
        if answer:
            os.write(self._terminal, f"{answer}\n".encode())
        output = self._execute(command, "", timeout)
        end = _END.search(output)
        assert end is not None
        return int(end[1]), self._restore(output)

    def start(self, command: str, *, last_line: str, timeout: float = 120) -> str:
        """Start a job, a command that ends with `&`; return what it prints, up to a line with this beginning."""
        return self._restore(self._execute(command, last_line, timeout))

    def replace_ports(self, text: str) -> str:
        """Return a text with the ports that are used here."""
        return re.sub(rf"(?:(?<=:)|(?<=port ))(?:{'|'.join(self._ports)})\b", lambda match: self._ports[match[0]], text)

    def _execute(self, command: str, last_line: str, timeout: float) -> bytes:
        """Return the output, with the exit code in it, until the command has ended and printed the last line."""
        assert self._process.stdout is not None
        os.write(self._commands, self.replace_ports(command).encode() + b"\0")
        limit = time.monotonic() + timeout
        descriptor = self._process.stdout.fileno()
        line = re.compile(rb"^" + re.escape(last_line.encode()) + rb".*\n", re.MULTILINE)
        output = b""
        while not (_END.search(output) and (not last_line or line.search(_END.sub(b"", output)))):
            ready, _, _ = select.select([descriptor], [], [], max(0.0, limit - time.monotonic()))
            received = os.read(descriptor, 65536) if ready else b""
            if not received:
                reason = "the shell ended" if ready else f"no end within {timeout:g} s"
                raise AssertionError(f"$ {command}\n{self._restore(output)}\n{reason}")
            output += received
        return output

    def _restore(self, output: bytes) -> str:
        text = _JOB.sub("", _END.sub(b"", output).decode())
        text = re.sub(rf"\b(?:{'|'.join(self._originals)})\b", lambda match: self._originals[match[0]], text)
        return text.replace(" --port 4566", "")  # what emulate adds for another port than its own


def _find_free_ports(ports: Sequence[int]) -> dict[int, int]:
    """Return a free port for each one, with the distances kept: `watch` finds the metrics two above the HTTP port."""
    while True:
        distance = random.randrange(12_000, 20_000)
        with contextlib.ExitStack() as stack:
            try:
                for port in ports:
                    stack.enter_context(socket.create_server(("127.0.0.1", port + distance)))
            except OSError:
                continue
        return {port: port + distance for port in ports}
