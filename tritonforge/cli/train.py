"""The command train: a SageMaker training job on this machine or on SageMaker."""

from __future__ import annotations

import datetime as dt
import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import click
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from tritonforge.cli import job_monitor
from tritonforge.cli.command import Command
from tritonforge.cli.data_set import create_store
from tritonforge.cli.job_monitor import INTERRUPTED, SubmitOptions, format_state, print_error_line
from tritonforge.cli.options import (
    LOCAL,
    AwsOptions,
    LimitOptions,
    add_options,
    json_option,
    option,
    reject_options,
    reject_unused_aws_options,
)
from tritonforge.cli.printing import echo_json
from tritonforge.cli.terminal import err, escape_markup, note, out, steps, stop_on_signals
from tritonforge.cli.training_options import TrainingOptions, TrainingSageMakerOptions
from tritonforge.errors import DefinitionError
from tritonforge.escaping import escape_log_line
from tritonforge.files import cache_directory
from tritonforge.sagemaker.client import Session
from tritonforge.sagemaker.jobs.kinds import build_job_name, build_resource_name
from tritonforge.sagemaker.jobs.training import (
    TrainingResult,
    TrainingRun,
    check_against_declaration,
    is_image,
)
from tritonforge.sagemaker.jobs.training_plan import is_local, list_local_channels
from tritonforge.sagemaker.package import pack
from tritonforge.training.algorithm.program import find_algorithm
from tritonforge.training.job import MetricDefinition, MetricValue, Outcome, Phase, TrainingJob, run_training_job
from tritonforge.training.job.job_directory import JobDirectory
from tritonforge.training.job.objects import SchemeStore
from tritonforge.training.sandbox.process import describe_sharing

__all__ = ["train"]


@click.command(
    cls=Command,
    example="""\
tritonforge train repos/detector --channel train=data/train.manifest:source-ref,boxes -o build/detector
tritonforge train repos/detector --channel train=data -o out --on sagemaker --image-uri URI --role Role""",
)
@click.argument("program", type=click.Path(path_type=Path))
@option(
    "--on",
    type=click.Choice(["here", "sagemaker"]),
    default="here",
    show_default=True,
    help="Run the job on this machine or on SageMaker.",
)
@add_options(TrainingOptions, "training_options")
@option("--network", is_flag=True, group=LOCAL, help="Let the program use this machine's network.")
@option(
    "--work",
    type=click.Path(path_type=Path),
    metavar="DIRECTORY",
    group=LOCAL,
    help="Keep checkpoints here. Default: beside OUTDIR.",
)
@option("--afresh", is_flag=True, group=LOCAL, help="Start again, whatever checkpoints an earlier run has left.")
@add_options(LimitOptions, "limits")
@option(
    "--stop-timeout",
    "--grace",
    "stop_timeout",
    type=click.FloatRange(0),
    default=120.0,
    show_default=True,
    metavar="SECONDS",
    group=LOCAL,
    help="The time between SIGTERM and SIGKILL.",
)
@add_options(TrainingSageMakerOptions, "sagemaker_options")
@add_options(SubmitOptions, "submit_options")
@add_options(AwsOptions, "aws")
@json_option
def train(
    program: Path,
    on: str,
    training_options: TrainingOptions,
    network: bool,
    work: Path | None,
    afresh: bool,
    limits: LimitOptions,
    stop_timeout: float,
    sagemaker_options: TrainingSageMakerOptions,
    submit_options: SubmitOptions,
    aws: AwsOptions,
    as_json: bool,
) -> int:
    """Run PROGRAM's `train` as a SageMaker training job and write the model to OUTDIR.

    PROGRAM is a directory with the executable `train`, as an image has it. It runs in namespaces of its own, with
    /opt/ml as SageMaker lays it out and without a network; what is not isolated is printed first. OUTDIR gets
    model.tar.gz, and model/ with its content. Ctrl-C stops the job with a checkpoint; after that or a crash the same
    command continues there.

    With --on sagemaker the job runs on SageMaker: local data are uploaded, the plan is shown, then the job's phases,
    metrics and log; a model for a local OUTDIR is downloaded. PROGRAM may be an image.
    """
    if on == "sagemaker":
        reject_options(
            "applies to jobs on this machine only",
            names=("network", "work", "afresh", "stop_timeout", *(field.name for field in fields(LimitOptions))),
        )
        job = training_options.build_job(str(program), needs_output=False)
        return _train_on_sagemaker(job, program, sagemaker_options, submit_options, aws, as_json=as_json)
    reject_options(
        "applies to --on sagemaker only",
        names=[field.name for options in (TrainingSageMakerOptions, SubmitOptions) for field in fields(options)],
    )
    job = training_options.build_job(str(program))
    if not program.is_dir():
        raise click.UsageError(f"PROGRAM {program}: no such directory")
    job = _apply_declaration(job, program)
    for channel in list_local_channels(job):
        if channel.data is not None and not Path(channel.data.uri).exists():
            raise DefinitionError(f"channel {channel.name}: {channel.data.uri}: no such file or directory")
    if not job.output.uri:
        raise click.UsageError("the output of the model is missing: give -o OUTDIR or the job's S3OutputPath")
    target = None if job.output.uri.startswith("s3://") else Path(job.output.uri)
    job = replace(job, name=job.name or _choose_name(program, is_unique=target is None))
    directory = JobDirectory(work or _choose_work_directory(program, job, target))
    reject_unused_aws_options(*_list_addresses(job))
    limit = limits.to_limits()
    store = SchemeStore(lambda: create_store("s3://", aws))

    def run(placed: TrainingJob, work_directory: Path) -> Outcome:
        with stop_on_signals() as stop, _show_progress() as display:
            stop.is_running = True
            for sentence in describe_sharing(network=network, limit=limit):
                err.print(f"[yellow]not isolated:[/yellow] {escape(sentence)}")
            outcome = run_training_job(
                placed,
                program=program,
                store=store,
                work=work_directory,
                pack=pack,
                on_line=display.print_line,
                on_metric=display.show_metric,
                on_phase=display.show_phase,
                stop=stop.event,
                network=network,
                stop_seconds=stop_timeout,
                limits=limit,
                on_limit=display.print_limit,
            )
            stop.is_running = False
        return outcome

    outcome = directory.run_job(job, program=program, target=target, run=run, starts_again=afresh)
    _print_outcome(outcome, job, directory, as_json=as_json)
    if outcome.state == "Stopped" and outcome.stop_reason == "stop":
        return INTERRUPTED
    return 0 if outcome.state == "Completed" else 1


