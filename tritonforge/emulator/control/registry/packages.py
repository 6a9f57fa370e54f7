"""CreateModelPackage, DescribeModelPackage, ListModelPackages, UpdateModelPackage, DeleteModelPackage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Final

from tritonforge.emulator.control import paging, tagging
from tritonforge.emulator.control.arns import KINDS
from tritonforge.emulator.control.failures import already_exists, conflict, invalid
from tritonforge.emulator.control.records import Registered
from tritonforge.emulator.control.registry import naming, profiles
from tritonforge.emulator.control.request_context import Desk, Operation
from tritonforge.sagemaker.limits import check_limits
from tritonforge.triton.service_limits import ADDITIONAL_SPECIFICATIONS

__all__ = ["OPERATIONS", "description"]

_KIND: Final = naming.PACKAGE

#: What a version is until somebody approves it. Source: SageMaker developer guide, "Update the Approval Status of a
#: Model".
_UNDECIDED: Final = "PendingManualApproval"

#: What the caller said of a request that is not told again.
_NOT_TOLD: Final = frozenset({"Tags", "ClientToken", "ModelPackageName", "ModelPackageGroupName"})


def _create(desk: Desk, request: Mapping[str, Any]) -> Mapping[str, Any]:
    name, group = _names(desk, request)
    violations = check_limits("CreateModelPackage", request)
    if violations:
        raise invalid("; ".join(f"{violation.place}: {violation.sentence}" for violation in violations))
    inference = _inference(desk, request)
    validation = request.get("ValidationSpecification")
    if validation:
        desk.premises.role(desk.region, validation["ValidationRole"])
    now = desk.now()
    with desk.ledger.lock:
        version = 0
        if group:
            versions = [
                each.version for _, each in desk.ledger.registrations(_KIND, desk.region) if each.group == group
            ]
            version = max(versions, default=0) + 1
            name = f"{group}/{version}"
        arn = desk.arn(_KIND, name)
        if desk.ledger.registered(desk.region, _KIND, name) is not None:
            raise already_exists(KINDS[_KIND], arn)
        kept = {key: value for key, value in request.items() if key not in _NOT_TOLD}
        if group:
            kept.setdefault("ModelApprovalStatus", _UNDECIDED)
        made = Registered(
            name=name,
            arn=arn,
            created=now,
            modified=now,
            status="Pending",
            request=kept,
            inference=inference,
            validations=profiles.not_started(request),
            group=group,
            version=version,
            tags=tagging.added((), request.get("Tags") or (), arn=arn),
        )
        desk.ledger.put(desk.region, _KIND, made)
    desk.validate(desk.region, _KIND, name)
    return {"ModelPackageArn": arn}


def _names(desk: Desk, request: Mapping[str, Any]) -> tuple[str, str]:
    """The name of an unversioned package, or the group of a version; the other one is empty.

    The sentences are AWS's, as quoted in getmoto/moto pull request 7165.
    """
    name, group = request.get("ModelPackageName"), request.get("ModelPackageGroupName")
    if name and group:
        raise invalid(
            "Both ModelPackageName and ModelPackageGroupName are provided in the input. Cannot determine which one to "
            "use."
        )
    if group:
        return "", naming.group(desk, group).name
    if not name:
        raise invalid("Missing ARN.")
    return str(name), ""


def _inference(desk: Desk, request: Mapping[str, Any]) -> Mapping[str, Any]:
    """The specification that holds: the request's own, or that of the algorithm which made the model."""
    given: Mapping[str, Any] = request.get("InferenceSpecification") or {}
    source: Mapping[str, Any] = request.get("SourceAlgorithmSpecification") or {}
    if bool(given) == bool(source):
        # API CreateModelPackage: one for a container, the other for an algorithm; a SourceUri alone is not emulated.
        # The sentence is ours.
        raise invalid("A model package needs InferenceSpecification or SourceAlgorithmSpecification; provide one.")
    if given:
        return given
    (one,) = source["SourceAlgorithms"]
    algorithm = naming.algorithm(desk, one["AlgorithmName"])
    if not algorithm.inference:
        raise invalid(f"Algorithm {algorithm.arn} has no InferenceSpecification, so it makes no model package.")  # ours
    first, *others = algorithm.inference["Containers"]
    data = {name: one[name] for name in ("ModelDataUrl", "ModelDataSource", "ModelDataETag") if one.get(name)}
    return {**algorithm.inference, "Containers": [{**first, **data}, *others]}


