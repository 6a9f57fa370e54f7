"""UpdateEndpoint: blue/green on containers, canary, linear, rolling, alarms, and the way back."""

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

pytestmark = pytest.mark.process

PREFIX = "arn:aws:sagemaker:us-east-1:123456789012"
INVALID = "ValidationException"


@pytest.fixture
def endpoint(account: Any, request: pytest.FixtureRequest) -> Iterator[str]:
    """An endpoint in service with the model and the configuration ``<name>-1``; ``-2`` is there to update to."""
    name = request.node.name.replace("_", "-").replace("[", "-").replace("]", "")[-40:].strip("-")
    for number in (1, 2):
        account.create_model(f"{name}-{number}", GENERATION=str(number))
        account.sagemaker.create_endpoint_config(
            EndpointConfigName=f"{name}-{number}",
            ProductionVariants=[
                {
                    "VariantName": "AllTraffic",
                    "ModelName": f"{name}-{number}",
                    "InitialInstanceCount": 2 * number,
                    "InstanceType": "ml.m5.xlarge",
                }
            ],
        )
    assert account.create_endpoint(name, f"{name}-1")["EndpointStatus"] == "InService"
    yield name
    account.wait_for_endpoint(name)
    account.remove_endpoint(name)


def generations(account: Any) -> list[str]:
    """The generations of the containers that run now, as their models were created."""
    return [container.variant.container.environment["GENERATION"] for container in account.containers.running]


def canary(wait: int, **more: Any) -> dict[str, Any]:
    """A DeploymentConfig that tries one tenth first."""
    routing = {
        "Type": "CANARY",
        "WaitIntervalInSeconds": wait,
        "CanarySize": {"Type": "CAPACITY_PERCENT", "Value": 10},
    }
    return {"BlueGreenUpdatePolicy": {"TrafficRoutingConfiguration": routing}, **more}


def watched(account: Any, name: str) -> list[dict[str, Any]]:
    """Every description of an endpoint until nothing is under way."""
    seen = []
    for _ in range(2000):
        seen.append(account.sagemaker.describe_endpoint(EndpointName=name))
        if seen[-1]["EndpointStatus"] in ("InService", "Failed"):
            return seen
        time.sleep(0.005)
    raise AssertionError(f"{name} stays {seen[-1]['EndpointStatus']}")


def test_an_update_starts_the_new_fleet_beside_the_old_and_then_ends_the_old(account: Any, endpoint: str) -> None:
    """During the update both run and the endpoint answers; at the end only the new one does."""
    account.containers.gate.clear()
    account.sagemaker.update_endpoint(EndpointName=endpoint, EndpointConfigName=f"{endpoint}-2")
    early = account.sagemaker.describe_endpoint(EndpointName=endpoint)
    assert early["EndpointStatus"] == "Updating"
    assert early["EndpointConfigName"] == f"{endpoint}-1"
    assert early["PendingDeploymentSummary"]["EndpointConfigName"] == f"{endpoint}-2"
    assert early["PendingDeploymentSummary"]["ProductionVariants"][0]["DesiredInstanceCount"] == 4
    assert generations(account) == ["1"]
    account.runtime.invoke_endpoint(EndpointName=endpoint, Body=b"x")
    account.containers.gate.set()
    found = account.wait_for_endpoint(endpoint)
    assert found["EndpointConfigName"] == f"{endpoint}-2"
    assert found["ProductionVariants"][0]["CurrentInstanceCount"] == 4
    assert "FailureReason" not in found
    assert generations(account) == ["2"]


def test_requests_are_answered_all_through_an_update(account: Any, endpoint: str) -> None:
    """No request fails while the fleets change."""
    account.sagemaker.update_endpoint(
        EndpointName=endpoint, EndpointConfigName=f"{endpoint}-2", DeploymentConfig=canary(10)
    )
    answered = 0
    while account.sagemaker.describe_endpoint(EndpointName=endpoint)["EndpointStatus"] != "InService":
        for _ in range(5):
            answer = json.loads(account.runtime.invoke_endpoint(EndpointName=endpoint, Body=b"x")["Body"].read())
            assert answer["variant"] == "AllTraffic"
            answered += 1
    assert answered > 0


