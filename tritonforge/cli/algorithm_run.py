"""The commands algorithm run train and algorithm run serve: an algorithm's programs as their images run them."""

from __future__ import annotations

import contextlib
import http.client
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import click

from tritonforge.cli.command import Command, Group
from tritonforge.cli.options import (
    EXISTING_DIRECTORY,
    LimitOptions,
    add_options,
    declare_name_value_option,
    declare_option,
    json_option,
    name_value_option,
    option,
)
from tritonforge.cli.printing import echo, echo_json, print_error
from tritonforge.cli.terminal import err, escape_markup, handle_signals, note, out
from tritonforge.errors import TritonForgeError
from tritonforge.escaping import escape_log_line
from tritonforge.training.algorithm.termination import FAILURE_LENGTH
from tritonforge.training.job.opt_ml import read_start
from tritonforge.training.sandbox import Limits, Process, start_container, volumes
from tritonforge.training.sandbox.process import describe_sharing

__all__ = ["run"]

#: Seconds between two checks of the process and of signals.
_INTERVAL: Final = 0.1

_SECONDS: Final = click.FloatRange(0)


@dataclass(frozen=True, slots=True)
class _ContainerOptions:
    """The environment of the program, as options of docker run."""

    environment: dict[str, str] = declare_name_value_option("--env", help="An environment variable.")
    network: bool = declare_option("--network", is_flag=True, help="Let the program use this machine's network.")
    shm_size: int = declare_option(
        "--shm-size", type=click.IntRange(1), default=64, show_default=True, metavar="MB", help="The size of /dev/shm."
    )

    def to_arguments(self, limits: Limits, log: Callable[[str], None]) -> dict[str, Any]:
        """Return the arguments of `tritonforge.training.sandbox.start` for the program."""
        return {"network": self.network, "shared_memory": self.shm_size * 2**20, "limit": limits, "log": log}


@dataclass
class _SignalCount:
    """Counts SIGINT and SIGTERM: the first one stops the program, the next one kills it."""

    count: int = field(default=0)

    def handle(self, _: int) -> None:
        self.count += 1


@click.command(
    cls=Group,
    rows={
        "train": ("tritonforge.cli.algorithm_run:train", "Run a program's `train`, as SageMaker does."),
        "serve": ("tritonforge.cli.algorithm_run:serve", "Run a program's `serve`, as SageMaker does."),
    },
)
def run() -> None:
    """Run a program of an algorithm's image as `docker run` does, without Docker.

    The program has its own mounts, network (loopback only), processes, IPC and environment. What is not isolated is
    printed at the start.
    """


def _stop_timeout_option(seconds: float) -> Callable[[Callable[..., int]], Callable[..., int]]:
    return option("--stop-timeout", "--grace", "stop_timeout", type=_SECONDS, default=seconds, show_default=True,
                  metavar="SECONDS", help="The time between SIGTERM and SIGKILL.")  # fmt: skip


@click.command(
    cls=Command,
    example="tritonforge algorithm run train repos/detector --input in --model-dir model --output out",
)
@click.argument("program", type=EXISTING_DIRECTORY)
@option("--input", "input_directory", type=EXISTING_DIRECTORY, required=True, metavar="DIR",
        help="/opt/ml/input: config/ and data/; read-only.")  # fmt: skip
@option("--model-dir", type=EXISTING_DIRECTORY, required=True, metavar="DIR",
        help="/opt/ml/model: where training writes the model.")  # fmt: skip
