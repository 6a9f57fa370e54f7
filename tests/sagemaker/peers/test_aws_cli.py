"""AWS's command line makes, asks, updates and deletes an endpoint of the emulator."""

import json
from functools import partial
from pathlib import Path

import pytest

from tests.support.peers import IMAGE, Peers, Place
from tests.support.photographs import CHINA

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def digit(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A picture that the digits' ensemble takes."""
    from PIL import Image

    path = tmp_path_factory.mktemp("digit") / "digit.png"
    Image.open(CHINA).crop((0, 0, 64, 64)).save(path)
    return str(path)


def test_the_command_line_goes_from_a_model_to_an_answer_and_back(
    place: Place, peers: Peers, digit: str, tmp_path: Path
) -> None:
    """create-model, create-endpoint-config, create-endpoint, wait, invoke-endpoint, list, delete."""
    aws = partial(peers.aws, place.emulator)
    variant = {
        "VariantName": "AllTraffic",
        "ModelName": "cli-digits",
        "InstanceType": "ml.g4dn.xlarge",
        "InitialInstanceCount": 1,
    }
    container = {
        "Image": IMAGE,
        "ModelDataUrl": place.package,
        "Environment": {"SAGEMAKER_TRITON_DEFAULT_MODEL_NAME": "digits"},
    }
    role = place.emulator.role_arn
    describe = ("sagemaker", "describe-endpoint", "--endpoint-name", "cli-digits")
    listed = aws("s3api", "list-objects-v2", "--bucket", "models")
    assert "digits.tar.gz" in [entry["Key"] for entry in listed["Contents"]]
    made = aws(
        "sagemaker", "create-model", "--model-name", "cli-digits",
        "--execution-role-arn", role, "--primary-container", json.dumps(container),
    )  # fmt: skip
    assert made["ModelArn"].endswith(":model/cli-digits")
    aws(
        "sagemaker", "create-endpoint-config", "--endpoint-config-name", "cli-digits",
        "--production-variants", json.dumps([variant]), "--tags", "Key=team,Value=vision",
    )  # fmt: skip
    made = aws(
        "sagemaker",
        "create-endpoint",
        "--endpoint-name",
        "cli-digits",
        "--endpoint-config-name",
        "cli-digits",
    )
    waiter = place.client("sagemaker").get_waiter("endpoint_in_service")
    waiter.wait(EndpointName="cli-digits", WaiterConfig={"Delay": 1})
    # The command's own wait looks every 30 seconds.
    aws("sagemaker", "wait", "endpoint-in-service", "--endpoint-name", "cli-digits")
    described = aws(*describe)
    assert described["EndpointStatus"] == "InService"
    assert described["EndpointArn"] == made["EndpointArn"]

    answer = tmp_path / "answer"
    result = aws(
        "sagemaker-runtime", "invoke-endpoint", "--endpoint-name", "cli-digits", "--body", f"fileb://{digit}",
        "--content-type", "application/vnd.sagemaker-triton.binary+json;json-header-size=0", str(answer),
    )  # fmt: skip
    assert result["InvokedProductionVariant"] == "AllTraffic"
    header = int(result["ContentType"].rpartition("=")[2])
    assert json.loads(answer.read_bytes()[:header])["model_name"] == "digits"

    tags = aws(
        "sagemaker",
        "list-tags",
        "--resource-arn",
        described["EndpointArn"].replace("endpoint/", "endpoint-config/"),
    )
    assert tags["Tags"] == [{"Key": "team", "Value": "vision"}]
    endpoints = aws("sagemaker", "list-endpoints", "--name-contains", "cli-", "--max-items", "1")
    assert [endpoint["EndpointName"] for endpoint in endpoints["Endpoints"]] == ["cli-digits"]
    aws("sagemaker", "delete-endpoint", "--endpoint-name", "cli-digits")
    waiter = place.client("sagemaker").get_waiter("endpoint_deleted")
    waiter.wait(EndpointName="cli-digits", WaiterConfig={"Delay": 1})
    aws("sagemaker", "wait", "endpoint-deleted", "--endpoint-name", "cli-digits")
    aws("sagemaker", "delete-endpoint-config", "--endpoint-config-name", "cli-digits")
    aws("sagemaker", "delete-model", "--model-name", "cli-digits")
    assert aws("sagemaker", "list-models", "--name-contains", "cli-")["Models"] == []


def test_the_command_line_shows_the_services_own_error(place: Place, peers: Peers) -> None:
    """A missing endpoint is AWS's ValidationException, and the command line's exit code for it."""
    with pytest.raises(AssertionError, match=r"ValidationException.*Could not find endpoint"):
        peers.aws(place.emulator, "sagemaker", "describe-endpoint", "--endpoint-name", "missing")
