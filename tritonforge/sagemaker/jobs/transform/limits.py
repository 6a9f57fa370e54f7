"""Limits of transform jobs that AWS documents and its service model does not hold. This module does no I/O.

`tritonforge.sagemaker.limits` names the check. What a job's own values say against each other is
`TransformJob.problems`; here are the places of these values in the request, what belongs to SageMaker's machines, and
what a model must be to be used in a batch.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final

from tritonforge.errors import RequestError
from tritonforge.sagemaker.service_model import Violation
from tritonforge.transform.job import TransformJob
from tritonforge.triton.service_limits import TRANSFORM_INSTANCES

__all__ = ["create_transform_job", "model"]

#: Where the fields that `TransformJob.problems` begins its sentences with lie in the request.
_PLACES: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "AssembleWith": ("TransformOutput", "AssembleWith"),
        "CompressionType": ("TransformInput", "CompressionType"),
        "InputFilter": ("DataProcessing", "InputFilter"),
        "InvocationsMaxRetries": ("ModelClientConfig", "InvocationsMaxRetries"),
        "InvocationsTimeoutInSeconds": ("ModelClientConfig", "InvocationsTimeoutInSeconds"),
        "JoinSource": ("DataProcessing", "JoinSource"),
        "OutputFilter": ("DataProcessing", "OutputFilter"),
        "S3DataType": ("TransformInput", "DataSource", "S3DataSource", "S3DataType"),
        "SplitType": ("TransformInput", "SplitType"),
    }
)
_WORD: Final = re.compile(r"[A-Za-z0-9]+")


def create_transform_job(request: Mapping[str, Any]) -> Iterator[Violation]:
    """``CreateTransformJob``; the request is taken to satisfy the service model."""
    try:
        problems = TransformJob.from_request(request).find_problems()
    except RequestError as error:  # a field that is younger than this version
        yield Violation(("CreateTransformJob",), str(error))
        return
    for sentence in problems:
        word = _WORD.match(sentence)
        name = word.group() if word else "TransformJob"
        yield Violation(_PLACES.get(name, (name,)), sentence)
    count = (request.get("TransformResources") or {}).get("InstanceCount")
    if isinstance(count, int) and count > TRANSFORM_INSTANCES.value:
        yield Violation(
            ("TransformResources", "InstanceCount"),
            f"InstanceCount is {count}; it cannot exceed {TRANSFORM_INSTANCES.value}",
        )
    for path in (("TransformOutput", "S3OutputPath"), ("DataCaptureConfig", "DestinationS3Uri")):
        uri = (request.get(path[0]) or {}).get(path[1])
        if isinstance(uri, str) and not uri.startswith("s3://"):
            # The service model's pattern lets https through; API TransformOutput shows s3:// only. The rule is ours.
            yield Violation(path, f"{path[-1]} is {uri!r}; write s3://bucket/prefix")


def model(request: Mapping[str, Any]) -> Iterator[Violation]:
    """What keeps a model (its ``CreateModel`` request) out of batch transform."""
    containers = [request.get("PrimaryContainer"), *(request.get("Containers") or ())]
    for container in containers:
        if not isinstance(container, Mapping):
            continue
        if container.get("ModelDataSource"):
            # API ContainerDefinition.ModelDataSource: "Currently you cannot use ModelDataSource in conjunction with
            # SageMaker batch transform".
            yield Violation(
                ("ModelName",),
                "a model with ModelDataSource cannot be used with batch transform; give its container ModelDataUrl, "
                "one model.tar.gz",
            )
        if container.get("Mode") == "MultiModel":
            # A job's requests carry no TargetModel. The rule is ours.
            yield Violation(("ModelName",), "a multi-model container cannot be used with batch transform")
