"""What SageMaker is asked for an algorithm and for a model of it: CreateAlgorithm and CreateModelPackage. No I/O.

``Publication.from_request(request).to_request()`` is the request again, with what was left out and means no written as
False; the same for `ModelPackage`. A request that says what there is no field for is not read halfway: RequestError.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tritonforge.errors import RequestError
from tritonforge.sagemaker.jobs.marketplace import specification
from tritonforge.sagemaker.jobs.marketplace.profile import Profile
from tritonforge.sagemaker.jobs.marketplace.specification import Container
from tritonforge.training.algorithm.declaration import Algorithm

__all__ = ["ModelPackage", "Publication"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """An algorithm with its images, the role and the profile that validate it, and whether it goes to Marketplace.

    Without ``inference`` it can be trained only; without ``profile`` nothing is validated.
    """

    algorithm: Algorithm
    training_image: str
    training_image_digest: str | None = None
    inference: Sequence[Container] = ()
    role: str | None = None
    profile: Profile | None = None
    certify_for_marketplace: bool | None = None
    tags: Mapping[str, str] | None = None

    def to_request(self) -> dict[str, Any]:
        """The CreateAlgorithm request."""
        request: dict[str, Any] = {"AlgorithmName": self.algorithm.name}
        if self.algorithm.description:
            request["AlgorithmDescription"] = self.algorithm.description
        request["TrainingSpecification"] = specification.training_specification(
            self.algorithm, image=self.training_image, digest=self.training_image_digest
        )
        if self.inference:
            inference = specification.inference_specification(self.algorithm, self.inference)
            request["InferenceSpecification"] = inference
        return request | _outer(self.role, self.profile, self.certify_for_marketplace, self.tags)

    @classmethod
    def from_request(cls, request: Mapping[str, Any]) -> Publication:
        """The publication of a CreateAlgorithm request.

        Raises:
            RequestError: the request is none, or has members that would be lost; they are named.
            DefinitionError: what it declares contradicts itself.
        """
        with specification.structured("CreateAlgorithm"):
            training = request["TrainingSpecification"]
            if not isinstance(training["TrainingImage"], str):
                raise RequestError("CreateAlgorithm: TrainingSpecification.TrainingImage is missing")
            inference = (request.get("InferenceSpecification") or {}).get("Containers") or ()
            role, profile = _validation(request)
            found = cls(
                algorithm=specification.algorithm(request),
                training_image=training["TrainingImage"],
                training_image_digest=training.get("TrainingImageDigest"),
                inference=tuple(Container.from_request(each) for each in inference),
                role=role,
                profile=profile,
                certify_for_marketplace=request.get("CertifyForMarketplace"),
                tags=_tags(request),
            )
            _lossless("CreateAlgorithm", request, found.to_request())
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelPackage:
    """A model that may be deployed by others: trained by an algorithm (``algorithm_name``), or its own containers.

    An unversioned package has a ``name``, a version of a group ``group``. ``declared`` says which types and machines
    the containers are for; a package of an algorithm has those of the algorithm.
    """

    name: str | None = None
    group: str | None = None
    description: str | None = None
    algorithm_name: str | None = None
    model_data_url: str | None = None
    declared: Algorithm | None = None
    containers: Sequence[Container] = ()
    role: str | None = None
    profile: Profile | None = None
    certify_for_marketplace: bool | None = None
    approval_status: str | None = None
    tags: Mapping[str, str] | None = None

    def to_request(self) -> dict[str, Any]:
        """The CreateModelPackage request."""
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
            declared = self.declared or _NOTHING
            request["InferenceSpecification"] = specification.inference_specification(declared, self.containers)
        return request | _outer(self.role, self.profile, self.certify_for_marketplace, self.tags)

    @classmethod
    def from_request(cls, request: Mapping[str, Any]) -> ModelPackage:
        """The package of a CreateModelPackage request; its name is what ``declared`` is called.

        Raises:
            RequestError: the request has members that would be lost; they are named.
            DefinitionError: what it declares contradicts itself.
        """
        with specification.structured("CreateModelPackage"):
            sources = (request.get("SourceAlgorithmSpecification") or {}).get("SourceAlgorithms") or [{}]
            inference = request.get("InferenceSpecification")
            role, profile = _validation(request)
            found = cls(
                name=request.get("ModelPackageName"),
                group=request.get("ModelPackageGroupName"),
                description=request.get("ModelPackageDescription"),
                algorithm_name=sources[0].get("AlgorithmName"),
                model_data_url=sources[0].get("ModelDataUrl"),
                declared=None if inference is None else _inference(inference),
                containers=tuple(Container.from_request(each) for each in (inference or {}).get("Containers") or ()),
                role=role,
                profile=profile,
                certify_for_marketplace=request.get("CertifyForMarketplace"),
                approval_status=request.get("ModelApprovalStatus"),
                tags=_tags(request),
            )
            _lossless("CreateModelPackage", request, found.to_request())
        return found


def _inference(inference: Mapping[str, Any]) -> Algorithm:
    """What an InferenceSpecification declares of types and machines."""
    return Algorithm(
        _NOTHING.name,
        transform_instance_types=inference.get("SupportedTransformInstanceTypes") or (),
        realtime_instance_types=inference.get("SupportedRealtimeInferenceInstanceTypes") or (),
        content_types=inference.get("SupportedContentTypes") or (),
        response_types=inference.get("SupportedResponseMIMETypes") or (),
    )


#: What a package declares that says nothing of types and machines.
_NOTHING: Final = Algorithm("package")


def _outer(
    role: str | None, profile: Profile | None, certify: bool | None, tags: Mapping[str, str] | None
) -> dict[str, Any]:
    """The members that both requests have."""
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


def _validation(request: Mapping[str, Any]) -> tuple[str | None, Profile | None]:
    validation = request.get("ValidationSpecification")
    if validation is None:
        return None, None
    profiles = validation.get("ValidationProfiles") or []
    return validation.get("ValidationRole"), Profile.from_request(profiles[0]) if profiles else None


def _tags(request: Mapping[str, Any]) -> dict[str, str] | None:
    tags = request.get("Tags")
    return None if tags is None else {each["Key"]: each["Value"] for each in tags}


def _lossless(operation: str, request: Mapping[str, Any], again: Mapping[str, Any]) -> None:
    if lost := sorted(_lost(request, again)):
        raise RequestError(f"{operation}: nothing here has a field for {', '.join(lost)}")


def _lost(given: Any, again: Any, where: str = "") -> set[str]:
    """The places where two requests differ."""
    if isinstance(given, Mapping) and isinstance(again, Mapping):
        return {
            place
            for name in given.keys() | again.keys()
            for place in _lost(given.get(name), again.get(name), f"{where}.{name}" if where else name)
        }
    if isinstance(given, list | tuple) and isinstance(again, list | tuple) and len(given) == len(again):
        return {
            place
            for index, (one, other) in enumerate(zip(given, again, strict=True))
            for place in _lost(one, other, f"{where}[{index}]")
        }
    if where.endswith(("MinValue", "MaxValue")) and given is not None and again is not None:
        return set() if float(given) == float(again) else {where}
    return set() if given == again or (_says_nothing(given) and _says_nothing(again)) else {where or "the request"}


def _says_nothing(value: Any) -> bool:
    """Whether a member means what its absence means."""
    return value is None or value is False or (isinstance(value, str | Mapping | list | tuple) and not value)
