"""The transport over InvokeEndpoint; botocore's Stubber checks requests by AWS's model, a server spoils answers."""

from __future__ import annotations

import io
import json
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from botocore.response import StreamingBody
from botocore.stub import ANY, Stubber

from tests.support.faulty_proxy import CutError, Incoming, Outgoing, Reply, Way, way_to
from tests.support.runtime_replies import answer_invocation
from tritonforge.errors import (
    ConnectError,
    DecodeError,
    DeploymentError,
    EncodeError,
    MissingExtraError,
    RequestError,
    ServerError,
)
from tritonforge.inference.client import Client, ModelError, RelayError
from tritonforge.inference.wire import (
    encode_raw,
    encode_request,
    encode_response,
    sagemaker_content_type,
)
from tritonforge.sagemaker.client import AsyncTransport, EndpointTransport, Session
from tritonforge.sagemaker.client.errors import RetryPolicy
from tritonforge.sagemaker.client.transport import EndpointAddress, from_url

X = np.array([[1, 2]], dtype=np.float32)


@pytest.fixture
def offline() -> Iterator[Session]:
    """A session whose clients are stubbed, or reach nothing."""
    with Session(endpoint_url="http://127.0.0.1:9", attempts=1) as session:
        yield session


@pytest.fixture
def runtime(offline: Session) -> Iterator[Stubber]:
    """A stand-in for SageMaker's runtime."""
    with Stubber(offline.client("sagemaker-runtime", attempts=1, read_timeout=70.0)) as stub:
        yield stub


@pytest.fixture
def control(offline: Session) -> Iterator[Stubber]:
    """A stand-in for SageMaker's control plane, as the transport asks it."""
    with Stubber(offline.client("sagemaker")) as stub:
        yield stub


def client_of(session: Session, **options: Any) -> Client:
    """A client of the endpoint "inception" through this session, by its address alone."""
    return Client("sagemaker://inception", session=session, **options)


def stream(body: bytes) -> StreamingBody:
    """A body as botocore gives it."""
    return StreamingBody(io.BytesIO(body), len(body))


def answer(*, binary: bool = True, **more: str) -> dict[str, Any]:
    """An answer of the model as InvokeEndpoint gives it."""
    payload = encode_response({"y": X}, model_name="m", binary=binary)
    return {"Body": stream(payload.body), "ContentType": sagemaker_content_type(payload), **more}


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("target", [None, "m.tar.gz"])
def test_an_inference_goes_as_invoke_endpoint(
    offline: Session, runtime: Stubber, target: str | None, binary: bool
) -> None:
    """Body and content type are those of the SageMaker front end; a model is the target of a multi-model endpoint."""
    request = encode_request({"x": X}, binary=binary)
    content_type = sagemaker_content_type(request)
    assert content_type == ("application/json" if not binary else f"{VENDOR}{request.header_length}")
    expected = {"EndpointName": "inception", "ContentType": content_type, "Body": request.body}
    runtime.add_response(
        "invoke_endpoint", answer(binary=binary), expected if target is None else {**expected, "TargetModel": target}
    )
    response = client_of(offline, model=target).infer({"x": X}, binary=binary)
    assert response["y"].tolist() == X.tolist()
    assert response.provenance == {}
    runtime.assert_no_pending_responses()


VENDOR = "application/vnd.sagemaker-triton.binary+json;json-header-size="


def test_a_raw_body_goes_with_a_header_of_no_bytes(offline: Session, runtime: Stubber) -> None:
    """The content type of a raw request is constant."""
    assert sagemaker_content_type(encode_raw(b"x")) == f"{VENDOR}0"
    runtime.add_response(
        "invoke_endpoint",
        answer(binary=False),
        {"EndpointName": "inception", "ContentType": f"{VENDOR}0", "Body": b"jpeg"},
    )
    assert client_of(offline).infer_raw(b"jpeg")["y"].tolist() == X.tolist()


