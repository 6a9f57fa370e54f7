"""Batch transform on SageMaker: from a job and a model to the plan, the transform job, and its result.

The model is a local repository or archive, or the name of a model on SageMaker. A local one becomes the
model that `tritonforge deploy` would create, under a name with its digests, so that a second job finds archive and
model on AWS. Every job has a name of its own, because SageMaker never accepts a name twice.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from tritonforge.errors import DefinitionError
from tritonforge.sagemaker.client.session import Session
from tritonforge.sagemaker.endpoints.deployment import Content, Deployment
from tritonforge.sagemaker.endpoints.local_repository import LocalRepository, check_repositories, open_repository
from tritonforge.sagemaker.endpoints.observation import find_role_arn, observe
from tritonforge.sagemaker.endpoints.planning import plan_deployment
from tritonforge.sagemaker.endpoints.resources import Observed
from tritonforge.sagemaker.jobs.kinds import TRANSFORM, build_job_name, build_resource_name
from tritonforge.sagemaker.jobs.lifecycle import SageMakerJob
from tritonforge.sagemaker.plans.executor import upload_repository
from tritonforge.sagemaker.plans.plan import Plan, Progress, Step
from tritonforge.transform.job import MAX_PAYLOAD_IN_MB, Resources, TransformJob

__all__ = ["INSTANCE_TYPE", "TransformResult", "TransformRun", "choose_concurrency", "plan_transform"]

#: The default instance type: the smallest with a GPU of SageMaker's current families.
INSTANCE_TYPE: Final = "ml.g4dn.xlarge"

#: The largest number of requests in flight per instance that is chosen, and AWS's default of MaxPayloadInMB
#: (API CreateTransformJob).
_MAX_CONCURRENT: Final = 64
_PAYLOAD_IN_MB: Final = 6

#: The steps of a deployment's plan that a job needs.
_NEEDED: Final = frozenset({"CreateBucket", "PutObject", "CreateModel", "AbortMultipartUpload"})


@dataclass(frozen=True, slots=True, kw_only=True)
class TransformResult:
    """The end of a transform job: AWS's status, its reason if the job failed, and the billed seconds per instance."""

    name: str
    arn: str
    status: str
    reason: str
    seconds: float
    output: str


class TransformRun(SageMakerJob[TransformResult]):
    r"""A transform job on SageMaker.

    Args:
        job: the job; its input and output are in S3. A missing name and missing resources are chosen.
        model: the name of a model on SageMaker, or a repository or archive on this machine.
        session: calls AWS.
        deployment: image, role and bucket of a local model; the default has the model's name.
        instance_type: the instances, if the job has no resources.
        instance_count: how many.
        progress: shows the progress.

    Raises:
        DefinitionError: the job's input or output is not in S3, or the deployment is not for batch transform.

    >>> with TransformRun(job, Path("build/digits"), session=Session()) as run:  # doctest: +SKIP
    ...     print("\n".join(render(run.plan())))
    ...     run.submit()
    ...     run.watch(on_line=print)
    ...     result = run.result()
    """

    kind = TRANSFORM

    def __init__(
        self,
        job: TransformJob,
        model: str | Path,
        *,
        session: Session,
        deployment: Deployment | None = None,
        instance_type: str = INSTANCE_TYPE,
        instance_count: int = 1,
        progress: Progress | None = None,
    ) -> None:
        super().__init__(session, progress=progress)
        for what, uri in (("input", job.input.uri), ("output", job.output.uri)):
            if not uri.startswith("s3://"):
                raise DefinitionError(
                    f"{what} {uri}: SageMaker reads and writes S3 only (expected s3://bucket/prefix/)"
                )
        base = model if isinstance(model, str) else model.resolve().name.removesuffix(".tar.gz")
        self.job = replace(
            job,
            name=job.name or build_job_name(base, dt.datetime.now(dt.timezone.utc)),
            resources=job.resources or Resources(instance_type=instance_type, instance_count=instance_count),
        )
        self._model = model
        self._deployment = deployment or Deployment(name=build_resource_name(base))
        self._repositories: Mapping[str, LocalRepository] = {}

    def _build_plan(self) -> Plan:
        if isinstance(self._model, str):
            self.progress.begin(f"look for model {self._model}")
            self.session.call("sagemaker", "DescribeModel", ModelName=self._model)
            self.job = replace(self.job, model_name=self._model)
            return Plan(
                name=self.job.name,
                region=self.session.region,
                account=self.session.get_account(),
                steps=(_plan_creation(self.job),),
            )
        assert self.job.resources is not None
        deployment = self._deployment.with_settings(
            instance_type=self.job.resources.instance_type,
            execution_role_arn=find_role_arn(self.session, self._deployment.execution_role_arn or "") or None,
        )
        repository = self._files.enter_context(open_repository(self._model))
        self._repositories = {"": repository}
        self.progress.begin("validate the repository for the image")
        findings = check_repositories(deployment, self._repositories, region=self.session.region)
        self.findings = tuple(f"{finding.code} {finding.path}: {finding.message}" for finding in findings)
        self.progress.begin("read the state on AWS")
        observed = observe(self.session, name=deployment.name, bucket=deployment.bucket, folder=deployment.folder)
        plan, self.job = plan_transform(self.job, deployment, {"": repository.content}, observed)
        return plan

    def _upload(self, step: Step) -> None:
        upload_repository(step, self.session, self._repositories, account=self.plan().account, progress=self.progress)

    def _read_description(self, description: Mapping[str, Any], on_phase: Callable[[str, str], None]) -> str:
        is_starting = description["TransformJobStatus"] == "InProgress" and "TransformStartTime" not in description
        return " (instances are starting)" if is_starting else ""

    def _read_result(self, description: Mapping[str, Any]) -> TransformResult:
        started, ended = description.get("TransformStartTime"), description.get("TransformEndTime")
        seconds = 0.0
        if isinstance(started, dt.datetime) and isinstance(ended, dt.datetime):
            seconds = (ended - started).total_seconds()
        return TransformResult(
            name=self.name,
            arn=str(description["TransformJobArn"]),
            status=str(description["TransformJobStatus"]),
            reason=str(description.get("FailureReason", "")),
            seconds=seconds,
            output=self.job.output.uri,
        )


