"""SageMaker's fleet, for the subcommand train: the plan of a job is shown, agreed to, carried out and watched."""

from __future__ import annotations

import datetime as dt
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, TypeVar

import click
from rich.markup import escape

from tritonforge.cli.assignments import assigned
from tritonforge.cli.deployment import confirm_plan
from tritonforge.cli.printing import echo
from tritonforge.cli.terminal import Steps, err, out, steps
from tritonforge.cli.watching import COLOURS, show, told_line, watched
from tritonforge.sagemaker.client import Session
from tritonforge.sagemaker.endpoints.observation import find_role_arn
from tritonforge.sagemaker.jobs.kinds import TRAINING
from tritonforge.sagemaker.jobs.naming import job_name
from tritonforge.sagemaker.jobs.training import lifecycle, planning
from tritonforge.sagemaker.jobs.training.fleet import INSTANCE, VOLUME, Fleet, held, is_image
from tritonforge.sagemaker.jobs.training.local_data import materials
from tritonforge.sagemaker.jobs.training.observation import bucket_name, observe
from tritonforge.training.algorithm import Algorithm
from tritonforge.training.algorithm.program import find_algorithm
from tritonforge.training.job import TrainingJob

__all__ = ["check_unused", "fleet_flags", "on_sagemaker"]

_Command = TypeVar("_Command", bound=Callable[..., Any])

_STOPPED: Final = 130

#: The model's file in the folder that it is brought to.
_MODEL: Final = "model.tar.gz"

_FLEET: Final = (
    click.option("--on", type=click.Choice(["here", "sagemaker"]), default="here", show_default=True,
                 help="Where the job runs: on this machine, or on SageMaker's fleet."),
    click.option("--name", help="With --on sagemaker: the job's name; default: the program's, and the time."),
    click.option("--image-uri", metavar="URI", help="The image that holds PROGRAM."),
    click.option("--algorithm", metavar="NAME", help="An algorithm of SageMaker's in place of an image; or its ARN."),
    click.option("--role", metavar="ROLE", help="The IAM role for SageMaker: an ARN, or a name."),
    click.option("--bucket", help="The bucket for data of this machine; default: SageMaker's own of the region."),
    click.option("--instance-type", metavar="ML.TYPE",
                 help=f"The instances; default: the first that PROGRAM declares, or {INSTANCE}."),
    click.option("--instance-count", type=click.IntRange(1), help="How many; default 1."),
    click.option("--volume-size", type=click.IntRange(1), metavar="GB", help=f"The disk of each; default {VOLUME}."),
    click.option("--spot", is_flag=True, help="Spare capacity: cheaper, and may be taken away; see --max-wait."),
    click.option("--max-wait", type=click.IntRange(1), metavar="SECONDS", help="With --spot: waiting and training."),
    click.option("--network-isolation", is_flag=True, help="The container gets no network."),
    click.option("--tag", "tags", multiple=True, metavar="NAME=VALUE", help="A tag of the job."),
    click.option("--plan", "only_plan", is_flag=True, help="With --on sagemaker: show every request, change nothing."),
    click.option("--yes", is_flag=True, help="With --on sagemaker: do it without asking."),
    click.option("--no-wait", is_flag=True, help="With --on sagemaker: do not watch the job."),
)  # fmt: skip

#: What only a fleet has a use for, and what the flags are called that are not called so.
_ONLY: Final = ("name", "image_uri", "algorithm", "role", "bucket", "instance_type", "instance_count", "volume_size",
                "spot", "max_wait", "network_isolation", "tags", "only_plan", "yes", "no_wait")  # fmt: skip
_CALLED: Final = {"only_plan": "plan", "tags": "tag"}


def fleet_flags(command: _Command) -> _Command:
    """The flags that say on which machines a job runs; where they are, `place_flags` says."""
    for option in reversed(_FLEET):
        command = option(command)
    return command


def check_unused(flags: Mapping[str, Any]) -> None:
    """Nothing was said of a fleet that is not to be used.

    Raises:
        click.UsageError: a flag was given that only SageMaker's fleet has a use for.
    """
    for option in _ONLY:
        if flags[option]:
            raise click.UsageError(f"--{_CALLED.get(option, option).replace('_', '-')} goes with --on sagemaker")


