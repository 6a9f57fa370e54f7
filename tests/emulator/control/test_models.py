"""CreateModel, DescribeModel, ListModels, DeleteModel, asked by boto3."""

import datetime as dt
import json
from typing import Any

import boto3
import pytest

pytestmark = pytest.mark.process

PREFIX = "arn:aws:sagemaker:us-east-1:123456789012"
INVALID = "ValidationException"


def test_a_model_is_described_as_it_was_created(account: Any) -> None:
    """Every member of the request comes back, with what SageMaker adds to it."""
    arn = account.create_model("Described", A="1")
    found = account.sagemaker.describe_model(ModelName="Described")
    assert found["ModelArn"] == arn == f"{PREFIX}:model/described"
    assert found["ModelName"] == "Described"
    assert found["PrimaryContainer"]["Environment"] == {"A": "1"}
    assert found["PrimaryContainer"]["Mode"] == "SingleModel"
    assert found["ExecutionRoleArn"] == account.emulator.role_arn
    assert found["EnableNetworkIsolation"] is False
    assert abs((dt.datetime.now(dt.timezone.utc) - found["CreationTime"]).total_seconds()) < 60


def test_a_name_is_taken_in_whatever_case(account: Any, refused: Any) -> None:
    """AWS's sentence for a duplicate names the ARN, in which the name is in small letters."""
    account.create_model("Taken")
    sentence = f'Cannot create already existing model "{PREFIX}:model/taken".'
    assert refused(account.create_model, name="TAKEN") == (INVALID, sentence)


@pytest.mark.parametrize("operation", ["describe_model", "delete_model"])
def test_a_model_that_is_not_there(account: Any, refused: Any, operation: str) -> None:
    """AWS's sentence for what it does not find."""
    sentence = f'Could not find model "{PREFIX}:model/absent".'
    assert refused(getattr(account.sagemaker, operation), ModelName="absent") == (INVALID, sentence)


def test_a_deleted_model_is_gone(account: Any, refused: Any) -> None:
    """The name is free again."""
    account.create_model("deleted")
    account.sagemaker.delete_model(ModelName="deleted")
    assert refused(account.sagemaker.describe_model, ModelName="deleted")[0] == INVALID
    account.create_model("deleted")


DETECTED = "validation error detected: Value '{}' at '{}' failed to satisfy constraint: Member must {}"
PATTERN = "satisfy regular expression pattern: "


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            {"ModelName": "a_b"},
            "1 " + DETECTED.format("a_b", "modelName", PATTERN + r"[a-zA-Z0-9]([\-a-zA-Z0-9]*[a-zA-Z0-9])?"),
        ),
        (
            {"ModelName": "a" * 64},
            "1 " + DETECTED.format("a" * 64, "modelName", "have length less than or equal to 63"),
        ),
        (
            {"PrimaryContainer": {"Image": "an image"}},
            "1 " + DETECTED.format("an image", "primaryContainer.image", PATTERN + r"[\S]+"),
        ),
        (
            {"PrimaryContainer": {"Mode": "Multi"}},
            "1 "
            + DETECTED.format("Multi", "primaryContainer.mode", "satisfy enum value set: [SingleModel, MultiModel]"),
        ),
    ],
)
def test_a_request_that_the_service_model_forbids(account: Any, refused: Any, change: Any, sentence: str) -> None:
    """Lengths, patterns and enumerations, which botocore lets through, are refused in AWS's form."""
    request = {"ModelName": "m", "ExecutionRoleArn": account.emulator.role_arn, "PrimaryContainer": {"Image": "i"}}
    assert refused(account.sagemaker.create_model, **{**request, **change}) == (INVALID, sentence)


def test_what_the_documentation_says_in_words_is_held_too(account: Any, refused: Any) -> None:
    """A model has one container or several, not both and not none."""
    code, sentence = refused(account.sagemaker.create_model, ModelName="m", ExecutionRoleArn=account.emulator.role_arn)
    assert code == INVALID
    assert "PrimaryContainer" in sentence


@pytest.mark.parametrize("trusted", [None, "lambda.amazonaws.com"])
def test_a_role_that_sagemaker_cannot_assume(account: Any, refused: Any, trusted: str | None) -> None:
    """A role must exist and trust SageMaker."""
    name = f"role-of-{trusted}"
    if trusted:
        policy = {"Statement": [{"Effect": "Allow", "Principal": {"Service": trusted}, "Action": "sts:AssumeRole"}]}
        account.client("iam").create_role(
            RoleName=name, AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17", **policy})
        )
    arn = f"arn:aws:iam::123456789012:role/{name}"
    code, sentence = refused(
        account.sagemaker.create_model, ModelName="m", ExecutionRoleArn=arn, PrimaryContainer={"Image": "i"}
    )
    assert code == INVALID
    assert sentence == (
        f"Could not assume role {arn}. Please ensure that the role exists and allows principal "
        "'sagemaker.amazonaws.com' to assume the role."
    )


def test_a_role_of_another_account(account: Any, refused: Any) -> None:
    """SageMaker passes no role across accounts."""
    arn = "arn:aws:iam::999999999999:role/theirs"
    found = refused(
        account.sagemaker.create_model, ModelName="m", ExecutionRoleArn=arn, PrimaryContainer={"Image": "i"}
    )
    assert found == (INVALID, "RoleArn: Cross-account pass role is not allowed.")


