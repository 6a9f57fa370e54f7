"""InvokeEndpointAsync: where input comes from, where results go, which topic is notified, how many run at once."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.support.hosted_models import Bucket, Client, MadeUp, live, until
from tritonforge.emulator.hosting import ContainerGoneError
from tritonforge.emulator.interfaces import AsyncInference, ContainerResponse, LiveEndpoint

Ask = Callable[..., Client]


def settings(bucket: Bucket, **changes: Any) -> AsyncInference:
    """Results and failures below the bucket, with both topics."""
    usual: dict[str, Any] = {
        "output": f"{bucket.uri}/out/",
        "failure": f"{bucket.uri}/failed",
        "success_topic": "arn:aws:sns:eu-central-1:424242424242:good",
        "error_topic": "arn:aws:sns:eu-central-1:424242424242:bad",
    }
    return AsyncInference(**{**usual, **changes})


class Notifications:
    """Notifications, as they come."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, dict[str, Any]]] = []

    def __call__(self, topic: str, message: str) -> None:
        """Take a message."""
        self.messages.append((topic.rpartition(":")[2], json.loads(message)))

    def one(self) -> tuple[str, dict[str, Any]]:
        """The only one, once it is there."""
        assert until(lambda: bool(self.messages))
        assert len(self.messages) == 1
        return self.messages[0]


def test_an_input_in_s3_becomes_an_output_in_s3(bucket: Bucket, ask: Ask) -> None:
    """202 at once with the places; the result has the container's bytes and type; the success topic is notified."""
    container = MadeUp(lambda body: ContainerResponse(200, {"content-type": "text/csv"}, body + b"!"))
    notifications = Notifications()
    client = ask(live(container, asynchronous=settings(bucket)), notify=notifications)
    given = bucket.put("in.bin", b"\0input")
    found = client.boto3.invoke_endpoint_async(
        EndpointName="e", InputLocation=given, ContentType="image/jpeg", Accept="text/csv", InvocationTimeoutSeconds=120
    )
    assert found["ResponseMetadata"]["HTTPStatusCode"] == 202
    output, failure = found["OutputLocation"], found["FailureLocation"]
    assert output.startswith(f"{bucket.uri}/out/")
    assert output.endswith(".out")
    assert failure.startswith(f"{bucket.uri}/failed/")
    assert failure.endswith("-error.out")
    topic, message = notifications.one()
    assert (bucket.objects.read(output), bucket.objects.read_content_type(output)) == (b"\0input!", "text/csv")
    assert bucket.keys("failed/") == []
    assert container.seen[0][1:] == ({"Content-Type": "image/jpeg", "Accept": "text/csv"}, 120.0)
    assert topic == "good"
    times = {message.pop("eventTime"), message.pop("receivedTime")}
    assert all(time.endswith("Z") for time in times)
    assert message == {
        "awsRegion": "eu-central-1",
        "invocationStatus": "Completed",
        "requestParameters": {
            "accept": "text/csv",
            "contentType": "image/jpeg",
            "endpointName": "e",
            "inputLocation": given,
        },
        "responseParameters": {"contentType": "text/csv", "outputLocation": output},
        "inferenceId": found["InferenceId"],
        "eventVersion": "1.0",
        "eventSource": "aws:sagemaker",
        "eventName": "InferenceResult",
    }


def test_the_caller_names_the_result(bucket: Bucket, ask: Ask) -> None:
    """Inline input, an inference id, a path and a file name of the caller's own."""
    notifications = Notifications()
    client = ask(live(MadeUp(), asynchronous=settings(bucket)), notify=notifications)
    found = client.boto3.invoke_endpoint_async(
        EndpointName="e", Body=b"{}", InferenceId="mine", S3OutputPathExtension="day/1", Filename="result.json"
    )
    assert found["InferenceId"] == "mine"
    assert found["OutputLocation"] == f"{bucket.uri}/out/day/1/result.json"
    assert notifications.one()[1]["inferenceId"] == "mine"
    assert bucket.objects.read(found["OutputLocation"]) == b'{"ok":true}'


def test_a_model_s_error_goes_to_the_failure_path(bucket: Bucket, ask: Ask) -> None:
    """The container's own words in S3, the reason in the message, nothing at the output's place."""
    error = b'{"error":"bad input"}'
    notifications = Notifications()
    client = ask(
        live(MadeUp(lambda body: ContainerResponse(400, {}, error)), asynchronous=settings(bucket)),
        notify=notifications,
    )
    found = client.boto3.invoke_endpoint_async(EndpointName="e", Body=b"{}")
    topic, message = notifications.one()
    assert (topic, message["invocationStatus"]) == ("bad", "Failed")
    assert message["failureReason"].startswith("ClientError: Received client error (400) from model.")
    assert message["responseParameters"] == {"failureLocation": found["FailureLocation"]}
    assert bucket.objects.read(found["FailureLocation"]) == error
    assert bucket.keys("out/") == []


