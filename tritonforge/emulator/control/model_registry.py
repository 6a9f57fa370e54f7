"""The model registry: operations on model packages and their groups, and the state of validations.

::

    Pending -> InProgress -> Completed | Failed

Source: the service model (AlgorithmStatus, ModelPackageStatus, and the statuses of their validations). An image scan,
as AWS Marketplace has it, is not emulated: ImageScanStatuses are empty.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Final

from tritonforge.emulator.control.api_errors import (
    build_conflict_error,
    build_nonexistence_error,
    build_validation_error,
    raise_violations,
)
from tritonforge.emulator.control.records import RegistryEntry, Resource, add_tags, build_page, describe_record
from tritonforge.emulator.control.request_context import Operation, RequestContext
from tritonforge.emulator.control.resource_store import ResourceKind
from tritonforge.sagemaker.limits import check_limits
from tritonforge.triton.service_limits import ADDITIONAL_SPECIFICATIONS

__all__ = ["ALGORITHM", "MODEL_PACKAGE", "MODEL_PACKAGE_GROUP", "NEXT", "OPERATIONS", "UNFINISHED",
           "begin_validation", "check_deletable", "complete_validation", "describe_details", "describe_group",
           "describe_package", "fail_validation", "find_profile", "is_validation_job", "list_validations"]  # fmt: skip

ALGORITHM: Final = ResourceKind(
    name="algorithm", noun="algorithm", record=RegistryEntry, missing=build_nonexistence_error, has_arn_lookup=True
)
MODEL_PACKAGE: Final = ResourceKind(
    name="model-package",
    noun="model package",
    record=RegistryEntry,
    missing=build_nonexistence_error,
    has_arn_lookup=True,
)
MODEL_PACKAGE_GROUP: Final = ResourceKind(
    name="model-package-group",
    noun="model package group",
    record=Resource,
    missing=build_nonexistence_error,
    has_arn_lookup=True,
)

#: The statuses that may follow a status.
NEXT: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {
        "Pending": frozenset({"InProgress"}),
        "InProgress": frozenset({"Completed", "Failed"}),
        "Completed": frozenset(),
        "Failed": frozenset(),
    }
)

#: The statuses of an entry whose validation has not ended.
UNFINISHED: Final = frozenset({"Pending", "InProgress"})


def is_validation_job(entry: RegistryEntry, request: Mapping[str, Any]) -> bool:
    """Return True if a CreateTrainingJob request is the one that validates an algorithm."""
    return entry.status == "InProgress" and entry.jobs.get("training") == request["TrainingJobName"]


def check_deletable(entry: RegistryEntry, word: str) -> None:
    """Raise ApiError for an entry whose validation has not ended; ``word`` is how the sentence names its kind."""
    if entry.status in UNFINISHED:
        raise build_conflict_error(f"{word} {entry.arn} is {entry.status}; delete it once its validation has ended.")


def find_profile(request: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the validation profile of a request, of which there is at most one; None if validation is skipped."""
    profiles = (request.get("ValidationSpecification") or {}).get("ValidationProfiles") or ()
    return None if not profiles or request.get("SkipModelValidation") == "All" else profiles[0]


