"""Inference components: models that share an endpoint, with AWS's statuses, answers and errors."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from botocore.exceptions import ClientError

pytestmark = pytest.mark.process

IMAGE = "763104351884.dkr.ecr.us-east-1.amazonaws.com/sagemaker-tritonserver:24.09-py3"
COMPUTE = {"NumberOfCpuCoresRequired": 1, "MinMemoryRequiredInMb": 256}


@pytest.fixture(scope="module")
def endpoint(account: Any) -> str:
    """The name of an endpoint in service whose variant names no model."""
    variant = {"VariantName": "all", "InitialInstanceCount": 1, "InstanceType": "ml.m5.xlarge"}
    account.sagemaker.create_endpoint_config(
        EndpointConfigName="shared", ExecutionRoleArn=account.emulator.role_arn, ProductionVariants=[variant]
    )
    assert account.create_endpoint("shared", "shared")["EndpointStatus"] == "InService"
    return "shared"


def create(account: Any, name: str, model: str, **changes: Any) -> None:
    """Create a component of a model."""
    request = {
        "InferenceComponentName": name,
        "EndpointName": "shared",
        "VariantName": "all",
        "Specification": {"ModelName": model, "ComputeResourceRequirements": COMPUTE},
        "RuntimeConfig": {"CopyCount": 1},
        **changes,
    }
    account.sagemaker.create_inference_component(**request)


def settle(account: Any, name: str) -> dict[str, Any]:
    """Return the component once it has stopped changing."""
    for _ in range(1000):
        component = account.sagemaker.describe_inference_component(InferenceComponentName=name)
        if component["InferenceComponentStatus"] in ("InService", "Failed"):
            return dict(component)
        time.sleep(0.01)
    raise AssertionError(f"{name} stays {component['InferenceComponentStatus']}")


def invoke(account: Any, name: str) -> dict[str, Any]:
    """Return what a component's container answers."""
    answer = account.runtime.invoke_endpoint(EndpointName="shared", InferenceComponentName=name, Body=b"{}")
    assert answer["InvokedProductionVariant"] == "all"
    return dict(json.loads(answer["Body"].read()))


def test_components_share_an_endpoint(account: Any, endpoint: str) -> None:
    """Each request reaches the component that it names; Describe and List have what AWS's have."""
    account.create_model("first-model")
    create(account, "First", "first-model", Tags=[{"Key": "team", "Value": "vision"}])
    container = {"Image": IMAGE, "ArtifactUrl": account.data, "Environment": {"A": "b"}}
    specification = {"Container": container, "ComputeResourceRequirements": COMPUTE}
    create(account, "second", "", Specification=specification, RuntimeConfig={"CopyCount": 2})
    first, second = settle(account, "First"), settle(account, "second")
    assert invoke(account, "First")["variant"] == "First"
    assert invoke(account, "second")["model"] == account.data
    assert first["InferenceComponentArn"].endswith(":inference-component/first")
    assert first["EndpointArn"].endswith(":endpoint/shared")
    assert second["RuntimeConfig"] == {"DesiredCopyCount": 2, "CurrentCopyCount": 2}
    assert second["Specification"]["Container"]["DeployedImage"]["SpecifiedImage"] == IMAGE
    assert account.sagemaker.list_tags(ResourceArn=first["InferenceComponentArn"])["Tags"][0]["Key"] == "team"
    listed = account.sagemaker.list_inference_components(EndpointNameEquals=endpoint, NameContains="sec")
    assert [component["InferenceComponentName"] for component in listed["InferenceComponents"]] == ["second"]
    described = account.sagemaker.describe_endpoint(EndpointName=endpoint)["ProductionVariants"][0]
    assert described["DeployedImages"] == []


