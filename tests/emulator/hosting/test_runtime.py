"""InvokeEndpoint through boto3's own client: what reaches the container, what comes back, what is refused and how."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.support.hosted_models import ACCOUNT, Client, MadeUp, live
from tritonforge.emulator.hosting import ContainerGoneError, TargetModelError
from tritonforge.emulator.interfaces import MAX_BODY, ContainerResponse, LiveEndpoint, LiveVariant, Request

Ask = Callable[..., Client]


def refusal(client: Client, **arguments: Any) -> tuple[str, int, str, dict[str, Any]]:
    """Code, status, message and the whole of the error that boto3 raises."""
    with pytest.raises(ClientError) as caught:
        client.boto3.invoke_endpoint(**{"EndpointName": "e", "Body": b"{}", **arguments})
    found = caught.value.response
    return found["Error"]["Code"], found["ResponseMetadata"]["HTTPStatusCode"], found["Error"]["Message"], found


def test_an_inference_goes_there_and_back(ask: Ask) -> None:
    """Body, content type, Accept and custom attributes reach the container, and nothing that is SageMaker's alone."""
    binary = "application/vnd.sagemaker-triton.binary+json;json-header-size=2"
    answered = {"content-type": f"{binary}0", "x-amzn-sagemaker-custom-attributes": "trace=2", "server": "x"}
    container = MadeUp(lambda body: ContainerResponse(200, answered, b"\0\xffback"))
    client = ask(live(container))
    found = client.boto3.invoke_endpoint(
        EndpointName="e",
        Body=b"{}\0\xff",
        ContentType=binary,
        Accept="text/plain",
        CustomAttributes="trace=1",
        InferenceId="i",
        TargetVariant="v1",
    )
    assert found["Body"].read() == b"\0\xffback"
    assert (found["ContentType"], found["InvokedProductionVariant"]) == (f"{binary}0", "v1")
    assert found["CustomAttributes"] == "trace=2"
    headers = {"Content-Type": binary, "Accept": "text/plain", "X-Amzn-SageMaker-Custom-Attributes": "trace=1"}
    assert container.seen == [(b"{}\0\xff", headers, 60.0)]


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [(400, "client", "CLIENT_ERROR_FROM_MODEL"), (500, "server", "INTERNAL_FAILURE_FROM_MODEL")],
)
def test_a_container_s_error_is_a_model_error(ask: Ask, status: int, kind: str, code: str) -> None:
    """424 with the container's status and its own words, and where its log is."""
    message = '{"error":"unexpected inference input"}'
    answer = refusal(ask(live(MadeUp(lambda body: ContainerResponse(status, {}, message.encode())))))
    assert answer[:2] == ("ModelError", 424)
    assert answer[2].startswith(f'Received {kind} error ({status}) from primary with message "{message}". See https://')
    assert f"in account {ACCOUNT} for more information." in answer[2]
    assert (answer[3]["OriginalStatusCode"], answer[3]["OriginalMessage"]) == (status, message)
    assert answer[3]["LogStreamArn"].endswith(":log-group:/aws/sagemaker/Endpoints/e")
    client = ask(live(MadeUp(lambda body: ContainerResponse(status, {}, b""))))
    response = client.runtime.answer(Request("POST", "/endpoints/e/invocations", {}, b"{}"))
    assert json.loads(response.body)["ErrorCode"] == code


def test_a_long_error_is_not_passed_on_whole(ask: Ask) -> None:
    """AWS says that it could not load the body; what is passed on keeps within a bound."""
    answer = refusal(ask(live(MadeUp(lambda body: ContainerResponse(500, {}, b"x" * 100_000)))))
    assert answer[2].startswith("Received server error (500) from primary and could not load the entire response body.")
    assert len(answer[3]["OriginalMessage"]) == 32 * 1024


def raising(error: Exception) -> MadeUp:
    """A container that never answers."""

    def answer(body: bytes) -> ContainerResponse:
        raise error

    return MadeUp(answer)


def test_a_container_that_takes_too_long_is_a_model_error(ask: Ask) -> None:
    """A time-out is the model's error with status 0, in AWS's words."""
    code, status, message, found = refusal(ask(live(raising(TimeoutError()))))
    assert (code, status, found["OriginalStatusCode"]) == ("ModelError", 424, 0)
    assert message.startswith(
        'Received server error (0) from primary with message "Your invocation timed out while waiting for a response '
        "from container primary."
    )


def test_a_container_that_is_away_is_unavailable_and_one_that_dies_is_a_model_error(ask: Ask) -> None:
    """503 may be sent again; a request that the model may have seen must not be."""
    client = ask(live(raising(ContainerGoneError("away"))))
    response = client.runtime.answer(Request("POST", "/endpoints/e/invocations", {}, b"{}"))
    assert (response.status, dict(response.headers)["x-amzn-ErrorType"]) == (503, "ServiceUnavailable")
    assert refusal(ask(live(raising(ContainerGoneError("died", in_flight=True)))))[:2] == ("ModelError", 424)


