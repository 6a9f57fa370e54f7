"""Captured data: what a line looks like, how much is sampled, and which files it comes to in S3."""

from __future__ import annotations

import base64
import datetime as dt
import json
import re
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.hosted_models import Bucket, Client, MadeUp, live, until
from tritonforge.emulator.data_capture import CapturedExchange, write_line
from tritonforge.emulator.interfaces import Capture, ContainerResponse
from tritonforge.emulator.traffic import Sampler, VariantBalancer

BOTH = frozenset({"Input", "Output"})
TEXTS = {"csv_types": frozenset({"text/csv"}), "json_types": frozenset({"application/json"})}


def exchange(**changes: Any) -> CapturedExchange:
    """One invocation with CSV in and out."""
    usual: dict[str, Any] = {
        "event_id": "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee",
        "time": dt.datetime(2022, 2, 14, 17, 25, 49, 999_999),
        "input": b"69,0,153.7\n",
        "input_type": "text/csv",
        "output": b"0.0254181120544672",
        "output_type": "text/csv; charset=utf-8",
    }
    return CapturedExchange(**{**usual, **changes})


def test_a_line_is_the_documented_one() -> None:
    """The developer guide's example, to the letter."""
    capture = Capture(percentage=100, destination="s3://b", modes=BOTH, **TEXTS)
    assert write_line(exchange(), capture) == (
        '{"captureData":{"endpointInput":{"observedContentType":"text/csv","mode":"INPUT","data":"69,0,153.7\\n",'
        '"encoding":"CSV"},"endpointOutput":{"observedContentType":"text/csv; charset=utf-8","mode":"OUTPUT",'
        '"data":"0.0254181120544672","encoding":"CSV"}},"eventMetadata":{"eventId":'
        '"aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee","inferenceTime":"2022-02-14T17:25:49Z"},"eventVersion":"0"}\n'
    )


@pytest.mark.parametrize(
    ("body", "content_type", "types", "data", "encoding"),
    [
        (b'{"a": 1}', "application/json", TEXTS, '{"a": 1}', "JSON"),
        ("é\n".encode(), "text/csv", TEXTS, "é\n", "CSV"),
        (b'{"a": 1}', "application/json", {}, base64.b64encode(b'{"a": 1}').decode(), "BASE64"),
        (b"\xff\xd8", "image/jpeg", TEXTS, "/9g=", "BASE64"),
        (b"\xff\xd8", "application/json", TEXTS, "/9g=", "BASE64"),
        (b"", "", TEXTS, "", "BASE64"),
    ],
)
def test_a_body_is_text_only_where_its_type_is_listed(
    body: bytes, content_type: str, types: dict[str, frozenset[str]], data: str, encoding: str
) -> None:
    """CaptureContentTypeHeader says which types are CSV or JSON; everything else, and what is not text, is base 64."""
    capture = Capture(percentage=100, destination="s3://b", modes=frozenset({"Input"}), **types)
    record = json.loads(write_line(exchange(input=body, input_type=content_type), capture))
    assert set(record["captureData"]) == {"endpointInput"}
    side = record["captureData"]["endpointInput"]
    assert (side["data"], side["encoding"], side["observedContentType"]) == (data, encoding, content_type)


def test_ids_and_attributes_of_the_caller_are_kept() -> None:
    """InferenceId and CustomAttributes stand in the metadata where they were given."""
    capture = Capture(percentage=100, destination="s3://b", modes=BOTH)
    record = json.loads(write_line(exchange(inference_id="i", custom_attributes="a=1"), capture))
    assert record["eventMetadata"]["inferenceId"] == "i"
    assert record["eventMetadata"]["customAttributes"] == ["a=1"]


def test_the_configuration_is_read_as_it_was_given() -> None:
    """DataCaptureConfig's own form; InputAndOutput is both, a switched-off one is none."""
    config = {
        "InitialSamplingPercentage": 20,
        "DestinationS3Uri": "s3://b/c",
        "CaptureOptions": [{"CaptureMode": "InputAndOutput"}],
        "CaptureContentTypeHeader": {"CsvContentTypes": ["text/csv"], "JsonContentTypes": ["application/json"]},
    }
    assert Capture.from_request(config) == Capture(percentage=20, destination="s3://b/c", modes=BOTH, **TEXTS)
    assert Capture.from_request({**config, "EnableCapture": False}) is None
    assert Capture.from_request(None) is None


