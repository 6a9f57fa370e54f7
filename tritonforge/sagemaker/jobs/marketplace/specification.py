"""An `Algorithm` in the words of CreateAlgorithm: TrainingSpecification and InferenceSpecification, both ways. No I/O.

Source: API_TrainingSpecification, API_HyperParameterSpecification, API_ChannelSpecification,
API_InferenceSpecification.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tritonforge.errors import RequestError, TritonForgeError
from tritonforge.training.algorithm.declaration import Algorithm, Channel, Metric, Objective
from tritonforge.training.algorithm.hyperparameters import HyperParameter

__all__ = [
    "Container",
    "algorithm",
    "hyperparameter",
    "inference_specification",
    "structured",
    "training_specification",
]

_WHOLE: Final = re.compile(r"[+-]?[0-9]{1,256}")
_INTEGER: Final = "IntegerParameterRangeSpecification"
_CONTINUOUS: Final = "ContinuousParameterRangeSpecification"
_CATEGORICAL: Final = "CategoricalParameterRangeSpecification"


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """An inference image: its URI, its digest (``sha256:...``), what it is told, and the model where it has one.

    ``model_data_url`` is the model of a model package; an algorithm has none, training makes it.
    """

    image: str
    digest: str | None = None
    environment: Mapping[str, str] | None = None
    model_data_url: str | None = None
    framework: str | None = None
    framework_version: str | None = None

    def to_request(self) -> dict[str, Any]:
        """The ModelPackageContainerDefinition."""
        return _given(
            Image=self.image or None,
            ImageDigest=self.digest,
            ModelDataUrl=self.model_data_url,
            Environment=None if self.environment is None else dict(self.environment),
            Framework=self.framework,
            FrameworkVersion=self.framework_version,
        )

    @classmethod
    def from_request(cls, request: Mapping[str, Any]) -> Container:
        """The container of a ModelPackageContainerDefinition; what it has no field for is left out."""
        return cls(
            image=request.get("Image") or "",
            digest=request.get("ImageDigest"),
            environment=request.get("Environment"),
            model_data_url=request.get("ModelDataUrl"),
            framework=request.get("Framework"),
            framework_version=request.get("FrameworkVersion"),
        )


def training_specification(declared: Algorithm, *, image: str, digest: str | None = None) -> dict[str, Any]:
    """The TrainingSpecification of an algorithm whose training image is this one."""
    return _given(
        TrainingImage=image,
        TrainingImageDigest=digest,
        SupportedHyperParameters=[_hyperparameter(each) for each in declared.hyperparameters] or None,
        SupportedTrainingInstanceTypes=list(declared.training_instance_types),
        SupportsDistributedTraining=declared.distributed,
        MetricDefinitions=[{"Name": each.name, "Regex": each.regex} for each in declared.metrics] or None,
        TrainingChannels=[_channel(each) for each in declared.channels],
        SupportedTuningJobObjectiveMetrics=[
            {"Type": each.type, "MetricName": each.metric} for each in declared.objectives
        ]
        or None,
    )


def inference_specification(declared: Algorithm, containers: Sequence[Container]) -> dict[str, Any]:
    """The InferenceSpecification of an algorithm that serves with these containers."""
    return _given(
        Containers=[each.to_request() for each in containers],
        SupportedTransformInstanceTypes=list(declared.transform_instance_types) or None,
        SupportedRealtimeInferenceInstanceTypes=list(declared.realtime_instance_types) or None,
        SupportedContentTypes=list(declared.content_types) or None,
        SupportedResponseMIMETypes=list(declared.response_types) or None,
    )


def algorithm(request: Mapping[str, Any]) -> Algorithm:
    """The algorithm that a CreateAlgorithm request, or a DescribeAlgorithm answer, declares; images are left out.

    Raises:
        RequestError: the request has no such structure, or says of a hyperparameter what `Algorithm` cannot.
        DefinitionError: it contradicts itself.
    """
    with structured("CreateAlgorithm"):
        training, inference = request["TrainingSpecification"], request.get("InferenceSpecification") or {}
        return Algorithm(
            request["AlgorithmName"],
            description=request.get("AlgorithmDescription") or "",
            hyperparameters=[hyperparameter(each) for each in training.get("SupportedHyperParameters") or ()],
            channels=[_read_channel(each) for each in training["TrainingChannels"]],
            metrics=[Metric(each["Name"], each["Regex"]) for each in training.get("MetricDefinitions") or ()],
            objectives=[
                Objective(each["MetricName"], each["Type"])
                for each in training.get("SupportedTuningJobObjectiveMetrics") or ()
            ],
            training_instance_types=training["SupportedTrainingInstanceTypes"],
            transform_instance_types=inference.get("SupportedTransformInstanceTypes") or (),
            realtime_instance_types=inference.get("SupportedRealtimeInferenceInstanceTypes") or (),
            content_types=inference.get("SupportedContentTypes") or (),
            response_types=inference.get("SupportedResponseMIMETypes") or (),
            distributed=bool(training.get("SupportsDistributedTraining")),
        )


@contextlib.contextmanager
def structured(operation: str) -> Iterator[None]:
    """Read a request; RequestError where it has not the structure that its operation's model wants."""
    try:
        yield
    except TritonForgeError:
        raise
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise RequestError(f"{operation}: the request has not the structure of one: {error}") from error


