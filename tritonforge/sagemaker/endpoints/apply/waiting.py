"""The wait for an endpoint: its status is shown, and how it ended is said in one sentence."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from tritonforge.errors import ConnectError, DeploymentError
from tritonforge.sagemaker.client.errors import AwsError
from tritonforge.sagemaker.client.session import Session
from tritonforge.sagemaker.endpoints.apply import logs
from tritonforge.sagemaker.endpoints.apply.observation import endpoint_now
from tritonforge.sagemaker.endpoints.observed import IN_TRANSITION, SeenEndpoint
from tritonforge.sagemaker.plans.progress import Progress

__all__ = ["settle", "until_config", "until_deleted"]

#: Seconds between two looks: short at first, then longer.
_FIRST: Final = 0.25
_LONGEST: Final = 15.0
_LONGER: Final = 1.4
#: Hours until we give up: AWS itself gives a deployment at most 8 (MaximumExecutionTimeoutInSeconds).
_PATIENCE: Final = 9 * 3600.0
#: Looks that may fail in a row, on top of botocore's own retries.
_FAILURES: Final = 5
#: Looks at an endpoint that has not begun to change before it counts as one that will not.
_UNCHANGED: Final = 5
_SERVER_ERROR: Final = 500


def settle(session: Session, name: str, progress: Progress) -> SeenEndpoint | None:
    """Wait until an endpoint's status is one that stays; what it is then, None where there is no endpoint.

    Raises:
        DeploymentError: it takes longer than AWS itself allows.
    """
    return _watched(session, name, progress, lambda seen: seen.status not in IN_TRANSITION)


def until_deleted(session: Session, name: str, progress: Progress) -> None:
    """Wait until an endpoint is no more.

    Raises:
        DeploymentError: it cannot be deleted, or that takes longer than AWS itself allows.
    """
    left = _watched(session, name, progress, lambda seen: seen.status != "Deleting", grace=True)
    if left is not None:
        reason = f": {left.failure_reason.rstrip('. ')}" if left.failure_reason else ""
        raise DeploymentError(f"the endpoint {name} is {left.status} and not deleted{reason}; run it again")


def until_config(session: Session, name: str, config: str, progress: Progress) -> None:
    """Wait until an endpoint is in service with a configuration.

    Raises:
        DeploymentError: it failed, or AWS rolled it back; the last lines of its log have been said before.
    """
    began = time.time()
    found = _watched(
        session,
        name,
        progress,
        lambda seen: seen.status not in IN_TRANSITION and (seen.config == config or seen.status != "InService"),
        grace=True,
    )
    if found is None:
        raise DeploymentError(f"the endpoint {name} was deleted while it was waited for; run it again to create it")
    if found.status == "InService" and found.config == config:
        return
    for line in logs.last_lines(session, name, since=began):
        progress.say(line)
    reason = found.failure_reason.rstrip(". ") or "AWS gives no reason"
    if found.status == "InService":
        raise DeploymentError(
            f"the endpoint {name} did not take {config}: {reason}. AWS has rolled it back, and it answers with "
            f"{found.config} as before; mend the cause and run it again"
        )
    if found.status == "Failed":
        raise DeploymentError(
            f"the endpoint {name} failed with {config}: {reason}. Mend the cause and run it again: the failed "
            "endpoint is then deleted and created anew"
        )
    raise DeploymentError(f"the endpoint {name} is {found.status} with {found.config}: {reason}; run it again")


def _watched(
    session: Session,
    name: str,
    progress: Progress,
    settled: Callable[[SeenEndpoint], bool],
    *,
    grace: bool = False,
) -> SeenEndpoint | None:
    """Look until it has settled; with ``grace`` an endpoint that stays as it was gets some more looks."""
    since, pause, failures, unchanged, moved = time.monotonic(), _FIRST, 0, 0, False
    while True:
        try:
            seen = endpoint_now(session, name, with_tags=False)
            failures = 0
        except (AwsError, ConnectError) as error:
            failures += 1
            if failures > _FAILURES or not _passes(error):
                raise
            progress.detail(f"no answer: {error}")
        else:
            if seen is None or settled(seen):
                return seen
            progress.detail(f"{seen.status}{_variants(seen)}, {time.monotonic() - since:.0f} s")
            moved = moved or seen.status in IN_TRANSITION
            if grace and seen.status not in IN_TRANSITION:
                unchanged += 1
                if moved or unchanged >= _UNCHANGED:
                    return seen
        if time.monotonic() - since > _PATIENCE:
            raise DeploymentError(f"the endpoint {name} has been changing for {_PATIENCE / 3600:.0f} hours; look at it")
        time.sleep(pause)
        pause = min(_LONGEST, pause * _LONGER)


def _passes(error: AwsError | ConnectError) -> bool:
    return isinstance(error, ConnectError) or error.throttled or error.status >= _SERVER_ERROR


def _variants(seen: SeenEndpoint) -> str:
    states = [
        f"{each['VariantName']} {state['Status']}"
        for each in seen.variants
        for state in each.get("VariantStatus", ())[-1:]
    ]
    return f" ({', '.join(states)})" if states else ""
