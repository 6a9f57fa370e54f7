"""The upload of a job's data: what is missing goes to S3, each file with a checksum. An edge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tritonforge.errors import DeploymentError
from tritonforge.sagemaker.client.session import Session
from tritonforge.sagemaker.client.store import Store
from tritonforge.sagemaker.jobs.training.local_data import Material, digests_of
from tritonforge.sagemaker.jobs.training.planning import source
from tritonforge.sagemaker.plans.executor import count_bytes
from tritonforge.sagemaker.plans.plan import Progress, Step

__all__ = ["upload"]


def upload(
    step: Step, session: Session, materials: Mapping[str, Material], *, account: str, progress: Progress
) -> None:
    """Carry out an upload: the files of one part of a channel's data that S3 does not have.

    Raises:
        DeploymentError: a file is no longer what was planned, or S3 refuses.
    """
    bucket = str(step.request["Bucket"])
    default = bucket == f"sagemaker-{session.region}-{account}"
    store = Store(session, bucket_owner=account if default else None)
    for name, material in materials.items():
        for part in material.content.parts:
            if source(name, part) == step.source:
                _send(store, bucket, part.files, material, step.size, progress)
                return
    raise DeploymentError(f"{step.name}: the data of {step.source} that are to be sent were not given")


def _send(
    store: Store, bucket: str, sizes: Mapping[str, int], material: Material, total: int, progress: Progress
) -> None:
    told = count_bytes(progress, total)
    below = _folder(sizes)
    there = {each.uri: each.size for each in store.list_objects(f"s3://{bucket}/{below}")}
    missing = [key for key, size in sizes.items() if there.get(f"s3://{bucket}/{key}") != size]
    _check(material, missing)
    store.upload_tree(
        {key.removeprefix(below): material.files[key] for key in missing},
        f"s3://{bucket}/{below}",
        digests={key.removeprefix(below): material.digests[key] for key in missing},
        on_progress=told,
    )


def _folder(keys: Mapping[str, int]) -> str:
    """The longest folder that holds all keys."""
    first, last = min(keys), max(keys)
    shared = 0
    while shared < len(first) and first[shared] == last[shared]:
        shared += 1
    return first[:shared].rpartition("/")[0] + "/"


def _check(material: Material, keys: Sequence[str]) -> None:
    """Raise DeploymentError where a file is another one by now."""
    paths = [material.files[key] for key in keys]
    for key, path, digest in zip(keys, paths, digests_of(paths), strict=True):
        if digest != material.digests[key]:
            raise DeploymentError(f"{path}: it has changed since the plan was made; run it again")
