"""The command tune."""

from __future__ import annotations

import os
import sys
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final

import click

from tritonforge.building import build_definitions
from tritonforge.cli.command import Command
from tritonforge.cli.input_arguments import read_inputs
from tritonforge.cli.options import (
    EXISTING_DIRECTORY,
    EXISTING_FILE,
    EXISTING_PATH,
    FILE,
    OUTPUT,
    json_option,
    name_value_option,
    option,
    reject_options,
)
from tritonforge.cli.printing import echo, echo_json
from tritonforge.cli.profile_requests import build_requests
from tritonforge.cli.terminal import Steps, err, escape_markup, note, out, steps, stop_on_signals
from tritonforge.errors import CaseError, TritonForgeError
from tritonforge.files import describe_error, write_file
from tritonforge.golden_tests.session import TestedPath, find_tested_path
from tritonforge.inference.client import Client
from tritonforge.inference.transports import ModelMetadata
from tritonforge.repository.definition.loading import Definitions, load
from tritonforge.serving.repository_overlay import read_configs
from tritonforge.tuning.definition_update import DefinitionUpdate, plan_update, write_update
from tritonforge.tuning.loaded_server import LoadedServer, TrialLoad, open_local_server, open_running_server
from tritonforge.tuning.objective import Objective
from tritonforge.tuning.pareto import draw_trials
from tritonforge.tuning.repository_digest import hash_repository
from tritonforge.tuning.search_space import SearchSpace
from tritonforge.tuning.session import TrialRequests, TuningOptions, TuningOutcome, TuningProgress, tune_models
from tritonforge.tuning.trial_journal import JournaledTrial
from tritonforge.tuning.tuning_report import (
    ReportedTrial,
    TuningReport,
    describe_measurement,
    format_report,
    to_json,
)

__all__ = ["tune"]

_LOAD: Final = "Load options"
_SEARCH: Final = "Search options"
_SERVER: Final = "Options for a server that runs already"


@click.command(
    cls=Command,
    example="""\
tritonforge tune repos/digits
tritonforge tune repos/digits --p99 50 --concurrency 16 --trials 60 --write
tritonforge tune repos/digits --objective latency --rate 100
tritonforge tune build/digits --server http://localhost:8000""",
)
@click.argument("path", type=EXISTING_PATH)
@click.argument("images", nargs=-1, type=EXISTING_FILE)
@option("--objective", type=click.Choice(["throughput", "latency"]), default="throughput", show_default=True,
        help="Maximize requests per second, or minimize the 99th percentile of the latency at --rate.")  # fmt: skip
@option("--p99", type=click.FloatRange(0, min_open=True), metavar="MS",
        help="For throughput: keep the 99th percentile of the latency below MS milliseconds.")  # fmt: skip
@option("--rate", type=click.FloatRange(0, min_open=True), metavar="N", help="For latency: the requests per second.")
@option("--write", is_flag=True, help="Write the settings into the definition. Default: print the diff.")
@option("--model", metavar="NAME", help="The model that gets the requests. Default: the only model, or the outermost "
        "ensemble.")  # fmt: skip
@option("--concurrency", default=8, show_default=True, type=click.IntRange(1), metavar="N", group=_LOAD,
        help="Clients that send the next request when the last one is answered.")  # fmt: skip
@option("--cases", type=EXISTING_DIRECTORY, metavar="DIR", group=_LOAD, help="Send the inputs of the golden tests of "
        "DIR. Default: tests, beside the definition.")  # fmt: skip
@option("--input", "inputs", multiple=True, metavar="NAME=VALUE", group=_LOAD, help="A tensor, as for `tritonforge "
        "infer`: JSON, text, or @FILE. NAME alone takes the images. Without cases and values, inputs are "
        "generated.")  # fmt: skip
@option("--batch", default=1, show_default=True, type=click.IntRange(1), metavar="N", group=_LOAD,
        help="Rows, or images, in one request that is not a golden case.")  # fmt: skip
@option("--trials", default=40, show_default=True, type=click.IntRange(1), metavar="N", group=_SEARCH,
        help="Measure at most N points.")  # fmt: skip
@option("--time", "seconds", type=click.FloatRange(0, min_open=True), metavar="SECONDS", group=_SEARCH,
        help="Begin no trial after this time. Default: no limit.")  # fmt: skip
@option("--measure", "measure_seconds", default=4.0, show_default=True, type=click.FloatRange(0.5), metavar="SECONDS",
        group=_SEARCH, help="Measure a point at most this long; less where it is precise, or hopeless.")  # fmt: skip
