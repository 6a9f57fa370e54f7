"""The asynchronous transport: a queue of a few lines in front of moto's S3, through which requests and answers go."""

from __future__ import annotations

import json
import os
import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.faulty_proxy import CutError, Incoming, Reply, Way, build_refusal
from tests.support.runtime_replies import MISSING_INPUT, answer_invocation
from tritonforge.errors import ConnectError, DecodeError, EncodeError
from tritonforge.inference.client import Client, ModelError, RelayError
from tritonforge.inference.wire import decode_error, encode_request, encode_response, sagemaker_content_type
from tritonforge.sagemaker import service_model
from tritonforge.sagemaker.client import AsyncTransport, Session, Store
from tritonforge.sagemaker.client.async_transport import RAW
from tritonforge.sagemaker.client.transport import from_url

X = np.array([[1, 2]], dtype=np.float32)
LARGE = np.ones((1, 40_000), dtype=np.float32)


@dataclass
class Queue:
    """An asynchronous endpoint: it answers each request ``delay`` looks at S3 later, at once where that is 0."""

    store: Store
    model: Callable[[Incoming], Reply] = answer_invocation
    failure_path: bool = True
    answer_type: str | None = ""
    failure_text: Callable[[Reply], bytes] = lambda reply: json.dumps(
        {"error": json.loads(json.loads(reply[2])["OriginalMessage"])["error"]}
    ).encode()
    delay: int = 0
    seen: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    waiting: list[tuple[str, bytes, str]] = field(default_factory=list)

    def __call__(self, request: Incoming) -> Reply | None:
        """A fault on the way: other requests pass."""
        if not request.path.endswith("/async-invocations"):
            self.look(request)
            return None
        received = {name.lower().removeprefix("x-amzn-sagemaker-"): value for name, value in request.headers.items()}
        body = request.body
        if "inputlocation" in received:
            assert not body
            body = b"".join(self.store.get(received["inputlocation"]))
        self.seen.append((received, body))
        called = received.get("inference-id") or str(uuid.uuid4())
        output, failure = f"s3://models/out/{called}.out", f"s3://models/failed/{called}.out"
        reply = self.model(Incoming("POST", "/", {"Content-Type": received["content-type"]}, body))
        if reply[0] == 200:
            content_type = reply[1]["Content-Type"] if self.answer_type == "" else self.answer_type
            self.waiting.append((output, reply[2], content_type or "binary/octet-stream"))
        elif self.failure_path:
            self.waiting.append((failure, self.failure_text(reply), "application/json"))
        if not self.delay:
            self.look(None)
        headers = {"X-Amzn-SageMaker-OutputLocation": output, "Content-Type": "application/json"}
        if self.failure_path:
            headers["X-Amzn-SageMaker-FailureLocation"] = failure
        return 202, headers, json.dumps({"InferenceId": called}).encode()

    def look(self, request: Incoming | None) -> None:
        """Count a look at S3, and write what is due."""
        if request is not None and "/out/" not in request.path:
            return
        self.delay -= 1
        if self.delay <= 0:
            for uri, body, content_type in self.waiting:
                self.store.put(body, uri, content_type=content_type)
            self.waiting.clear()


@pytest.fixture
def queue(way: Way, bucket: str, direct: Session) -> Queue:
    """An asynchronous endpoint on the way to moto."""
    queue = Queue(Store(direct))
    way.fault = queue
    return queue


def client_of(session: Session, **options: Any) -> Client:
    """A client of the endpoint "inception", which looks at S3 without pausing."""
    transport = AsyncTransport(
        "inception", session=session, **{"prefix": "s3://models/in", "sleep": lambda _: None, **options}
    )
    return Client("sagemaker://inception", transport=transport)


def keys(queue: Queue) -> list[str]:
    """What lies in the bucket."""
    return sorted(stored.uri.removeprefix("s3://models/") for stored in queue.store.list_objects("s3://models/"))


