"""The course of a job on SageMaker: checked before any call, created, watched to its end, stopped if asked. An edge."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from tritonforge.errors import ConnectError, DeploymentError, RequestError
from tritonforge.sagemaker import service_model, shapes
from tritonforge.sagemaker.applying import Material, Progress, apply
from tritonforge.sagemaker.applying import check as check_plan
from tritonforge.sagemaker.aws.refusals import AwsError
from tritonforge.sagemaker.aws.session import Session
from tritonforge.sagemaker.deployment.steps import Plan
from tritonforge.sagemaker.transforming import limits
from tritonforge.sagemaker.transforming.lines import Lines
from tritonforge.sagemaker.transforming.planning import OPERATION

__all__ = ["Ended", "check", "create", "stop", "watch"]

_SERVICE: Final = "sagemaker"

#: Seconds between two looks: short at first, then longer.
_FIRST: Final = 0.25
_LONGEST: Final = 10.0
_LONGER: Final = 1.3
#: Looks that may fail in a row, on top of botocore's own retries.
_FAILURES: Final = 5
_SERVER_ERROR: Final = 500

#: Seconds to wait before a job of a model that was just created is tried again: SageMaker reads its tables late.
_PAUSES: Final = (1.0, 2.0, 4.0, 8.0, 16.0)

#: The log comes some seconds after the status: how often to look for its last lines, and the pause in seconds.
_LAST_LOOKS: Final = 3
_LAST_PAUSE: Final = 1.0

_UNDER_WAY: Final = frozenset({"InProgress", "Stopping"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a job ended: its status, AWS's reason where it failed, and what SageMaker bills, in seconds an instance."""

    name: str
    arn: str
    status: str
    reason: str
    seconds: float


def check(plan: Plan) -> None:
    """Hold every request of a plan against what AWS takes; calls nothing.

    Raises:
        RequestError: with everything that AWS would refuse, one a line.
        MissingExtraError: botocore, which carries the service models, is not installed.
    """
    lines: list[str] = []
    for step in plan.steps:
        if step.operation == OPERATION:
            found = shapes.problems(service_model.operation(_SERVICE, OPERATION).input_shape, step.request)
            lines += shapes.summary(found).splitlines() if found else []
            lines += [f"{each.place}: {each.sentence}" for each in limits.exceeded(OPERATION, step.request)]
    if lines:
        raise RequestError("AWS would refuse this job:\n" + "\n".join(lines))
    check_plan(plan)


def create(plan: Plan, session: Session, *, materials: Mapping[str, Material], progress: Progress) -> str:
    """Carry out a plan up to the job's creation; the job's name.

    Raises:
        RequestError: AWS would refuse a request; nothing was called.
        DeploymentError, ConnectError: AWS refused a call; what was done before it stays.
    """
    check(plan)
    (job,) = (step for step in plan.steps if step.operation == OPERATION)
    apply(
        replace(plan, steps=tuple(step for step in plan.steps if step is not job)),
        session,
        materials=materials,
        progress=progress,
    )
    progress.begin(f"create transform job {job.name}")
    _send(session, job.name, job.request)
    return job.name


def watch(session: Session, name: str, *, progress: Progress, line: Callable[[str], None] = lambda text: None) -> Ended:
    """Look at a job until it has ended; ``line`` is given the lines of its log as they come.

    Raises:
        DeploymentError, ConnectError: AWS does not tell how the job is.
    """
    lines = Lines(session, name)
    since, pause = time.monotonic(), _FIRST
    while True:
        found = _described(session, name, progress)
        for each in lines.new():
            line(each)
        status = str(found["TransformJobStatus"])
        if status not in _UNDER_WAY:
            break
        progress.detail(f"{status}{_phase(found)}, {time.monotonic() - since:.0f} s")
        time.sleep(pause)
        pause = min(_LONGEST, pause * _LONGER)
    if status == "Failed":
        _last(lines, line)
    return Ended(
        name=name,
        arn=str(found["TransformJobArn"]),
        status=status,
        reason=str(found.get("FailureReason", "")),
        seconds=_between(found.get("TransformStartTime"), found.get("TransformEndTime")),
    )


def stop(session: Session, name: str) -> bool:
    """Ask SageMaker to stop a job; False where it had ended already.

    Raises:
        DeploymentError, ConnectError: AWS refused the call.
    """
    try:
        session.call(_SERVICE, "StopTransformJob", TransformJobName=name)
    except AwsError as error:
        if error.code == "ValidationException" and "is in status" in error.message:
            return False
        raise
    return True


def _send(session: Session, name: str, request: Mapping[str, Any]) -> None:
    """Create the job; a model that was created a moment ago is waited for."""
    for pause in _PAUSES:
        if _is_sent(session, name, request):
            return
        time.sleep(pause)
    session.call(_SERVICE, OPERATION, resource=name, **request)


def _is_sent(session: Session, name: str, request: Mapping[str, Any]) -> bool:
    """Whether the job is there now; not where SageMaker does not find its model yet."""
    try:
        session.call(_SERVICE, OPERATION, resource=name, **request)
    except AwsError as error:
        if error.code == "ResourceInUse" and _is_there(session, name, request):
            return True
        if "Could not find model" in error.message:
            return False
        raise
    return True


def _is_there(session: Session, name: str, request: Mapping[str, Any]) -> bool:
    """Whether a job of this name is the one that was meant, as after a call whose answer was lost."""
    found = session.call(_SERVICE, "DescribeTransformJob", TransformJobName=name)
    return all(found.get(member) == value for member, value in request.items() if member != "Tags")


def _described(session: Session, name: str, progress: Progress) -> dict[str, Any]:
    for failures in range(_FAILURES + 1):
        found = _looked(session, name, progress, last=failures == _FAILURES)
        if found is not None:
            return found
        time.sleep(_FIRST * 2**failures)
    raise AssertionError("the last look raises")


def _looked(session: Session, name: str, progress: Progress, *, last: bool) -> dict[str, Any] | None:
    """The job as it is now; None where there was no answer, and there may be one later."""
    try:
        return session.call(_SERVICE, "DescribeTransformJob", TransformJobName=name)
    except (AwsError, ConnectError) as error:
        passes = isinstance(error, ConnectError) or error.throttled or error.status >= _SERVER_ERROR
        if last or not passes:
            raise DeploymentError(
                f"it is not known how the transform job {name} is, and it goes on without us: {error}"
            ) from error
        progress.detail(f"no answer: {error}")
        return None


def _phase(found: Mapping[str, Any]) -> str:
    if found["TransformJobStatus"] == "InProgress" and "TransformStartTime" not in found:
        return " (its instances start)"
    return ""


def _last(lines: Lines, line: Callable[[str], None]) -> None:
    for _ in range(_LAST_LOOKS):
        time.sleep(_LAST_PAUSE)
        new = list(lines.new())
        for each in new:
            line(each)
        if not new:
            return


def _between(start: object, end: object) -> float:
    if isinstance(start, dt.datetime) and isinstance(end, dt.datetime):
        return (end - start).total_seconds()
    return 0.0
