"""SageMaker's TensorFlow Serving container: the variables that it reads, and the Python packages that it has. No I/O.

Source of the variables: aws/deep-learning-containers scripts/docker/tensorflow/inference/sagemaker/serve.py
`ServiceManager.__init__`, tfs_utils.py `create_batching_config` (images of TensorFlow Serving 2.20).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

__all__ = ["DISTRIBUTIONS", "Batching", "Settings", "find_distribution", "find_problems", "has_requirements",
           "read_settings"]  # fmt: skip

_FLAGS: Final = ("SAGEMAKER_TFS_ENABLE_BATCHING", "SAGEMAKER_MULTI_MODEL")

#: Integers with their smallest value; TensorFlow Serving refuses smaller ones when it reads its parameters
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
    """Batching of requests: sizes in instances, the timeout in microseconds, the length of the queue in batches."""

    max_batch_size: int
    batch_timeout_micros: int
    num_batch_threads: int
    max_enqueued_batches: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The container's settings; ``batching`` is None where it is off.

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


def find_problems(environment: Mapping[str, str]) -> dict[str, str]:
    """Return why the container would end with this environment: a sentence by variable, in the container's words."""
    problems = {}
    for name in _FLAGS:
        if environment.get(name, "false").lower() not in ("true", "false"):
            problems[name] = f"{name} must be 'true' or 'false'"
    for name, least in _NUMBERS.items():
        value = environment.get(name)
        if value is not None and (not re.fullmatch(r"[0-9]{1,18}", value.strip()) or int(value) < least):
            problems[name] = f"{name} is {value!r}; it must be an integer of at least {least}"
    return problems


def read_settings(environment: Mapping[str, str], *, cpus: int) -> Settings:
    """Return the settings of an environment without problems; ``cpus`` is the number of the machine's processors."""

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


#: Every distribution in the image's Python environment, by its normalised name. Source: aws/deep-learning-containers
#: docker/tensorflow/inference/2.20/cpu/uv.lock with the extra ``sagemaker``, and the Dockerfile beside it, which adds
#: tensorflow-serving-api without TensorFlow.
DISTRIBUTIONS: Final = frozenset(
    {
        "aiohappyeyeballs", "aiohttp", "aiosignal", "attrs", "awscli", "boto3", "botocore", "certifi",
        "charset-normalizer", "cloudpickle", "colorama", "cython", "docutils", "falcon", "frozenlist", "gevent",
        "greenlet", "grpcio", "gunicorn", "idna", "jmespath", "joblib", "multidict", "narwhals", "numpy", "packaging",
        "pandas", "propcache", "protobuf", "pyasn1", "python-dateutil", "pyyaml", "requests", "rsa", "s3transfer",
        "scikit-learn", "scipy", "six", "tensorflow-serving-api", "threadpoolctl", "typing-extensions", "urllib3",
        "yarl", "zope-event", "zope-interface",
    }
)  # fmt: skip

#: Modules whose distribution has another name.
_DISTRIBUTION_NAMES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "Cython": "cython",
        "attr": "attrs",
        "charset_normalizer": "charset-normalizer",
        "dateutil": "python-dateutil",
        "grpc": "grpcio",
        "sklearn": "scikit-learn",
        "tensorflow_serving": "tensorflow-serving-api",
        "typing_extensions": "typing-extensions",
        "yaml": "pyyaml",
    }
)

_REQUIREMENT_LINE: Final = re.compile(r"^[ \t]*[^\s#]", re.MULTILINE)


def find_distribution(module: str) -> str | None:
    """Return the image's distribution that has a top-level module, or None.

    >>> find_distribution("sklearn"), find_distribution("PIL")
    ('scikit-learn', None)
    """
    name = _DISTRIBUTION_NAMES.get(module, module)
    return name if name in DISTRIBUTIONS else None


def has_requirements(text: str) -> bool:
    r"""Return True if a requirements file has a line that is neither blank nor a comment.

    >>> has_requirements("# images\n\n"), has_requirements("pillow>=10")
    (False, True)
    """
    return _REQUIREMENT_LINE.search(text) is not None