def test_options_stand_in_the_address_by_name_and_at_a_call(offline: Session, runtime: Stubber) -> None:
    """A call's own options go before the client's, which go before the address's; the response names the variant."""
    received = {
        "InvokedProductionVariant": "blue",
        "CustomAttributes": "trace=1",
        "NewSessionId": "s1; Expires=2030",
    }
    for inference_id in ("two", "three"):
        runtime.add_response(
            "invoke_endpoint",
            answer(**received),
            {
                "EndpointName": "inception",
                "ContentType": ANY,
                "Body": ANY,
                "TargetVariant": "blue",
                "InferenceId": inference_id,
                "TargetContainerHostname": "first",
                "CustomAttributes": "trace=1",
                "SessionId": "NEW_SESSION",
            },
        )
    url = "sagemaker://inception?target_variant=blue&inference_id=one&target_container_hostname=first"
    client = Client(url, session=offline, inference_id="two", custom_attributes="trace=1", session_id="NEW_SESSION")
    assert client.infer({"x": X}).provenance == {
        "invoked_production_variant": "blue",
        "custom_attributes": "trace=1",
        "new_session_id": "s1; Expires=2030",
    }
    assert client.infer({"x": X}, options={"inference_id": "three"}).provenance["invoked_production_variant"] == "blue"
    runtime.assert_no_pending_responses()


def test_a_calls_model_goes_before_the_clients_target(offline: Session, runtime: Stubber) -> None:
    """``model=`` and ``target_model=`` are one thing."""
    for target in ("a.tar.gz", "b.tar.gz"):
        runtime.add_response(
            "invoke_endpoint",
            answer(),
            {"EndpointName": "inception", "ContentType": ANY, "Body": ANY, "TargetModel": target},
        )
    client = client_of(offline, target_model="a.tar.gz")
    client.infer({"x": X})
    client.infer({"x": X}, model="b.tar.gz")
    runtime.assert_no_pending_responses()


@pytest.mark.parametrize(
    ("url", "options", "sentence"),
    [
        ("sagemaker://", {}, "is not an address"),
        ("sagemaker://?region=x", {}, "is not an endpoint; write sagemaker://endpoint-name"),
        ("sagemaker://a?region", {}, "expected option=value pairs joined by & after the [?]"),
        ("sagemaker://a?region=x&region=y", {}, "has an option twice"),
        ("sagemaker://a?variant=x", {}, "InvokeEndpoint has no option 'variant'; it has .*'target_variant'"),
        ("sagemaker://a", {"request_ttl": 60}, "no option 'request_ttl'"),
        ("sagemaker://a", {"session": "s1"}, "a stateful session's id goes as session_id"),
        ("sagemaker://a?async=s3://bucket/p&target_model=x", {}, "InvokeEndpointAsync has no option 'target_model'"),
        ("sagemaker://a?async=s3://bucket/p&patience=long", {}, "patience: expected a number of seconds, got 'long'"),
        ("sagemaker://a?async=s3://bucket/p&clean=maybe", {}, "clean: expected true or false, got 'maybe'"),
        ("sagemaker://a?async=https://bucket/p", {}, "is not an S3 address"),
    ],
)
def test_what_an_address_cannot_say_is_an_encode_error(url: str, options: dict[str, Any], sentence: str) -> None:
    """The message names the valid form."""
    with pytest.raises(EncodeError, match=sentence):
        Client(url, **options)


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("sagemaker://a_b", r"EndpointName.*regular expression"),
        ("sagemaker://" + "a" * 64, r"EndpointName.*length less than or equal to 63"),
        ("sagemaker://a?target_variant=" + "v" * 64, r"TargetVariant.*63"),
        ("sagemaker://a?inference_id=" + "v" * 65, r"InferenceId.*64"),
        ("sagemaker://a?custom_attributes=%C3%A9", r"CustomAttributes.*ASCII"),
        ("sagemaker://a?async=s3://bucket/p&request_ttl=59", r"RequestTTLSeconds.*60"),
    ],
)
def test_what_aws_would_refuse_is_refused_before_the_call(offline: Session, url: str, sentence: str) -> None:
    """Names and lengths are held against AWS's own service model when the client is made."""
    with pytest.raises((RequestError, EncodeError), match=f"(?s){sentence}"):
        Client(url, session=offline)


def test_a_calls_options_are_checked_too(offline: Session) -> None:
    """An inference id that is too long costs no call."""
    with pytest.raises(RequestError, match=r"(?s)InferenceId.*64"):
        client_of(offline).infer({"x": X}, options={"inference_id": "i" * 65})