def twice(array: Any) -> Callable[[Incoming], Reply]:
    """A model that always answers twice this array."""
    payload = encode_response({"y": array * 2}, model_name="m")
    return lambda _: (200, {"Content-Type": sagemaker_content_type(payload)}, payload.body)


def test_a_small_request_goes_inline(queue: Queue, session: Session) -> None:
    """The installed botocore takes up to 128 000 bytes so: nothing is put to S3 but the answer."""
    members = service_model.find_operation("sagemaker-runtime", "InvokeEndpointAsync").input_shape.members
    assert members["Body"].metadata["max"] == 128_000
    response = client_of(session, prefix=None, options={"inference_id": "i1"}).infer({"x": X})
    assert response["y"].tolist() == [[2, 4]]
    assert response.provenance == {"inference_id": "i1", "output_location": "s3://models/out/i1.out"}
    received, body = queue.seen[0]
    payload = encode_request({"x": X})
    assert (received["content-type"], body) == (sagemaker_content_type(payload), payload.body)
    assert keys(queue) == ["out/i1.out"]


@pytest.mark.parametrize("clean", [False, True])
def test_a_large_request_goes_by_s3(queue: Queue, session: Session, clean: bool) -> None:
    """It lies below the prefix and the endpoint's name with its type; it goes, when asked, once the answer was read."""
    queue.model = twice(LARGE)
    payload = encode_request({"x": LARGE})
    client = client_of(session, clean=clean, request_ttl=60, invocation_timeout=3600)
    assert client.infer({"x": LARGE}, options={"inference_id": "i1"})["y"][0, 0] == 2
    received, body = queue.seen[0]
    assert body == payload.body
    assert received["inputlocation"].startswith("s3://models/in/inception/")
    assert (received["requestttlseconds"], received["invocationtimeoutseconds"]) == ("60", "3600")
    found = queue.store.find(received["inputlocation"])
    if clean:
        assert found is None
    else:
        assert found is not None
        assert found.content_type == sagemaker_content_type(payload) == received["content-type"]