def _train_on_sagemaker(
    job: TrainingJob,
    program: Path,
    options: TrainingSageMakerOptions,
    submit_options: SubmitOptions,
    aws: AwsOptions,
    *,
    as_json: bool,
) -> int:
    if options.image_uri is not None and not program.is_dir() and not is_image(str(program)):
        raise click.UsageError(f"PROGRAM {program}: no such directory; give the one that {options.image_uri} contains")
    if job.output.uri and is_local(job.output.uri):
        _check_target(Path(job.output.uri))
    declared = find_algorithm(program) if program.is_dir() else None
    with steps() as progress, Session(**aws.session_arguments) as session:
        training_run = TrainingRun(
            job,
            session=session,
            settings=options.build_settings(job, program, declared),
            declared=declared,
            bucket=options.bucket,
            progress=progress,
        )
        with training_run:
            if not job_monitor.submit(training_run, submit_options, progress, as_json=as_json):
                return 0
            if submit_options.no_wait:
                _print_result({"job": training_run.name, "state": "InProgress"}, as_json=as_json)
                return 0
            result = job_monitor.watch(training_run, progress)
            if result is None:
                return INTERRUPTED
            downloaded = training_run.download()
    document = _describe_result(result, downloaded)
    _print_result(document, as_json=as_json)
    return job_monitor.choose_exit_code(document, has_exceeded_time=result.has_exceeded_time)


def _check_target(target: Path) -> None:
    """Raise click.UsageError if the model cannot be downloaded to a directory, before it is paid for."""
    existing = next(path for path in (target, *target.absolute().parents) if os.access(path, os.F_OK))
    if not existing.is_dir():
        raise click.UsageError(f"-o {target}: {existing} is a file; give a directory")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise click.UsageError(f"-o {target}: {existing} is not writable; give another directory")


def _describe_result(result: TrainingResult, downloaded: Path | None) -> dict[str, Any]:
    return {
        "job": result.name,
        "state": result.status,
        "arn": result.arn,
        "secondary_status": result.secondary_status,
        "failure": result.reason or None,
        "metrics": dict(result.metrics),
        "model": result.artifact,
        "fetched": None if downloaded is None else str(downloaded),
        "seconds": result.seconds,
        "billable_seconds": result.billable_seconds,
        "log": list(result.lines),
    }


def _print_result(document: Mapping[str, Any], *, as_json: bool) -> None:
    if as_json:
        echo_json(document)
        return
    where = "".join(f" -> {escape_markup(document[name])}" for name in ("model", "fetched") if document.get(name))
    seconds = ""
    if "seconds" in document:
        metrics = "".join(f", {escape_markup(name)} {value:g}" for name, value in document["metrics"].items())
        seconds = f"  [dim]{document['seconds']:.0f} s, {document['billable_seconds']:.0f} s billed{metrics}[/dim]"
    out.print(f"{format_state(document['state'])}  {escape_markup(document['job'])}{where}{seconds}")
    if document.get("failure"):
        print_error_line(document["failure"])


