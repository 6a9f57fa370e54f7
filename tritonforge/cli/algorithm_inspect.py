"""The commands algorithm show and algorithm requests: what an algorithm declares, for people and for SageMaker."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tritonforge.cli.command import Command
from tritonforge.cli.options import (
    EXISTING_DIRECTORY,
    add_options,
    declare_name_value_option,
    declare_option,
    json_option,
    option,
    split_attributes,
)
from tritonforge.cli.printing import echo, echo_json
from tritonforge.errors import RequestError
from tritonforge.training.algorithm.declaration import render_markdown
from tritonforge.training.algorithm.program import load_algorithm

if TYPE_CHECKING:
    from tritonforge.sagemaker.jobs.publication import SampleData

__all__ = ["ValidationOptions", "requests", "show"]

_VALIDATION = "Validation options"


@dataclass(frozen=True, slots=True)
class ValidationOptions:
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
@add_options(ValidationOptions, "validation")
@option("--model-package", metavar="NAME", help="Print CreateModelPackage as well, for a model of the algorithm.")
@option("--model-data", metavar="S3URI", help="The model of the package: a model.tar.gz.")
@option("--certify", is_flag=True, help="Certify for AWS Marketplace.")
def requests(
    program: Path,
    training_image: str,
    inference_image: str | None,
    validation: ValidationOptions,
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