@option("--pairs", default=5, show_default=True, type=click.IntRange(2), metavar="N", group=_SEARCH,
        help="At the end, measure before and after in turn N times.")  # fmt: skip
@option("--instances", type=click.IntRange(1), metavar="N", group=_SEARCH,
        help="The most instances of a model. Default: the number of processors, at least 2.")  # fmt: skip
@option("--largest-request", type=click.IntRange(1), metavar="ROWS", group=_SEARCH, help="The largest batch that "
        "clients send: max_batch_size may shrink to it. Default: max_batch_size does not shrink.")  # fmt: skip
@option("--seed", default=0, show_default=True, type=click.IntRange(0), metavar="N", group=_SEARCH,
        help="Of the search: the same seed tries the same points after the same figures.")  # fmt: skip
@option("--journal", type=FILE, group=_SEARCH, help="The file of trials, from which an interrupted search continues. "
        "Default: build/NAME.tune.jsonl.")  # fmt: skip
@option("--restart", is_flag=True, group=_SEARCH, help="Do not continue an interrupted search.")
@option("--server", metavar="URL", group=_SERVER, help="Tune a Triton that runs already, at its HTTP address. It has "
        "this repository and --model-control-mode=explicit.")  # fmt: skip
@name_value_option("--header", "headers", group=_SERVER, help="A header that it requires to load models.")
@option("--timeout", default=300.0, type=click.FloatRange(0, min_open=True), metavar="SECONDS", show_default=True,
        help="Wait this long for models to load.")  # fmt: skip
@option("--plot", type=FILE, metavar="FILE.svg", group=OUTPUT,
        help="Also draw the trials by throughput and latency, with the Pareto front.")  # fmt: skip
@json_option
def tune(
    path: Path,
    images: tuple[Path, ...],
    inputs: tuple[str, ...],
    batch: int,
    objective: str,
    p99: float | None,
    rate: float | None,
    cases: Path | None,
    journal: Path | None,
    plot: Path | None,
    server: str | None,
    headers: dict[str, str],
    timeout: float,
    *,
    write: bool,
    as_json: bool,
    **values: Any,
) -> int:
    """Search batching, instances and threads of all steps of PATH together, on a real Triton on this machine.

    PATH is a definition, which is built first, or a model repository. IMAGES are sent as `tritonforge infer` does.
    Every trial loads its settings into the server and measures a load on it; no file changes meanwhile. The best
    settings are measured against the present ones in turn, and recommended only if the gain is more than noise and
    answers stay the same. They are printed as a diff of the definition, or written with --write.

    What is fastest on a CPU is not what is fastest on a GPU: tune on the machine that will serve, beside its own Triton
    with --server.
    """
    _check_objective(objective, p99, rate)
    if plot is not None and plot.suffix.lower() != ".svg":
        raise click.UsageError(f"--plot {plot}: expected a name that ends in .svg")
    if server is None:
        reject_options("applies to --server only", names=["headers"])
    arguments = read_inputs(inputs, sys.stdin.buffer, has_images=bool(images))
    tested = find_tested_path(path, cases)
    if write and not tested.is_definition:
        raise click.UsageError(f"--write: {path} is a model repository; give its definition")
    options = TuningOptions(
        objective=Objective(goal="latency" if objective == "latency" else "throughput", p99=p99, rate=rate), **values
    )
    with stop_on_signals() as request, steps() as progress:
        definitions, repository = _build(tested, progress)
        configs = read_configs(repository)
        file = journal if journal is not None else Path("build") / f"{_find_name(tested)}.tune.jsonl"
        if server is None:
            progress.begin(f"starting tritonserver on {repository}")

        def open_server(load: TrialLoad) -> AbstractContextManager[LoadedServer]:
            if server is not None:
                return open_running_server(
                    server, configs, load, headers=headers, timeout=timeout, on_restore=progress.note
                )
            return open_local_server(
                repository, configs, load, timeout=timeout, on_progress=progress.detail, on_warning=note
            )

        def prepare_requests(client: Client, metadata: ModelMetadata) -> TrialRequests:
            request.is_running = True  # until here Ctrl-C ends the start of the server at once
            uses_cases = cases is not None or (tested.cases.is_dir() and not arguments and not images)
            requests = build_requests(
                client,
                metadata,
                configs.get(metadata.name),
                images=images,
                arguments=arguments,
                cases=tested.cases if uses_cases else None,
                batch_size=1 if uses_cases else batch,
            )
            payloads, scripts = requests.encode(connections=options.concurrency)
            return TrialRequests(requests.inputs, payloads, scripts)

        outcome = tune_models(
            configs,
            options,
            open_server=open_server,
            prepare_requests=prepare_requests,
            journal=file,
            digest=hash_repository(repository),
            cancelled=request.event,
            progress=TuningProgress(progress.begin, progress.detail, _print_trial, progress.note),
        )
        request.is_running = False
        if outcome.is_interrupted:
            progress.end()
            after = f" after {len(outcome.trials)} trials" if outcome.trials else ""
            echo(f"interrupted{after}; run the command again to continue", err=True)
            return 130
        report = _build_report(path, options, outcome)
        update = None
        if report.is_gain and definitions is not None:
            progress.begin("building the edited definition")
            update = _plan_update(definitions, repository, outcome)
    if plot is not None:
        _write_plot(plot, report)
    return _finish(report, update, repository, write=write, as_json=as_json)


