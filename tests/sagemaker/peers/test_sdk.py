"""AWS's sagemaker-core, and boto3's own waiters and paginators, against the emulator."""

import json
from pathlib import Path

import botocore.exceptions
import pytest

from tests.support.peers import IMAGE, Peers, Place
from tests.support.photographs import CHINA

pytestmark = pytest.mark.server


def test_sagemaker_core_makes_waits_asks_and_deletes(place: Place, peers: Peers, tmp_path: Path) -> None:
    """The SDK's resource objects work from create to wait_for_delete."""
    from PIL import Image

    picture = tmp_path / "digit.png"
    Image.open(CHINA).crop((0, 0, 64, 64)).save(picture)
    script = Path(__file__).with_name("core_steps.py")
    printed = peers.sdk_3(place.emulator, script, place.package, place.emulator.role_arn, IMAGE, str(picture))
    result = json.loads(printed[printed.index('{"names"') :])  # after what the SDK draws while it waits
    assert result["names"] == ["core-digits"]
    assert result["content_type"].startswith("application/vnd.sagemaker-triton.binary+json;json-header-size=")
    assert result["bytes"] > 40


def test_a_waiter_ends_with_the_failure_of_a_model_that_does_not_load(place: Place) -> None:
    """An endpoint whose default model is not in the package fails, and boto3's waiter says so."""
    sagemaker = place.client("sagemaker")
    container = {
        "Image": IMAGE,
        "ModelDataUrl": place.package,
        "Environment": {"SAGEMAKER_TRITON_DEFAULT_MODEL_NAME": "letters"},
    }
    sagemaker.create_model(ModelName="w", ExecutionRoleArn=place.emulator.role_arn, PrimaryContainer=container)
    variant = {"VariantName": "v", "ModelName": "w", "InstanceType": "ml.g4dn.xlarge", "InitialInstanceCount": 1}
    sagemaker.create_endpoint_config(EndpointConfigName="w", ProductionVariants=[variant])
    sagemaker.create_endpoint(EndpointName="w", EndpointConfigName="w")
    with pytest.raises(botocore.exceptions.WaiterError) as raised:
        sagemaker.get_waiter("endpoint_in_service").wait(EndpointName="w", WaiterConfig={"Delay": 1})
    described = raised.value.last_response
    assert described["EndpointStatus"] == "Failed"
    assert "SAGEMAKER_TRITON_DEFAULT_MODEL_NAME letters does not exist" in described["FailureReason"]
    sagemaker.delete_endpoint(EndpointName="w")
    sagemaker.get_waiter("endpoint_deleted").wait(EndpointName="w", WaiterConfig={"Delay": 1})


def test_a_paginator_sees_each_model_once(place: Place) -> None:
    """boto3's paginator follows NextToken to the end, in the order asked for."""
    sagemaker = place.client("sagemaker")
    names = [f"page-{index:02}" for index in range(23)]
    for name in names:
        sagemaker.create_model(
            ModelName=name,
            ExecutionRoleArn=place.emulator.role_arn,
            PrimaryContainer={"Image": IMAGE, "ModelDataUrl": place.package},
        )
    pages = sagemaker.get_paginator("list_models").paginate(
        NameContains="page-", SortBy="Name", SortOrder="Ascending", PaginationConfig={"PageSize": 5}
    )
    assert [[model["ModelName"] for model in page["Models"]] for page in pages] == [
        names[start : start + 5] for start in range(0, 23, 5)
    ]
