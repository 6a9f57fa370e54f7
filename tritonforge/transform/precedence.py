"""Precedence: what a job says, else what the container's /execution-parameters say, else the defaults. No I/O.

Source: SageMaker developer guide, "Use Your Own Inference Code with Batch Transform", and API_CreateTransformJob.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from tritonforge.records import MAX_RECORD, BatchStrategy
from tritonforge.transform.job import MAX_PAYLOAD_IN_MB, ModelClient, TransformJob

__all__ = ["Effective", "container_environment", "resolved"]

_CONCURRENT: Final = 1
_STRATEGY: Final[BatchStrategy] = "MultiRecord"
_PAYLOAD_IN_MB: Final = 6
_TIMEOUT: Final = 600
_RETRIES: Final = 3

_SPELLED: Final[Mapping[str, BatchStrategy]] = {"SINGLE_RECORD": "SingleRecord", "MULTI_RECORD": "MultiRecord"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Effective:
    """The values that a job runs with.

    ``max_payload`` is in bytes; ``chunked`` (MaxPayloadInMB 0) sends bodies of any size by HTTP's chunked encoding.
    ``timeout`` is in seconds.
    """

    max_concurrent: int
    strategy: BatchStrategy
    max_payload: int
    chunked: bool
    timeout: float
    retries: int


def resolved(job: TransformJob, parameters: Mapping[str, Any] | None = None) -> Effective:
    """The values of a job; ``parameters`` is the JSON of the container's /execution-parameters, None without one.

    A MaxConcurrentTransforms of 0 is one that was not set. What a container says that is no such value is passed over.
    """
    told = parameters or {}
    payload = _first(job.max_payload_in_mb, _number(told.get("MaxPayloadInMB")), _PAYLOAD_IN_MB)
    payload = min(payload, MAX_PAYLOAD_IN_MB)
    strategy = job.batch_strategy or _SPELLED.get(_capitals(told.get("BatchStrategy"))) or _STRATEGY
    client = job.model_client or ModelClient()
    return Effective(
        max_concurrent=job.max_concurrent_transforms or _number(told.get("MaxConcurrentTransforms")) or _CONCURRENT,
        strategy=strategy,
        max_payload=payload * 2**20 if payload else MAX_RECORD,
        chunked=payload == 0,
        timeout=float(_first(client.invocations_timeout_in_seconds, _TIMEOUT)),
        retries=_first(client.invocations_max_retries, _RETRIES),
    )


def container_environment(job: TransformJob) -> dict[str, str]:
    """What SageMaker sets in a job's container: that this is batch, the settings that the job gave, its own variables.

    The job's variables come on top of the model's. Source: developer guide, "Run Inference Code with Batch Transform".
    """
    environment = {"SAGEMAKER_BATCH": "true"}
    if job.max_payload_in_mb is not None:
        environment["SAGEMAKER_MAX_PAYLOAD_IN_MB"] = str(job.max_payload_in_mb)
    if job.batch_strategy is not None:
        environment["SAGEMAKER_BATCH_STRATEGY"] = _capitals(job.batch_strategy)
    if job.max_concurrent_transforms:
        environment["SAGEMAKER_MAX_CONCURRENT_TRANSFORMS"] = str(job.max_concurrent_transforms)
    return environment | dict(job.environment or {})


def _capitals(strategy: object) -> str:
    """SINGLE_RECORD for both SINGLE_RECORD and SingleRecord."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", str(strategy)).upper()


def _number(value: object) -> int | None:
    return value if type(value) is int and value >= 0 else None


def _first(*values: int | None) -> int:
    return next(value for value in values if value is not None)
