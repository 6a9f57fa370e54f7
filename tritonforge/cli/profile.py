"""The command profile: it measures a model under load, and states which step limits it."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from tritonforge.cli.command import Command
from tritonforge.cli.options import (
    EXISTING_DIRECTORY,
    EXISTING_FILE,
    FILE,
    OUTPUT,
    SAGEMAKER,
    AwsOptions,
    add_options,
    declare_option,
    format_option,
    option,
    reject_options,
)
from tritonforge.cli.printing import echo, echo_json
from tritonforge.cli.terminal import Steps, note, steps, stop_on_signals
from tritonforge.errors import ConnectError, TritonForgeError
from tritonforge.profiling.load import ClosedLoop, Load, OpenLoop, StopRule

__all__ = ["parse_series", "profile"]

_LOAD = "Load options"
_MOST_LOADS = 64
_DEFAULT = "1:8:2x"


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """How requests are sent, and until when."""

    concurrency: str | None = declare_option(
        "--concurrency", metavar="N[:M[:STEP]]", group=_LOAD,
        help="Clients that send the next request as soon as the last one was answered: 4, 1,2,4, 1:16:5, or 1:16:2x, "
        f"which doubles. [default: {_DEFAULT}]",
    )  # fmt: skip
    rate: str | None = declare_option(
        "--rate", metavar="N[:M[:STEP]]", group=_LOAD,
        help="Send this many requests per second instead, whether earlier ones were answered or not. Latency counts "
        "from when a request was due.",
    )  # fmt: skip
    distribution: str = declare_option(
        "--distribution", type=click.Choice(["poisson", "constant"]), default="poisson", show_default=True, group=_LOAD,
        help="The times between the requests of --rate.",
    )  # fmt: skip
    warm_up: float = declare_option(
        "--warm-up", default=0.5, show_default=True, type=click.FloatRange(0), metavar="SECONDS", group=_LOAD,
        help="The windows before a measurement; it begins when two in a row agree.",
    )  # fmt: skip
    precision: float = declare_option(
        "--precision", default=5.0, show_default=True, type=click.FloatRange(0.1, 50), metavar="PERCENT", group=_LOAD,
        help="Measure until the 95 % confidence intervals of throughput and median latency are this narrow.",
    )  # fmt: skip
    max_time: float = declare_option(
        "--max-time", default=15.0, show_default=True, type=click.FloatRange(0.5), metavar="SECONDS", group=_LOAD,
        help="Measure a load no longer than this.",
    )  # fmt: skip
    processes: int | None = declare_option(
        "--processes", type=click.IntRange(1, 64), metavar="N", group=_LOAD,
        help="Processes that send. Default: one, and more while it cannot keep up.",
    )  # fmt: skip
    timeout: float = declare_option(
        "--timeout", default=70.0, show_default=True, type=click.FloatRange(0, min_open=True), metavar="SECONDS",
        group=_LOAD, help="Wait this long for an answer.",
    )  # fmt: skip

    def list_loads(self) -> list[Load]:
        """Return the loads. Raises click.UsageError."""
        if self.rate is not None:
            if self.concurrency is not None:
                raise click.UsageError("--concurrency and --rate exclude each other")
            rates = parse_series("--rate", self.rate)
            return [OpenLoop(rate, is_poisson=self.distribution == "poisson") for rate in rates]
        values = parse_series("--concurrency", self.concurrency or _DEFAULT)
        if any(value != int(value) or value > 4096 for value in values):
            raise click.UsageError(f"--concurrency {self.concurrency}: expected whole numbers from 1 to 4096")
        return [ClosedLoop(int(value)) for value in values]

    @property
    def stop(self) -> StopRule:
        """When the measurement of a load ends."""
        return StopRule(
            precision=self.precision / 100,
            min_seconds=min(2.0, self.max_time),
            max_seconds=self.max_time,
            warm_up=self.warm_up,
        )


def parse_series(name: str, text: str) -> list[float]:
    """Return the numbers of an option: "4", "1,2,4", "1:16" (by 1), "1:16:5" (by 5), "1:16:2x" (times 2).

    >>> parse_series("--concurrency", "1:10:2x")
    [1.0, 2.0, 4.0, 8.0]

    Raises:
        click.UsageError: the text has another form.
    """
    number = r"(\d+(?:\.\d+)?)"
    if re.fullmatch(rf"{number}(,{number})*", text):
        values = [float(part) for part in text.split(",")]
    elif match := re.fullmatch(rf"{number}:{number}(?::{number}(x?))?", text):
        first, last, step = float(match[1]), float(match[2]), float(match[3] or 1)
        is_factor = match[4] == "x"
        if first > last or step <= (1 if is_factor else 0) or first <= 0:
            raise click.UsageError(f"{name} {text}: expected FIRST:LAST:STEP with FIRST up to LAST, and a step upwards")
        values = [first]
        while (following := values[-1] * step if is_factor else values[-1] + step) <= last * (1 + 1e-9):
            if len(values) >= _MOST_LOADS:
                raise click.UsageError(f"{name} {text}: expected at most {_MOST_LOADS} loads")
            values.append(following)
    else:
        raise click.UsageError(f"{name} {text}: expected N, N,N,... or FIRST:LAST:STEP such as 1:16:2x")
    if min(values) <= 0 or len(values) > _MOST_LOADS:
        raise click.UsageError(f"{name} {text}: expected up to {_MOST_LOADS} numbers above 0")
    return values


@click.command(
    cls=Command,
    example="""\
