"""A validation profile: the jobs that SageMaker runs to see that an algorithm or a model package works. No I/O.

For an algorithm a training job, and a transform job with the model that it made; for a model package a transform job.
What the profile reads and writes becomes visible to buyers on AWS Marketplace.
Source: API_AlgorithmValidationProfile, API_TrainingJobDefinition, API_TransformJobDefinition.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from tritonforge.errors import DefinitionError, RequestError
from tritonforge.training.job.training_job import TrainingJob
from tritonforge.transform.job import TransformJob

__all__ = ["Profile"]

_TRAINING: Final = ("HyperParameters", "InputDataConfig", "OutputDataConfig", "ResourceConfig", "StoppingCondition")
_TRANSFORM: Final = (
    "MaxConcurrentTransforms",
    "MaxPayloadInMB",
    "BatchStrategy",
    "Environment",
    "TransformInput",
    "TransformOutput",
    "TransformResources",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """The jobs of a validation; those of a `TrainingJob` and a `TransformJob` that the definitions have members for.

    ``training`` needs no name, role or image, ``transform`` no name or model: SageMaker gives them.

    Raises:
        DefinitionError: a job has what a validation cannot have.
    """

    name: str = "validation"
    training: TrainingJob | None = None
    transform: TransformJob | None = None

    def __post_init__(self) -> None:
        if self.training is None and self.transform is None:
            raise DefinitionError(f"validation profile {self.name}: it has neither a training nor a transform job")
        if self.training is not None:
            algorithm = self.training.algorithm
            left = set(self.training.to_request()) - {*_TRAINING, "AlgorithmSpecification"}
            if algorithm is not None and (algorithm.training_image or algorithm.algorithm_name):
                left.add("AlgorithmSpecification.TrainingImage or AlgorithmName")
            _refuse(self.name, "TrainingJobDefinition", left)
        if self.transform is not None:
            _refuse(self.name, "TransformJobDefinition", set(self.transform.to_request()) - set(_TRANSFORM))

    def to_request(self) -> dict[str, Any]:
        """The AlgorithmValidationProfile, or the ModelPackageValidationProfile where there is no training."""
        request: dict[str, Any] = {"ProfileName": self.name}
        if self.training is not None:
            job = self.training.to_request()
            mode = "File" if self.training.algorithm is None else self.training.algorithm.training_input_mode
            # The job's own default where it says nothing: a definition must have the member.
            condition = job.get("StoppingCondition", {"MaxRuntimeInSeconds": self.training.max_runtime})
            members = {name: job[name] for name in _TRAINING if name in job} | {"StoppingCondition": condition}
            request["TrainingJobDefinition"] = {"TrainingInputMode": mode, **members}
        if self.transform is not None:
            job = self.transform.to_request()
            request["TransformJobDefinition"] = {name: job[name] for name in _TRANSFORM if name in job}
        return request

    def without_training(self) -> Profile:
        """The profile of a model package of the same algorithm: the transform job alone. Raises DefinitionError."""
        return replace(self, training=None)

    @classmethod
    def from_request(cls, request: Mapping[str, Any]) -> Profile:
        """The profile of a request; raises RequestError where it has another structure."""
        training, transform = request.get("TrainingJobDefinition"), request.get("TransformJobDefinition")
        if training is not None:
            members = {name: value for name, value in training.items() if name != "TrainingInputMode"}
            mode = training.get("TrainingInputMode")
            training = TrainingJob.from_request({"AlgorithmSpecification": {"TrainingInputMode": mode}, **members})
        try:
            return cls(
                name=request.get("ProfileName", ""),
                training=training,
                transform=None if transform is None else TransformJob.from_request(transform),
            )
        except DefinitionError as error:
            raise RequestError(str(error)) from error


def _refuse(name: str, definition: str, left: set[str]) -> None:
    if left:
        raise DefinitionError(f"validation profile {name}: {definition} has no {', '.join(sorted(left))}; leave it out")
