"""Algorithms, model packages and groups by name or by ARN, as requests may give either."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Final

from tritonforge.emulator.control import resources
from tritonforge.emulator.control.api_errors import does_not_exist, invalid
from tritonforge.emulator.control.records import RegistryEntry, Resource
from tritonforge.emulator.control.request_context import RequestContext

__all__ = [
    "ALGORITHM",
    "GROUP",
    "NEXT",
    "PACKAGE",
    "UNDER_WAY",
    "begin",
    "complete",
    "describe_details",
    "fail",
    "find_algorithm",
    "find_group",
    "find_package",
    "find_profile",
    "is_validation_job",
    "list_validations",
    "parse_name",
]

ALGORITHM: Final = "algorithm"
PACKAGE: Final = "model-package"
GROUP: Final = "model-package-group"

#: How AWS's sentences write the kinds.
_WORDS: Final[Mapping[str, str]] = {
    ALGORITHM: "Algorithm",
    PACKAGE: "ModelPackage",
    GROUP: "ModelPackageGroup",
}


def find_algorithm(context: RequestContext, text: str) -> RegistryEntry:
    """The algorithm of a name or an ARN. Raises ApiError where there is none."""
    return _find_entry(context, ALGORITHM, text)


def find_package(context: RequestContext, text: str) -> RegistryEntry:
    """The model package of a name or an ARN; a version's name is ``group/version``. Raises ApiError."""
    return _find_entry(context, PACKAGE, text)


def find_group(context: RequestContext, text: str) -> Resource:
    """The model package group of a name or an ARN. Raises ApiError where there is none."""
    name = parse_name(context, GROUP, text)
    found = context.store.resource(context.region, GROUP, name)
    if found is None:
        raise does_not_exist(_WORDS[GROUP], context.arn(GROUP, name))
    return found


def is_validation_job(found: RegistryEntry, request: Mapping[str, Any]) -> bool:
    """Whether a CreateTrainingJob request is the one by which an algorithm is validated."""
    return found.status == "InProgress" and found.jobs.get("training") == request["TrainingJobName"]


def parse_name(context: RequestContext, kind: str, text: str) -> str:
    """The name that a name or an ARN of this region and account says. Raises ApiError for another ARN."""
    if not text.startswith("arn:"):
        return text
    found = resources.parse_arn(text)
    if found is None or found.kind != kind:
        raise invalid(f"{text!r} is no ARN of a {resources.KINDS[kind]}.")  # ours
    if found.region != context.region:
        raise invalid(
            f"ARN should be scoped to correct region: {context.region}"
        )  # amazon-sagemaker-examples issue 1438
    if found.account != context.account:
        raise invalid(f"{text!r} is not of account {context.account}.")  # ours
    return found.name


def _find_entry(context: RequestContext, kind: str, text: str) -> RegistryEntry:
    name = parse_name(context, kind, text)
    found = context.store.registered(context.region, kind, name)
    if found is None:
        raise does_not_exist(_WORDS[kind], context.arn(kind, name))
    return found


#: The statuses that may follow a status.
NEXT: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {
        "Pending": frozenset({"InProgress"}),
        "InProgress": frozenset({"Completed", "Failed"}),
        "Completed": frozenset(),
        "Failed": frozenset(),
    }
)

#: The statuses in which something is still to be done.
UNDER_WAY: Final = frozenset({"Pending", "InProgress"})


def find_profile(request: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The profile of a request; there is one at most. None also where validation is to be skipped."""
    profiles = (request.get("ValidationSpecification") or {}).get("ValidationProfiles") or ()
    return None if not profiles or request.get("SkipModelValidation") == "All" else profiles[0]


def list_validations(request: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    """The validations of a request, as they stand when it was made."""
    profile = find_profile(request)
    return () if profile is None else ({"Name": profile["ProfileName"], "Status": "NotStarted"},)


def describe_details(found: RegistryEntry) -> Mapping[str, Any]:
    """AlgorithmStatusDetails, or ModelPackageStatusDetails."""
    return {"ValidationStatuses": list(found.validations), "ImageScanStatuses": []}


def begin(found: RegistryEntry, jobs: Mapping[str, str], now: float) -> RegistryEntry:
    """Validation begins, by jobs of these names."""
    return replace(
        _change_status(found, "InProgress", now), jobs=jobs, validations=_set_validations(found, "InProgress")
    )


def complete(found: RegistryEntry, now: float) -> RegistryEntry:
    """Every profile was run."""
    return replace(_change_status(found, "Completed", now), validations=_set_validations(found, "Completed"))


def fail(found: RegistryEntry, reason: str, now: float) -> RegistryEntry:
    """A profile failed."""
    validations = tuple({**each, "FailureReason": reason} for each in _set_validations(found, "Failed"))
    return replace(_change_status(found, "Failed", now), validations=validations)


def _set_validations(found: RegistryEntry, status: str) -> tuple[Mapping[str, Any], ...]:
    return tuple({**each, "Status": status} for each in found.validations)


def _change_status(found: RegistryEntry, status: str, now: float) -> RegistryEntry:
    if status not in NEXT[found.status]:
        raise ValueError(f"it does not go from {found.status} to {status}")
    return replace(found, status=status, modified=now)