tritonforge profile http://localhost:8000
tritonforge profile repos/digits --concurrency 8
tritonforge profile http://localhost:8000 photo.jpg --model inception --concurrency 1:16:2x --html profile.html
tritonforge profile http://localhost:8000 --rate 50,100,200
tritonforge profile sagemaker://digits --cases repos/digits/tests""",
)
@click.argument("target", metavar="URL|REPOSITORY|DEFINITION")
@click.argument("images", nargs=-1, type=EXISTING_FILE)
@option("--model", metavar="NAME", help="The model to profile. Default: the only outermost model of the server.")
@option("--input", "inputs", multiple=True, metavar="NAME=VALUE", help="A tensor, as for `tritonforge infer`: JSON, "
        "text, or @FILE. NAME alone takes the images. Inputs without a value are generated.")  # fmt: skip
@option("--shape", "shapes", multiple=True, metavar="NAME=N,N,...", help="The dimensions of a generated input, without "
        "the batch dimension. Default: those of the model, with 1 for each that varies.")  # fmt: skip
@option("--cases", type=EXISTING_DIRECTORY, metavar="DIR", help="Send the inputs of the golden tests of DIR.")
@option("--batch", default=1, show_default=True, type=click.IntRange(1), metavar="N", help="Rows, or images, in one "
        "request.")  # fmt: skip
@option("--sequence-length", type=click.IntRange(1), metavar="N", help="Requests of a sequence, for models with "
        "sequence_batching. Default: 8.")  # fmt: skip
@option("--seed", default=0, show_default=True, type=click.IntRange(0), metavar="N", help="The seed of generated "
        "values and of Poisson times.")  # fmt: skip
@add_options(LoadOptions, "load")
@add_options(AwsOptions, "aws")
@option("--html", type=FILE, metavar="FILE", group=OUTPUT, help="Also write a page with plots to FILE.")
@format_option("text", "json", "csv")
def profile(
    target: str,
    images: tuple[Path, ...],
    model: str | None,
    inputs: tuple[str, ...],
    shapes: tuple[str, ...],
    cases: Path | None,
    batch: int,
    sequence_length: int | None,
    seed: int,
    load: LoadOptions,
    aws: AwsOptions,
    html: Path | None,
    output_format: str,
) -> int:
    """Measure a model under load: throughput, latency, the time of every step, and the step that limits it.

    URL is http://host:8000 or grpc://host:8001 (Triton's own), http://host:8080 (the SageMaker front end), or
    sagemaker://ENDPOINT-NAME. A REPOSITORY, or a DEFINITION, which is built first, is served on this machine for the
    measurement. The times of steps come from Triton's statistics, which its HTTP and gRPC ports have; SageMaker
    addresses have none.

    Each load is measured until its figures are stable, at most for --max-time. Ctrl-C prints what was measured.
    docs/profile.md explains the method.

    Exit code 0: every request was answered; 1: a request failed; 2: invalid input or usage; 130: interrupted.
    """
    from tritonforge.cli.input_arguments import read_inputs
    from tritonforge.cli.profile_requests import build_requests, send_trial
    from tritonforge.inference.client import UnnamedModelError
    from tritonforge.profiling.report import LoadProfile, ProfileReport
    from tritonforge.profiling.session import profile_loads
    from tritonforge.profiling.target import open_target, read_configs

    loads = load.list_loads()
    if not target.startswith("sagemaker://"):
        reject_options(f"applies to SageMaker endpoints (sagemaker://NAME), not to {target}", group=SAGEMAKER)
    arguments = read_inputs(inputs, sys.stdin.buffer, has_images=bool(images))
    notes: list[str] = []
    with ExitStack() as stack:
        progress = stack.enter_context(steps())
        client, calls = stack.enter_context(_open(target, model, aws, load, progress))
        progress.begin("reading the model")
        options = _list_aws_options(aws) if target.startswith("sagemaker://") else {}
        try:
            configs: dict[str, Any] = read_configs(client)
            opened = open_target(client, model=_choose_model(model, configs), options=options)
        except UnnamedModelError as error:
            raise click.UsageError(f"{error}: --model NAME") from error
        metadata = client.metadata(opened.model)
        requests = build_requests(
            client,
            metadata,
            configs.get(opened.model or ""),
            images=images,
            arguments=arguments,
            cases=cases,
            batch_size=batch,
            shapes=_parse_shapes(shapes),
            sequence_length=sequence_length,
            seed=seed,
        )
        if requests.sequence_length and load.rate is not None:
            raise click.UsageError("--rate does not apply to sequences, whose requests wait for one another")
        if opened.read_statistics is None:
            notes.append(
                "no times of steps: this address has no call for Triton's statistics (SageMaker addresses never have). "
                "Profile the repository, or Triton's HTTP or gRPC port"
            )
        response_bytes = send_trial(client, opened, requests)
        connections = max(one.concurrency if isinstance(one, ClosedLoop) else 1 for one in loads)
        payloads, scripts = requests.encode(connections=connections)
        measured: list[LoadProfile] = []
        failure: TritonForgeError | None = None
        stopping = stack.enter_context(stop_on_signals())
        stopping.is_running = True
        session = profile_loads(
            opened,
            payloads,
            loads,
            configs=configs,
            calls=calls,
            stop=load.stop,
            scripts=scripts,
            processes=load.processes,
            seed=seed,
            timeout=load.timeout,
            cancelled=stopping.event,
            on_progress=_Progress(progress, loads),
        )
        try:
            measured.extend(session)
        except ConnectError as error:
            if not measured:
                raise
            failure = error  # what was measured before it is printed
        progress.end()
        is_interrupted = stopping.event.is_set()
        stopping.is_running = False
    report = ProfileReport(
        target,
        opened.model or "",
        requests.description,
        tuple(measured),
        request_bytes=payloads[0].size,
        response_bytes=response_bytes,
        batch_size=requests.batch_size,
        notes=(*notes, *([str(failure)] if failure is not None else [])),
        precision=load.precision / 100,
    )
    _print(report, output_format, html)
    return 130 if is_interrupted else 1 if failure is not None or report.has_failures else 0


