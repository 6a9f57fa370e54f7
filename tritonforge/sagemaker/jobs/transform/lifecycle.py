"""The course of a job on SageMaker: checked before any call, created, watched to its end, stopped if asked. An edge."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from tritonforge.sagemaker.client.errors import AwsError
from tritonforge.sagemaker.client.session import Session
from tritonforge.sagemaker.endpoints.local_repository import LocalRepository
from tritonforge.sagemaker.jobs import checking, creation, polling
from tritonforge.sagemaker.jobs.kinds import TRANSFORM
from tritonforge.sagemaker.jobs.log_tail import Lines
from tritonforge.sagemaker.plans.executor import execute
from tritonforge.sagemaker.plans.plan import CheckedPlan, Plan, Progress

__all__ = ["Ended", "check", "create", "stop", "watch"]

#: The part of the log in which SageMaker itself writes; the rest is the containers'.
_DATA_LOG: Final = "/data-log"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a job ended: its status, AWS's reason where it failed, and what SageMaker bills, in seconds an instance."""

    name: str
    arn: str
    status: str
    reason: str
    seconds: float


def check(plan: Plan) -> CheckedPlan:
    """Hold every request of a plan against what AWS takes; calls nothing.

    Raises:
        RequestError: with everything that AWS would refuse, one a line.
        MissingExtraError: botocore, which carries the service models, is not installed.
    """
    return checking.check(plan, TRANSFORM)


def create(plan: Plan, session: Session, *, materials: Mapping[str, LocalRepository], progress: Progress) -> str:
    """Carry out a plan up to the job's creation; the job's name.

    Raises:
        RequestError: AWS would refuse a request; nothing was called.
        DeploymentError, ConnectError: AWS refused a call; what was done before it stays.
    """
    checked = check(plan)
    (job,) = (step for step in plan.steps if step.operation == TRANSFORM.create)
    execute(
        replace(checked, steps=tuple(step for step in plan.steps if step is not job)),
        session,
        repositories=materials,
        progress=progress,
    )
    progress.begin(f"create transform job {job.name}")
    creation.send(session, TRANSFORM, job.name, job.request, late=_is_late)
    return job.name


def watch(session: Session, name: str, *, progress: Progress, line: Callable[[str], None] = lambda text: None) -> Ended:
    """Look at a job until it has ended; ``line`` is given the lines of its log as they come.

    Raises:
        DeploymentError, ConnectError: AWS does not tell how the job is.
    """
    found = polling.until_ended(
        session,
        TRANSFORM,
        name,
        progress=progress,
        phase=_phase,
        lines=Lines(session, TRANSFORM.group, name, wanted=lambda stream: stream.endswith(_DATA_LOG)),
        line=line,
    )
    return Ended(
        name=name,
        arn=str(found["TransformJobArn"]),
        status=str(found["TransformJobStatus"]),
        reason=str(found.get("FailureReason", "")),
        seconds=polling.between(found.get("TransformStartTime"), found.get("TransformEndTime")),
    )


def stop(session: Session, name: str) -> bool:
    """Ask SageMaker to stop a job; False where it had ended already.

    Raises:
        DeploymentError, ConnectError: AWS refused the call.
    """
    return polling.stop(session, TRANSFORM, name)


def _is_late(error: AwsError) -> bool:
    """Whether SageMaker does not find a model that was created a moment ago."""
    return "Could not find model" in error.message


def _phase(found: Mapping[str, Any]) -> str:
    if found["TransformJobStatus"] == "InProgress" and "TransformStartTime" not in found:
        return " (its instances start)"
    return ""
