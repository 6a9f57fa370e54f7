"""What an algorithm declares, for people and for SageMaker: `algorithm show` and `algorithm requests`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tritonforge.cli.assignments import assigned, attributed
from tritonforge.cli.printing import echo
from tritonforge.errors import RequestError
from tritonforge.training.algorithm.declaration import render_markdown
from tritonforge.training.algorithm.program import load_algorithm

if TYPE_CHECKING:
    from tritonforge.sagemaker.jobs.marketplace import Profile, Sample

__all__ = ["requests", "samples_of", "show"]

_FOLDER = click.Path(path_type=Path, file_okay=False, exists=True)


@click.command(short_help="Print what a program declares: hyperparameters, channels, metrics.")
@click.argument("program", type=_FOLDER)
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", help="Markdown, or JSON.")
def show(program: Path, form: str) -> int:
    """Print what PROGRAM declares in its algorithm.py: hyperparameters, channels, metrics, types; as Markdown.

    As JSON these are the TrainingSpecification and the InferenceSpecification of CreateAlgorithm, without images.
    """
    declared = load_algorithm(program)
    if form == "text":
        echo(render_markdown(declared), nl=False)
        return 0
    from tritonforge.sagemaker.jobs.marketplace import specification

    training = specification.training_specification(declared, image="")
    inference = specification.inference_specification(declared, ())
    training.pop("TrainingImage", None)
    inference.pop("Containers", None)
    report = {
        "name": declared.name,
        "description": declared.description,
        "TrainingSpecification": training,
        "InferenceSpecification": inference,
    }
    echo(json.dumps(report, indent=2))
    return 0


@click.command(short_help="Print the requests that publish an algorithm, as JSON.")
@click.argument("program", type=_FOLDER)
@click.option("--training-image", required=True, metavar="URI", help="Where the image with `train` is.")
@click.option("--inference-image", metavar="URI", help="Where the image with `serve` is; left out: it only trains.")
@click.option("--role", metavar="ARN", help="The role that the validation runs with.")
@click.option(
    "--sample",
    "samples",
    multiple=True,
    metavar="CHANNEL=S3URI[:ATTRIBUTE,...]",
    help="Data to validate training with; with attributes, an augmented manifest.",
)
@click.option("--transform", metavar="S3URI", help="Objects to validate inference with.")
@click.option("--output", metavar="S3URI", help="Where the validation writes to.")
@click.option("--hyperparameter", "values", multiple=True, metavar="NAME=VALUE", help="For the validation's training.")
@click.option("--model-package", metavar="NAME", help="Give CreateModelPackage as well, for a model of the algorithm.")
@click.option("--model-data", metavar="S3URI", help="That model: a model.tar.gz.")
@click.option("--certify", is_flag=True, help="Certify for AWS Marketplace.")
def requests(
    program: Path,
    training_image: str,
    inference_image: str | None,
    role: str | None,
    samples: tuple[str, ...],
    transform: str | None,
    output: str | None,
    values: tuple[str, ...],
    model_package: str | None,
    model_data: str | None,
    certify: bool,
) -> int:
    """Print the requests that publish PROGRAM's algorithm, as JSON: CreateAlgorithm, and CreateModelPackage.

    Nothing is called. The requests are held against AWS's own service model and the limits that it documents; what
    would be refused is told instead (exit code 2).
    """
    from tritonforge.sagemaker.jobs.marketplace import Container, ModelPackage, Publication, validation

    if (model_package is None) != (model_data is None):
        raise click.UsageError("--model-package and --model-data go together")
    declared = load_algorithm(program)
    profile: Profile | None = None
    if samples:
        if output is None or role is None:
            raise click.UsageError("--sample is validated with a role and an output; give --role and --output")
        profile = validation(
            declared,
            channels=samples_of(samples),
            output=output,
            hyperparameters=assigned(values, "--hyperparameter"),
            transform=transform,
        )
    elif transform or output or values:
        raise click.UsageError("a validation trains first; give --sample CHANNEL=S3URI")
    found = {
        "CreateAlgorithm": Publication(
            algorithm=declared,
            training_image=training_image,
            inference=(Container(image=inference_image),) if inference_image else (),
            role=role if profile is not None else None,
            profile=profile,
            certify_for_marketplace=True if certify else None,
        ).to_request()
    }
    if model_package is not None:
        validated = profile is not None and profile.transform is not None
        found["CreateModelPackage"] = ModelPackage(
            name=model_package,
            algorithm_name=declared.name,
            model_data_url=model_data,
            role=role if validated else None,
            profile=profile.without_training() if profile is not None and validated else None,
            certify_for_marketplace=True if certify else None,
        ).to_request()
    for operation, request in found.items():
        _check(operation, request)
    echo(json.dumps(found, indent=2))
    return 0


def _check(operation: str, request: Mapping[str, Any]) -> None:
    """Raise RequestError for what AWS would refuse."""
    from tritonforge.sagemaker import service_model
    from tritonforge.sagemaker.limits import check_limits

    service_model.check_request("sagemaker", operation, request)
    if violations := check_limits(operation, request):
        listed = "\n".join(f"  {violation.place}: {violation.sentence}" for violation in violations)
        raise RequestError(f"{operation}: AWS would refuse this request:\n{listed}")


def samples_of(given: tuple[str, ...]) -> dict[str, Sample]:
    """The sample data of each channel, as ``--sample CHANNEL=DATA[:ATTRIBUTE,...]`` gives them.

    Raises click.UsageError for one that cannot be read.
    """
    from tritonforge.sagemaker.jobs.marketplace import Sample

    found = {}
    for channel, data in assigned(given, "--sample").items():
        uri, attributes = attributed(data)
        found[channel] = Sample(uri=uri, attributes=attributes)
    return found
