"""The kinds of things on SageMaker that are created, take their time, and come to an end. This module does no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

__all__ = ["ALGORITHM", "MODEL_PACKAGE", "TRAINING", "TRANSFORM", "Kind"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """What tells one kind from another: its operations and its members, in the service model's words.

    ``noun`` is what people call it, ``name`` the member that names it; ``group`` is the CloudWatch log group, empty
    where there is none; ``stop`` is empty where it cannot be stopped; ``under_way`` are the statuses that pass.
    """

    noun: str
    name: str
    arn: str
    status: str
    create: str
    describe: str
    stop: str = ""
    group: str = ""
    under_way: frozenset[str]

    def is_under_way(self, described: Mapping[str, Any]) -> bool:
        """Whether something that is described so has not come to its end."""
        return described[self.status] in self.under_way


#: Source: service model, ``TransformJobStatus``.
TRANSFORM: Final = Kind(
    noun="transform job",
    name="TransformJobName",
    arn="TransformJobArn",
    status="TransformJobStatus",
    create="CreateTransformJob",
    describe="DescribeTransformJob",
    stop="StopTransformJob",
    group="/aws/sagemaker/TransformJobs",
    under_way=frozenset({"InProgress", "Stopping"}),
)

#: Source: service model, ``TrainingJobStatus``.
TRAINING: Final = Kind(
    noun="training job",
    name="TrainingJobName",
    arn="TrainingJobArn",
    status="TrainingJobStatus",
    create="CreateTrainingJob",
    describe="DescribeTrainingJob",
    stop="StopTrainingJob",
    group="/aws/sagemaker/TrainingJobs",
    under_way=frozenset({"InProgress", "Stopping"}),
)

#: Source: service model, ``AlgorithmStatus``.
ALGORITHM: Final = Kind(
    noun="algorithm",
    name="AlgorithmName",
    arn="AlgorithmArn",
    status="AlgorithmStatus",
    create="CreateAlgorithm",
    describe="DescribeAlgorithm",
    under_way=frozenset({"Pending", "InProgress"}),
)

#: Source: service model, ``ModelPackageStatus``.
MODEL_PACKAGE: Final = Kind(
    noun="model package",
    name="ModelPackageName",
    arn="ModelPackageArn",
    status="ModelPackageStatus",
    create="CreateModelPackage",
    describe="DescribeModelPackage",
    under_way=frozenset({"Pending", "InProgress"}),
)