def test_a_container_that_does_not_start_leaves_the_old_one_in_service(account: Any, endpoint: str) -> None:
    """InService again with the old configuration and a FailureReason, which the next update clears."""
    account.create_model("bad", FAILS="The container did not start.", GENERATION="bad")
    account.create_config("bad", "bad")
    account.sagemaker.update_endpoint(EndpointName=endpoint, EndpointConfigName="bad")
    found = account.wait_for_endpoint(endpoint)
    assert f"endpoint {endpoint} RollingBack: The container did not start." in account.sentences
    assert found["EndpointConfigName"] == f"{endpoint}-1"
    assert found["FailureReason"] == "The container did not start."
    assert "PendingDeploymentSummary" not in found
    assert generations(account) == ["1"]
    account.runtime.invoke_endpoint(EndpointName=endpoint, Body=b"x")
    account.containers.gate.clear()
    account.sagemaker.update_endpoint(EndpointName=endpoint, EndpointConfigName=f"{endpoint}-2")
    assert "FailureReason" not in account.sagemaker.describe_endpoint(EndpointName=endpoint)
    account.containers.gate.set()
    assert account.wait_for_endpoint(endpoint)["EndpointConfigName"] == f"{endpoint}-2"
    account.sagemaker.delete_endpoint_config(EndpointConfigName="bad")
    account.sagemaker.delete_model(ModelName="bad")


@pytest.mark.parametrize(
    ("policy", "shares"),
    [
        (canary(100), [0.1, 1.0]),
        (
            {
                "BlueGreenUpdatePolicy": {
                    "TrafficRoutingConfiguration": {
                        "Type": "LINEAR",
                        "WaitIntervalInSeconds": 100,
                        "LinearStepSize": {"Type": "INSTANCE_COUNT", "Value": 2},
                    }
                }
            },
            [0.5, 1.0],
        ),
        (
            {
                "RollingUpdatePolicy": {
                    "MaximumBatchSize": {"Type": "CAPACITY_PERCENT", "Value": 25},
                    "WaitIntervalInSeconds": 100,
                }
            },
            [0.25, 0.5, 0.75, 1.0],
        ),
    ],
    ids=["canary", "linear", "rolling"],
)
def test_traffic_moves_in_steps(account: Any, endpoint: str, policy: Any, shares: list[float]) -> None:
    """The pending variant's weight grows as the policy says, and bakes in between."""
    account.sagemaker.update_endpoint(
        EndpointName=endpoint, EndpointConfigName=f"{endpoint}-2", DeploymentConfig=policy
    )
    seen = watched(account, endpoint)
    pending = [
        description["PendingDeploymentSummary"] for description in seen if "PendingDeploymentSummary" in description
    ]
    weights = [variant["ProductionVariants"][0]["CurrentWeight"] for variant in pending]
    stages = {variant["ProductionVariants"][0]["VariantStatus"][0]["Status"] for variant in pending}
    assert sorted(set(weights) - {0.0}) == shares
    assert weights == sorted(weights)
    assert "Baking" in stages
    assert account.wait_for_endpoint(endpoint)["LastDeploymentConfig"] == policy


def alarm(account: Any, name: str) -> Any:
    """An alarm of CloudWatch's in state OK; gives the client."""
    cloudwatch = account.client("cloudwatch")
    cloudwatch.put_metric_alarm(
        AlarmName=name,
        Namespace="AWS/SageMaker",
        MetricName="Invocation5XXErrors",
        Statistic="Sum",
        Period=60,
        EvaluationPeriods=1,
        Threshold=1,
        ComparisonOperator="GreaterThanThreshold",
    )
    return cloudwatch


def test_an_alarm_rolls_a_deployment_back(account: Any, endpoint: str) -> None:
    """While it bakes the alarm trips: the old fleet has all of the traffic again, the new one ends."""
    cloudwatch = alarm(account, "errors")
    routing = {"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": 3600}
    account.sagemaker.update_endpoint(
        EndpointName=endpoint,
        EndpointConfigName=f"{endpoint}-2",
        DeploymentConfig={
            "BlueGreenUpdatePolicy": {"TrafficRoutingConfiguration": routing},
            "AutoRollbackConfiguration": {"Alarms": [{"AlarmName": "errors"}]},
        },
    )
    stage = ""
    while stage != "Baking":
        pending = account.sagemaker.describe_endpoint(EndpointName=endpoint)["PendingDeploymentSummary"]
        stage = pending["ProductionVariants"][0]["VariantStatus"][0]["Status"]
    assert pending["ProductionVariants"][0]["CurrentWeight"] == 1.0
    cloudwatch.set_alarm_state(AlarmName="errors", StateValue="ALARM", StateReason="a test")
    found = watched(account, endpoint)[-1]
    assert found["EndpointConfigName"] == f"{endpoint}-1"
    assert "errors" in found["FailureReason"]
    assert "ALARM" in found["FailureReason"]
    assert generations(account) == ["1"]
    variant = found["ProductionVariants"][0]
    assert (variant["CurrentWeight"], variant["CurrentInstanceCount"]) == (1.0, 2)


