"""The errors of the control plane: AWS's codes and sentences. This module does no I/O.

The source of each sentence is beside it: *source* names who quotes AWS's own answer; *ours* is wording of this
project, used where no answer of AWS's was found. A code and a status are those of the service model, or of AWS's
"Common Errors".
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

__all__ = ["ApiError", "build_conflict_error", "build_data_access_error", "build_image_error",
           "build_in_progress_error", "build_job_ended_error", "build_job_name_error",
           "build_job_not_found_error", "build_limit_error", "build_name_taken_error",
           "build_no_data_error", "build_no_input_error", "build_nonexistence_error",
           "build_not_emulated_error", "build_not_found_error", "build_role_error",
           "build_serialization_error", "build_training_job_name_error", "build_unknown_operation_error",
           "build_validation_error", "build_variants_error", "raise_violations"]  # fmt: skip


class ApiError(Exception):
    """A request is refused: ``code`` is the error's type, ``status`` the HTTP status."""

    def __init__(self, code: str, message: str, *, status: int = 400) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status


def build_validation_error(message: str) -> ApiError:
    """Build the error of a request that breaks a rule; the control plane uses this code for nearly everything."""
    return ApiError("ValidationException", message)


class _Violation(Protocol):
    """A documented limit that a request exceeds: `tritonforge.sagemaker.limits`."""

    @property
    def place(self) -> str: ...

    @property
    def sentence(self) -> str: ...


def raise_violations(violations: Iterable[_Violation]) -> None:
    """Raise ApiError with every limit that a request exceeds, if there is any."""
    if sentences := [f"{violation.place}: {violation.sentence}" for violation in violations]:
        raise build_validation_error("; ".join(sentences))


def build_serialization_error(message: str) -> ApiError:
    """Build the error of a body that is not JSON, or of a member with another JSON type than the model's.

    The sentence is ours.
    """
    return ApiError("SerializationException", message)


def build_name_taken_error(kind: str, arn: str) -> ApiError:
    """Build the error of a name that is taken.

    Source: aws/sagemaker-python-sdk issue 101, awslabs/spot-tagging-bot-for-digital-assets 2.
    """
    return build_validation_error(f'Cannot create already existing {kind} "{arn}".')


def build_not_found_error(kind: str, arn: str) -> ApiError:
    """Build the error of a missing resource. Source: hashicorp/terraform-provider-aws issue 40048 (configuration)."""
    return build_validation_error(f'Could not find {kind} "{arn}".')


def build_nonexistence_error(noun: str, arn: str) -> ApiError:
    """Build the error of a missing algorithm, model package or group; the noun is written as in the API's names.

    Source: of groups, aws-controllers-k8s/code-generator, whose controllers match it; the others are likewise.
    """
    return build_validation_error(f"{noun.title().replace(' ', '')} {arn} does not exist.")


def build_conflict_error(message: str) -> ApiError:
    """Build the error of an operation that another resource prevents: the service model's ConflictException.

    The sentences are ours.
    """
    return ApiError("ConflictException", message)


def build_no_input_error(uri: str, role: str, region: str) -> ApiError:
    """Build the error of an empty transform input. Source: aws/amazon-sagemaker-examples issue 2414."""
    bucket = uri.partition("://")[2].partition("/")[0]
    return build_validation_error(
        f'No S3 objects found under S3 URL "{uri}" given in input data source. Please ensure that the bucket exists in '
        f'the selected region ({region}), that objects exist under that S3 prefix, and that the role "{role}" has '
        f'"s3:ListBucket" permissions on bucket "{bucket}".'
    )


def build_job_not_found_error(_noun: str, _arn: str) -> ApiError:
    """Build the error of a missing job: jobs get another sentence than models, without the name.

    The code is ValidationException, although the service model lists ResourceNotFound: clients in public repositories
    that stop transform jobs match this code together with this sentence.
    """
    return build_validation_error("Requested resource not found.")


def build_job_name_error(_noun: str, arn: str) -> ApiError:
    """Build the error of a job's name that is in use.

    Source: AWS's answer to a processing job, as quoted in a public post-mortem.
    """
    return ApiError(
        "ResourceInUse",
        f"Job name must be unique within an AWS account and region, and a job with this name already exists ({arn})",
    )


