"""CreateAlgorithm, DescribeAlgorithm, ListAlgorithms, DeleteAlgorithm."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from tritonforge.emulator.control import paging, tagging
from tritonforge.emulator.control.arns import KINDS
from tritonforge.emulator.control.failures import already_exists, conflict, invalid, unknown_image
from tritonforge.emulator.control.records import Registered
from tritonforge.emulator.control.registry import naming, profiles
from tritonforge.emulator.control.request_context import Desk, Operation
from tritonforge.emulator.hosting import programs
from tritonforge.sagemaker.limits import check_limits

__all__ = ["OPERATIONS"]

_KIND: Final = naming.ALGORITHM


def _create(desk: Desk, request: Mapping[str, Any]) -> Mapping[str, Any]:
    name = request["AlgorithmName"]
    arn = desk.arn(_KIND, name)
    tags = tagging.added((), request.get("Tags") or (), arn=arn)
    violations = check_limits("CreateAlgorithm", request)
    if violations:
        raise invalid("; ".join(f"{violation.place}: {violation.sentence}" for violation in violations))
    validation = request.get("ValidationSpecification")
    if validation:
        desk.premises.role(desk.region, validation["ValidationRole"])
    image = request["TrainingSpecification"]["TrainingImage"]
    if programs.folder(image, desk.images) is None:
        raise unknown_image(image, programs.ADVICE)
    now = desk.now()
    with desk.ledger.lock:
        if desk.ledger.registered(desk.region, _KIND, name) is not None:
            raise already_exists(KINDS[_KIND], arn)
        made = Registered(
            name=name,
            arn=arn,
            created=now,
            modified=now,
            status="Pending",
            request={key: value for key, value in request.items() if key != "Tags"},
            inference=request.get("InferenceSpecification") or {},
            validations=profiles.not_started(request),
            tags=tags,
        )
        desk.ledger.put(desk.region, _KIND, made)
    desk.validate(desk.region, _KIND, name)
    return {"AlgorithmArn": arn}


def _describe(desk: Desk, request: Mapping[str, Any]) -> Mapping[str, Any]:
    found = naming.algorithm(desk, request["AlgorithmName"])
    return {
        "CertifyForMarketplace": False,
        **found.request,
        "AlgorithmName": found.name,
        "AlgorithmArn": found.arn,
        "CreationTime": found.created,
        "AlgorithmStatus": found.status,
        "AlgorithmStatusDetails": profiles.details(found),
    }


def _list(desk: Desk, request: Mapping[str, Any]) -> Mapping[str, Any]:
    chosen = paging.selected(
        request,
        [each for _, each in desk.ledger.registrations(_KIND, desk.region)],
        name=lambda each: each.name,
        created=lambda each: each.created,
        order="Ascending",
    )
    return paging.answer(request, chosen, "AlgorithmSummaryList", _summary, name=lambda each: each.name)


def _summary(found: Registered) -> Mapping[str, Any]:
    summary: dict[str, Any] = {
        "AlgorithmName": found.name,
        "AlgorithmArn": found.arn,
        "CreationTime": found.created,
        "AlgorithmStatus": found.status,
    }
    description = found.request.get("AlgorithmDescription")
    return summary | ({} if description is None else {"AlgorithmDescription": description})


def _delete(desk: Desk, request: Mapping[str, Any]) -> Mapping[str, Any]:
    """Jobs that were made from it go on: they have a copy."""
    with desk.ledger.lock:
        found = naming.algorithm(desk, request["AlgorithmName"])
        if found.status in profiles.UNDER_WAY:
            raise conflict(f"Algorithm {found.arn} is {found.status}; delete it once its validation has ended.")
        desk.ledger.remove(desk.region, _KIND, found.name)
    return {}


OPERATIONS: Final[Mapping[str, Operation]] = MappingProxyType(
    {
        "CreateAlgorithm": _create,
        "DescribeAlgorithm": _describe,
        "ListAlgorithms": _list,
        "DeleteAlgorithm": _delete,
    }
)
