"""The observation: the bucket of a training job, and what of its data is there. Every call here only reads."""

from __future__ import annotations

from collections.abc import Mapping

from tritonforge.sagemaker.client.session import Session
from tritonforge.sagemaker.endpoints.observation import read_bucket
from tritonforge.sagemaker.endpoints.resources import IncompleteUpload, ObservedBucket
from tritonforge.sagemaker.jobs.training.contents import DATA, Content, Seen

__all__ = ["bucket_name", "observe"]


def bucket_name(session: Session, bucket: str | None) -> str:
    """The bucket that was named, or SageMaker's own of the account and the region."""
    return bucket or f"sagemaker-{session.region}-{session.get_account()}"


def observe(session: Session, contents: Mapping[str, Content], *, bucket: str | None = None) -> Seen:
    """What AWS has of a job's data.

    Raises:
        DeploymentError, ConnectError, EncodeError: as `Session.call`.
    """
    name, default = bucket_name(session, bucket), bucket is None
    owner = session.get_account() if default else None
    objects: dict[str, int] = {}
    halves: list[IncompleteUpload] = []
    exists = True
    for prefix in sorted({_listed(part.prefix) for each in contents.values() for part in each.parts} or {DATA}):
        found = read_bucket(session, name, prefix, owner=owner)
        exists = exists and found.exists
        objects |= found.objects
        halves += found.incomplete_uploads
    return Seen(
        region=session.region,
        account=session.get_account(),
        bucket=ObservedBucket(name=name, folder=DATA, exists=exists, objects=objects, incomplete_uploads=tuple(halves)),
        default=default,
    )


def _listed(prefix: str) -> str:
    """What is listed for a part: files of many manifests lie together."""
    return f"{DATA}objects/" if prefix == DATA else prefix
