"""The commands algorithm show, requests, publish and package: what an algorithm declares, and its publication."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
from rich.markup import escape

from tritonforge.cli.command import Command
from tritonforge.cli.options import (
    EXISTING_DIRECTORY,
    SAGEMAKER,
    AwsOptions,
    add_options,
    declare_name_value_option,
    declare_option,
    json_option,
    option,
    split_attributes,
)
from tritonforge.cli.printing import echo, echo_json
from tritonforge.cli.terminal import Steps, out, steps
from tritonforge.errors import RequestError
from tritonforge.training.algorithm.declaration import render_markdown
from tritonforge.training.algorithm.program import load_algorithm

if TYPE_CHECKING:
    from tritonforge.cli.job_monitor import SubmitOptions
    from tritonforge.sagemaker.jobs.lifecycle import SageMakerJob
    from tritonforge.sagemaker.jobs.marketplace import PublicationResult, PublicationSettings
    from tritonforge.sagemaker.jobs.publication import SampleData

__all__ = ["package", "publish", "requests", "show"]

_VALIDATION: Final = "Validation options"


@dataclass(frozen=True, slots=True)
class _ValidationOptions:
    """The data with which SageMaker validates an algorithm."""

    samples: dict[str, str] = declare_name_value_option(
        "--sample", metavar="CHANNEL=DATA[:ATTRIBUTE,...]", group=_VALIDATION,
        help="Validate training with this directory or s3:// prefix; with attributes with an augmented manifest.",
    )  # fmt: skip
    hyperparameters: dict[str, str] = declare_name_value_option(
        "--hyperparameter", group=_VALIDATION, help="A hyperparameter of the validation's training."
    )
    transform: str | None = declare_option(
        "--transform", metavar="DATA", group=_VALIDATION,
        help="Validate inference with the objects of this directory or s3:// prefix.",
    )  # fmt: skip
    role: str | None = declare_option(
        "--role", metavar="ROLE", group=_VALIDATION, help="The IAM role of the validation: an ARN or a name."
    )
    output: str | None = declare_option(
        "--output", metavar="S3URI", group=_VALIDATION,
        help="Write the validation's outputs here. Default: a prefix of the bucket.",
    )  # fmt: skip

    def read_samples(self) -> dict[str, SampleData]:
        """Return the samples by channel. Raises click.UsageError for options that lack another one."""
        from tritonforge.sagemaker.jobs.publication import SampleData

        if self.samples and not self.role:
            raise click.UsageError("--sample requires --role: a validation runs as an IAM role")
        if not self.samples and (self.transform or self.output or self.hyperparameters):
            raise click.UsageError("--transform, --output and --hyperparameter require --sample CHANNEL=DATA")
        split = {channel: split_attributes(data) for channel, data in self.samples.items()}
        return {channel: SampleData(uri=uri, attributes=names) for channel, (uri, names) in split.items()}


@click.command(cls=Command, example="tritonforge algorithm show repos/detector")
@click.argument("program", type=EXISTING_DIRECTORY)
@json_option
def show(program: Path, as_json: bool) -> int:
    """Print what PROGRAM declares in its algorithm.py: hyperparameters, channels, metrics, types; as Markdown.

    As JSON these are the TrainingSpecification and the InferenceSpecification of CreateAlgorithm, without images.
    """
    declared = load_algorithm(program)
    if not as_json:
        echo(render_markdown(declared), nl=False)
        return 0
    from tritonforge.sagemaker.jobs.specification import build_inference_specification, build_training_specification

    training = build_training_specification(declared, image="")
    inference = build_inference_specification(declared, ())
    training.pop("TrainingImage", None)
    inference.pop("Containers", None)
    document = {
        "name": declared.name,
        "description": declared.description,
        "TrainingSpecification": training,
        "InferenceSpecification": inference,
    }
    echo_json(document)
    return 0


@click.command(
    cls=Command, example="tritonforge algorithm requests repos/detector --training-image URI --inference-image URI"
)
@click.argument("program", type=EXISTING_DIRECTORY)
@option("--training-image", required=True, metavar="URI", help="The image with `train`.")
@option("--inference-image", metavar="URI", help="The image with `serve`. Default: the algorithm only trains.")
@add_options(_ValidationOptions, "validation")
@option("--model-package", metavar="NAME", help="Print CreateModelPackage as well, for a model of the algorithm.")
@option("--model-data", metavar="S3URI", help="The model of the package: a model.tar.gz.")
@option("--certify", is_flag=True, help="Certify for AWS Marketplace.")
def requests(
    program: Path,
    training_image: str,
    inference_image: str | None,
    validation: _ValidationOptions,
    model_package: str | None,
    model_data: str | None,
    certify: bool,
) -> int:
    """Print the requests that publish PROGRAM's algorithm, as JSON: CreateAlgorithm and CreateModelPackage.

    Nothing is called. The requests are checked against AWS's service model and documented limits; a request that AWS
    would reject is an error (exit code 2).
    """
    from tritonforge.sagemaker import service_model
    from tritonforge.sagemaker.jobs.publication import (
        AlgorithmRequest,
        ModelPackageRequest,
        build_validation_profile,
    )
    from tritonforge.sagemaker.jobs.specification import Container
    from tritonforge.sagemaker.limits import check_limits

    if (model_package is None) != (model_data is None):
        raise click.UsageError("--model-package and --model-data require each other")
    declared = load_algorithm(program)
    profile = None
    if samples := validation.read_samples():
        if validation.output is None:
            raise click.UsageError("--sample requires --output")
        profile = build_validation_profile(
            declared,
            channels=samples,
            output=validation.output,
            hyperparameters=validation.hyperparameters,
            transform=validation.transform,
        )
    printed = {
        "CreateAlgorithm": AlgorithmRequest(
            algorithm=declared,
            training_image=training_image,
            inference=(Container(image=inference_image),) if inference_image else (),
            role=validation.role if profile is not None else None,
            profile=profile,
            certify_for_marketplace=True if certify else None,
        ).to_request()
    }
    if model_package is not None:
        has_transform = profile is not None and profile.transform is not None
        printed["CreateModelPackage"] = ModelPackageRequest(
            name=model_package,
            algorithm_name=declared.name,
            model_data_url=model_data,
            role=validation.role if has_transform else None,
            profile=profile.without_training() if profile is not None and has_transform else None,
            certify_for_marketplace=True if certify else None,
        ).to_request()
    for operation, request in printed.items():
        service_model.check_request("sagemaker", operation, request)
        if violations := check_limits(operation, request):
            text = "\n".join(f"  {violation.place}: {violation.sentence}" for violation in violations)
            raise RequestError(f"{operation}: AWS would reject this request:\n{text}")
    echo_json(printed)
    return 0


@dataclass(frozen=True, slots=True)
class _PublicationOptions:
    """What the publication of an algorithm and of a model package share."""

    bucket: str | None = declare_option(
        "--bucket", metavar="NAME", group=SAGEMAKER,
        help="The bucket of local data. Default: SageMaker's own of the region.",
    )  # fmt: skip
    certify: bool = declare_option(
        "--certify", is_flag=True, group=SAGEMAKER,
        help="Certify for AWS Marketplace; the validation's data become public.",
    )  # fmt: skip
    tags: dict[str, str] = declare_name_value_option("--tag", group=SAGEMAKER, help="A tag of the resource.")
    replaces: bool = declare_option(
        "--replace", is_flag=True, group=SAGEMAKER, help="Delete another resource of this name first."
    )
    only_plan: bool = declare_option(
        "--plan", is_flag=True, group=SAGEMAKER, help="Show every request and change nothing."
    )
    yes: bool = declare_option("-y", "--yes", is_flag=True, group=SAGEMAKER, help="Apply the plan without asking.")
    no_wait: bool = declare_option("--no-wait", is_flag=True, group=SAGEMAKER, help="Do not wait for the validation.")

    @property
    def submission(self) -> SubmitOptions:
        """How far the publication is taken."""
        from tritonforge.cli.job_monitor import SubmitOptions

        return SubmitOptions(self.only_plan, self.yes, self.no_wait)

    def build_settings(self, transform: str | None, output: str | None) -> PublicationSettings:
        """Return the settings of a publication."""
        from tritonforge.sagemaker.jobs.marketplace import PublicationSettings

        return PublicationSettings(transform=transform, output=output, bucket=self.bucket, replaces=self.replaces)


@click.command(
    cls=Command,
    example="tritonforge algorithm publish repos/detector --training-image URI --sample train=data --role Role",
)
@click.argument("program", type=EXISTING_DIRECTORY)
@option("--training-image", required=True, metavar="URI", help="The image with `train`.")
@option("--inference-image", metavar="URI", help="The image with `serve`. Default: the algorithm only trains.")
@option("--name", metavar="NAME", help="The algorithm's name. Default: the one that PROGRAM declares.")
@add_options(_ValidationOptions, "validation")
@add_options(_PublicationOptions, "options")
@add_options(AwsOptions, "aws")
@json_option
def publish(
    program: Path,
    training_image: str,
    inference_image: str | None,
    name: str | None,
    validation: _ValidationOptions,
    options: _PublicationOptions,
    aws: AwsOptions,
    as_json: bool,
) -> int:
    """Create PROGRAM's algorithm on SageMaker for training jobs and AWS Marketplace (CreateAlgorithm).

    With --sample SageMaker validates it: it trains on the sample, and with --transform runs the model on its objects.
    The plan is shown first; a second run does nothing. Exit codes: 0 completed; 1 AWS rejected a call, or the
    validation failed; 2 invalid input or usage.
    """
    from tritonforge.sagemaker.client import Session
    from tritonforge.sagemaker.jobs.marketplace import AlgorithmPublication
    from tritonforge.sagemaker.jobs.publication import AlgorithmRequest
    from tritonforge.sagemaker.jobs.specification import Container

    samples = validation.read_samples()
    declared = load_algorithm(program)
    request = AlgorithmRequest(
        algorithm=declared if name is None else replace(declared, name=name),
        training_image=training_image,
        inference=(Container(image=inference_image),) if inference_image else (),
        role=validation.role,
        certify_for_marketplace=True if options.certify else None,
        tags=options.tags or None,
    )
    with steps() as progress, Session(**aws.session_arguments) as session:
        publication = AlgorithmPublication(
            request,
            session=session,
            samples=samples,
            hyperparameters=validation.hyperparameters,
            settings=options.build_settings(validation.transform, validation.output),
            progress=progress,
        )
        return _run(publication, request.algorithm.name, options.submission, progress, as_json=as_json)


@click.command(
    cls=Command,
    example="tritonforge algorithm package detector-1 --algorithm detector --model-data s3://bucket/output/model.tar.gz",
)
@click.argument("name")
@option("--model-data", required=True, metavar="DATA", help="The model: a local model.tar.gz or its s3:// address.")
@option("--algorithm", metavar="NAME", help="The algorithm on SageMaker that trained the model.")
@option("--inference-image", metavar="URI", help="The image that serves the model, instead of --algorithm.")
@option("--program", type=EXISTING_DIRECTORY, help="With --inference-image: the directory that declares its types.")
@option("--group", is_flag=True, help="NAME is a group; the model becomes its next version.")
@option("--transform", metavar="DATA", help="Validate the model with the objects of this directory or s3:// prefix.")
@option("--role", metavar="ROLE", help="The IAM role of the validation: an ARN or a name.")
@option("--output", metavar="S3URI", help="Write the validation's outputs here. Default: a prefix of the bucket.")
@add_options(_PublicationOptions, "options")
@add_options(AwsOptions, "aws")
@json_option
def package(
    name: str,
    model_data: str,
    algorithm: str | None,
    inference_image: str | None,
    program: Path | None,
    group: bool,
    transform: str | None,
    role: str | None,
    output: str | None,
    options: _PublicationOptions,
    aws: AwsOptions,
    as_json: bool,
) -> int:
    """Create the model package NAME on SageMaker, from which endpoints and batch transforms are created.

    The model was trained by --algorithm, or has an image of its own. With --transform SageMaker validates it. The plan
    is shown first; a second run does nothing. Exit codes as those of publish.
    """
    from tritonforge.sagemaker.client import Session
    from tritonforge.sagemaker.jobs.marketplace import ModelPackagePublication
    from tritonforge.sagemaker.jobs.publication import ModelPackageRequest
    from tritonforge.sagemaker.jobs.specification import Container

    if (algorithm is None) == (inference_image is None):
        raise click.UsageError("give --algorithm NAME, or --inference-image URI with --program DIRECTORY")
    if (inference_image is None) != (program is None):
        raise click.UsageError("--inference-image and --program require each other")
    if transform and not role:
        raise click.UsageError("--transform requires --role: a validation runs as an IAM role")
    request = ModelPackageRequest(
        name=None if group else name,
        group=name if group else None,
        algorithm_name=algorithm,
        declared=None if program is None else load_algorithm(program),
        containers=(Container(image=inference_image),) if inference_image else (),
        role=role,
        certify_for_marketplace=True if options.certify else None,
        tags=options.tags or None,
    )
    with steps() as progress, Session(**aws.session_arguments) as session:
        publication = ModelPackagePublication(
            request,
            model_data,
            session=session,
            settings=options.build_settings(transform, output),
            progress=progress,
        )
        return _run(publication, name, options.submission, progress, as_json=as_json)


def _run(
    publication: SageMakerJob[PublicationResult],
    name: str,
    options: SubmitOptions,
    progress: Steps,
    *,
    as_json: bool,
) -> int:
    from tritonforge.cli import job_monitor

    noun = publication.kind.noun
    with publication:
        if not job_monitor.submit(publication, options, progress, as_json=as_json):
            return 0
        if options.no_wait:
            _print_result(noun, {"name": name, "state": "Pending", "arn": publication.identifier}, as_json=as_json)
            return 0
        result = job_monitor.watch(publication, progress)
    if result is None:
        return job_monitor.INTERRUPTED
    progress.end()
    document = {"name": name, "state": result.status, "arn": result.arn, "failures": list(result.reasons)}
    _print_result(noun, document, as_json=as_json)
    return job_monitor.choose_exit_code(document)


def _print_result(noun: str, document: Mapping[str, Any], *, as_json: bool) -> None:
    from tritonforge.cli.job_monitor import format_state, print_error_line

    if as_json:
        echo_json(document)
        return
    state = format_state(document["state"])
    out.print(f"{state}  {noun} {escape(document['name'])}  [dim]{escape(document['arn'])}[/dim]")
    for reason in document.get("failures", ()):
        print_error_line(reason)
