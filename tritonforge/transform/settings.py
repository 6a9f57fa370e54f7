"""The settings that a job runs with: the job's, else the container's /execution-parameters, else the defaults. No I/O.

Source: SageMaker developer guide, "Use Your Own Inference Code with Batch Transform", and API_CreateTransformJob.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from tritonforge.records import MAX_RECORD, BatchStrategy
from tritonforge.transform.job import MAX_PAYLOAD_IN_MB, ModelClientConfig, TransformJob

__all__ = ["EffectiveSettings", "build_container_environment", "resolve_settings"]

#: Defaults of API_CreateTransformJob.
_CONCURRENT: Final = 1
_STRATEGY: Final[BatchStrategy] = "MultiRecord"
_PAYLOAD_IN_MB: Final = 6
_TIMEOUT: Final = 600
_RETRIES: Final = 3

_STRATEGIES: Final[Mapping[str, BatchStrategy]] = {"SINGLE_RECORD": "SingleRecord", "MULTI_RECORD": "MultiRecord"}


@dataclass(frozen=True, slots=True, kw_only=True)
class EffectiveSettings:
    """The settings of a run.

    ``max_payload`` is in bytes; ``chunked`` (MaxPayloadInMB 0) sends bodies of any size by HTTP's chunked encoding.
    ``timeout`` is in seconds.
    """

    max_concurrent: int
    strategy: BatchStrategy
    max_payload: int
    chunked: bool
    timeout: float
    retries: int


def resolve_settings(job: TransformJob, parameters: Mapping[str, Any] | None = None) -> EffectiveSettings:
    """Return the settings of a job; ``parameters`` is the JSON of the container's /execution-parameters.

    A MaxConcurrentTransforms of 0 counts as not set. Invalid parameters are ignored.
    """
    given = parameters or {}
    payload = _choose(job.max_payload_in_mb, _read_number(given.get("MaxPayloadInMB")), _PAYLOAD_IN_MB)
    payload = min(payload, MAX_PAYLOAD_IN_MB)
    strategy = job.batch_strategy or _STRATEGIES.get(_to_capitals(given.get("BatchStrategy"))) or _STRATEGY
    concurrent = job.max_concurrent_transforms or _read_number(given.get("MaxConcurrentTransforms")) or _CONCURRENT
    client = job.model_client or ModelClientConfig()
    return EffectiveSettings(
        max_concurrent=concurrent,
        strategy=strategy,
        max_payload=payload * 2**20 if payload else MAX_RECORD,
        chunked=payload == 0,
        timeout=float(_choose(client.invocations_timeout_in_seconds, _TIMEOUT)),
        retries=_choose(client.invocations_max_retries, _RETRIES),
    )


def build_container_environment(job: TransformJob) -> dict[str, str]:
    """Return the variables that SageMaker sets in a job's container: its batch settings and the job's own variables.

    The job's variables override the model's. Source: developer guide, "Run Inference Code with Batch Transform".
    """
    environment = {"SAGEMAKER_BATCH": "true"}
    if job.max_payload_in_mb is not None:
        environment["SAGEMAKER_MAX_PAYLOAD_IN_MB"] = str(job.max_payload_in_mb)
    if job.batch_strategy is not None:
        environment["SAGEMAKER_BATCH_STRATEGY"] = _to_capitals(job.batch_strategy)
    if job.max_concurrent_transforms:
        environment["SAGEMAKER_MAX_CONCURRENT_TRANSFORMS"] = str(job.max_concurrent_transforms)
    return environment | dict(job.environment or {})


def _to_capitals(strategy: object) -> str:
    """Return SINGLE_RECORD for both SINGLE_RECORD and SingleRecord."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", str(strategy)).upper()


def _read_number(value: object) -> int | None:
    return value if type(value) is int and value >= 0 else None


def _choose(*values: int | None) -> int:
    return next(value for value in values if value is not None)
