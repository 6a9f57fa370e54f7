"""An algorithm's programs as their images are run: `algorithm run train` and `algorithm run serve`."""

from __future__ import annotations

import contextlib
import http.client
import json
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Final

import click
from rich.markup import escape

from tritonforge.cli.assignments import assigned
from tritonforge.cli.limit_flags import limit_flags, limits_of
from tritonforge.cli.printing import echo
from tritonforge.cli.terminal import err, out, shown
from tritonforge.errors import TritonForgeError
from tritonforge.escaping import log_line
from tritonforge.training.algorithm.termination import FAILURE_LENGTH
from tritonforge.training.sandbox import Limits, Process, start_container, volumes
from tritonforge.training.sandbox.process import describe_sharing

__all__ = ["run"]

#: Seconds between two looks at what happened meanwhile.
_LOOK: Final = 0.1

_FOLDER: Final = click.Path(path_type=Path, file_okay=False, exists=True)
_SECONDS: Final = click.FloatRange(0)


class _Signals:
    """Ctrl-C and SIGTERM, counted: the first one stops the program, the next one kills it. A context."""

    def __init__(self) -> None:
        self.count = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> _Signals:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._arrived)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _arrived(self, _: int, __: FrameType | None) -> None:
        self.count += 1


@click.group()
def run() -> None:
    """Do what `docker run` would do with an algorithm's image, without Docker.

    The program is alone with its folders: own mounts, network (loopback only), processes, IPC, environment. What is
    not isolated is told at the start.
    """


_variables = click.option("--env", "variables", multiple=True, metavar="NAME=VALUE", help="An environment variable.")
_network = click.option("--network", is_flag=True, help="Leave the network open: this machine's.")
_memory = click.option(
    "--shm-size", type=click.IntRange(1), default=64, show_default=True, metavar="MB", help="The size of /dev/shm."
)
_form = click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", help="How to report.")


@run.command(short_help="Run a program's `train`, as SageMaker does.")
@click.argument("program", type=_FOLDER)
@click.option(
    "--input", "given", type=_FOLDER, required=True, metavar="DIR", help="/opt/ml/input: config/, data/; read-only."
)
@click.option("--model", type=_FOLDER, required=True, metavar="DIR", help="/opt/ml/model: what training leaves.")
@click.option("--output", type=_FOLDER, required=True, metavar="DIR", help="/opt/ml/output: failure, data/.")
@click.option("--checkpoints", type=_FOLDER, metavar="DIR", help="/opt/ml/checkpoints: where training goes on from.")
@click.option(
    "--hyperparameter", "values", multiple=True, metavar="NAME=VALUE", help="Over config/hyperparameters.json."
)
@click.option(
    "--stop-timeout",
    "--grace",
    "grace",
    type=_SECONDS,
    default=120.0,
    show_default=True,
    help="Seconds between SIGTERM and SIGKILL.",
)
@_variables
@_network
@_memory
@limit_flags
@_form
def train(
    program: Path,
    given: Path,
    model: Path,
    output: Path,
    checkpoints: Path | None,
    values: tuple[str, ...],
    grace: float,
    variables: tuple[str, ...],
    network: bool,
    shm_size: int,
    memory: str | None,
    cpus: float | None,
    pids_limit: int | None,
    form: str,
) -> int:
    """Run PROGRAM's `train`, as `docker run IMAGE train` and SageMaker do.

    Its log is streamed. Ctrl-C sends SIGTERM, and SIGKILL after --stop-timeout, as SageMaker stops a job; again: at
    once. Exit codes: 0 trained; 1 failed, with the sentence of /opt/ml/output/failure; 130 interrupted.
    """
    mounted = volumes.build_training_volumes(
        program,
        input=given,
        model=model,
        output=output,
        checkpoints=checkpoints,
        hyperparameters=assigned(values, "--hyperparameter"),
    )
    environment = {"TRAINING_JOB_NAME": "local", **assigned(variables, "--env")}
    if mounted.made:
        lacking = f"{given / 'config'} has no {', '.join(mounted.made)}; the program finds what was made in its place"
        err.print(f"[yellow]note:[/yellow] {escape(lacking)}")
    failure = output / "failure"
    before = _fingerprint(failure)
    began = time.monotonic()
    limit = limits_of(memory, cpus, pids_limit)
    _tell(network=network, limit=limit)
    with _Signals() as signals:
        process = start_container(
            ["train"],
            binds=mounted.binds,
            files=mounted.files,
            environment=environment,
            network=network,
            shared_memory=shm_size * 2**20,
            limit=limit,
            log=_logger(form),
        )
        with process:
            _tell_limits(process)
            stopped = _runs_until(process, signals)
            if stopped:
                err.print(f"stopping: SIGTERM now, SIGKILL after {grace:g} s, or when you interrupt again")
            code = _stop(process, grace, signals) if stopped else process.wait()
    sentence = ""
    if code and _fingerprint(failure) not in (None, before):
        sentence = failure.read_text(encoding="utf-8", errors="replace")[:FAILURE_LENGTH].strip()
    if form == "json":
        report = {
            "exit_code": code,
            "failure": sentence or None,
            "stopped": stopped,
            "seconds": round(time.monotonic() - began, 3),
            "isolates": list(process.isolates),
        }
        echo(json.dumps(report))
    if stopped:
        err.print(f"interrupted: {_ended('train', code)}")
        return 130
    if code:
        says = f"; {failure} says: {sentence}" if sentence else ""
        err.print(f"[red]error:[/red] {shown(_ended('train', code) + says)}")
    return 1 if code else 0


