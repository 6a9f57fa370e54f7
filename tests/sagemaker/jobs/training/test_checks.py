"""Requests that AWS would refuse are refused here, with everything at once, and nothing is called."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.training_requests import IMAGE, channel, job, request
from tritonforge.errors import RequestError
from tritonforge.sagemaker.endpoints.resources import ObservedBucket
from tritonforge.sagemaker.jobs.training_plan import DATA, ObservedData, build_training_plan
from tritonforge.sagemaker.limits import check_limits
from tritonforge.sagemaker.plans.executor import check_plan
from tritonforge.sagemaker.plans.plan import Plan

SPOT = {"EnableManagedSpotTraining": True}


def plan(*channels: dict[str, Any], name: str = "n", **changes: Any) -> Plan:
    """The plan of such a job."""
    observed = ObservedData(region="us-east-1", account="123456789012", bucket=ObservedBucket(name="b", folder=DATA))
    return build_training_plan(job(name, *channels, **changes), {}, observed)[0]


def refusal(*channels: dict[str, Any], **changes: Any) -> list[str]:
    """Why it is refused, line by line."""
    with pytest.raises(RequestError) as caught:
        check_plan(plan(*channels, **changes))
    first, *lines = str(caught.value).splitlines()
    assert first.startswith("AWS would re")
    prefix = f"CreateTrainingJob {changes.get('name', 'n')}: "
    assert all(line.startswith(prefix) for line in lines)
    return [line.removeprefix(prefix) for line in lines]


def test_a_job_that_is_right_passes() -> None:
    """The one that all others here differ from."""
    check_plan(plan())


@pytest.mark.parametrize(
    ("changes", "place", "sentence"),
    [
        ({"name": "a_b"}, "TrainingJobName", "regular expression"),
        ({"name": "a" * 64}, "TrainingJobName", "less than or equal to 63"),
        ({"RoleArn": "TritonForgeExecutionRole"}, "RoleArn", "regular expression"),
        (
            {"ResourceConfig": {"InstanceType": "ml.none.large", "InstanceCount": 1}},
            "ResourceConfig.InstanceType",
            "enum value set",
        ),
        ({"ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 0}}, "InstanceCount", "at least 1"),
        ({"ResourceConfig": {"InstanceType": "ml.c5.xlarge", "InstanceCount": 1}}, "VolumeSizeInGB", "no disk"),
        ({"ResourceConfig": None}, "ResourceConfig", "names the instances"),
        ({"StoppingCondition": {"MaxRuntimeInSeconds": 2419201}}, "StoppingCondition.MaxRuntimeInSeconds", "28 days"),
        ({"HyperParameters": {str(item): "" for item in range(101)}}, "HyperParameters", "equal to 100"),
        ({"HyperParameters": {"a": "x" * 2501}}, "HyperParameters.a", "2500"),
        ({"Environment": {"A": "x" * 513}}, "Environment.A", "512"),
        (SPOT, "EnableManagedSpotTraining", "needs StoppingCondition.MaxWaitTimeInSeconds"),
        (
            {**SPOT, "StoppingCondition": {"MaxRuntimeInSeconds": 9, "MaxWaitTimeInSeconds": 8}},
            "StoppingCondition.MaxWaitTimeInSeconds",
            "at least MaxRuntimeInSeconds, which is 9",
        ),
        (
            {
                **SPOT,
                "StoppingCondition": {"MaxRuntimeInSeconds": 9, "MaxWaitTimeInSeconds": 9},
                "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "KeepAlivePeriodInSeconds": 9},
            },
            "ResourceConfig.KeepAlivePeriodInSeconds",
            "one of the two",
        ),
        (
            {"CheckpointConfig": {"S3Uri": "s3://b/c", "LocalPath": "/opt/ml/model"}},
            "CheckpointConfig.LocalPath",
            "apart",
        ),
        ({"AlgorithmSpecification": {"TrainingInputMode": "File"}}, "AlgorithmSpecification", "neither is given"),
        (
            {"AlgorithmSpecification": {"TrainingImage": IMAGE, "AlgorithmName": "a", "TrainingInputMode": "File"}},
            "AlgorithmSpecification",
            "both are given",
        ),
        (
            {
                "AlgorithmSpecification": {
                    "TrainingImage": IMAGE,
                    "TrainingInputMode": "File",
                    "MetricDefinitions": [{"Name": "loss", "Regex": "loss="}],
                }
            },
            "AlgorithmSpecification.MetricDefinitions",
            "no group",
        ),
    ],
)
def test_a_field_that_aws_would_refuse(changes: dict[str, Any], place: str, sentence: str) -> None:
    """Its place, and why."""
    lines = refusal(**changes)
    assert any(
        f".{line}".partition(": ")[0].split(" is ")[0].endswith(f".{place}") and sentence in line for line in lines
    )
    assert len(lines) <= 2


def test_models_go_to_s3_only() -> None:
    """The service model's pattern lets https through."""
    found = check_limits("CreateTrainingJob", request("n", OutputDataConfig={"S3OutputPath": "https://b/c"}))
    assert [item.place for item in found] == ["OutputDataConfig.S3OutputPath"]
    assert "expected s3://" in found[0].sentence


@pytest.mark.parametrize(
    ("members", "sentence"),
    [
        (
            {"AttributeNames": ["source-ref"]},
            "an AugmentedManifestFile needs InputMode Pipe, and its input mode is File",
        ),
        ({"InputMode": "Pipe"}, "an AugmentedManifestFile needs AttributeNames"),
        ({"InputMode": "Pipe", "AttributeNames": ["a"] * 17}, "length less than or equal to 16"),
    ],
)
def test_an_augmented_manifest_needs_pipe_mode_and_names(members: dict[str, Any], sentence: str) -> None:
    """The channel that is wrong is the one that is named."""
    other = channel("first", "s3://b/c/")
    lines = refusal(other, channel("second", "s3://b/a.manifest", "AugmentedManifestFile", **members))
    assert lines[0].startswith("InputDataConfig[1]")
    assert sentence in lines[0]


def test_everything_that_is_wrong_is_stated_at_once() -> None:
    """One line each, the service model's first."""
    lines = refusal(
        channel("x" * 65, "s3://b/c/"),
        name="a_b",
        ResourceConfig={"InstanceType": "ml.p9.large", "InstanceCount": 1},
        **SPOT,
    )
    assert [line.split()[0].rstrip(":") for line in lines] == [
        "TrainingJobName",
        "InputDataConfig[0].ChannelName",
        "ResourceConfig.InstanceType",
        "EnableManagedSpotTraining",
    ]