def test_components_are_updated_scaled_and_deleted(account: Any, endpoint: str, refused: Any) -> None:
    """An update replaces the container; without copies nothing serves; a deleted component is gone."""
    account.create_model("before")
    account.create_model("after", MARK="2")
    create(account, "changing", "before")
    settle(account, "changing")
    with pytest.raises(ClientError, match="with inference components"):
        account.sagemaker.delete_endpoint(EndpointName=endpoint)
    specification = {"ModelName": "after", "ComputeResourceRequirements": COMPUTE}
    account.sagemaker.update_inference_component(InferenceComponentName="changing", Specification=specification)
    assert settle(account, "changing")["Specification"]["ModelName"] == "after"
    running = [fake for fake in account.containers.running if fake.variant.name == "changing"]
    assert [fake.variant.container.environment for fake in running] == [{"MARK": "2"}]
    account.sagemaker.update_inference_component_runtime_config(
        InferenceComponentName="changing", DesiredRuntimeConfig={"CopyCount": 0}
    )
    assert settle(account, "changing")["RuntimeConfig"]["CurrentCopyCount"] == 0
    assert refused(account.runtime.invoke_endpoint, EndpointName="shared", InferenceComponentName="changing", Body=b"")[
        1
    ].endswith("not found, or it does not serve.")
    account.sagemaker.update_inference_component_runtime_config(
        InferenceComponentName="changing", DesiredRuntimeConfig={"CopyCount": 3}
    )
    settle(account, "changing")
    assert invoke(account, "changing")["variant"] == "changing"
    account.sagemaker.delete_inference_component(InferenceComponentName="changing")
    for _ in range(1000):
        if "changing" not in str(account.sagemaker.list_inference_components()["InferenceComponents"]):
            break
        time.sleep(0.01)
    code, sentence = refused(account.sagemaker.describe_inference_component, InferenceComponentName="changing")
    assert code == "ValidationException"
    assert sentence.startswith('Could not find inference component "arn:aws:sagemaker:')


def test_failures(account: Any, endpoint: str) -> None:
    """A component that does not start is Failed; one whose update fails serves on, with the reason."""
    account.create_model("bad", FAILS="it fails")
    account.create_model("good")
    create(account, "failing", "bad")
    failed = settle(account, "failing")
    assert (failed["InferenceComponentStatus"], failed["FailureReason"]) == ("Failed", "it fails")
    create(account, "lasting", "good")
    settle(account, "lasting")
    specification = {"ModelName": "bad", "ComputeResourceRequirements": COMPUTE}
    account.sagemaker.update_inference_component(InferenceComponentName="lasting", Specification=specification)
    lasting = settle(account, "lasting")
    assert (lasting["InferenceComponentStatus"], lasting["FailureReason"]) == ("InService", "it fails")
    assert lasting["Specification"]["ModelName"] == "good"
    assert invoke(account, "lasting")["variant"] == "lasting"


def test_what_is_refused(account: Any, endpoint: str, refused: Any) -> None:
    """The sentences of AWS where they are known."""
    account.create_model("taken")
    account.create_config("plain", "taken")
    account.create_endpoint("plain", "plain")
    create(account, "once", "taken")

    def refuse(**changes: Any) -> str:
        with pytest.raises(ClientError) as caught:
            create(account, changes.pop("name", "never"), "taken", **changes)
        error = caught.value.response["Error"]
        assert error["Code"] == "ValidationException"
        return str(error["Message"])

    assert refuse(name="Once").startswith('Cannot create already existing inference component "arn:')
    assert refuse(EndpointName="absent").startswith('Could not find endpoint "arn:')
    assert refuse(EndpointName="plain", VariantName="taken").startswith("Inference Components are not supported")
    assert "has no variant other" in refuse(VariantName="other")
    assert "exactly one of ModelName and Container" in refuse(Specification={"ComputeResourceRequirements": COMPUTE})
    assert "ComputeResourceRequirements is required" in refuse(Specification={"ModelName": "taken"})
    adapter = {"BaseInferenceComponentName": "once", "Container": {"ArtifactUrl": account.data}}
    assert "does not run adapters" in refuse(Specification=adapter)
    with pytest.raises(ClientError) as caught:
        account.runtime.invoke_endpoint(EndpointName="shared", Body=b"{}")
    assert caught.value.response["Error"]["Message"].startswith("Inference Component Name header is required")
    with pytest.raises(ClientError, match="does not support inference component name header"):
        account.runtime.invoke_endpoint(EndpointName="plain", InferenceComponentName="once", Body=b"{}")
