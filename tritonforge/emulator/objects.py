"""The objects in the emulated S3, read and written in process: moto's own backend, without HTTP in between.

Everything that SageMaker itself does with S3 goes through here: model data, asynchronous input and output, captured
data. Requests of users reach the same backend through the emulator's front.
"""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from tritonforge.errors import MissingExtraError, RequestError, TritonForgeError

__all__ = ["ObjectMissingError", "ObjectStore", "StoredObject", "split"]

_S3: Final = re.compile(r"s3://(?P<bucket>[^/]+)/?(?P<key>.*)", re.DOTALL)
_HTTPS: Final = r"s3[.-][^/]*amazonaws\.com(?:\.cn)?/"
_PATH_STYLE: Final = re.compile(rf"https://{_HTTPS}(?P<bucket>[^/]+)/?(?P<key>.*)", re.DOTALL)
_HOST_STYLE: Final = re.compile(rf"https://(?P<bucket>[^/]+?)\.{_HTTPS}(?P<key>.*)", re.DOTALL)


class ObjectMissingError(TritonForgeError):
    """There is no such object, or no such bucket."""


@dataclass(frozen=True, slots=True)
class StoredObject:
    """What S3 says about an object: ``etag`` without quotes, ``size`` in bytes."""

    bucket: str
    key: str
    size: int
    etag: str
    metadata: Mapping[str, str]

    @property
    def uri(self) -> str:
        """The object's address."""
        return f"s3://{self.bucket}/{self.key}"


class ObjectStore:
    """The S3 of one account.

    Every call that names an object takes its URI, ``s3://bucket/key`` (or the ``https://`` forms that SageMaker takes
    too), and raises `ObjectMissingError` where there is no such object or bucket, RequestError for other text.
    """

    def __init__(self, account: str, *, partition: str = "aws") -> None:
        try:
            from moto.s3.exceptions import S3ClientError
            from moto.s3.models import s3_backends
        except ImportError as error:
            raise MissingExtraError("moto", extra="emulator") from error
        self._backend: Any = s3_backends[account][partition]
        self._error: type[Exception] = S3ClientError

    def head(self, uri: str) -> StoredObject:
        """Size, etag and metadata of an object."""
        return _described(self._find(uri))

    def get(self, uri: str, offset: int = 0) -> io.BufferedIOBase:
        """An object as a stream from a byte on, read from moto's buffer piece by piece; close it."""
        return io.BufferedReader(_Content(self._find(uri), offset), 1 << 20)

    def read(self, uri: str) -> bytes:
        """An object as a whole."""
        content: bytes = self._find(uri).value
        return content

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """The objects whose key starts with the key of ``prefix``, sorted by key; none where the bucket is missing."""
        bucket, key = split(prefix)
        try:
            keys = self._backend.get_bucket(bucket).keys
        except self._error:
            return
        for name in sorted(name for name in list(keys) if name.startswith(key)):
            with contextlib.suppress(ObjectMissingError):  # removed since
                yield _described(self._find(f"s3://{bucket}/{name}"))

    def put(self, uri: str, content: bytes, *, content_type: str = "application/octet-stream") -> None:
        """Write an object; the bucket must exist."""
        bucket, key = split(uri)
        try:
            written = self._backend.put_object(bucket, key, content)
        except self._error as error:
            raise ObjectMissingError(f"there is no bucket {bucket!r}") from error
        written.set_metadata({"Content-Type": content_type})

    def delete(self, uri: str) -> None:
        """Remove an object; it need not be there."""
        bucket, key = split(uri)
        with contextlib.suppress(self._error):
            self._backend.delete_object(bucket, key)

    def content_type(self, uri: str) -> str:
        """The content type that an object was stored with."""
        return str(self._find(uri).metadata.get("content-type", "binary/octet-stream"))

    def has_bucket(self, uri: str) -> bool:
        """Whether the bucket of a URI exists."""
        return split(uri)[0] in self._backend.buckets

    def _find(self, uri: str) -> Any:
        bucket, key = split(uri)
        try:
            found = self._backend.get_object(bucket, key)
        except self._error as error:
            raise ObjectMissingError(f"there is no bucket {bucket!r}") from error
        if found is None or not hasattr(found, "contentsize"):  # nothing, or a delete marker
            raise ObjectMissingError(f"there is no object s3://{bucket}/{key}")
        return found


def split(uri: str) -> tuple[str, str]:
    """Bucket and key of a URI.

    >>> split("s3://models/digits/model.tar.gz")
    ('models', 'digits/model.tar.gz')
    """
    for pattern in (_S3, _PATH_STYLE, _HOST_STYLE):
        if found := pattern.fullmatch(uri):
            return found["bucket"], found["key"]
    raise RequestError(f"{uri!r} is no address of an S3 object; write s3://bucket/key")


class _Content(io.RawIOBase):
    """The buffer of one of moto's keys as a file of its own position."""

    def __init__(self, key: Any, position: int = 0) -> None:
        self._key = key
        self._position = position

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        with self._key.lock:
            try:
                file = self._key._value_buffer  # moto's own reader (`value`) makes two copies of the whole
                file.seek(self._position)
                piece = file.read(len(buffer))
            except ValueError as error:  # closed: the object was overwritten or removed meanwhile
                raise OSError(f"s3://{self._key.bucket_name}/{self._key.name} changed while it was read") from error
        buffer[: len(piece)] = piece
        self._position += len(piece)
        return len(piece)


def _described(key: Any) -> StoredObject:
    return StoredObject(
        key.bucket_name, key.name, int(key.contentsize), str(key.etag).strip('"'), dict(key.metadata or {})
    )
