"""The whole emulator with boto3 on real servers: asynchronous inference, captured data, several models, a pipeline."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from tests.support.accounts import Account, open_account
from tests.support.hosted_models import DOUBLE, archive, below, model, until
from tritonforge.emulator.hosting import Host, Limits

pytestmark = pytest.mark.server

IMAGE = "763104351884.dkr.ecr.us-east-1.amazonaws.com/sagemaker-tritonserver:24.09-py3"
BODY = b'{"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [2.5]}]}'


#: The `serve` of an image of one's own: the number of a text, as an inference request of Triton's.
TO_REQUEST = """#!/usr/bin/env python3
import http.server, json

class Handler(http.server.BaseHTTPRequestHandler):
    def answer(self, body):
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def do_GET(self):
        self.answer(b"")
    def do_POST(self):
        number = float(self.rfile.read(int(self.headers["Content-Length"])))
        tensor = {"name": "x", "shape": [1], "datatype": "FP32", "data": [number]}
        self.answer(json.dumps({"inputs": [tensor]}).encode())

http.server.ThreadingHTTPServer(("0.0.0.0", 8080), Handler).serve_forever()
"""


class HostingAccount(Account):
    """Short ways to endpoints in service."""

    def initial_objects(self) -> Mapping[str, bytes]:
        """Return a model that doubles its input."""
        return {"models/double.tar.gz": archive(below("double", model()))}

    def serve(self, name: str, data: str, *, mode: str = "SingleModel", **settings: Any) -> None:
        """An endpoint in service."""
        container = {"Image": IMAGE, "ModelDataUrl": data, "Mode": mode}
        self.serve_model(name, {"PrimaryContainer": container}, **settings)

    def serve_model(self, name: str, model: Mapping[str, Any], **settings: Any) -> None:
        """As `serve`, for any model."""
        self.sagemaker.create_model(ModelName=name, ExecutionRoleArn=self.emulator.role_arn, **model)
        variant = {"VariantName": "v", "ModelName": name, "InstanceType": "ml.m5.xlarge", "InitialInstanceCount": 1}
        self.sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant], **settings)
        self.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)

    def in_service(self, *names: str) -> None:
        """Wait for endpoints."""
        for name in names:
            self.sagemaker.get_waiter("endpoint_in_service").wait(
                EndpointName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 60}
            )


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostingAccount]:
    """An account with four endpoints on the same archive: captured, asynchronous, multi-model, a pipeline."""
    program = tmp_path_factory.mktemp("program")
    (program / "serve").write_text(TO_REQUEST)
    (program / "serve").chmod(0o755)
    host, images = Host(Limits(models=1)), {"to-request:1": program}
    with open_account(HostingAccount, speed=1000.0, containers=host, images=images) as made:
        bucket = f"s3://{made.bucket}"
        topic = made.client("sns").create_topic(Name="done")["TopicArn"]
        capture = {
            "InitialSamplingPercentage": 100,
            "DestinationS3Uri": f"{bucket}/captured",
            "CaptureOptions": [{"CaptureMode": "Input"}, {"CaptureMode": "Output"}],
            "CaptureContentTypeHeader": {"JsonContentTypes": ["application/json"]},
        }
        output = {"S3OutputPath": f"{bucket}/out", "NotificationConfig": {"SuccessTopic": topic}}
        archived = f"{bucket}/models/double.tar.gz"
        made.serve("captured", archived, DataCaptureConfig=capture)
        made.serve("queued", archived, AsyncInferenceConfig={"OutputConfig": output})
        made.serve("several", f"{bucket}/models/", mode="MultiModel")
        triton = {"Image": IMAGE, "ModelDataUrl": archived, "ContainerHostname": "triton"}
        made.serve_model("pipeline", {"Containers": [{"Image": "to-request:1", "ContainerHostname": "text"}, triton]})
        made.in_service("captured", "queued", "several", "pipeline")
        yield made


def answer(account: HostingAccount, name: str, **arguments: str) -> Any:
    """The output of one inference."""
    found = account.runtime.invoke_endpoint(EndpointName=name, Body=BODY, ContentType="application/json", **arguments)
    return json.loads(found["Body"].read())["outputs"][0]["data"]


def test_an_inference_is_captured(account: HostingAccount) -> None:
    """Deleting the endpoint writes what waits; the line has both sides."""
    assert answer(account, "captured", InferenceId="mine") == [5.0]
    account.sagemaker.delete_endpoint(EndpointName="captured")

    def keys() -> list[str]:
        found = account.s3.list_objects_v2(Bucket=account.emulator.bucket, Prefix="captured/captured/v/")
        return [entry["Key"] for entry in found.get("Contents", ())]

    assert until(lambda: len(keys()) == 1)
    text = account.s3.get_object(Bucket=account.emulator.bucket, Key=keys()[0])["Body"].read()
    (record,) = map(json.loads, text.splitlines())
    assert record["captureData"]["endpointInput"]["data"] == BODY.decode()
    assert json.loads(record["captureData"]["endpointOutput"]["data"])["outputs"][0]["data"] == [5.0]
    assert record["eventMetadata"]["inferenceId"] == "mine"


def test_an_asynchronous_inference_ends_in_a_queue(account: HostingAccount) -> None:
    """Input from S3, output to S3, and the message through SNS to SQS."""
    topic = account.client("sns").list_topics()["Topics"][0]["TopicArn"]
    queue = account.client("sqs").create_queue(QueueName="results")["QueueUrl"]
    attributes = account.client("sqs").get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]
    account.client("sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=attributes["QueueArn"])
    account.s3.put_object(Bucket=account.emulator.bucket, Key="in.json", Body=BODY)
    place = f"s3://{account.emulator.bucket}/in.json"
    found = account.runtime.invoke_endpoint_async(
        EndpointName="queued", InputLocation=place, ContentType="application/json"
    )
    received: list[dict[str, Any]] = []

    def arrived() -> bool:
        received.extend(account.client("sqs").receive_message(QueueUrl=queue).get("Messages", ()))
        return bool(received)

    assert until(arrived)
    message = json.loads(json.loads(received[0]["Body"])["Message"])
    assert (message["invocationStatus"], message["inferenceId"]) == ("Completed", found["InferenceId"])
    key = found["OutputLocation"].removeprefix(f"s3://{account.emulator.bucket}/")
    written = account.s3.get_object(Bucket=account.emulator.bucket, Key=key)
    assert written["ContentType"] == "application/json"
    assert json.loads(written["Body"].read())["outputs"][0]["data"] == [5.0]


def test_several_models_are_behind_one_endpoint(account: HostingAccount) -> None:
    """Archives below the prefix by their names, those that come later too."""
    assert answer(account, "several", TargetModel="double.tar.gz") == [5.0]
    client = account.runtime
    refused: Callable[..., Any] = client.invoke_endpoint
    with pytest.raises(client.exceptions.ClientError, match=r"Failed to download model data\(bucket: "):
        refused(EndpointName="several", Body=BODY, TargetModel="later.tar.gz")
    content = archive(below("later", model()))
    account.s3.put_object(Bucket=account.emulator.bucket, Key="models/later.tar.gz", Body=content)
    assert answer(account, "several", TargetModel="later.tar.gz") == [5.0]


def test_a_pipeline_answers_with_what_triton_makes_of_the_first_container(account: HostingAccount) -> None:
    """A container of one's own in front of a Triton; an error names the container that it came from."""
    client = account.runtime
    response = client.invoke_endpoint(EndpointName="pipeline", Body=b"2.5", ContentType="text/plain")
    assert json.loads(response["Body"].read())["outputs"][0]["data"] == [5.0]
    with pytest.raises(client.exceptions.ModelError, match="from text"):
        client.invoke_endpoint(EndpointName="pipeline", Body=b"two", ContentType="text/plain")