def choose_concurrency(job: TransformJob) -> int | None:
    """Return the number of requests in flight per instance: as many as AWS allows for their size by default.

    AWS's own default is 1 (API CreateTransformJob), which leaves an instance idle while a request is on its way.
    """
    if job.max_concurrent_transforms is not None or job.max_payload_in_mb == 0:
        return job.max_concurrent_transforms
    return min(_MAX_CONCURRENT, MAX_PAYLOAD_IN_MB // (job.max_payload_in_mb or _PAYLOAD_IN_MB))


def plan_transform(
    job: TransformJob, deployment: Deployment, contents: Mapping[str, Content], observed: Observed
) -> tuple[Plan, TransformJob]:
    """Return the plan of a job with a repository's model, and the job with that model's name.

    ``contents`` and ``observed`` are as `tritonforge.sagemaker.endpoints.plan` takes them.

    Raises:
        DefinitionError: the model cannot be described by a request, or is not for batch transform.
        DeploymentError: the given bucket does not exist.
    """
    if deployment.multi_model or deployment.uncompressed:
        raise DefinitionError(
            f"deployment {deployment.name}: batch transform requires one archive; omit multi_model and uncompressed"
        )
    if job.resources is not None:
        deployment = replace(deployment, instance_type=job.resources.instance_type, serverless_config=None)
    single = replace(deployment, variants=deployment.variants[:1], shadow_variants=())
    # Without observed models the plan creates all of them, and so has the model's name.
    full = plan_deployment(single, contents, replace(observed, endpoint=None, models={}))
    (model,) = (step for step in full.steps if step.operation == "CreateModel")
    job = replace(job, model_name=model.name)
    needed = [
        step
        for step in full.steps
        if step.operation in _NEEDED and not (step is model and model.name in observed.models)
    ]
    plan = replace(full, steps=(*needed, _plan_creation(job)), notes=(), old=(), config="")
    return plan, job


def _plan_creation(job: TransformJob) -> Step:
    return Step(
        action="create",
        service="sagemaker",
        operation=TRANSFORM.create,
        kind=TRANSFORM.noun,
        name=job.name,
        request=dict(_order_members(job.to_request())),
        why="every job is a new one",
    )


def _order_members(request: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the members with the names first, as in the API's reference."""
    for name in ("TransformJobName", "ModelName"):
        yield name, request[name]
    yield from ((name, value) for name, value in request.items() if name not in ("TransformJobName", "ModelName"))