def list_validations(request: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    """Return the validations of a new request, which have not started."""
    profile = find_profile(request)
    return () if profile is None else ({"Name": profile["ProfileName"], "Status": "NotStarted"},)


def describe_details(entry: RegistryEntry) -> Mapping[str, Any]:
    """Return AlgorithmStatusDetails, or ModelPackageStatusDetails."""
    return {"ValidationStatuses": list(entry.validations), "ImageScanStatuses": []}


def begin_validation(entry: RegistryEntry, jobs: Mapping[str, str], now: float) -> RegistryEntry:
    """Return the entry with its validation InProgress, by jobs of these names."""
    return replace(_change_status(entry, "InProgress", now), jobs=jobs)


def complete_validation(entry: RegistryEntry, now: float) -> RegistryEntry:
    """Return the entry as Completed."""
    return _change_status(entry, "Completed", now)


def fail_validation(entry: RegistryEntry, reason: str, now: float) -> RegistryEntry:
    """Return the entry as Failed, with the reason in every validation."""
    failed = _change_status(entry, "Failed", now)
    return replace(
        failed, validations=tuple({**validation, "FailureReason": reason} for validation in failed.validations)
    )


def _change_status(entry: RegistryEntry, status: str, now: float) -> RegistryEntry:
    if status not in NEXT[entry.status]:
        raise ValueError(f"an entry does not go from {entry.status} to {status}")
    validations = tuple({**validation, "Status": status} for validation in entry.validations)
    return replace(entry, status=status, modified=now, validations=validations)


#: The only status of a group here: it exists as soon as it is created.
_STATUS: Final = "Completed"


def _create_group(context: RequestContext, request: Mapping[str, Any]) -> Mapping[str, Any]:
    fields = context.build_fields(MODEL_PACKAGE_GROUP, request["ModelPackageGroupName"], request)
    context.create(MODEL_PACKAGE_GROUP, Resource(**fields))
    return {"ModelPackageGroupArn": fields["arn"]}


def describe_group(group: Resource) -> dict[str, Any]:
    """Return a group as DescribeModelPackageGroup and ListModelPackageGroups show it."""
    return {**group.request, **describe_record(group, "ModelPackageGroup"), "ModelPackageGroupStatus": _STATUS}


def _describe_group(context: RequestContext, request: Mapping[str, Any]) -> Mapping[str, Any]:
    """Describe a group; ``CreatedBy`` is empty: it names users of SageMaker Studio, which is not emulated."""
    return {**describe_group(context.find(MODEL_PACKAGE_GROUP, request["ModelPackageGroupName"])), "CreatedBy": {}}


def _list_groups(context: RequestContext, request: Mapping[str, Any]) -> Mapping[str, Any]:
    groups = context.list(MODEL_PACKAGE_GROUP)
    if request.get("CrossAccountFilterOption") == "CrossAccount":
        groups = []  # the emulator has one account
    return build_page(request, groups, "ModelPackageGroupSummaryList", describe_group, order="Ascending")


def _list_versions(context: RequestContext, group: str) -> list[RegistryEntry]:
    return [package for package in context.list(MODEL_PACKAGE) if package.group.lower() == group.lower()]


def _delete_group(context: RequestContext, request: Mapping[str, Any]) -> Mapping[str, Any]:
    with context.store.lock:
        group = context.find(MODEL_PACKAGE_GROUP, request["ModelPackageGroupName"])
        arns = sorted(package.arn for package in _list_versions(context, group.name))
        if arns:
            raise build_conflict_error(f"ModelPackageGroup {group.arn} still has model packages: {', '.join(arns)}.")
        context.remove(MODEL_PACKAGE_GROUP, group.name)
    return {}


#: The approval status of a new version. Source: SageMaker developer guide, "Update the Approval Status of a Model".
_UNDECIDED: Final = "PendingManualApproval"

#: Members of a request that Describe does not repeat.
_HIDDEN: Final = frozenset({"Tags", "ClientToken", "ModelPackageName", "ModelPackageGroupName"})

#: Members that UpdateModelPackage replaces.
_REPLACED: Final = (
    "ModelApprovalStatus",
    "ModelPackageRegistrationType",
    "ApprovalDescription",
    "SourceUri",
    "ModelCard",
    "ModelLifeCycle",
)

#: Members that ListModelPackages shows.
_SUMMARIZED: Final = (
    "ModelPackageDescription",
    "ModelApprovalStatus",
    "ModelLifeCycle",
    "ModelPackageRegistrationType",
)


def _create_package(context: RequestContext, request: Mapping[str, Any]) -> Mapping[str, Any]:
    name, group = _find_names(context, request)
    raise_violations(check_limits("CreateModelPackage", request))
    inference = _find_inference(context, request)
    validation = request.get("ValidationSpecification")
    if validation:
        context.preconditions.check_role(context.region, validation["ValidationRole"])
    now = context.now()
    with context.store.lock:
        version = 0
        if group:
            version = max((package.version for package in _list_versions(context, group)), default=0) + 1
            name = f"{group}/{version}"
        arn = context.arn(MODEL_PACKAGE, name)
        kept = {key: value for key, value in request.items() if key not in _HIDDEN}
        if group:
            kept.setdefault("ModelApprovalStatus", _UNDECIDED)
        package = RegistryEntry(
            name=name,
            arn=arn,
            created=now,
            modified=now,
            status="Pending",
            request=kept,
            inference=inference,
            validations=list_validations(request),
            group=group,
            version=version,
            tags=add_tags((), request.get("Tags") or (), arn=arn),
        )
        context.create(MODEL_PACKAGE, package)
    return {"ModelPackageArn": arn}


def _find_names(context: RequestContext, request: Mapping[str, Any]) -> tuple[str, str]:
    """Return the name of an unversioned package and the group of a version; one of the two is empty.

    The sentences are AWS's, as quoted in getmoto/moto pull request 7165.
    """
    name, group = request.get("ModelPackageName"), request.get("ModelPackageGroupName")
    if name and group:
        raise build_validation_error(
            "Both ModelPackageName and ModelPackageGroupName are provided in the input. Cannot determine which one to "
            "use."
        )
    if group:
        return "", context.find(MODEL_PACKAGE_GROUP, group).name
    if not name:
        raise build_validation_error("Missing ARN.")
    return str(name), ""


def _find_inference(context: RequestContext, request: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the inference specification of a package: the request's own, or that of the algorithm behind the model."""
    given: Mapping[str, Any] = request.get("InferenceSpecification") or {}
    source: Mapping[str, Any] = request.get("SourceAlgorithmSpecification") or {}
    if bool(given) == bool(source):
        # API CreateModelPackage: one for a container, the other for an algorithm; a SourceUri alone is not emulated.
        # The sentence is ours.
        raise build_validation_error(
            "A model package needs InferenceSpecification or SourceAlgorithmSpecification; provide one."
        )
    if given:
        return given
    (one,) = source["SourceAlgorithms"]
    algorithm = context.find(ALGORITHM, one["AlgorithmName"])
    if not algorithm.inference:
        raise build_validation_error(
            f"Algorithm {algorithm.arn} has no InferenceSpecification, so it makes no model package."
        )  # ours
    first, *others = algorithm.inference["Containers"]
    data = {name: one[name] for name in ("ModelDataUrl", "ModelDataSource", "ModelDataETag") if one.get(name)}
    return {**algorithm.inference, "Containers": [{**first, **data}, *others]}


def _describe_package(context: RequestContext, request: Mapping[str, Any]) -> Mapping[str, Any]:
    return describe_package(context.find(MODEL_PACKAGE, request["ModelPackageName"]))


def describe_package(package: RegistryEntry) -> Mapping[str, Any]:
    """Return the answer to DescribeModelPackage."""
    answer: dict[str, Any] = {
        "CertifyForMarketplace": False,
        "SkipModelValidation": "None",
        **package.request,
        "InferenceSpecification": package.inference,
        # The service model requires a name; that of a version is its group's.
        "ModelPackageName": package.group or package.name,
        "ModelPackageArn": package.arn,
        "CreationTime": package.created,
        "LastModifiedTime": package.modified,
        "ModelPackageStatus": package.status,
        "ModelPackageStatusDetails": describe_details(package),
    }
    return answer | _describe_version(package)


def _describe_version(package: RegistryEntry) -> dict[str, Any]:
    return {"ModelPackageGroupName": package.group, "ModelPackageVersion": package.version} if package.group else {}


def _list_packages(context: RequestContext, request: Mapping[str, Any]) -> Mapping[str, Any]:
    """List the packages without a group, unless ModelPackageType or a group asks for others."""
    if request.get("ModelPackageGroupName"):
        group = context.find(MODEL_PACKAGE_GROUP, request["ModelPackageGroupName"]).name
        packages = _list_versions(context, group)
    else:
        kind = request.get("ModelPackageType") or "Unversioned"
        packages = [
            package
            for package in context.list(MODEL_PACKAGE)
            if kind == "Both" or bool(package.group) is (kind == "Versioned")
        ]
    approval = request.get("ModelApprovalStatus")
    if approval:
        packages = [package for package in packages if package.request.get("ModelApprovalStatus") == approval]
    return build_page(request, packages, "ModelPackageSummaryList", _summarize, order="Ascending")


def _summarize(package: RegistryEntry) -> Mapping[str, Any]:
    return {
        **{name: package.request[name] for name in _SUMMARIZED if package.request.get(name) is not None},
        # ListModelPackages gives no ModelPackageName of a version: aws/sagemaker-python-sdk issue 5606.
        **(_describe_version(package) or {"ModelPackageName": package.name}),
        "ModelPackageArn": package.arn,
        "CreationTime": package.created,
        "ModelPackageStatus": package.status,
    }


def _update_package(context: RequestContext, request: Mapping[str, Any]) -> Mapping[str, Any]:
    def update(package: RegistryEntry, now: float) -> RegistryEntry:
        if request.get("ModelApprovalStatus") and not package.group:
            raise build_validation_error("ModelApprovalStatus is for versions of a model package group.")  # ours
        kept = dict(package.request)
        kept |= {name: request[name] for name in _REPLACED if request.get(name) is not None}
        properties = {
            **(kept.get("CustomerMetadataProperties") or {}),
            **(request.get("CustomerMetadataProperties") or {}),
        }
        for name in request.get("CustomerMetadataPropertiesToRemove") or ():
            properties.pop(name, None)
        kept.pop("CustomerMetadataProperties", None)
        if properties:
            kept["CustomerMetadataProperties"] = properties
        added = request.get("AdditionalInferenceSpecificationsToAdd") or ()
        if added:
            additional = [*(kept.get("AdditionalInferenceSpecifications") or ()), *added]
            if len(additional) > ADDITIONAL_SPECIFICATIONS.value:
                raise build_validation_error(
                    f"A model package has at most {ADDITIONAL_SPECIFICATIONS.value} AdditionalInferenceSpecifications."
                )  # ours
            kept["AdditionalInferenceSpecifications"] = additional
        inference = request.get("InferenceSpecification") or package.inference
        return replace(package, request=kept, inference=inference, modified=now)

    return {"ModelPackageArn": context.change(MODEL_PACKAGE, request["ModelPackageArn"], update).arn}


def _delete_package(context: RequestContext, request: Mapping[str, Any]) -> Mapping[str, Any]:
    """Delete a package; models that were made from it stay, as they have a copy of its containers."""
    with context.store.lock:
        package = context.find(MODEL_PACKAGE, request["ModelPackageName"])
        check_deletable(package, "ModelPackage")
        context.remove(MODEL_PACKAGE, package.name)
    return {}


OPERATIONS: Final[Mapping[str, Operation]] = MappingProxyType(
    {
        "CreateModelPackageGroup": _create_group,
        "DescribeModelPackageGroup": _describe_group,
        "ListModelPackageGroups": _list_groups,
        "DeleteModelPackageGroup": _delete_group,
        "CreateModelPackage": _create_package,
        "DescribeModelPackage": _describe_package,
        "ListModelPackages": _list_packages,
        "UpdateModelPackage": _update_package,
        "DeleteModelPackage": _delete_package,
    }
)
