"""S3 as a place of transform jobs that run on this machine. An edge."""

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

__all__ = ["S3Objects"]

#: S3's codes for a bucket in which no output can ever be put.
_NO_BUCKET: Final = frozenset({"404", "NoSuchBucket", "NotFound"})

_CONTENT_TYPE: Final = "application/octet-stream"


class S3Objects:
    """S3 through a store, by default that of the configured account and region; for use by many threads.

    An upload carries a checksum that S3 checks before the object appears; a read that is cut off goes on where it was.
    """

    def __init__(self, store: Store | None = None) -> None:
        self._store = Store(Session()) if store is None else store

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """The objects whose address begins with the prefix, in S3's order."""
        try:
            for each in self._store.list_objects(prefix):
                yield StoredObject(each.uri, each.size, each.etag)
        except (DeploymentError, ConnectError, EncodeError) as error:
            raise StoreError(f"{prefix}: it cannot be listed: {error}", permanent=True) from error

    def find(self, uri: str) -> StoredObject | None:
        """The object at an address."""
        try:
            found = self._store.find(uri)
        except (DeploymentError, ConnectError, EncodeError) as error:
            raise StoreError(f"{uri}: {error}") from error
        return None if found is None else StoredObject(found.uri, found.size, found.etag)

    def open(self, uri: str, offset: int = 0) -> Iterator[Buffer]:
        """The content of an object from a byte on."""
        try:
            download = self._store.get(uri, offset)
            try:
                yield from download
            finally:
                download.close()
        except (DeploymentError, ConnectError, EncodeError) as error:
            raise StoreError(f"{uri}: it cannot be read: {error}") from error

    def put(self, content: Path | bytes, uri: str) -> None:
        """Put an output at an address, over what is there; a file is removed once it is there."""
        try:
            self._store.put(content, uri, content_type=_CONTENT_TYPE)
        except AwsError as error:
            permanent = error.denied or error.code in _NO_BUCKET
            raise StoreError(f"{uri}: the output cannot be written: {error}", permanent=permanent) from error
        except (DeploymentError, ConnectError, EncodeError) as error:
            raise StoreError(f"{uri}: the output cannot be written: {error}") from error
        if isinstance(content, Path):
            content.unlink(missing_ok=True)

    def check(self, uri: str) -> None:
        """The bucket is there; whether outputs may be put into it, the first of them finds out."""
        try:
            bucket = Location.parse(uri).bucket
            self._store.session.call("s3", "HeadBucket", resource=uri, Bucket=bucket)
        except AwsError as error:
            if error.code in _NO_BUCKET:
                raise StoreError(f"{uri}: outputs cannot be written there: {error}", permanent=True) from error
        except (DeploymentError, ConnectError, EncodeError) as error:
            raise StoreError(f"{uri}: outputs cannot be written there: {error}", permanent=True) from error