@option("--output", type=EXISTING_DIRECTORY, required=True, metavar="DIR", help="/opt/ml/output: failure, data/.")
@option("--checkpoints", type=EXISTING_DIRECTORY, metavar="DIR", help="/opt/ml/checkpoints: where training resumes.")
@name_value_option("--hyperparameter", "hyperparameters", help="Override config/hyperparameters.json.")
@_stop_timeout_option(120.0)
@add_options(_ContainerOptions, "container")
@add_options(LimitOptions, "limit_options")
@json_option
def train(
    program: Path,
    input_directory: Path,
    model_dir: Path,
    output: Path,
    checkpoints: Path | None,
    hyperparameters: dict[str, str],
    stop_timeout: float,
    container: _ContainerOptions,
    limit_options: LimitOptions,
    as_json: bool,
) -> int:
    """Run PROGRAM's `train`, as `docker run IMAGE train` and SageMaker do.

    Its log is streamed. Ctrl-C sends SIGTERM, and SIGKILL after --stop-timeout, as SageMaker stops a job; a second
    Ctrl-C sends SIGKILL at once. Exit codes: 0 completed; 1 failed, with the sentence of /opt/ml/output/failure; 130
    interrupted.
    """
    mounted = volumes.build_training_volumes(
        program,
        input=input_directory,
        model=model_dir,
        output=output,
        checkpoints=checkpoints,
        hyperparameters=hyperparameters,
    )
    if mounted.made:
        note(f"{input_directory / 'config'} has no {', '.join(mounted.made)}; the program gets generated ones")
    failure = output / "failure"
    before = _identify(failure)
    began = time.monotonic()
    limits = limit_options.to_limits()
    _print_shared(network=container.network, limits=limits)
    signals = _SignalCount()
    with handle_signals(signals.handle):
        process = start_container(
            ["train"],
            binds=mounted.binds,
            files=mounted.files,
            environment={"TRAINING_JOB_NAME": "local", **container.environment},
            **container.to_arguments(limits, _create_logger(as_json=as_json)),
        )
        with process:
            _print_limits(process)
            is_stopped = _wait(process, signals)
            if is_stopped:
                err.print(f"stopping: SIGTERM now, SIGKILL after {stop_timeout:g} s or at the next interruption")
            code = _stop(process, stop_timeout, signals) if is_stopped else process.wait()
    sentence = ""
    if code and _identify(failure) not in (None, before):
        start = read_start(output, failure.name, 4 * FAILURE_LENGTH)  # a character has 4 bytes of UTF-8 at most
        sentence = start.decode(errors="replace")[:FAILURE_LENGTH].strip()
    if as_json:
        document = {
            "exit_code": code,
            "failure": sentence or None,
            "stopped": is_stopped,
            "seconds": round(time.monotonic() - began, 3),
            "isolates": list(process.isolates),
        }
        echo_json(document, indent=None)
    if is_stopped:
        err.print(f"interrupted: {_describe_end('train', code)}")
        return 130
    if code:
        print_error(_describe_end("train", code) + (f"; {failure}: {sentence}" if sentence else ""))
    return 1 if code else 0


@click.command(cls=Command, example="tritonforge algorithm run serve repos/detector --model-dir build/detector/model")
@click.argument("program", type=EXISTING_DIRECTORY)
@option("--model-dir", type=EXISTING_DIRECTORY, required=True, metavar="DIR", help="/opt/ml/model, read-only.")
@option("--port", type=click.IntRange(0, 65535), metavar="PORT", default=8080, show_default=True,
        help="The port on loopback; 0 is any free one.")  # fmt: skip
@option("--timeout", type=_SECONDS, default=240.0, show_default=True, metavar="SECONDS",
        help="Wait this long for /ping to answer 200.")  # fmt: skip
