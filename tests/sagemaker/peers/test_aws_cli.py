"""AWS's command line makes, asks, updates and deletes an endpoint of the emulator."""

import json
from typing import Any

import pytest

from tests.sagemaker.peers.conftest import IMAGE, PEERS, PHOTOGRAPH, Place

pytestmark = [pytest.mark.server, pytest.mark.framework]


@pytest.fixture(scope="module")
def digit(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A picture that the digits' ensemble takes."""
    from PIL import Image

    path = tmp_path_factory.mktemp("digit") / "digit.png"
    Image.open(PHOTOGRAPH).crop((0, 0, 64, 64)).save(path)
    return str(path)


def aws(place: Place, *arguments: str) -> Any:
    """One call of the command line; gives its JSON."""
    said = place.run(PEERS / "aws", *arguments, "--output", "json")
    return json.loads(said) if said.strip() else None


def test_the_command_line_goes_from_a_model_to_an_answer_and_back(place: Place, digit: str, tmp_path: Any) -> None:
    """create-model, create-endpoint-config, create-endpoint, wait, invoke-endpoint, list, delete."""
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
    listed = aws(place, "s3api", "list-objects-v2", "--bucket", "models")
    assert "digits.tar.gz" in [each["Key"] for each in listed["Contents"]]
    made = aws(
        place, "sagemaker", "create-model", "--model-name", "cli-digits",
        "--execution-role-arn", role, "--primary-container", json.dumps(container),
    )  # fmt: skip
    assert made["ModelArn"].endswith(":model/cli-digits")
    aws(
        place, "sagemaker", "create-endpoint-config", "--endpoint-config-name", "cli-digits",
        "--production-variants", json.dumps([variant]), "--tags", "Key=team,Value=vision",
    )  # fmt: skip
    made = aws(
        place, "sagemaker", "create-endpoint", "--endpoint-name", "cli-digits", "--endpoint-config-name", "cli-digits"
    )
    while aws(place, *describe)["EndpointStatus"] == "Creating":
        pass
    aws(place, "sagemaker", "wait", "endpoint-in-service", "--endpoint-name", "cli-digits")  # it looks every 30 s
    described = aws(place, *describe)
    assert described["EndpointStatus"] == "InService"
    assert described["EndpointArn"] == made["EndpointArn"]

    answer = tmp_path / "answer"
    told = aws(
        place, "sagemaker-runtime", "invoke-endpoint", "--endpoint-name", "cli-digits", "--body", f"fileb://{digit}",
        "--content-type", "application/vnd.sagemaker-triton.binary+json;json-header-size=0", str(answer),
    )  # fmt: skip
    assert told["InvokedProductionVariant"] == "AllTraffic"
    header = int(told["ContentType"].rpartition("=")[2])
    assert json.loads(answer.read_bytes()[:header])["model_name"] == "digits"

    tags = aws(
        place,
        "sagemaker",
        "list-tags",
        "--resource-arn",
        described["EndpointArn"].replace("endpoint/", "endpoint-config/"),
    )
    assert tags["Tags"] == [{"Key": "team", "Value": "vision"}]
    endpoints = aws(place, "sagemaker", "list-endpoints", "--name-contains", "cli-", "--max-items", "1")
    assert [each["EndpointName"] for each in endpoints["Endpoints"]] == ["cli-digits"]
    aws(place, "sagemaker", "delete-endpoint", "--endpoint-name", "cli-digits")
    while aws(place, "sagemaker", "list-endpoints", "--name-contains", "cli-")["Endpoints"]:
        pass
    aws(place, "sagemaker", "wait", "endpoint-deleted", "--endpoint-name", "cli-digits")
    aws(place, "sagemaker", "delete-endpoint-config", "--endpoint-config-name", "cli-digits")
    aws(place, "sagemaker", "delete-model", "--model-name", "cli-digits")
    assert aws(place, "sagemaker", "list-models", "--name-contains", "cli-")["Models"] == []


def test_the_command_line_shows_the_services_own_error(place: Place) -> None:
    """A missing endpoint is AWS's ValidationException, and the command line's exit code for it."""
    with pytest.raises(AssertionError, match=r"ValidationException.*Could not find endpoint"):
        aws(place, "sagemaker", "describe-endpoint", "--endpoint-name", "nobody")
