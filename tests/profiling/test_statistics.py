"""A server's statistics as values. The documents are those of a real server, shortened."""

import json

import pytest

from tritonforge.errors import DecodeError
from tritonforge.profiling.statistics import (
    Duration,
    ModelStatistics,
    merge_versions,
    parse_statistics,
    subtract_statistics,
)


def duration(count: int, milliseconds: float) -> dict[str, int]:
    return {"count": count, "ns": int(milliseconds * 1e6)}


def entry(name: str, requests: int, *, version: str = "1", batch_size: int = 1) -> dict[str, object]:
    """The document of a model whose requests took 1 ms in the queue and 10 ms in the backend."""
    executions = requests // batch_size
    return {
        "name": name, "version": version, "last_inference": 1795994850615, "inference_count": requests,
        "execution_count": executions,
        "inference_stats": {
            "success": duration(requests, 11 * requests), "fail": duration(0, 0),
            "queue": duration(requests, requests), "compute_input": duration(requests, 0),
            "compute_infer": duration(requests, 10 * requests), "compute_output": duration(requests, 0),
            "cache_hit": duration(0, 0), "cache_miss": duration(0, 0),
        },
        "response_stats": {}, "memory_usage": [],
        "batch_stats": [{
            "batch_size": batch_size, "compute_input": duration(executions, 0),
            "compute_infer": duration(executions, 10 * executions), "compute_output": duration(executions, 0),
        }],
    }  # fmt: skip


def test_a_document_of_a_server_is_parsed() -> None:
    model = parse_statistics(json.dumps({"model_stats": [entry("a", 60, batch_size=2)]}))["a", "1"]
    assert (model.requests, model.inferences, model.executions) == (60, 60, 30)
    assert (model.queue.mean, model.compute_infer.mean, model.success.mean) == (1.0, 10.0, 11.0)
    assert (model.mean_batch_size, model.busy) == (2.0, 300.0)


def test_numbers_may_be_texts_and_zeros_missing_as_grpc_writes_them() -> None:
    text = '{"model_stats": [{"name": "a", "version": "1", "inference_stats": {"success": {"count": "2", "ns": "6"}}}]}'
    model = parse_statistics(text)["a", "1"]
    assert (model.success, model.queue, model.batches) == (Duration(2, 6), Duration(), ())
    assert parse_statistics("{}") == {}


@pytest.mark.parametrize("text", ["", "[1]", '{"model_stats": 1}', '{"model_stats": [{}]}', "<html>", "[" * 9999])
def test_what_is_not_a_document_of_statistics_is_an_error(text: str) -> None:
    with pytest.raises(DecodeError, match="expected statistics of models"):
        parse_statistics(text)


def test_the_difference_of_two_readings_has_what_happened_between_them() -> None:
    before = parse_statistics(json.dumps({"model_stats": [entry("a", 40)]}))
    after = parse_statistics(json.dumps({"model_stats": [entry("a", 100), entry("b", 3)]}))
    difference = subtract_statistics(after, before)
    assert difference["a", "1"].success == Duration(60, 660_000_000)
    assert [(batch.batch_size, batch.executions) for batch in difference["a", "1"].batches] == [(1, 60)]
    assert difference["b", "1"].requests == 3
    assert subtract_statistics(after, after)["a", "1"].batches == ()


def test_a_model_that_was_loaded_again_meanwhile_is_an_error() -> None:
    before = parse_statistics(json.dumps({"model_stats": [entry("a", 40)]}))
    after = parse_statistics(json.dumps({"model_stats": [entry("a", 2)]}))
    with pytest.raises(DecodeError, match="a: its statistics fell from 40 to 2 requests"):
        subtract_statistics(after, before)


def test_versions_of_a_model_are_merged() -> None:
    document = {"model_stats": [entry("a", 40), entry("a", 20, version="2", batch_size=4), entry("b", 1)]}
    merged = merge_versions(parse_statistics(json.dumps(document)))
    assert merged["a"].requests == 60
    assert [(batch.batch_size, batch.executions) for batch in merged["a"].batches] == [(1, 40), (4, 5)]
    assert (merged["a"].version, merged["b"].version) == ("", "1")


def test_a_model_without_requests_has_means_of_zero() -> None:
    model = ModelStatistics("a")
    assert (model.queue.mean, model.mean_batch_size, model.busy) == (0.0, 0.0, 0)
