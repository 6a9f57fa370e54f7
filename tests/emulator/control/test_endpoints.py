"""CreateEndpoint, DescribeEndpoint, ListEndpoints, weights and capacities, DeleteEndpoint, asked by boto3."""

import concurrent.futures
import json
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError, WaiterError

pytestmark = pytest.mark.process

PREFIX = "arn:aws:sagemaker:us-east-1:123456789012"
INVALID = "ValidationException"


def test_an_endpoint_comes_up_and_answers(account: Any) -> None:
    """Creating with what is pending, then InService with what serves; boto3's own waiter sees both."""
    account.create_model("em")
    account.create_config("ec", "em", instances=2)
    account.containers.gate.clear()
    made = account.sagemaker.create_endpoint(EndpointName="Up", EndpointConfigName="ec")
    assert made["EndpointArn"] == f"{PREFIX}:endpoint/up"
    early = account.sagemaker.describe_endpoint(EndpointName="Up")
    account.containers.gate.set()
    assert early["EndpointStatus"] == "Creating"
    assert "ProductionVariants" not in early
    pending = early["PendingDeploymentSummary"]["ProductionVariants"][0]
    assert pending["VariantStatus"][0]["Status"] == "Creating"
    assert (pending["CurrentInstanceCount"], pending["DesiredInstanceCount"]) == (0, 2)
    waiter = account.sagemaker.get_waiter("endpoint_in_service")
    waiter.wait(EndpointName="Up", WaiterConfig={"Delay": 0.02, "MaxAttempts": 200})
    found = account.sagemaker.describe_endpoint(EndpointName="Up")
    assert "PendingDeploymentSummary" not in found
    variant = found["ProductionVariants"][0]
    assert (variant["CurrentWeight"], variant["CurrentInstanceCount"], variant["DesiredInstanceCount"]) == (1.0, 2, 2)
    assert variant["DeployedImages"][0]["SpecifiedImage"].endswith("sagemaker-tritonserver:24.09-py3")
    assert found["LastModifiedTime"] >= found["CreationTime"]
    answer = account.runtime.invoke_endpoint(EndpointName="Up", Body=b"12345")
    assert json.loads(answer["Body"].read())["bytes"] == 5
    account.remove_endpoint("Up")


def test_a_container_that_does_not_start_ends_in_failed(account: Any, refused: Any) -> None:
    """FailureReason says why; deletion is all that is left; boto3's waiter gives up."""
    account.create_model("broken", FAILS="The primary container did not pass the ping health check.")
    account.create_config("broken", "broken")
    account.sagemaker.create_endpoint(EndpointName="broken", EndpointConfigName="broken")
    with pytest.raises(WaiterError):
        account.sagemaker.get_waiter("endpoint_in_service").wait(
            EndpointName="broken", WaiterConfig={"Delay": 0.02, "MaxAttempts": 200}
        )
    found = account.wait_for_endpoint("broken")
    assert found["EndpointStatus"] == "Failed"
    assert found["FailureReason"] == "The primary container did not pass the ping health check."
    code, sentence = refused(account.sagemaker.update_endpoint, EndpointName="broken", EndpointConfigName="broken")
    assert code == INVALID
    assert '"Failed"' in sentence
    account.remove_endpoint("broken")


def test_the_lines_of_a_container_are_in_cloudwatch(account: Any) -> None:
    """Group and stream are named as SageMaker names them."""
    account.create_model("logged")
    account.create_config("logged", "logged")
    account.create_endpoint("logged", "logged")
    account.emulator.flush()
    logs = account.client("logs")
    group = "/aws/sagemaker/Endpoints/logged"
    streams = logs.describe_log_streams(logGroupName=group)["logStreams"]
    assert [stream["logStreamName"].partition("/")[0] for stream in streams] == ["logged"]
    events = logs.get_log_events(logGroupName=group, logStreamName=streams[0]["logStreamName"])["events"]
    assert events[0]["message"].startswith("a stand-in for ")
    account.remove_endpoint("logged")


