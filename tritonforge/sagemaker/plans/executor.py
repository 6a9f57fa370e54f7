"""The execution of a plan: its requests are sent in order, and each is safe to send again.

A resource that is there already under a name with its digest is the one that was meant; what is to be deleted and is
gone is deleted. Retries of lost and throttled calls are botocore's own; here a reference to what was created a moment
ago is tried again, because SageMaker reads its own tables late (API CreateEndpoint).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from tritonforge.errors import DeploymentError
from tritonforge.sagemaker.client.errors import AwsError
from tritonforge.sagemaker.client.session import Session
from tritonforge.sagemaker.endpoints.apply import uploading, waiting
from tritonforge.sagemaker.endpoints.apply.observation import endpoint_now, is_missing
from tritonforge.sagemaker.endpoints.local_sources import Material
from tritonforge.sagemaker.plans.checking import check
from tritonforge.sagemaker.plans.progress import Progress, Silent
from tritonforge.sagemaker.plans.steps import Plan, Step, resolved

__all__ = ["apply"]

#: Seconds to wait before a reference to what was just created is tried again; 31 s together.
_PAUSES: Final = (1.0, 2.0, 4.0, 8.0, 16.0)
_VERBS: Final = {"create": "create", "update": "change", "delete": "delete", "upload": "upload", "wait": "wait for"}


def apply(
    plan: Plan,
    session: Session,
    *,
    materials: Mapping[str, Material] | None = None,
    upload: Callable[[Step], None] | None = None,
    progress: Progress | None = None,
) -> None:
    """Carry out a plan.

    ``materials`` are the repositories by what the plan's uploads call them; ``upload`` carries out uploads of anything
    else. Stopped at any point, by an error too, it leaves a state from which the next plan goes on.

    Raises:
        RequestError: AWS would refuse a request; nothing was called.
        DeploymentError, ConnectError: AWS refused a call or an endpoint failed; what was done before it stays.
    """
    check(plan)
    shown = Silent() if progress is None else progress
    answers: dict[str, Mapping[str, Any]] = {}
    created: set[str] = set()
    for step in plan.steps:
        shown.begin(f"{_VERBS[step.action]} {step.kind} {step.name}")
        if step.action == "wait":
            _wait(step, session, shown)
        elif step.action == "upload" and upload is not None:
            upload(step)
        elif step.action == "upload":
            uploading.upload(step, session, materials or {}, account=plan.account, progress=shown)
        else:
            answers[step.id] = _send(step, session, resolved(step.request, answers), created)
            if step.action == "create":
                created.add(step.name)


def _wait(step: Step, session: Session, progress: Progress) -> None:
    if step.until == "deleted":
        waiting.until_deleted(session, step.name, progress)
    elif step.until == "settled":
        waiting.settle(session, step.name, progress)
    else:
        waiting.until_config(session, step.name, step.until, progress)


def _send(step: Step, session: Session, request: Mapping[str, Any], created: set[str]) -> Mapping[str, Any]:
    pauses = iter(_PAUSES)
    while True:
        try:
            answer = session.call(step.service, step.operation, resource=step.name, **request)
        except AwsError as error:
            if _is_done(step, error, session):
                return {}
            if _is_late(error, created) and (pause := next(pauses, None)) is not None:
                time.sleep(pause)
                continue
            raise
        for left in answer.get("Errors", ()) if step.operation == "DeleteObjects" else ():
            raise DeploymentError(
                f"s3 DeleteObjects of s3://{request['Bucket']}/{left.get('Key')}: {left.get('Code')}: "
                f"{left.get('Message')}; the object is still there"
            )
        return answer


def _is_late(error: AwsError, created: set[str]) -> bool:
    """Whether AWS does not find what this very run has created."""
    return is_missing(error) and any(name in error.message for name in created)


def _is_done(step: Step, error: AwsError, session: Session) -> bool:
    """Whether a refusal says that AWS has it already, as after a call whose answer was lost."""
    if step.action == "delete":
        return is_missing(error) or error.code in ("NoSuchUpload", "NoSuchBucket")
    exists = error.code == "ValidationException" and "already existing" in error.message
    if step.operation in ("CreateModel", "CreateEndpointConfig"):
        return exists
    if step.operation == "CreateBucket":
        return error.code == "BucketAlreadyOwnedByYou"
    if step.operation == "CreateEndpoint" and exists:
        return _has(step, session)
    if step.operation == "UpdateEndpoint" and "in-progress" in error.message:
        return _has(step, session)
    return False


def _has(step: Step, session: Session) -> bool:
    """Whether the endpoint has, or is getting, the configuration that the step asks for."""
    seen = endpoint_now(session, step.name, with_tags=False)
    return seen is not None and step.request["EndpointConfigName"] in (seen.pending, seen.config)
