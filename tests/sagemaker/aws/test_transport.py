"""The transport over SageMaker's InvokeEndpoint, against botocore's Stubber, which checks requests by its own model."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from typing import Any

import boto3
import numpy as np
import pytest
from botocore.response import StreamingBody
from botocore.stub import Stubber

from tritonforge.errors import ConnectError, EncodeError, MissingExtraError, ServerError
from tritonforge.inference.client import Client
from tritonforge.inference.wire import encode_raw, encode_request, encode_response, sagemaker_content_type
from tritonforge.sagemaker.aws import EndpointTransport

X = np.array([[1, 2]], dtype=np.float32)


@pytest.fixture
def clients() -> Iterator[tuple[Any, Any]]:
    """boto3's clients of the runtime and of the control plane, which reach nothing."""
    keys = {"region_name": "eu-west-1", "aws_access_key_id": "testing", "aws_secret_access_key": "testing"}
    runtime, control = boto3.client("sagemaker-runtime", **keys), boto3.client("sagemaker", **keys)
    yield runtime, control
    runtime.close()
    control.close()


def client_of(clients: tuple[Any, Any], **options: Any) -> Client:
    """A client of the endpoint "inception" over these."""
    transport = EndpointTransport("inception", runtime=clients[0], control=clients[1])
    return Client("sagemaker://inception", transport=transport, **options)


@pytest.mark.parametrize("target", [None, "m.tar.gz"])
def test_an_inference_goes_as_invoke_endpoint(clients: tuple[Any, Any], target: str | None) -> None:
    """Body and content type are those of the SageMaker front end; a model is the target of a multi-model endpoint."""
    request, answer = encode_request({"x": X}), encode_response({"y": X}, model_name="m")
    expected = {"EndpointName": "inception", "ContentType": sagemaker_content_type(request), "Body": request.body}
    with Stubber(clients[0]) as stub:
        stub.add_response(
            "invoke_endpoint",
            {
                "Body": StreamingBody(io.BytesIO(answer.body), answer.size),
                "ContentType": sagemaker_content_type(answer),
            },
            expected if target is None else {**expected, "TargetModel": target},
        )
        assert client_of(clients, model=target).infer({"x": X})["y"].tolist() == X.tolist()
        stub.assert_no_pending_responses()


def test_a_raw_body_goes_with_a_header_of_no_bytes(clients: tuple[Any, Any]) -> None:
    """The content type of a raw request is constant."""
    answer = encode_response({"y": X}, model_name="m", binary=False)
    with Stubber(clients[0]) as stub:
        stub.add_response(
            "invoke_endpoint",
            {"Body": StreamingBody(io.BytesIO(answer.body), answer.size), "ContentType": "application/json"},
            {"EndpointName": "inception", "ContentType": sagemaker_content_type(encode_raw(b"x")), "Body": b"jpeg"},
        )
        assert client_of(clients).infer_raw(b"jpeg")["y"].tolist() == X.tolist()


def test_a_model_error_keeps_tritons_sentence_and_status(clients: tuple[Any, Any]) -> None:
    """SageMaker wraps the container's answer in a ModelError; the answer itself comes out."""
    with Stubber(clients[0]) as stub:
        stub.add_client_error(
            "invoke_endpoint",
            "ModelError",
            "Received client error (400) from primary with message ...",
            http_status_code=424,
            modeled_fields={"OriginalStatusCode": 400, "OriginalMessage": '{"error":"unexpected inference input"}'},
        )
        with pytest.raises(ServerError) as caught:
            client_of(clients).infer({"x": X})
    assert (caught.value.status, caught.value.message) == (400, "unexpected inference input")


def test_sagemakers_own_errors_keep_their_code(clients: tuple[Any, Any]) -> None:
    """An endpoint that is not there is SageMaker's error, not the model's."""
    with Stubber(clients[0]) as stub:
        stub.add_client_error(
            "invoke_endpoint", "ValidationError", "Endpoint inception not found.", http_status_code=400
        )
        with pytest.raises(ServerError, match="400: ValidationError: Endpoint inception not found"):
            client_of(clients).infer({"x": X})


@pytest.mark.parametrize(("status", "ready"), [("InService", True), ("Creating", False), ("Failed", False)])
def test_ready_is_in_service(clients: tuple[Any, Any], status: str, ready: bool) -> None:
    """The endpoint is ready when DescribeEndpoint says InService."""
    with Stubber(clients[1]) as stub:
        stub.add_response(
            "describe_endpoint",
            {
                "EndpointName": "inception",
                "EndpointArn": "arn:aws:sagemaker:eu-west-1:123456789012:endpoint/inception",
                "EndpointStatus": status,
                "CreationTime": 0,
                "LastModifiedTime": 0,
            },
            {"EndpointName": "inception"},
        )
        assert client_of(clients).ready() is ready


def test_an_endpoint_that_cannot_be_reached_is_a_connect_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A refused connection is told apart from an answer, and is not tried again."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    transport = EndpointTransport("inception", region_name="eu-west-1", endpoint_url="http://127.0.0.1:9", timeout=2)
    with Client("sagemaker://inception", transport=transport) as client:
        with pytest.raises(ConnectError, match="sagemaker://inception: Could not connect"):
            client.infer({"x": X})
        with pytest.raises(EncodeError, match="leave model_version out"):
            client.infer({"x": X}, model_version="1")


def test_no_region_is_an_encode_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """boto3's own sentence about what is missing comes through."""
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(EncodeError, match="You must specify a region"):
        EndpointTransport("inception")


def test_without_boto3_the_error_is_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """SageMaker needs an extra, and says how to get it."""
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'tritonforge\[aws\]'"):
        EndpointTransport("inception")
