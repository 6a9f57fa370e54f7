"""The environment of SageMaker's TensorFlow Serving containers: what each variable means, and what is refused. No I/O.

Source: aws/deep-learning-containers scripts/docker/tensorflow/inference/sagemaker/serve.py `ServiceManager.__init__`,
tfs_utils.py `create_batching_config` (images of TensorFlow Serving 2.20).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

__all__ = ["Batching", "Settings", "problems", "settings"]

_FLAGS: Final = ("SAGEMAKER_TFS_ENABLE_BATCHING", "SAGEMAKER_MULTI_MODEL")

#: Integers with the smallest value that is taken; TensorFlow Serving refuses smaller ones when it reads its parameters
#: (tensorflow core/kernels/batching_util/shared_batch_scheduler.h `Create`, `AddQueue`).
_NUMBERS: Final[Mapping[str, int]] = MappingProxyType(
    {
        "SAGEMAKER_TFS_MAX_BATCH_SIZE": 1,
        "SAGEMAKER_TFS_BATCH_TIMEOUT_MICROS": 0,
        "SAGEMAKER_TFS_NUM_BATCH_THREADS": 1,
        "SAGEMAKER_TFS_MAX_ENQUEUED_BATCHES": 0,
        "SAGEMAKER_TFS_INSTANCE_COUNT": 1,
        "SAGEMAKER_TFS_INTER_OP_PARALLELISM": 0,
        "SAGEMAKER_TFS_INTRA_OP_PARALLELISM": 0,
        "SAGEMAKER_TFS_WAIT_TIME_SECONDS": 0,
        "SAGEMAKER_GUNICORN_WORKERS": 1,
    }
)

#: Batches that may wait in a batch transform job, whose requests in flight are limited anyway.
_ENQUEUED_IN_TRANSFORM: Final = 100_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Batching:
    """The batching of requests: sizes in instances, the timeout in microseconds, the length of the queue in batches."""

    max_batch_size: int
    batch_timeout_micros: int
    num_batch_threads: int
    max_enqueued_batches: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the container makes of its environment; ``batching`` is None where it is off.

    ``wait_time`` is in seconds: for models to load, and for each of a handler's requests to TensorFlow Serving.
    Parallelism of 0 is TensorFlow's own choice.
    """

    batching: Batching | None
    default_model: str | None
    instance_count: int
    inter_op_parallelism: int
    intra_op_parallelism: int
    wait_time: int
    workers: int


def problems(environment: Mapping[str, str]) -> dict[str, str]:
    """Why the container would end with this environment: a sentence for each variable, in the container's words."""
    found = {}
    for name in _FLAGS:
        if environment.get(name, "false").lower() not in ("true", "false"):
            found[name] = f"{name} must be 'true' or 'false'"
    for name, least in _NUMBERS.items():
        value = environment.get(name)
        if value is not None and (not re.fullmatch(r"[0-9]{1,18}", value.strip()) or int(value) < least):
            found[name] = f"{name} is {value!r}; it must be an integer of at least {least}"
    return found


def settings(environment: Mapping[str, str], *, cpus: int) -> Settings:
    """The settings of an environment without `problems`; ``cpus`` is the number of the machine's processors."""

    def number(name: str, default: int) -> int:
        return int(environment.get(name, default))

    batching = None
    if environment.get("SAGEMAKER_TFS_ENABLE_BATCHING", "false").lower() == "true":
        enqueued = _ENQUEUED_IN_TRANSFORM if "SAGEMAKER_BATCH" in environment else cpus
        batching = Batching(
            max_batch_size=number("SAGEMAKER_TFS_MAX_BATCH_SIZE", 8),
            batch_timeout_micros=number("SAGEMAKER_TFS_BATCH_TIMEOUT_MICROS", 1000),
            num_batch_threads=number("SAGEMAKER_TFS_NUM_BATCH_THREADS", cpus),
            max_enqueued_batches=number("SAGEMAKER_TFS_MAX_ENQUEUED_BATCHES", enqueued),
        )
    default = environment.get("SAGEMAKER_TFS_DEFAULT_MODEL_NAME", "None")
    return Settings(
        batching=batching,
        default_model=None if default == "None" else default,
        instance_count=number("SAGEMAKER_TFS_INSTANCE_COUNT", 1),
        inter_op_parallelism=number("SAGEMAKER_TFS_INTER_OP_PARALLELISM", 0),
        intra_op_parallelism=number("SAGEMAKER_TFS_INTRA_OP_PARALLELISM", 0),
        wait_time=number("SAGEMAKER_TFS_WAIT_TIME_SECONDS", 60),
        workers=number("SAGEMAKER_GUNICORN_WORKERS", 1),
    )
