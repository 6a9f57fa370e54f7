"""The execution of a plan: checked as a whole before the first call, then carried out step by step.

Every step is safe to repeat: a resource that already exists under a name with its digest is up to date, and deleting
what does not exist succeeds. Lost and throttled calls are retried as `tritonforge.sagemaker.client.retries` says.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from tritonforge import temporary
from tritonforge.errors import ConnectError, DeploymentError, RequestError
from tritonforge.sagemaker import service_model
from tritonforge.sagemaker.client.errors import AwsError
from tritonforge.sagemaker.client.session import Session
from tritonforge.sagemaker.client.store import Store
from tritonforge.sagemaker.endpoints.local_repository import LocalRepository
from tritonforge.sagemaker.endpoints.observation import is_missing, read_endpoint, read_last_lines
from tritonforge.sagemaker.endpoints.resources import IN_TRANSITION, ObservedEndpoint
from tritonforge.sagemaker.limits import check_limits
from tritonforge.sagemaker.package import list_objects, write_package
from tritonforge.sagemaker.plans.plan import (
    SENSITIVE,
    Plan,
    Progress,
    SilentProgress,
    Step,
    mask_secrets,
    resolve_outputs,
)

__all__ = [
    "check_plan",
    "count_bytes",
    "execute",
    "upload_repository",
    "wait_for_config",
    "wait_until_deleted",
    "wait_until_settled",
]


def check_plan(plan: Plan) -> None:
    """Hold every request of a plan against what AWS takes; calls nothing.

    Raises:
        RequestError: with everything that AWS would refuse, one a line.
        MissingExtraError: botocore, which carries the service models, is not installed.
    """
    lines: list[str] = []
    models: dict[str, Mapping[str, Any]] = {
        step.name: step.request for step in plan.steps if step.operation == "CreateModel"
    }
    for step in plan.steps:
        request = resolve_outputs(step.request, None)
        shape = service_model.find_operation(step.service, step.operation).input_shape
        found = tuple(_discreet(each, request) for each in service_model.check_shape(shape, request))
        said = service_model.describe_violations(found).splitlines() if found else []
        context = {"models": models} if step.operation == "CreateEndpointConfig" else {}
        said += [f"{each.place}: {each.sentence}" for each in check_limits(step.operation, request, **context)]
        lines += [f"{step.operation} {step.name}: {line}" for line in said]
    if lines:
        raise RequestError("AWS would refuse this:\n" + "\n".join(lines))


def _discreet(problem: service_model.Violation, request: Mapping[str, Any]) -> service_model.Violation:
    """A problem without the value where that is a secret."""
    shown: Any = mask_secrets(request)
    for part in problem.path:
        try:
            shown = shown[part]
        except (KeyError, IndexError, TypeError):
            return problem
        if shown == SENSITIVE:
            return replace(problem, value=SENSITIVE)
    return problem


#: Seconds to wait before a reference to what was just created is tried again; 31 s together.
_PAUSES: Final = (1.0, 2.0, 4.0, 8.0, 16.0)
_VERBS: Final = {"create": "create", "update": "change", "delete": "delete", "upload": "upload", "wait": "wait for"}


def execute(
    plan: Plan,
    session: Session,
    *,
    materials: Mapping[str, LocalRepository] | None = None,
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
    check_plan(plan)
    shown = SilentProgress() if progress is None else progress
    answers: dict[str, Mapping[str, Any]] = {}
    created: set[str] = set()
    for step in plan.steps:
        shown.begin(f"{_VERBS[step.action]} {step.kind} {step.name}")
        if step.action == "wait":
            _wait(step, session, shown)
        elif step.action == "upload" and upload is not None:
            upload(step)
        elif step.action == "upload":
            upload_repository(step, session, materials or {}, account=plan.account, progress=shown)
        else:
            answers[step.id] = _send_step(step, session, resolve_outputs(step.request, answers), created)
            if step.action == "create":
                created.add(step.name)


def _wait(step: Step, session: Session, progress: Progress) -> None:
    if step.until == "deleted":
        wait_until_deleted(session, step.name, progress)
    elif step.until == "settled":
        wait_until_settled(session, step.name, progress)
    else:
        wait_for_config(session, step.name, step.until, progress)


def _send_step(step: Step, session: Session, request: Mapping[str, Any], created: set[str]) -> Mapping[str, Any]:
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
    seen = read_endpoint(session, step.name, with_tags=False)
    return seen is not None and step.request["EndpointConfigName"] in (seen.pending, seen.config)


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


def wait_until_settled(session: Session, name: str, progress: Progress) -> ObservedEndpoint | None:
    """Wait until an endpoint's status is one that stays; what it is then, None where there is no endpoint.

    Raises:
        DeploymentError: it takes longer than AWS itself allows.
    """
    return _watched(session, name, progress, lambda seen: seen.status not in IN_TRANSITION)


def wait_until_deleted(session: Session, name: str, progress: Progress) -> None:
    """Wait until an endpoint is no more.

    Raises:
        DeploymentError: it cannot be deleted, or that takes longer than AWS itself allows.
    """
    left = _watched(session, name, progress, lambda seen: seen.status != "Deleting", grace=True)
    if left is not None:
        reason = f": {left.failure_reason.rstrip('. ')}" if left.failure_reason else ""
        raise DeploymentError(f"the endpoint {name} is {left.status} and not deleted{reason}; run it again")


def wait_for_config(session: Session, name: str, config: str, progress: Progress) -> None:
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
    for line in read_last_lines(session, name, since=began):
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
    settled: Callable[[ObservedEndpoint], bool],
    *,
    grace: bool = False,
) -> ObservedEndpoint | None:
    """Look until it has settled; with ``grace`` an endpoint that stays as it was gets some more looks."""
    since, pause, failures, unchanged, moved = time.monotonic(), _FIRST, 0, 0, False
    while True:
        try:
            seen = read_endpoint(session, name, with_tags=False)
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


def _variants(seen: ObservedEndpoint) -> str:
    states = [
        f"{each['VariantName']} {state['Status']}"
        for each in seen.variants
        for state in each.get("VariantStatus", ())[-1:]
    ]
    return f" ({', '.join(states)})" if states else ""


def upload_repository(
    step: Step, session: Session, materials: Mapping[str, LocalRepository], *, account: str, progress: Progress
) -> None:
    """Carry out an upload: an archive, or the files of a repository one by one (a key that ends with a slash).

    Raises:
        DeploymentError: the repository is not at hand or is no longer the one that was planned, or S3 refuses.
    """
    material = materials.get(step.source or "")
    if material is None:
        raise DeploymentError(f"{step.name}: the repository {step.source!r} that it is made from was not given")
    bucket, key = str(step.request["Bucket"]), str(step.request["Key"])
    digest = step.request["Metadata"]["tritonforge-digest"]
    uri = f"s3://{bucket}/{key}"
    default = bucket == f"sagemaker-{session.region}-{account}"
    store = Store(session, bucket_owner=account if default else None)
    if key.endswith("/"):
        files = dict(list_objects(material.folder))
        sizes = sum(path.stat().st_size for path in files.values())
        store.upload_tree(files, uri, progress=count_bytes(progress, sizes))
        return
    if material.archive is not None:
        _upload_archive(store, material.archive, uri, digest, progress)
        return
    with temporary.folder("upload") as folder:
        progress.detail("compressing")
        package = write_package(material.folder, Path(folder) / "model.tar.gz", progress=progress.moved)
        if package.digest != digest:
            raise DeploymentError(
                f"{material.folder}: it has changed since the plan was made ({digest} is now {package.digest}); "
                "run it again"
            )
        _upload_archive(store, package.path, uri, digest, progress)


def _upload_archive(store: Store, path: Path, uri: str, digest: str, progress: Progress) -> None:
    store.upload(
        path,
        uri,
        digest=digest,
        content_type="application/gzip",
        progress=count_bytes(progress, path.stat().st_size),
    )


def count_bytes(progress: Progress, total: int) -> Callable[[int], None]:
    """What the store tells as differences, told as a sum."""
    done = 0

    def moved(size: int) -> None:
        nonlocal done
        done += size
        progress.moved(done, total)

    return moved
