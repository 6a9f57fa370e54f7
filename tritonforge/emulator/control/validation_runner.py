"""Validations: algorithms and model packages are tried out by the jobs that their profile asks for.

An algorithm is validated by its training job, then a model of the result, then a transform job; a model package by a
transform job on its model. All of them are jobs of the account, as on AWS, named after what is validated. Source:
SageMaker developer guide, "Create an Algorithm Resource" and "Create a Model Package Resource".
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any, Final, TypeVar

from tritonforge.emulator.control import job_runner, model_operations, model_registry, training_jobs, transform_jobs
from tritonforge.emulator.control.api_errors import ApiError
from tritonforge.emulator.control.job_runner import JobRunner, Task
from tritonforge.emulator.control.model_operations import MODEL
from tritonforge.emulator.control.model_registry import ALGORITHM
from tritonforge.emulator.control.records import JobRecord, RegistryEntry, TrainingRecord
from tritonforge.emulator.control.request_context import RequestContext
from tritonforge.emulator.control.resource_store import ResourceKind
from tritonforge.emulator.control.training_jobs import TRAINING_JOB
from tritonforge.emulator.control.transform_jobs import TRANSFORM_JOB
from tritonforge.training.job import TrainingJob

__all__ = ["ValidationRunner"]

#: Seconds between two checks of a job.
_PERIOD: Final = 0.02

#: Characters of the name that the names of jobs begin with: what follows must fit into 63.
_PREFIX: Final = 40

#: Members of a ModelPackageContainerDefinition that a model's container has too.
_CONTAINER_MEMBERS: Final = frozenset(
    {"ContainerHostname", "Image", "ModelDataUrl", "ModelDataSource", "Environment", "AdditionalModelDataSources"}
)

JobT = TypeVar("JobT", bound=JobRecord)


class _FailedError(Exception):
    """A profile failed; the message is its FailureReason."""


class ValidationRunner(JobRunner[RegistryEntry]):
    """Runs validations of algorithms or of model packages; their jobs are created as by a client."""

    def is_unfinished(self, record: RegistryEntry) -> bool:
        """Return True for an entry whose validation has not ended; its jobs resume by themselves."""
        return record.status in model_registry.UNFINISHED

    def run(self, task: Task) -> None:
        """Validate an entry, and store the result."""
        reason = ""
        try:
            self._validate(self.services.context(task.region), self._begin(task))
        except (_FailedError, ApiError) as error:
            reason = f"ClientError: {error}"
        if not self.closing.is_set():
            self._end(task, reason)

    def fail(self, task: Task, reason: str) -> None:
        """Store an internal error as the result."""
        self._end(task, f"InternalServerError: {reason}")

    def _end(self, task: Task, reason: str) -> None:
        def end(entry: RegistryEntry, now: float) -> RegistryEntry:
            return (
                model_registry.fail_validation(entry, reason, now)
                if reason
                else model_registry.complete_validation(entry, now)
            )

        entry = self.change(task, end)
        self.services.log(f"{self.kind.noun} {task.name} {entry.status}{f': {reason}' if reason else ''}")

    def _begin(self, task: Task) -> RegistryEntry:
        """Set the entry InProgress and store the names of its jobs, so that they are found again after a restart."""
        entry = self.find(task)
        if entry.status != "Pending":
            return entry
        job_runner.Delays(self.services.speed, task.stop).wait(job_runner.CREATION)
        prefix = f"{task.name.replace('/', '-')[:_PREFIX].rstrip('-')}-{secrets.token_hex(4)}"
        names = {step: f"{prefix}-{step}" for step in ("training", "model", "transform")}
        return self.change(task, lambda pending, now: model_registry.begin_validation(pending, names, now))

    def _validate(self, context: RequestContext, entry: RegistryEntry) -> None:
        """Run the jobs of the profile. Raises _FailedError and ApiError."""
        profile = model_registry.find_profile(entry.request)
        if profile is None:
            return
        role = entry.request["ValidationSpecification"]["ValidationRole"]
        containers = [dict(container) for container in entry.inference.get("Containers") or ()]
        if self.kind is ALGORITHM:
            job = self._train(context, entry, profile["TrainingJobDefinition"], role)
            if containers:
                containers[0]["ModelDataUrl"] = TrainingJob.from_request(job.request).artifact_uri
        if definition := profile.get("TransformJobDefinition"):
            self._transform(context, entry, definition, role, containers)

    def _train(
        self, context: RequestContext, entry: RegistryEntry, definition: Mapping[str, Any], role: str
    ) -> TrainingRecord:
        name = entry.jobs["training"]
        if self.store.find(TRAINING_JOB, context.region, name) is None:
            kept = {key: value for key, value in definition.items() if key != "TrainingInputMode"}
            specification = {"AlgorithmName": entry.arn, "TrainingInputMode": definition["TrainingInputMode"]}
            request = {
                **kept,
                "TrainingJobName": name,
                "AlgorithmSpecification": specification,
                "RoleArn": role,
                "EnableNetworkIsolation": True,  # as buyers of AWS Marketplace run it
            }
            training_jobs.OPERATIONS["CreateTrainingJob"](context, request)
        job = self._wait_for(TRAINING_JOB, context.region, name)
        if job.status != "Completed":
            raise _FailedError(f"Training job {name} {job.status}: {job.failure or job.secondary}")
        return job

    def _transform(
        self,
        context: RequestContext,
        entry: RegistryEntry,
        definition: Mapping[str, Any],
        role: str,
        containers: list[dict[str, Any]],
    ) -> None:
        model, name = entry.jobs["model"], entry.jobs["transform"]
        if self.store.find(TRANSFORM_JOB, context.region, name) is None:
            if self.store.find(MODEL, context.region, model) is None:
                kept = [
                    {key: value for key, value in container.items() if key in _CONTAINER_MEMBERS}
                    for container in containers
                ]
                whole = {"PrimaryContainer": kept[0]} if len(kept) == 1 else {"Containers": kept}
                request = {"ModelName": model, "ExecutionRoleArn": role, "EnableNetworkIsolation": True, **whole}
                model_operations.OPERATIONS["CreateModel"](context, request)
            job_request = {**definition, "TransformJobName": name, "ModelName": model}
            transform_jobs.OPERATIONS["CreateTransformJob"](context, job_request)
        job = self._wait_for(TRANSFORM_JOB, context.region, name)
        self.store.remove(MODEL, context.region, model)  # it was for this job only, which has a copy
        if job.status != "Completed":
            raise _FailedError(f"Transform job {name} {job.status}: {job.failure or job.status}")

    def _wait_for(self, kind: ResourceKind[JobT], region: str, name: str) -> JobT:
        """Return a job once it has ended."""
        while True:
            job = self.store.find(kind, region, name)
            if job is None:
                raise _FailedError("a job of the validation was deleted")
            if job.status not in job_runner.UNFINISHED:
                return job
            if self.closing.wait(_PERIOD):
                raise _FailedError("the emulator was stopped")
