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

from tritonforge.emulator.control import job_runner, models, registry_entries, training_jobs, transform_jobs
from tritonforge.emulator.control.api_errors import ApiError
from tritonforge.emulator.control.records import RegistryEntry, TrainingRecord, TransformRecord
from tritonforge.emulator.control.request_context import RequestContext
from tritonforge.emulator.control.resource_store import ResourceStore
from tritonforge.training.job import TrainingJob

__all__ = ["ValidationRunner"]

#: Seconds between two looks at a job.
_LOOK: Final = 0.02

#: Characters of the name that the names of jobs begin with: what follows must fit into 63.
_PREFIX: Final = 40

_KINDS: Final = (registry_entries.ALGORITHM, registry_entries.PACKAGE)


#: What of a ModelPackageContainerDefinition a model's container has too.
_OF_A_CONTAINER: Final = frozenset(
    {"ContainerHostname", "Image", "ModelDataUrl", "ModelDataSource", "Environment", "AdditionalModelDataSources"}
)

_Job = TypeVar("_Job", TrainingRecord, TransformRecord)


class _FailedError(Exception):
    """A profile failed; the message is its FailureReason."""


class ValidationRunner:
    """Runs validations, each in a thread of its own; safe for use by many threads.

    ``context`` gives the context of a region: the jobs are asked for there as by anybody.
    """

    def __init__(
        self,
        store: ResourceStore,
        *,
        context: Callable[[str], RequestContext],
        speed: float,
        log: Callable[[str], None],
    ) -> None:
        self._store = store
        self._context = context
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
            for region, found in self._store.registrations(kind):
                if found.status in registry_entries.UNDER_WAY:
                    self.begin(region, kind, found.name)

    def close(self) -> None:
        """Stop every thread; the store stays as it is."""
        with self._guard:
            self._closing.set()
            threads = list(self._threads)
        for thread in threads:
            thread.join()

    def _run(self, region: str, kind: str, name: str) -> None:
        reason = ""
        try:
            self._validated(self._context(region), kind, self._begun(region, kind, name))
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
                lambda found, now: (
                    registry_entries.fail(found, reason, now) if reason else registry_entries.complete(found, now)
                ),
            )
            self._log(f"{kind} {name} {ended.status}{f': {reason}' if reason else ''}")

    def _begun(self, region: str, kind: str, name: str) -> RegistryEntry:
        """It is InProgress, and the names of its jobs are written down: after a restart they are found again."""
        found = self._store.registered(region, kind, name)
        assert found is not None
        if found.status != "Pending":
            return found
        job_runner.Delays(self._speed, self._closing).wait(job_runner.CREATION)
        prefix = f"{name.replace('/', '-')[:_PREFIX].rstrip('-')}-{secrets.token_hex(4)}"
        names = {each: f"{prefix}-{each}" for each in ("training", "model", "transform")}
        return self._change(region, kind, name, lambda each, now: registry_entries.begin(each, names, now))

    def _validated(self, context: RequestContext, kind: str, found: RegistryEntry) -> None:
        """Do what the profile asks for; raises _FailedError and ApiError."""
        profile = registry_entries.find_profile(found.request)
        if profile is None:
            return
        role = found.request["ValidationSpecification"]["ValidationRole"]
        containers = [dict(each) for each in found.inference.get("Containers") or ()]
        if kind == registry_entries.ALGORITHM:
            job = self._trained(context, found, profile["TrainingJobDefinition"], role)
            if containers:
                containers[0]["ModelDataUrl"] = TrainingJob.from_request(job.request).artifact_uri
        transform = profile.get("TransformJobDefinition")
        if transform:
            self._transformed(context, found, transform, role, containers)

    def _trained(
        self, context: RequestContext, found: RegistryEntry, definition: Mapping[str, Any], role: str
    ) -> TrainingRecord:
        name = found.jobs["training"]
        if context.store.training(context.region, name) is None:
            kept = {key: value for key, value in definition.items() if key != "TrainingInputMode"}
            specification = {"AlgorithmName": found.arn, "TrainingInputMode": definition["TrainingInputMode"]}
            request = {
                **kept,
                "TrainingJobName": name,
                "AlgorithmSpecification": specification,
                "RoleArn": role,
                "EnableNetworkIsolation": True,  # as buyers of AWS Marketplace run it
            }
            training_jobs.create_job(context, request)
        job = self._ended(lambda: context.store.training(context.region, name))
        if job.status != "Completed":
            raise _FailedError(f"Training job {name} {job.status}: {job.failure or job.secondary}")
        return job

    def _transformed(
        self,
        context: RequestContext,
        found: RegistryEntry,
        definition: Mapping[str, Any],
        role: str,
        containers: list[dict[str, Any]],
    ) -> None:
        model, name = found.jobs["model"], found.jobs["transform"]
        if context.store.transform(context.region, name) is None:
            if context.store.get(context.region, "model", model) is None:
                kept = [{key: value for key, value in each.items() if key in _OF_A_CONTAINER} for each in containers]
                whole = {"PrimaryContainer": kept[0]} if len(kept) == 1 else {"Containers": kept}
                request = {"ModelName": model, "ExecutionRoleArn": role, "EnableNetworkIsolation": True, **whole}
                models.create_model(context, request)
            transform_jobs.create_job(context, {**definition, "TransformJobName": name, "ModelName": model})
        job = self._ended(lambda: context.store.transform(context.region, name))
        context.store.remove(context.region, "model", model)  # it was for this job only, which has a copy
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

    def _change(
        self, region: str, kind: str, name: str, to: Callable[[RegistryEntry, float], RegistryEntry]
    ) -> RegistryEntry:
        with self._store.lock:
            found = self._store.registered(region, kind, name)
            assert found is not None
            changed = to(found, self._store.now(found.modified))
            self._store.put(region, kind, changed)
        return changed