def _describe(desk: Desk, request: Mapping[str, Any]) -> Mapping[str, Any]:
    return description(naming.package(desk, request["ModelPackageName"]))


def description(found: Registered) -> Mapping[str, Any]:
    """The answer to DescribeModelPackage."""
    answer: dict[str, Any] = {
        "CertifyForMarketplace": False,
        "SkipModelValidation": "None",
        **found.request,
        "InferenceSpecification": found.inference,
        # The service model requires a name; that of a version is its group's.
        "ModelPackageName": found.group or found.name,
        "ModelPackageArn": found.arn,
        "CreationTime": found.created,
        "LastModifiedTime": found.modified,
        "ModelPackageStatus": found.status,
        "ModelPackageStatusDetails": profiles.details(found),
    }
    return answer | _of_version(found)


def _of_version(found: Registered) -> dict[str, Any]:
    return {"ModelPackageGroupName": found.group, "ModelPackageVersion": found.version} if found.group else {}


def _list(desk: Desk, request: Mapping[str, Any]) -> Mapping[str, Any]:
    """Packages of no group, unless ModelPackageType or a group asks for others."""
    found = [each for _, each in desk.ledger.registrations(_KIND, desk.region)]
    if request.get("ModelPackageGroupName"):
        group = naming.group(desk, request["ModelPackageGroupName"]).name
        found = [each for each in found if each.group == group]
    else:
        kind = request.get("ModelPackageType") or "Unversioned"
        found = [each for each in found if kind == "Both" or bool(each.group) is (kind == "Versioned")]
    approval = request.get("ModelApprovalStatus")
    if approval:
        found = [each for each in found if each.request.get("ModelApprovalStatus") == approval]
    chosen = paging.selected(
        request, found, name=lambda each: each.name, created=lambda each: each.created, order="Ascending"
    )
    return paging.answer(request, chosen, "ModelPackageSummaryList", _summary, name=lambda each: each.name)


def _summary(found: Registered) -> Mapping[str, Any]:
    told = ("ModelPackageDescription", "ModelApprovalStatus", "ModelLifeCycle", "ModelPackageRegistrationType")
    return {
        **{name: found.request[name] for name in told if found.request.get(name) is not None},
        # ListModelPackages gives no ModelPackageName of a version: aws/sagemaker-python-sdk issue 5606.
        **(_of_version(found) or {"ModelPackageName": found.name}),
        "ModelPackageArn": found.arn,
        "CreationTime": found.created,
        "ModelPackageStatus": found.status,
    }


def _update(desk: Desk, request: Mapping[str, Any]) -> Mapping[str, Any]:
    with desk.ledger.lock:
        found = naming.package(desk, request["ModelPackageArn"])
        if request.get("ModelApprovalStatus") and not found.group:
            raise invalid("ModelApprovalStatus is for versions of a model package group.")  # ours
        kept = dict(found.request)
        replaced = (
            "ModelApprovalStatus",
            "ModelPackageRegistrationType",
            "ApprovalDescription",
            "SourceUri",
            "ModelCard",
            "ModelLifeCycle",
        )
        kept |= {name: request[name] for name in replaced if request.get(name) is not None}
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
                raise invalid(
                    f"A model package has at most {ADDITIONAL_SPECIFICATIONS.value} AdditionalInferenceSpecifications."
                )  # ours
            kept["AdditionalInferenceSpecifications"] = additional
        inference = request.get("InferenceSpecification") or found.inference
        changed = replace(found, request=kept, inference=inference, modified=desk.now(found.modified))
        desk.ledger.put(desk.region, _KIND, changed)
    return {"ModelPackageArn": found.arn}


def _delete(desk: Desk, request: Mapping[str, Any]) -> Mapping[str, Any]:
    """Models that were made from it stay: they have a copy of its containers."""
    with desk.ledger.lock:
        found = naming.package(desk, request["ModelPackageName"])
        if found.status in profiles.UNDER_WAY:
            raise conflict(f"ModelPackage {found.arn} is {found.status}; delete it once its validation has ended.")
        desk.ledger.remove(desk.region, _KIND, found.name)
    return {}


OPERATIONS: Final[Mapping[str, Operation]] = MappingProxyType(
    {
        "CreateModelPackage": _create,
        "DescribeModelPackage": _describe,
        "ListModelPackages": _list,
        "UpdateModelPackage": _update,
        "DeleteModelPackage": _delete,
    }
)