@pytest.mark.parametrize("include", ["SUCCESS_NOTIFICATION_TOPIC", "ERROR_NOTIFICATION_TOPIC"])
def test_responses_are_in_messages_only_where_asked_for(bucket: Bucket, ask: Ask, include: str) -> None:
    """IncludeInferenceResponseIn names the topics; a response above 128 KB is left out."""
    sizes = iter([10, 128 * 1024 + 1])
    notifications = Notifications()
    container = MadeUp(lambda body: ContainerResponse(200, {}, b"x" * next(sizes)))
    client = ask(
        live(container, asynchronous=settings(bucket, include_response=frozenset({include}))), notify=notifications
    )
    client.boto3.invoke_endpoint_async(EndpointName="e", Body=b"{}")
    assert until(lambda: len(notifications.messages) == 1)
    client.boto3.invoke_endpoint_async(EndpointName="e", Body=b"{}")
    assert until(lambda: len(notifications.messages) == 2)
    bodies = [message.get("responseBody") for _, message in notifications.messages]
    if include.startswith("SUCCESS"):
        assert bodies[0] == {"message": "", "content": base64.b64encode(b"x" * 10).decode(), "encoding": "BASE64"}
    else:
        assert bodies[0] is None
    assert bodies[1] is None


def test_an_input_that_is_not_there_fails(bucket: Bucket, ask: Ask) -> None:
    """It is looked for when its turn comes, as on AWS: the call itself succeeds."""
    notifications = Notifications()
    container = MadeUp()
    client = ask(live(container, asynchronous=settings(bucket)), notify=notifications)
    client.boto3.invoke_endpoint_async(EndpointName="e", InputLocation=f"{bucket.uri}/none")
    topic, message = notifications.one()
    assert topic == "bad"
    assert f"{bucket.uri}/none" in message["failureReason"]
    assert container.seen == []


def test_an_output_that_cannot_be_written_fails(bucket: Bucket, ask: Ask) -> None:
    """That the output bucket is missing is published to the error topic."""
    notifications = Notifications()
    client = ask(live(MadeUp(), asynchronous=settings(bucket, output="s3://no-such-bucket/x")), notify=notifications)
    client.boto3.invoke_endpoint_async(EndpointName="e", Body=b"{}")
    topic, message = notifications.one()
    assert (topic, message["invocationStatus"]) == ("bad", "Failed")
    assert "no-such-bucket" in message["failureReason"]


def test_no_more_run_at_a_time_than_the_configuration_says(bucket: Bucket, ask: Ask) -> None:
    """MaxConcurrentInvocationsPerInstance; the others wait in the queue, and all are done in the end."""
    entered, leave = threading.Semaphore(0), threading.Event()
    most = [0, 0]
    lock = threading.Lock()

    def answer(body: bytes) -> ContainerResponse:
        with lock:
            most[0] += 1
            most[1] = max(most)
        entered.release()
        leave.wait(30)
        with lock:
            most[0] -= 1
        return ContainerResponse(200, {}, b"")

    notifications = Notifications()
    client = ask(live(MadeUp(answer), asynchronous=settings(bucket, concurrency=2)), notify=notifications)
    for _ in range(6):
        client.boto3.invoke_endpoint_async(EndpointName="e", Body=b"{}")
    assert entered.acquire(timeout=30)
    assert entered.acquire(timeout=30)
    assert client.runtime.count_waiting("e") == 4
    leave.set()
    assert until(lambda: len(notifications.messages) == 6)
    assert most[1] == 2
    assert len(bucket.keys("out/")) == 6


