"""The subcommand of training: train."""

from __future__ import annotations

import datetime as dt
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import click
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from tritonforge.cli import fleet, train_fleet
from tritonforge.cli.fleet import place_flags
from tritonforge.cli.limit_flags import limit_flags, limits_of
from tritonforge.cli.printing import echo
from tritonforge.cli.stopping import signals
from tritonforge.cli.terminal import err, out, shown
from tritonforge.cli.train_job import job_flags, job_of
from tritonforge.errors import DefinitionError
from tritonforge.escaping import escape_log_line
from tritonforge.repository.download import cache_directory
from tritonforge.sagemaker.jobs.naming import job_name, plain
from tritonforge.sagemaker.jobs.training.fleet import held
from tritonforge.sagemaker.package import pack
from tritonforge.training.algorithm.program import find_algorithm
from tritonforge.training.job import (
    CheckpointConfig,
    MetricDefinition,
    MetricValue,
    Outcome,
    Phase,
    TrainingJob,
    run_training_job,
)
from tritonforge.training.job.objects import SchemeStore
from tritonforge.training.sandbox import NO_LIMITS
from tritonforge.training.sandbox.process import describe_sharing

__all__ = ["train"]

_STOPPED: Final = 130

#: What of a job may differ between two runs of which the second goes on from the first one's checkpoints.
_FREE: Final = ("StoppingCondition", "Tags", "RetryStrategy", "TrainingJobName", "OutputDataConfig", "CheckpointConfig")


@click.command()
@click.argument("program", type=click.Path(path_type=Path))
@job_flags
@train_fleet.fleet_flags
@place_flags
@click.option("--network", is_flag=True, help="Let the program use this machine's network; otherwise it has none.")
@click.option("--work", type=click.Path(path_type=Path), help="Where the job is kept; default: beside OUTDIR.")
@click.option("--afresh", is_flag=True, help="Begin anew, whatever checkpoints an earlier run has left.")
@limit_flags
@click.option(
    "--stop-timeout",
    "--grace",
    "grace",
    type=click.FloatRange(0),
    default=120.0,
    show_default=True,
    help="Seconds between SIGTERM and SIGKILL.",
)
@click.option("--format", "report", type=click.Choice(["text", "json"]), default="text", help="How to report.")
def train(
    program: Path,
    network: bool,
    work: Path | None,
    afresh: bool,
    memory: str | None,
    cpus: float | None,
    pids_limit: int | None,
    grace: float,
    report: str,
    **flags: Any,
) -> int:
    """Train: run PROGRAM's `train` as a SageMaker training job, on this machine, and leave the model in OUTDIR.

    PROGRAM is a folder with the executable `train`, as an image has it. It runs in namespaces of its own, with
    /opt/ml as SageMaker lays it out, and without a network; what is not isolated is printed at the start. OUTDIR gets
    model.tar.gz, and model/ with what is in it.
    Ctrl-C stops with a checkpoint; the same command goes on from there, and so it does after a crash.

    With --on sagemaker the job runs on SageMaker's fleet: data of this machine go to S3 first, the plan is shown, then
    the job's course, its metrics and its log; a model for a folder OUTDIR is brought there. PROGRAM may be an image.
    """
    limit = limits_of(memory, cpus, pids_limit)
    if flags["on"] == "sagemaker":
        if network or work or afresh or limit != NO_LIMITS:
            raise click.UsageError(
                "--network, --work, --afresh, --memory, --cpus and --pids-limit are for jobs of this machine"
            )
        anywhere = flags["output"] or ("" if flags["job_file"] is None else None)
        job = job_of(str(program), **{**flags, "output": anywhere})
        return train_fleet.on_sagemaker(job, program, report=report, **flags)
    train_fleet.check_unused(flags)
    job = job_of(str(program), **flags)
    if not program.is_dir():
        raise click.UsageError(f"PROGRAM {program}: there is no such folder")
    job = _as_declared(job, program)
    target = None if job.output.uri.startswith("s3://") else Path(job.output.uri)
    job = replace(job, name=job.name or _name(program, unique=target is None))
    if target is not None and not job.output.uri:
        raise click.UsageError("say where the model goes: -o OUTDIR, or OutputDataConfig.S3OutputPath of the job")
    kept = _Kept(work or _work(program, job, target))
    with kept.held():
        if afresh:
            kept.forget()
        kept.begin(job, program)
        local = replace(
            job,
            output=job.output if target is None else replace(job.output, uri=str(kept.out)),
            checkpoint_config=job.checkpoint_config or CheckpointConfig(uri=str(kept.checkpoints)),
        )
        store = SchemeStore(lambda: fleet.objects(flags))
        with signals() as stop, _shown() as display:
            stop.working = True
            for sentence in describe_sharing(network=network, limit=limit):
                err.print(f"[yellow]not isolated:[/yellow] {escape(sentence)}")
            outcome = run_training_job(
                local,
                program=program,
                store=store,
                work=kept.run,
                pack=pack,
                on_line=display.line,
                on_metric=display.metric,
                on_phase=display.phase,
                stop=stop.event,
                network=network,
                stop_seconds=grace,
                limits=limit,
                on_limit=display.limited,
            )
            stop.working = False
        if target is not None and outcome.state != "Failed":
            outcome = _delivered(outcome, kept, target)
        if outcome.state == "Completed" or not kept.is_begun:
            kept.forget()
        else:
            kept.clear()
    _report(outcome, job, report, kept)
    if outcome.state == "Stopped" and outcome.stop_reason == "stop":
        return _STOPPED
    return 0 if outcome.state == "Completed" else 1


