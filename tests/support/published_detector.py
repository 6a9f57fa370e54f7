"""A small detector as it is published: its declaration, its sample data, and the requests that it comes to."""

from __future__ import annotations

from typing import Any

from tritonforge.sagemaker.jobs.publication import (
    AlgorithmRequest,
    ModelPackageRequest,
    SampleData,
    build_validation_profile,
)
from tritonforge.sagemaker.jobs.specification import Container
from tritonforge.training.algorithm import Algorithm, Channel, HyperParameter, Metric, Objective

__all__ = ["ALGORITHM", "DETECTOR", "IMAGE", "PACKAGE", "PACKAGE_REQUEST", "REQUEST", "ROLE"]

ROLE = "arn:aws:iam::123456789012:role/Validation"
IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/detector"

DETECTOR = Algorithm(
    "detector",
    description="Finds objects.",
    hyperparameters=[
        HyperParameter("epochs", "Integer", "Passes.", 5, minimum=1, maximum=100, tunable=True),
        HyperParameter("learning_rate", "Continuous", "A step.", 1e-7, minimum=0.0, maximum=1.0),
        HyperParameter.flag("train_only_on_top_layer", "What is learned.", default=False),
        HyperParameter("label_key", "FreeText", "The label's attribute.", required=True),
    ],
    channels=[
        Channel(
            "training",
            "Images and boxes.",
            required=True,
            content_types=("application/x-recordio", "application/x-image"),
            compression_types=("None",),
            input_modes=("File", "Pipe"),
        ),
        Channel("model", "What to go on from."),
    ],
    metrics=[Metric("validation:localization_loss", r"Val_localization=([0-9\.]+)")],
    objectives=[Objective("validation:localization_loss", "Minimize")],
    training_instance_types=("ml.m5.xlarge", "ml.g4dn.xlarge"),
    transform_instance_types=("ml.m5.large",),
    realtime_instance_types=("ml.m5.large",),
    content_types=("application/x-image",),
    response_types=("application/json",),
)

PROFILE = build_validation_profile(
    DETECTOR,
    channels={"training": SampleData(uri="s3://samples/boxes.manifest", attributes=("source-ref", "boxes"))},
    hyperparameters={"label_key": "boxes"},
    transform="s3://samples/images/",
    output="s3://samples/validated/",
)

ALGORITHM = AlgorithmRequest(
    algorithm=DETECTOR,
    training_image=f"{IMAGE}:train",
    training_image_digest="sha256:" + "0" * 64,
    inference=[Container(image=f"{IMAGE}:serve", environment={"SAGEMAKER_TRITON_DEFAULT_MODEL_NAME": "detector"})],
    role=ROLE,
    profile=PROFILE,
    certify_for_marketplace=True,
    tags={"team": "vision"},
)

TRANSFORM: dict[str, Any] = {
    "TransformInput": {
        "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://samples/images/"}},
        "ContentType": "application/x-image",
    },
    "TransformOutput": {"S3OutputPath": "s3://samples/validated/transform", "Accept": "application/json"},
    "TransformResources": {"InstanceType": "ml.m5.large", "InstanceCount": 1},
}

