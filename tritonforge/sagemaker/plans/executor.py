"""The execution of a plan: checked as a whole before the first call, then carried out step by step.

Every step is safe to repeat: a resource that already exists under a name with its digest is up to date, and deleting
what does not exist succeeds. Lost and throttled calls are retried as `tritonforge.sagemaker.client.errors` says.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Final

from tritonforge import temporary
from tritonforge.errors import ConnectError, DeploymentError, RequestError, TritonForgeError
from tritonforge.sagemaker.client.errors import NEW_RESOURCES, AwsError, grow_delays, is_transient
from tritonforge.sagemaker.client.session import Session
from tritonforge.sagemaker.client.store import Store
from tritonforge.sagemaker.endpoints.local_repository import LocalRepository
from tritonforge.sagemaker.endpoints.observation import is_missing, read_endpoint, read_last_lines
from tritonforge.sagemaker.endpoints.resources import IN_TRANSITION, ObservedEndpoint
from tritonforge.sagemaker.limits import check_limits
from tritonforge.sagemaker.package import list_objects, write_package
from tritonforge.sagemaker.plans.plan import (
    SENSITIVE,
    CheckedPlan,
    Plan,
    Progress,
    SilentProgress,
    Step,
    mask_secrets,
    resolve_outputs,
)
from tritonforge.sagemaker.service_model import Violation, check_shape, describe_violations, find_operation

__all__ = ["check_plan", "count_bytes", "execute", "upload_repository", "wait_for_config", "wait_until_deleted",
           "wait_until_settled"]  # fmt: skip

_VERBS: Final = {"create": "create", "update": "change", "delete": "delete", "upload": "upload", "wait": "wait for"}

#: Seconds between two requests for an endpoint's status.
_FIRST: Final = 0.25
_LONGEST: Final = 15.0
_GROWTH: Final = 1.4
#: The longest wait: AWS itself gives a deployment at most 8 hours (MaximumExecutionTimeoutInSeconds).
_TIMEOUT: Final = 9 * 3600.0
#: Requests for a status that may fail in a row, on top of botocore's own retries.
_FAILURES: Final = 5
#: Requests after which an endpoint that has not begun to change counts as one that will not.
_UNCHANGED: Final = 5


def check_plan(plan: Plan) -> CheckedPlan:
    """Check every request of a plan against AWS's service models and documented limits; calls nothing.

    Raises:
        RequestError: with everything that AWS would reject, one per line.
        MissingExtraError: botocore, which carries the service models, is not installed.
    """
    lines: list[str] = []
    models = {step.name: step.request for step in plan.steps if step.operation == "CreateModel"}
    for step in plan.steps:
        request = resolve_outputs(step.request, None)
        shape = find_operation(step.service, step.operation).input_shape
        context = {"models": models} if step.operation == "CreateEndpointConfig" else {}
        violations = [
            *(_hide_secret(violation, request) for violation in check_shape(shape, request)),
            *check_limits(step.operation, request, **context),
        ]
        lines += [f"{step.operation} {step.name}: {line}" for line in describe_violations(violations).splitlines()]
    if lines:
        raise RequestError("AWS would reject this:\n" + "\n".join(lines))
    return CheckedPlan(**{field.name: getattr(plan, field.name) for field in fields(plan)})


def _hide_secret(violation: Violation, request: Mapping[str, Any]) -> Violation:
    """Return a violation without its value if that is a secret."""
    shown: Any = mask_secrets(request)
    for part in violation.path:
        try:
            shown = shown[part]
        except (KeyError, IndexError, TypeError):
            return violation
        if shown == SENSITIVE:
            return replace(violation, value=SENSITIVE)
    return violation


def execute(
    plan: CheckedPlan,
    session: Session,
    *,
    repositories: Mapping[str, LocalRepository] | None = None,
    upload: Callable[[Step], None] | None = None,
    progress: Progress | None = None,
) -> None:
    """Carry out the steps of a plan in their order.

    Stopped at any point, also by an error, it leaves a state from which the next plan continues.

    Args:
        plan: what `check_plan` returned.
        session: the credentials and the region of the calls.
        repositories: what is uploaded, by the ``source`` of the plan's steps.
        upload: carries out uploads of anything else than repositories.
        progress: shows the steps.

    Raises:
        DeploymentError, ConnectError: AWS rejected a call or an endpoint failed; what was done before it stays.
    """
    shown = SilentProgress() if progress is None else progress
    responses: dict[str, Mapping[str, Any]] = {}
    created: set[str] = set()
    for step in plan.steps:
        shown.begin(f"{_VERBS[step.action]} {step.kind} {step.name}")
        if step.action == "wait" and step.until == "deleted":
            wait_until_deleted(session, step.name, shown)
        elif step.action == "wait" and step.until == "settled":
            wait_until_settled(session, step.name, shown)
        elif step.action == "wait":
            wait_for_config(session, step.name, step.until, shown)
        elif step.action == "upload" and upload is not None:
            upload(step)
        elif step.action == "upload":
            upload_repository(step, session, repositories or {}, account=plan.account, progress=shown)
        else:
            responses[step.id] = _send_step(step, session, resolve_outputs(step.request, responses), created)
            if step.action == "create":
                created.add(step.name)


def _send_step(step: Step, session: Session, request: Mapping[str, Any], created: set[str]) -> Mapping[str, Any]:
    def send(_: int) -> Mapping[str, Any]:
        try:
            return session.call(step.service, step.operation, resource=step.name, **request)
        except AwsError as error:
            if _is_done(step, error, session):
                return {}
            raise

    def refers_to_new(error: TritonForgeError) -> bool:
        """Return True if AWS does not find what this very run has created."""
        return isinstance(error, AwsError) and is_missing(error) and any(name in error.message for name in created)

    response = NEW_RESOURCES.call(send, is_retryable=refers_to_new, sleep=session.sleep)
    if step.operation == "DeleteObjects" and (errors := response.get("Errors")):
        raise DeploymentError(
            f"s3 DeleteObjects of s3://{request['Bucket']}/{errors[0].get('Key')}: {errors[0].get('Code')}: "
            f"{errors[0].get('Message')}; the object still exists"
        )
    return response


def _is_done(step: Step, error: AwsError, session: Session) -> bool:
    """Return True if AWS rejected a call because it has its result already, as after a lost response."""
    if step.action == "delete":
        return is_missing(error) or error.code in ("NoSuchUpload", "NoSuchBucket")
    exists = error.code == "ValidationException" and "already existing" in error.message
    if step.operation in ("CreateModel", "CreateEndpointConfig"):
        return exists
    if step.operation == "CreateBucket":
        return error.code == "BucketAlreadyOwnedByYou"
    if (step.operation == "CreateEndpoint" and exists) or (
        step.operation == "UpdateEndpoint" and "in-progress" in error.message
    ):
        endpoint = read_endpoint(session, step.name, with_tags=False)
        return endpoint is not None and step.request["EndpointConfigName"] in (endpoint.pending, endpoint.config)
    return False


def wait_until_settled(session: Session, name: str, progress: Progress) -> ObservedEndpoint | None:
    """Wait until an endpoint's status no longer changes by itself; return the endpoint, None if it does not exist.

    Raises:
        DeploymentError: it takes longer than AWS itself allows.
    """
    return _poll_endpoint(session, name, progress, lambda endpoint: endpoint.status not in IN_TRANSITION)


def wait_until_deleted(session: Session, name: str, progress: Progress) -> None:
    """Wait until an endpoint no longer exists.

    Raises:
        DeploymentError: it cannot be deleted, or that takes longer than AWS itself allows.
    """
    left = _poll_endpoint(session, name, progress, lambda endpoint: endpoint.status != "Deleting", is_patient=True)
    if left is not None:
        reason = f": {left.failure_reason.rstrip('. ')}" if left.failure_reason else ""
        raise DeploymentError(f"the endpoint {name} is {left.status} and not deleted{reason}; run it again")


def wait_for_config(session: Session, name: str, config: str, progress: Progress) -> None:
    """Wait until an endpoint is in service with a configuration.

    Raises:
        DeploymentError: it failed, or AWS rolled it back; the last lines of its log are reported before.
    """
    began = time.time()
    endpoint = _poll_endpoint(
        session,
        name,
        progress,
        lambda seen: seen.status not in IN_TRANSITION and (seen.config == config or seen.status != "InService"),
        is_patient=True,
    )
    if endpoint is None:
        raise DeploymentError(f"the endpoint {name} was deleted meanwhile; run it again to create it")
    if endpoint.status == "InService" and endpoint.config == config:
        return
    for line in read_last_lines(session, name, since=began):
        progress.note(line)
    reason = endpoint.failure_reason.rstrip(". ") or "AWS gives no reason"
    if endpoint.status == "InService":
        raise DeploymentError(
            f"the endpoint {name} did not take {config}: {reason}. AWS has rolled it back, and it answers with "
            f"{endpoint.config} as before; fix the cause and run it again"
        )
    if endpoint.status == "Failed":
        raise DeploymentError(
            f"the endpoint {name} failed with {config}: {reason}. Fix the cause and run it again: the failed endpoint "
            "is then deleted and created anew"
        )
    raise DeploymentError(f"the endpoint {name} is {endpoint.status} with {endpoint.config}: {reason}; run it again")


def _poll_endpoint(
    session: Session,
    name: str,
    progress: Progress,
    is_settled: Callable[[ObservedEndpoint], bool],
    *,
    is_patient: bool = False,
) -> ObservedEndpoint | None:
    """Poll until an endpoint has settled; with ``is_patient`` one that has not begun to change is polled some times."""
    since, failures, unchanged, has_moved = time.monotonic(), 0, 0, False
    for delay in grow_delays(_FIRST, growth=_GROWTH, longest=_LONGEST):
        try:
            endpoint = read_endpoint(session, name, with_tags=False)
            failures = 0
        except (AwsError, ConnectError) as error:
            failures += 1
            if failures > _FAILURES or not is_transient(error):
                raise
            progress.detail(f"no response: {error}")
        else:
            if endpoint is None or is_settled(endpoint):
                return endpoint
            progress.detail(f"{endpoint.status}{_format_variants(endpoint)}, {time.monotonic() - since:.0f} s")
            has_moved = has_moved or endpoint.status in IN_TRANSITION
            if is_patient and endpoint.status not in IN_TRANSITION:
                unchanged += 1
                if has_moved or unchanged >= _UNCHANGED:
                    return endpoint
        if time.monotonic() - since > _TIMEOUT:
            raise DeploymentError(f"the endpoint {name} has been changing for {_TIMEOUT / 3600:.0f} hours; check it")
        session.sleep(delay)
    raise AssertionError("the delays have no end")


def _format_variants(endpoint: ObservedEndpoint) -> str:
    states = [
        f"{variant['VariantName']} {state['Status']}"
        for variant in endpoint.variants
        for state in variant.get("VariantStatus", ())[-1:]
    ]
    return f" ({', '.join(states)})" if states else ""


def upload_repository(
    step: Step, session: Session, repositories: Mapping[str, LocalRepository], *, account: str, progress: Progress
) -> None:
    """Upload a repository as an archive, or its files one by one if the step's key ends with a slash.

    Raises:
        DeploymentError: the repository is missing or has changed since the plan was made, or S3 rejects the upload.
    """
    repository = repositories.get(step.source or "")
    if repository is None:
        raise DeploymentError(f"{step.name}: its repository {step.source!r} was not given")
    bucket, key = str(step.request["Bucket"]), str(step.request["Key"])
    digest = step.request["Metadata"]["tritonforge-digest"]
    uri = f"s3://{bucket}/{key}"
    is_default = bucket == f"sagemaker-{session.region}-{account}"
    store = Store(session, bucket_owner=account if is_default else None)
    if key.endswith("/"):
        files = dict(list_objects(repository.folder))
        size = sum(path.stat().st_size for path in files.values())
        store.upload_tree(files, uri, on_progress=count_bytes(progress, size))
    elif repository.archive is not None:
        _upload_archive(store, repository.archive, uri, digest, progress)
    else:
        with temporary.open_directory("upload") as folder:
            progress.detail("compressing")
            package = write_package(repository.folder, Path(folder) / "model.tar.gz", on_progress=progress.show_bytes)
            if package.digest != digest:
                raise DeploymentError(
                    f"{repository.folder}: it has changed since the plan was made ({digest} is now {package.digest}); "
                    "run it again"
                )
            _upload_archive(store, package.path, uri, digest, progress)


def _upload_archive(store: Store, path: Path, uri: str, digest: str, progress: Progress) -> None:
    on_progress = count_bytes(progress, path.stat().st_size)
    store.upload(path, uri, digest=digest, content_type="application/gzip", on_progress=on_progress)


def count_bytes(progress: Progress, total: int) -> Callable[[int], None]:
    """Return a callback of the store, which passes differences, that reports their sum to ``progress``."""
    done = 0

    def add(size: int) -> None:
        nonlocal done
        done += size
        progress.show_bytes(done, total)

    return add
