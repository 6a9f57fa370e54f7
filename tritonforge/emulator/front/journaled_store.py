"""What SageMaker itself writes to S3, through the same door as everybody's requests, so that the journal sees it."""

from __future__ import annotations

import contextlib

from tritonforge.emulator.front.moto_backend import Neighbours
from tritonforge.emulator.objects import ObjectMissingError, ObjectStore, split

__all__ = ["StoredObjects"]


class StoredObjects(ObjectStore):
    """The emulated S3: read in process, written as S3's own PutObject while a journal is kept."""

    def __init__(self, neighbours: Neighbours) -> None:
        super().__init__(neighbours.account)
        self._neighbours = neighbours

    def put(self, uri: str, content: bytes, *, content_type: str = "application/octet-stream") -> None:
        """Write an object; raises ObjectMissingError where there is no such bucket."""
        if self._neighbours.keeper is None:
            super().put(uri, content, content_type=content_type)
            return
        from botocore.exceptions import ClientError

        bucket, key = split(uri)
        try:
            self._neighbours.client("s3", "us-east-1").put_object(
                Bucket=bucket, Key=key, Body=content, ContentType=content_type
            )
        except ClientError as error:
            raise ObjectMissingError(f"there is no bucket {bucket!r}") from error

    def delete(self, uri: str) -> None:
        """Remove an object; it need not be there."""
        if self._neighbours.keeper is None:
            super().delete(uri)
            return
        from botocore.exceptions import ClientError

        bucket, key = split(uri)
        with contextlib.suppress(ClientError):  # there is no such bucket
            self._neighbours.client("s3", "us-east-1").delete_object(Bucket=bucket, Key=key)
