"""Whole runs of a training job, and what they leave behind."""

from __future__ import annotations

from typing import Any

from tritonforge.sagemaker.client import Session
from tritonforge.sagemaker.jobs.training import TrainingResult, TrainingRun
from tritonforge.sagemaker.plans.plan import Plan, Progress
from tritonforge.training.job import TrainingJob


def plan(session: Session, job: TrainingJob) -> Plan:
    """Return the plan of a job now."""
    with TrainingRun(job, session=session) as run:
        return run.plan()


def train(session: Session, job: TrainingJob, *, progress: Progress | None = None) -> TrainingResult:
    """Run a job to its end."""
    with TrainingRun(job, session=session, progress=progress) as run:
        run.submit()
        return run.result()


def create(session: Session, job: TrainingJob) -> None:
    """Upload the data of a job and create it."""
    with TrainingRun(job, session=session) as run:
        run.submit()


def list_bucket_contents(session: Session, prefix: str) -> dict[str, list[str]]:
    """Return every object and incomplete upload below a prefix of any bucket, without tritonforge's own observation."""
    s3 = session.client("s3")

    def list_keys(operation: str, member: str, **request: Any) -> list[str]:
        return [
            item["Key"]
            for page in s3.get_paginator(operation).paginate(**request)
            for item in page.get(member, ())
            if item["Key"].startswith(prefix)
        ]

    contents: dict[str, list[str]] = {"objects": [], "uploads": []}
    for bucket in s3.list_buckets()["Buckets"]:
        contents["objects"] += list_keys("list_objects_v2", "Contents", Bucket=bucket["Name"])
        contents["uploads"] += list_keys("list_multipart_uploads", "Uploads", Bucket=bucket["Name"])
    return contents
