"""The parts of CreateAlgorithm as values, read and written: specifications, containers, validation profiles. No I/O.

A validation profile holds the jobs with which SageMaker validates an algorithm (a training job, and a transform job
with its model) or a model package (a transform job). What they read and write becomes visible to buyers on AWS
Marketplace.

Source: API_TrainingSpecification, API_HyperParameterSpecification, API_ChannelSpecification,
API_InferenceSpecification, API_AlgorithmValidationProfile, API_TrainingJobDefinition, API_TransformJobDefinition.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from tritonforge.errors import DefinitionError, RequestError, TritonForgeError
from tritonforge.training.algorithm.declaration import Algorithm, Channel, Metric, Objective
from tritonforge.training.algorithm.hyperparameters import HyperParameter
from tritonforge.training.job.training_job import TrainingJob
from tritonforge.transform.job import TransformJob

__all__ = [
    "Container",
    "ValidationProfile",
    "build_inference_specification",
    "build_training_specification",
    "map_structure_errors",
    "read_algorithm",
    "read_hyperparameter",
]

_INTEGER_TEXT: Final = re.compile(r"[+-]?[0-9]{1,256}")
_INTEGER: Final = "IntegerParameterRangeSpecification"
_CONTINUOUS: Final = "ContinuousParameterRangeSpecification"
_CATEGORICAL: Final = "CategoricalParameterRangeSpecification"

_TRAINING_MEMBERS: Final = (
    "HyperParameters", "InputDataConfig", "OutputDataConfig", "ResourceConfig", "StoppingCondition",
)  # fmt: skip
_TRANSFORM_MEMBERS: Final = (
    "MaxConcurrentTransforms", "MaxPayloadInMB", "BatchStrategy", "Environment", "TransformInput", "TransformOutput",
    "TransformResources",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """An inference image: its URI, digest (``sha256:...``), environment, and the model of a model package."""

    image: str
    digest: str | None = None
    environment: Mapping[str, str] | None = None
    model_data_url: str | None = None
    framework: str | None = None
    framework_version: str | None = None

    def to_request(self) -> dict[str, Any]:
        """Return the ModelPackageContainerDefinition."""
        return _drop_none(
            Image=self.image or None,
            ImageDigest=self.digest,
            ModelDataUrl=self.model_data_url,
            Environment=None if self.environment is None else dict(self.environment),
            Framework=self.framework,
            FrameworkVersion=self.framework_version,
        )

    @classmethod
    def from_request(cls, request: Mapping[str, Any]) -> Container:
        """Return the container of a ModelPackageContainerDefinition; members without a field are ignored."""
        return cls(
            image=request.get("Image") or "",
            digest=request.get("ImageDigest"),
            environment=request.get("Environment"),
            model_data_url=request.get("ModelDataUrl"),
            framework=request.get("Framework"),
            framework_version=request.get("FrameworkVersion"),
        )


def build_training_specification(declared: Algorithm, *, image: str, digest: str | None = None) -> dict[str, Any]:
    """Return the TrainingSpecification of an algorithm with this training image."""
    return _drop_none(
        TrainingImage=image,
        TrainingImageDigest=digest,
        SupportedHyperParameters=[_write_hyperparameter(parameter) for parameter in declared.hyperparameters] or None,
        SupportedTrainingInstanceTypes=list(declared.training_instance_types),
        SupportsDistributedTraining=declared.distributed,
        MetricDefinitions=[{"Name": metric.name, "Regex": metric.regex} for metric in declared.metrics] or None,
        TrainingChannels=[_write_channel(channel) for channel in declared.channels],
        SupportedTuningJobObjectiveMetrics=[
            {"Type": objective.type, "MetricName": objective.metric} for objective in declared.objectives
        ]
        or None,
    )


def build_inference_specification(declared: Algorithm, containers: Sequence[Container]) -> dict[str, Any]:
    """Return the InferenceSpecification of an algorithm with these containers."""
    return _drop_none(
        Containers=[container.to_request() for container in containers],
        SupportedTransformInstanceTypes=list(declared.transform_instance_types) or None,
        SupportedRealtimeInferenceInstanceTypes=list(declared.realtime_instance_types) or None,
        SupportedContentTypes=list(declared.content_types) or None,
        SupportedResponseMIMETypes=list(declared.response_types) or None,
    )


def read_algorithm(request: Mapping[str, Any]) -> Algorithm:
    """Return the algorithm of a CreateAlgorithm request or a DescribeAlgorithm response, without its images.

    Raises:
        RequestError: the request has another structure, or a hyperparameter that `Algorithm` cannot express.
        DefinitionError: its values contradict each other.
    """
    with map_structure_errors("CreateAlgorithm"):
        training, inference = request["TrainingSpecification"], request.get("InferenceSpecification") or {}
        objectives = training.get("SupportedTuningJobObjectiveMetrics") or ()
        return Algorithm(
            request["AlgorithmName"],
            description=request.get("AlgorithmDescription") or "",
            hyperparameters=[read_hyperparameter(member) for member in training.get("SupportedHyperParameters") or ()],
            channels=[_read_channel(channel) for channel in training["TrainingChannels"]],
            metrics=[Metric(metric["Name"], metric["Regex"]) for metric in training.get("MetricDefinitions") or ()],
            objectives=[Objective(objective["MetricName"], objective["Type"]) for objective in objectives],
            training_instance_types=training["SupportedTrainingInstanceTypes"],
            transform_instance_types=inference.get("SupportedTransformInstanceTypes") or (),
            realtime_instance_types=inference.get("SupportedRealtimeInferenceInstanceTypes") or (),
            content_types=inference.get("SupportedContentTypes") or (),
            response_types=inference.get("SupportedResponseMIMETypes") or (),
            distributed=bool(training.get("SupportsDistributedTraining")),
        )


@contextlib.contextmanager
def map_structure_errors(operation: str) -> Iterator[None]:
    """Raise RequestError if a request that is read in the context has another structure than its operation's model."""
    try:
        yield
    except TritonForgeError:
        raise
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise RequestError(f"{operation}: invalid structure of the request: {error}") from error