@_stop_timeout_option(30.0)
@add_options(_ContainerOptions, "container")
@add_options(LimitOptions, "limit_options")
@json_option
def serve(
    program: Path,
    model_dir: Path,
    port: int,
    timeout: float,
    stop_timeout: float,
    container: _ContainerOptions,
    limit_options: LimitOptions,
    as_json: bool,
) -> int:
    """Run PROGRAM's `serve`, as `docker run --publish 8080:8080 IMAGE serve` and SageMaker do.

    It is ready when /ping answers 200; from then on it answers at --port. Ctrl-C and SIGTERM stop it as SageMaker does:
    SIGTERM, and SIGKILL after --stop-timeout. Exit codes: 0 stopped; 1 it failed, was never ready, or was killed.
    """
    if container.network and port != 8080:
        raise click.UsageError("--network keeps the program's own port 8080; --port cannot change it")
    mounted = volumes.build_serving_volumes(program, model=model_dir)
    began = time.monotonic()
    limits = limit_options.to_limits()
    _print_shared(network=container.network, limits=limits)
    signals = _SignalCount()
    with handle_signals(signals.handle):
        process = start_container(
            ["serve"],
            binds=mounted.binds,
            environment=container.environment,
            publish=8080,
            port=port,
            **container.to_arguments(limits, _create_logger(as_json=as_json)),
        )
        with process:
            _print_limits(process)
            if _wait_until_ready(process, signals, began + timeout):
                _report_serving(process, time.monotonic() - began, as_json=as_json)
                _wait(process, signals)
            if signals.count and process.returncode is None:
                err.print("stopping ...")
                stopping = time.monotonic()
                _stop(process, stop_timeout, signals)
                waited = time.monotonic() - stopping
                if signals.count == 1 and waited < stop_timeout:
                    return 0
                raise TritonForgeError(
                    f"serve did not end within {min(stop_timeout, waited):.1f} s of SIGTERM and was killed"
                )
            if process.returncode is None:
                raise TritonForgeError(
                    f"serve did not answer /ping with 200 within {timeout:g} s; "
                    "it must listen on 0.0.0.0:8080, every address of its container"
                )
            raise TritonForgeError(f"{_describe_end('serve', process.wait())} by itself")


def _report_serving(process: Process, seconds: float, *, as_json: bool) -> None:
    url = f"http://127.0.0.1:{process.port}"
    if as_json:
        echo_json({"url": url, "seconds": round(seconds, 3), "isolates": list(process.isolates)}, indent=None)
        return
    out.print(f"serving  {url}  (/ping answered 200 after {seconds:.1f} s)", markup=False)
    err.print("[dim]Ctrl-C stops it[/dim]")


def _wait_until_ready(process: Process, signals: _SignalCount, deadline: float) -> bool:
    """Request /ping as SageMaker does until it answers 200; return False if the program ended or time is up."""
    while time.monotonic() < deadline and not signals.count:
        connection = http.client.HTTPConnection("127.0.0.1", process.port, timeout=2.0)  # SageMaker's for an attempt
        try:
            connection.request("GET", "/ping")
            if connection.getresponse().status == http.client.OK:
                return True
        except (OSError, http.client.HTTPException):
            pass
        finally:
            connection.close()
        with contextlib.suppress(TimeoutError):
            process.wait(_INTERVAL)
            return False
    return False


def _wait(process: Process, signals: _SignalCount) -> bool:
    """Wait until the program ends or a signal arrives; return True if the signal was first."""
    while not signals.count:
        with contextlib.suppress(TimeoutError):
            process.wait(_INTERVAL)
            return False
    return True


def _stop(process: Process, stop_timeout: float, signals: _SignalCount) -> int:
    """Send SIGTERM, and SIGKILL after ``stop_timeout`` seconds or at the next signal; return the exit status."""

    def terminate() -> None:
        with contextlib.suppress(Exception):  # `wait` raises what the log raised as well
            process.terminate(stop_timeout)

    stopping = threading.Thread(target=terminate)
    stopping.start()
    while stopping.is_alive():
        stopping.join(_INTERVAL)
        if signals.count > 1:
            process.kill()
    return process.wait()


def _print_shared(*, network: bool, limits: Limits) -> None:
    """Print what is not isolated before anything runs."""
    for sentence in describe_sharing(network=network, limit=limits):
        err.print(f"[yellow]not isolated:[/yellow] {escape_markup(sentence)}")


def _print_limits(process: Process) -> None:
    for sentence in process.limited:
        err.print(f"[dim]{escape_markup(sentence)}[/dim]")


def _create_logger(*, as_json: bool) -> Callable[[str], None]:
    """Return what prints the program's lines: on standard output as docker run does, unless JSON is printed there."""
    return lambda line: echo(escape_log_line(line), err=as_json)


def _identify(file: Path) -> tuple[int, int] | None:
    """Return what distinguishes a file from that of an earlier run; None if it does not exist."""
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns


def _describe_end(program: str, code: int) -> str:
    by = f" (signal {signal.Signals(code - 128).name})" if code - 128 in {*signal.Signals} else ""
    return f"{program} ended with exit status {code}{by}"
