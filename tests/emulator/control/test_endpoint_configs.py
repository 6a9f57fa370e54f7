"""CreateEndpointConfig, DescribeEndpointConfig, ListEndpointConfigs, DeleteEndpointConfig, asked by boto3."""

from typing import Any

import pytest

pytestmark = pytest.mark.process

PREFIX = "arn:aws:sagemaker:us-east-1:123456789012"
INVALID = "ValidationException"


def test_a_configuration_is_described_as_it_was_created(account: Any) -> None:
    """Every part of the request comes back, the parts that moto drops included."""
    account.create_model("cm")
    capture = {
        "InitialSamplingPercentage": 50,
        "DestinationS3Uri": f"s3://{account.emulator.bucket}/captured",
        "CaptureOptions": [{"CaptureMode": "Input"}],
    }
    asynchronous = {"OutputConfig": {"S3OutputPath": f"s3://{account.emulator.bucket}/out"}}
    arn = account.create_config("cc", "cm", DataCaptureConfig=capture, AsyncInferenceConfig=asynchronous)
    found = account.sagemaker.describe_endpoint_config(EndpointConfigName="cc")
    assert found["EndpointConfigArn"] == arn == f"{PREFIX}:endpoint-config/cc"
    assert found["ProductionVariants"] == [
        {
            "VariantName": "cm",
            "ModelName": "cm",
            "InitialInstanceCount": 1,
            "InstanceType": "ml.m5.xlarge",
            "InitialVariantWeight": 1.0,
        }
    ]
    assert found["DataCaptureConfig"] == capture
    assert found["AsyncInferenceConfig"] == asynchronous
    assert found["EnableNetworkIsolation"] is False


def test_a_shadow_variant_is_kept(account: Any) -> None:
    """One production variant and one shadow variant go together."""
    account.create_model("sm")
    shadow = {"VariantName": "s", "ModelName": "sm", "InitialInstanceCount": 1, "InstanceType": "ml.m5.xlarge"}
    account.create_config("shadowed", "sm", ShadowProductionVariants=[shadow])
    found = account.sagemaker.describe_endpoint_config(EndpointConfigName="shadowed")
    assert [shadow["VariantName"] for shadow in found["ShadowProductionVariants"]] == ["s"]


def test_a_variant_needs_a_model_that_exists(account: Any, refused: Any) -> None:
    """AWS's sentence names the model's ARN."""
    code, sentence = refused(lambda: account.create_config("x", "no-model"))
    assert (code, sentence) == (INVALID, f'Could not find model "{PREFIX}:model/no-model".')


def test_a_configuration_exists_once(account: Any, refused: Any) -> None:
    """AWS calls it "endpoint configuration" in its sentences."""
    account.create_model("om")
    account.create_config("once", "om")
    code, sentence = refused(lambda: account.create_config("once", "om"))
    assert (code, sentence) == (
        INVALID,
        f'Cannot create already existing endpoint configuration "{PREFIX}:endpoint-config/once".',
    )
    for call in (account.sagemaker.describe_endpoint_config, account.sagemaker.delete_endpoint_config):
        assert refused(call, EndpointConfigName="never") == (
            INVALID,
            f'Could not find endpoint configuration "{PREFIX}:endpoint-config/never".',
        )


def test_a_bad_instance_type_is_refused_in_awss_form(account: Any, refused: Any) -> None:
    """The place is written as AWS does: lists count from 1 and have members."""
    variant = {"VariantName": "v", "ModelName": "m", "InitialInstanceCount": 1, "InstanceType": "ml.big.one"}
    code, sentence = refused(
        account.sagemaker.create_endpoint_config, EndpointConfigName="x", ProductionVariants=[variant]
    )
    assert code == INVALID
    assert sentence.startswith(
        "1 validation error detected: Value 'ml.big.one' at 'productionVariants.1.member.instanceType' failed to "
        "satisfy constraint: Member must satisfy enum value set: ["
    )


def test_rules_between_variants_are_held(account: Any, refused: Any) -> None:
    """Two variants of one name, and what goes with a model only: rules that the service model does not hold."""
    account.create_model("rm")
    variant = {"VariantName": "v", "ModelName": "rm", "InitialInstanceCount": 1, "InstanceType": "ml.m5.xlarge"}
    create = account.sagemaker.create_endpoint_config
    assert "named 'v'" in refused(create, EndpointConfigName="x", ProductionVariants=[variant, variant])[1]
    source = {"S3Uri": f"s3://{account.emulator.bucket}/u/", "S3DataType": "S3Prefix", "CompressionType": "None"}
    account.s3.put_object(Bucket=account.emulator.bucket, Key="u/m/config.pbtxt", Body=b"")
    account.sagemaker.create_model(
        ModelName="uncompressed",
        ExecutionRoleArn=account.emulator.role_arn,
        PrimaryContainer={"Image": "i", "ModelDataSource": {"S3DataSource": source}},
    )
    serverless = {
        "VariantName": "v",
        "ModelName": "uncompressed",
        "ServerlessConfig": {"MemorySizeInMB": 2048, "MaxConcurrency": 1},
    }
    assert "ModelDataSource" in refused(create, EndpointConfigName="x", ProductionVariants=[serverless])[1]


def test_configurations_are_listed_page_by_page(account: Any) -> None:
    """boto3's paginator sees every configuration once."""
    account.create_model("lm")
    names = {f"paged-{number}" for number in range(12)}
    for name in names:
        account.create_config(name, "lm")
    paginator = account.sagemaker.get_paginator("list_endpoint_configs")
    found = [
        config["EndpointConfigName"]
        for page in paginator.paginate(NameContains="paged-", PaginationConfig={"PageSize": 5})
        for config in page["EndpointConfigs"]
    ]
    assert sorted(found) == sorted(names)


def test_tags_are_added_replaced_listed_and_removed(account: Any, refused: Any) -> None:
    """On every kind of resource; the fifty-first is too many."""
    account.create_model("tm")
    arns = [account.create_config("tagged", "tm", Tags=[{"Key": "a", "Value": "1"}]), f"{PREFIX}:model/tm"]
    sagemaker = account.sagemaker
    assert sagemaker.list_tags(ResourceArn=arns[0])["Tags"] == [{"Key": "a", "Value": "1"}]
    for arn in arns:
        sagemaker.add_tags(ResourceArn=arn, Tags=[{"Key": "a", "Value": "2"}, {"Key": "b", "Value": ""}])
        found = sagemaker.list_tags(ResourceArn=arn)["Tags"]
        assert found == [{"Key": "a", "Value": "2"}, {"Key": "b", "Value": ""}]
        sagemaker.delete_tags(ResourceArn=arn, TagKeys=["a", "never there"])
        assert sagemaker.list_tags(ResourceArn=arn)["Tags"] == [{"Key": "b", "Value": ""}]
    many = [{"Key": f"k{number}", "Value": ""} for number in range(50)]
    assert refused(sagemaker.add_tags, ResourceArn=arns[0], Tags=many)[0] == "ResourceLimitExceeded"
    assert refused(sagemaker.add_tags, ResourceArn=arns[0], Tags=[{"Key": "aws:x", "Value": ""}])[0] == INVALID
    assert refused(sagemaker.list_tags, ResourceArn=f"{PREFIX}:model/none") == (
        INVALID,
        f'Could not find model "{PREFIX}:model/none".',
    )
    assert refused(sagemaker.list_tags, ResourceArn=f"{PREFIX}:pipeline/none")[0] == INVALID
