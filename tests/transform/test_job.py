"""A job as a value: the request of CreateTransformJob, there and back, and what its schema cannot express."""

from __future__ import annotations

from typing import Any

import botocore.session
import pytest

from tritonforge.errors import RequestError
from tritonforge.transform import DataProcessing, TransformInput, TransformJob, TransformOutput

#: Every field that CreateTransformJob has.
WHOLE: dict[str, Any] = {
    "TransformJobName": "tfs-image-classification-job",
    "ModelName": "image-classification-tfs",
    "MaxConcurrentTransforms": 64,
    "ModelClientConfig": {"InvocationsTimeoutInSeconds": 600, "InvocationsMaxRetries": 0},
    "MaxPayloadInMB": 1,
    "BatchStrategy": "SingleRecord",
    "Environment": {"SAGEMAKER_TFS_ENABLE_BATCHING": "true"},
    "TransformInput": {
        "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://in/tfrecords/"}},
        "ContentType": "application/x-tfexample",
        "CompressionType": "None",
        "SplitType": "TFRecord",
    },
    "TransformOutput": {
        "S3OutputPath": "s3://out/",
        "Accept": "application/json",
        "AssembleWith": "Line",
        "KmsKeyId": "alias/key",
    },
    "DataCaptureConfig": {"DestinationS3Uri": "s3://captured/", "KmsKeyId": "k", "GenerateInferenceId": True},
    "TransformResources": {
        "InstanceType": "ml.p3.2xlarge",
        "InstanceCount": 2,
        "VolumeKmsKeyId": "v",
        "TransformAmiVersion": "al2-ami-sagemaker-batch-gpu-535",
    },
    "DataProcessing": {"InputFilter": "$", "OutputFilter": "$.SageMakerOutput", "JoinSource": "Input"},
    "Tags": [{"Key": "team", "Value": "vision"}, {"Key": "team", "Value": ""}],
    "ExperimentConfig": {"ExperimentName": "e", "TrialName": "t"},
}

LEAST: dict[str, Any] = {
    "TransformJobName": "j",
    "ModelName": "m",
    "TransformInput": {"DataSource": {"S3DataSource": {"S3DataType": "ManifestFile", "S3Uri": "s3://in/m.json"}}},
    "TransformOutput": {"S3OutputPath": "s3://out"},
    "TransformResources": {"InstanceType": "ml.m5.large", "InstanceCount": 1},
}


@pytest.mark.parametrize("request_", [WHOLE, LEAST], ids=["whole", "least"])
def test_a_request_comes_out_as_it_went_in(request_: dict[str, Any]) -> None:
    """Every field is kept, and none is added."""
    assert TransformJob.from_request(request_).to_request() == request_


def test_the_whole_request_has_every_field_of_the_service_model() -> None:
    """A field that AWS adds is noticed here."""
    shape = (
        botocore.session.get_session().get_service_model("sagemaker").operation_model("CreateTransformJob").input_shape
    )

    def missing(shape: Any, value: Any, where: str) -> list[str]:
        if shape.type_name != "structure":
            return []
        left = [f"{where}.{name}" for name in shape.members if name not in value]
        for name, item in shape.members.items():
            left += missing(item, value[name], f"{where}.{name}") if name in value else []
        return left

    assert missing(shape, WHOLE, "") == [".ExperimentConfig.TrialComponentDisplayName", ".ExperimentConfig.RunName"]


@pytest.mark.parametrize(
    ("path", "value", "sentence"),
    [
        (("Bogus",), 1, "CreateTransformJob has no field Bogus"),
        (("TransformInput", "Bogus"), 1, "CreateTransformJob has no field TransformInput.Bogus"),
        (("TransformOutput", "Bogus"), 1, "CreateTransformJob has no field TransformOutput.Bogus"),
        (("DataProcessing", "Bogus"), 1, "CreateTransformJob has no field DataProcessing.Bogus"),
        (("TransformInput", "DataSource", "S3DataSource", "S3Uri"), None, "S3Uri is missing"),
        (("TransformOutput", "S3OutputPath"), None, "TransformOutput.S3OutputPath is missing"),
        (("TransformInput",), None, "TransformInput is missing"),
        (("TransformResources", "InstanceCount"), None, "TransformResources.InstanceCount is missing"),
    ],
)
def test_a_request_with_a_field_too_many_or_too_few_is_refused(
    path: tuple[str, ...], value: Any, sentence: str
) -> None:
    """The sentence names the field with its place."""
    import copy

    request = copy.deepcopy(WHOLE)
    place = request
    for key in path[:-1]:
        place = place[key]
    if value is None:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    with pytest.raises(RequestError, match=sentence):
        TransformJob.from_request(request)


def job(**fields: Any) -> TransformJob:
    """A job with some fields; those of its input by a dictionary."""
    source = fields.pop("input", {})
    target = fields.pop("output", {})
    return TransformJob(input=TransformInput(uri="in", **source), output=TransformOutput(uri="out", **target), **fields)


LINES = {"content_type": "application/jsonlines", "split_type": "Line"}
CSV = {"content_type": "text/csv", "split_type": "Line"}
JOIN = DataProcessing(join_source="Input")


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (job(max_payload_in_mb=101), "must be from 0 to 100"),
        (job(max_payload_in_mb=2, max_concurrent_transforms=51), "2 = 102; it cannot exceed 100 MB"),
        (job(input={"data_type": "AugmentedManifestFile"}), "S3DataType is 'AugmentedManifestFile'"),
        (job(input={"split_type": "Parquet"}), "SplitType is 'Parquet'"),
        (job(data_processing=JOIN, input={"content_type": "image/jpeg"}), "DataProcessing requires"),
        (job(data_processing=JOIN, input=LINES), "AssembleWith must equal SplitType"),
        (
            job(data_processing=JOIN, input=LINES, output={"assemble_with": "Line", "accept": "text/csv"}),
            "Accept must equal ContentType",
        ),
        (job(data_processing=DataProcessing(input_filter="a"), input=CSV), "InputFilter 'a': it must begin with"),
        (
            job(data_processing=DataProcessing(input_filter="$[1:]"), input={"content_type": "text/csv"}),
            "requires SplitType Line",
        ),
    ],
)
def test_what_the_documentation_forbids_is_reported(wrong: TransformJob, sentence: str) -> None:
    """Limits and combinations that the API's schema cannot express."""
    assert any(sentence in problem for problem in wrong.find_problems()), wrong.find_problems()


@pytest.mark.parametrize(
    "right",
    [
        job(),
        job(max_payload_in_mb=0, max_concurrent_transforms=200),
        job(max_payload_in_mb=1, max_concurrent_transforms=100),
        job(data_processing=JOIN, input=LINES, output={"assemble_with": "Line", "accept": "application/jsonlines"}),
        job(data_processing=JOIN, input=CSV, output={"assemble_with": "Line"}),
        job(data_processing=JOIN, input={"content_type": "application/json; charset=utf-8"}),
    ],
)
def test_what_the_documentation_allows_has_no_problems(right: TransformJob) -> None:
    """The limits themselves, and joins as the developer guide has them."""
    assert right.find_problems() == ()
