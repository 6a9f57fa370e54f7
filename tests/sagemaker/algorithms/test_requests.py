"""Algorithms and model packages as requests: exact, taken by AWS's own service model, and read back."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.support.published_detector import (
    ALGORITHM,
    DETECTOR,
    IMAGE,
    PACKAGE,
    PACKAGE_REQUEST,
    PROFILE,
    REQUEST,
    ROLE,
)
from tritonforge.errors import DefinitionError, RequestError, TritonForgeError
from tritonforge.sagemaker import service_model
from tritonforge.sagemaker.jobs.publication import (
    AlgorithmRequest,
    ModelPackageRequest,
    SampleData,
    build_validation_profile,
)
from tritonforge.sagemaker.jobs.specification import Container, ValidationProfile, read_algorithm
from tritonforge.sagemaker.limits import check_limits
from tritonforge.training.algorithm import Algorithm, Channel, HyperParameter, Metric, Objective
from tritonforge.training.algorithm.program import load_algorithm
from tritonforge.training.job import AlgorithmSpecification, CheckpointConfig, Output, TrainingJob


def test_create_algorithm_is_exact() -> None:
    assert ALGORITHM.to_request() == REQUEST
    service_model.check_request("sagemaker", "CreateAlgorithm", REQUEST)
    assert check_limits("CreateAlgorithm", REQUEST) == ()


def test_create_model_package_is_exact() -> None:
    """A model of an algorithm, validated by the same transform job."""
    assert PACKAGE.to_request() == PACKAGE_REQUEST
    service_model.check_request("sagemaker", "CreateModelPackage", PACKAGE_REQUEST)
    assert check_limits("CreateModelPackage", PACKAGE_REQUEST) == ()


def test_a_version_of_a_group_has_containers_of_its_own() -> None:
    """A versioned package names its containers, its types, and whether it is approved."""
    package = ModelPackageRequest(
        group="detectors",
        declared=DETECTOR,
        containers=[
            Container(
                image=f"{IMAGE}:serve",
                model_data_url="s3://models/model.tar.gz",
                framework="TENSORFLOW",
                framework_version="2.18",
            )
        ],
        approval_status="Approved",
    )
    request = package.to_request()
    assert request == {
        "ModelPackageGroupName": "detectors",
        "ModelApprovalStatus": "Approved",
        "InferenceSpecification": {
            "Containers": [
                {
                    "Image": f"{IMAGE}:serve",
                    "ModelDataUrl": "s3://models/model.tar.gz",
                    "Framework": "TENSORFLOW",
                    "FrameworkVersion": "2.18",
                }
            ],
            "SupportedTransformInstanceTypes": ["ml.m5.large"],
            "SupportedRealtimeInferenceInstanceTypes": ["ml.m5.large"],
            "SupportedContentTypes": ["application/x-image"],
            "SupportedResponseMIMETypes": ["application/json"],
        },
    }
    service_model.check_request("sagemaker", "CreateModelPackage", request)
    assert check_limits("CreateModelPackage", request) == ()
    assert ModelPackageRequest.from_request(request).to_request() == request


def test_requests_are_read_back() -> None:
    """What was declared comes out of its request again, equal in everything."""
    assert AlgorithmRequest.from_request(REQUEST).algorithm == DETECTOR
    assert AlgorithmRequest.from_request(REQUEST).to_request() == REQUEST
    assert ModelPackageRequest.from_request(PACKAGE_REQUEST).to_request() == PACKAGE_REQUEST
    found = AlgorithmRequest.from_request(REQUEST)
    assert found.profile is not None
    assert found.profile.training == PROFILE.training
    assert found.profile.transform == PROFILE.transform


def test_the_detector_can_be_published() -> None:
    """What `repos/detector` declares is taken by AWS's own service model, with samples to validate it."""
    declared = load_algorithm(Path(__file__).parents[3] / "repos" / "detector")
    sample = SampleData(uri="s3://samples/boxes.manifest", attributes=("source-ref", "boxes"))
    profile = build_validation_profile(
        declared, channels={"training": sample}, transform="s3://samples/images/", output="s3://samples/validated"
    )
    publication = AlgorithmRequest(
        algorithm=declared,
        training_image=f"{IMAGE}:train",
        inference=[Container(image=f"{IMAGE}:serve")],
        role=ROLE,
        profile=profile,
        certify_for_marketplace=True,
    )
    request = publication.to_request()
    service_model.check_request("sagemaker", "CreateAlgorithm", request)
    assert check_limits("CreateAlgorithm", request) == ()
    assert AlgorithmRequest.from_request(request).algorithm == declared


