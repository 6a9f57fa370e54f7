"""The command emulate: SageMaker on this machine, and commands that run against it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from tritonforge import request_origin
from tritonforge.cli.command import Command
from tritonforge.cli.options import (
    DIRECTORY,
    FILE,
    PORT,
    json_option,
    list_given_options,
    name_value_option,
    option,
    reject_options,
)
from tritonforge.cli.printing import echo_json
from tritonforge.cli.terminal import err, handle_signals, out, steps
from tritonforge.errors import LaunchError
from tritonforge.files import describe_error

if TYPE_CHECKING:
    from tritonforge.emulator import Emulator

__all__ = ["emulate"]

_PORT: Final = 4566

#: Variables that are accepted from whatever listens on the port: a shell evaluates them.
_ACCEPTED: Final = re.compile(
    r"(?:AWS|SAGEMAKER)_[A-Z0-9_]+|(?:https?|no)_proxy|(?:HTTPS?|NO)_PROXY"
    r"|(?:CURL|REQUESTS)_CA_BUNDLE|SSL_CERT_FILE|NODE_EXTRA_CA_CERTS"
)

_TIMEOUT: Final = 10.0

#: A shell adds this to the number of the signal that ended a command.
_SIGNAL_OFFSET: Final = 128


@click.command(
    cls=Command,
    context_settings={"allow_interspersed_args": False},
    example='''\
tritonforge emulate -- python train_and_deploy.py
eval "$(tritonforge emulate --env)"''',
)
@option("--port", type=click.IntRange(0, 65535), metavar="PORT",
        help="The port; 0 is any free one. [default: 4566; any free one with COMMAND]")  # fmt: skip
@option("--proxy-port", type=PORT, metavar="PORT|off", help="The port of the proxy for AWS host names; 0 is any free "
        "one. [default: the port after --port if it is free]")  # fmt: skip
@option("--region", metavar="NAME", default="us-east-1", show_default=True, help="The region of its role and bucket.")
@option("--state", type=DIRECTORY, help="Keep all resources in this directory. Default: remove them at the end.")
@option("--speed", default=1.0, show_default=True, type=click.FloatRange(min=0, min_open=True), metavar="FACTOR",
        help="Pass the waiting times of AWS (bake times, intervals) this many times faster.")  # fmt: skip
@name_value_option("--image", "images", metavar="URI=RELEASE|DIR", help="What a custom image contains: "
                   "my/triton:1=26.05, =26.05+tensorflow with a backend added, or, for an algorithm, the directory "
                   "with its train and serve.")  # fmt: skip
@option("--allow-host", "allowed_hosts", multiple=True, metavar="NAME[:PORT]", help="Accept requests for this name of "
        "the machine, such as host.docker.internal; others than 127.0.0.1 and localhost are refused.")  # fmt: skip
@option("--env", "show_env", is_flag=True, help="Print the shell commands that direct AWS code to the emulator that "
        "already runs on --port, and exit.")  # fmt: skip
@option("--log", "log_file", type=FILE, help="Append the log to this file. [default: standard error; none with "
        "COMMAND]")  # fmt: skip
@json_option
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def emulate(
    port: int | None,
    proxy_port: int | None,
    region: str,
    state: Path | None,
    speed: float,
    images: dict[str, str],
    allowed_hosts: tuple[str, ...],
    show_env: bool,
    log_file: Path | None,
    as_json: bool,
    command: tuple[str, ...],
) -> int:
    """Run SageMaker, with S3, IAM, STS and autoscaling, on one loopback address of this machine.

    Unmodified AWS code finds it by AWS_ENDPOINT_URL; code with built-in addresses of AWS finds it by HTTPS_PROXY and
    AWS_CA_BUNDLE. --env sets both in a shell. An endpoint is a real tritonserver on the uploaded model archive, or an
    algorithm's own program, which also runs training jobs. Ctrl-C stops it.

    With COMMAND, start the emulator, run COMMAND with these variables set, stop the emulator, and exit with COMMAND's
    exit code.
    """
    if show_env:
        if command:
            raise click.UsageError("--env prints the environment of a running emulator; it cannot run a command")
        others = ["proxy_port", "region", "state", "speed", "images", "allowed_hosts", "log_file"]
        reject_options("applies to a new emulator, not to --env", names=others)
        _print_environment(_PORT if port is None else port, as_json=as_json)
        return 0
    if command and as_json:
        raise click.UsageError("--format json describes an emulator without COMMAND")
    program = _find_program(command) if command else None
    for uri, content in images.items():
        if not content:
            raise click.UsageError(f"--image {uri}=: expected URI=RELEASE, such as my/triton:1=26.05, or URI=DIR")
    for host in allowed_hosts:
        if not request_origin.is_host_name(host):
            raise click.UsageError(
                f"--allow-host {host!r}: expected NAME or NAME:PORT, for example host.docker.internal"
            )
    chosen_port = (0 if command else _PORT) if port is None else port
    has_proxy = proxy_port is not None or not list_given_options(names=["proxy_port"])  # None is also the value of off
    with _open_log(log_file, quiet=bool(command)) as log:

        def start() -> Emulator:
            from tritonforge.emulator import Emulator

            return Emulator(
                port=chosen_port,
                proxy_port=_choose_proxy_port(chosen_port, proxy_port) if has_proxy else None,
                state=state,
                speed=speed,
                images=images,
                region=region,
                allowed_hosts=allowed_hosts,
                log=log,
            )

        if program is None:
            return _serve(start, as_json=as_json)
        with start() as emulator:
            return _run_command([program, *command[1:]], emulator.proxy_environment)


def _choose_proxy_port(port: int, requested: int | None) -> int:
    """Return the requested port of the proxy; if it is None the one after ``port``, or 0 if that is not free."""
    if requested is not None:
        return requested
    if port in (0, 65535):
        return 0
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port + 1))
        except OSError:
            return 0
    return port + 1


def _serve(start: Callable[[], Emulator], *, as_json: bool) -> int:
    stopped = threading.Event()
    with handle_signals(lambda _: stopped.set()):
        with steps() as progress:
            progress.begin("starting the emulator")
            emulator = start()
        with emulator:
            _report(emulator, as_json=as_json)
            while not stopped.wait(0.5):  # so that the signal is handled on every platform
                pass
            err.print("stopping ...")
    return 0


@contextlib.contextmanager
def _open_log(path: Path | None, *, quiet: bool) -> Iterator[Callable[[str], None]]:
    """Yield what writes the emulator's log: to a file, to standard error, or nowhere."""
    if path is not None:
        try:
            file = path.open("a", encoding="utf-8", buffering=1)
        except OSError as error:
            raise click.UsageError(f"--log {path}: cannot write: {describe_error(error)}") from error
        with file:
            yield lambda line: print(line, file=file)
    elif quiet:
        yield lambda line: None
    else:
        yield lambda line: err.print(line, markup=False)