def test_what_create_endpoint_refuses(account: Any, refused: Any) -> None:
    """A missing configuration, a taken name in whatever case, a model that was deleted since."""
    account.create_model("rm")
    account.create_config("rc", "rm")
    create = account.sagemaker.create_endpoint
    sentence = f'Could not find endpoint configuration "{PREFIX}:endpoint-config/none".'
    assert refused(create, EndpointName="r", EndpointConfigName="none") == (INVALID, sentence)
    account.create_endpoint("Refused", "rc")
    sentence = f'Cannot create already existing endpoint "{PREFIX}:endpoint/refused".'
    assert refused(create, EndpointName="REFUSED", EndpointConfigName="rc") == (INVALID, sentence)
    account.sagemaker.delete_model(ModelName="rm")
    sentence = f'Could not find model "{PREFIX}:model/rm".'
    assert refused(create, EndpointName="r", EndpointConfigName="rc") == (INVALID, sentence)
    account.remove_endpoint("Refused")


@pytest.mark.parametrize(
    ("operation", "more"),
    [
        ("describe_endpoint", {}),
        ("delete_endpoint", {}),
        ("update_endpoint", {"EndpointConfigName": "c"}),
        ("update_endpoint_weights_and_capacities", {"DesiredWeightsAndCapacities": [{"VariantName": "v"}]}),
    ],
)
def test_an_endpoint_that_is_not_there(account: Any, refused: Any, operation: str, more: Any) -> None:
    """Every operation has the same sentence for it."""
    sentence = f'Could not find endpoint "{PREFIX}:endpoint/absent".'
    assert refused(getattr(account.sagemaker, operation), EndpointName="absent", **more) == (INVALID, sentence)


def test_nothing_is_changed_while_something_is_under_way(account: Any, refused: Any) -> None:
    """A Creating endpoint is neither updated nor scaled nor deleted."""
    account.create_model("busy")
    account.create_config("busy", "busy")
    account.containers.gate.clear()
    account.sagemaker.create_endpoint(EndpointName="busy", EndpointConfigName="busy")
    sentence = f'Cannot update in-progress endpoint "{PREFIX}:endpoint/busy".'
    sagemaker = account.sagemaker
    weights = [{"VariantName": "busy", "DesiredWeight": 1}]
    assert refused(sagemaker.update_endpoint, EndpointName="busy", EndpointConfigName="busy") == (INVALID, sentence)
    assert refused(sagemaker.delete_endpoint, EndpointName="busy") == (INVALID, sentence)
    assert refused(
        sagemaker.update_endpoint_weights_and_capacities, EndpointName="busy", DesiredWeightsAndCapacities=weights
    ) == (INVALID, sentence)
    account.containers.gate.set()
    account.wait_for_endpoint("busy")
    account.remove_endpoint("busy")


def test_an_endpoint_outlives_its_configuration_and_its_model(account: Any) -> None:
    """AWS lets both be deleted; the endpoint serves on."""
    account.create_model("outlived")
    account.create_config("outlived", "outlived")
    account.create_endpoint("outlives", "outlived")
    account.sagemaker.delete_endpoint_config(EndpointConfigName="outlived")
    account.sagemaker.delete_model(ModelName="outlived")
    assert account.sagemaker.describe_endpoint(EndpointName="outlives")["EndpointStatus"] == "InService"
    account.runtime.invoke_endpoint(EndpointName="outlives", Body=b"x")
    account.remove_endpoint("outlives")


def test_deletion_ends_the_container_and_the_waiter_sees_it(account: Any) -> None:
    """boto3's endpoint_deleted returns, nothing runs, the name is free."""
    account.create_model("dm")
    account.create_config("dc", "dm")
    account.create_endpoint("del", "dc")
    container = account.containers.running[-1]
    account.sagemaker.delete_endpoint(EndpointName="del")
    account.sagemaker.get_waiter("endpoint_deleted").wait(
        EndpointName="del", WaiterConfig={"Delay": 0.02, "MaxAttempts": 200}
    )
    assert container.stopped
    with pytest.raises(ClientError):
        account.runtime.invoke_endpoint(EndpointName="del", Body=b"x")
    account.create_endpoint("del", "dc")
    account.remove_endpoint("del")


