"""What AWS documents and its service model cannot express: each limit, at its place in the request."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from tests.support.published_detector import PACKAGE_REQUEST, REQUEST
from tritonforge.sagemaker import service_model
from tritonforge.sagemaker.limits import check_limits

HYPER = ("TrainingSpecification", "SupportedHyperParameters")
PROFILE = ("ValidationSpecification", "ValidationProfiles", 0)
TRAINING = (*PROFILE, "TrainingJobDefinition")
TRANSFORM = (*PROFILE, "TransformJobDefinition")
CHANNEL = (*TRAINING, "InputDataConfig", 0)

GONE = object()


def changed(request: dict[str, Any], *changes: tuple[tuple[str | int, ...], object]) -> dict[str, Any]:
    """A request with members that are other or gone."""
    made = copy.deepcopy(request)
    for path, value in changes:
        place: Any = made
        for item in path[:-1]:
            place = place[item]
        if value is GONE:
            del place[path[-1]]
        elif isinstance(path[-1], int) and path[-1] == len(place):
            place.append(value)
        else:
            place[path[-1]] = value
    return made


def reported(operation: str, request: dict[str, Any]) -> list[str]:
    """The places and sentences; the service model itself has nothing against the request."""
    service_model.check_request("sagemaker", operation, request)
    return [f"{item.place}: {item.sentence}" for item in check_limits(operation, request)]


@pytest.mark.parametrize(
    ("path", "value", "sentence"),
    [
        ((*HYPER, 0, "IsRequired"), True, "'epochs': if a default is given it cannot be required"),
        ((*HYPER, 0, "DefaultValue"), "101", "'epochs': its default is '101'; it must be from 1 to 100"),
        ((*HYPER, 0, "Type"), "FreeText", "epochs is FreeText, and its Range has IntegerParameterRangeSpecification"),
        ((*HYPER, 2, "DefaultValue"), "Maybe", "its default is 'Maybe'; write True or False"),
        ((*HYPER, 3, "Name"), "epochs", "duplicate hyperparameter name epochs"),
        (
            (*HYPER, 0, "Range", "IntegerParameterRangeSpecification", "MinValue"),
            "few",
            "hyperparameter epochs: invalid bound of its range (expected a number, got 'few')",
        ),
        (("TrainingSpecification", "TrainingChannels", 1, "Name"), "training", "duplicate channel name training"),
        (
            ("TrainingSpecification", "MetricDefinitions", 0, "Regex"),
            "loss=",
            "it has no group",
        ),
        (("TrainingSpecification", "MetricDefinitions", 0, "Name"), "loss", "is not among the MetricDefinitions"),
        (
            ("InferenceSpecification", "SupportedTransformInstanceTypes"),
            GONE,
            "SupportedTransformInstanceTypes is required except for a version of a group",
        ),
        (
            ("InferenceSpecification", "Containers", 0, "Environment"),
            {f"A{number}": "x" for number in range(17)},
            "Environment has 17 entries; SageMaker supports up to 16",
        ),
        (("InferenceSpecification",), GONE, "AWS Marketplace requires a training and an inference image"),
        (("ValidationSpecification",), GONE, "requires a validation with a training and a transform job"),
        (TRANSFORM, GONE, "requires a validation with a training and a transform job"),
        ((*CHANNEL, "InputMode"), "FastFile", "an AugmentedManifestFile needs InputMode Pipe"),
        ((*CHANNEL, "ChannelName"), "trainng", "channel 'trainng' is unknown; did you mean training?"),
        ((*CHANNEL, "ContentType"), "text/csv", "has content type 'text/csv'; it accepts application/x-recordio or"),
        ((*TRAINING, "HyperParameters"), {"label_key": "a", "epoch": "1"}, "'epoch' is unknown; did you mean epochs?"),
        ((*TRAINING, "HyperParameters"), GONE, "label_key is missing"),
        (
            (*TRAINING, "ResourceConfig", "InstanceType"),
            "ml.p4d.24xlarge",
            "InstanceType is ml.p4d.24xlarge; the specification supports ml.m5.xlarge, ml.g4dn.xlarge",
        ),
        (
            (*TRAINING, "ResourceConfig", "InstanceCount"),
            2,
            "2 instances are requested, but SupportsDistributedTraining is false",
        ),
        (
            (*TRAINING, "StoppingCondition", "MaxRuntimeInSeconds"),
            10**7,
            "cannot be more than 2419200, which is 28 days",
        ),
        ((*TRANSFORM, "MaxPayloadInMB"), 101, "MaxPayloadInMB is 101; it must be from 0 to 100"),
        (
            (*TRANSFORM, "TransformInput", "ContentType"),
            "text/csv",
            "ContentType is text/csv; the specification supports",
        ),
        ((*TRANSFORM, "TransformOutput", "Accept"), "text/csv", "Accept is text/csv; the specification supports"),
        (
            (*TRANSFORM, "TransformResources", "InstanceType"),
            "ml.c5.xlarge",
            "InstanceType is ml.c5.xlarge; the specification supports ml.m5.large",
        ),
    ],
)
def test_limits_of_create_algorithm(path: tuple[str | int, ...], value: object, sentence: str) -> None:
    """One member is other than it may be: one sentence says so, where the service model is silent."""
    found = reported("CreateAlgorithm", changed(REQUEST, (path, value)))
    assert [item for item in found if sentence in item], found


def test_every_limit_is_reported_at_once() -> None:
    """The first one never hides the rest, and each has its place."""
    found = reported(
        "CreateAlgorithm",
        changed(
            REQUEST,
            ((*TRAINING, "HyperParameters"), {"label_key": "a", "epochs": "0"}),
            ((*TRAINING, "ResourceConfig", "InstanceCount"), 3),
            ((*TRANSFORM, "TransformOutput", "Accept"), "text/csv"),
        ),
    )
    profile = "ValidationSpecification.ValidationProfiles[0]"
    training, transform = f"{profile}.TrainingJobDefinition", f"{profile}.TransformJobDefinition"
    count = "3 instances are requested, but SupportsDistributedTraining is false"
    accept = "Accept is text/csv; the specification supports application/json"
    assert found == [
        f"{training}.HyperParameters: 1 hyperparameter is wrong: epochs is '0'; it must be from 1 to 100",
        f"{training}.ResourceConfig.InstanceCount: {count}",
        f"{transform}.TransformOutput.Accept: {accept}",
    ]


def test_what_aws_does_not_forbid_is_allowed() -> None:
    assert reported("CreateAlgorithm", changed(REQUEST, ((*HYPER, 2, "Range"), GONE))) == []


CONTAINERS = {
    "Containers": [{"Image": "x", "ModelDataUrl": "s3://models/model.tar.gz"}],
    "SupportedTransformInstanceTypes": ["ml.m5.large"],
    "SupportedRealtimeInferenceInstanceTypes": ["ml.m5.large"],
    "SupportedContentTypes": ["text/csv"],
    "SupportedResponseMIMETypes": ["application/json"],
}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (((("ModelPackageName",), GONE),), "or ModelPackageGroupName for a version of a group; none is given"),
        (((("ModelPackageGroupName",), "group"),), "for a version of a group; both are given"),
        (
            (
                (("ModelPackageName",), GONE),
                (("ModelPackageGroupName",), "group"),
                (("Tags",), [{"Key": "k", "Value": "v"}]),
            ),
            "Tags: Tags is for unversioned models; a version has the tags of its group; omit it",
        ),
        (
            ((("ModelPackageName",), GONE), (("ModelPackageGroupName",), "group")),
            "CertifyForMarketplace is for unversioned models; omit it",
        ),
        (((("ModelApprovalStatus",), "Approved"),), "ModelApprovalStatus is for versions of a group; omit it"),
        (
            ((("SourceAlgorithmSpecification",), GONE),),
            "a model package requires InferenceSpecification, SourceAlgorithmSpecification or SourceUri",
        ),
        (
            ((("SourceAlgorithmSpecification", "SourceAlgorithms", 0, "ModelDataUrl"), "s3://models/birds/"),),
            "ModelDataUrl is 's3://models/birds/'; it must point to one archive that ends in .tar.gz",
        ),
        (((("ValidationSpecification",), GONE),), "AWS Marketplace requires a validation with a transform job"),
        (
            ((("InferenceSpecification",), CONTAINERS),),
            "ContentType is application/x-image; the",
        ),
        (
            (
                (("InferenceSpecification",), CONTAINERS),
                (("InferenceSpecification", "SupportedRealtimeInferenceInstanceTypes"), GONE),
            ),
            "SupportedRealtimeInferenceInstanceTypes is required",
        ),
        (
            (
                (("InferenceSpecification",), CONTAINERS),
                (
                    ("InferenceSpecification", "Containers", 0, "ModelDataSource"),
                    {"S3DataSource": {"S3Uri": "s3://a/b", "S3DataType": "S3Prefix", "CompressionType": "None"}},
                ),
            ),
            "AWS Marketplace does not accept ModelDataSource; give ModelDataUrl, one model.tar.gz",
        ),
    ],
)
def test_limits_of_create_model_package(
    changes: tuple[tuple[tuple[str | int, ...], object], ...], sentence: str
) -> None:
    """The same for model packages, of a name or of a group."""
    found = reported("CreateModelPackage", changed(PACKAGE_REQUEST, *changes))
    assert [item for item in found if sentence in item], found
