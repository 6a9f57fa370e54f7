"""The requests of CreateAlgorithm and CreateModelPackage as values, and validation profiles of sample data. No I/O.

``AlgorithmRequest.from_request(request).to_request()`` equals the request, with omitted members that mean no written as
False; likewise for `ModelPackageRequest`. A request with a member that has no field is not read in part: RequestError.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from tritonforge.errors import DefinitionError, RequestError
from tritonforge.sagemaker.jobs.specification import (
    Container,
    ValidationProfile,
    build_inference_specification,
    build_training_specification,
    map_structure_errors,
    read_algorithm,
)
from tritonforge.sagemaker.jobs.training_plan import is_local, place_in_s3
from tritonforge.training.algorithm.declaration import Algorithm, InputMode
from tritonforge.training.algorithm.declaration import Channel as DeclaredChannel
from tritonforge.training.algorithm.hyperparameters import suggest_name
from tritonforge.training.job.training_job import (
    AlgorithmSpecification,
    Channel,
    Output,
    Resources,
    S3Data,
    Source,
    StoppingCondition,
    TrainingJob,
)
from tritonforge.transform.job import Resources as TransformResources
from tritonforge.transform.job import TransformInput, TransformJob, TransformOutput

__all__ = [
    "TRANSFORM",
    "AlgorithmRequest",
    "ModelPackageRequest",
    "SampleData",
    "build_validation_profile",
    "build_validation_transform",
    "find_outputs",
    "place_profile",
]

#: The name of the objects that inference is validated with, beside the names of channels.
TRANSFORM: Final = "transform"


@dataclass(frozen=True, slots=True, kw_only=True)
class AlgorithmRequest:
    """An algorithm with its images, and the role and the profile that validate it.

    Without ``inference`` it can only be trained; without ``profile`` nothing is validated.
    """

    algorithm: Algorithm
    training_image: str
    training_image_digest: str | None = None
    inference: Sequence[Container] = ()
    role: str | None = None
    profile: ValidationProfile | None = None
    certify_for_marketplace: bool | None = None
    tags: Mapping[str, str] | None = None

    def to_request(self) -> dict[str, Any]:
        """Return the CreateAlgorithm request."""
        request: dict[str, Any] = {"AlgorithmName": self.algorithm.name}
        if self.algorithm.description:
            request["AlgorithmDescription"] = self.algorithm.description
        request["TrainingSpecification"] = build_training_specification(
            self.algorithm, image=self.training_image, digest=self.training_image_digest
        )
        if self.inference:
            inference = build_inference_specification(self.algorithm, self.inference)
            request["InferenceSpecification"] = inference
        return request | _write_common(self.role, self.profile, self.certify_for_marketplace, self.tags)

    @classmethod
    def from_request(cls, request: Mapping[str, Any]) -> AlgorithmRequest:
        """Return the value of a CreateAlgorithm request.

        Raises:
            RequestError: the request has another structure, or members that would be lost; they are listed.
            DefinitionError: its values contradict each other.
        """
        with map_structure_errors("CreateAlgorithm"):
            training = request["TrainingSpecification"]
            if not isinstance(training["TrainingImage"], str):
                raise RequestError("CreateAlgorithm: TrainingSpecification.TrainingImage is missing")
            inference = (request.get("InferenceSpecification") or {}).get("Containers") or ()
            role, profile = _read_validation(request)
            value = cls(
                algorithm=read_algorithm(request),
                training_image=training["TrainingImage"],
                training_image_digest=training.get("TrainingImageDigest"),
                inference=tuple(Container.from_request(container) for container in inference),
                role=role,
                profile=profile,
                certify_for_marketplace=request.get("CertifyForMarketplace"),
                tags=_read_tags(request),
            )
            _check_lossless("CreateAlgorithm", request, value.to_request())
        return value


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelPackageRequest:
    """A model that others may deploy, either trained by an algorithm (``algorithm_name``) or with its own containers.

    An unversioned package has a ``name``, a version of a group has a ``group``. ``declared`` has the content types and
    instance types of the containers; a package of an algorithm has those of the algorithm.
    """

    name: str | None = None
    group: str | None = None
    description: str | None = None
    algorithm_name: str | None = None
    model_data_url: str | None = None
    declared: Algorithm | None = None
    containers: Sequence[Container] = ()
    role: str | None = None
    profile: ValidationProfile | None = None
    certify_for_marketplace: bool | None = None
    approval_status: str | None = None
    tags: Mapping[str, str] | None = None

    def to_request(self) -> dict[str, Any]:
        """Return the CreateModelPackage request."""
        members: dict[str, Any] = {
            "ModelPackageName": self.name,
            "ModelPackageGroupName": self.group,
            "ModelPackageDescription": self.description,
            "ModelApprovalStatus": self.approval_status,
        }
        request = {name: value for name, value in members.items() if value is not None}
        if self.algorithm_name is not None:
            source = {"AlgorithmName": self.algorithm_name}
            if self.model_data_url is not None:
                source["ModelDataUrl"] = self.model_data_url
            request["SourceAlgorithmSpecification"] = {"SourceAlgorithms": [source]}
        if self.containers:
            declared = self.declared or _EMPTY
            request["InferenceSpecification"] = build_inference_specification(declared, self.containers)
        return request | _write_common(self.role, self.profile, self.certify_for_marketplace, self.tags)

    def with_model(self, uri: str) -> ModelPackageRequest:
        """Return the request with the address of its model: of its algorithm, or of its first container."""
        if self.algorithm_name is not None or not self.containers:
            return replace(self, model_data_url=uri)
        first, *others = self.containers
        return replace(self, containers=(replace(first, model_data_url=uri), *others))

    @classmethod
    def from_request(cls, request: Mapping[str, Any]) -> ModelPackageRequest:
        """Return the value of a CreateModelPackage request.

        Raises:
            RequestError: the request has members that would be lost; they are listed.
            DefinitionError: its values contradict each other.
        """
        with map_structure_errors("CreateModelPackage"):
            sources = (request.get("SourceAlgorithmSpecification") or {}).get("SourceAlgorithms") or [{}]
            inference = request.get("InferenceSpecification")
            role, profile = _read_validation(request)
            value = cls(
                name=request.get("ModelPackageName"),
                group=request.get("ModelPackageGroupName"),
                description=request.get("ModelPackageDescription"),
                algorithm_name=sources[0].get("AlgorithmName"),
                model_data_url=sources[0].get("ModelDataUrl"),
                declared=None if inference is None else _read_inference(inference),
                containers=tuple(map(Container.from_request, (inference or {}).get("Containers") or ())),
                role=role,
                profile=profile,
                certify_for_marketplace=request.get("CertifyForMarketplace"),
                approval_status=request.get("ModelApprovalStatus"),
                tags=_read_tags(request),
            )
            _check_lossless("CreateModelPackage", request, value.to_request())
        return value


def _read_inference(inference: Mapping[str, Any]) -> Algorithm:
    """Return an algorithm with the content types and instance types of an InferenceSpecification."""
    return Algorithm(
        _EMPTY.name,
        transform_instance_types=inference.get("SupportedTransformInstanceTypes") or (),
        realtime_instance_types=inference.get("SupportedRealtimeInferenceInstanceTypes") or (),
        content_types=inference.get("SupportedContentTypes") or (),
        response_types=inference.get("SupportedResponseMIMETypes") or (),
    )


#: The declaration of a package without content types and instance types.
_EMPTY: Final = Algorithm("package")


def _write_common(
    role: str | None, profile: ValidationProfile | None, certify: bool | None, tags: Mapping[str, str] | None
) -> dict[str, Any]:
    """Return the members that both requests have."""
    request: dict[str, Any] = {}
    if profile is not None:
        request["ValidationSpecification"] = {
            "ValidationRole": role or "",
            "ValidationProfiles": [profile.to_request()],
        }
    if certify is not None:
        request["CertifyForMarketplace"] = certify
    if tags is not None:
        request["Tags"] = [{"Key": key, "Value": value} for key, value in tags.items()]
    return request


def _read_validation(request: Mapping[str, Any]) -> tuple[str | None, ValidationProfile | None]:
    validation = request.get("ValidationSpecification")
    if validation is None:
        return None, None
    profiles = validation.get("ValidationProfiles") or []
    return validation.get("ValidationRole"), ValidationProfile.from_request(profiles[0]) if profiles else None


def _read_tags(request: Mapping[str, Any]) -> dict[str, str] | None:
    tags = request.get("Tags")
    return None if tags is None else {tag["Key"]: tag["Value"] for tag in tags}


def _check_lossless(operation: str, request: Mapping[str, Any], again: Mapping[str, Any]) -> None:
    if lost := sorted(_find_lost(request, again)):
        raise RequestError(f"{operation}: unsupported members: {', '.join(lost)}")


def _find_lost(given: Any, again: Any, where: str = "") -> set[str]:
    """Return the paths where two requests differ."""
    if isinstance(given, Mapping) and isinstance(again, Mapping):
        return {
            path
            for name in given.keys() | again.keys()
            for path in _find_lost(given.get(name), again.get(name), f"{where}.{name}" if where else name)
        }
    if isinstance(given, list | tuple) and isinstance(again, list | tuple) and len(given) == len(again):
        return {
            path
            for index, (one, other) in enumerate(zip(given, again, strict=True))
            for path in _find_lost(one, other, f"{where}[{index}]")
        }
    if where.endswith(("MinValue", "MaxValue")) and given is not None and again is not None:
        return set() if float(given) == float(again) else {where}
    return set() if given == again or (_is_empty(given) and _is_empty(again)) else {where or "the request"}


def _is_empty(value: Any) -> bool:
    """Return True if a member means the same as its absence."""
    return value is None or value is False or (isinstance(value, str | Mapping | list | tuple) and not value)


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleData:
    """Data of a validation: ``uri`` is an S3 prefix, or with ``attributes`` an augmented manifest."""

    uri: str
    attributes: Sequence[str] = ()
    content_type: str | None = None
    mode: InputMode | None = None


def build_validation_profile(
    algorithm: Algorithm,
    *,
    channels: Mapping[str, SampleData],
    output: str,
    hyperparameters: Mapping[str, str] | None = None,
    transform: str | None = None,
    name: str = "validation",
    volume_size_in_gb: int = 30,
    max_runtime_in_seconds: int = 3600,
) -> ValidationProfile:
    """Return the profile of an algorithm: a training job on samples, and a transform job on objects of ``transform``.

    The jobs run on one instance of the first type that the algorithm declares. A channel defaults to its first input
    mode (an augmented manifest to Pipe, the only one for it) and its first content type.

    Raises:
        DefinitionError: a channel is unknown or missing, or the algorithm declares no instance type.
    """
    declared = {channel.name: channel for channel in algorithm.channels}
    for channel in channels:
        if channel not in declared:
            raise DefinitionError(f"sample data for unknown channel {channel!r}{suggest_name(channel, declared)}")
    missing = [channel.name for channel in algorithm.channels if channel.required and channel.name not in channels]
    if missing:
        raise DefinitionError(f"sample data are missing for channel {missing[0]}, which {algorithm.name} requires")
    training = TrainingJob(
        algorithm=AlgorithmSpecification(training_input_mode="File"),
        hyperparameters=dict(hyperparameters) if hyperparameters else None,
        channels=tuple(_build_channel(declared[channel], sample) for channel, sample in channels.items()),
        output=Output(uri=f"{output.rstrip('/')}/training"),
        resources=Resources(
            instance_type=_choose_first(algorithm, "training_instance_types"),
            instance_count=1,
            volume_size_in_gb=volume_size_in_gb,
        ),
        stopping_condition=StoppingCondition(max_runtime_in_seconds=max_runtime_in_seconds),
    )
    return ValidationProfile(
        name=name,
        training=training,
        transform=None
        if transform is None
        else build_validation_transform(algorithm, transform, output=f"{output.rstrip('/')}/transform"),
    )


def _build_channel(declared: DeclaredChannel, sample: SampleData) -> Channel:
    augmented = bool(sample.attributes)
    mode = sample.mode or ("Pipe" if augmented else declared.input_modes[0])
    return Channel(
        name=declared.name,
        source=Source(
            s3=S3Data(
                uri=sample.uri,
                data_type="AugmentedManifestFile" if augmented else "S3Prefix",
                distribution="FullyReplicated",
                attribute_names=tuple(sample.attributes) or None,
            )
        ),
        content_type=sample.content_type or (declared.content_types[0] if declared.content_types else None),
        record_wrapper_type="RecordIO" if augmented else None,
        input_mode=mode,
    )


def build_validation_transform(algorithm: Algorithm, uri: str, *, output: str) -> TransformJob:
    """Return the transform job of a validation of the objects below ``uri``.

    Raises:
        DefinitionError: the algorithm declares no instance type for it.
    """
    return TransformJob(
        input=TransformInput(uri=uri, content_type=algorithm.content_types[0] if algorithm.content_types else None),
        output=TransformOutput(uri=output, accept=algorithm.response_types[0] if algorithm.response_types else None),
        resources=TransformResources(
            instance_type=_choose_first(algorithm, "transform_instance_types"), instance_count=1
        ),
    )


def _choose_first(algorithm: Algorithm, member: str) -> str:
    types: Sequence[str] = getattr(algorithm, member)
    if not types:
        raise DefinitionError(f"{algorithm.name} declares no {member}, which its validation requires")
    return types[0]


def place_profile(profile: ValidationProfile, keys: Mapping[str, str], *, bucket: str) -> ValidationProfile:
    """Return a profile with its local data at their ``keys`` in a bucket, by channel and `TRANSFORM`."""
    if profile.training is not None:
        profile = replace(profile, training=place_in_s3(profile.training, keys, bucket=bucket))
    transform = profile.transform
    if transform is not None and is_local(transform.input.uri) and TRANSFORM in keys:
        source = replace(transform.input, uri=f"s3://{bucket}/{keys[TRANSFORM]}")
        profile = replace(profile, transform=replace(transform, input=source))
    return profile


def find_outputs(value: Any) -> Iterator[str]:
    """Yield every address that the validation of a request writes to."""
    if isinstance(value, Mapping):
        for name, member in value.items():
            if name == "S3OutputPath":
                yield str(member)
            else:
                yield from find_outputs(member)
    elif isinstance(value, list):
        for item in value:
            yield from find_outputs(item)
