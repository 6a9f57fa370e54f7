"""What the emulator does not have is refused in the protocol of the service that was asked, and changes nothing."""

from __future__ import annotations

from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from tritonforge.emulator.front.moto_backend import UNKNOWN_SUBRESOURCES
from tritonforge.sagemaker import service_model

pytestmark = pytest.mark.process

#: Service, operation, arguments; status, code, and how the sentence names the operation.
UNSUPPORTED: list[tuple[str, str, dict[str, Any], int, str, str]] = [
    ("iam", "simulate_custom_policy", {"PolicyInputList": ["{}"], "ActionNames": ["s3:GetObject"]}, 501,
     "InvalidAction", "SimulateCustomPolicy of iam"),
    ("ec2", "describe_fast_launch_images", {}, 501, "InvalidAction", "DescribeFastLaunchImages of ec2"),
    ("sqs", "start_message_move_task", {"SourceArn": "arn:aws:sqs:us-east-1:123456789012:q"}, 501,
     "UnknownOperationException", "StartMessageMoveTask of sqs"),
    ("cloudwatch", "describe_anomaly_detectors", {}, 501, "UnknownOperationException", "DescribeAnomalyDetectors of"),
    ("glacier", "get_data_retrieval_policy", {"accountId": "-"}, 501, "UnknownOperationException",
     "GET /-/policies/data-retrieval of glacier"),
    ("route53", "list_traffic_policies", {}, 501, "InvalidAction", "GET /2013-04-01/trafficpolicies of route53"),
    ("s3", "get_bucket_metrics_configuration", {"Bucket": "bucket", "Id": "x"}, 501, "NotImplemented",
     "GET /bucket?metrics of s3"),
    ("codeconnections", "list_hosts", {}, 501, "UnknownOperationException", "ListHosts of codeconnections"),
    ("sagemaker", "list_apps", {}, 501, "UnknownOperationException", "ListApps of sagemaker"),
    ("sagemaker-featurestore-runtime", "get_record",
     {"FeatureGroupName": "x", "RecordIdentifierValueAsString": "1"}, 404, "UnknownOperationException",
     "GET /FeatureGroup/x of sagemaker"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("service", "operation", "arguments", "status", "code", "named"), UNSUPPORTED, ids=[case[0] for case in UNSUPPORTED]
)
def test_an_operation_that_is_missing_is_named_in_the_services_protocol(
    account: Any,
    capfd: pytest.CaptureFixture[str],
    service: str,
    operation: str,
    arguments: dict[str, Any],
    status: int,
    code: str,
    named: str,
) -> None:
    """query, EC2, JSON, CBOR, rest-json, rest-xml, S3, a service that moto lacks, and SageMaker's own."""
    with pytest.raises(ClientError) as caught:
        getattr(boto3.client(service), operation)(**arguments)
    answer = caught.value.response
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == status
    assert answer["ResponseMetadata"].get("RetryAttempts") == 0
    assert answer["Error"]["Code"] == code
    assert f"tritonforge's emulator does not implement {named}" in answer["Error"]["Message"]
    assert len(answer["Error"]["Message"]) < 120
    assert capfd.readouterr().out == ""


def test_a_subresource_of_s3_that_is_missing_does_not_touch_the_bucket(account: Any) -> None:
    """DELETE /bucket?analytics is not DeleteBucket, and PUT /bucket/key?renameObject is not PutObject."""
    account.s3.create_bucket(Bucket="kept")
    with pytest.raises(ClientError, match="NotImplemented"):
        account.s3.delete_bucket_analytics_configuration(Bucket="kept", Id="x")
    account.s3.put_object(Bucket="kept", Key="key", Body=b"content")
    with pytest.raises(ClientError, match="NotImplemented"):
        account.s3.rename_object(Bucket="kept", Key="key", RenameSource="other")
    assert account.s3.get_object(Bucket="kept", Key="key")["Body"].read() == b"content"


def test_the_subresources_that_moto_overlooks_are_known() -> None:
    """Every subresource of S3's service model is one that moto's source names, or one that is refused."""
    import inspect

    from moto.s3 import responses

    source = inspect.getsource(responses)
    model = service_model.load_service("s3")
    targets = [model.operation_model(name).http["requestUri"].partition("?")[2] for name in model.operation_names]
    named = {part.partition("=")[0] for target in targets for part in target.split("&")} - {"", "x-id", "select-type"}
    overlooked = {name for name in named if f'"{name}"' not in source and f"'{name}'" not in source}
    assert overlooked == UNKNOWN_SUBRESOURCES & named
    assert overlooked == UNKNOWN_SUBRESOURCES


def test_a_principal_that_exists_may_do_everything(account: Any) -> None:
    """SimulatePrincipalPolicy: a result for each action on each resource; a role that is missing is refused."""
    iam = account.client("iam")
    arns = ["arn:aws:s3:::one/*", "arn:aws:s3:::two/*"]
    actions = [f"s3:Action{index}" for index in range(11)]
    pages = iam.get_paginator("simulate_principal_policy").paginate(
        PolicySourceArn=account.emulator.role_arn, ActionNames=actions, ResourceArns=arns
    )
    results = [result for page in pages for result in page["EvaluationResults"]]
    assert [(result["EvalActionName"], result["EvalResourceName"]) for result in results] == [
        (action, arn) for action in actions for arn in arns
    ]
    assert {result["EvalDecision"] for result in results} == {"allowed"}
    for arn, code in (
        (f"{account.emulator.role_arn}x", "NoSuchEntity"),
        ("arn:aws:s3:::some-bucket-of-mine", "InvalidInput"),
    ):
        with pytest.raises(ClientError, match=code):
            iam.simulate_principal_policy(PolicySourceArn=arn, ActionNames=["s3:GetObject"])
