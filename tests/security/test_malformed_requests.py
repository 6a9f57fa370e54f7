"""Malformed requests are answered with AWS's own errors, never with 500.

TRITONFORGE_FUZZ_REQUESTS=20000 sends more of them, TRITONFORGE_FUZZ_SEED others.
"""

from __future__ import annotations

import http.client
import json
import os
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.fakes import FakeContainers, FakeTrainer
from tests.support.malformed_requests import Malformed, generate_requests
from tritonforge.emulator import Emulator

pytestmark = pytest.mark.process

IMAGE = "763104351884.dkr.ecr.us-east-1.amazonaws.com/sagemaker-tritonserver:24.09-py3"
COUNT = int(os.environ.get("TRITONFORGE_FUZZ_REQUESTS", "1000"))
SEED = int(os.environ.get("TRITONFORGE_FUZZ_SEED", "1"))


class Wire:
    """A kept connection to an emulator, on which anything can be sent."""

    def __init__(self, emulator: Emulator, sentences: list[str]) -> None:
        self.emulator = emulator
        self.sentences = sentences
        self._connection = http.client.HTTPConnection(emulator.url.removeprefix("http://"), timeout=60)

    def ask(self, request: Malformed) -> tuple[int, bytes]:
        """Status and body; a connection that ends without an answer raises."""
        self._connection.putrequest(request.method, request.target, skip_accept_encoding=True)
        for name, value in request.headers.items():
            self._connection.putheader(name, value.encode("utf-8"))
        self._connection.putheader("Content-Length", str(len(request.body)))
        self._connection.endheaders(request.body)
        answer = self._connection.getresponse()
        return answer.status, answer.read()

    def act(self, operation: str, request: object) -> tuple[int, Any]:
        """One operation of the control plane; a string is sent as it is."""
        body = request if isinstance(request, str) else json.dumps(request)
        status, content = self.ask(Malformed("POST", "/", {"X-Amz-Target": f"SageMaker.{operation}"}, body.encode()))
        return status, json.loads(content) if content else {}

    def close(self) -> None:
        """End the connection."""
        self._connection.close()


@pytest.fixture(scope="module")
def wire() -> Iterator[Wire]:
    """An emulator with a model, a configuration, an endpoint and an object of the name "there"."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        sentences: list[str] = []
        containers, trainer = FakeContainers(), FakeTrainer()
        with Emulator(containers=containers, trainer=trainer, speed=1000, log=sentences.append) as emulator:
            made = Wire(emulator, sentences)
            assert made.ask(Malformed("PUT", f"/{emulator.bucket}/there", {}, bytes(100)))[0] == 200
            container = {"Image": IMAGE, "ModelDataUrl": f"s3://{emulator.bucket}/there"}
            variant = {"VariantName": "v", "ModelName": "there", "InitialInstanceCount": 1}
            for operation, request in (
                ("CreateModel", {"ExecutionRoleArn": emulator.role_arn, "PrimaryContainer": container}),
                ("CreateEndpointConfig", {"ProductionVariants": [{**variant, "InstanceType": "ml.m5.xlarge"}]}),
                ("CreateEndpoint", {"EndpointConfigName": "there"}),
            ):
                name = operation.removeprefix("Create") + "Name"
                assert made.act(operation, {name: "there", **request})[0] == 200
            yield made
            made.close()


def test_no_malformed_request_is_answered_with_500(wire: Wire) -> None:
    """Over all operations, the runtime and S3; 501 is for operations of AWS that the emulator lacks."""
    found = []
    for index, request in enumerate(generate_requests(SEED, COUNT, bucket=wire.emulator.bucket)):
        status, body = wire.ask(request)
        if status >= 500 and status != 501:
            found.append(f"{index}: {request.method} {request.target[:80]} {status} {body[-200:]!r}")
    assert found == []


@pytest.mark.parametrize(
    ("request_", "sentence"),
    [
        ('{"CreationTimeBefore": "yesterday"}', "CreationTimeBefore: expected a time"),
        ('{"CreationTimeAfter": 1e300}', "CreationTimeAfter: expected a time"),
        ('{"CreationTimeAfter": 1e400}', "larger than the numbers"),
        ('{"CreationTimeAfter": NaN}', "NaN is not a number of JSON"),
        ('{"MaxResults": ' + "9" * 5000 + "}", "not JSON"),
        ('{"NameContains": "\\ud800"}', "surrogates not allowed"),
        ("[" * 100_000, "nested too deeply"),
        ('{"NameContains": ' * 65 + "1" + "}" * 65, "nested more than 64 deep"),
        ('{"NameContains": ["x"]}', "NameContains: Member must be of type string"),
    ],
    ids=["text", "far future", "infinite", "NaN", "long number", "surrogate", "unclosed", "deep", "type"],
)
def test_what_cannot_be_read_is_a_serialization_exception(wire: Wire, request_: str, sentence: str) -> None:
    """With the place, or the reason."""
    status, document = wire.act("ListModels", request_)
    assert (status, document["__type"]) == (400, "SerializationException")
    assert sentence in document["message"]
    assert len(document["message"]) < 300


def test_times_are_numbers_or_iso_8601(wire: Wire) -> None:
    """As the JSON protocol's clients send them."""
    for before, expected in ((4e9, 1), (1, 0), ("2126-01-01T00:00:00Z", 1), ("1970-01-02", 0)):
        status, document = wire.act("ListEndpoints", {"CreationTimeBefore": before, "NameContains": "there"})
        assert (status, len(document["Endpoints"])) == (200, expected)


def test_what_moto_cannot_read_is_an_error_of_s3(wire: Wire) -> None:
    """Moto raises; the client learns that its request is wrong, in S3's own form."""
    bucket = wire.emulator.bucket
    for method, target, body in (
        ("GET", f"/{bucket}?versions&max-keys=x", b""),
        ("POST", f"/{bucket}?delete", b"<"),
        ("PUT", f"/{bucket}/k?uploadId=x&partNumber=x", b""),
    ):
        status, content = wire.ask(Malformed(method, target, {}, body))
        assert 400 <= status < 500
        assert b"<Code>" in content


def test_a_region_that_aws_cannot_have_is_refused(wire: Wire) -> None:
    """It comes from the client's signature, and names what is kept."""
    scope = "AWS4-HMAC-SHA256 Credential=k/20260101/../sagemaker/aws4_request"
    headers = {"X-Amz-Target": "SageMaker.ListModels", "Authorization": scope}
    status, body = wire.ask(Malformed("POST", "/", headers, b"{}"))
    assert (status, json.loads(body)["message"]) == (400, "Credential should be scoped to a valid region.")


def test_what_a_client_sends_reaches_no_terminal_as_it_is(wire: Wire) -> None:
    """The emulator's log repeats names; escapes stand for control characters and line breaks."""
    wire.act("DescribeModel", {"ModelName": "\x1b[2J\n::error::forged"})
    assert "DescribeModel 400" in wire.sentences[-1]
    assert r"\u001b[2J\u000a" in wire.sentences[-1]
    assert not {"\x1b", "\n"} & {character for sentence in wire.sentences for character in sentence}
