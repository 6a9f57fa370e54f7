"""The plan of a job on SageMaker: the archive, the model, and the job, as exact requests. This module does no I/O.

A model of a local repository is the one that `tritonforge deploy` would make of it, under a name with its digests: a
second job finds archive and model there. A job's name is its own each time, because SageMaker never gives one twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from tritonforge.errors import DefinitionError
from tritonforge.sagemaker.endpoints.deployment import Content, Deployment
from tritonforge.sagemaker.endpoints.planning import plan_deployment as plan_deployment
from tritonforge.sagemaker.endpoints.resources import Observed
from tritonforge.sagemaker.jobs.kinds import TRANSFORM
from tritonforge.sagemaker.plans.plan import Plan, Step
from tritonforge.transform.job import Resources, TransformJob

__all__ = ["fleet_job", "plan", "plan_existing"]

#: What of a deployment's plan a job needs.
_NEEDED: Final = frozenset({"CreateBucket", "PutObject", "CreateModel", "AbortMultipartUpload"})


def fleet_job(job: TransformJob, *, name: str, instance_type: str, instance_count: int = 1) -> TransformJob:
    """A job as SageMaker's fleet is to run it: with a name and machines, what it has of them already stays.

    Raises:
        DefinitionError: its input or output is no address in S3.
    """
    for what, uri in (("input", job.input.uri), ("output", job.output.uri)):
        if not uri.startswith("s3://"):
            raise DefinitionError(f"{what} {uri}: SageMaker reads and writes S3; write s3://bucket/prefix/")
    resources = job.resources or Resources(instance_type=instance_type, instance_count=instance_count)
    return replace(job, name=job.name or name, resources=resources)


def plan(
    job: TransformJob, deployment: Deployment, contents: Mapping[str, Content], observed: Observed
) -> tuple[Plan, TransformJob]:
    """What it takes to run a job with a repository's model, and the job with that model's name.

    ``contents`` and ``observed`` are as `tritonforge.sagemaker.endpoints.plan` takes them; of the deployment only what
    makes its one model counts.

    Raises:
        DefinitionError: the model cannot be made into a request, or is not for batch transform.
        DeploymentError: the bucket that was named does not exist.
    """
    if deployment.multi_model or deployment.uncompressed:
        raise DefinitionError(
            f"deployment {deployment.name}: batch transform takes one archive; leave out multi_model and uncompressed"
        )
    if job.resources is not None:
        deployment = replace(deployment, instance_type=job.resources.instance_type, serverless_config=None)
    single = replace(deployment, variants=deployment.variants[:1], shadow_variants=())
    # Without models there is a step for each, which tells the name; those that are there are left out below.
    made = plan_deployment(single, contents, replace(observed, endpoint=None, models={}))
    (model,) = (step for step in made.steps if step.operation == "CreateModel")
    job = replace(job, model_name=model.name)
    needed = [
        step
        for step in made.steps
        if step.operation in _NEEDED and not (step is model and model.name in observed.models)
    ]
    return replace(made, steps=(*needed, _step(job)), notes=(), old=(), config=""), job


def plan_existing(job: TransformJob, *, region: str, account: str) -> Plan:
    """What it takes to run a job with a model that is there: the job."""
    return Plan(name=job.name, region=region, account=account, steps=(_step(job),))


def _step(job: TransformJob) -> Step:
    return Step(
        action="create",
        service="sagemaker",
        operation=TRANSFORM.create,
        kind=TRANSFORM.noun,
        name=job.name,
        request=dict(_members(job.to_request())),
        why="every job is a new one",
    )


def _members(request: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The members with the name first, as the API's reference has them."""
    for name in ("TransformJobName", "ModelName"):
        yield name, request[name]
    yield from ((name, value) for name, value in request.items() if name not in ("TransformJobName", "ModelName"))
