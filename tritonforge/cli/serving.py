"""The subcommand of the serving wing: serve."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Final

import click
from rich.table import Table

from tritonforge.cli.printing import echo
from tritonforge.cli.terminal import Steps, err, out, shown, steps
from tritonforge.errors import LaunchError
from tritonforge.serving.loopback import describe_shared_port
from tritonforge.serving.server import Server
from tritonforge.serving.server_log import ModelDeath
from tritonforge.serving.tfs.package import is_package
from tritonforge.serving.tfs.server import TfsServer

__all__ = ["serve"]

#: Seconds before a server is started again after the death of a model; doubled each time, up to the longest.
_PAUSE: Final = 0.5
_LONGEST_PAUSE: Final = 30.0


class _Stop(Exception):  # noqa: N818  # it is no error, only the way out
    """SIGTERM or Ctrl-C arrived: unwind, so that the server is stopped on the way."""


def _port(_: click.Context, __: click.Parameter, value: str) -> int | None:
    if value == "off":
        return None
    if not value.isdigit() or int(value) > 65535:
        raise click.BadParameter(f"{value!r} is neither a port (0 is any free one) nor 'off'")
    return int(value)


@click.command()
@click.argument("repository", type=click.Path(path_type=Path))
@click.option(
    "--model",
    help="The model that /invocations asks; default the only one, or the outermost ensemble. As on SageMaker, only "
    "this model and its steps are loaded then.",
)
@click.option("--sagemaker-port", default="8080", callback=_port, metavar="PORT", help="Default 8080; 0 free; off.")
@click.option("--http-port", default="8000", callback=_port, metavar="PORT", help="Default 8000; 0 free; off.")
@click.option("--grpc-port", default="8001", callback=_port, metavar="PORT", help="Default 8001; 0 free; off.")
@click.option("--metrics-port", default="8002", callback=_port, metavar="PORT", help="Default 8002; 0 free; off.")
@click.option("--log", type=click.Path(path_type=Path, dir_okay=False), help="Keep tritonserver's log in this file.")
@click.option(
    "--env", "variables", multiple=True, metavar="NAME=VALUE", help="For a TensorFlow Serving package: its container's."
)
@click.option(
    "--allow-client-shm",
    is_flag=True,
    help="Let HTTP clients register shared memory, as NVIDIA's option of this name; web pages can do so too.",
)
@click.option(
    "--timeout",
    default=300.0,
    type=click.FloatRange(0, min_open=True),
    help="Seconds that the models get to load.",
    show_default=True,
)
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", help="How to report.")
def serve(
    repository: Path,
    model: str | None,
    sagemaker_port: int | None,
    http_port: int | None,
    grpc_port: int | None,
    metrics_port: int | None,
    log: Path | None,
    variables: tuple[str, ...],
    allow_client_shm: bool,
    timeout: float,
    form: str,
) -> int:
    """Run the model repository REPOSITORY on a real Triton, on this machine's CPU and on loopback only.

    DALI, TensorFlow and ONNX models run by their own Python packages, behind Triton's own scheduler, ensembles and
    front ends. A package for SageMaker's TensorFlow Serving container (SavedModels and code/) is run under that
    container's contract, at --sagemaker-port. Ctrl-C stops the server; nothing is left behind. When the Python process
    of a model dies, the server is started again on the same ports.
    """
    if not repository.is_dir():
        what = "is not a directory" if repository.exists() else "there is no such directory"
        raise click.UsageError(f"{repository}: {what}; give the folder that holds the models' folders")
    packaged = is_package(repository)
    if variables and not packaged:
        raise click.UsageError("--env is for packages of TensorFlow Serving; a model repository of Triton's takes none")
    environment = _environment(variables)
    wanted = {"sagemaker": sagemaker_port, "http": http_port, "grpc": grpc_port, "metrics": metrics_port}
    _check_ports(wanted, packaged=packaged)
    if packaged and model is not None:
        raise click.UsageError("--model is for model repositories; a TensorFlow Serving package has its own default")
    stopped = threading.Event()

    def stop(_: int, __: FrameType | None) -> None:
        if not stopped.is_set():
            stopped.set()
            raise _Stop

    def start(progress: Steps, ports: Mapping[str, int | None], *, keep_log: bool = False) -> Server:
        return Server(
            repository,
            default_model=model,
            sagemaker_port=ports["sagemaker"],
            http_port=ports["http"],
            grpc_port=ports["grpc"],
            metrics_port=ports["metrics"],
            log=log,
            keep_log=keep_log,
            allow_client_shm=allow_client_shm,
            startup_timeout=timeout,
            on_progress=progress.detail,
        )

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with steps() as progress:
            server: Server | TfsServer
            if packaged:
                progress.begin(f"starting {repository} as SageMaker's TensorFlow Serving container does")
                server = TfsServer(
                    repository,
                    port=sagemaker_port or 0,
                    environment=environment,
                    log=log,
                    startup_timeout=timeout,
                    on_progress=progress.detail,
                )
            else:
                progress.begin(f"starting tritonserver on {repository}")
                server = start(progress, wanted)
        with server:
            _report(server, form) if isinstance(server, Server) else _report_package(server, form)
            death = _wait(server)
        ports = server.ports if isinstance(server, Server) else {}
        pause = _PAUSE
        while death is not None:
            err.print(f"{death.reason}; tritonserver is started again", markup=False)
            time.sleep(pause)
            began = time.monotonic()
            with steps() as progress:
                progress.begin(f"starting tritonserver on {repository} again")
                again = start(progress, ports, keep_log=True)
            err.print("ready again")
            with again:
                death = _wait(again)
            pause = _PAUSE if time.monotonic() - began > 2 * _LONGEST_PAUSE else min(2 * pause, _LONGEST_PAUSE)
    except _Stop:
        echo("interrupted", err=True)  # while models were loading
        return 130
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return 0


def _wait(server: Server | TfsServer) -> ModelDeath | None:
    """Wait until the server ends: None when it was stopped, the death of a model that ended it."""
    try:
        server.wait()
    except _Stop:
        err.print("stopping ...")
    except LaunchError:
        if isinstance(server, Server) and server.death is not None:
            return server.death
        raise
    return None


def _check_ports(wanted: Mapping[str, int | None], *, packaged: bool) -> None:
    if packaged:
        if wanted["sagemaker"] is None:
            raise click.UsageError("--sagemaker-port off: a TensorFlow Serving package is served at this port only")
    elif sentence := describe_shared_port(wanted):
        raise click.UsageError(sentence)
    elif all(wanted[name] is None for name in ("sagemaker", "http", "grpc")):
        raise click.UsageError("every port is off; leave one of --sagemaker-port, --http-port and --grpc-port on")


def _environment(variables: tuple[str, ...]) -> dict[str, str]:
    wrong = [each for each in variables if "=" not in each]
    if wrong:
        raise click.UsageError(f"--env {wrong[0]}: write NAME=VALUE")
    return {name: value for name, _, value in (each.partition("=") for each in variables)}


def _report_package(server: TfsServer, form: str) -> None:
    if form == "json":
        report = {
            "addresses": {"sagemaker": server.url},
            "default_model": server.default_model,
            "models": {name: list(versions) for name, versions in server.models.items()},
            "predictor": server.predictor,
            "warnings": list(server.warnings),
        }
        echo(json.dumps(report))
        return
    for warning in server.warnings:
        err.print(f"[yellow]note:[/yellow] {shown(warning)}")
    for name, versions in server.models.items():
        out.print(f"{name}  {', '.join(map(str, versions))}", markup=False)
    out.print(f"predictor  {server.predictor}", markup=False)
    out.print(f"sagemaker  {server.url}  (/invocations asks {server.default_model})", markup=False)
    err.print("[dim]Ctrl-C stops it[/dim]")


def _default_model(server: Server) -> str:
    if server.candidates:
        return f"/invocations has no default model; choose one with --model: {', '.join(server.candidates)}"
    return f"/invocations asks {server.default_model}"


def _report(server: Server, form: str) -> None:
    addresses = {
        "sagemaker": server.sagemaker_url,
        "http": server.http_url,
        "grpc": server.grpc_url,
        "metrics": server.metrics_url,
    }
    models = server.models()
    if form == "json":
        rows = [{"name": each.name, "version": each.version, "state": each.state} for each in models]
        report = {
            "addresses": {name: url for name, url in addresses.items() if url},
            "default_model": server.default_model,
            "models": rows,
            "warnings": [*server.warnings, *([_default_model(server)] if server.candidates else [])],
        }
        echo(json.dumps(report))
        return
    for warning in server.warnings:
        err.print(f"[yellow]note:[/yellow] {shown(warning)}")
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("model", "version", "state"):
        table.add_column(heading)
    for each in models:
        state = f"[green]{each.state}[/green]" if each.state == "READY" else shown(each.state)
        table.add_row(shown(each.name), shown(each.version), state)
    out.print(table)
    for name, url in addresses.items():
        if url:
            asks = f"  ({_default_model(server)})" if name == "sagemaker" else ""
            out.print(f"{name:10}{url}{asks}", markup=False)
    err.print("[dim]Ctrl-C stops it[/dim]")
