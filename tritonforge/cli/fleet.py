"""SageMaker's fleet, for the subcommand transform: the plan of a job is shown, agreed to, carried out and watched."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Final, TypeVar

import click
from rich.markup import escape

from tritonforge.building import build_definitions
from tritonforge.cli.deployment import confirm_plan
from tritonforge.cli.options import AwsOptions
from tritonforge.cli.options import option as add_option
from tritonforge.cli.printing import echo
from tritonforge.cli.terminal import Steps, err, out, steps
from tritonforge.cli.watching import COLOURS, show, told_line, watched
from tritonforge.repository.definition.loading import load
from tritonforge.sagemaker.client import Session, Store
from tritonforge.sagemaker.endpoints import Deployment, Plan
from tritonforge.sagemaker.endpoints.local_repository import (
    LocalRepository,
    check_repositories,
    find_deployment,
    is_definition,
    open_repository,
)
from tritonforge.sagemaker.endpoints.observation import find_role_arn, observe
from tritonforge.sagemaker.jobs.kinds import TRANSFORM
from tritonforge.sagemaker.jobs.naming import job_name, plain
from tritonforge.sagemaker.jobs.transform import lifecycle, planning
from tritonforge.sagemaker.jobs.transform.places import S3Objects
from tritonforge.transform.job import MAX_PAYLOAD_IN_MB, TransformJob

__all__ = ["asking_for", "check_unused", "concurrent", "fleet_flags", "objects", "on_sagemaker"]

_Command = TypeVar("_Command", bound=Callable[..., Any])

_INSTANCE: Final = "ml.g4dn.xlarge"
_STOPPED: Final = 130

_SWITCHES: Final = ("only_plan", "yes", "no_wait")
_DEFAULT_MODEL: Final = "SAGEMAKER_TRITON_DEFAULT_MODEL_NAME"

#: As in the post that this is measured against; and AWS's default of MaxPayloadInMB (API CreateTransformJob).
_MOST_AT_ONCE: Final = 64
_PAYLOAD_IN_MB: Final = 6

_FLEET: Final = (
    click.option("--on", type=click.Choice(["here", "sagemaker"]), default="here", show_default=True,
                 help="Where the model runs: a server of this machine, or SageMaker's fleet."),
    click.option("--name", help="With --on sagemaker: the job's name; default: the model's, and the time."),
    click.option("--image", metavar="TAG", help="24.09, a tag, a URI, 26.05+tensorflow; tensorflow-inference:2.19."),
    click.option("--image-uri", metavar="URI", help="Where an image of your own lies; --image says what it is."),
    click.option("--role", metavar="ROLE", help="The IAM role for SageMaker: an ARN, or a name."),
    click.option("--bucket", help="The bucket for the model's archive; default: SageMaker's own of the region."),
    click.option("--instance-type", metavar="ML.TYPE", help=f"The instances; default {_INSTANCE}."),
    click.option("--instance-count", type=click.IntRange(1, 100), help="How many instances share the objects."),
    click.option("--plan", "only_plan", is_flag=True, help="With --on sagemaker: show every request, change nothing."),
    click.option("--yes", is_flag=True, help="With --on sagemaker: do it without asking."),
    click.option("--no-wait", is_flag=True, help="With --on sagemaker: do not watch the job."),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Planned:
    """A plan, the repository that it uploads, and what was found in it."""

    plan: Plan
    materials: Mapping[str, LocalRepository]
    said: tuple[str, ...] = ()


def place_flags(command: _Command) -> _Command:
    """Add --region, --profile and --endpoint-url, each as a parameter of its own."""
    for item in reversed(fields(AwsOptions)):
        declarations, attributes = item.metadata["option"]
        command = add_option(*declarations, item.name, **attributes)(command)
    return command


def fleet_flags(command: _Command) -> _Command:
    """The flags that say on which machines a job runs, and where they are."""
    for option in reversed(_FLEET):
        command = option(command)
    return place_flags(command)


def concurrent(given: int | None, max_payload: int | None) -> int | None:
    """Requests at once to an instance: as many as AWS allows for the size of a request, where nothing is said.

    AWS's own default is 1 (API CreateTransformJob), which leaves an instance idle while a request is on its way.
    """
    if given is not None or max_payload == 0:
        return given
    return min(_MOST_AT_ONCE, MAX_PAYLOAD_IN_MB // (max_payload or _PAYLOAD_IN_MB))


def asking_for(model: str | None, job: TransformJob) -> TransformJob:
    """The job with the model of the repository that its container is to serve."""
    return job if model is None else replace(job, environment={**(job.environment or {}), _DEFAULT_MODEL: model})


def check_unused(flags: Mapping[str, Any]) -> None:
    """Nothing was said of a fleet that is not to be used.

    Raises:
        click.UsageError: a flag was given that only SageMaker's fleet has a use for.
    """
    named = {"only_plan": "plan"}
    for option in ("name", "image", "image_uri", "role", "bucket", "instance_type", "instance_count", *_SWITCHES):
        if flags[option]:
            raise click.UsageError(f"--{named.get(option, option).replace('_', '-')} goes with --on sagemaker")


def objects(flags: Mapping[str, Any]) -> S3Objects:
    """S3 for a job of this machine, in the place that the flags name."""
    session = Session(region_name=flags["region"], profile_name=flags["profile"], endpoint_url=flags["endpoint_url"])
    return S3Objects(Store(session))


def on_sagemaker(job: TransformJob, model: Path, *, report: str, **flags: Any) -> int:
    """Run a job on SageMaker; ``model`` is a repository, an archive, a definition, or a SageMaker model's name.

    The exit code is that of transform: 0 Completed, 1 Failed, 130 Stopped. An interruption asks whether the job is to
    be stopped too; where nobody can be asked it goes on.
    """
    as_json = report == "json"
    job = planning.fleet_job(
        job,
        name=flags["name"] or job_name(_base(model), dt.datetime.now(dt.timezone.utc)),
        instance_type=flags["instance_type"] or _INSTANCE,
        instance_count=flags["instance_count"] or 1,
    )
    place = {"profile_name": flags["profile"], "endpoint_url": flags["endpoint_url"]}
    with steps() as progress, Session(region_name=flags["region"], **place) as session:
        with _planned(job, model, session, progress, flags) as made:
            lifecycle.check(made.plan)
            progress.end()
            show(made.plan, as_json=as_json, only_plan=flags["only_plan"], said=made.said)
            if flags["only_plan"]:
                return 0
            confirm_plan(yes=flags["yes"], as_json=as_json)
            lifecycle.create(made.plan, session, materials=made.materials, progress=progress)
        if flags["no_wait"]:
            progress.end()
            _tell({"job": job.name, "state": "InProgress"}, as_json=as_json)
            return 0

        def watch() -> lifecycle.Ended:
            return lifecycle.watch(session, job.name, progress=progress, line=told_line)

        ended = watched(session, TRANSFORM, job.name, progress, watch)
    if ended is None:
        return _STOPPED
    _tell(
        {
            "job": job.name,
            "state": ended.status,
            "arn": ended.arn,
            "reason": ended.reason,
            "seconds": ended.seconds,
            "output": job.output.uri,
        },
        as_json=as_json,
    )
    return {"Completed": 0, "Failed": 1}.get(ended.status, _STOPPED)


@contextmanager
def _planned(
    job: TransformJob, model: Path, session: Session, progress: Steps, flags: Mapping[str, Any]
) -> Iterator[_Planned]:
    if not model.exists():
        if len(model.parts) > 1 or model.suffix:
            raise click.UsageError(f"--model {model}: there is no such repository, archive or definition")
        progress.begin(f"look for the model {model}")
        session.call("sagemaker", "DescribeModel", ModelName=str(model))
        job = replace(job, model_name=str(model))
        yield _Planned(planning.plan_existing(job, region=session.region, account=session.get_account()), {})
        return
    definitions = load(model) if is_definition(model) else None
    described = None if definitions is None else find_deployment(definitions, name=None)
    deployment = described or Deployment(name=plain(definitions.folder.name if definitions else _base(model)))
    built = model
    if definitions is not None:
        built = Path("build") / definitions.folder.name
        build_definitions(definitions, built, on_progress=progress.on_build)
    assert job.resources is not None
    role = find_role_arn(session, flags["role"] or deployment.execution_role_arn or "")
    deployment = deployment.with_settings(
        image=flags["image"],
        image_uri=flags["image_uri"],
        bucket=flags["bucket"],
        instance_type=job.resources.instance_type,
        execution_role_arn=role or None,
    )
    with open_repository(built) as material:
        progress.begin("judge the repository for the image")
        found = check_repositories(deployment, {"": material}, region=session.region)
        progress.begin("look at what AWS has")
        seen = observe(session, name=deployment.name, bucket=deployment.bucket, folder=deployment.folder)
        plan, _ = planning.plan(job, deployment, {"": material.content}, seen)
        yield _Planned(plan, {"": material}, tuple(f"{each.code} {each.path}: {each.message}" for each in found))


def _base(model: Path) -> str:
    return model.resolve().name.removesuffix(".tar.gz")


def _tell(told: Mapping[str, Any], *, as_json: bool) -> None:
    if as_json:
        echo(json.dumps(told, indent=2))
        return
    colour = COLOURS.get(told["state"], "")
    state = f"[{colour}]{told['state']}[/{colour}]" if colour else told["state"]
    where = f" -> {escape(told['output'])}  [dim]{told['seconds']:.0f} s an instance[/dim]" if "output" in told else ""
    out.print(f"{state}  {escape(told['job'])}{where}")
    if told.get("reason"):
        err.print(f"[red]error:[/red] {escape(told['reason'])}")
