"""The subcommand that runs SageMaker on this machine: emulate."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Final

import click

from tritonforge import request_origin
from tritonforge.cli import emulated_command
from tritonforge.cli.printing import echo
from tritonforge.cli.terminal import err, out, steps

if TYPE_CHECKING:
    from tritonforge.emulator import Emulator

__all__ = ["emulate"]

_PORT: Final = 4566


def _parse_proxy_port(ctx: click.Context, param: click.Parameter, value: str | None) -> int | None:
    """A port; -1 for ``off``, None where the option is not given."""
    if value is None or value == "off":
        return None if value is None else -1
    return int(click.IntRange(0, 65535)(value, param, ctx))


@click.command(
    context_settings={"allow_interspersed_args": False},
    epilog="Example: tritonforge emulate -- python train_and_deploy.py",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    help="The port; 0 is any free one.  [default: 4566; any free one with COMMAND]",
)
@click.option(
    "--proxy-port",
    callback=_parse_proxy_port,
    metavar="PORT|off",
    help="The port of the proxy for AWS host names; 0 is any free one.  [default: the port after --port if it is free]",
)
@click.option("--region", default="us-east-1", show_default=True, help="Where its own role and bucket are.")
@click.option("--state", type=click.Path(path_type=Path, file_okay=False), help="Keep everything in this folder.")
@click.option("--speed", default=1.0, show_default=True, type=click.FloatRange(min=0, min_open=True), help="How many "
              "times faster than AWS waiting passes: bake times, intervals.")  # fmt: skip
@click.option(
    "--image",
    "images",
    multiple=True,
    metavar="URI=RELEASE|FOLDER",
    help="What a custom image is: my/triton:1=26.05, =26.05+tensorflow with a backend added, or for an algorithm the "
    "folder with its train and serve.",
)
@click.option(
    "--allow-host",
    "allowed_hosts",
    multiple=True,
    metavar="NAME[:PORT]",
    help="A name that containers know this machine by, for example host.docker.internal. Requests for any other host "
    "than 127.0.0.1 and localhost are refused.",
)
@click.option("--env", "show_env", is_flag=True, help="Print the shell commands that direct AWS code to the emulator "
              "that runs on --port, and exit.")  # fmt: skip
@click.option("--log", "log_file", type=click.Path(path_type=Path, dir_okay=False), help="Write what happens to this "
              "file.  [default: standard error; with COMMAND, nowhere]")  # fmt: skip
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", help="How to report.")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def emulate(
    port: int | None,
    proxy_port: int | None,
    region: str,
    state: Path | None,
    speed: float,
    images: tuple[str, ...],
    allowed_hosts: tuple[str, ...],
    show_env: bool,
    log_file: Path | None,
    form: str,
    command: tuple[str, ...],
) -> int:
    """Run SageMaker, with S3, IAM, STS and autoscaling, on one loopback address of this machine.

    Unmodified AWS code finds it by AWS_ENDPOINT_URL; code that has an address of AWS built in finds it by HTTPS_PROXY
    and AWS_CA_BUNDLE. eval "$(tritonforge emulate --env)" sets both in a shell. An endpoint is a real tritonserver on
    the model archive that was uploaded, or an algorithm's own program, which training jobs run as well. Ctrl-C stops
    it; without --state everything is forgotten then.

    With COMMAND, start the emulator, run COMMAND with these variables set, end the emulator, and exit with COMMAND's
    exit code.
    """
    if show_env:
        if command:
            raise click.UsageError("--env prints the environment of a running emulator; it cannot run a command")
        _print_environment(_PORT if port is None else port, form)
        return 0
    program = emulated_command.find(command) if command else None
    declared = _images(images)
    for host in allowed_hosts:
        if not request_origin.is_host_name(host):
            raise click.UsageError(
                f"--allow-host {host!r}: expected NAME or NAME:PORT, for example host.docker.internal"
            )
    chosen = (0 if command else _PORT) if port is None else port
    with _log(log_file, quiet=bool(command)) as log:

        def start() -> Emulator:
            from tritonforge.emulator import Emulator

            return Emulator(
                port=chosen,
                proxy_port=_proxy_port(chosen, proxy_port),
                state=state,
                speed=speed,
                images=declared,
                region=region,
                allowed_hosts=allowed_hosts,
                log=log,
            )

        if program is None:
            return _serve(start, form)
        with start() as emulator:
            return emulated_command.run([program, *command[1:]], emulator.proxy_environment)


def _proxy_port(port: int, wanted: int | None) -> int | None:
    """The port of the proxy: as wanted (-1 is none), else the one after ``port``, or any where that is taken."""
    if wanted is not None:
        return None if wanted < 0 else wanted
    if port in (0, 65535):
        return 0
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port + 1))
        except OSError:
            return 0
    return port + 1


def _serve(start: Callable[[], Emulator], form: str) -> int:
    stopped = threading.Event()

    def stop(_: int, __: FrameType | None) -> None:
        stopped.set()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with steps() as progress:
            progress.begin("starting the emulator")
            emulator = start()
        with emulator:
            _report(emulator, form)
            while not stopped.wait(0.5):  # so that the signal is seen on every platform
                pass
            err.print("stopping ...")
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return 0


def _images(images: Sequence[str]) -> dict[str, str]:
    wrong = [each for each in images if not all(each.partition("="))]
    if wrong:
        raise click.UsageError(
            f"--image {wrong[0]}: write URI=RELEASE, as in my/triton:1=26.05+tensorflow, or URI=FOLDER"
        )
    return {uri: value for uri, _, value in (each.partition("=") for each in images)}


@contextlib.contextmanager
def _log(file: Path | None, *, quiet: bool) -> Iterator[Callable[[str], None]]:
    """What takes the emulator's sentences: a file, standard error, or nothing."""
    if file is not None:
        try:
            opened = file.open("a", encoding="utf-8", buffering=1)
        except OSError as error:
            raise click.UsageError(f"--log {file}: cannot be written: {error.strerror}") from error
        with opened:
            yield lambda line: print(line, file=opened)
    elif quiet:
        yield lambda line: None
    else:
        yield lambda line: err.print(line, markup=False)


def _report(emulator: Emulator, form: str) -> None:
    if form == "json":
        report = {
            "url": emulator.url,
            "proxy_url": emulator.proxy_url,
            "environment": dict(emulator.environment),
            "proxy_environment": dict(emulator.proxy_environment),
            "role": emulator.role_arn,
        }
        echo(json.dumps(report))
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
        option = "" if port == str(_PORT) else f" --port {port}"
        err.print(f'[dim]or, with the proxy:[/dim] eval "$(tritonforge emulate{option} --env)"')
    err.print("[dim]Ctrl-C stops it[/dim]")


def _print_environment(port: int, form: str) -> None:
    """Print the environment of the emulator that runs on a port, for a shell's eval or as JSON.

    Raises LaunchError where none does.
    """
    from tritonforge.emulator import client_environment

    ours = emulated_command.environment_of(port)
    removed = client_environment.list_conflicting(os.environ)
    merged = client_environment.merge_environment(os.environ, ours)
    if form == "json":
        echo(json.dumps({"environment": {name: merged[name] for name in ours}, "unset": removed}))
        return
    if removed:
        click.echo(f"unset {' '.join(removed)}")
    for name in ours:
        click.echo(f"export {name}={shlex.quote(merged[name])}")