def test_an_older_botocore_sends_everything_by_s3(
    queue: Queue, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where AWS's model has no inline body, small requests go by S3 too; without a place for them that is an error."""
    shape = service_model.find_operation("sagemaker-runtime", "InvokeEndpointAsync").input_shape
    monkeypatch.delitem(shape.members, "Body")
    client_of(session).infer({"x": X})
    assert "inputlocation" in queue.seen[0][0]
    with pytest.raises(
        EncodeError, match=r"a body of .* bytes must be sent through S3; give its address: --async s3://"
    ):
        client_of(session, prefix=None).infer({"x": X})


def test_a_file_is_sent_without_being_read_into_memory(queue: Queue, session: Session, tmp_path: Path) -> None:
    """A file that is the model's one input goes up in parts, and its answer is collected later."""
    path = tmp_path / "scan.jpg"
    path.write_bytes(os.urandom(12 << 20))
    queue.model = twice(X)
    store = Store(session, part_size=5 << 20)
    transport = AsyncTransport("inception", prefix="s3://models/in", session=session, store=store)
    pending = transport.submit(path, content_type=RAW, options={"inference_id": "i1"})
    assert pending.source is not None
    assert queue.seen[0][1] == path.read_bytes()
    assert queue.seen[0][0]["content-type"].endswith("json-header-size=0")
    answer = transport.collect(pending)
    assert (answer.provenance["inference_id"], answer.header_length is None) == ("i1", False)
    with pytest.raises(EncodeError, match="the content_type of the file is missing"):
        transport.submit(path)
    with pytest.raises(EncodeError, match="gone: cannot read: No such file"):
        transport.submit(tmp_path / "gone", content_type=RAW)


def test_a_gigabyte_is_the_limit_before_the_call(queue: Queue, session: Session, tmp_path: Path) -> None:
    """One byte more is refused here; nothing is uploaded."""
    path = tmp_path / "huge"
    with path.open("wb") as file:
        file.truncate((1 << 30) + 1)
    transport = AsyncTransport("inception", prefix="s3://models/in", session=session)
    with pytest.raises(EncodeError, match=r"an asynchronous endpoint takes 1 GB \(1,073,741,824 bytes\); split"):
        transport.submit(path, content_type=RAW)
    assert keys(queue) == []


@pytest.mark.slow
def test_the_answer_is_waited_for(queue: Queue, session: Session) -> None:
    """S3 is looked at again, ever more seldom, until the answer is there."""
    queue.delay = 9
    slept: list[float] = []
    assert client_of(session, sleep=slept.append).infer({"x": X})["y"].tolist() == [[2, 4]]
    assert slept[0] == pytest.approx(0.1)
    assert slept == sorted(slept)
    assert len(slept) == 8
    queue.delay = 30
    client_of(session, sleep=slept.append).infer({"x": X})
    assert max(slept) == 5.0


@pytest.mark.slow
@pytest.mark.parametrize(("failure_path", "untold"), [(True, False), (False, True)])
def test_an_answer_that_does_not_come_is_a_connect_error(
    queue: Queue, session: Session, failure_path: bool, untold: bool
) -> None:
    """The time limit ends the wait; the sentence says where the answer may still come, and what cannot be received."""
    queue.delay, queue.failure_path = 10_000, failure_path
    clock = iter(range(1000))
    client = client_of(session, patience=5, clock=lambda: next(clock), options={"inference_id": "i1"})
    with pytest.raises(
        ConnectError, match=r"no response within 5 s; it may still appear at s3://models/out/i1\.out"
    ) as caught:
        client.infer({"x": X})
    assert ("has no S3FailurePath" in str(caught.value)) == untold
    assert str(caught.value).endswith("see the log /aws/sagemaker/Endpoints/inception")


@pytest.mark.parametrize("answer_type", [None, "application/json", "text/plain"])
def test_an_answer_whose_type_got_lost_delimits_itself(queue: Queue, session: Session, answer_type: str | None) -> None:
    """Without the content type the end of the JSON shows where the tensors begin."""
    queue.answer_type = answer_type
    assert client_of(session).infer({"x": X})["y"].tolist() == [[2, 4]]
    assert client_of(session).infer({"x": X}, binary=False)["y"].tolist() == [[2, 4]]
    queue.model = lambda _: (200, {"Content-Type": "text/html"}, b"<html>")
    with pytest.raises(DecodeError, match="the body is not a JSON object"):
        client_of(session).infer({"x": X})


AROUND = 'Received client error (400) from primary with message "{}". See https://console for more information.'


@pytest.mark.parametrize(
    ("text", "status"),
    [
        (lambda sentence: json.dumps({"error": sentence}), 424),
        (lambda sentence: AROUND.format(json.dumps({"error": sentence})), 400),
        (lambda sentence: json.dumps({"message": AROUND.format(json.dumps({"error": sentence}))}), 400),
        (lambda sentence: AROUND.format(sentence), 400),
    ],
    ids=["the model's own", "with SageMaker's words around", "in JSON", "no JSON"],
)
def test_a_failure_keeps_tritons_sentence(
    queue: Queue, session: Session, text: Callable[[str], str], status: int
) -> None:
    """What the model rejected is at the failure location, in one of several forms."""
    queue.failure_text = lambda reply: text(decode_error(json.loads(reply[2])["OriginalMessage"].encode())).encode()
    with pytest.raises(ModelError) as caught:
        client_of(session).infer({}, binary=False)
    assert (caught.value.message, caught.value.status) == (MISSING_INPUT, status)


@pytest.mark.parametrize(
    "content", [b'{"message":"The request expired."}', b"The request expired.", b'["The request expired."]']
)
def test_a_failure_of_sagemaker_is_not_the_models(queue: Queue, session: Session, content: bytes) -> None:
    """An expired request, for example, does not reach the model."""
    queue.failure_text = lambda _: content
    with pytest.raises(RelayError, match=r"answered 424: .*The request expired\."):
        client_of(session).infer({}, binary=False)


@pytest.mark.slow
def test_metadata_are_learned_through_s3_too(queue: Queue, session: Session) -> None:
    """The refusals lie at the failure location; each is cleaned away when asked."""
    client = client_of(session, inline=False, clean=True)
    received = client.metadata()
    assert [(tensor.name, tensor.datatype, tensor.shape) for tensor in received.inputs] == [("x", "FP32", (-1, 2))]
    assert not [key for key in keys(queue) if key.startswith("in/")]


@pytest.mark.slow
def test_who_may_not_list_waits_all_the_same(queue: Queue, session: Session, way: Way) -> None:
    """Without s3:ListBucket S3 says 403 of what is not there yet; the last message reports it."""
    queue.delay = 4

    def forbidden(request: Incoming) -> Reply | None:
        reply = queue(request)
        if reply is None and request.method == "GET" and queue.waiting:
            return build_refusal(403, "AccessDenied", "Access Denied")
        return reply

    way.fault = forbidden
    assert client_of(session).infer({"x": X})["y"].tolist() == [[2, 4]]
    queue.delay, clock = 10_000, iter(range(1000))
    with pytest.raises(ConnectError, match=r"the last request was denied: s3 GetObject of .*AccessDenied"):
        client_of(session, patience=3, clock=lambda: next(clock)).infer({"x": X})


def test_a_request_that_sagemaker_did_not_take_does_not_stay(queue: Queue, session: Session, way: Way) -> None:
    """Its body is removed from S3; where it is not known whether it was taken, it stays."""

    def absent(request: Incoming) -> Reply | None:
        if request.path.endswith("/async-invocations"):
            text = b'{"message":"Endpoint inception of account 1 not found."}'
            return 400, {"x-amzn-ErrorType": "ValidationError", "Content-Type": "application/json"}, text
        return None

    way.fault = absent
    with pytest.raises(RelayError, match="check the name, the region"):
        client_of(session, inline=False).infer({"x": X})
    assert keys(queue) == []

    def cut(request: Incoming) -> Reply | None:
        if request.path.endswith("/async-invocations"):
            raise CutError
        return None

    way.fault = cut
    with pytest.raises(ConnectError, match="may have run, so it was not sent again"):
        client_of(session, inline=False).infer({"x": X})
    assert [bool(re.fullmatch(r"in/inception/[0-9a-f-]{36}", key)) for key in keys(queue)] == [True]
    assert way.calls("POST", "async-invocations") == 2


def test_throttling_is_sent_again(queue: Queue, session: Session, way: Way) -> None:
    """A request that was refused at the door was not queued."""
    replies = iter([429, 429])

    def busy(request: Incoming) -> Reply | None:
        if request.path.endswith("/async-invocations"):
            for status in replies:
                return status, {"x-amzn-ErrorType": "ThrottlingException"}, b'{"message":"Rate exceeded"}'
        return queue(request)

    way.fault = busy
    assert client_of(session).infer({"x": X})["y"].tolist() == [[2, 4]]
    assert len(queue.seen) == 1


def test_an_address_makes_the_transport(queue: Queue, way: Way) -> None:
    """``sagemaker://name?async=s3://bucket/prefix`` is all that it takes; a model cannot be named."""
    url = f"sagemaker://inception?async=s3://models/in&endpoint_url={way.url}&patience=20&clean=1"
    with Client(url) as client:
        assert client.infer({"x": X})["y"].tolist() == [[2, 4]]
        with pytest.raises(EncodeError, match="serves one version of one model"):
            client.infer({"x": X}, model="m.tar.gz")
    transport = from_url("sagemaker://inception", asynchronous="s3://models/in", patience=20, clean=True)
    assert isinstance(transport, AsyncTransport)
    assert (transport.patience, transport.clean) == (20, True)
    transport.close()