def _hyperparameter(each: HyperParameter) -> dict[str, Any]:
    bounds = {"MinValue": str(each.minimum), "MaxValue": str(each.maximum)}
    ranges: dict[str, Any] = {"Integer": {_INTEGER: bounds}, "Continuous": {_CONTINUOUS: bounds}}
    if each.minimum is None:
        ranges = {}
    if each.type == "Categorical":
        ranges["Categorical"] = {_CATEGORICAL: {"Values": list(each.values)}}
    return _given(
        Name=each.name,
        Description=each.description or None,
        Type=each.type,
        Range=ranges.get(each.type),
        IsTunable=each.tunable,
        IsRequired=each.required,
        DefaultValue=each.default,
    )


def _channel(each: Channel) -> dict[str, Any]:
    return _given(
        Name=each.name,
        Description=each.description or None,
        IsRequired=each.required,
        SupportedContentTypes=list(each.content_types),
        SupportedCompressionTypes=list(each.compression_types) or None,
        SupportedInputModes=list(each.input_modes),
    )


def hyperparameter(given: Mapping[str, Any]) -> HyperParameter:
    """The hyperparameter of a HyperParameterSpecification. Raises RequestError, DefinitionError."""
    ranges: Mapping[str, Any] = given.get("Range") or {}
    bounds = ranges.get(_INTEGER) or ranges.get(_CONTINUOUS) or {}
    return HyperParameter(
        given["Name"],
        given["Type"],
        given.get("Description") or "",
        default=given.get("DefaultValue"),
        minimum=_number(given, bounds.get("MinValue")),
        maximum=_number(given, bounds.get("MaxValue")),
        values=(ranges.get(_CATEGORICAL) or {}).get("Values") or (),
        tunable=bool(given.get("IsTunable")),
        required=bool(given.get("IsRequired")),
    )


def _read_channel(given: Mapping[str, Any]) -> Channel:
    return Channel(
        given["Name"],
        given.get("Description") or "",
        required=bool(given.get("IsRequired")),
        content_types=given["SupportedContentTypes"],
        compression_types=given.get("SupportedCompressionTypes") or (),
        input_modes=given["SupportedInputModes"],
    )


def _number(given: Mapping[str, Any], text: str | None) -> float | None:
    """The number of a bound, an int where it is written as one."""
    if text is None:
        return None
    try:
        return int(text) if _WHOLE.fullmatch(text) else float(text)
    except ValueError as error:
        sentence = f"the range of hyperparameter {given['Name']} has {text!r}, which is no number"
        raise RequestError(f"CreateAlgorithm: {sentence}") from error


def _given(**members: Any) -> dict[str, Any]:
    """The members of a structure that are there."""
    return {name: value for name, value in members.items() if value is not None}