def test_a_request_that_waited_too_long_expires(bucket: Bucket, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    """RequestTTLSeconds counts from the call to the turn; the container does not see it."""
    from tritonforge.emulator import asynchronous_inference

    monkeypatch.setattr(asynchronous_inference, "_monotonic", lambda: time.monotonic() + 61)
    notifications = Notifications()
    container = MadeUp()
    client = ask(live(container, asynchronous=settings(bucket)), notify=notifications)
    client.boto3.invoke_endpoint_async(EndpointName="e", Body=b"{}", RequestTTLSeconds=60)
    topic, message = notifications.one()
    assert (topic, message["invocationStatus"]) == ("bad", "Expired")
    assert container.seen == []


@pytest.mark.slow
def test_a_container_that_is_started_again_is_waited_for(bucket: Bucket, ask: Ask) -> None:
    """The job is not lost while its container is away."""
    away = [True]

    def answer(body: bytes) -> ContainerResponse:
        if away.pop() if away else False:
            raise ContainerGoneError("away")
        return ContainerResponse(200, {}, b"back")

    notifications = Notifications()
    client = ask(live(MadeUp(answer), asynchronous=settings(bucket)), notify=notifications)
    found = client.boto3.invoke_endpoint_async(EndpointName="e", Body=b"{}")
    assert notifications.one()[0] == "good"
    assert bucket.objects.read(found["OutputLocation"]) == b"back"


def test_a_deleted_endpoint_s_jobs_are_dropped(bucket: Bucket, ask: Ask) -> None:
    """What waits comes to nothing, silently."""
    leave = threading.Event()
    container = MadeUp(
        lambda body: ContainerResponse(200, {}, b"") if leave.wait(30) else ContainerResponse(500, {}, b"")
    )
    notifications = Notifications()
    client = ask(live(container, asynchronous=settings(bucket, concurrency=1)), notify=notifications)
    for _ in range(3):
        client.boto3.invoke_endpoint_async(EndpointName="e", Body=b"{}")
    assert until(lambda: len(container.seen) == 1)
    client.runtime.discard("e")
    assert client.runtime.count_waiting("e") == 0
    leave.set()
    assert until(lambda: len(notifications.messages) == 1)
    assert len(container.seen) == 1


def refusal(call: Callable[..., Any], **arguments: Any) -> str:
    """The message of a ValidationError."""
    with pytest.raises(ClientError) as caught:
        call(EndpointName="e", **arguments)
    assert caught.value.response["Error"]["Code"] == "ValidationError"
    message: str = caught.value.response["Error"]["Message"]
    return message


def test_each_kind_of_endpoint_refuses_the_other_s_calls(bucket: Bucket, ask: Ask) -> None:
    """InvokeEndpoint is not for asynchronous endpoints, InvokeEndpointAsync only for them."""
    asynchronous = ask(live(MadeUp(), asynchronous=settings(bucket))).boto3
    assert "InvokeEndpointAsync" in refusal(asynchronous.invoke_endpoint, Body=b"{}")
    assert "not an asynchronous endpoint" in refusal(ask(live(MadeUp())).boto3.invoke_endpoint_async, Body=b"{}")


def test_inputs_are_checked_before_the_queue(bucket: Bucket, ask: Ask) -> None:
    """Exactly one input, inline at most 128 000 bytes, times within the service model's range."""
    call = ask(live(MadeUp(), asynchronous=settings(bucket))).boto3.invoke_endpoint_async
    assert "Exactly one of" in refusal(call)
    assert "Exactly one of" in refusal(call, Body=b"{}", InputLocation="s3://b/k")
    assert "128000" in refusal(call, Body=bytes(128_001))
    assert "'invocationTimeoutSeconds'" in refusal(call, Body=b"{}", InvocationTimeoutSeconds=3601)
    call(EndpointName="e", Body=bytes(128_000))


def test_the_configuration_is_read_as_it_was_given() -> None:
    """AsyncInferenceConfig's own form, whole and at its shortest."""
    config = {
        "ClientConfig": {"MaxConcurrentInvocationsPerInstance": 7},
        "OutputConfig": {
            "S3OutputPath": "s3://b/o",
            "S3FailurePath": "s3://b/f",
            "NotificationConfig": {
                "SuccessTopic": "good",
                "ErrorTopic": "bad",
                "IncludeInferenceResponseIn": ["SUCCESS_NOTIFICATION_TOPIC"],
            },
        },
    }
    assert AsyncInference.from_request(config) == AsyncInference(
        output="s3://b/o",
        failure="s3://b/f",
        success_topic="good",
        error_topic="bad",
        include_response=frozenset({"SUCCESS_NOTIFICATION_TOPIC"}),
        concurrency=7,
    )
    assert AsyncInference.from_request({"OutputConfig": {"S3OutputPath": "s3://b"}}) == AsyncInference(output="s3://b")
    assert AsyncInference.from_request(None) is None


@pytest.mark.slow
def test_an_endpoint_without_an_answer_waits_for_its_variants(bucket: Bucket, ask: Ask) -> None:
    """A queue outlives a moment in which no variant has a weight."""
    weights = [(0.0,)]
    container = MadeUp()

    def endpoint() -> LiveEndpoint:
        return live(container, weights=weights[0], asynchronous=settings(bucket))

    notifications = Notifications()
    client = ask(endpoint, notify=notifications)
    client.boto3.invoke_endpoint_async(EndpointName="e", Body=b"{}")
    weights[0] = (1.0,)
    assert notifications.one()[0] == "good"
