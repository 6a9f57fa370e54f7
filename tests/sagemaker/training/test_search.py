"""Search: which resources satisfy an expression, in which order, page by page."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.accounts import COUNTER_IMAGE
from tritonforge.emulator.control.api_errors import ApiError
from tritonforge.emulator.control.search import check_expression, is_match
from tritonforge.sagemaker import service_model

JOB = {
    "TrainingJobName": "jobs-1",
    "TrainingJobStatus": "Completed",
    "CreationTime": 1_700_000_000.0,
    "HyperParameters": {"epochs": "5", "learning_rate": "0.25", "optimizer": "adam", "a.b": "dotted"},
    "FinalMetricDataList": [{"MetricName": "validation:loss", "Value": 0.5, "Timestamp": 1.0}],
    "EnableNetworkIsolation": False,
    "ResourceConfig": {"InstanceCount": 2, "InstanceType": "ml.m5.xlarge"},
    "InputDataConfig": [
        {"ChannelName": "train", "DataSource": {"S3DataSource": {"S3Uri": "s3://cats/data"}}},
        {"ChannelName": "validation", "DataSource": {"S3DataSource": {"S3Uri": "s3://dogs/data"}}},
    ],
    "Tags": [{"Key": "team", "Value": "vision"}],
}


def shape() -> Any:
    """The record of a training job in the service model."""
    return service_model.load_service("sagemaker").shape_for("TrainingJob")


def where(name: str, value: str | None = None, operator: str | None = None) -> dict[str, str]:
    """A filter."""
    found = {"Name": name, "Value": value, "Operator": operator}
    return {key: content for key, content in found.items() if content is not None}


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (where("TrainingJobName", "jobs-1"), True),
        (where("TrainingJobName", "jobs"), False),
        (where("TrainingJobName", "jobs-2", "NotEquals"), True),
        (where("TrainingJobName", "obs", "Contains"), True),
        (where("TrainingJobStatus", "Failed, Completed", "In"), True),
        (where("TrainingJobStatus", "Failed,Stopped", "In"), False),
        (where("FailureReason", operator="Exists"), False),
        (where("FailureReason", operator="NotExists"), True),
        (where("InputDataConfig", operator="Exists"), True),
        (where("HyperParameters.epochs", "4", "GreaterThan"), True),
        (where("HyperParameters.epochs", "10", "LessThan"), True),  # as numbers: as texts "5" is greater than "10"
        (where("HyperParameters.learning_rate", "0.25", "GreaterThanOrEqualTo"), True),
        (where("HyperParameters.optimizer", "adam"), True),
        (where("HyperParameters.optimizer", "1", "GreaterThan"), False),
        (where("HyperParameters.a.b", "dotted"), True),
        (where("HyperParameters.absent", "1", "NotEquals"), True),
        (where("Metrics.validation:loss", "0.6", "LessThan"), True),
        (where("Metrics.validation:loss", "0.5", "LessThan"), False),
        (where("ResourceConfig.InstanceCount", "2", "LessThanOrEqualTo"), True),
        (where("EnableNetworkIsolation", "false"), True),
        (where("CreationTime", "2023-11-14T22:13:20"), True),
        (where("CreationTime", "2023-11-14T22:13:21Z", "LessThan"), True),
        (where("Tags.team", "vision"), True),
        (where("Tags.owner", operator="Exists"), False),
        (where("InputDataConfig.ChannelName", "validation"), True),
    ],
)
def test_a_filter_compares_a_property_as_its_type(condition: dict[str, str], expected: bool) -> None:
    """Texts, numbers, timestamps, hyperparameters, metrics, tags and elements of lists."""
    expression = {"Filters": [condition]}
    check_expression(shape(), expression)
    assert is_match(shape(), expression, JOB) is expected


def test_nested_filters_hold_for_one_element() -> None:
    """A channel named train over cats is there; one named train over dogs is not, though each part is."""
    uri = "InputDataConfig.DataSource.S3DataSource.S3Uri"
    for bucket, expected in (("cats", True), ("dogs", False)):
        filters = [where("InputDataConfig.ChannelName", "train"), where(uri, bucket, "Contains")]
        expression = {"NestedFilters": [{"NestedPropertyName": "InputDataConfig", "Filters": filters}]}
        check_expression(shape(), expression)
        assert is_match(shape(), expression, JOB) is expected
        flat = {"Filters": filters}
        assert is_match(shape(), flat, JOB)


def test_subexpressions_are_joined_by_and_or_or() -> None:
    """(name and failed) or (vision's): And is the default."""
    both = {"Filters": [where("TrainingJobName", "jobs-1"), where("TrainingJobStatus", "Failed")]}
    expression = {"SubExpressions": [both, {"Filters": [where("Tags.team", "vision")]}]}
    check_expression(shape(), expression)
    assert not is_match(shape(), expression, JOB)
    assert is_match(shape(), {**expression, "Operator": "Or"}, JOB)


@pytest.mark.parametrize(
    ("expression", "sentence"),
    [
        ({}, "needs at least one filter"),
        ({"Operator": "Or", "Filters": []}, "needs at least one filter"),
        ({"Filters": [where("JobName", "x")]}, "Unknown property name: JobName"),
        ({"Filters": [where("ModelArtifacts.Uri", "x")]}, "Unknown property name: ModelArtifacts.Uri"),
        ({"Filters": [where("TrainingJobName")]}, "operator Equals needs a Value"),
        ({"Filters": [where("TrainingJobName", "x", "LessThan")]}, "not supported for text properties"),
        ({"Filters": [where("CreationTime", "x", "Contains")]}, "supported for text properties only"),
        ({"Filters": [where("CreationTime", "yesterday", "LessThan")]}, "'yesterday' is not a date and time"),
        ({"Filters": [where("Metrics.loss", "low", "LessThan")]}, "'low' is not a number"),
        ({"Filters": [where("ResourceConfig", "x")]}, "the property is a structure"),
        ({"Filters": [where("TrainingJobName", "x", "Contains")] * 2}, "'CONTAINS' operator usage limit of 1 exceeded"),
        ({"SubExpressions": [{"Filters": [where("Tags.x", "y")] * 20}] * 3}, "more than 50 conditions"),
    ],
)
def test_an_expression_that_breaks_a_rule_is_refused(expression: dict[str, Any], sentence: str) -> None:
    """Before any resource is looked at."""
    with pytest.raises(ApiError) as caught:
        check_expression(shape(), expression)
    assert caught.value.code == "ValidationException"
    assert sentence in caught.value.message


def names(found: dict[str, Any], kind: str, name: str) -> list[str]:
    """The names of the resources that were found."""
    return [record[kind][name] for record in found["Results"]]


def test_training_jobs_are_found_sorted_and_paged(fake_account: Any) -> None:
    """By hyperparameter and status; by name, and last created first; one page after another."""
    for index in range(5):
        fake_account.run_job(
            f"find-{index}", HyperParameters={"depth": str(index)}, Tags=[{"Key": "n", "Value": str(index % 2)}]
        )
    expression = {"Filters": [where("HyperParameters.depth", "1", "GreaterThanOrEqualTo")]}
    search = fake_account.sagemaker.search
    found = search(Resource="TrainingJob", SearchExpression=expression)
    assert names(found, "TrainingJob", "TrainingJobName") == ["find-4", "find-3", "find-2", "find-1"]
    assert found["TotalHits"] == {"Value": 4, "Relation": "EqualTo"}
    record = found["Results"][0]["TrainingJob"]
    assert record["Tags"] == [{"Key": "n", "Value": "0"}]
    assert record["TrainingJobStatus"] == "Completed"
    pages = fake_account.sagemaker.get_paginator("search").paginate(
        Resource="TrainingJob",
        SearchExpression=expression,
        SortBy="HyperParameters.depth",
        SortOrder="Ascending",
        PaginationConfig={"PageSize": 3},
    )
    assert [names(page, "TrainingJob", "TrainingJobName") for page in pages] == [
        ["find-1", "find-2", "find-3"],
        ["find-4"],
    ]
    visible = search(
        Resource="TrainingJob", SearchExpression=expression, VisibilityConditions=[{"Key": "Tags.n", "Value": "1"}]
    )
    assert names(visible, "TrainingJob", "TrainingJobName") == ["find-3", "find-1"]
    assert not search(Resource="TrainingJob", CrossAccountFilterOption="CrossAccount")["Results"]


def test_every_kind_that_the_emulator_keeps_is_found(fake_account: Any) -> None:
    fake_account.put({"model.tar.gz": b"x"})
    container = {"Image": COUNTER_IMAGE, "ModelDataUrl": f"s3://{fake_account.bucket}/model.tar.gz"}
    role = fake_account.emulator.role_arn
    sagemaker = fake_account.sagemaker
    sagemaker.create_model(ModelName="searched", ExecutionRoleArn=role, PrimaryContainer=container)
    variant = {"VariantName": "v", "ModelName": "searched", "InstanceType": "ml.m5.xlarge", "InitialInstanceCount": 1}
    sagemaker.create_endpoint_config(EndpointConfigName="searched", ProductionVariants=[variant])
    sagemaker.create_endpoint(EndpointName="searched", EndpointConfigName="searched")
    fake_account.wait_for_status(lambda: sagemaker.describe_endpoint(EndpointName="searched"), "EndpointStatus")
    sagemaker.create_model_package_group(ModelPackageGroupName="searched")
    specification = {
        "Containers": [container],
        "SupportedContentTypes": ["text/csv"],
        "SupportedResponseMIMETypes": ["text/csv"],
    }
    arn = sagemaker.create_model_package(ModelPackageGroupName="searched", InferenceSpecification=specification)[
        "ModelPackageArn"
    ]

    def search(kind: str, *filters: dict[str, str]) -> Any:
        return sagemaker.search(Resource=kind, SearchExpression={"Filters": list(filters)})

    assert names(search("Endpoint", where("EndpointStatus", "InService")), "Endpoint", "EndpointName") == ["searched"]
    (model,) = search("Model", where("Model.ModelName", "searched"))["Results"]
    assert model["Model"]["Model"]["PrimaryContainer"]["Image"] == COUNTER_IMAGE
    assert [endpoint["EndpointName"] for endpoint in model["Model"]["Endpoints"]] == ["searched"]
    (package,) = search("ModelPackage", where("ModelPackageGroupName", "searched"))["Results"]
    assert package["ModelPackage"]["ModelPackageArn"] == arn
    group = where("ModelPackageGroupName", "searched", "Equals")
    assert names(search("ModelPackageGroup", group), "ModelPackageGroup", "ModelPackageGroupName") == ["searched"]
    for kind in service_model.find_operation("sagemaker", "Search").input_shape.members["Resource"].enum:
        sagemaker.search(Resource=kind)
    assert not sagemaker.search(Resource="Experiment")["Results"]


def test_jobs_have_the_members_that_aws_always_gives(fake_account: Any) -> None:
    """AWS's SDK indexes OutputDataConfig.KmsKeyId; channels have their defaults."""
    found = fake_account.run_job("always")
    assert found["OutputDataConfig"] == {"KmsKeyId": "", "S3OutputPath": f"s3://{fake_account.bucket}/out"}
    (channel,) = found["InputDataConfig"]
    assert channel["CompressionType"] == channel["RecordWrapperType"] == "None"
    assert channel["DataSource"]["S3DataSource"]["S3DataDistributionType"] == "FullyReplicated"