def _as_declared(job: TrainingJob, program: Path) -> TrainingJob:
    """The job held against what its program declares, with its metrics; as it is where that declares nothing."""
    declared = find_algorithm(program)
    if declared is None:
        return job
    held(job, declared)
    assert job.algorithm is not None  # `job_of` gives one
    if job.algorithm.metric_definitions is not None:
        return job
    metrics = tuple(MetricDefinition(name=each.name, regex=each.regex) for each in declared.metrics)
    return replace(job, algorithm=replace(job.algorithm, metric_definitions=metrics or None))


@dataclass(frozen=True, slots=True)
class _Kept:
    """What is kept of a job between two runs: its description, its checkpoints; and where a run works."""

    folder: Path

    @property
    def run(self) -> Path:
        return self.folder / "run"

    @property
    def out(self) -> Path:
        return self.folder / "out"

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    @property
    def is_begun(self) -> bool:
        """Whether an earlier run has left a checkpoint here."""
        return self.checkpoints.is_dir() and any(self.checkpoints.iterdir())

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other runs out; the kernel lets go when this process ends, however it ends."""
        try:
            # Of this user alone: a program may set set-user-ID bits in it, which go only when it has ended.
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise DefinitionError(f"{self.folder}: the job cannot be kept there: {error.strerror or error}") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(lock)
            raise DefinitionError(f"{self.folder}: another run of this job is under way") from error
        try:
            yield
        finally:
            if {each.name for each in self.folder.iterdir()} == {"lock"}:
                shutil.rmtree(self.folder)
            os.close(lock)

    def begin(self, job: TrainingJob, program: Path) -> None:
        """Make room for a run. Raises DefinitionError where what is kept is another job's."""
        self.clear()
        self.run.mkdir()
        request = {name: value for name, value in job.to_request().items() if name not in _FREE}
        told = {"Program": str(program.resolve()), **request}
        file = self.folder / "job.json"
        if self.is_begun and file.exists():
            before = json.loads(file.read_text(encoding="utf-8"))
            if changed := sorted(name for name in {*before, *told} if before.get(name) != told.get(name)):
                raise DefinitionError(
                    f"{self.checkpoints} holds checkpoints of another job: its {changed[0]} was "
                    f"{json.dumps(before.get(changed[0]))}, now it is {json.dumps(told.get(changed[0]))}; begin anew "
                    "(--afresh), or name another folder (--work)"
                )
        file.write_text(json.dumps(told), encoding="utf-8")

    def clear(self) -> None:
        """Remove what a run worked with."""
        for each in (self.run, self.out):
            shutil.rmtree(each, ignore_errors=True)

    def forget(self) -> None:
        """Remove everything that was kept; the lock goes where nothing is."""
        self.clear()
        shutil.rmtree(self.checkpoints, ignore_errors=True)
        (self.folder / "job.json").unlink(missing_ok=True)


