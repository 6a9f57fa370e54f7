"""Algorithms, model packages and groups by name or by ARN, as requests may give either."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from tritonforge.emulator.control import arns
from tritonforge.emulator.control.failures import absent, invalid
from tritonforge.emulator.control.records import Registered, Resource
from tritonforge.emulator.control.request_context import Desk

__all__ = ["ALGORITHM", "GROUP", "PACKAGE", "algorithm", "group", "named", "package", "validates"]

ALGORITHM: Final = "algorithm"
PACKAGE: Final = "model-package"
GROUP: Final = "model-package-group"

#: How AWS's sentences write the kinds.
_WORDS: Final[Mapping[str, str]] = {
    ALGORITHM: "Algorithm",
    PACKAGE: "ModelPackage",
    GROUP: "ModelPackageGroup",
}


def algorithm(desk: Desk, text: str) -> Registered:
    """The algorithm of a name or an ARN. Raises ApiError where there is none."""
    return _registered(desk, ALGORITHM, text)


def package(desk: Desk, text: str) -> Registered:
    """The model package of a name or an ARN; a version's name is ``group/version``. Raises ApiError."""
    return _registered(desk, PACKAGE, text)


def group(desk: Desk, text: str) -> Resource:
    """The model package group of a name or an ARN. Raises ApiError where there is none."""
    name = named(desk, GROUP, text)
    found = desk.ledger.resource(desk.region, GROUP, name)
    if found is None:
        raise absent(_WORDS[GROUP], desk.arn(GROUP, name))
    return found


def validates(found: Registered, request: Mapping[str, Any]) -> bool:
    """Whether a CreateTrainingJob request is the one by which an algorithm is validated."""
    return found.status == "InProgress" and found.jobs.get("training") == request["TrainingJobName"]


def named(desk: Desk, kind: str, text: str) -> str:
    """The name that a name or an ARN of this region and account says. Raises ApiError for another ARN."""
    if not text.startswith("arn:"):
        return text
    found = arns.parse(text)
    if found is None or found.kind != kind:
        raise invalid(f"{text!r} is no ARN of a {arns.KINDS[kind]}.")  # ours
    if found.region != desk.region:
        raise invalid(f"ARN should be scoped to correct region: {desk.region}")  # amazon-sagemaker-examples issue 1438
    if found.account != desk.account:
        raise invalid(f"{text!r} is not of account {desk.account}.")  # ours
    return found.name


def _registered(desk: Desk, kind: str, text: str) -> Registered:
    name = named(desk, kind, text)
    found = desk.ledger.registered(desk.region, kind, name)
    if found is None:
        raise absent(_WORDS[kind], desk.arn(kind, name))
    return found