@given(st.integers(0, 100), st.integers(1, 500))
def test_samples_are_as_many_as_the_percentage_says(percentage: int, count: int) -> None:
    """After any number of requests the samples are the share, rounded down."""
    sampling = Sampler()
    assert sum(sampling.should_take(percentage) for _ in range(count)) == count * percentage // 100


@given(st.lists(st.integers(0, 7), min_size=1, max_size=5).filter(any), st.integers(1, 60))
def test_shares_are_never_off_by_a_request(weights: list[int], count: int) -> None:
    """At every moment each variant has its share to within one request, and weight 0 has none."""
    balance = VariantBalancer()
    taken = [0] * len(weights)
    for asked in range(1, count + 1):
        taken[balance.choose(weights)] += 1
        for got, weight in zip(taken, weights, strict=True):
            assert abs(got - asked * weight / sum(weights)) <= 1.0 + 1e-9
            assert weight or not got


def test_without_a_weight_nothing_is_chosen() -> None:
    """All weights 0 is an error of the caller's."""
    with pytest.raises(ValueError, match="no weight"):
        VariantBalancer().choose((0.0, 0.0))


def captured(bucket: Bucket) -> list[dict[str, Any]]:
    """Every record of the captured files."""
    texts = [bucket.objects.read(f"{bucket.uri}/{key}").decode() for key in bucket.keys("captured/")]
    return [json.loads(line) for text in texts for line in text.splitlines()]


def test_files_lie_by_endpoint_variant_and_hour(bucket: Bucket, ask: Callable[..., Client]) -> None:
    """A flush writes one file a variant, with a line for each sampled request; errors are not captured."""
    capture = Capture(percentage=50, destination=f"{bucket.uri}/captured", modes=BOTH, **TEXTS)
    broken = MadeUp(lambda body: ContainerResponse(400 if body == b"bad" else 200, {"content-type": "text/csv"}, b"1"))
    client = ask(live(broken, capture=capture))
    for body in (b"a", b"b", b"bad", b"c", b"d"):
        expected = pytest.raises(client.boto3.exceptions.ModelError) if body == b"bad" else nullcontext()
        with expected:
            client.boto3.invoke_endpoint(EndpointName="e", Body=body, ContentType="text/csv", InferenceId="i")
    assert bucket.keys("captured/") == []
    client.runtime.flush("other")
    assert bucket.keys("captured/") == []
    client.runtime.flush("e")
    (key,) = bucket.keys("captured/")
    assert re.fullmatch(r"captured/e/v1/\d{4}/\d\d/\d\d/\d\d/\d\d-\d\d-\d{3}-[0-9a-f-]{36}\.jsonl", key)
    assert [record["captureData"]["endpointInput"]["data"] for record in captured(bucket)] == ["b", "d"]
    client.runtime.flush()
    assert len(bucket.keys("captured/")) == 1


def test_captured_data_are_written_by_themselves_after_a_while(bucket: Bucket, ask: Callable[..., Client]) -> None:
    """No flush is needed; ``speed`` shortens the wait."""
    capture = Capture(percentage=100, destination=f"{bucket.uri}/captured", modes=BOTH)
    client = ask(live(MadeUp(), capture=capture), speed=600.0)
    client.boto3.invoke_endpoint(EndpointName="e", Body=b"a")
    assert until(lambda: len(captured(bucket)) == 1)
    client.boto3.invoke_endpoint(EndpointName="e", Body=b"a")
    assert until(lambda: len(captured(bucket)) == 2)


def test_the_end_writes_what_waits(bucket: Bucket, ask: Callable[..., Client]) -> None:
    """`discard`, for a deleted endpoint, and `close` lose nothing; a missing bucket is logged, not raised."""
    capture = Capture(percentage=100, destination=f"{bucket.uri}/captured", modes=BOTH)
    client = ask(live(MadeUp(), capture=capture))
    client.boto3.invoke_endpoint(EndpointName="e", Body=b"a")
    client.runtime.discard("e")
    assert len(captured(bucket)) == 1
    client.boto3.invoke_endpoint(EndpointName="e", Body=b"a")
    client.runtime.close()
    assert len(captured(bucket)) == 2
    sentences: list[str] = []
    lost = Capture(percentage=100, destination="s3://no-such-bucket/captured", modes=BOTH)
    client = ask(
        live(MadeUp(), capture=lost), log=lambda endpoint, sentence: sentences.append(f"{endpoint}: {sentence}")
    )
    client.boto3.invoke_endpoint(EndpointName="e", Body=b"a")
    client.runtime.flush()
    assert len(sentences) == 1
    assert "no-such-bucket" in sentences[0]