def test_weights_and_capacities_change_and_show(account: Any, refused: Any) -> None:
    """Traffic follows the weights; a variant of weight 0 gets none."""
    for name in ("wa", "wb"):
        account.create_model(name)
    account.create_config("wc", "wa", "wb")
    account.create_endpoint("weighed", "wc")
    change = account.sagemaker.update_endpoint_weights_and_capacities
    wanted = [{"VariantName": "wa", "DesiredWeight": 0}, {"VariantName": "wb", "DesiredInstanceCount": 3}]
    change(EndpointName="weighed", DesiredWeightsAndCapacities=wanted)
    found = account.wait_for_endpoint("weighed")["ProductionVariants"]
    assert [(variant["CurrentWeight"], variant["CurrentInstanceCount"]) for variant in found] == [(0.0, 1), (1.0, 3)]
    seen = {
        account.runtime.invoke_endpoint(EndpointName="weighed", Body=b"")["InvokedProductionVariant"] for _ in range(20)
    }
    assert seen == {"wb"}
    absent = [{"VariantName": "wz", "DesiredWeight": 1}]
    assert refused(change, EndpointName="weighed", DesiredWeightsAndCapacities=absent) == (
        INVALID,
        'The variant name(s) "wz" is/are not present within endpoint configuration "wc".',
    )
    none = [{"VariantName": "wb", "DesiredWeight": 0}]
    assert refused(change, EndpointName="weighed", DesiredWeightsAndCapacities=none)[0] == INVALID
    zero = [{"VariantName": "wb", "DesiredInstanceCount": 0}]
    assert "asynchronous" in refused(change, EndpointName="weighed", DesiredWeightsAndCapacities=zero)[1]
    account.remove_endpoint("weighed")


def test_scalable_targets_need_a_variant_and_go_with_the_endpoint(account: Any, refused: Any) -> None:
    """application-autoscaling asks whether the variant exists; DeleteEndpoint deregisters it."""
    account.create_model("am")
    account.create_config("ac", "am")
    account.create_endpoint("scaled", "ac")
    scaling = account.client("application-autoscaling")
    target = {
        "ServiceNamespace": "sagemaker",
        "ResourceId": "endpoint/scaled/variant/am",
        "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
    }
    scaling.register_scalable_target(**target, MinCapacity=1, MaxCapacity=4)
    tracking = {
        "TargetValue": 70.0,
        "PredefinedMetricSpecification": {"PredefinedMetricType": "SageMakerVariantInvocationsPerInstance"},
    }
    scaling.put_scaling_policy(
        **target,
        PolicyName="invocations",
        PolicyType="TargetTrackingScaling",
        TargetTrackingScalingPolicyConfiguration=tracking,
    )
    assert len(scaling.describe_scalable_targets(ServiceNamespace="sagemaker")["ScalableTargets"]) == 1
    for wrong in ("endpoint/none/variant/am", "endpoint/scaled/variant/none", "endpoint/scaled"):
        bad = {**target, "ResourceId": wrong}
        code, sentence = refused(scaling.register_scalable_target, **bad, MinCapacity=1, MaxCapacity=4)
        assert code == INVALID
        assert "none" in sentence or "endpoint/<endpoint>" in sentence
    account.remove_endpoint("scaled")
    assert scaling.describe_scalable_targets(ServiceNamespace="sagemaker")["ScalableTargets"] == []


