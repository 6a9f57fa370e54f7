"""The upload of a repository to the address in S3 from which KServe's pods download it.

KServe downloads every object whose key begins with the path of the storageUri. Source: kserve/kserve v0.20.0
python/storage/kserve_storage/kserve_storage.py, `Storage._download_s3`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tritonforge.errors import DefinitionError, DeploymentError
from tritonforge.kubernetes.cluster_plan import UploadStep
from tritonforge.sagemaker.client import Location, Store
from tritonforge.sagemaker.package import list_objects, read_contents
from tritonforge.sagemaker.plans.executor import count_bytes
from tritonforge.sagemaker.plans.plan import Progress, SilentProgress

__all__ = ["RepositoryUpload"]

#: Objects below the address without a file in the repository: each costs a request, and more are another directory.
_MOST_OTHERS: Final = 1000


class RepositoryUpload:
    """The upload of the files of a repository: those that S3 lacks, or has with another digest.

    Args:
        store: the credentials and the region of the calls.
        uri: the storageUri, ``s3://BUCKET/PATH``.
    """

    def __init__(self, store: Store, uri: str) -> None:
        self._store, self.uri = store, uri

    def plan(self, repository: Path) -> UploadStep:
        """Compare the files of a repository with the objects at the address; changes nothing.

        Raises:
            DefinitionError: the pods would download objects that are not at the address, or are of something else.
            PackageError: a file cannot be stored in S3.
            DeploymentError, ConnectError: S3 rejected a call, or did not answer.
        """
        self._reject_neighbours()
        files = dict(list_objects(repository))
        difference = self._store.compare_tree(files, self.uri)
        if len(difference.stale) > _MOST_OTHERS:
            raise DefinitionError(
                f"storageUri {self.uri}: it has {len(difference.stale)} objects that are not in the repository, such "
                f"as {difference.stale[0]} (expected at most {_MOST_OTHERS}). Give an address of its own"
            )
        folder = Location.parse(self.uri).folder
        own = {key for key in difference.stale if self._is_uploaded(str(folder / key))}
        return UploadStep(
            uri=str(folder),
            sent={key: files[key].stat().st_size for key in difference.missing},
            unchanged=len(difference.unchanged),
            removed=[key for key in difference.stale if key in own],
            foreign=[key for key in difference.stale if key not in own],
        )

    def submit(self, repository: Path, step: UploadStep, digest: str, *, progress: Progress | None = None) -> None:
        """Upload what is missing, then remove what an earlier upload left; a second run continues an interrupted one.

        ``digest`` is that of the repository for which the plan was made.

        Raises:
            DeploymentError, ConnectError: the repository has changed since then, or S3 rejected a call.
        """
        shown = SilentProgress() if progress is None else progress
        current = read_contents(repository).digest
        if current != digest:
            raise DeploymentError(
                f"{repository}: it has changed since the plan was made ({digest} is now {current}); run it again"
            )
        files = dict(list_objects(repository))
        size = sum(path.stat().st_size for path in files.values())
        self._store.upload_tree(files, self.uri, on_progress=count_bytes(shown, size))
        folder = Location.parse(self.uri).folder
        self._store.delete_all([str(folder / key) for key in step.removed])

    def _reject_neighbours(self) -> None:
        """Check that no key beside the address begins like it: s3://models/digits is a prefix of digits-2/m.onnx."""
        address = Location.parse(self.uri)
        if address == address.folder:
            return
        for stored in self._store.list_objects(str(address)):
            if not stored.uri.startswith(str(address.folder)):
                raise DefinitionError(
                    f"storageUri {self.uri}: KServe downloads every object whose key begins with {address.key!r}, also "
                    f"{stored.uri}. End the storageUri with '/', or move that object"
                )

    def _is_uploaded(self, uri: str) -> bool:
        """Return True if an object carries the digest that every upload of tritonforge writes."""
        stored = self._store.find(uri)
        return stored is not None and stored.digest is not None
