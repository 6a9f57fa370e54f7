"""The call that creates a job: safe to send again, and patient with what SageMaker does not see yet. An edge."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from tritonforge.sagemaker.client.errors import AwsError
from tritonforge.sagemaker.client.session import Session
from tritonforge.sagemaker.jobs.kinds import Kind
from tritonforge.sagemaker.jobs.matching import holds

__all__ = ["is_taken", "send"]

_SERVICE: Final = "sagemaker"

#: Seconds to wait before a reference to what was just created is tried again: SageMaker reads its tables late.
_PAUSES: Final = (1.0, 2.0, 4.0, 8.0, 16.0)

#: How SageMaker says that a name is taken. Source: service model, errors of CreateTransformJob, CreateTrainingJob and
#: CreateModelPackage; other operations have no error of their own for it.
_TAKEN: Final = frozenset({"ResourceInUse", "ConflictException"})

#: Members of requests that no description has.
_NOT_TOLD: Final = frozenset({"Tags", "ClientToken"})


def send(
    session: Session, kind: Kind, name: str, request: Mapping[str, Any], *, late: Callable[[AwsError], bool]
) -> dict[str, Any]:
    """Create a job; how AWS answers, or describes it.

    ``late`` says which refusals pass by themselves, because what they miss was just created.

    Where the name is taken by a job that has everything the request asks for, it is there: a call whose answer was
    lost had made it.

    Raises:
        DeploymentError, ConnectError: AWS refused the call.
    """
    for pause in (*_PAUSES, 0.0):
        answer = _sent(session, kind, name, request, late=late if pause else lambda error: False)
        if answer is not None:
            return answer
        time.sleep(pause)
    raise AssertionError("the last attempt raises")


def _sent(
    session: Session, kind: Kind, name: str, request: Mapping[str, Any], *, late: Callable[[AwsError], bool]
) -> dict[str, Any] | None:
    """What AWS answers; None where it does not see yet what the request refers to."""
    try:
        return session.call(_SERVICE, kind.create, resource=name, **request)
    except AwsError as error:
        if is_taken(error) and kind.name in request and (found := _there(session, kind, name, request)) is not None:
            return found
        if late(error):
            return None
        raise


def is_taken(error: AwsError) -> bool:
    """Whether AWS says that the name is taken."""
    return error.code in _TAKEN or (error.code == "ValidationException" and "already exist" in error.message)


def _there(session: Session, kind: Kind, name: str, request: Mapping[str, Any]) -> dict[str, Any] | None:
    """The job of this name, where it is the one that was meant, and is not about to go."""
    found = session.call(_SERVICE, kind.describe, **{kind.name: name})
    wanted = {member: value for member, value in request.items() if member not in _NOT_TOLD}
    return found if holds(found, wanted) and found.get(kind.status) != "Deleting" else None
