"""The subcommand of the serving wing: serve."""

from __future__ import annotations

import json
import signal
import threading
from pathlib import Path
from types import FrameType

import click
from rich.table import Table

from tritonforge.cli.terminal import err, out, steps
from tritonforge.serving.server import Server
from tritonforge.serving.tfs.package import is_package
from tritonforge.serving.tfs.server import TfsServer

__all__ = ["serve"]


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
@click.option("--model", help="The model that /invocations asks; default the only one, or the outermost ensemble.")
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
@click.option("--timeout", default=300.0, help="Seconds that the models get to load.", show_default=True)
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
    container's contract, at --sagemaker-port. Ctrl-C stops the server; nothing is left behind.
    """
    packaged = is_package(repository)
    if variables and not packaged:
        raise click.UsageError("--env is for packages of TensorFlow Serving; a model repository of Triton's takes none")
    environment = _environment(variables)
    stopped = threading.Event()

    def stop(_: int, __: FrameType | None) -> None:
        if not stopped.is_set():
            stopped.set()
            raise _Stop

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
                server = Server(
                    repository,
                    default_model=model,
                    sagemaker_port=sagemaker_port,
                    http_port=http_port,
                    grpc_port=grpc_port,
                    metrics_port=metrics_port,
                    log=log,
                    allow_client_shm=allow_client_shm,
                    startup_timeout=timeout,
                    on_progress=progress.detail,
                )
        with server:
            _report(server, form) if isinstance(server, Server) else _report_package(server, form)
            try:
                server.wait()
            except _Stop:
                err.print("stopping ...")
    except _Stop:
        pass
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return 0


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
        click.echo(json.dumps(report))
        return
    for warning in server.warnings:
        err.print(f"[yellow]note:[/yellow] {warning}", markup=True)
    for name, versions in server.models.items():
        out.print(f"{name}  {', '.join(map(str, versions))}", markup=False)
    out.print(f"predictor  {server.predictor}", markup=False)
    out.print(f"sagemaker  {server.url}  (/invocations asks {server.default_model})", markup=False)
    err.print("[dim]Ctrl-C stops it[/dim]")


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
            "warnings": list(server.warnings),
        }
        click.echo(json.dumps(report))
        return
    for warning in server.warnings:
        err.print(f"[yellow]note:[/yellow] {warning}", markup=True)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("model", "version", "state"):
        table.add_column(heading)
    for each in models:
        table.add_row(each.name, each.version, f"[green]{each.state}[/green]" if each.state == "READY" else each.state)
    out.print(table)
    for name, url in addresses.items():
        if url:
            asks = f"  (/invocations asks {server.default_model})" if name == "sagemaker" else ""
            out.print(f"{name:10}{url}{asks}")
    err.print("[dim]Ctrl-C stops it[/dim]")
