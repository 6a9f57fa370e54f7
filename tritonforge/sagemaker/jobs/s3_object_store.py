"""S3 as the object store of jobs that run on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tritonforge.errors import ConnectError, DeploymentError, EncodeError
from tritonforge.records import Buffer
from tritonforge.sagemaker.client.errors import AwsError
from tritonforge.sagemaker.client.session import Session
from tritonforge.sagemaker.client.store import Store
from tritonforge.sagemaker.client.transfers import Location
from tritonforge.transform.object_store import StoredObject, StoreError

__all__ = ["S3ObjectStore"]

#: S3's codes for a missing bucket.
_NO_BUCKET: Final = frozenset({"404", "NoSuchBucket", "NotFound"})

_CONTENT_TYPE: Final = "application/octet-stream"
_ERRORS: Final = (DeploymentError, ConnectError, EncodeError)


class S3ObjectStore:
    """An `ObjectStore` over a `Store`, by default that of the configured account and region. Safe for several threads.

    An upload carries a checksum that S3 verifies before the object appears; an interrupted download continues where it
    was.
    """

    def __init__(self, store: Store | None = None) -> None:
        self._store = Store(Session()) if store is None else store

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """Yield the objects whose address begins with the prefix, in S3's order."""
        try:
            for stored in self._store.list_objects(prefix):
                yield StoredObject(stored.uri, stored.size, stored.etag)
        except _ERRORS as error:
            raise StoreError(f"{prefix}: cannot list: {error}", permanent=True) from error

    def find(self, uri: str) -> StoredObject | None:
        """Return the object at an address, None if it does not exist."""
        try:
            stored = self._store.find(uri)
        except _ERRORS as error:
            raise StoreError(f"{uri}: {error}") from error
        return None if stored is None else StoredObject(stored.uri, stored.size, stored.etag)

    def open(self, uri: str, offset: int = 0) -> Iterator[Buffer]:
        """Yield the content of an object from a byte on."""
        try:
            download = self._store.get(uri, offset)
            try:
                yield from download
            finally:
                download.close()
        except _ERRORS as error:
            raise StoreError(f"{uri}: cannot read: {error}") from error

    def put(self, content: Path | bytes, uri: str) -> None:
        """Write an output, replacing an existing one. A file is removed after its upload."""
        try:
            self._store.put(content, uri, content_type=_CONTENT_TYPE)
        except _ERRORS as error:
            is_permanent = isinstance(error, AwsError) and (error.denied or error.code in _NO_BUCKET)
            raise StoreError(f"{uri}: cannot write: {error}", permanent=is_permanent) from error
        if isinstance(content, Path):
            content.unlink(missing_ok=True)

    def check(self, uri: str) -> None:
        """Check that the bucket exists; only the first output shows whether it may be written."""
        try:
            bucket = Location.parse(uri).bucket
            self._store.session.call("s3", "HeadBucket", resource=uri, Bucket=bucket)
        except _ERRORS as error:
            if not isinstance(error, AwsError) or error.code in _NO_BUCKET:
                raise StoreError(f"{uri}: cannot write: {error}", permanent=True) from error
