"""Which value holds: the job's, the container's, the default."""

from __future__ import annotations

from typing import Any

import pytest

from tritonforge.records import MAX_RECORD
from tritonforge.transform import ModelClientConfig, TransformInput, TransformJob, TransformOutput
from tritonforge.transform.job import build_container_environment, resolve_settings


def job(**fields: Any) -> TransformJob:
    """A job with these fields."""
    return TransformJob(input=TransformInput(uri="in"), output=TransformOutput(uri="out"), **fields)


TOLD = {"MaxConcurrentTransforms": 8, "BatchStrategy": "SINGLE_RECORD", "MaxPayloadInMB": 3}


@pytest.mark.parametrize(
    ("given", "reported", "expected"),
    [
        (job(), None, (1, "MultiRecord", 6 * 2**20)),
        (job(), TOLD, (8, "SingleRecord", 3 * 2**20)),
        (job(), {"BatchStrategy": "MultiRecord"}, (1, "MultiRecord", 6 * 2**20)),
        (job(max_concurrent_transforms=2), TOLD, (2, "SingleRecord", 3 * 2**20)),
        (job(max_concurrent_transforms=0), TOLD, (8, "SingleRecord", 3 * 2**20)),
        (job(batch_strategy="MultiRecord", max_payload_in_mb=1), TOLD, (8, "MultiRecord", 2**20)),
        (job(), {"MaxConcurrentTransforms": "many", "MaxPayloadInMB": -1}, (1, "MultiRecord", 6 * 2**20)),
    ],
)
def test_the_job_wins_over_the_container_and_that_over_the_defaults(
    given: TransformJob, reported: Any, expected: tuple[int, str, int]
) -> None:
    found = resolve_settings(given, reported)
    assert (found.max_concurrent, found.strategy, found.max_payload) == expected
    assert not found.chunked


def test_a_payload_of_0_is_chunked_and_has_the_largest_records() -> None:
    """MaxPayloadInMB 0 asks for HTTP's chunked encoding."""
    found = resolve_settings(job(max_payload_in_mb=0), TOLD)
    assert found.chunked
    assert found.max_payload == MAX_RECORD


def test_retries_and_time_outs_have_the_documented_defaults() -> None:
    """600 seconds and 3 retries; 0 retries are none."""
    assert (resolve_settings(job()).timeout, resolve_settings(job()).retries) == (600.0, 3)
    client = ModelClientConfig(invocations_timeout_in_seconds=5, invocations_max_retries=0)
    assert (resolve_settings(job(model_client=client)).timeout, resolve_settings(job(model_client=client)).retries) == (
        5.0,
        0,
    )


def test_the_container_is_reported_that_it_is_batch_and_what_the_job_set() -> None:
    assert build_container_environment(job()) == {"SAGEMAKER_BATCH": "true"}
    reported = build_container_environment(
        job(
            max_payload_in_mb=0,
            max_concurrent_transforms=4,
            batch_strategy="SingleRecord",
            environment={"A": "b", "SAGEMAKER_BATCH": "maybe"},
        )
    )
    assert reported == {
        "SAGEMAKER_BATCH": "maybe",
        "SAGEMAKER_MAX_PAYLOAD_IN_MB": "0",
        "SAGEMAKER_MAX_CONCURRENT_TRANSFORMS": "4",
        "SAGEMAKER_BATCH_STRATEGY": "SINGLE_RECORD",
        "A": "b",
    }