def _report(emulator: Emulator, *, as_json: bool) -> None:
    if as_json:
        document = {
            "url": emulator.url,
            "proxy_url": emulator.proxy_url,
            "environment": dict(emulator.environment),
            "proxy_environment": dict(emulator.proxy_environment),
            "role": emulator.role_arn,
        }
        echo_json(document, indent=None)
        return
    out.print(f"SageMaker, S3, IAM, STS, autoscaling  {emulator.url}")
    if emulator.proxy_url is not None:
        out.print(f"proxy for every other AWS address     {emulator.proxy_url}")
    out.print(f"a role for models                     {emulator.role_arn}")
    err.print("[dim]in the shell that runs your code:[/dim]")
    for name, value in emulator.environment.items():
        out.print(f"  export {name}={shlex.quote(value)}", markup=False)
    if emulator.proxy_url is not None:
        port = emulator.url.rpartition(":")[2]
        option_text = "" if port == str(_PORT) else f" --port {port}"
        err.print(f'[dim]or, with the proxy:[/dim] eval "$(tritonforge emulate{option_text} --env)"')
    err.print("[dim]Ctrl-C stops it[/dim]")


def _print_environment(port: int, *, as_json: bool) -> None:
    """Print the environment of the emulator on a port, for a shell's eval or as JSON. Raises LaunchError."""
    from tritonforge.emulator import client_environment

    variables = _read_environment(port)
    removed = client_environment.list_conflicting(os.environ)
    merged = client_environment.merge_environment(os.environ, variables)
    if as_json:
        echo_json({"environment": {name: merged[name] for name in variables}, "unset": removed}, indent=None)
        return
    if removed:
        click.echo(f"unset {' '.join(removed)}")
    for name in variables:
        click.echo(f"export {name}={shlex.quote(merged[name])}")


def _read_environment(port: int) -> dict[str, str]:
    """Return the variables of the emulator on a port. Raises LaunchError if no emulator listens there."""
    import urllib3

    from tritonforge.emulator import client_environment

    url = f"http://127.0.0.1:{port}{client_environment.ENVIRONMENT_PATH}"
    try:
        with urllib3.PoolManager(retries=False, timeout=_TIMEOUT) as pool:
            answer = pool.request("GET", url)
    except urllib3.exceptions.HTTPError as error:
        raise LaunchError(
            f"127.0.0.1:{port}: no emulator listens there; start one with tritonforge emulate, or pass its --port"
        ) from error
    try:
        variables = json.loads(answer.data)["proxy_environment"]
        return {name: str(value) for name, value in variables.items() if _ACCEPTED.fullmatch(name)}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise LaunchError(
            f"127.0.0.1:{port}: what listens there is not tritonforge's emulator; pass the emulator's --port"
        ) from None


def _find_program(command: Sequence[str]) -> str:
    path = shutil.which(command[0])
    if path is None:
        raise click.UsageError(f"{command[0]!r}: command not found")
    return path


def _run_command(command: Sequence[str], variables: Mapping[str, str]) -> int:
    """Run a command with variables added to the environment; return its exit code as a shell does.

    SIGTERM and SIGHUP are passed on to the command. SIGINT is as well, unless the terminal has sent it to both.
    """
    from tritonforge.emulator import client_environment

    process: subprocess.Popen[bytes] | None = None
    early: list[int] = []

    def pass_on(number: int) -> None:
        if process is None:
            early.append(number)
        elif process.poll() is None and not (number == signal.SIGINT and _is_in_foreground()):
            process.send_signal(number)

    with handle_signals(pass_on, (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)):
        try:
            merged = client_environment.merge_environment(os.environ, variables)
            process = subprocess.Popen(command, env=merged)  # noqa: S603 - the user's own command
            for number in early:
                process.send_signal(number)
            code = process.wait()
        except OSError as error:
            raise click.UsageError(f"{command[0]}: cannot run: {describe_error(error)}") from error
    return _SIGNAL_OFFSET - code if code < 0 else code


def _is_in_foreground() -> bool:
    """Return True if the terminal itself sends Ctrl-C to the command: it is in the foreground process group."""
    try:
        with open("/dev/tty", "rb") as terminal:  # noqa: PTH123 - for its descriptor
            return os.tcgetpgrp(terminal.fileno()) == os.getpgrp()
    except OSError:
        return False
