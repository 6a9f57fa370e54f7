"""A command that runs against an emulator, and the environment of an emulator that runs already."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from types import FrameType
from typing import Final

import click

from tritonforge.errors import LaunchError

__all__ = ["environment_of", "find", "run"]

#: Variables that are taken from whatever listens on the port: a shell evaluates them.
_ACCEPTED: Final = re.compile(
    r"(?:AWS|SAGEMAKER)_[A-Z0-9_]+|(?:https?|no)_proxy|(?:HTTPS?|NO)_PROXY"
    r"|(?:CURL|REQUESTS)_CA_BUNDLE|SSL_CERT_FILE|NODE_EXTRA_CA_CERTS"
)

_TIMEOUT: Final = 10.0

#: What a shell adds to the number of the signal that ended a command.
_BY_SIGNAL: Final = 128


def find(command: Sequence[str]) -> str:
    """The path of a command's program. Raises UsageError where there is none."""
    found = shutil.which(command[0])
    if found is None:
        raise click.UsageError(f"{command[0]!r}: command not found")
    return found


def run(command: Sequence[str], variables: Mapping[str, str]) -> int:
    """Run a command with variables added to this process's environment; gives its exit code, as a shell does.

    SIGTERM and SIGHUP are passed on to the command. SIGINT is as well, unless the terminal has sent it to both.
    """
    from tritonforge.emulator import client_environment

    process: subprocess.Popen[bytes] | None = None
    early: list[int] = []

    def pass_on(number: int, _: FrameType | None) -> None:
        if process is None:
            early.append(number)
        elif process.poll() is None and not (number == signal.SIGINT and _in_foreground()):
            process.send_signal(number)

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, pass_on) for number in numbers}
    try:
        process = subprocess.Popen(command, env=client_environment.merge_environment(os.environ, variables))  # noqa: S603 - the user's own
        for number in early:
            process.send_signal(number)
        code = process.wait()
    except OSError as error:
        raise click.UsageError(f"{command[0]}: cannot be run: {error.strerror}") from error
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return _BY_SIGNAL - code if code < 0 else code


def _in_foreground() -> bool:
    """Whether a terminal's Ctrl-C reaches the command by itself: it is in the terminal's foreground process group."""
    try:
        with open("/dev/tty", "rb") as terminal:  # noqa: PTH123 - its descriptor is what is needed
            return os.tcgetpgrp(terminal.fileno()) == os.getpgrp()
    except OSError:
        return False


def environment_of(port: int) -> dict[str, str]:
    """The variables of the emulator that runs on a port of this machine.

    Raises LaunchError where nothing listens there, or something else does.
    """
    import urllib3

    from tritonforge.emulator import client_environment

    url = f"http://127.0.0.1:{port}{client_environment.ENVIRONMENT_PATH}"
    try:
        with urllib3.PoolManager(retries=False, timeout=_TIMEOUT) as pool:
            answer = pool.request("GET", url)
    except urllib3.exceptions.HTTPError as error:
        raise LaunchError(
            f"no emulator runs on port {port} of 127.0.0.1; start one with tritonforge emulate, or name its --port"
        ) from error
    try:
        found = json.loads(answer.data)["proxy_environment"]
        return {name: str(value) for name, value in found.items() if _ACCEPTED.fullmatch(name)}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise LaunchError(
            f"what listens on port {port} of 127.0.0.1 is not tritonforge's emulator; name the emulator's --port"
        ) from None
