"""Algorithms, model packages and groups as the registry holds them, and the state of their validation.

::

    Pending -> InProgress -> Completed | Failed

Source: the service model (AlgorithmStatus, ModelPackageStatus, and the statuses of their validations). An image scan,
as AWS Marketplace has it, is not emulated: ImageScanStatuses are empty. This module does no I/O.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Final

from tritonforge.emulator.control.api_errors import conflict, does_not_exist
from tritonforge.emulator.control.records import RegistryEntry, Resource
from tritonforge.emulator.control.resources import ResourceKind

__all__ = [
    "ALGORITHM",
    "MODEL_PACKAGE",
    "MODEL_PACKAGE_GROUP",
    "NEXT",
    "UNFINISHED",
    "begin",
    "check_deletable",
    "complete",
    "describe_details",
    "fail",
    "find_profile",
    "is_validation_job",
    "list_validations",
]

ALGORITHM: Final = ResourceKind(
    name="algorithm", noun="algorithm", record=RegistryEntry, missing=does_not_exist, has_arn_lookup=True
)
MODEL_PACKAGE: Final = ResourceKind(
    name="model-package", noun="model package", record=RegistryEntry, missing=does_not_exist, has_arn_lookup=True
)
MODEL_PACKAGE_GROUP: Final = ResourceKind(
    name="model-package-group", noun="model package group", record=Resource, missing=does_not_exist, has_arn_lookup=True
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
        raise conflict(f"{word} {entry.arn} is {entry.status}; delete it once its validation has ended.")


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


def begin(entry: RegistryEntry, jobs: Mapping[str, str], now: float) -> RegistryEntry:
    """Return the entry with its validation InProgress, by jobs of these names."""
    return replace(_change_status(entry, "InProgress", now), jobs=jobs)


def complete(entry: RegistryEntry, now: float) -> RegistryEntry:
    """Return the entry as Completed."""
    return _change_status(entry, "Completed", now)


def fail(entry: RegistryEntry, reason: str, now: float) -> RegistryEntry:
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