class _Shown:
    """What the terminal shows while the job runs: a line with its phase, its metrics and the time; the log above it."""

    def __init__(self, bar: Progress | None) -> None:
        self._bar = bar
        self._task = None if bar is None else bar.add_task("Starting", total=None)
        self._phase = ""
        self._metrics: dict[str, float] = {}

    def line(self, text: str) -> None:
        """A line of the program's log."""
        err.print(f"[dim]{escape(escape_log_line(text))}[/dim]")

    def metric(self, measured: MetricValue) -> None:
        """A metric has a value."""
        self._metrics[measured.name] = measured.value
        self._draw()

    def limited(self, sentence: str) -> None:
        """What limits the program."""
        err.print(f"[dim]{escape(sentence)}[/dim]")

    def phase(self, phase: Phase) -> None:
        """The job is somewhere else."""
        self._phase = phase
        if self._bar is None:
            err.print(f"  {phase} ...")
        self._draw()

    def _draw(self) -> None:
        if self._bar is not None and self._task is not None:
            values = "".join(f"  [cyan]{shown(name)}[/cyan] {value:g}" for name, value in self._metrics.items())
            self._bar.update(self._task, description=f"{self._phase}{values}")


@contextmanager
def _shown() -> Iterator[_Shown]:
    if not err.is_terminal:
        yield _Shown(None)
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=err, transient=True) as bar:
        yield _Shown(bar)


def _delivered(outcome: Outcome, kept: _Kept, target: Path) -> Outcome:
    """Put what the job left into OUTDIR, each whole, over what is there."""
    target.mkdir(parents=True, exist_ok=True)
    found = []
    for uri in (outcome.artifact, outcome.output_data):
        if uri is not None and Path(uri).is_file():  # else it is the model's folder, which comes next
            _placed(Path(uri), target / Path(uri).name)
        found.append(None if uri is None else str(target / Path(uri).name))
    if outcome.artifact is not None:
        _placed(kept.run / "ml" / "model", target / "model")
    return replace(outcome, artifact=found[0], output_data=found[1])


def _placed(source: Path, target: Path) -> None:
    """Move a file or a folder to its place; what was there goes."""
    half = target.with_name(f".{target.name}.{os.getpid()}")
    shutil.rmtree(half, ignore_errors=True)
    shutil.move(source, half)
    if target.is_dir() and not target.is_symlink():
        shutil.rmtree(target)
    half.replace(target)


def _work(program: Path, job: TrainingJob, target: Path | None) -> Path:
    """Where a job is kept: beside a folder of this machine, else in the user's cache."""
    if target is not None:
        folder = target.absolute()
        return folder.with_name(f".{folder.name}.train")
    told = f"{program.resolve()}\n{job.output.uri}"
    return cache_directory() / "train" / hashlib.sha256(told.encode()).hexdigest()[:16]


def _name(program: Path, *, unique: bool) -> str:
    """What the job is called: after its program; with the time where its outputs lie among those of other jobs."""
    base = program.resolve().name
    now = dt.datetime.now(dt.timezone.utc)
    return job_name(base, now, otherwise="training") if unique else plain(base, otherwise="training")


def _report(outcome: Outcome, job: TrainingJob, report: str, kept: _Kept) -> None:
    if report == "json":
        told: Mapping[str, Any] = {
            "job": job.name,
            "state": outcome.state,
            "why_stopped": outcome.stop_reason or None,
            "failure": outcome.failure or None,
            "exit_code": outcome.exit_code,
            "seconds": round(outcome.seconds, 3),
            "metrics": {name: each.value for name, each in outcome.metrics.items()},
            "model": outcome.artifact,
            "output_data": outcome.output_data,
            "notes": list(outcome.notes),
        }
        echo(json.dumps(told, indent=2))
    else:
        colour = {"Completed": "green", "Failed": "red", "Stopped": "yellow"}[outcome.state]
        where = f" -> {escape(outcome.artifact)}" if outcome.artifact else ""
        metrics = "".join(f", {shown(name)} {each.value:g}" for name, each in outcome.metrics.items())
        took = f"[dim]{outcome.seconds:.1f} s{metrics}[/dim]"
        out.print(f"[{colour}]{outcome.state}[/{colour}]  {shown(job.name)}{where}  {took}")
    for note in outcome.notes:
        err.print(f"[yellow]note:[/yellow] {escape(note)}")
    if outcome.failure:
        err.print(f"[red]error:[/red] {shown(outcome.failure)}")
    if outcome.stop_reason == "MaxRuntimeExceeded":
        err.print(f"[red]error:[/red] the job was stopped after {job.max_runtime} s, its MaxRuntimeInSeconds")
    if kept.checkpoints.is_dir():
        told_where = (
            f"the same command goes on from the checkpoints (--afresh begins anew); they are in {kept.checkpoints}"
        )
        err.print(f"[dim]{escape(told_where)}[/dim]")