def build_training_job_name_error(_noun: str, arn: str) -> ApiError:
    """Build the error of a training job's name that is in use.

    Source: aws/amazon-sagemaker-examples pull request 3108.
    """
    return ApiError(
        "ResourceInUse",
        "Training job names must be unique within an AWS account and region, and a training job with this name already "
        f"exists ({arn})",
    )


def build_image_error(uri: str, advice: str) -> ApiError:
    """Build the error of an image that does not exist.

    Source: aws-samples/easy-amazon-sagemaker-deployments issue 4 (of CreateModel); the advice behind it is ours.
    """
    return build_validation_error(f"Requested image {uri} not found. {advice}")


def build_job_ended_error(noun: str, status: str) -> ApiError:
    """Build the error of stopping a job that has ended or is Stopping.

    Source: what clients in public repositories match.
    """
    return build_validation_error(f"The request was rejected because the {noun} is in status {status}.")


def build_in_progress_error(arn: str) -> ApiError:
    """Build the error of changing or deleting an endpoint that is in transition; both get the same sentence.

    That an endpoint stuck in Creating cannot be deleted: aws/amazon-sagemaker-examples issue 3432. The sentence is
    known from memory of Stack Overflow 65678237, which that issue names; it could not be read again.
    """
    return build_validation_error(f'Cannot update in-progress endpoint "{arn}".')


def build_role_error(role: str) -> ApiError:
    """Build the error of a role that is missing, or does not trust SageMaker.

    Source: awslabs/predictive-maintenance-using-machine-learning issue 3 (of CreateTransformJob).
    """
    return build_validation_error(
        f"Could not assume role {role}. Please ensure that the role exists and allows principal "
        "'sagemaker.amazonaws.com' to assume the role."
    )


def build_no_data_error(uri: str) -> ApiError:
    """Build the error of a model's URI without an object. Source: aws-ia/ecs-blueprints issue 223."""
    return build_validation_error(f"Could not find model data at {uri}.")


def build_data_access_error(uri: str, role: str, region: str) -> ApiError:
    """Build the error of a bucket that is missing, or lies in another region.

    Source: philschmid/llm-sagemaker-sample issue 2.
    """
    return build_validation_error(
        f'Could not access model data at {uri}. Please ensure that the role "{role}" exists and that its trust '
        'relationship policy allows the action "sts:AssumeRole" for the service principal "sagemaker.amazonaws.com". '
        f'Also ensure that the role has "s3:GetObject" permissions and that the object is located in {region}. If your '
        'Model uses multiple models or uncompressed models, please ensure that the role has "s3:ListBucket" permission.'
    )


def build_limit_error(what: str, unit: str, *, limit: int, used: int, wanted: int) -> ApiError:
    """Build the error of exceeding an account's limit. Source: aws/amazon-sagemaker-examples issue 307."""
    return ApiError(
        "ResourceLimitExceeded",
        f"The account-level service limit '{what}' is {limit} {unit}, with current utilization of {used} {unit} and a "
        f"request delta of {wanted} {unit}. Please contact AWS support to request an increase for this limit.",
    )


def build_variants_error(names: Iterable[str], config: str) -> ApiError:
    """Build the error of a change that names variants that the endpoint does not have.

    Source: moto's sagemaker, ``update_endpoint_weights_and_capacities``, which quotes AWS.
    """
    listed = ", ".join(f'"{name}"' for name in names)
    return build_validation_error(
        f'The variant name(s) {listed} is/are not present within endpoint configuration "{config}".'
    )


def build_unknown_operation_error(operation: str) -> ApiError:
    """Build the error of an operation that AWS does not have.

    Source: AWS's "Common Errors", UnknownOperationException.
    """
    return ApiError("UnknownOperationException", f"The requested operation {operation} is not known.", status=404)


def build_not_emulated_error(operation: str) -> ApiError:
    """Build the error of an operation that AWS has and this emulator does not. The sentence is ours.

    The code is that of AWS's "Common Errors"; 501 is a status that botocore does not retry.
    """
    return ApiError(
        "UnknownOperationException", f"tritonforge's emulator does not implement {operation} of sagemaker.", status=501
    )