def on_sagemaker(job: TrainingJob, program: Path, *, report: str, **flags: Any) -> int:
    """Run a job on SageMaker; what ``program`` declares, where it is a folder here, the job is held against first.

    Data of this machine go up first; a model whose output is a folder here is brought there in the end. The exit code
    is 0 for Completed, 1 Failed, 130 Stopped. An interruption asks whether the job is to be stopped too; where nobody
    can be asked it goes on.
    """
    as_json = report == "json"
    if flags["image_uri"] is not None and not program.is_dir() and not is_image(str(program)):
        raise click.UsageError(
            f"PROGRAM {program}: there is no such folder; name the one that {flags['image_uri']} holds"
        )
    declared = find_algorithm(program) if program.is_dir() else None
    target = Path(job.output.uri) if job.output.uri and planning.is_local(job.output.uri) else None
    if target is not None:
        _check_target(target)
        job = replace(job, output=replace(job.output, uri=""))
    job = _fleet(job, program, declared, flags).job(job, declared)
    if declared is not None:
        held(job, declared)
    lifecycle.check(planning.sketch(job))
    place = {"profile_name": flags["profile"], "endpoint_url": flags["endpoint_url"]}
    with steps() as progress, Session(region_name=flags["region"], **place) as session:
        job = replace(job, role_arn=find_role_arn(session, job.role_arn))
        bucket = bucket_name(session, flags["bucket"])
        progress.begin("read the data that lie here")
        with materials(job, bucket=bucket) as found:
            progress.begin("look at what AWS has")
            contents = {name: each.content for name, each in found.items()}
            plan, job = planning.plan(job, contents, observe(session, contents, bucket=flags["bucket"]))
            lifecycle.check(plan)
            progress.end()
            show(plan, as_json=as_json, only_plan=flags["only_plan"])
            if flags["only_plan"]:
                return 0
            confirm_plan(yes=flags["yes"], as_json=as_json)
            lifecycle.create(plan, session, materials=found, progress=progress)
        if flags["no_wait"]:
            progress.end()
            _tell({"job": job.name, "state": "InProgress"}, as_json=as_json)
            return 0
        ended = _watched(session, job.name, progress)
        if ended is None:
            return _STOPPED
        fetched = _fetched(session, ended, target, progress)
    _tell(_told(ended, fetched), as_json=as_json)
    return {"Completed": 0, "Failed": 1}.get(ended.status, _STOPPED)


def _fleet(job: TrainingJob, program: Path, declared: Algorithm | None, flags: Mapping[str, Any]) -> Fleet:
    if flags["image_uri"] and flags["algorithm"]:
        raise click.UsageError("--image-uri and --algorithm exclude each other; give what is to be run")
    image = flags["image_uri"]
    if image is None and flags["algorithm"] is None and not program.is_dir() and is_image(str(program)):
        image = str(program)
    base = declared.name if declared is not None else program.resolve().name.partition(":")[0]
    now = dt.datetime.now(dt.timezone.utc)
    return Fleet(
        name=flags["name"] or job.name or job_name(base, now, otherwise="training"),
        role=flags["role"],
        image=image,
        algorithm=flags["algorithm"],
        instance_type=flags["instance_type"],
        instance_count=flags["instance_count"],
        volume_size_in_gb=flags["volume_size"],
        max_wait_time_in_seconds=flags["max_wait"],
        spot=flags["spot"],
        network_isolation=flags["network_isolation"],
        tags=assigned(flags["tags"], "--tag") or None,
    )


def _check_target(target: Path) -> None:
    """Raise click.UsageError where the model cannot be brought to a folder: better now than when it was paid for."""
    there = next(each for each in (target, *target.absolute().parents) if os.access(each, os.F_OK))
    if not there.is_dir():
        raise click.UsageError(f"-o {target}: {there} is a file; name a folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise click.UsageError(f"-o {target}: {there} may not be written to; name another folder")


def _watched(session: Session, name: str, progress: Steps) -> lifecycle.Ended | None:
    def phase(status: str, message: str) -> None:
        err.print(f"  {escape(status)}{': ' if message else ''}{escape(message)}")

    def watch() -> lifecycle.Ended:
        return lifecycle.watch(session, name, progress=progress, line=told_line, phase=phase)

    return watched(session, TRAINING, name, progress, watch)


def _fetched(session: Session, ended: lifecycle.Ended, target: Path | None, progress: Steps) -> Path | None:
    """The model, in the folder that was named; None where there is none, or it was not asked for."""
    if target is None or ended.artifact is None:
        return None
    path = target if ended.artifact.endswith("/") else target / _MODEL
    progress.begin(f"fetch {ended.artifact}")
    lifecycle.download(session, ended.artifact, path, progress=progress)
    return path


def _told(ended: lifecycle.Ended, fetched: Path | None) -> dict[str, Any]:
    return {
        "job": ended.name,
        "state": ended.status,
        "arn": ended.arn,
        "secondary_status": ended.secondary,
        "failure": ended.reason or None,
        "metrics": dict(ended.metrics),
        "model": ended.artifact,
        "fetched": None if fetched is None else str(fetched),
        "seconds": ended.seconds,
        "billable_seconds": ended.billable,
        "log": list(ended.lines),
    }


def _tell(told: Mapping[str, Any], *, as_json: bool) -> None:
    if as_json:
        echo(json.dumps(told, indent=2))
        return
    colour = COLOURS.get(told["state"], "")
    state = f"[{colour}]{told['state']}[/{colour}]" if colour else told["state"]
    where = "".join(f" -> {escape(told[each])}" for each in ("model", "fetched") if told.get(each))
    metrics = "".join(f", {escape(name)} {value:g}" for name, value in told.get("metrics", {}).items())
    took = ""
    if "seconds" in told:
        took = f"  [dim]{told['seconds']:.0f} s, {told['billable_seconds']:.0f} s paid{metrics}[/dim]"
    out.print(f"{state}  {escape(told['job'])}{where}{took}")
    if told.get("failure"):
        err.print(f"[red]error:[/red] {escape(told['failure'])}")
