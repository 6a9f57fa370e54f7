"""What an account may have: instances by type."""

import os
from collections.abc import Iterator
from typing import Any

import boto3
import pytest

from tests.support.fakes import FakeContainers
from tritonforge.emulator import Emulator

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def sagemaker() -> Iterator[Any]:
    """A client of an account that has three ml.m5.xlarge and no ml.g5.xlarge."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        limits = {"ml.m5.xlarge": 3, "ml.g5.xlarge": 0}
        with Emulator(containers=FakeContainers(), speed=200, limits=limits, region="eu-central-1") as emulator:
            for name, value in emulator.environment.items():
                patch.setenv(name, value)
            client = boto3.client("sagemaker")
            client.create_model(ModelName="m", ExecutionRoleArn=emulator.role_arn, PrimaryContainer={"Image": "i"})
            for kind, count in (("ml.m5.xlarge", 2), ("ml.m5.xlarge", 1), ("ml.g5.xlarge", 1), ("ml.c5.xlarge", 99)):
                variant = {"VariantName": "v", "ModelName": "m", "InitialInstanceCount": count, "InstanceType": kind}
                client.create_endpoint_config(EndpointConfigName=f"{kind[3:5]}-{count}", ProductionVariants=[variant])
            assert client.meta.region_name == "eu-central-1"
            yield client


def test_instances_beyond_the_limit_are_refused(sagemaker: Any, refused: Any) -> None:
    """AWS's sentence: the limit, what is used, what was asked for; an update needs both fleets at once."""
    create = sagemaker.create_endpoint
    code, sentence = refused(create, EndpointName="gpu", EndpointConfigName="g5-1")
    assert code == "ResourceLimitExceeded"
    assert sentence == (
        "The account-level service limit 'ml.g5.xlarge for endpoint usage' is 0 Instances, with current utilization of "
        "0 Instances and a request delta of 1 Instances. Please contact AWS support to request an increase for this "
        "limit."
    )
    create(EndpointName="free", EndpointConfigName="c5-99")
    create(EndpointName="two", EndpointConfigName="m5-2")
    waiter = sagemaker.get_waiter("endpoint_in_service")
    waiter.wait(EndpointName="two", WaiterConfig={"Delay": 0.02, "MaxAttempts": 100})
    update = sagemaker.update_endpoint
    assert "utilization of 2" in refused(update, EndpointName="two", EndpointConfigName="m5-2")[1]
    more = [{"VariantName": "v", "DesiredInstanceCount": 4}]
    change = sagemaker.update_endpoint_weights_and_capacities
    assert "delta of 2" in refused(change, EndpointName="two", DesiredWeightsAndCapacities=more)[1]
    update(EndpointName="two", EndpointConfigName="m5-1")
    waiter.wait(EndpointName="two", WaiterConfig={"Delay": 0.02, "MaxAttempts": 100})
    create(EndpointName="another", EndpointConfigName="m5-2")
    assert "utilization of 3" in refused(create, EndpointName="fourth", EndpointConfigName="m5-1")[1]


def test_the_region_is_chosen_once(sagemaker: Any) -> None:
    """The bucket for convenience lies in the emulator's region."""
    found = boto3.client("s3").get_bucket_location(Bucket="sagemaker-eu-central-1-123456789012")
    assert found["LocationConstraint"] == "eu-central-1"
