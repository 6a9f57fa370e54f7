"""A training job as a value: requests go through it unchanged, and what the schema cannot say is found."""

import copy
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tritonforge.errors import RequestError
from tritonforge.sagemaker import service_model
from tritonforge.training.job import TrainingJob

SHAPE = service_model.find_operation("sagemaker", "CreateTrainingJob").input_shape

#: Seed 4's job as the API has it: an augmented manifest in Pipe mode, image then label.
SEED: dict[str, Any] = {
    "TrainingJobName": "cars",
    "RoleArn": "arn:aws:iam::123456789012:role/SageMaker",
    "HyperParameters": {"num_training_samples": "3548"},
    "AlgorithmSpecification": {
        "TrainingImage": "123456789012.dkr.ecr.us-east-1.amazonaws.com/detector:1",
        "TrainingInputMode": "Pipe",
        "MetricDefinitions": [{"Name": "train:loss", "Regex": "loss=([0-9\\.]+)"}],
    },
    "InputDataConfig": [
        {
            "ChannelName": name,
            "ContentType": "application/x-recordio",
            "RecordWrapperType": "RecordIO",
            "DataSource": {
                "S3DataSource": {
                    "S3DataType": "AugmentedManifestFile",
                    "S3Uri": f"s3://sthakur/demo/{name}.manifest",
                    "S3DataDistributionType": "FullyReplicated",
                    "AttributeNames": ["source-ref", "sthakur-groundtruth-demo"],
                }
            },
            "ShuffleConfig": {"Seed": 7},
        }
        for name in ("train", "validation")
    ],
    "OutputDataConfig": {"S3OutputPath": "s3://sthakur/models/"},
    "ResourceConfig": {"InstanceType": "ml.p3.2xlarge", "InstanceCount": 1, "VolumeSizeInGB": 50},
    "StoppingCondition": {"MaxRuntimeInSeconds": 360000},
}


def changed(**members: Any) -> dict[str, Any]:
    """Seed 4's request with some members of it replaced; None removes one."""
    request = {**copy.deepcopy(SEED), **members}
    return {name: value for name, value in request.items() if value is not None}


def channel(**members: Any) -> dict[str, Any]:
    """A request with one channel in File mode, and members of it (or of its S3 data) replaced."""
    data = {"S3DataType": "S3Prefix", "S3Uri": "s3://b/train/"}
    data |= {name: members.pop(name) for name in list(members) if name in ("S3DataType", "AttributeNames", "S3Uri")}
    data |= {name: members.pop(name) for name in list(members) if name == "InstanceGroupNames"}
    one = {"ChannelName": "train", "InputMode": "File", "DataSource": {"S3DataSource": data}, **members}
    return changed(InputDataConfig=[one])


def problems(request: dict[str, Any]) -> list[str]:
    """The problems of a request."""
    return list(TrainingJob.from_request(request).problems())


def values(shape: Any) -> st.SearchStrategy[Any]:
    """Values of a shape of the service model, also such as its patterns forbid."""
    kind = shape.type_name
    if kind == "structure":
        required = {name: values(member) for name, member in shape.members.items() if name in shape.required_members}
        optional = {
            name: values(member) for name, member in shape.members.items() if name not in shape.required_members
        }
        return st.fixed_dictionaries(required, optional=optional)
    if kind == "list":
        return st.lists(values(shape.member), max_size=2)
    if kind == "map":
        return st.dictionaries(values(shape.key), values(shape.value), max_size=2)
    if kind == "string":
        return st.sampled_from(shape.enum) if shape.enum else st.text(min_size=shape.metadata.get("min", 0) and 1)
    return st.booleans() if kind == "boolean" else st.integers(0, 9)


@pytest.mark.slow
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(values(SHAPE))
def test_every_request_goes_through_the_value_unchanged(request: dict[str, Any]) -> None:
    """What the service model allows comes out as it went in, the members without a field of their own included."""
    before = copy.deepcopy(request)
    assert TrainingJob.from_request(request).to_request() == before
    assert request == before
    TrainingJob.from_request(request).problems()


def test_the_seeds_request_is_typed_and_is_accepted() -> None:
    """Seed 4's channels are values with their attributes in order."""
    job = TrainingJob.from_request(SEED)
    assert job.problems() == ()
    assert job.channels is not None
    assert job.channels[0].data is not None
    assert job.channels[0].data.attribute_names == ("source-ref", "sthakur-groundtruth-demo")
    assert job.mode(job.channels[0]) == "Pipe"
    assert job.artifact_uri == "s3://sthakur/models/cars/output/model.tar.gz"
    assert service_model.check_request("sagemaker", "CreateTrainingJob", job.to_request()) is None


def test_a_member_that_a_later_model_adds_is_carried() -> None:
    """At every depth what has no field goes through, and a change of the given request does not reach the job."""
    request = changed(New={"A": [1]})
    request["InputDataConfig"][0]["DataSource"]["S3DataSource"]["New"] = {"B": 2}
    expected = copy.deepcopy(request)
    job = TrainingJob.from_request(request)
    request["New"]["A"].append(2)
    assert job.to_request() == expected