#: CreateAlgorithm's request, written by hand from its reference.
REQUEST: dict[str, Any] = {
    "AlgorithmName": "detector",
    "AlgorithmDescription": "Finds objects.",
    "TrainingSpecification": {
        "TrainingImage": f"{IMAGE}:train",
        "TrainingImageDigest": "sha256:" + "0" * 64,
        "SupportedHyperParameters": [
            {
                "Name": "epochs",
                "Description": "Passes.",
                "Type": "Integer",
                "Range": {"IntegerParameterRangeSpecification": {"MinValue": "1", "MaxValue": "100"}},
                "IsTunable": True,
                "IsRequired": False,
                "DefaultValue": "5",
            },
            {
                "Name": "learning_rate",
                "Description": "A step.",
                "Type": "Continuous",
                "Range": {"ContinuousParameterRangeSpecification": {"MinValue": "0.0", "MaxValue": "1.0"}},
                "IsTunable": False,
                "IsRequired": False,
                "DefaultValue": "1e-07",
            },
            {
                "Name": "train_only_on_top_layer",
                "Description": "What is learned.",
                "Type": "Categorical",
                "Range": {"CategoricalParameterRangeSpecification": {"Values": ["True", "False"]}},
                "IsTunable": False,
                "IsRequired": False,
                "DefaultValue": "False",
            },
            {
                "Name": "label_key",
                "Description": "The label's attribute.",
                "Type": "FreeText",
                "IsTunable": False,
                "IsRequired": True,
            },
        ],
        "SupportedTrainingInstanceTypes": ["ml.m5.xlarge", "ml.g4dn.xlarge"],
        "SupportsDistributedTraining": False,
        "MetricDefinitions": [{"Name": "validation:localization_loss", "Regex": r"Val_localization=([0-9\.]+)"}],
        "TrainingChannels": [
            {
                "Name": "training",
                "Description": "Images and boxes.",
                "IsRequired": True,
                "SupportedContentTypes": ["application/x-recordio", "application/x-image"],
                "SupportedCompressionTypes": ["None"],
                "SupportedInputModes": ["File", "Pipe"],
            },
            {
                "Name": "model",
                "Description": "What to go on from.",
                "IsRequired": False,
                "SupportedContentTypes": [],
                "SupportedInputModes": ["File"],
            },
        ],
        "SupportedTuningJobObjectiveMetrics": [{"Type": "Minimize", "MetricName": "validation:localization_loss"}],
    },
    "InferenceSpecification": {
        "Containers": [{"Image": f"{IMAGE}:serve", "Environment": {"SAGEMAKER_TRITON_DEFAULT_MODEL_NAME": "detector"}}],
        "SupportedTransformInstanceTypes": ["ml.m5.large"],
        "SupportedRealtimeInferenceInstanceTypes": ["ml.m5.large"],
        "SupportedContentTypes": ["application/x-image"],
        "SupportedResponseMIMETypes": ["application/json"],
    },
    "ValidationSpecification": {
        "ValidationRole": ROLE,
        "ValidationProfiles": [
            {
                "ProfileName": "validation",
                "TrainingJobDefinition": {
                    "TrainingInputMode": "File",
                    "HyperParameters": {"label_key": "boxes"},
                    "InputDataConfig": [
                        {
                            "ChannelName": "training",
                            "DataSource": {
                                "S3DataSource": {
                                    "S3DataType": "AugmentedManifestFile",
                                    "S3Uri": "s3://samples/boxes.manifest",
                                    "S3DataDistributionType": "FullyReplicated",
                                    "AttributeNames": ["source-ref", "boxes"],
                                }
                            },
                            "ContentType": "application/x-recordio",
                            "RecordWrapperType": "RecordIO",
                            "InputMode": "Pipe",
                        }
                    ],
                    "OutputDataConfig": {"S3OutputPath": "s3://samples/validated/training"},
                    "ResourceConfig": {"InstanceType": "ml.m5.xlarge", "InstanceCount": 1, "VolumeSizeInGB": 30},
                    "StoppingCondition": {"MaxRuntimeInSeconds": 3600},
                },
                "TransformJobDefinition": TRANSFORM,
            }
        ],
    },
    "CertifyForMarketplace": True,
    "Tags": [{"Key": "team", "Value": "vision"}],
}

PACKAGE = ModelPackageRequest(
    name="detector-of-birds",
    description="Trained on birds.",
    algorithm_name="detector",
    model_data_url="s3://models/birds/output/model.tar.gz",
    role=ROLE,
    profile=PROFILE.without_training(),
    certify_for_marketplace=True,
)

#: CreateModelPackage's request, written by hand from its reference.
PACKAGE_REQUEST: dict[str, Any] = {
    "ModelPackageName": "detector-of-birds",
    "ModelPackageDescription": "Trained on birds.",
    "SourceAlgorithmSpecification": {
        "SourceAlgorithms": [
            {"AlgorithmName": "detector", "ModelDataUrl": "s3://models/birds/output/model.tar.gz"},
        ]
    },
    "ValidationSpecification": {
        "ValidationRole": ROLE,
        "ValidationProfiles": [{"ProfileName": "validation", "TransformJobDefinition": TRANSFORM}],
    },
    "CertifyForMarketplace": True,
}
