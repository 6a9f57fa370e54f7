"""The upload of a repository: its archive is written among the temporary files, and goes to S3 with a checksum."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from tritonforge import temporary
from tritonforge.errors import DeploymentError
from tritonforge.sagemaker.client.session import Session
from tritonforge.sagemaker.client.store import Store
from tritonforge.sagemaker.endpoints.local_sources import Material
from tritonforge.sagemaker.package import uncompressed, write
from tritonforge.sagemaker.plans.progress import Progress
from tritonforge.sagemaker.plans.steps import Step

__all__ = ["counted", "upload"]


def upload(
    step: Step, session: Session, materials: Mapping[str, Material], *, account: str, progress: Progress
) -> None:
    """Carry out an upload: an archive, or the files of a repository one by one (a key that ends with a slash).

    Raises:
        DeploymentError: the repository is not at hand or is no longer the one that was planned, or S3 refuses.
    """
    material = materials.get(step.source or "")
    if material is None:
        raise DeploymentError(f"{step.name}: the repository {step.source!r} that it is made from was not given")
    bucket, key = str(step.request["Bucket"]), str(step.request["Key"])
    digest = step.request["Metadata"]["tritonforge-digest"]
    uri = f"s3://{bucket}/{key}"
    default = bucket == f"sagemaker-{session.region}-{account}"
    store = Store(session, bucket_owner=account if default else None)
    if key.endswith("/"):
        files = dict(uncompressed(material.folder))
        sizes = sum(path.stat().st_size for path in files.values())
        store.upload_tree(files, uri, progress=counted(progress, sizes))
        return
    if material.archive is not None:
        _send(store, material.archive, uri, digest, progress)
        return
    with temporary.folder("upload") as folder:
        progress.detail("compressing")
        package = write(material.folder, Path(folder) / "model.tar.gz", progress=progress.moved)
        if package.digest != digest:
            raise DeploymentError(
                f"{material.folder}: it has changed since the plan was made ({digest} is now {package.digest}); "
                "run it again"
            )
        _send(store, package.path, uri, digest, progress)


def _send(store: Store, path: Path, uri: str, digest: str, progress: Progress) -> None:
    store.upload(
        path,
        uri,
        digest=digest,
        content_type="application/gzip",
        progress=counted(progress, path.stat().st_size),
    )


def counted(progress: Progress, total: int) -> Callable[[int], None]:
    """What the store tells as differences, told as a sum."""
    done = 0

    def moved(size: int) -> None:
        nonlocal done
        done += size
        progress.moved(done, total)

    return moved