def test_endpoints_are_listed_filtered_and_sorted(account: Any) -> None:
    """By status, by name, by time of change."""
    account.create_model("lm")
    account.create_model("lf", FAILS="no")
    account.create_config("lc", "lm")
    account.create_config("lfc", "lf")
    account.create_endpoint("list-b", "lc")
    account.create_endpoint("list-a", "lc")
    account.create_endpoint("list-f", "lfc")
    listed = account.sagemaker.list_endpoints
    assert [
        endpoint["EndpointName"] for endpoint in listed(NameContains="list-", StatusEquals="Failed")["Endpoints"]
    ] == ["list-f"]
    by_status = listed(NameContains="list-", SortBy="Status", SortOrder="Ascending")["Endpoints"]
    assert [endpoint["EndpointStatus"] for endpoint in by_status] == ["Failed", "InService", "InService"]
    by_time = listed(NameContains="list-", SortOrder="Ascending")["Endpoints"]
    assert [endpoint["EndpointName"] for endpoint in by_time] == ["list-b", "list-a", "list-f"]
    changed = by_time[-1]["LastModifiedTime"]
    after = listed(NameContains="list-", LastModifiedTimeAfter=changed)["Endpoints"]
    assert [endpoint["EndpointName"] for endpoint in after] == ["list-f"]
    pages = account.sagemaker.get_paginator("list_endpoints").paginate(
        NameContains="list-", PaginationConfig={"PageSize": 2}
    )
    assert [len(page["Endpoints"]) for page in pages] == [2, 1]
    for name in ("list-a", "list-b", "list-f"):
        account.remove_endpoint(name)


def test_everything_about_an_endpoint_is_described(account: Any) -> None:
    """Data capture, asynchronous inference and shadow variants, each in the form that Describe has for it."""
    account.create_model("whole")
    bucket = f"s3://{account.emulator.bucket}"
    capture = {
        "InitialSamplingPercentage": 25,
        "DestinationS3Uri": f"{bucket}/captured",
        "CaptureOptions": [{"CaptureMode": "InputAndOutput"}],
    }
    asynchronous = {"OutputConfig": {"S3OutputPath": f"{bucket}/out"}}
    account.create_config("captured", "whole", DataCaptureConfig=capture, AsyncInferenceConfig=asynchronous)
    found = account.create_endpoint("captured", "captured")
    assert found["DataCaptureConfig"] == {
        "EnableCapture": True,
        "CaptureStatus": "Started",
        "CurrentSamplingPercentage": 25,
        "DestinationS3Uri": f"{bucket}/captured",
        "KmsKeyId": "",
    }
    assert found["AsyncInferenceConfig"] == asynchronous
    zero = [{"VariantName": "whole", "DesiredInstanceCount": 0}]
    account.sagemaker.update_endpoint_weights_and_capacities(EndpointName="captured", DesiredWeightsAndCapacities=zero)
    assert account.wait_for_endpoint("captured")["ProductionVariants"][0]["CurrentInstanceCount"] == 0
    shadow = {"VariantName": "s", "ModelName": "whole", "InitialInstanceCount": 1, "InstanceType": "ml.m5.xlarge"}
    account.create_config("shadowing", "whole", ShadowProductionVariants=[shadow])
    found = account.create_endpoint("shadowing", "shadowing")
    assert [shadow["VariantName"] for shadow in found["ShadowProductionVariants"]] == ["s"]
    assert [container.variant.name for container in account.containers.running[-2:]] == ["whole", "s"]
    serverless = {"MemorySizeInMB": 2048, "MaxConcurrency": 2}
    variant = {"VariantName": "v", "ModelName": "whole", "ServerlessConfig": serverless}
    account.sagemaker.create_endpoint_config(EndpointConfigName="serverless", ProductionVariants=[variant])
    found = account.create_endpoint("serverless", "serverless")["ProductionVariants"][0]
    assert found["CurrentServerlessConfig"] == serverless
    assert "CurrentInstanceCount" not in found
    for name in ("captured", "shadowing", "serverless"):
        account.remove_endpoint(name)


def test_two_clients_that_create_the_same_endpoint(account: Any) -> None:
    """One of many wins; the others get AWS's sentence for a taken name."""
    account.create_model("race")
    account.create_config("race", "race")

    def create(_: int) -> str:
        client = boto3.session.Session().client("sagemaker")
        try:
            client.create_endpoint(EndpointName="race", EndpointConfigName="race")
        except ClientError as error:
            return str(error.response["Error"]["Message"])
        return "created"

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(create, range(8)))
    assert outcomes.count("created") == 1
    assert set(outcomes) == {"created", f'Cannot create already existing endpoint "{PREFIX}:endpoint/race".'}
    account.wait_for_endpoint("race")
    account.remove_endpoint("race")
