"""The command serve."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
from rich.table import Table

from tritonforge.cli.command import Command
from tritonforge.cli.options import (
    EXISTING_DIRECTORY,
    FILE,
    PORT,
    json_option,
    name_value_option,
    option,
    reject_options,
)
from tritonforge.cli.printing import echo, echo_json
from tritonforge.cli.terminal import Steps, err, escape_markup, handle_signals, note, out, steps
from tritonforge.errors import LaunchError, MissingExtraError
from tritonforge.profiling.trace_collector import TraceCollector
from tritonforge.serving.installation import BACKENDS, find_missing_backends
from tritonforge.serving.loopback import describe_shared_port
from tritonforge.serving.server import Server
from tritonforge.serving.server_process import describe_exit
from tritonforge.serving.tfs.package import is_package
from tritonforge.web_console import open_console

if TYPE_CHECKING:  # the stand-in for the container needs numpy, and serving a repository does not
    from tritonforge.serving.tfs.server import TfsServer

__all__ = ["serve"]

#: Seconds before the server is restarted after the death of a model; doubled each time, up to the longest.
_PAUSE: Final = 0.5
_LONGEST_PAUSE: Final = 30.0

#: How a traced tritonserver crashes.
_CRASHES: Final = (-signal.SIGABRT, -signal.SIGSEGV)

_PORTS: Final = "Ports (0 is any free one, off closes it)"
_CONSOLE: Final = "Options of the web console"


class _Interruption(Exception):  # noqa: N818 - not an error
    """SIGTERM or Ctrl-C arrived; unwinding stops the server."""


@click.command(
    cls=Command,
    example="tritonforge serve build/digits --http-port 9000 --grpc-port off\n"
    "tritonforge serve build/digits --ui --samples repos/digits/tests",
)
@click.argument("repository", type=EXISTING_DIRECTORY)
@option("--model", metavar="NAME", help="The model of /invocations. As on SageMaker, only this model and its steps are "
        "loaded. Default: the only model, or the outermost ensemble.")  # fmt: skip
@option("--sagemaker-port", default="8080", type=PORT, show_default=True, group=_PORTS, help="SageMaker's front end.")
@option("--http-port", default="8000", type=PORT, show_default=True, group=_PORTS, help="Triton's HTTP front end.")
@option("--grpc-port", default="8001", type=PORT, show_default=True, group=_PORTS, help="Triton's gRPC front end.")
@option("--metrics-port", default="8002", type=PORT, show_default=True, group=_PORTS, help="Triton's metrics.")
@option("--log", type=FILE, help="Write tritonserver's log to this file.")
@name_value_option("--env", "environment", help="A variable of the container of a TensorFlow Serving package.")
@option("--allow-client-shm", is_flag=True, help="Let HTTP clients register shared memory, as NVIDIA's option of this "
        "name does; web pages can then do so too.")  # fmt: skip
@option("--watch", "is_watched", is_flag=True, help="Show the live table of tritonforge watch while the server runs.")
@option("--trace", "trace_file", type=FILE, help="Write the time of every step of every request to this file, for "
        "tritonforge trace. It is overwritten. Default: no trace.")  # fmt: skip
@option("--trace-rate", default=1, type=click.IntRange(1), metavar="N", show_default=True,
        help="Trace every N-th request only.")  # fmt: skip
@option("--timeout", default=300.0, type=click.FloatRange(0, min_open=True), metavar="SECONDS", show_default=True,
        help="Wait this long for the models to load.")  # fmt: skip
@option("--ui", "has_console", is_flag=True, group=_CONSOLE, help="Serve a page on loopback that shows the graph with "
        "live times, and every tensor of a request. Its address, which has a token, is printed.")  # fmt: skip
@option("--ui-port", default="0", type=PORT, show_default=True, group=_CONSOLE, help="The port of the page; 0 is any "
        "free one.")  # fmt: skip
@option("--samples", type=EXISTING_DIRECTORY, group=_CONSOLE, help="The directory of golden test cases and images that "
        "the page offers. Default: tests, and images, beside the repository.")  # fmt: skip
@json_option
def serve(
    repository: Path,
    model: str | None,
    sagemaker_port: int | None,
    http_port: int | None,
    grpc_port: int | None,
    metrics_port: int | None,
    log: Path | None,
    environment: dict[str, str],
    allow_client_shm: bool,
    is_watched: bool,
    trace_file: Path | None,
    trace_rate: int,
    timeout: float,
    has_console: bool,
    ui_port: int | None,
    samples: Path | None,
    as_json: bool,
) -> int:
    """Run the model repository REPOSITORY on a real Triton, on this machine's CPU and on loopback only.

    Python packages run DALI, TensorFlow and ONNX models behind Triton's own scheduler, ensembles and front ends. A
    package for SageMaker's TensorFlow Serving container (SavedModels and code/) is run under that container's contract
    at --sagemaker-port. Ctrl-C stops the server. When the Python process of a model dies, and when a traced server
    crashes, it is restarted on the same ports.
    """
    is_tfs_package = is_package(repository)
    if not is_tfs_package:
        reject_options(
            "applies to packages for TensorFlow Serving, not to Triton model repositories", names=["environment"]
        )
    else:
        reject_options(
            "applies to Triton model repositories, not to packages for TensorFlow Serving",
            names=[
                "model",
                "http_port",
                "grpc_port",
                "metrics_port",
                "allow_client_shm",
                "is_watched",
                "trace_file",
                "trace_rate",
                "has_console",
            ],
        )
    if not has_console:
        reject_options("needs --ui", names=["ui_port", "samples"])
    ports = {"sagemaker": sagemaker_port, "http": http_port, "grpc": grpc_port, "metrics": metrics_port}
    _check_ports({**ports, "ui": ui_port} if has_console else ports, is_tfs_package=is_tfs_package)
    if has_console and (http_port is None or ui_port is None):
        raise click.UsageError("--ui needs Triton's HTTP port and a port of its own (expected a number, got off)")
    if is_watched and http_port is None and grpc_port is None:
        raise click.UsageError("--watch needs --http-port or --grpc-port, which has the statistics")
    stopped = threading.Event()

    def interrupt(_: int) -> None:
        if not stopped.is_set():
            stopped.set()
            raise _Interruption

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
            arguments=() if collector is None else collector.prepare_server(),
            on_progress=progress.detail,
        )

    collector = None if trace_file is None else TraceCollector(trace_file, rate=trace_rate)
    with handle_signals(interrupt), collector or contextlib.nullcontext(), contextlib.ExitStack() as stack:
        try:
            with steps() as progress:
                server: Server | TfsServer
                if is_tfs_package:
                    progress.begin(f"starting {repository} as SageMaker's TensorFlow Serving container does")
                    from tritonforge.serving.tfs.server import TfsServer

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
                    server = start(progress, ports)
            with server:
                if isinstance(server, Server):
                    console = None
                    if has_console:  # it is open while the server is restarted, on the same ports
                        console = open_console(server, model=model, port=ui_port or 0, samples=samples)
                        stack.enter_context(console)
                    _report(server, None if console is None else console.url, as_json=as_json)
                else:
                    _report_package(server, as_json=as_json)
                reason = _wait(server, is_watched=is_watched, is_traced=collector is not None)
            pause = _PAUSE
            while reason and isinstance(server, Server):
                err.print(f"{reason}; restarting tritonserver", markup=False)
                time.sleep(pause)
                began = time.monotonic()
                with steps() as progress:
                    progress.begin(f"restarting tritonserver on {repository}")
                    restarted = start(progress, server.ports, keep_log=True)
                err.print("ready again")
                with restarted:
                    reason = _wait(restarted, is_watched=is_watched, is_traced=collector is not None)
                pause = _PAUSE if time.monotonic() - began > 2 * _LONGEST_PAUSE else min(2 * pause, _LONGEST_PAUSE)
        except _Interruption:
            echo("interrupted", err=True)  # while models were loading
            return 130
    return 0


def _wait(server: Server | TfsServer, *, is_watched: bool, is_traced: bool) -> str:
    """Wait until the server ends; return why it is restarted, "" if it was stopped.

    It is when a model died, and when a traced server crashed: Triton before 2.57 deletes a locked mutex when it
    releases a trace (server#8144), which cancelled gRPC requests make likely (seen on 2.51).
    """
    try:
        with _show_activity(server) if is_watched else contextlib.nullcontext():
            server.wait()
    except _Interruption:
        err.print("stopping ...")
    except LaunchError:
        if isinstance(server, Server) and server.death is not None:
            return server.death.reason
        if isinstance(server, Server) and is_traced and server.returncode in _CRASHES:
            return (
                f"tritonserver ended {describe_exit(server.returncode)}: Triton before 2.57 may crash when a client "
                "cancels a traced gRPC request"
            )
        raise
    return ""


def _show_activity(server: Server | TfsServer) -> contextlib.AbstractContextManager[None]:
    from tritonforge.cli.watch import show_activity
    from tritonforge.graph.graph_reader import read_calls
    from tritonforge.validation.tree_reader import read_tree

    assert isinstance(server, Server)  # --watch is rejected for packages of TensorFlow Serving
    calls = read_calls(read_tree(server.repository))
    return show_activity(server.http_url or server.grpc_url or "", metrics_url=server.metrics_url, calls=calls)


def _check_ports(ports: Mapping[str, int | None], *, is_tfs_package: bool) -> None:
    if is_tfs_package:
        if ports["sagemaker"] is None:
            raise click.UsageError("--sagemaker-port off: a TensorFlow Serving package is served at this port only")
    elif sentence := describe_shared_port(ports):
        raise click.UsageError(sentence)
    elif all(ports[name] is None for name in ("sagemaker", "http", "grpc")):
        raise click.UsageError("every port is off; one of --sagemaker-port, --http-port and --grpc-port must be on")


def _report_package(server: TfsServer, *, as_json: bool) -> None:
    if as_json:
        document = {
            "addresses": {"sagemaker": server.url},
            "default_model": server.default_model,
            "models": {name: list(versions) for name, versions in server.models.items()},
            "predictor": server.predictor,
            "warnings": list(server.warnings),
        }
        echo_json(document, indent=None)
        return
    for warning in server.warnings:
        note(warning)
    for name, versions in server.models.items():
        out.print(f"{name}  {', '.join(map(str, versions))}", markup=False)
    out.print(f"predictor  {server.predictor}", markup=False)
    out.print(f"sagemaker  {server.url}  (default model of /invocations: {server.default_model})", markup=False)
    err.print("[dim]Ctrl-C stops it[/dim]")


def _describe_default_model(server: Server) -> str:
    if server.candidates:
        return f"/invocations has no default model; choose one with --model: {', '.join(server.candidates)}"
    return f"default model of /invocations: {server.default_model}"


def _list_installed_backends(missing: Collection[str]) -> list[str]:
    return sorted({*BACKENDS, "python"} - {*missing})


def _report(server: Server, console_url: str | None, *, as_json: bool) -> None:
    urls = {
        "sagemaker": server.sagemaker_url,
        "http": server.http_url,
        "grpc": server.grpc_url,
        "metrics": server.metrics_url,
        "console": console_url,
    }
    addresses = {name: url for name, url in urls.items() if url}
    models = server.models()
    missing = find_missing_backends()
    if as_json:
        document = {
            "addresses": addresses,
            "default_model": server.default_model,
            "models": [{"name": model.name, "version": model.version, "state": model.state} for model in models],
            "backends": {
                "installed": _list_installed_backends(missing),
                "missing": {name: error.command for name, error in missing.items()},
            },
            "warnings": [*server.warnings, *([_describe_default_model(server)] if server.candidates else [])],
        }
        echo_json(document, indent=None)
        return
    for warning in server.warnings:
        note(warning)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("model", "version", "state"):
        table.add_column(heading)
    for model in models:
        state = f"[green]{model.state}[/green]" if model.state == "READY" else escape_markup(model.state)
        table.add_row(escape_markup(model.name), escape_markup(model.version), state)
    out.print(table)
    for name, url in addresses.items():
        comment = f"  ({_describe_default_model(server)})" if name == "sagemaker" else ""
        out.print(f"{name:10}{url}{comment}", markup=False)
    out.print(f"backends  {', '.join(_list_installed_backends(missing))}", markup=False)
    if missing:
        extras = ",".join(sorted({error.extra for error in missing.values()}))
        command = MissingExtraError("", extra=extras).command
        out.print(f"          not installed: {', '.join(missing)}; run: {command}", markup=False)
    err.print("[dim]Ctrl-C stops it[/dim]")