class _Progress:
    """Shows where a measurement is."""

    def __init__(self, progress: Steps, loads: Sequence[Load]) -> None:
        self._progress = progress
        self._loads = loads
        self._current: Load | None = None

    def __call__(self, load: Load, progress: Any) -> None:
        if load != self._current:
            self._current = load
            place = (
                f"{self._loads.index(load) + 1} of {len(self._loads)}: " if load in self._loads else "without load: "
            )
            self._progress.begin(f"measuring {place}{load}")
        self._progress.detail(f"{progress.phase} {progress.seconds:.0f} s, {progress.throughput:.4g} requests/s")


@contextmanager
def _open(
    target: str, model: str | None, aws: AwsOptions, load: LoadOptions, progress: Steps
) -> Iterator[tuple[Any, Mapping[str, Sequence[str]]]]:
    """Yield a client of the address, or of a server that is started for a repository, and what its code requests."""
    from tritonforge.inference.client import Client

    settings: dict[str, Any] = {"model": model, "timeout": load.timeout, "connections": 8}
    if "://" in target:
        options = _list_aws_options(aws) if target.startswith("sagemaker://") else {}
        with Client(target, **settings, **options) as client:
            yield client, {}
        return
    from tritonforge.golden_tests.session import find_tested_path
    from tritonforge.graph.graph_reader import read_calls
    from tritonforge.inference.private_server import open_private_server
    from tritonforge.serving.repository_overlay import read_configs
    from tritonforge.validation.tree_reader import read_tree

    path = Path(target)
    if not path.exists():
        raise click.UsageError(f"{target}: not found (expected a URL such as http://localhost:8000, or a path)")
    repository = find_tested_path(path, None).build(progress.on_build)
    progress.begin(f"starting tritonserver on {repository}")
    calls = read_calls(read_tree(repository))
    with open_private_server(
        repository, read_configs(repository), options=settings, on_progress=progress.detail, on_warning=note
    ) as private:
        yield private.open_stream() or private.client, calls


def _choose_model(model: str | None, configs: dict[str, Any]) -> str | None:
    """Return the model to profile: the given one, else the only outermost one; None to let the client choose."""
    from tritonforge.golden_tests.data_flow import find_outermost

    if model is not None or not configs:
        return model
    names = find_outermost(configs)
    if len(names) != 1:
        raise click.UsageError(f"the server has the models {', '.join(names)}: --model NAME")
    return names[0]


def _list_aws_options(aws: AwsOptions) -> dict[str, Any]:
    options = {"region": aws.region, "profile": aws.profile, "endpoint_url": aws.endpoint_url}
    return {name: value for name, value in options.items() if value is not None}


def _parse_shapes(shapes: Sequence[str]) -> dict[str, tuple[int, ...]]:
    parsed = {}
    for shape in shapes:
        match = re.fullmatch(r"(.+?)=(\d+(?:,\d+)*)?", shape)
        if match is None:
            raise click.UsageError(f"--shape {shape}: expected NAME=N,N,... such as image=224,224,3")
        parsed[match[1]] = tuple(int(part) for part in match[2].split(",")) if match[2] else ()
    return parsed


def _print(report: Any, output_format: str, html: Path | None) -> None:
    from tritonforge.profiling.report import format_csv, format_json

    if html is not None:
        from tritonforge.files import write_file
        from tritonforge.profiling.html_report import render_html

        write_file(html, render_html(report).encode())
    if output_format == "json":
        echo_json(format_json(report))
    elif output_format == "csv":
        echo(format_csv(report), nl=False)
    else:
        from tritonforge.cli.profile_text import print_report

        print_report(report)