@pytest.mark.parametrize(
    ("request_", "place"),
    [
        (changed(OutputDataConfig=None), "OutputDataConfig"),
        (changed(InputDataConfig={}), "InputDataConfig"),
        (changed(InputDataConfig=[3]), r"InputDataConfig\[0\]"),
        (changed(InputDataConfig=[{"DataSource": {}}]), r"InputDataConfig\[0\]\.ChannelName"),
        (changed(AlgorithmSpecification={}), r"AlgorithmSpecification\.TrainingInputMode"),
        (changed(CheckpointConfig={}), r"CheckpointConfig\.S3Uri"),
    ],
)
def test_a_request_of_another_shape_names_the_place(request_: dict[str, Any], place: str) -> None:
    """A member that is missing or of another type is one error with its path."""
    with pytest.raises(RequestError, match=place):
        TrainingJob.from_request(request_)


AUGMENTED = {"S3DataType": "AugmentedManifestFile"}


@pytest.mark.parametrize(
    ("request_", "sentence"),
    [
        (channel(**AUGMENTED, AttributeNames=["a"]), "needs InputMode Pipe"),
        (channel(**AUGMENTED, InputMode="Pipe"), "needs AttributeNames"),
        (channel(**AUGMENTED, InputMode="Pipe", AttributeNames=["a", "a"]), "a more than once"),
        (channel(AttributeNames=["a"]), "AttributeNames are those of an AugmentedManifestFile"),
        (channel(CompressionType="Gzip"), "Gzip is for Pipe mode only"),
        (channel(RecordWrapperType="RecordIO"), "RecordIO is for Pipe mode only"),
        (channel(S3DataType="ManifestFile", InputMode="FastFile"), "FastFile mode takes S3DataType S3Prefix only"),
        (channel(S3DataType="Converse"), "S3DataType is 'Converse'"),
        (channel(InstanceGroupNames=["g"]), "InstanceGroupNames has g"),
        (channel(DataSource={}), "its DataSource must have one of"),
        (changed(InputDataConfig=[channel()["InputDataConfig"][0]] * 2), "2 channels that are called train"),
        (changed(AlgorithmSpecification={"TrainingInputMode": "File"}), "neither is given"),
        (changed(AlgorithmSpecification=None), "AlgorithmSpecification is missing"),
        (
            changed(
                AlgorithmSpecification={"TrainingInputMode": "Pipe", "TrainingImage": "i", "AlgorithmName": "a"},
            ),
            "both are given",
        ),
        (
            changed(
                AlgorithmSpecification={
                    "TrainingInputMode": "Pipe",
                    "TrainingImage": "i",
                    "MetricDefinitions": [{"Name": "m", "Regex": "loss="}],
                }
            ),
            "it has no group",
        ),
        (
            changed(
                AlgorithmSpecification={
                    "TrainingInputMode": "Pipe",
                    "TrainingImage": "i",
                    "MetricDefinitions": [{"Name": "m", "Regex": "(("}],
                }
            ),
            "not a regular expression",
        ),
        (changed(EnableManagedSpotTraining=True), "needs StoppingCondition.MaxWaitTimeInSeconds"),
        (changed(StoppingCondition={"MaxWaitTimeInSeconds": 5}), "which is 86400 by default"),
        (changed(StoppingCondition={"MaxRuntimeInSeconds": 10**7}), "28 days"),
        (changed(ResourceConfig={}), "names no instances"),
        (changed(ResourceConfig={"InstanceType": "ml.m5.large"}), "InstanceCount must be at least 1"),
        (
            changed(ResourceConfig={"InstancePreferences": [{"InstanceType": "ml.m5.large"}], "InstanceGroups": [
                {"InstanceType": "ml.m5.large", "InstanceCount": 1, "InstanceGroupName": "g"}]}),
            "cannot be used together with InstanceGroups",
        ),
        (changed(ResourceConfig={"SelectedInstanceType": "ml.m5.large"}), "cannot be requested"),
        (changed(CheckpointConfig={"S3Uri": "s3://b/c", "LocalPath": "/opt/ml/model/c"}), "apart from SageMaker's"),
        (changed(CheckpointConfig={"S3Uri": "s3://b/c", "LocalPath": "c"}), "absolute path"),
    ],
)  # fmt: skip
def test_what_the_schema_cannot_say_is_found(request_: dict[str, Any], sentence: str) -> None:
    """One change to a right request gives its sentence."""
    assert any(sentence in problem for problem in problems(request_)), problems(request_)


def test_all_problems_are_reported_with_their_channel() -> None:
    """Two channels with two problems each give four sentences that name them."""
    bad = channel(CompressionType="Gzip", RecordWrapperType="RecordIO")["InputDataConfig"][0]
    found = problems(changed(InputDataConfig=[bad, {**bad, "ChannelName": "validation"}]))
    assert [problem.partition(":")[0] for problem in found] == ["channel train"] * 2 + ["channel validation"] * 2
