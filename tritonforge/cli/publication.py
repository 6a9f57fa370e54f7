"""An algorithm on its way to SageMaker: `algorithm publish` and `algorithm package`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click
from rich.markup import escape

from tritonforge.cli.assignments import assigned
from tritonforge.cli.fleet import place_flags
from tritonforge.cli.printing import echo
from tritonforge.cli.publishing import samples_of
from tritonforge.cli.terminal import Steps, err, out, steps
from tritonforge.training.algorithm.program import load_algorithm

if TYPE_CHECKING:
    from tritonforge.sagemaker.client import Session
    from tritonforge.sagemaker.endpoints import Plan
    from tritonforge.sagemaker.jobs.kinds import Kind
    from tritonforge.sagemaker.jobs.marketplace import Profile
    from tritonforge.sagemaker.jobs.training.contents import Seen
    from tritonforge.sagemaker.jobs.training.local_data import Material
    from tritonforge.training.job import TrainingJob

__all__ = ["package", "publish"]

_Command = TypeVar("_Command", bound=Callable[..., Any])

_FOLDER: Final = click.Path(path_type=Path, file_okay=False, exists=True)
_STOPPED: Final = 130

#: Where in the bucket a validation writes, where nothing is said.
_OUTPUTS: Final = "tritonforge-training/validations/"

_SHARED: Final = (
    click.option("--role", metavar="ROLE", help="The IAM role that the validation runs with: an ARN, or a name."),
    click.option("--transform", metavar="DATA", help="Objects to validate inference with: a folder or s3:// prefix."),
    click.option("--output", metavar="S3URI", help="Where the validation writes to; default: in the bucket."),
    click.option("--bucket", help="The bucket for data of this machine; default: SageMaker's own of the region."),
    click.option("--certify", is_flag=True, help="Certify for AWS Marketplace; the validation's data become public."),
    click.option("--tag", "tags", multiple=True, metavar="NAME=VALUE", help="A tag."),
    click.option("--replace", "replaces", is_flag=True, help="Delete another one of the name first."),
    click.option("--plan", "only_plan", is_flag=True, help="Show every request, change nothing."),
    click.option("--yes", is_flag=True, help="Do it without asking."),
    click.option("--no-wait", is_flag=True, help="Do not watch the validation."),
    click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", help="How to report."),
)


def _shared(command: _Command) -> _Command:
    for option in reversed(_SHARED):
        command = option(command)
    return place_flags(command)


@click.command(short_help="Create an algorithm on SageMaker, and watch its validation.")
@click.argument("program", type=_FOLDER)
@click.option("--training-image", required=True, metavar="URI", help="Where the image with `train` is.")
@click.option("--inference-image", metavar="URI", help="Where the image with `serve` is; left out: it only trains.")
@click.option("--name", help="The algorithm's name; default: the one that PROGRAM declares.")
@click.option(
    "--sample",
    "samples",
    multiple=True,
    metavar="CHANNEL=DATA[:ATTRIBUTE,...]",
    help="Data to validate training with: a folder, or an s3:// prefix; with attributes, an augmented manifest.",
)
@click.option("--hyperparameter", "values", multiple=True, metavar="NAME=VALUE", help="For the validation's training.")
@_shared
def publish(
    program: Path,
    training_image: str,
    inference_image: str | None,
    name: str | None,
    samples: tuple[str, ...],
    values: tuple[str, ...],
    **flags: Any,
) -> int:
    """Create PROGRAM's algorithm on SageMaker, as AWS Marketplace and training jobs take it (CreateAlgorithm).

    With --sample SageMaker validates it: it trains on the sample, and with --transform asks the model for its objects.
    The plan is shown first; a second run does nothing. Exit codes: 0 Completed; 1 AWS refused, or the validation
    failed; 2 invalid input or usage.
    """
    from tritonforge.sagemaker.jobs.kinds import ALGORITHM
    from tritonforge.sagemaker.jobs.marketplace import Container, Publication, lifecycle, planning, validation

    declared = load_algorithm(program)
    declared = declared if name is None else replace(declared, name=name)
    if samples and not flags["role"]:
        raise click.UsageError("a validation runs as an IAM role; give --role")
    if not samples and (flags["transform"] or flags["output"] or values):
        raise click.UsageError("a validation trains first; give --sample CHANNEL=DATA")

    def profile(output: str) -> Profile | None:
        if not samples:
            return None
        return validation(
            declared,
            channels=samples_of(samples),
            output=output,
            hyperparameters=assigned(values, "--hyperparameter"),
            transform=flags["transform"],
        )

    wanted = Publication(
        algorithm=declared,
        training_image=training_image,
        inference=(Container(image=inference_image),) if inference_image else (),
        role=flags["role"],
        certify_for_marketplace=True if flags["certify"] else None,
        tags=assigned(flags["tags"], "--tag") or None,
    )

    def plan(session: Session, role: str, found: Mapping[str, Material], seen: Seen) -> Plan:
        return planning.algorithm(
            replace(wanted, role=role or None, profile=profile(_output(flags, seen, declared.name))),
            {each: material.content for each, material in found.items()},
            seen,
            lifecycle.observe(session, ALGORITHM, declared.name),
            replaces=flags["replaces"],
        )

    return _carried(ALGORITHM, declared.name, planning.data(profile("s3://bucket/")), plan, flags)


@click.command(short_help="Create a model package on SageMaker, and watch its validation.")
@click.argument("name")
@click.option("--model", required=True, metavar="DATA", help="The model: a model.tar.gz here, or its s3:// address.")
@click.option("--algorithm", metavar="NAME", help="The algorithm of SageMaker's that made it.")
@click.option("--inference-image", metavar="URI", help="In place of --algorithm: the image that serves it.")
@click.option("--program", type=_FOLDER, help="With --inference-image: the folder that declares what it serves.")
@click.option("--group", is_flag=True, help="NAME is a group; the model becomes its next version.")
@_shared
def package(
    name: str,
    model: str,
    algorithm: str | None,
    inference_image: str | None,
    program: Path | None,
    group: bool,
    **flags: Any,
) -> int:
    """Create the model package NAME on SageMaker, from which endpoints and batch transforms are made.

    The model is one that --algorithm has made, or one with an image of its own. With --transform SageMaker validates
    it. The plan is shown first; a second run does nothing. Exit codes as of publish.
    """
    from tritonforge.errors import DefinitionError
    from tritonforge.sagemaker.jobs.kinds import ALGORITHM, MODEL_PACKAGE
    from tritonforge.sagemaker.jobs.marketplace import (
        Container,
        ModelPackage,
        Profile,
        lifecycle,
        planning,
        specification,
    )
    from tritonforge.sagemaker.jobs.marketplace.samples import transform_job

    if (algorithm is None) == (inference_image is None):
        raise click.UsageError("give --algorithm NAME, or --inference-image URI with --program FOLDER")
    if (inference_image is None) != (program is None):
        raise click.UsageError("--inference-image and --program go together")
    if flags["transform"] and not flags["role"]:
        raise click.UsageError("a validation runs as an IAM role; give --role")
    here = None if program is None else load_algorithm(program)

    def plan(session: Session, role: str, found: Mapping[str, Material], seen: Seen) -> Plan:
        declared = here
        if declared is None and flags["transform"]:
            described = lifecycle.observe(session, ALGORITHM, algorithm or "").described
            if described is None:
                raise DefinitionError(f"there is no algorithm {algorithm}; publish it first")
            declared = specification.algorithm(described)
        profile = None
        if flags["transform"] and declared is not None:
            job = transform_job(declared, flags["transform"], output=_output(flags, seen, name))
            profile = Profile(transform=job)
        local = "://" not in model
        wanted = ModelPackage(
            name=None if group else name,
            group=name if group else None,
            algorithm_name=algorithm,
            model_data_url=model if algorithm is not None and not local else None,
            declared=here,
            containers=(Container(image=inference_image, model_data_url=None if local else model),)
            if inference_image
            else (),
            role=role or None,
            profile=profile,
            certify_for_marketplace=True if flags["certify"] else None,
            tags=assigned(flags["tags"], "--tag") or None,
        )
        contents = {each: material.content for each, material in found.items()}
        standing = lifecycle.observe(session, MODEL_PACKAGE, "" if group else name, group=name if group else None)
        made = planning.package(wanted, contents, seen, standing, replaces=flags["replaces"])
        if group and standing.has_group and made.steps:
            there = lifecycle.version(session, name, made.steps[-1].request)
            return made if there is None else replace(made, steps=(), notes=(f"it is {there['ModelPackageArn']}",))
        return made

    return _carried(MODEL_PACKAGE, name, planning.data(_sketch(flags), model=model), plan, flags)


def _sketch(flags: Mapping[str, Any]) -> Any:
    """A profile of the objects to transform alone, for their being read."""
    from tritonforge.sagemaker.jobs.marketplace import Profile
    from tritonforge.transform import TransformInput, TransformJob, TransformOutput

    if not flags["transform"]:
        return None
    source = TransformInput(uri=flags["transform"])
    return Profile(transform=TransformJob(input=source, output=TransformOutput(uri="s3://bucket/")))


def _carried(
    kind: Kind,
    name: str,
    data: TrainingJob,
    plan: Callable[[Session, str, Mapping[str, Material], Seen], Plan],
    flags: Mapping[str, Any],
) -> int:
    """Make the plan, show it, carry it out when it is agreed to, and watch what comes of it."""
    from tritonforge.cli.deployment import confirm_plan
    from tritonforge.cli.watching import show, watched
    from tritonforge.sagemaker.client import Session
    from tritonforge.sagemaker.endpoints.observation import find_role_arn
    from tritonforge.sagemaker.jobs.marketplace import lifecycle
    from tritonforge.sagemaker.jobs.training.local_data import materials
    from tritonforge.sagemaker.jobs.training.observation import bucket_name, observe

    as_json = flags["form"] == "json"
    place = {"profile_name": flags["profile"], "endpoint_url": flags["endpoint_url"]}
    with steps() as progress, Session(region_name=flags["region"], **place) as session:
        role = find_role_arn(session, flags["role"] or "")
        progress.begin("read the data that lie here")
        with materials(data, bucket=bucket_name(session, flags["bucket"])) as found:
            progress.begin("look at what AWS has")
            contents = {each: material.content for each, material in found.items()}
            made = plan(session, role, found, observe(session, contents, bucket=flags["bucket"]))
            lifecycle.check(made, kind)
            progress.end()
            show(made, as_json=as_json, only_plan=flags["only_plan"])
            if flags["only_plan"]:
                return 0
            arn = name
            if made.steps:
                confirm_plan(yes=flags["yes"], as_json=as_json)
                arn = lifecycle.create(made, kind, session, materials=found, progress=progress)
            elif made.notes:
                arn = made.notes[0].removeprefix("it is ")
        if flags["no_wait"]:
            progress.end()
            _tell(kind, {"name": name, "state": "Pending", "arn": arn}, as_json=as_json)
            return 0
        ended = watched(session, kind, name, progress, lambda: _watch(session, kind, arn, progress))
    if ended is None:
        return _STOPPED
    told = {"name": name, "state": ended.status, "arn": ended.arn, "failures": list(ended.reasons)}
    _tell(kind, told, as_json=as_json)
    return 0 if ended.status == "Completed" else 1


def _watch(session: Session, kind: Kind, name: str, progress: Steps) -> Any:
    from tritonforge.sagemaker.jobs.marketplace import lifecycle

    def phase(part: str, status: str) -> None:
        err.print(f"  {escape(part)}: {escape(status)}")

    return lifecycle.watch(session, kind, name, progress=progress, phase=phase)


def _output(flags: Mapping[str, Any], seen: Seen, name: str) -> str:
    return flags["output"] or f"s3://{seen.bucket.name}/{_OUTPUTS}{name}"


def _tell(kind: Kind, told: Mapping[str, Any], *, as_json: bool) -> None:
    from tritonforge.cli.watching import COLOURS

    if as_json:
        echo(json.dumps(told, indent=2))
        return
    colour = COLOURS.get(told["state"], "")
    state = f"[{colour}]{told['state']}[/{colour}]" if colour else told["state"]
    out.print(f"{state}  {kind.noun} {escape(told['name'])}  [dim]{escape(told['arn'])}[/dim]")
    for each in told.get("failures", ()):
        err.print(f"[red]error:[/red] {escape(each)}")
