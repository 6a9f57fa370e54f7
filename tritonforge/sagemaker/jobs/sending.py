"""The call that creates a job: safe to send again, and patient with what SageMaker does not see yet. An edge."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from tritonforge.sagemaker.aws.refusals import AwsError
from tritonforge.sagemaker.aws.session import Session
from tritonforge.sagemaker.jobs.kinds import Kind

__all__ = ["holds", "send"]

_SERVICE: Final = "sagemaker"

#: Seconds to wait before a reference to what was just created is tried again: SageMaker reads its tables late.
_PAUSES: Final = (1.0, 2.0, 4.0, 8.0, 16.0)

#: How SageMaker says that a name is taken. Source: service model, errors of CreateTransformJob, CreateTrainingJob and
#: CreateModelPackage; other operations have no error of their own for it.
_TAKEN: Final = frozenset({"ResourceInUse", "ConflictException"})


def send(
    session: Session, kind: Kind, name: str, request: Mapping[str, Any], *, late: Callable[[AwsError], bool]
) -> None:
    """Create a job; ``late`` says which refusals pass by themselves, because what they miss was just created.

    Where the name is taken by a job that has everything the request asks for, it is there: a call whose answer was
    lost had made it.

    Raises:
        DeploymentError, ConnectError: AWS refused the call.
    """
    for pause in _PAUSES:
        if _is_sent(session, kind, name, request, late=late):
            return
        time.sleep(pause)
    _is_sent(session, kind, name, request, late=lambda error: False)


def holds(found: Any, wanted: Any) -> bool:
    """Whether what AWS tells has all that was asked for; it may have more, such as defaults that were left out.

    >>> holds({"a": 1, "b": [{"c": 2, "d": None}]}, {"b": [{"c": 2}]})
    True
    """
    if isinstance(wanted, Mapping):
        return isinstance(found, Mapping) and all(holds(found.get(name), each) for name, each in wanted.items())
    if isinstance(wanted, Sequence) and not isinstance(wanted, str | bytes):
        if not isinstance(found, Sequence) or len(found) != len(wanted):
            return False
        return all(holds(one, other) for one, other in zip(found, wanted, strict=True))
    return bool(found == wanted)


def _is_sent(
    session: Session, kind: Kind, name: str, request: Mapping[str, Any], *, late: Callable[[AwsError], bool]
) -> bool:
    """Whether the job is there now; not where SageMaker does not see yet what it refers to."""
    try:
        session.call(_SERVICE, kind.create, resource=name, **request)
    except AwsError as error:
        if _is_taken(error) and _is_there(session, kind, name, request):
            return True
        if late(error):
            return False
        raise
    return True


def _is_taken(error: AwsError) -> bool:
    return error.code in _TAKEN or (error.code == "ValidationException" and "already exist" in error.message)


def _is_there(session: Session, kind: Kind, name: str, request: Mapping[str, Any]) -> bool:
    found = session.call(_SERVICE, kind.describe, **{kind.name: name})
    return holds(found, {member: value for member, value in request.items() if member != "Tags"})