def read_hyperparameter(member: Mapping[str, Any]) -> HyperParameter:
    """Return the hyperparameter of a HyperParameterSpecification. Raises RequestError, DefinitionError."""
    ranges: Mapping[str, Any] = member.get("Range") or {}
    bounds = ranges.get(_INTEGER) or ranges.get(_CONTINUOUS) or {}
    return HyperParameter(
        member["Name"],
        member["Type"],
        member.get("Description") or "",
        default=member.get("DefaultValue"),
        minimum=_read_number(member, bounds.get("MinValue")),
        maximum=_read_number(member, bounds.get("MaxValue")),
        values=(ranges.get(_CATEGORICAL) or {}).get("Values") or (),
        tunable=bool(member.get("IsTunable")),
        required=bool(member.get("IsRequired")),
    )


def _write_hyperparameter(parameter: HyperParameter) -> dict[str, Any]:
    bounds = {"MinValue": str(parameter.minimum), "MaxValue": str(parameter.maximum)}
    ranges: dict[str, Any] = {"Integer": {_INTEGER: bounds}, "Continuous": {_CONTINUOUS: bounds}}
    if parameter.minimum is None:
        ranges = {}
    if parameter.type == "Categorical":
        ranges["Categorical"] = {_CATEGORICAL: {"Values": list(parameter.values)}}
    return _drop_none(
        Name=parameter.name,
        Description=parameter.description or None,
        Type=parameter.type,
        Range=ranges.get(parameter.type),
        IsTunable=parameter.tunable,
        IsRequired=parameter.required,
        DefaultValue=parameter.default,
    )


def _read_channel(member: Mapping[str, Any]) -> Channel:
    return Channel(
        member["Name"],
        member.get("Description") or "",
        required=bool(member.get("IsRequired")),
        content_types=member["SupportedContentTypes"],
        compression_types=member.get("SupportedCompressionTypes") or (),
        input_modes=member["SupportedInputModes"],
    )


def _write_channel(channel: Channel) -> dict[str, Any]:
    return _drop_none(
        Name=channel.name,
        Description=channel.description or None,
        IsRequired=channel.required,
        SupportedContentTypes=list(channel.content_types),
        SupportedCompressionTypes=list(channel.compression_types) or None,
        SupportedInputModes=list(channel.input_modes),
    )


def _read_number(member: Mapping[str, Any], text: str | None) -> float | None:
    """Return the number of a bound, an int if it is written as one."""
    if text is None:
        return None
    try:
        return int(text) if _INTEGER_TEXT.fullmatch(text) else float(text)
    except ValueError as error:
        raise RequestError(
            f"CreateAlgorithm: hyperparameter {member['Name']}: invalid bound of its range (expected a number, got "
            f"{text!r})"
        ) from error


def _drop_none(**members: Any) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidationProfile:
    """The jobs of a validation, with the fields of a `TrainingJob` and a `TransformJob` that a validation supports.

    ``training`` has no name, role and image, ``transform`` no name and model: SageMaker sets them.

    Raises:
        DefinitionError: a job has a field that a validation does not support.
    """

    name: str = "validation"
    training: TrainingJob | None = None
    transform: TransformJob | None = None

    def __post_init__(self) -> None:
        if self.training is None and self.transform is None:
            raise DefinitionError(f"validation profile {self.name}: a training or a transform job is missing")
        if self.training is not None:
            algorithm = self.training.algorithm
            unsupported = set(self.training.to_request()) - {*_TRAINING_MEMBERS, "AlgorithmSpecification"}
            if algorithm is not None and (algorithm.training_image or algorithm.algorithm_name):
                unsupported.add("AlgorithmSpecification.TrainingImage or AlgorithmName")
            _reject(self.name, "TrainingJobDefinition", unsupported)
        if self.transform is not None:
            _reject(self.name, "TransformJobDefinition", set(self.transform.to_request()) - set(_TRANSFORM_MEMBERS))

    def to_request(self) -> dict[str, Any]:
        """Return the AlgorithmValidationProfile, or without training the ModelPackageValidationProfile."""
        request: dict[str, Any] = {"ProfileName": self.name}
        if self.training is not None:
            job = self.training.to_request()
            mode = "File" if self.training.algorithm is None else self.training.algorithm.training_input_mode
            # The job's default is written out: the member is required.
            condition = job.get("StoppingCondition", {"MaxRuntimeInSeconds": self.training.max_runtime})
            members = {name: job[name] for name in _TRAINING_MEMBERS if name in job} | {"StoppingCondition": condition}
            request["TrainingJobDefinition"] = {"TrainingInputMode": mode, **members}
        if self.transform is not None:
            job = self.transform.to_request()
            request["TransformJobDefinition"] = {name: job[name] for name in _TRANSFORM_MEMBERS if name in job}
        return request

    def without_training(self) -> ValidationProfile:
        """Return the profile of a model package of the same algorithm: the transform job. Raises DefinitionError."""
        return replace(self, training=None)

    @classmethod
    def from_request(cls, request: Mapping[str, Any]) -> ValidationProfile:
        """Return the profile of a request. Raises RequestError if it has another structure."""
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


def _reject(name: str, definition: str, unsupported: set[str]) -> None:
    if unsupported:
        raise DefinitionError(
            f"validation profile {name}: {definition} does not support {', '.join(sorted(unsupported))}"
        )