def test_what_does_not_exist_is_a_validation_error(ask: Ask) -> None:
    """Unknown endpoints and variants, and endpoints that do not serve yet."""
    assert refusal(ask(None))[:3] == ("ValidationError", 400, f"Endpoint e of account {ACCOUNT} not found.")
    creating = ask(LiveEndpoint(name="e", status="Creating"))
    assert refusal(creating)[2].endswith("its status is Creating.")
    code, status, message, _ = refusal(ask(live(MadeUp())), TargetVariant="other")
    assert (code, status, message) == ("ValidationError", 400, "Variant other of endpoint e not found.")


def test_parameters_are_held_against_the_service_model(ask: Ask) -> None:
    """A header that breaks its pattern or length is refused in AWS's own words before the container sees anything."""
    container = MadeUp()
    client = ask(live(container))
    message = refusal(client, TargetVariant="a_b")[2]
    assert message.startswith("1 validation error detected: Value 'a_b' at 'targetVariant' failed to satisfy")
    assert "length less than or equal to 64" in refusal(client, InferenceId="i" * 65)[2]
    assert "'endpointName'" in refusal(client, EndpointName="_e")[2]
    assert container.seen == []


def test_a_body_of_25_mb_is_taken_and_one_byte_more_is_not(ask: Ask) -> None:
    """413 without a code, as AWS; the length alone decides, the body need not be read."""
    client = ask(live(MadeUp()))
    assert client.boto3.invoke_endpoint(EndpointName="e", Body=bytes(MAX_BODY))["Body"].read() == b'{"ok":true}'
    code, status, message, _ = refusal(client, Body=bytes(MAX_BODY + 1))
    assert (code, status, message) == ("413", 413, "HTTP content length exceeded 26214400 bytes.")
    unread = Request("POST", "/endpoints/e/invocations", {}, b"", length=MAX_BODY + 1)
    assert client.runtime.answer(unread).status == 413


def test_a_serverless_body_may_have_4_mb(ask: Ask) -> None:
    """The limit of serverless variants is their own, and so is the error."""
    variant = LiveVariant(name="v", weight=1.0, container=MadeUp(), serverless=True)
    client = ask(LiveEndpoint(name="e", status="InService", variants=(variant,)))
    client.boto3.invoke_endpoint(EndpointName="e", Body=bytes(4 * 2**20))
    code, status, message, _ = refusal(client, Body=bytes(4 * 2**20 + 1))
    assert (code, status) == ("ValidationError", 400)
    assert message.endswith(" has oversize body.")


def test_requests_are_shared_by_weight(ask: Ask) -> None:
    """Of 100 requests each variant gets its share to the last one, one of weight 0 none unless it is named."""
    client = ask(live(MadeUp(), MadeUp(), MadeUp(), weights=(3, 1, 0)))
    taken = Counter(
        client.boto3.invoke_endpoint(EndpointName="e", Body=b"{}")["InvokedProductionVariant"] for _ in range(100)
    )
    assert taken == {"v1": 75, "v2": 25}
    named = client.boto3.invoke_endpoint(EndpointName="e", Body=b"{}", TargetVariant="v3")
    assert named["InvokedProductionVariant"] == "v3"
    assert refusal(ask(live(MadeUp(), weights=(0,))))[2].endswith("no variant with a weight above 0.")


def test_two_fleets_of_a_variant_share_its_requests(ask: Ask) -> None:
    """During a canary deployment both answer to the name; named, they do even with no weight left."""
    old, new = MadeUp(), MadeUp()

    def fleets(first: float, second: float) -> LiveEndpoint:
        variants = tuple(
            LiveVariant(name="v", weight=weight, container=container)
            for weight, container in ((first, old), (second, new))
        )
        return LiveEndpoint(name="e", status="Updating", variants=variants)

    client = ask(fleets(0.9, 0.1))
    for _ in range(10):
        client.boto3.invoke_endpoint(EndpointName="e", Body=b"{}", TargetVariant="v")
    assert (len(old.seen), len(new.seen)) == (9, 1)
    client = ask(fleets(0.0, 0.0))
    assert client.boto3.invoke_endpoint(EndpointName="e", Body=b"{}", TargetVariant="v")["Body"].read()


