"""The course of an algorithm or a model package on SageMaker: checked, created, watched to the end of validation.

An edge.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from tritonforge.sagemaker.client.errors import AwsError
from tritonforge.sagemaker.client.session import Session
from tritonforge.sagemaker.endpoints.observation import is_missing
from tritonforge.sagemaker.jobs import checking, creation, polling
from tritonforge.sagemaker.jobs.kinds import MODEL_PACKAGE, Kind
from tritonforge.sagemaker.jobs.marketplace.planning import Standing
from tritonforge.sagemaker.jobs.matching import holds
from tritonforge.sagemaker.jobs.training import uploading
from tritonforge.sagemaker.jobs.training.local_data import Material
from tritonforge.sagemaker.plans.executor import execute
from tritonforge.sagemaker.plans.plan import CheckedPlan, Plan, Progress

__all__ = ["Ended", "check", "create", "observe", "version", "watch"]

_SERVICE: Final = "sagemaker"

#: Versions of a group that are looked at for one that is there already: the newest.
_NEWEST: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a validation ended: the status, and what failed, a sentence for each part of it."""

    name: str
    arn: str
    status: str
    reasons: tuple[str, ...]


def check(plan: Plan, kind: Kind) -> CheckedPlan:
    """Hold every request of a plan against what AWS takes; calls nothing.

    Raises:
        RequestError: with everything that AWS would refuse, one a line.
    """
    return checking.check(plan, kind)


def observe(session: Session, kind: Kind, name: str, *, group: str | None = None) -> Standing:
    """What AWS has under a name, and whether a group is there. Only reads.

    Raises:
        DeploymentError, ConnectError: as `Session.call`.
    """
    described = _described(session, kind.describe, **{kind.name: name}) if name else None
    if group is None:
        return Standing(described=described)
    found = _described(session, "DescribeModelPackageGroup", ModelPackageGroupName=group)
    return Standing(described=described, has_group=found is not None)


def version(session: Session, group: str, request: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The newest version of a group that is what a request asks for, None where none is. Only reads."""
    try:
        listed = session.call(
            _SERVICE,
            "ListModelPackages",
            ModelPackageGroupName=group,
            SortBy="CreationTime",
            SortOrder="Descending",
            MaxResults=_NEWEST,
        )
    except AwsError as error:
        if is_missing(error):
            return None
        raise
    wanted = {name: value for name, value in request.items() if name not in ("ClientToken", "ModelApprovalStatus")}
    for each in listed.get("ModelPackageSummaryList", ()):
        found = session.call(_SERVICE, MODEL_PACKAGE.describe, ModelPackageName=each["ModelPackageArn"])
        if holds({"ModelPackageGroupName": group, **found}, wanted):
            return found
    return None


def create(plan: Plan, kind: Kind, session: Session, *, materials: Mapping[str, Material], progress: Progress) -> str:
    """Carry out a plan; the ARN of what was created.

    Raises:
        RequestError: AWS would refuse a request; nothing was called.
        DeploymentError, ConnectError: AWS refused a call; what was done before it stays, and is not done again.
    """
    checked = check(plan, kind)
    (made,) = (step for step in plan.steps if step.operation == kind.create)
    execute(
        replace(checked, steps=tuple(step for step in plan.steps if step is not made)),
        session,
        upload=lambda step: uploading.upload(step, session, materials, account=plan.account, progress=progress),
        progress=progress,
    )
    progress.begin(f"create {kind.noun} {made.name}")
    deletes = any(step.action == "delete" and step.kind == kind.noun for step in plan.steps)
    answer = creation.send(
        session, kind, made.name, made.request, late=lambda error: deletes and creation.is_taken(error)
    )
    return str(answer[kind.arn])


def watch(
    session: Session,
    kind: Kind,
    name: str,
    *,
    progress: Progress,
    phase: Callable[[str, str], None] = lambda part, status: None,
) -> Ended:
    """Look at an algorithm or a model package, by name or ARN, until its validation has ended.

    ``phase`` is given the parts of the validation with their status whenever that changes.

    Raises:
        DeploymentError, ConnectError: AWS does not tell how it is.
    """
    told: dict[str, str] = {}

    def described(found: Mapping[str, Any]) -> str:
        for part, status, _ in _parts(found, kind):
            if told.get(part) != status:
                told[part] = status
                phase(part, status)
        return "".join(f", {part} {status}" for part, status in told.items())

    found = polling.until_ended(session, kind, name, progress=progress, phase=described)
    return Ended(
        name=name.rpartition("/")[2] if name.startswith("arn:") else name,
        arn=str(found[kind.arn]),
        status=str(found[kind.status]),
        reasons=tuple(f"{part}: {reason}" for part, _, reason in _parts(found, kind) if reason),
    )


def _parts(found: Mapping[str, Any], kind: Kind) -> Iterator[tuple[str, str, str]]:
    """The parts of a validation: what it is of, its status, and why it failed."""
    details = found.get(f"{kind.status}Details") or {}
    for member, what in (("ValidationStatuses", "profile"), ("ImageScanStatuses", "scan of the image")):
        for each in details.get(member) or ():
            yield f"{what} {each.get('Name', '')}".strip(), str(each["Status"]), str(each.get("FailureReason") or "")


def _described(session: Session, operation: str, **request: str) -> Mapping[str, Any] | None:
    try:
        return session.call(_SERVICE, operation, **request)
    except AwsError as error:
        if is_missing(error):
            return None
        raise
