"""Validation profiles: what algorithms and model packages ask for, and how their validation stands. No I/O.

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

from tritonforge.emulator.control.records import Registered

__all__ = ["NEXT", "UNDER_WAY", "begun", "completed", "details", "failed", "not_started", "of"]

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


def of(request: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The profile of a request; there is one at most. None also where validation is to be skipped."""
    profiles = (request.get("ValidationSpecification") or {}).get("ValidationProfiles") or ()
    return None if not profiles or request.get("SkipModelValidation") == "All" else profiles[0]


def not_started(request: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    """The validations of a request, as they stand when it was made."""
    profile = of(request)
    return () if profile is None else ({"Name": profile["ProfileName"], "Status": "NotStarted"},)


def details(found: Registered) -> Mapping[str, Any]:
    """AlgorithmStatusDetails, or ModelPackageStatusDetails."""
    return {"ValidationStatuses": list(found.validations), "ImageScanStatuses": []}


def begun(found: Registered, jobs: Mapping[str, str], now: float) -> Registered:
    """Validation begins, by jobs of these names."""
    return replace(_to(found, "InProgress", now), jobs=jobs, validations=_all(found, "InProgress"))


def completed(found: Registered, now: float) -> Registered:
    """Every profile was run."""
    return replace(_to(found, "Completed", now), validations=_all(found, "Completed"))


def failed(found: Registered, reason: str, now: float) -> Registered:
    """A profile failed."""
    validations = tuple({**each, "FailureReason": reason} for each in _all(found, "Failed"))
    return replace(_to(found, "Failed", now), validations=validations)


def _all(found: Registered, status: str) -> tuple[Mapping[str, Any], ...]:
    return tuple({**each, "Status": status} for each in found.validations)


def _to(found: Registered, status: str, now: float) -> Registered:
    if status not in NEXT[found.status]:
        raise ValueError(f"it does not go from {found.status} to {status}")
    return replace(found, status=status, modified=now)
