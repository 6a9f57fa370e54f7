"""The kinds of jobs on SageMaker, one descriptor each, their names, and how requests and descriptions match. No I/O."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tritonforge.sagemaker.endpoints.deployment import LONGEST_NAME

__all__ = [
    "ALGORITHM",
    "MODEL_PACKAGE",
    "TRAINING",
    "TRANSFORM",
    "JobKind",
    "build_job_name",
    "build_resource_name",
    "contains",
    "find_difference",
]

_MAX_NAME: Final = 63
_TIMESTAMP: Final = "%Y-%m-%d-%H-%M-%S-%f"
_NOT_IN_NAMES: Final = re.compile(r"[^a-zA-Z0-9]+")

#: Members of requests that descriptions do not contain.
_WRITE_ONLY: Final = frozenset({"Tags", "ClientToken"})


@dataclass(frozen=True, slots=True, kw_only=True)
class JobKind:
    """A kind of job in the words of the service model: its operations and members.

    Attributes:
        noun: how messages call it.
        name: the member with the name; ``arn`` and ``status`` likewise.
        create: the operation that creates one; ``describe``, ``stop`` and ``delete`` likewise, empty if missing.
        log_group: the CloudWatch log group, empty if it writes no log.
        log_suffix: the end of the names of the streams that are shown, empty for all of them.
        transient: the statuses of a job that has not ended.
        not_visible: how AWS words that it does not see yet what the request refers to and was just created.
    """

    noun: str
    name: str
    arn: str
    status: str
    create: str
    describe: str
    stop: str = ""
    delete: str = ""
    log_group: str = ""
    log_suffix: str = ""
    transient: frozenset[str]
    not_visible: str = ""

    def has_ended(self, description: Mapping[str, Any]) -> bool:
        """Return True if a job with this description has ended."""
        return description[self.status] not in self.transient


#: Source: service model, ``TransformJobStatus``. SageMaker itself writes to the data log, containers to the others.
TRANSFORM: Final = JobKind(
    noun="transform job",
    name="TransformJobName",
    arn="TransformJobArn",
    status="TransformJobStatus",
    create="CreateTransformJob",
    describe="DescribeTransformJob",
    stop="StopTransformJob",
    log_group="/aws/sagemaker/TransformJobs",
    log_suffix="/data-log",
    transient=frozenset({"InProgress", "Stopping"}),
    not_visible="Could not find model",
)

#: Source: service model, ``TrainingJobStatus``.
TRAINING: Final = JobKind(
    noun="training job",
    name="TrainingJobName",
    arn="TrainingJobArn",
    status="TrainingJobStatus",
    create="CreateTrainingJob",
    describe="DescribeTrainingJob",
    stop="StopTrainingJob",
    log_group="/aws/sagemaker/TrainingJobs",
    transient=frozenset({"InProgress", "Stopping"}),
)

#: Source: service model, ``AlgorithmStatus``.
ALGORITHM: Final = JobKind(
    noun="algorithm",
    name="AlgorithmName",
    arn="AlgorithmArn",
    status="AlgorithmStatus",
    create="CreateAlgorithm",
    describe="DescribeAlgorithm",
    delete="DeleteAlgorithm",
    transient=frozenset({"Pending", "InProgress"}),
)

#: Source: service model, ``ModelPackageStatus``.
MODEL_PACKAGE: Final = JobKind(
    noun="model package",
    name="ModelPackageName",
    arn="ModelPackageArn",
    status="ModelPackageStatus",
    create="CreateModelPackage",
    describe="DescribeModelPackage",
    delete="DeleteModelPackage",
    transient=frozenset({"Pending", "InProgress"}),
)


def build_job_name(base: str, now: dt.datetime, *, default: str = "transform") -> str:
    """Return a unique name for a job: its subject (``default`` if that has no letters) and the time in milliseconds.

    >>> build_job_name("resnet50_tfs", dt.datetime(2026, 1, 2, 3, 4, 5, 678901))
    'resnet50-tfs-2026-01-02-03-04-05-678'
    """
    timestamp = now.strftime(_TIMESTAMP)[:-3]
    return f"{build_resource_name(base, _MAX_NAME - len(timestamp) - 1, default=default)}-{timestamp}"


def build_resource_name(text: str, length: int = LONGEST_NAME, *, default: str = "transform") -> str:
    """Return a text as a name that SageMaker accepts: up to ``length`` letters, digits and single hyphens."""
    return _NOT_IN_NAMES.sub("-", text).strip("-")[:length].strip("-") or default


def contains(description: Any, request: Any) -> bool:
    """Return True if a description has all that was requested; it may have more, such as defaults.

    >>> contains({"a": 1, "b": [{"c": 2, "d": None}]}, {"b": [{"c": 2}]})
    True
    """
    if isinstance(request, Mapping):
        return isinstance(description, Mapping) and all(
            contains(description.get(name), value) for name, value in request.items()
        )
    if isinstance(request, Sequence) and not isinstance(request, str | bytes):
        if not isinstance(description, Sequence) or isinstance(description, str | bytes):
            return False
        return len(description) == len(request) and all(map(contains, description, request))
    return bool(description == request)


def find_difference(description: Mapping[str, Any], request: Mapping[str, Any]) -> str:
    """Return the first member of a request that a description does not contain, "" if it contains all of them."""
    return next(
        (
            name
            for name, value in request.items()
            if name not in _WRITE_ONLY and not contains(description.get(name), value)
        ),
        "",
    )
