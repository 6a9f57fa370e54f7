"""Requests for algorithms and model packages, and what became of them: shared by the tests of both."""

from __future__ import annotations

from typing import Any

from tests.support.accounts import COUNTER_IMAGE

PREFIX = "arn:aws:sagemaker:us-east-1:123456789012"
INVALID = "ValidationException"


def algorithm(account: Any, name: str, **changes: Any) -> dict[str, Any]:
    """A request for an algorithm with a validation profile over data/."""
    return {
        "AlgorithmName": name,
        "TrainingSpecification": {
            "TrainingImage": COUNTER_IMAGE,
            "SupportedTrainingInstanceTypes": ["ml.m5.xlarge"],
            "SupportedHyperParameters": [
                {
                    "Name": "epochs",
                    "Type": "Integer",
                    "DefaultValue": "2",
                    "Range": {"IntegerParameterRangeSpecification": {"MinValue": "1", "MaxValue": "9"}},
                },
                {"Name": "fail", "Type": "FreeText"},
                {
                    "Name": "optimizer",
                    "Type": "Categorical",
                    "Range": {"CategoricalParameterRangeSpecification": {"Values": ["adam", "sgd"]}},
                },
            ],
            "MetricDefinitions": [{"Name": "samples", "Regex": "samples=([0-9]+);"}],
            "TrainingChannels": [
                {
                    "Name": "train",
                    "IsRequired": True,
                    "SupportedContentTypes": ["text/plain"],
                    "SupportedInputModes": ["File"],
                }
            ],
        },
        "InferenceSpecification": {
            "Containers": [{"Image": COUNTER_IMAGE}],
            "SupportedTransformInstanceTypes": ["ml.m5.xlarge"],
            "SupportedRealtimeInferenceInstanceTypes": ["ml.m5.xlarge"],
            "SupportedContentTypes": ["text/plain"],
            "SupportedResponseMIMETypes": ["application/json"],
        },
        "ValidationSpecification": {
            "ValidationRole": account.emulator.role_arn,
            "ValidationProfiles": [profile(account, name)],
        },
        "CertifyForMarketplace": True,
        **changes,
    }


def profile(account: Any, name: str, **hyperparameters: str) -> dict[str, Any]:
    """A validation profile: a training job, and a transform job of what it made."""
    return {
        "ProfileName": f"{name}-profile",
        "TrainingJobDefinition": {
            "TrainingInputMode": "File",
            "HyperParameters": hyperparameters,
            "InputDataConfig": [account.build_channel("data/", ContentType="text/plain")],
            "OutputDataConfig": {"S3OutputPath": f"s3://{account.bucket}/validation"},
            "ResourceConfig": {"InstanceType": "ml.m5.xlarge", "InstanceCount": 1, "VolumeSizeInGB": 1},
            "StoppingCondition": {"MaxRuntimeInSeconds": 60},
        },
        "TransformJobDefinition": transform(account, name),
    }


def transform(account: Any, name: str) -> dict[str, Any]:
    """A transform job over data/."""
    source = {"S3DataType": "S3Prefix", "S3Uri": f"s3://{account.bucket}/data/"}
    return {
        "TransformInput": {"DataSource": {"S3DataSource": source}, "ContentType": "text/plain"},
        "TransformOutput": {"S3OutputPath": f"s3://{account.bucket}/validated/{name}"},
        "TransformResources": {"InstanceType": "ml.m5.xlarge", "InstanceCount": 1},
    }


def wait_for_algorithm(account: Any, name: str) -> dict[str, Any]:
    """An algorithm once its validation has ended."""
    return dict(
        account.wait_for_status(lambda: account.sagemaker.describe_algorithm(AlgorithmName=name), "AlgorithmStatus")
    )


def wait_for_package(account: Any, arn: str) -> dict[str, Any]:
    """A model package once its validation has ended."""
    return dict(
        account.wait_for_status(
            lambda: account.sagemaker.describe_model_package(ModelPackageName=arn), "ModelPackageStatus"
        )
    )


def train_model(account: Any) -> str:
    """The address of a model."""
    name = "for-packages"
    try:
        found = account.sagemaker.describe_training_job(TrainingJobName=name)
    except account.sagemaker.exceptions.ClientError:
        found = account.run_job(name)
    return str(found["ModelArtifacts"]["S3ModelArtifacts"])


def specification(account: Any, **container: Any) -> dict[str, Any]:
    """An InferenceSpecification of one container."""
    return {
        "SupportedTransformInstanceTypes": ["ml.m5.xlarge"],
        "SupportedRealtimeInferenceInstanceTypes": ["ml.m5.xlarge"],
        "Containers": [{"Image": COUNTER_IMAGE, "ModelDataUrl": train_model(account), **container}],
        "SupportedContentTypes": ["text/plain"],
        "SupportedResponseMIMETypes": ["application/json"],
    }
