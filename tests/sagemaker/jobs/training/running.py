"""Whole runs of a training job, as the command line makes them, and what they leave behind."""

from __future__ import annotations

from typing import Any

from tritonforge.sagemaker.client import Session
from tritonforge.sagemaker.jobs.training import lifecycle, planning
from tritonforge.sagemaker.jobs.training.local_data import materials
from tritonforge.sagemaker.jobs.training.observation import bucket_name, observe
from tritonforge.sagemaker.plans.plan import Plan, Progress, SilentProgress
from tritonforge.training.job import TrainingJob


def planned(session: Session, job: TrainingJob) -> Plan:
    """The plan of a job now."""
    with materials(job, bucket=bucket_name(session, None)) as found:
        contents = {name: each.content for name, each in found.items()}
        return planning.plan(job, contents, observe(session, contents))[0]


def learn(session: Session, job: TrainingJob, *, progress: Progress | None = None) -> lifecycle.Ended:
    """Bring a job to its end."""
    told = progress or SilentProgress()
    create(session, job, progress=told)
    return lifecycle.watch(session, job.name, progress=told)


def create(session: Session, job: TrainingJob, *, progress: Progress) -> None:
    """Send the data of a job, and create it."""
    with materials(job, bucket=bucket_name(session, None)) as found:
        contents = {name: each.content for name, each in found.items()}
        plan, job = planning.plan(job, contents, observe(session, contents))
        lifecycle.create(plan, session, materials=found, progress=progress)


def everything(session: Session, below: str) -> dict[str, list[str]]:
    """Every object and half upload below a folder of any bucket, found without tritonforge's own observation."""
    s3 = session.client("s3")

    def listed(operation: str, member: str, **request: Any) -> list[str]:
        return [
            each["Key"]
            for page in s3.get_paginator(operation).paginate(**request)
            for each in page.get(member, ())
            if each["Key"].startswith(below)
        ]

    found: dict[str, list[str]] = {"objects": [], "half uploads": []}
    for bucket in s3.list_buckets()["Buckets"]:
        found["objects"] += listed("list_objects_v2", "Contents", Bucket=bucket["Name"])
        found["half uploads"] += listed("list_multipart_uploads", "Uploads", Bucket=bucket["Name"])
    return found