def _check_objective(objective: str, p99: float | None, rate: float | None) -> None:
    if objective == "latency" and rate is None:
        raise click.UsageError("--objective latency requires --rate: the requests per second at which it is measured")
    if objective == "latency" and p99 is not None:
        raise click.UsageError("--p99 applies to --objective throughput; latency is minimized without a limit")
    if objective == "latency":
        reject_options("applies to --objective throughput; latency is measured at --rate", names=["concurrency"])
    if objective == "throughput" and rate is not None:
        raise click.UsageError("--rate applies to --objective latency; throughput is measured with --concurrency")


def _build(tested: TestedPath, progress: Steps) -> tuple[Definitions | None, Path]:
    """Return the definitions, None for a model repository, and the repository."""
    if not tested.is_definition:
        return None, tested.path
    definitions = load(tested.path)
    if definitions.package is not None:
        raise CaseError(f"{tested.path}: packages for TensorFlow Serving are not tuned, model repositories are")
    repository = Path("build") / definitions.folder.name
    build_definitions(definitions, repository, on_progress=progress.on_build)
    return definitions, repository


def _find_name(tested: TestedPath) -> str:
    path = tested.path.resolve()
    return path.parent.name if path.suffix == ".py" else path.name


def _print_trial(space: SearchSpace, trial: JournaledTrial, count: int) -> None:
    """Print a trial on standard error."""
    figures = f"failed: {trial.error}" if trial.measurement is None else describe_measurement(trial.measurement)
    err.print(f"  [dim]trial {count}[/dim]  {escape_markup(figures)}")


def _build_report(path: Path, options: TuningOptions, outcome: TuningOutcome) -> TuningReport:
    return TuningReport(
        tuned=str(path),
        model=outcome.model,
        objective=options.objective,
        load=str(options.load),
        machine=f"{len(os.sched_getaffinity(0))} processors",
        space=outcome.space,
        trials=[
            ReportedTrial(trial.point, trial.measurement, trial.error, trial.load_seconds + trial.measure_seconds)
            for trial in outcome.trials
        ],
        chosen=outcome.chosen,
        before=outcome.before,
        after=outcome.after,
        comparison=outcome.comparison,
        answers=outcome.answers,
        notes=outcome.notes,
    )


def _plan_update(definitions: Definitions, repository: Path, outcome: TuningOutcome) -> DefinitionUpdate:
    changes = outcome.space.list_changes(outcome.chosen)
    settings = {(change.model, change.name): change.after for change in changes}
    return plan_update(definitions, repository, settings, outcome.space.apply(outcome.chosen))


def _write_plot(path: Path, report: TuningReport) -> None:
    try:
        write_file(path, draw_trials(report).encode())
    except OSError as error:
        raise TritonForgeError(f"{path}: cannot write: {describe_error(error)}") from error


def _finish(
    report: TuningReport, update: DefinitionUpdate | None, repository: Path, *, write: bool, as_json: bool
) -> int:
    """Write the definition if that is requested, print the report, and return the exit code."""
    manual: list[str] = []
    is_written = False
    if update is not None:
        manual = [*update.manual, *([update.problem] if update.problem else [])]
        if write and update.can_be_written:
            write_update(update)
            build_definitions(load(update.path), repository)
            is_written = True
    report = report.with_update("" if update is None else update.diff, manual, written=is_written)
    if as_json:
        echo_json(to_json(report))
    else:
        for line in format_report(report):
            out.print(escape_markup(line))
        if report.diff:
            echo(report.diff, nl=False)
        if is_written and update is not None:
            out.print(f"written {escape_markup(str(update.path))}; built {escape_markup(str(repository))}")
            if any((update.path.parent / name / "config.pbtxt").is_file() for name in read_configs(repository)):
                note(f"update its config.pbtxt files: tritonforge build {update.path.parent} --write-configs")
    return 1 if write and report.is_gain and not is_written else 0