def test_options_are_sagemakers_alone() -> None:
    """Triton's own front ends take none: neither the client nor a call."""
    with pytest.raises(EncodeError, match="http://host takes no option 'target_variant'"):
        Client("http://host", target_variant="blue")
    with pytest.raises(
        EncodeError, match="http://host: unknown option 'inference_id'; only SageMaker endpoints have options"
    ):
        Client("http://host", front_end="sagemaker").infer({"x": X}, options={"inference_id": "1"})
    with pytest.raises(EncodeError, match="http://host: unknown option 'inference_id'"):
        Client("http://host", front_end="triton", model="m").infer_raw(b"1", options={"inference_id": "1"})
    with pytest.raises(EncodeError, match=r"grpc://127\.0\.0\.1:1: unknown option 'inference_id'"):
        Client("grpc://127.0.0.1:1", model="m").infer({"x": X}, options={"inference_id": "1"})


def test_region_profile_and_address_make_a_session(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each may stand in the address or be given by name, which counts more."""
    transport = from_url("sagemaker://a?region=us-east-2&endpoint_url=http://127.0.0.1:9", region="eu-north-1")
    assert isinstance(transport, EndpointTransport)
    assert (transport.session.region, transport.session.endpoint_url) == ("eu-north-1", "http://127.0.0.1:9")
    transport.close()
    with pytest.raises(EncodeError, match="no AWS profile 'missing'"):
        from_url("sagemaker://a?profile=missing")
    assert isinstance(from_url("sagemaker://a?async=s3://bucket/p&patience=3&clean=true"), AsyncTransport)


def test_a_session_of_yours_stays_open(offline: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client closes the connections of its own session only."""
    closed: list[int] = []
    with monkeypatch.context() as patch:
        patch.setattr(Session, "close", lambda _: closed.append(1))
        client_of(offline).close()
        assert closed == []
        Client("sagemaker://inception").close()
        assert closed == [1]


def test_a_model_error_keeps_tritons_sentence_and_status(offline: Session, runtime: Stubber) -> None:
    """SageMaker wraps the container's answer in a ModelError; the answer itself comes out, and where its log is."""
    log = "arn:aws:logs:eu-west-1:123456789012:log-group:/aws/sagemaker/Endpoints/inception"
    runtime.add_client_error(
        "invoke_endpoint",
        "ModelError",
        "Received client error (400) from primary with message ...",
        http_status_code=424,
        modeled_fields={
            "OriginalStatusCode": 400,
            "OriginalMessage": '{"error":"unexpected inference input"}',
            "LogStreamArn": log,
        },
    )
    with pytest.raises(ModelError) as caught:
        client_of(offline).infer({"x": X})
    assert (caught.value.status, caught.value.message, caught.value.log) == (400, "unexpected inference input", log)
    assert str(caught.value) == f"the server answered 400: unexpected inference input (its log: {log})"


def test_a_model_that_gives_no_answer_is_a_model_error(offline: Session, runtime: Stubber) -> None:
    """The container's status is 0 then; SageMaker's own is used."""
    sentence = "Your invocation timed out while waiting for a response from container primary."
    runtime.add_client_error(
        "invoke_endpoint",
        "ModelError",
        "Received server error (0) from primary",
        http_status_code=424,
        modeled_fields={"OriginalStatusCode": 0, "OriginalMessage": sentence},
    )
    with pytest.raises(ModelError, match=f"answered 424: {sentence}"):
        client_of(offline).infer({"x": X})


RELAYED = [
    (
        "ValidationError",
        400,
        "Endpoint inception of account 123456789012 not found.",
        r"check the name, the region \(eu",
    ),
    ("ValidationError", 400, "Endpoint does not support this inference type.", r"needs --async s3://bucket/prefix"),
    ("ServiceUnavailable", 503, "busy", "the inference may have run, so it was not sent again"),
    ("InternalFailure", 500, "oops", "the inference may have run, so it was not sent again"),
    ("AccessDeniedException", 403, "no", "the caller needs the permission sagemaker:InvokeEndpoint"),
    ("ExpiredTokenException", 403, "The security token included in the request is expired", "sign in again"),
]


@pytest.mark.parametrize(("code", "status", "message", "advice"), RELAYED)
def test_sagemakers_own_errors_say_what_to_do(
    offline: Session, runtime: Stubber, code: str, status: int, message: str, advice: str
) -> None:
    """They are not responses of the model, keep their code, and are not sent again."""
    runtime.add_client_error("invoke_endpoint", code, message, http_status_code=status)
    with pytest.raises(RelayError, match=advice) as caught:
        client_of(offline).infer({"x": X})
    assert (caught.value.status, caught.value.code) == (status, code)
    assert str(caught.value).startswith(f"the server answered {status}: {code}: {message.rstrip('.')}")


@pytest.mark.parametrize("code", ["ThrottlingException", "ModelNotReadyException"])
def test_what_did_not_run_is_sent_again(offline: Session, runtime: Stubber, code: str) -> None:
    """SageMaker says that the model did not see it: the pauses grow, and the last refusal is the error."""
    slept: list[float] = []
    policy = RetryPolicy((1, 2), jitter=0.5)
    transport = EndpointTransport("inception", session=offline, retries=policy, sleep=slept.append)
    for _ in range(2):
        runtime.add_client_error("invoke_endpoint", code, "wait", http_status_code=429)
    runtime.add_response("invoke_endpoint", answer())
    assert Client("x", transport=transport).infer({"x": X})["y"].tolist() == X.tolist()
    assert [0.5 <= slept[0] <= 1, 1 <= slept[1] <= 2] == [True, True]
    for _ in range(3):
        runtime.add_client_error("invoke_endpoint", code, "wait", http_status_code=429)
    with pytest.raises(RelayError, match=f"{code}: wait; 3 attempts were made; .*ask again later"):
        Client("x", transport=transport).infer({"x": X})
    assert len(slept) == 4
    runtime.assert_no_pending_responses()


def test_a_429_of_the_model_is_not_sent_again(offline: Session, runtime: Stubber) -> None:
    """A container's own refusal comes as a ModelError, whatever its status."""
    runtime.add_client_error(
        "invoke_endpoint",
        "ModelError",
        "Received client error (429)",
        http_status_code=424,
        modeled_fields={"OriginalStatusCode": 429, "OriginalMessage": "ThrottlingException"},
    )
    with pytest.raises(ModelError, match="429"):
        client_of(offline).infer({"x": X})


def test_a_version_is_an_encode_error(offline: Session) -> None:
    """An endpoint serves one."""
    with pytest.raises(EncodeError, match="leave model_version out"):
        client_of(offline).infer({"x": X}, model_version="1")


MB = 1 << 20


def described(*variants: tuple[str, bool]) -> dict[str, Any]:
    """An endpoint as DescribeEndpoint returns it: its variants, and whether they are serverless."""
    return {
        "EndpointName": "inception",
        "EndpointArn": "arn:aws:sagemaker:eu-west-1:123456789012:endpoint/inception",
        "EndpointStatus": "InService",
        "CreationTime": 0,
        "LastModifiedTime": 0,
        **({"ProductionVariants": [variant(*arguments) for arguments in variants]} if variants else {}),
    }


def variant(name: str, serverless: bool) -> dict[str, Any]:
    """A variant as DescribeEndpoint returns it."""
    received: dict[str, Any] = {"VariantName": name}
    return (
        {**received, "CurrentServerlessConfig": {"MemorySizeInMB": 2048, "MaxConcurrency": 1}}
        if serverless
        else received
    )


def test_25_megabytes_are_the_limit_before_the_call(offline: Session, runtime: Stubber) -> None:
    """One byte more is refused here, with the asynchronous way named; the limit itself passes."""
    offline.client("sagemaker", attempts=1, read_timeout=10.0).close()
    runtime.add_response("invoke_endpoint", answer())
    client = client_of(offline)
    with pytest.raises(
        EncodeError, match=r"has 26,214,401 bytes and a real-time endpoint takes 25 MB \(26,214,400 byt"
    ):
        client.infer_raw(bytes(25 * MB + 1))
    with pytest.raises(EncodeError, match=r"send it to an asynchronous endpoint, which takes 1 GB \(--async s3://"):
        client.infer_raw(bytes(25 * MB + 1))
    client.infer_raw(bytes(25 * MB))
    runtime.assert_no_pending_responses()


@pytest.mark.parametrize(
    ("variants", "target", "refused"),
    [
        ([("a", True)], None, True),
        ([("a", True)], "a", True),
        ([("a", False)], None, False),
        ([("a", True), ("b", False)], "a", True),
        ([("a", True), ("b", False)], "b", False),
        ([("a", True), ("b", False)], None, False),
        ([], None, False),
        (None, None, False),
    ],
)
def test_a_serverless_endpoint_takes_4_megabytes(
    offline: Session, runtime: Stubber, variants: list[tuple[str, bool]] | None, target: str | None, refused: bool
) -> None:
    """Its kind is asked once, and for bodies only where it matters; without permission it is not judged."""
    with Stubber(offline.client("sagemaker", attempts=1, read_timeout=10.0)) as control:
        if variants is None:
            control.add_client_error("describe_endpoint", "AccessDeniedException", http_status_code=400)
        else:
            control.add_response("describe_endpoint", described(*variants), {"EndpointName": "inception"})
        client = client_of(offline, target_variant=target)
        runtime.add_response("invoke_endpoint", answer())
        client.infer_raw(bytes(4 * MB))
        for _ in range(2):
            if refused:
                with pytest.raises(
                    EncodeError, match=r"4,194,305 bytes and a serverless endpoint takes 4 MB \(4,194,304"
                ):
                    client.infer_raw(bytes(4 * MB + 1))
            else:
                runtime.add_response("invoke_endpoint", answer())
                client.infer_raw(bytes(4 * MB + 1))
        control.assert_no_pending_responses()
        runtime.assert_no_pending_responses()


@pytest.mark.parametrize(("status", "ready"), [("InService", True), ("Creating", False), ("Failed", False)])
def test_ready_is_in_service(offline: Session, control: Stubber, status: str, ready: bool) -> None:
    """The endpoint is ready when DescribeEndpoint says InService."""
    control.add_response("describe_endpoint", {**described(), "EndpointStatus": status}, {"EndpointName": "inception"})
    assert client_of(offline).ready() is ready


def test_an_endpoint_that_cannot_be_described_is_an_error(offline: Session, control: Stubber) -> None:
    """Readiness is asked of AWS, which may refuse."""
    control.add_client_error("describe_endpoint", "ValidationException", 'Could not find endpoint "inception".')
    with pytest.raises(DeploymentError, match=r'DescribeEndpoint of inception: .*Could not find endpoint "inception"'):
        client_of(offline).ready()


@pytest.fixture
def served(moto: str) -> Iterator[Way]:
    """A runtime over HTTP."""
    with way_to(moto) as way:
        way.fault = answer_invocation
        yield way


@pytest.fixture
def asked(served: Way) -> Iterator[Client]:
    """A client of it, made by its address alone."""
    with Client(f"sagemaker://inception?endpoint_url={served.url}", timeout=2) as client:
        yield client


def test_metadata_are_learned_from_an_endpoint_as_from_the_front_end(asked: Client, served: Way) -> None:
    """Triton's refusals come through SageMaker's errors word for word; no model runs for it."""
    received = asked.metadata()
    assert [(tensor.name, tensor.datatype, tensor.shape) for tensor in received.inputs] == [("x", "FP32", (-1, 2))]
    assert served.calls("POST", "/endpoints/inception/invocations") == 3
    response = asked.infer({"x": X})
    assert response["y"].tolist() == [[2, 4]]
    assert response.provenance == {"invoked_production_variant": "AllTraffic"}


@pytest.mark.parametrize(
    ("status", "code"), [(400, "ValidationError"), (403, "AccessDeniedException"), (503, "ServiceUnavailable")]
)
def test_sagemakers_refusal_is_not_taken_for_the_models(asked: Client, served: Way, status: int, code: str) -> None:
    """An endpoint that is not there has no inputs to learn: its error is the error, after one question."""
    text = json.dumps({"message": "Endpoint inception of account 123456789012 not found."}).encode()
    served.fault = lambda _: (status, {"Content-Type": "application/json", "x-amzn-ErrorType": code}, text)
    with pytest.raises(RelayError, match=code):
        asked.metadata()
    assert len(served.seen) == 1


FAULTS: dict[str, tuple[Callable[[Incoming], Reply | None], type[Exception], str]] = {}


def fault(kind: type[Exception], sentence: str) -> Callable[[Callable[[Incoming], Reply]], Callable[[Incoming], Reply]]:
    """Put a fault on the list, with the error that it is to become."""

    def put(function: Callable[[Incoming], Reply]) -> Callable[[Incoming], Reply]:
        FAULTS[function.__name__] = (function, kind, sentence)
        return function

    return put


@fault(ConnectError, "the connection was cut.*; the inference may have run, so it was not sent again")
def reset(request: Incoming) -> Reply:
    """The connection ends without an answer."""
    raise CutError


@fault(RelayError, "answered 500: .*the inference may have run|answered 500")
def failure(request: Incoming) -> Reply:
    """SageMaker fails."""
    return 500, {"x-amzn-ErrorType": "InternalFailure", "Content-Type": "application/json"}, b'{"message":"oops"}'


@fault(ServerError, "answered 502")
def gateway(request: Incoming) -> Reply:
    """A proxy before SageMaker fails, in its own words."""
    return 502, {"Content-Type": "text/html"}, b"<html><body>Bad Gateway</body></html>"


@fault(ConnectError, "the connection was cut.*may have run")
def truncated(request: Incoming) -> Reply:
    """The answer ends before its length."""
    return answer_invocation(request)


@fault(DecodeError, "not JSON")
def garbage(request: Incoming) -> Reply:
    """The answer is none of Triton's."""
    return 200, {"Content-Type": "application/json"}, b"<html>"


@fault(DecodeError, r"in range \(0, 2\), got: 900")
def wrong_size(request: Incoming) -> Reply:
    """The header is longer than the answer."""
    return 200, {"Content-Type": f"{VENDOR}900"}, b"{}"


def shortened(request: Incoming, outgoing: Outgoing) -> None:
    """The connection ends within the body."""
    outgoing.cut_after = 10


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_one_error_and_no_second_inference(asked: Client, served: Way, name: str) -> None:
    """Whatever goes wrong on the way, the inference is sent once."""
    served.fault, kind, sentence = FAULTS[name]
    if name == "truncated":
        served.spoil = shortened
    with pytest.raises(kind, match=sentence):
        asked.infer({"x": X})
    assert len(served.seen) == 1


def test_an_endpoint_that_is_silent_is_a_connect_error(served: Way) -> None:
    """The time limit ends the wait; the inference is not sent again."""
    waiting = threading.Event()

    def silent(request: Incoming) -> None:
        waiting.wait(5)

    served.fault = silent
    with (
        Client(f"sagemaker://inception?endpoint_url={served.url}", timeout=0.2) as client,
        pytest.raises(
            ConnectError, match="did not respond in time; the inference may have run, so it was not sent again"
        ),
    ):
        client.infer({"x": X})
    waiting.set()
    assert len(served.seen) == 1


def test_throttling_over_http_is_sent_again(served: Way) -> None:
    """The code is in a header there; the model's own errors look alike and are not."""
    replies = iter([(429, "ModelNotReadyException"), (400, "ThrottlingException")])

    def busy(request: Incoming) -> Reply:
        for status, code in replies:
            return status, {"x-amzn-ErrorType": code, "Content-Type": "application/json"}, b'{"message":"wait"}'
        return answer_invocation(request)

    served.fault = busy
    with Session(endpoint_url=served.url) as session:
        transport = EndpointTransport("inception", session=session, sleep=lambda _: None)
        assert Client("x", transport=transport).infer({"x": X})["y"].tolist() == [[2, 4]]
    assert len(served.seen) == 3


def test_an_endpoint_that_cannot_be_reached_is_a_connect_error(offline: Session) -> None:
    """A refused connection differs from a response, and does not mention an inference."""
    with pytest.raises(ConnectError, match=r"InvokeEndpoint of inception: no connection to http://127") as caught:
        client_of(offline).infer({"x": X})
    assert "may have run" not in str(caught.value)


def test_without_credentials_nothing_is_sent(asked: Client, served: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sentence says how to sign in."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with (
        Client(f"sagemaker://inception?endpoint_url={served.url}") as client,
        pytest.raises(DeploymentError, match="there are no AWS credentials; set AWS_PROFILE"),
    ):
        client.infer({"x": X})
    assert not served.seen


def test_without_boto3_the_error_is_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """SageMaker needs an extra, and says how to get it."""
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(MissingExtraError, match=r"pip install .*\[aws\]'"):
        Client("sagemaker://inception")


def test_the_time_limit_is_awss_advice() -> None:
    """A model may take 60 s, so that the wait is 70 s unless it is set otherwise."""
    transport = from_url("sagemaker://inception")
    assert isinstance(transport, EndpointTransport)
    runtime = transport.session.client("sagemaker-runtime", attempts=1, read_timeout=70.0)
    assert len(transport.session._clients) == 1
    assert runtime.meta.config.read_timeout == 70.0
    assert runtime.meta.config.retries["total_max_attempts"] == 1
    endless = from_url("sagemaker://inception", timeout=None)
    assert isinstance(endless, EndpointTransport)
    assert endless.session.client("sagemaker-runtime", attempts=1, read_timeout=86_400.0) is endless._runtime


def test_an_address_is_a_value() -> None:
    """Its content is decoded once."""
    found = EndpointAddress.parse("sagemaker://inception/?custom_attributes=a%3Db%26c&region=eu-west-1")
    assert found == EndpointAddress("inception", {"custom_attributes": "a=b&c", "region": "eu-west-1"})
