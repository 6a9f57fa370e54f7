"""CreateModelPackageGroup, DescribeModelPackageGroup, ListModelPackageGroups, DeleteModelPackageGroup."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Final

from tritonforge.emulator.control import paging, registry_entries
from tritonforge.emulator.control.api_errors import already_exists, conflict, invalid
from tritonforge.emulator.control.records import RegistryEntry, Resource
from tritonforge.emulator.control.request_context import Operation, RequestContext
from tritonforge.emulator.control.resources import KINDS
from tritonforge.emulator.control.tags import add_tags
from tritonforge.sagemaker.limits import check_limits
from tritonforge.triton.service_limits import ADDITIONAL_SPECIFICATIONS

__all__ = ["GROUP_OPERATIONS", "PACKAGE_OPERATIONS", "describe_group", "describe_package"]

_GROUP: Final = registry_entries.GROUP

#: The only status that a group has here: it is there as soon as it was asked for.
_STATUS: Final = "Completed"


def _create_group(context: RequestContext, request: Mapping[str, Any]) -> Mapping[str, Any]:
    name = request["ModelPackageGroupName"]
    arn = context.arn(_GROUP, name)
    tags = add_tags((), request.get("Tags") or (), arn=arn)
    with context.store.lock:
        if context.store.resource(context.region, _GROUP, name) is not None:
            raise already_exists(KINDS[_GROUP], arn)
        kept = {key: value for key, value in request.items() if key != "Tags"}
        context.store.put(
            context.region, _GROUP, Resource(name=name, arn=arn, created=context.now(), request=kept, tags=tags)
        )
    return {"ModelPackageGroupArn": arn}


def describe_group(group: Resource) -> dict[str, Any]:
    """A group as DescribeModelPackageGroup and ListModelPackageGroups show it."""
    return {
        **group.request,
        "ModelPackageGroupName": group.name,
        "ModelPackageGroupArn": group.arn,
        "CreationTime": group.created,
        "ModelPackageGroupStatus": _STATUS,
    }


def _describe_group_request(context: RequestContext, request: Mapping[str, Any]) -> Mapping[str, Any]:
    """``CreatedBy`` is empty: it tells of users of SageMaker Studio, and there is none."""
    return {**describe_group(registry_entries.find_group(context, request["ModelPackageGroupName"])), "CreatedBy": {}}


def _list_groups(context: RequestContext, request: Mapping[str, Any]) -> Mapping[str, Any]:
    found = [each for each in context.store.all(context.region, _GROUP) if isinstance(each, Resource)]
    if request.get("CrossAccountFilterOption") == "CrossAccount":
        found = []  # the emulator has one account
    chosen = paging.select_items(
        request, found, name=lambda each: each.name, created=lambda each: each.created, order="Ascending"
    )
    return paging.build_page(
        request, chosen, "ModelPackageGroupSummaryList", describe_group, name=lambda each: each.name
    )


def _delete_group(context: RequestContext, request: Mapping[str, Any]) -> Mapping[str, Any]:
    with context.store.lock:
        group = registry_entries.find_group(context, request["ModelPackageGroupName"])
        held = [
            each.arn
            for _, each in context.store.registrations(registry_entries.PACKAGE, context.region)
            if each.group.lower() == group.name.lower()
        ]
        if held:
            raise conflict(f"ModelPackageGroup {group.arn} still has model packages: {', '.join(sorted(held))}.")
        context.store.remove(context.region, _GROUP, group.name)
    return {}


GROUP_OPERATIONS: Final[Mapping[str, Operation]] = MappingProxyType(
    {
        "CreateModelPackageGroup": _create_group,
        "DescribeModelPackageGroup": _describe_group_request,
        "ListModelPackageGroups": _list_groups,
        "DeleteModelPackageGroup": _delete_group,
    }
)

_PACKAGE: Final = registry_entries.PACKAGE

#: What a version is until somebody approves it. Source: SageMaker developer guide, "Update the Approval Status of a
#: Model".
_UNDECIDED: Final = "PendingManualApproval"

#: What the caller said of a request that is not told again.
_HIDDEN: Final = frozenset({"Tags", "ClientToken", "ModelPackageName", "ModelPackageGroupName"})


def _create_package(context: RequestContext, request: Mapping[str, Any]) -> Mapping[str, Any]:
    name, group = _find_names(context, request)
    violations = check_limits("CreateModelPackage", request)
    if violations:
        raise invalid("; ".join(f"{violation.place}: {violation.sentence}" for violation in violations))
    inference = _find_inference(context, request)
    validation = request.get("ValidationSpecification")
    if validation:
        context.preconditions.role(context.region, validation["ValidationRole"])
    now = context.now()
    with context.store.lock:
        version = 0
        if group:
            versions = [
                each.version for _, each in context.store.registrations(_PACKAGE, context.region) if each.group == group
            ]
            version = max(versions, default=0) + 1
            name = f"{group}/{version}"
        arn = context.arn(_PACKAGE, name)
        if context.store.registered(context.region, _PACKAGE, name) is not None:
            raise already_exists(KINDS[_PACKAGE], arn)
        kept = {key: value for key, value in request.items() if key not in _HIDDEN}
        if group:
            kept.setdefault("ModelApprovalStatus", _UNDECIDED)
        made = RegistryEntry(
            name=name,
            arn=arn,
            created=now,
            modified=now,
            status="Pending",
            request=kept,
            inference=inference,
            validations=registry_entries.list_validations(request),
            group=group,
            version=version,
            tags=add_tags((), request.get("Tags") or (), arn=arn),
        )
        context.store.put(context.region, _PACKAGE, made)
    context.validate(context.region, _PACKAGE, name)
    return {"ModelPackageArn": arn}


def _find_names(context: RequestContext, request: Mapping[str, Any]) -> tuple[str, str]:
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
        return "", registry_entries.find_group(context, group).name
    if not name:
        raise invalid("Missing ARN.")
    return str(name), ""


def _find_inference(context: RequestContext, request: Mapping[str, Any]) -> Mapping[str, Any]:
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
    algorithm = registry_entries.find_algorithm(context, one["AlgorithmName"])
    if not algorithm.inference:
        raise invalid(f"Algorithm {algorithm.arn} has no InferenceSpecification, so it makes no model package.")  # ours
    first, *others = algorithm.inference["Containers"]
    data = {name: one[name] for name in ("ModelDataUrl", "ModelDataSource", "ModelDataETag") if one.get(name)}
    return {**algorithm.inference, "Containers": [{**first, **data}, *others]}


def _describe_package_request(context: RequestContext, request: Mapping[str, Any]) -> Mapping[str, Any]:
    return describe_package(registry_entries.find_package(context, request["ModelPackageName"]))


def describe_package(found: RegistryEntry) -> Mapping[str, Any]:
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
        "ModelPackageStatusDetails": registry_entries.describe_details(found),
    }
    return answer | _describe_version(found)


def _describe_version(found: RegistryEntry) -> dict[str, Any]:
    return {"ModelPackageGroupName": found.group, "ModelPackageVersion": found.version} if found.group else {}


def _list_packages(context: RequestContext, request: Mapping[str, Any]) -> Mapping[str, Any]:
    """Packages of no group, unless ModelPackageType or a group asks for others."""
    found = [each for _, each in context.store.registrations(_PACKAGE, context.region)]
    if request.get("ModelPackageGroupName"):
        group = registry_entries.find_group(context, request["ModelPackageGroupName"]).name
        found = [each for each in found if each.group == group]
    else:
        kind = request.get("ModelPackageType") or "Unversioned"
        found = [each for each in found if kind == "Both" or bool(each.group) is (kind == "Versioned")]
    approval = request.get("ModelApprovalStatus")
    if approval:
        found = [each for each in found if each.request.get("ModelApprovalStatus") == approval]
    chosen = paging.select_items(
        request, found, name=lambda each: each.name, created=lambda each: each.created, order="Ascending"
    )
    return paging.build_page(request, chosen, "ModelPackageSummaryList", _summarize, name=lambda each: each.name)


def _summarize(found: RegistryEntry) -> Mapping[str, Any]:
    told = ("ModelPackageDescription", "ModelApprovalStatus", "ModelLifeCycle", "ModelPackageRegistrationType")
    return {
        **{name: found.request[name] for name in told if found.request.get(name) is not None},
        # ListModelPackages gives no ModelPackageName of a version: aws/sagemaker-python-sdk issue 5606.
        **(_describe_version(found) or {"ModelPackageName": found.name}),
        "ModelPackageArn": found.arn,
        "CreationTime": found.created,
        "ModelPackageStatus": found.status,
    }


def _update_package(context: RequestContext, request: Mapping[str, Any]) -> Mapping[str, Any]:
    with context.store.lock:
        found = registry_entries.find_package(context, request["ModelPackageArn"])
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
        changed = replace(found, request=kept, inference=inference, modified=context.now(found.modified))
        context.store.put(context.region, _PACKAGE, changed)
    return {"ModelPackageArn": found.arn}


def _delete_package(context: RequestContext, request: Mapping[str, Any]) -> Mapping[str, Any]:
    """Models that were made from it stay: they have a copy of its containers."""
    with context.store.lock:
        found = registry_entries.find_package(context, request["ModelPackageName"])
        if found.status in registry_entries.UNDER_WAY:
            raise conflict(f"ModelPackage {found.arn} is {found.status}; delete it once its validation has ended.")
        context.store.remove(context.region, _PACKAGE, found.name)
    return {}


PACKAGE_OPERATIONS: Final[Mapping[str, Operation]] = MappingProxyType(
    {
        "CreateModelPackage": _create_package,
        "DescribeModelPackage": _describe_package_request,
        "ListModelPackages": _list_packages,
        "UpdateModelPackage": _update_package,
        "DeleteModelPackage": _delete_package,
    }
)