@run.command(short_help="Run a program's `serve`, as SageMaker does.")
@click.argument("program", type=_FOLDER)
@click.option("--model", type=_FOLDER, required=True, metavar="DIR", help="/opt/ml/model, read-only.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8080,
    show_default=True,
    help="The port of this machine's loopback; 0 is any free one.",
)
@click.option("--timeout", type=_SECONDS, default=240.0, show_default=True, help="What /ping gets to answer 200.")
@click.option(
    "--stop-timeout",
    "--grace",
    "grace",
    type=_SECONDS,
    default=30.0,
    show_default=True,
    help="Seconds between SIGTERM and SIGKILL.",
)
@_variables
@_network
@_memory
@limit_flags
@_form
def serve(
    program: Path,
    model: Path,
    port: int,
    timeout: float,
    grace: float,
    variables: tuple[str, ...],
    network: bool,
    shm_size: int,
    memory: str | None,
    cpus: float | None,
    pids_limit: int | None,
    form: str,
) -> int:
    """Run PROGRAM's `serve`, as `docker run --publish 8080:8080 IMAGE serve` and SageMaker do.

    It is asked for /ping until that is 200; from then on it answers at --port. Ctrl-C and SIGTERM stop it as SageMaker
    does: SIGTERM, and SIGKILL after --stop-timeout. Exit codes: 0 stopped; 1 it failed, was never well, or had to be
    killed.
    """
    if network and port != 8080:
        raise click.UsageError("--network leaves the program's own port 8080 as it is; --port cannot change it")
    mounted = volumes.build_serving_volumes(program, model=model)
    environment = assigned(variables, "--env")
    began = time.monotonic()
    limit = limits_of(memory, cpus, pids_limit)
    _tell(network=network, limit=limit)
    with _Signals() as signals:
        process = start_container(
            ["serve"],
            binds=mounted.binds,
            environment=environment,
            publish=8080,
            port=port,
            network=network,
            shared_memory=shm_size * 2**20,
            limit=limit,
            log=_logger(form),
        )
        with process:
            _tell_limits(process)
            if _healthy(process, signals, began + timeout):
                _report_serving(process, time.monotonic() - began, form)
                _runs_until(process, signals)
            if signals.count and process.returncode is None:
                err.print("stopping ...")
                asked = time.monotonic()
                _stop(process, grace, signals)
                if signals.count == 1 and time.monotonic() - asked < grace:
                    return 0
                waited = min(grace, time.monotonic() - asked)
                raise TritonForgeError(f"serve did not end within {waited:.1f} s of SIGTERM and was killed")
            if process.returncode is None:
                raise TritonForgeError(
                    f"serve did not answer /ping with 200 within {timeout:g} s; "
                    "it must listen on 0.0.0.0:8080, every address of its container"
                )
            raise TritonForgeError(f"{_ended('serve', process.wait())} by itself")


def _report_serving(process: Process, seconds: float, form: str) -> None:
    url = f"http://127.0.0.1:{process.port}"
    if form == "json":
        echo(json.dumps({"url": url, "seconds": round(seconds, 3), "isolates": list(process.isolates)}))
        return
    out.print(f"serving  {url}  (/ping answered 200 after {seconds:.1f} s)", markup=False)
    err.print("[dim]Ctrl-C stops it[/dim]")


def _healthy(process: Process, signals: _Signals, deadline: float) -> bool:
    """Ask for /ping as SageMaker does, until it is 200; False when it ended, was interrupted, or time is up."""
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
            process.wait(_LOOK)
            return False
    return False


def _runs_until(process: Process, signals: _Signals) -> bool:
    """Wait until the program has ended, or a signal came; gives whether one came first."""
    while not signals.count:
        with contextlib.suppress(TimeoutError):
            process.wait(_LOOK)
            return False
    return True


def _stop(process: Process, grace: float, signals: _Signals) -> int:
    """SIGTERM, and SIGKILL after ``grace`` seconds or at the next signal; gives the exit status."""

    def terminate() -> None:
        with contextlib.suppress(Exception):  # what the log raised is raised by `wait` as well
            process.terminate(grace)

    stopping = threading.Thread(target=terminate)
    stopping.start()
    while stopping.is_alive():
        stopping.join(_LOOK)
        if signals.count > 1:
            process.kill()
    return process.wait()


def _tell(*, network: bool, limit: Limits) -> None:
    """What is not isolated, before anything runs."""
    for sentence in describe_sharing(network=network, limit=limit):
        err.print(f"[yellow]not isolated:[/yellow] {escape(sentence)}")


def _tell_limits(process: Process) -> None:
    for sentence in process.limited:
        err.print(f"[dim]{escape(sentence)}[/dim]")


def _logger(form: str) -> Callable[[str], None]:
    """Where the program's lines go: standard output, as docker run has it, unless a report is to be alone there."""
    return lambda line: echo(log_line(line), err=form == "json")


def _fingerprint(file: Path) -> tuple[int, int] | None:
    """What tells a file from the one that an earlier run left; None where there is none."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def _ended(program: str, code: int) -> str:
    """How a program ended, as a sentence."""
    by = f" (signal {signal.Signals(code - 128).name})" if code - 128 in {*signal.Signals} else ""
    return f"{program} ended with exit status {code}{by}"