def test_a_role_of_ones_own_will_do(account: Any) -> None:
    """A trust policy may name several services and actions."""
    statement = {
        "Effect": "Allow",
        "Principal": {"Service": ["ec2.amazonaws.com", "sagemaker.amazonaws.com"]},
        "Action": ["sts:AssumeRole"],
    }
    made = account.client("iam").create_role(
        RoleName="own", AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    )
    account.sagemaker.create_model(
        ModelName="own", ExecutionRoleArn=made["Role"]["Arn"], PrimaryContainer={"Image": "i"}
    )


def test_model_data_that_are_not_there(account: Any, refused: Any) -> None:
    """CreateModel looks for the object."""
    uri = f"s3://{account.emulator.bucket}/nowhere/model.tar.gz"
    container = {"Image": "i", "ModelDataUrl": uri}
    found = refused(
        account.sagemaker.create_model,
        ModelName="m",
        ExecutionRoleArn=account.emulator.role_arn,
        PrimaryContainer=container,
    )
    assert found == (INVALID, f"Could not find model data at {uri}.")


def test_model_data_below_a_prefix(account: Any, refused: Any) -> None:
    """An uncompressed model needs one object below its prefix; a multi-model prefix may still be empty."""
    role = account.emulator.role_arn
    empty = f"s3://{account.emulator.bucket}/empty/"
    source = {"S3Uri": empty, "S3DataType": "S3Prefix", "CompressionType": "None"}
    container = {"Image": "i", "ModelDataSource": {"S3DataSource": source}}
    create = account.sagemaker.create_model
    assert (
        "Could not find model data"
        in refused(create, ModelName="p", ExecutionRoleArn=role, PrimaryContainer=container)[1]
    )
    account.s3.put_object(Bucket=account.emulator.bucket, Key="full/m/config.pbtxt", Body=b"")
    container["ModelDataSource"]["S3DataSource"]["S3Uri"] = f"s3://{account.emulator.bucket}/full/"
    create(ModelName="p", ExecutionRoleArn=role, PrimaryContainer=container)
    create(
        ModelName="mme",
        ExecutionRoleArn=role,
        PrimaryContainer={"Image": "i", "Mode": "MultiModel", "ModelDataUrl": empty},
    )


@pytest.mark.parametrize("bucket", ["absent-bucket", "bucket-in-ireland"])
def test_model_data_out_of_reach(account: Any, refused: Any, bucket: str) -> None:
    """A bucket that is missing or lies in another region gets AWS's long sentence, with the expected region."""
    if bucket == "bucket-in-ireland":
        place = {"LocationConstraint": "eu-west-1"}
        ireland = boto3.client("s3", region_name="eu-west-1")
        ireland.create_bucket(Bucket=bucket, CreateBucketConfiguration=place)
        ireland.put_object(Bucket=bucket, Key="model.tar.gz", Body=b"")
    uri = f"s3://{bucket}/model.tar.gz"
    code, sentence = refused(
        account.sagemaker.create_model,
        ModelName="m",
        ExecutionRoleArn=account.emulator.role_arn,
        PrimaryContainer={"Image": "i", "ModelDataUrl": uri},
    )
    assert code == INVALID
    assert sentence.startswith(f"Could not access model data at {uri}. Please ensure that the role ")
    assert "the object is located in us-east-1." in sentence


def test_regions_are_separate(account: Any, refused: Any) -> None:
    """A model of one region is not found in another, and its ARN names its region."""
    account.create_model("regional")
    ireland = account.client("sagemaker", "eu-west-1")
    sentence = 'Could not find model "arn:aws:sagemaker:eu-west-1:123456789012:model/regional".'
    assert refused(ireland.describe_model, ModelName="regional") == (INVALID, sentence)
    made = ireland.create_model(
        ModelName="regional", ExecutionRoleArn=account.emulator.role_arn, PrimaryContainer={"Image": "i"}
    )
    assert made["ModelArn"] == "arn:aws:sagemaker:eu-west-1:123456789012:model/regional"
    assert [model["ModelName"] for model in ireland.list_models()["Models"]] == ["regional"]


def test_models_are_listed_page_by_page(account: Any, refused: Any) -> None:
    """boto3's paginator sees every model once, filtered and sorted as it asks."""
    names = [f"listed-{number:02}" for number in range(23)]
    for name in names:
        account.create_model(name)
    list_models = account.sagemaker.list_models
    assert len(list_models(NameContains="listed-")["Models"]) == 10
    pages = list(
        account.sagemaker.get_paginator("list_models").paginate(
            NameContains="LISTED-", SortBy="Name", SortOrder="Ascending", PaginationConfig={"PageSize": 9}
        )
    )
    assert [len(page["Models"]) for page in pages] == [9, 9, 5]
    assert [model["ModelName"] for page in pages for model in page["Models"]] == names
    newest = list_models(NameContains="listed-", MaxResults=1)["Models"][0]
    assert newest["ModelName"] == "listed-22"
    before = list_models(NameContains="listed-", CreationTimeBefore=newest["CreationTime"], MaxResults=100)["Models"]
    after = list_models(NameContains="listed-", CreationTimeAfter=newest["CreationTime"], MaxResults=100)["Models"]
    assert {model["ModelName"] for model in before} | {model["ModelName"] for model in after} == set(names)
    assert newest in after
    assert newest not in before
    assert refused(list_models, NextToken="made up")[0] == INVALID
    assert "less than or equal to 100" in refused(list_models, MaxResults=101)[1]