def test_what_a_request_leaves_out_means_no() -> None:
    """Members that AWS takes for false when they are absent are read as such."""
    request: dict[str, Any] = {
        "AlgorithmName": "small",
        "TrainingSpecification": {
            "TrainingImage": "image",
            "SupportedTrainingInstanceTypes": ["ml.m5.large"],
            "SupportedHyperParameters": [
                {
                    "Name": "rate",
                    "Type": "Continuous",
                    "Range": {"ContinuousParameterRangeSpecification": {"MinValue": "1e-5", "MaxValue": "1.00"}},
                }
            ],
            "TrainingChannels": [{"Name": "a", "SupportedContentTypes": [], "SupportedInputModes": ["Pipe"]}],
        },
    }
    found = AlgorithmRequest.from_request(request).algorithm
    assert found == Algorithm(
        "small",
        hyperparameters=[HyperParameter("rate", "Continuous", minimum=1e-5, maximum=1.0)],
        channels=[Channel("a", input_modes=("Pipe",))],
        training_instance_types=["ml.m5.large"],
    )


@pytest.mark.parametrize(
    ("path", "value", "lost"),
    [
        (("TrainingSpecification", "AdditionalS3DataSource"), {"S3DataType": "S3Object", "S3Uri": "s3://a/b"}, None),
        (("InferenceSpecification", "Containers", 0, "ProductId"), "abc", None),
        (("ValidationSpecification", "ValidationProfiles", 0, "Colour"), "red", None),
        (("Other",), 1, None),
    ],
)
def test_what_would_be_lost_is_named(path: tuple[str | int, ...], value: object, lost: None) -> None:
    """A request that says more than the values can is not read halfway."""
    request = copy.deepcopy(REQUEST)
    place: Any = request
    for item in path[:-1]:
        place = place[item]
    place[path[-1]] = value
    with pytest.raises(RequestError, match="unsupported members:") as caught:
        AlgorithmRequest.from_request(request)
    assert str(path[-1]) in str(caught.value)


@pytest.mark.parametrize(
    "request_",
    [
        {},
        {"AlgorithmName": "x", "TrainingSpecification": {}},
        {"AlgorithmName": "x", "TrainingSpecification": None},
        {"AlgorithmName": "x", "TrainingSpecification": []},
    ],
)
def test_what_is_no_request_is_refused(request_: dict[str, Any]) -> None:
    """One sentence, whatever is missing."""
    with pytest.raises(RequestError, match="CreateAlgorithm: invalid structure of the request"):
        AlgorithmRequest.from_request(request_)


#: What a member is replaced by that goes.
GONE = "gone"