def test_inference_components_share_an_endpoint(account: HostingAccount) -> None:
    """Two components on one endpoint, each a real server on its own model."""
    content = archive(below("triple", model(DOUBLE.replace("* 2", "+ 1"))))
    account.s3.put_object(Bucket=account.emulator.bucket, Key="components/plus.tar.gz", Body=content)
    variant = {"VariantName": "all", "InstanceType": "ml.m5.xlarge", "InitialInstanceCount": 1}
    account.sagemaker.create_endpoint_config(
        EndpointConfigName="shared", ExecutionRoleArn=account.emulator.role_arn, ProductionVariants=[variant]
    )
    account.sagemaker.create_endpoint(EndpointName="shared", EndpointConfigName="shared")
    account.in_service("shared")
    for name, key in (("double", "models/double"), ("plus", "components/plus")):
        container = {"Image": IMAGE, "ArtifactUrl": f"s3://{account.emulator.bucket}/{key}.tar.gz"}
        account.sagemaker.create_inference_component(
            InferenceComponentName=name,
            EndpointName="shared",
            VariantName="all",
            Specification={"Container": container, "ComputeResourceRequirements": {"MinMemoryRequiredInMb": 128}},
        )

    def statuses() -> set[str]:
        listed = account.sagemaker.list_inference_components(EndpointNameEquals="shared")["InferenceComponents"]
        return {component["InferenceComponentStatus"] for component in listed}

    assert until(lambda: statuses() == {"InService"})
    assert answer(account, "shared", InferenceComponentName="double") == [5.0]
    assert answer(account, "shared", InferenceComponentName="plus") == [3.5]