def _list_addresses(job: TrainingJob) -> list[str]:
    channels = [channel.data.uri for channel in job.channels or () if channel.data is not None]
    checkpoints = [job.checkpoint_config.uri] if job.checkpoint_config is not None else []
    return [*channels, *checkpoints, job.output.uri]


def _apply_declaration(job: TrainingJob, program: Path) -> TrainingJob:
    """Check a job against what its program declares, and return it with the program's metrics."""
    declared = find_algorithm(program)
    if declared is None:
        return job
    check_against_declaration(job, declared)
    assert job.algorithm is not None  # `build_job` sets it
    if job.algorithm.metric_definitions is not None:
        return job
    metrics = tuple(MetricDefinition(name=metric.name, regex=metric.regex) for metric in declared.metrics)
    return replace(job, algorithm=replace(job.algorithm, metric_definitions=metrics or None))


class _Display:
    """What the terminal shows while the job runs: a line with phase, metrics and time, and the log above it."""

    def __init__(self, bar: Progress | None) -> None:
        self._bar = bar
        self._task = None if bar is None else bar.add_task("Starting", total=None)
        self._phase = ""
        self._metrics: dict[str, float] = {}

    def print_line(self, text: str) -> None:
        """Print a line of the program's log."""
        err.print(f"[dim]{escape(escape_log_line(text))}[/dim]")

    def print_limit(self, sentence: str) -> None:
        """Print what limits the program."""
        err.print(f"[dim]{escape(sentence)}[/dim]")

    def show_metric(self, metric: MetricValue) -> None:
        """Show the new value of a metric."""
        self._metrics[metric.name] = metric.value
        self._draw()

    def show_phase(self, phase: Phase) -> None:
        """Show the new phase of the job."""
        self._phase = phase
        if self._bar is None:
            err.print(f"  {phase} ...")
        self._draw()

    def _draw(self) -> None:
        if self._bar is not None and self._task is not None:
            values = "".join(f"  [cyan]{escape_markup(name)}[/cyan] {value:g}" for name, value in self._metrics.items())
            self._bar.update(self._task, description=f"{self._phase}{values}")


@contextmanager
def _show_progress() -> Iterator[_Display]:
    if not err.is_terminal:
        yield _Display(None)
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=err, transient=True) as bar:
        yield _Display(bar)


def _choose_work_directory(program: Path, job: TrainingJob, target: Path | None) -> Path:
    """Return where a job is kept: beside a local output directory, otherwise in the user's cache."""
    if target is not None:
        directory = target.absolute()
        return directory.with_name(f".{directory.name}.train")
    identity = f"{program.resolve()}\n{job.output.uri}"
    return cache_directory() / "train" / hashlib.sha256(identity.encode()).hexdigest()[:16]


def _choose_name(program: Path, *, is_unique: bool) -> str:
    """Return a job name after its program; with the time if its outputs lie among those of other jobs."""
    base = program.resolve().name
    now = dt.datetime.now(dt.timezone.utc)
    return build_job_name(base, now, default="training") if is_unique else build_resource_name(base, default="training")


def _print_outcome(outcome: Outcome, job: TrainingJob, directory: JobDirectory, *, as_json: bool) -> None:
    if as_json:
        document = {
            "job": job.name,
            "state": outcome.state,
            "why_stopped": outcome.stop_reason or None,
            "failure": outcome.failure or None,
            "exit_code": outcome.exit_code,
            "seconds": round(outcome.seconds, 3),
            "metrics": {name: metric.value for name, metric in outcome.metrics.items()},
            "model": outcome.artifact,
            "output_data": outcome.output_data,
            "notes": list(outcome.notes),
        }
        echo_json(document)
    else:
        where = f" -> {escape_markup(outcome.artifact)}" if outcome.artifact else ""
        metrics = "".join(f", {escape_markup(name)} {metric.value:g}" for name, metric in outcome.metrics.items())
        seconds = f"[dim]{outcome.seconds:.1f} s{metrics}[/dim]"
        out.print(f"{format_state(outcome.state)}  {escape_markup(job.name)}{where}  {seconds}")
    for sentence in outcome.notes:
        note(sentence)
    if outcome.failure:
        print_error_line(outcome.failure)
    if outcome.stop_reason == "MaxRuntimeExceeded":
        print_error_line(f"the job was stopped after {job.max_runtime} s, its MaxRuntimeInSeconds")
    if directory.checkpoints.is_dir():
        text = f"the same command continues from the checkpoints in {directory.checkpoints} (--afresh starts again)"
        err.print(f"[dim]{escape(text)}[/dim]")