def _places(node: Any, at: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Every place in a request."""
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for name, child in children:
        yield (*at, name)
        yield from _places(child, (*at, name))


@pytest.mark.slow
@pytest.mark.parametrize("junk", [GONE, 5, True, "x", "\n", [], [5], {}, {"a": 1}], ids=repr)
@pytest.mark.parametrize(
    ("read", "whole"), [(AlgorithmRequest.from_request, REQUEST), (ModelPackageRequest.from_request, PACKAGE_REQUEST)]
)
def test_a_request_with_anything_anywhere_is_read_or_refused(
    read: Callable[[Any], AlgorithmRequest | ModelPackageRequest], whole: dict[str, Any], junk: object
) -> None:
    for path in _places(whole):
        request = copy.deepcopy(whole)
        place: Any = request
        for item in path[:-1]:
            place = place[item]
        if junk is GONE:
            del place[path[-1]]
        else:
            place[path[-1]] = junk
        accepted = None
        with contextlib.suppress(TritonForgeError):
            accepted = read(request).to_request()
        if accepted is not None:
            assert read(accepted).to_request() == accepted


_PLAIN = st.text(st.characters(exclude_categories=("C",), exclude_characters="\u2028\u2029()[]{}*+?|\\"), min_size=1)
_INTEGERS = st.tuples(st.integers(-(10**6), 10**6), st.integers(-(10**6), 10**6)).map(sorted)
_FLOATS = st.tuples(*[st.floats(-1e9, 1e9)] * 2).map(sorted)


@st.composite
def _declared(draw: st.DrawFn) -> Algorithm | None:
    """An algorithm of any texts, None where its declaration refuses them."""
    text = draw(st.sampled_from((*[_PLAIN] * 4, st.text())))
    kind = draw(st.sampled_from(("Integer", "Continuous", "Categorical", "FreeText")))
    low, high = draw({"Integer": _INTEGERS, "Continuous": _FLOATS}.get(kind, st.just((None, None))))
    values = draw(st.lists(text, min_size=1, max_size=5, unique=True)) if kind == "Categorical" else ()
    default = low if low is not None else draw(st.one_of(st.none(), st.sampled_from(values) if values else text))
    tunable = kind == "Integer"
    try:
        parameter = HyperParameter(
            draw(text), kind, draw(text), default, minimum=low, maximum=high, values=values, tunable=tunable
        )
        channel = Channel("a", draw(text), content_types=[draw(text)])
        metric = Metric(draw(text), f"({draw(text)})")
        return Algorithm(
            "any",
            description=draw(text),
            hyperparameters=[parameter],
            channels=[channel],
            metrics=[metric],
            objectives=[Objective(metric.name, "Maximize")],
            training_instance_types=["ml.m5.large"],
            transform_instance_types=["ml.m5.large"],
            realtime_instance_types=["ml.m5.large"],
            content_types=[draw(text)],
            response_types=["text/" + draw(text)],
        )
    except DefinitionError:
        return None


@pytest.mark.slow
@settings(deadline=None, max_examples=200)
@given(_declared())
def test_any_declaration_is_taken_by_aws_and_read_back(declared: Algorithm | None) -> None:
    """What a declaration lets stand satisfies every constraint of the service model, and comes back as it was."""
    assume(declared is not None)
    assert declared is not None
    request = AlgorithmRequest(algorithm=declared, training_image="x", inference=[Container(image="x")]).to_request()
    service_model.check_request("sagemaker", "CreateAlgorithm", request)
    assert check_limits("CreateAlgorithm", request) == ()
    assert read_algorithm(request) == declared


def test_a_profile_has_only_what_a_validation_can_have() -> None:
    """A checkpoint, an image, a transform job's filters: named, and refused."""
    output = Output(uri="s3://a/b")
    with pytest.raises(DefinitionError, match="TrainingJobDefinition does not support CheckpointConfig"):
        ValidationProfile(training=TrainingJob(output=output, checkpoint_config=CheckpointConfig(uri="s3://a/c")))
    algorithm = AlgorithmSpecification(training_input_mode="File", training_image="x")
    with pytest.raises(DefinitionError, match="TrainingImage or AlgorithmName"):
        ValidationProfile(training=TrainingJob(output=output, algorithm=algorithm))
    with pytest.raises(DefinitionError, match="a training or a transform job is missing"):
        ValidationProfile()
    with pytest.raises(RequestError, match="TransformJobDefinition does not support ModelName"):
        ValidationProfile.from_request({"ProfileName": "a", "TransformJobDefinition": TRANSFORM_WITH_A_MODEL})


TRANSFORM_WITH_A_MODEL = {
    **PACKAGE_REQUEST["ValidationSpecification"]["ValidationProfiles"][0]["TransformJobDefinition"],
    "ModelName": "mine",
}


def test_samples_are_held_against_the_declaration() -> None:
    sample = SampleData(uri="s3://samples/training/")
    with pytest.raises(DefinitionError, match="for unknown channel 'trainng'; did you mean training"):
        build_validation_profile(DETECTOR, channels={"trainng": sample}, output="s3://a/b")
    with pytest.raises(DefinitionError, match="sample data are missing for channel training, which detector requires"):
        build_validation_profile(DETECTOR, channels={"model": sample}, output="s3://a/b")
    with pytest.raises(DefinitionError, match="a declares no training_instance_types, which its validation requires"):
        build_validation_profile(Algorithm("a"), channels={}, output="s3://a/b")


def test_a_plain_sample_comes_as_its_channel_says() -> None:
    """A prefix in the channel's first mode, with its first content type, and no transform job where none is wanted."""
    made = build_validation_profile(
        DETECTOR, channels={"training": SampleData(uri="s3://samples/t/")}, output="s3://a/b"
    )
    assert made.transform is None
    request = AlgorithmRequest(algorithm=DETECTOR, training_image="x", role=ROLE, profile=made).to_request()
    (channel,) = request["ValidationSpecification"]["ValidationProfiles"][0]["TrainingJobDefinition"]["InputDataConfig"]
    assert channel == {
        "ChannelName": "training",
        "DataSource": {
            "S3DataSource": {
                "S3DataType": "S3Prefix",
                "S3Uri": "s3://samples/t/",
                "S3DataDistributionType": "FullyReplicated",
            }
        },
        "ContentType": "application/x-recordio",
        "InputMode": "File",
    }
    service_model.check_request("sagemaker", "CreateAlgorithm", request)