def test_an_alarm_that_is_not_there_is_refused(account: Any, endpoint: str, refused: Any) -> None:
    """Before anything is started."""
    code, sentence = refused(
        account.sagemaker.update_endpoint,
        EndpointName=endpoint,
        EndpointConfigName=f"{endpoint}-2",
        DeploymentConfig=canary(1, AutoRollbackConfiguration={"Alarms": [{"AlarmName": "nowhere"}]}),
    )
    assert code == INVALID
    assert "nowhere" in sentence
    assert account.sagemaker.describe_endpoint(EndpointName=endpoint)["EndpointStatus"] == "InService"


def test_a_deployment_that_takes_too_long_is_rolled_back(account: Any, endpoint: str) -> None:
    """MaximumExecutionTimeoutInSeconds counts the waits that were asked for."""
    policy = {
        "RollingUpdatePolicy": {
            "MaximumBatchSize": {"Type": "CAPACITY_PERCENT", "Value": 25},
            "WaitIntervalInSeconds": 250,
            "MaximumExecutionTimeoutInSeconds": 600,
        }
    }
    account.sagemaker.update_endpoint(
        EndpointName=endpoint, EndpointConfigName=f"{endpoint}-2", DeploymentConfig=policy
    )
    found = watched(account, endpoint)[-1]
    assert found["EndpointConfigName"] == f"{endpoint}-1"
    assert "600 seconds" in found["FailureReason"]


@pytest.mark.parametrize(("exclude", "kept"), [([], (5.0, 7)), (["DesiredInstanceCount"], (5.0, 4))])
def test_weights_and_counts_can_be_retained(account: Any, endpoint: str, exclude: list[str], kept: Any) -> None:
    """RetainAllVariantProperties keeps what UpdateEndpointWeightsAndCapacities set, but for what is excluded."""
    account.sagemaker.update_endpoint_weights_and_capacities(
        EndpointName=endpoint,
        DesiredWeightsAndCapacities=[{"VariantName": "AllTraffic", "DesiredWeight": 5, "DesiredInstanceCount": 7}],
    )
    account.wait_for_endpoint(endpoint)
    account.sagemaker.update_endpoint(
        EndpointName=endpoint,
        EndpointConfigName=f"{endpoint}-2",
        RetainAllVariantProperties=True,
        ExcludeRetainedVariantProperties=[{"VariantPropertyType": property_type} for property_type in exclude],
    )
    variant = account.wait_for_endpoint(endpoint)["ProductionVariants"][0]
    assert (variant["CurrentWeight"], variant["CurrentInstanceCount"]) == kept


def test_the_last_deployment_config_can_be_used_again(account: Any, endpoint: str) -> None:
    """RetainDeploymentConfig takes the policy of the update before."""
    policy = canary(2)
    update = account.sagemaker.update_endpoint
    update(EndpointName=endpoint, EndpointConfigName=f"{endpoint}-2", DeploymentConfig=policy)
    assert account.wait_for_endpoint(endpoint)["LastDeploymentConfig"] == policy
    update(EndpointName=endpoint, EndpointConfigName=f"{endpoint}-1", RetainDeploymentConfig=True)
    assert account.wait_for_endpoint(endpoint)["LastDeploymentConfig"] == policy
    update(EndpointName=endpoint, EndpointConfigName=f"{endpoint}-2")
    assert "LastDeploymentConfig" not in account.wait_for_endpoint(endpoint)


def test_an_endpoint_whose_configuration_was_deleted_is_not_updated(account: Any, endpoint: str, refused: Any) -> None:
    """AWS looks for the present configuration too."""
    account.sagemaker.delete_endpoint_config(EndpointConfigName=f"{endpoint}-1")
    sentence = f'Could not find endpoint configuration "{PREFIX}:endpoint-config/{endpoint}-1".'
    found = refused(account.sagemaker.update_endpoint, EndpointName=endpoint, EndpointConfigName=f"{endpoint}-2")
    assert found == (INVALID, sentence)


def test_policies_that_contradict_themselves_are_refused(account: Any, endpoint: str, refused: Any) -> None:
    """Blue/green and rolling exclude each other."""
    both = {
        **canary(1),
        "RollingUpdatePolicy": {
            "MaximumBatchSize": {"Type": "CAPACITY_PERCENT", "Value": 25},
            "WaitIntervalInSeconds": 1,
        },
    }
    code, sentence = refused(
        account.sagemaker.update_endpoint,
        EndpointName=endpoint,
        EndpointConfigName=f"{endpoint}-2",
        DeploymentConfig=both,
    )
    assert code == INVALID
    assert "RollingUpdatePolicy" in sentence
