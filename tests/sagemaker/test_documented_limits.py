"""The documented limits: each names its place, and requests that keep them pass without a word."""

from __future__ import annotations

from typing import Any

import pytest

from tritonforge.sagemaker.limits import OPERATIONS, check_limits

IMAGE = {"Image": "1.dkr/x:1"}
PREFIX = {"S3Uri": "s3://b/k/", "S3DataType": "S3Prefix", "CompressionType": "None"}
PLAIN = {"VariantName": "a", "ModelName": "m", "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}


def model(**container: Any) -> dict[str, Any]:
    """CreateModel with one container."""
    return {"ModelName": "m", "PrimaryContainer": {**IMAGE, **container}}


def config(*variants: dict[str, Any], **more: Any) -> dict[str, Any]:
    """CreateEndpointConfig with these variants, or a plain one."""
    return {"EndpointConfigName": "c", "ProductionVariants": list(variants) or [PLAIN], **more}


def serverless(**more: Any) -> dict[str, Any]:
    """A serverless variant."""
    settings = {"MemorySizeInMB": 2048, "MaxConcurrency": 5, **more.pop("settings", {})}
    return {"VariantName": "a", "ModelName": "m", "ServerlessConfig": settings, **more}


def update(**policy: Any) -> dict[str, Any]:
    """UpdateEndpoint with a blue/green policy."""
    return {"EndpointName": "e", "EndpointConfigName": "c", "DeploymentConfig": {"BlueGreenUpdatePolicy": policy}}


def share(value: int) -> dict[str, Any]:
    """A size in percent."""
    return {"Type": "CAPACITY_PERCENT", "Value": value}


ROLLING = {"MaximumBatchSize": share(10)}

GOOD = [
    ("CreateModel", model(ModelDataUrl="s3://b/k/model.tar.gz", Environment={"A": "x" * 1024})),
    ("CreateModel", model(ModelDataSource={"S3DataSource": PREFIX})),
    (
        "CreateModel",
        model(Mode="MultiModel", ModelDataUrl="s3://b/k/", MultiModelConfig={"ModelCacheSetting": "Disabled"}),
    ),
    ("CreateModel", {"ModelName": "m", "Containers": [IMAGE, IMAGE], "InferenceExecutionConfig": {"Mode": "Serial"}}),
    ("CreateEndpointConfig", config()),
    ("CreateEndpointConfig", config(serverless())),
    ("UpdateEndpoint", update(TrafficRoutingConfiguration={"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": 0})),
    (
        "UpdateEndpoint",
        update(
            TrafficRoutingConfiguration={"Type": "LINEAR", "WaitIntervalInSeconds": 100, "LinearStepSize": share(25)},
            TerminationWaitInSeconds=299,
            MaximumExecutionTimeoutInSeconds=600,
        ),
    ),
    ("RegisterScalableTarget", {"MinCapacity": 0, "MaxCapacity": 0}),
    ("DeleteModel", {"ModelName": "m"}),
]

BAD = [
    ("CreateModel", {"ModelName": "m"}, "PrimaryContainer", "needs PrimaryContainer or Containers"),
    ("CreateModel", {**model(), "Containers": [IMAGE]}, "Containers", "exclude each other"),
    (
        "CreateModel",
        {**model(), "InferenceExecutionConfig": {"Mode": "Direct"}},
        "InferenceExecutionConfig",
        "Containers",
    ),
    ("CreateModel", {"ModelName": "m", "PrimaryContainer": {}}, "PrimaryContainer.Image", "needs Image"),
    (
        "CreateModel",
        model(Environment={f"K{n}": "x" * 1000 for n in range(33)}),
        "PrimaryContainer.Environment",
        "32768",
    ),
    (
        "CreateModel",
        model(ModelDataUrl="s3://b/k", ModelDataSource={"S3DataSource": PREFIX}),
        "PrimaryContainer.ModelDataSource",
        "exclude each other",
    ),
    ("CreateModel", model(Mode="MultiModel"), "PrimaryContainer.ModelDataUrl", "needs ModelDataUrl"),
    (
        "CreateModel",
        model(Mode="MultiModel", ModelDataSource={"S3DataSource": PREFIX}),
        "PrimaryContainer.ModelDataSource",
        "no ModelDataSource",
    ),
    ("CreateModel", model(MultiModelConfig={"A": 1}), "PrimaryContainer.MultiModelConfig", "Mode"),
    (
        "CreateModel",
        model(ModelDataSource={"S3DataSource": {**PREFIX, "S3Uri": "s3://b/k"}}),
        "PrimaryContainer.ModelDataSource.S3DataSource.S3Uri",
        "must end with '/'",
    ),
    (
        "CreateModel",
        model(ModelDataSource={"S3DataSource": {**PREFIX, "CompressionType": "Gzip"}}),
        "PrimaryContainer.ModelDataSource.S3DataSource.CompressionType",
        "S3Object",
    ),
    ("CreateEndpointConfig", config({"VariantName": "a"}), "ProductionVariants[0].InstanceType", "needs InstanceType"),
    (
        "CreateEndpointConfig",
        config({"VariantName": "a", "InstanceType": "ml.m5.large"}),
        "ProductionVariants[0].InitialInstanceCount",
        "needs InitialInstanceCount",
    ),
    (
        "CreateEndpointConfig",
        config(serverless(InstanceType="ml.m5.large")),
        "ProductionVariants[0].ServerlessConfig",
        "exclude each other",
    ),
    (
        "CreateEndpointConfig",
        config(PLAIN, PLAIN),
        "ProductionVariants[1].VariantName",
        "must differ",
    ),
    (
        "CreateEndpointConfig",
        config(ShadowProductionVariants=[{**PLAIN, "VariantName": "s"}, {**PLAIN, "VariantName": "t"}]),
        "ShadowProductionVariants",
        "one production and one shadow",
    ),
    (
        "CreateEndpointConfig",
        config({**PLAIN, "ManagedInstanceScaling": {"MinInstanceCount": 3, "MaxInstanceCount": 2}}),
        "ProductionVariants[0].ManagedInstanceScaling",
        "is greater than",
    ),
    (
        "CreateEndpointConfig",
        config(serverless(settings={"MemorySizeInMB": 1500})),
        "ProductionVariants[0].ServerlessConfig.MemorySizeInMB",
        "multiple of 1024",
    ),
    (
        "CreateEndpointConfig",
        config(serverless(settings={"ProvisionedConcurrency": 6})),
        "ProductionVariants[0].ServerlessConfig.ProvisionedConcurrency",
        "is greater than",
    ),
    ("CreateEndpointConfig", config(serverless(), DataCaptureConfig={"x": 1}), "DataCaptureConfig", "no data capture"),
    ("CreateEndpointConfig", config(serverless(), EnableNetworkIsolation=True), "EnableNetworkIsolation", "isolation"),
    ("CreateEndpointConfig", config(serverless(VolumeSizeInGB=5)), "ProductionVariants[0].VolumeSizeInGB", "no Volume"),
    (
        "UpdateEndpoint",
        {"EndpointName": "e", "ExcludeRetainedVariantProperties": [{"VariantPropertyType": "DesiredWeight"}]},
        "ExcludeRetainedVariantProperties",
        "RetainAllVariantProperties",
    ),
    (
        "UpdateEndpoint",
        {"DeploymentConfig": {"BlueGreenUpdatePolicy": {"a": 1}, "RollingUpdatePolicy": ROLLING}},
        "DeploymentConfig.RollingUpdatePolicy",
        "exclude each other",
    ),
    (
        "UpdateEndpoint",
        update(TrafficRoutingConfiguration={"Type": "ALL_AT_ONCE", "CanarySize": share(10)}),
        "DeploymentConfig.BlueGreenUpdatePolicy.TrafficRoutingConfiguration.CanarySize",
        "requires Type CANARY",
    ),
    (
        "CreateEndpoint",
        update(TrafficRoutingConfiguration={"Type": "LINEAR", "WaitIntervalInSeconds": 0, "LinearStepSize": share(9)}),
        "DeploymentConfig.BlueGreenUpdatePolicy.TrafficRoutingConfiguration.LinearStepSize.Value",
        "10 to 50 %",
    ),
    (
        "UpdateEndpoint",
        update(
            TrafficRoutingConfiguration={"Type": "LINEAR", "WaitIntervalInSeconds": 100, "LinearStepSize": share(25)},
            TerminationWaitInSeconds=300,
            MaximumExecutionTimeoutInSeconds=600,
        ),
        "DeploymentConfig.BlueGreenUpdatePolicy.MaximumExecutionTimeoutInSeconds",
        "which are 600 s",
    ),
    (
        "UpdateEndpoint",
        {"DeploymentConfig": {"RollingUpdatePolicy": {"MaximumBatchSize": share(51), "WaitIntervalInSeconds": 0}}},
        "DeploymentConfig.RollingUpdatePolicy.MaximumBatchSize.Value",
        "5 to 50 %",
    ),
    ("RegisterScalableTarget", {"MinCapacity": 3, "MaxCapacity": 2}, "MinCapacity", "is greater than"),
    (
        "PutScalingPolicy",
        {"PolicyType": "TargetTrackingScaling", "TargetTrackingScalingPolicyConfiguration": {"TargetValue": 1}},
        "TargetTrackingScalingPolicyConfiguration",
        "needs one metric",
    ),
    ("PutScalingPolicy", {"PolicyType": "StepScaling"}, "StepScalingPolicyConfiguration", "needs StepScaling"),
]


@pytest.mark.parametrize(("operation", "request_"), GOOD)
def test_a_request_within_the_limits_passes(operation: str, request_: dict[str, Any]) -> None:
    """No violation."""
    assert check_limits(operation, request_) == ()


@pytest.mark.parametrize(("operation", "request_", "place", "words"), BAD)
def test_a_violation_names_its_place(operation: str, request_: dict[str, Any], place: str, words: str) -> None:
    """Exactly one limit, at its place."""
    (found,) = check_limits(operation, request_)
    assert found.place == place
    assert words in found.sentence


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"PrimaryContainer": {**IMAGE, "Mode": "MultiModel", "ModelDataUrl": "s3://b/"}}, "multi-model"),
        ({"PrimaryContainer": {**IMAGE, "ModelDataSource": {"S3DataSource": PREFIX}}}, "ModelDataSource"),
        ({"VpcConfig": {"Subnets": ["s"]}}, "VpcConfig"),
        ({"EnableNetworkIsolation": True}, "network isolation"),
    ],
)
def test_a_serverless_variant_does_not_take_every_model(more: dict[str, Any], words: str) -> None:
    """What depends on the model is judged where the models are known."""
    request = config(serverless())
    (found,) = check_limits("CreateEndpointConfig", request, models={"m": {**model(), **more}})
    assert words in found.sentence
    assert check_limits("CreateEndpointConfig", request) == ()


def test_every_operation_names_a_check_and_its_source() -> None:
    for operation, documented in OPERATIONS.items():
        assert callable(documented.load_check()), operation
        assert documented.source.startswith(("API ", "DG ")), operation
    assert check_limits("DescribeEndpoint", {}) == ()