def test_new_weights_hold_from_the_next_request_on(ask: Ask) -> None:
    """The endpoint is looked up at every request."""
    weights = [(1.0, 0.0)]
    first, second = MadeUp(), MadeUp()
    client = ask(lambda: live(first, second, weights=weights[0]))
    client.boto3.invoke_endpoint(EndpointName="e", Body=b"{}")
    weights[0] = (0.0, 1.0)
    client.boto3.invoke_endpoint(EndpointName="e", Body=b"{}")
    assert (len(first.seen), len(second.seen)) == (1, 1)


def test_target_models_are_for_multi_model_endpoints(ask: Ask) -> None:
    """TargetModel is needed there, and refused elsewhere, in AWS's words."""
    several = MadeUp(multi_model=True)
    client = ask(live(several))
    client.boto3.invoke_endpoint(EndpointName="e", Body=b"{}", TargetModel="a/b.tar.gz")
    assert several.targets == ["a/b.tar.gz"]
    assert refusal(client)[2].endswith("is missing a target model header.")
    assert refusal(ask(live(MadeUp())), TargetModel="a.tar.gz")[2] == (
        "Endpoint e is not a multi-model endpoint and does not support target model header."
    )
    slow = raising(TargetModelError("it loads", status=429, code="ModelNotReadyException"))
    slow.multi_model = True
    response = ask(live(slow)).runtime.answer(
        Request("POST", "/endpoints/e/invocations", {"x-amzn-sagemaker-target-model": "a"}, b"{}")
    )
    assert (response.status, dict(response.headers)["x-amzn-ErrorType"]) == (429, "ModelNotReadyException")


@pytest.mark.parametrize(
    "argument",
    [
        {"EnableExplanations": "`true`"},
        {"TargetContainerHostname": "second"},
        {"InferenceComponentName": "component"},
    ],
)
def test_what_a_triton_endpoint_does_not_have_is_refused(ask: Ask, argument: dict[str, str]) -> None:
    """Explainers, several containers and inference components."""
    assert refusal(ask(live(MadeUp())), **argument)[:2] == ("ValidationError", 400)


@pytest.mark.parametrize("size", [0, 1, 65_536, 200_001])
def test_the_answer_of_a_container_that_does_not_stream_comes_in_parts(ask: Ask, size: int) -> None:
    """As on AWS: the parts joined are the container's answer, with its own content type; small ones are one part."""
    body = bytes(index % 251 for index in range(size))
    answered = {"content-type": "application/json", "x-amzn-sagemaker-custom-attributes": "trace=2"}
    container = MadeUp(lambda _: ContainerResponse(200, answered, body))
    found = ask(live(container)).boto3.invoke_endpoint_with_response_stream(
        EndpointName="e", Body=b"{}", ContentType="text/csv", Accept="application/jsonlines"
    )
    parts = [event["PayloadPart"]["Bytes"] for event in found["Body"]]
    assert b"".join(parts) == body
    assert len(parts) == max(1, -(-size // 65_536))
    assert (found["ContentType"], found["InvokedProductionVariant"]) == ("application/json", "v1")
    assert found["CustomAttributes"] == "trace=2"
    assert container.seen == [(b"{}", {"Content-Type": "text/csv", "Accept": "application/jsonlines"}, 60.0)]


def test_an_error_before_a_stream_is_no_stream(ask: Ask) -> None:
    """The container's error is a ModelError with its status, as without a stream."""
    refusing = MadeUp(lambda body: ContainerResponse(400, {}, b"no"))
    with pytest.raises(ClientError) as caught:
        ask(live(refusing)).boto3.invoke_endpoint_with_response_stream(EndpointName="e", Body=b"{}")
    found = caught.value.response
    assert (found["Error"]["Code"], found["ResponseMetadata"]["HTTPStatusCode"]) == ("ModelError", 424)
    assert found["OriginalStatusCode"] == 400


def test_other_paths_and_methods_are_unknown(ask: Ask) -> None:
    """The runtime has three routes, all of them POST."""
    runtime = ask(live(MadeUp())).runtime
    assert runtime.is_route("/endpoints/e/async-invocations")
    assert not runtime.is_route("/endpoints/e/invocations/x")
    assert runtime.answer(Request("GET", "/endpoints/e/invocations")).status == 404
    assert runtime.answer(Request("POST", "/endpoints/e/async-invocations-response-stream")).status == 404


def test_a_shadow_gets_copies_without_delaying_the_caller(ask: Ask) -> None:
    """The answer is the production variant's; half the weight is half the requests."""
    from tests.support.hosted_models import until

    shadow = MadeUp(lambda body: ContainerResponse(500, {}, b""))
    shadows = (LiveVariant(name="s", weight=0.5, container=shadow),)
    client = ask(live(MadeUp(), shadows=shadows))
    for _ in range(4):
        client.boto3.invoke_endpoint(EndpointName="e", Body=b"{}")
    assert until(lambda: len(shadow.seen) == 2)
