"""Validations under way: algorithms and model packages are tried out by the jobs that their profile asks for.

Of an algorithm its training job, then a model of what that made, then a transform job; of a model package a transform
job on its model. All of them are jobs of the account, as on AWS, named after what is validated. Source: SageMaker
developer guide, "Create an Algorithm Resource" and "Create a Model Package Resource".
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

from tritonforge.emulator.control import delays, models, transform_jobs
from tritonforge.emulator.control.failures import ApiError
from tritonforge.emulator.control.records import Registered, Training, Transform
from tritonforge.emulator.control.registry import naming, profiles
from tritonforge.emulator.control.request_context import Desk
from tritonforge.emulator.control.resource_store import Ledger
from tritonforge.emulator.control.training import jobs
from tritonforge.training.job import TrainingJob

__all__ = ["Validations"]

#: Seconds between two looks at a job.
_LOOK: Final = 0.02

#: Characters of the name that the names of jobs begin with: what follows must fit into 63.
_PREFIX: Final = 40

_KINDS: Final = (naming.ALGORITHM, naming.PACKAGE)


#: What of a ModelPackageContainerDefinition a model's container has too.
_OF_A_CONTAINER: Final = frozenset(
    {"ContainerHostname", "Image", "ModelDataUrl", "ModelDataSource", "Environment", "AdditionalModelDataSources"}
)

_Job = TypeVar("_Job", Training, Transform)


class _FailedError(Exception):
    """A profile failed; the message is its FailureReason."""


class Validations:
    """Runs validations, each in a thread of its own; safe for use by many threads.

    ``desk`` gives the desk of a region: the jobs are asked for there as by anybody.
    """

    def __init__(
        self, ledger: Ledger, *, desk: Callable[[str], Desk], speed: float, log: Callable[[str], None]
    ) -> None:
        self._ledger = ledger
        self._desk = desk
        self._speed = speed
        self._log = log
        self._closing = threading.Event()
        self._guard = threading.Lock()
        self._threads: set[threading.Thread] = set()

    def begin(self, region: str, kind: str, name: str) -> None:
        """Start what the status of an algorithm or a model package asks for."""
        with self._guard:
            if self._closing.is_set():
                return
            thread = threading.Thread(target=self._run, args=(region, kind, name), name=f"emulator-{name}", daemon=True)
            self._threads.add(thread)
            thread.start()

    def restore(self) -> None:
        """Take up every validation that was under way, after a restart; its jobs go on by themselves."""
        for kind in _KINDS:
            for region, found in self._ledger.registrations(kind):
                if found.status in profiles.UNDER_WAY:
                    self.begin(region, kind, found.name)

    def close(self) -> None:
        """Stop every thread; the ledger stays as it is."""
        with self._guard:
            self._closing.set()
            threads = list(self._threads)
        for thread in threads:
            thread.join()

    def _run(self, region: str, kind: str, name: str) -> None:
        reason = ""
        try:
            self._validated(self._desk(region), kind, self._begun(region, kind, name))
        except (_FailedError, ApiError) as error:
            reason = f"ClientError: {error}"
        except Exception as error:  # a thread of its own: nobody else would ever hear of it
            self._log(f"{kind} {name}: {type(error).__name__}: {error}")
            reason = f"InternalServerError: {type(error).__name__}: {error}"
        finally:
            with self._guard:
                self._threads.discard(threading.current_thread())
        if not self._closing.is_set():
            ended = self._change(
                region,
                kind,
                name,
                lambda found, now: profiles.failed(found, reason, now) if reason else profiles.completed(found, now),
            )
            self._log(f"{kind} {name} {ended.status}{f': {reason}' if reason else ''}")

    def _begun(self, region: str, kind: str, name: str) -> Registered:
        """It is InProgress, and the names of its jobs are written down: after a restart they are found again."""
        found = self._ledger.registered(region, kind, name)
        assert found is not None
        if found.status != "Pending":
            return found
        delays.Pauses(self._speed, self._closing).wait(delays.CREATION)
        prefix = f"{name.replace('/', '-')[:_PREFIX].rstrip('-')}-{secrets.token_hex(4)}"
        names = {each: f"{prefix}-{each}" for each in ("training", "model", "transform")}
        return self._change(region, kind, name, lambda each, now: profiles.begun(each, names, now))

    def _validated(self, desk: Desk, kind: str, found: Registered) -> None:
        """Do what the profile asks for; raises _FailedError and ApiError."""
        profile = profiles.of(found.request)
        if profile is None:
            return
        role = found.request["ValidationSpecification"]["ValidationRole"]
        containers = [dict(each) for each in found.inference.get("Containers") or ()]
        if kind == naming.ALGORITHM:
            job = self._trained(desk, found, profile["TrainingJobDefinition"], role)
            if containers:
                containers[0]["ModelDataUrl"] = TrainingJob.from_request(job.request).artifact_uri
        transform = profile.get("TransformJobDefinition")
        if transform:
            self._transformed(desk, found, transform, role, containers)

    def _trained(self, desk: Desk, found: Registered, definition: Mapping[str, Any], role: str) -> Training:
        name = found.jobs["training"]
        if desk.ledger.training(desk.region, name) is None:
            kept = {key: value for key, value in definition.items() if key != "TrainingInputMode"}
            specification = {"AlgorithmName": found.arn, "TrainingInputMode": definition["TrainingInputMode"]}
            request = {
                **kept,
                "TrainingJobName": name,
                "AlgorithmSpecification": specification,
                "RoleArn": role,
                "EnableNetworkIsolation": True,  # as buyers of AWS Marketplace run it
            }
            jobs.create(desk, request)
        job = self._ended(lambda: desk.ledger.training(desk.region, name))
        if job.status != "Completed":
            raise _FailedError(f"Training job {name} {job.status}: {job.failure or job.secondary}")
        return job

    def _transformed(
        self,
        desk: Desk,
        found: Registered,
        definition: Mapping[str, Any],
        role: str,
        containers: list[dict[str, Any]],
    ) -> None:
        model, name = found.jobs["model"], found.jobs["transform"]
        if desk.ledger.transform(desk.region, name) is None:
            if desk.ledger.get(desk.region, "model", model) is None:
                kept = [{key: value for key, value in each.items() if key in _OF_A_CONTAINER} for each in containers]
                whole = {"PrimaryContainer": kept[0]} if len(kept) == 1 else {"Containers": kept}
                request = {"ModelName": model, "ExecutionRoleArn": role, "EnableNetworkIsolation": True, **whole}
                models.create(desk, request)
            transform_jobs.create(desk, {**definition, "TransformJobName": name, "ModelName": model})
        job = self._ended(lambda: desk.ledger.transform(desk.region, name))
        desk.ledger.remove(desk.region, "model", model)  # it was for this job only, which has a copy
        if job.status != "Completed":
            raise _FailedError(f"Transform job {name} {job.status}: {job.failure or job.status}")

    def _ended(self, look: Callable[[], _Job | None]) -> _Job:
        """A job once nothing is under way."""
        while True:
            job = look()
            if job is None:
                raise _FailedError("a job of the validation was deleted")
            if job.status not in ("InProgress", "Stopping"):
                return job
            if self._closing.wait(_LOOK):
                raise _FailedError("the emulator was stopped")

    def _change(self, region: str, kind: str, name: str, to: Callable[[Registered, float], Registered]) -> Registered:
        with self._ledger.lock:
            found = self._ledger.registered(region, kind, name)
            assert found is not None
            changed = to(found, self._ledger.now(found.modified))
            self._ledger.put(region, kind, changed)
        return changed
