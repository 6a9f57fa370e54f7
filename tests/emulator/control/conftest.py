"""An emulator with stand-in containers, unmodified boto3 clients, and what a test needs to have a model in place."""

import json
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from tests.support.fakes import FakeContainers
from tritonforge.emulator import Emulator
from tritonforge.emulator.hosting import Variant
from tritonforge.sagemaker import service_model

IMAGE = "763104351884.dkr.ecr.us-east-1.amazonaws.com/sagemaker-tritonserver:24.09-py3"

#: Waits are this much shorter than configured.
SPEED = 200.0


def reason(variant: Variant) -> str | None:
    """A variant whose model has FAILS in its environment does not start, for that reason."""
    return variant.container.environment.get("FAILS")


def checked(parsed: Any, model: Any, http_response: Any, **_: Any) -> None:
    """Hold the answer, as it was sent, against the output of the service model: no member may be wrong or unknown."""
    if http_response.status_code < 300 and model.output_shape is not None:
        sent = json.loads(http_response.content or b"{}")
        found = service_model.check_shape(model.output_shape, sent)
        assert not found, f"{model.name}: {service_model.describe_violations(found)}"


class Account:
    """The emulator, its clients, and short ways to what most tests begin with."""

    def __init__(self, emulator: Emulator, containers: FakeContainers, sentences: list[str]) -> None:
        self.emulator = emulator
        self.containers = containers
        self.sentences = sentences
        self.sagemaker = self.client("sagemaker")
        self.runtime = self.client("sagemaker-runtime")
        self.s3 = self.client("s3")
        self.data = f"s3://{emulator.bucket}/models/model.tar.gz"
        self.s3.put_object(Bucket=emulator.bucket, Key="models/model.tar.gz", Body=b"an archive")

    def client(self, service: str, region: str | None = None) -> Any:
        """A boto3 client as any program makes one: everything comes from the environment."""
        made = boto3.client(service, region_name=region)
        if service == "sagemaker":
            made.meta.events.register("after-call.sagemaker", checked)
        return made

    def model(self, name: str, **environment: str) -> str:
        """Create a model."""
        container = {"Image": IMAGE, "ModelDataUrl": self.data, "Environment": environment}
        made = self.sagemaker.create_model(
            ModelName=name, ExecutionRoleArn=self.emulator.role_arn, PrimaryContainer=container
        )
        return str(made["ModelArn"])

    def config(self, name: str, *models: str, instances: int = 1, **more: Any) -> str:
        """Create a configuration with a variant for each model, named after it."""
        variants = [
            {
                "VariantName": model,
                "ModelName": model,
                "InitialInstanceCount": instances,
                "InstanceType": "ml.m5.xlarge",
            }
            for model in models
        ]
        made = self.sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=variants, **more)
        return str(made["EndpointConfigArn"])

    def endpoint(self, name: str, config: str, **more: Any) -> dict[str, Any]:
        """Create an endpoint and wait for what becomes of it."""
        self.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=config, **more)
        return self.settled(name)

    def settled(self, name: str) -> dict[str, Any]:
        """The endpoint once nothing is under way."""
        for _ in range(1000):
            found = self.sagemaker.describe_endpoint(EndpointName=name)
            if found["EndpointStatus"] in ("InService", "Failed", "UpdateRollbackFailed"):
                return dict(found)
            time.sleep(0.01)
        raise AssertionError(f"{name} stays {found['EndpointStatus']}")

    def gone(self, name: str) -> None:
        """Delete an endpoint and wait until it is not there."""
        self.sagemaker.delete_endpoint(EndpointName=name)
        for _ in range(1000):
            try:
                self.sagemaker.describe_endpoint(EndpointName=name)
            except ClientError:
                return
            time.sleep(0.01)
        raise AssertionError(f"{name} is not deleted")


@pytest.fixture(scope="module")
def account() -> Iterator[Account]:
    """One emulator for a file's tests: every test uses names of its own."""
    containers = FakeContainers(fails=reason)
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        sentences: list[str] = []
        with Emulator(containers=containers, speed=SPEED, log=sentences.append) as emulator:
            for name, value in emulator.environment.items():
                patch.setenv(name, value)
            yield Account(emulator, containers, sentences)
    assert containers.running == []


@pytest.fixture(scope="session")
def refused() -> Callable[..., tuple[str, str]]:
    """The code and the sentence of an error."""

    def refusal(call: Callable[..., Any], **arguments: Any) -> tuple[str, str]:
        with pytest.raises(ClientError) as caught:
            call(**arguments)
        error = caught.value.response["Error"]
        return error["Code"], error["Message"]

    return refusal


@pytest.fixture(scope="session")
def outputs() -> Any:
    """The service model's operations, by name."""
    return lambda name: service_model.find_operation("sagemaker", name)
