"""The objects in the emulated S3, read and written in process: moto's own backend, without HTTP in between.

Everything that SageMaker itself does with S3 goes through here: model data, asynchronous input and output, captured
data. Requests of users reach the same backend through the emulator's front.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shutil
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from tritonforge import temporary
from tritonforge.errors import MissingExtraError, RequestError, TritonForgeError
from tritonforge.records import Buffer
from tritonforge.transform.object_store import CHUNK, StoredObject, StoreError

__all__ = ["EmulatedS3", "JobStore", "ObjectMissingError", "S3Object", "make_container_folder",
           "make_private_folder", "make_state_folder", "open_private", "split_uri"]  # fmt: skip

_S3: Final = re.compile(r"s3://(?P<bucket>[^/]+)/?(?P<key>.*)", re.DOTALL)
_HTTPS: Final = r"s3[.-][^/]*amazonaws\.com(?:\.cn)?/"
_PATH_STYLE: Final = re.compile(rf"https://{_HTTPS}(?P<bucket>[^/]+)/?(?P<key>.*)", re.DOTALL)
_HOST_STYLE: Final = re.compile(rf"https://(?P<bucket>[^/]+?)\.{_HTTPS}(?P<key>.*)", re.DOTALL)


class ObjectMissingError(TritonForgeError):
    """An object or a bucket does not exist."""


@dataclass(frozen=True, slots=True)
class S3Object:
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


class EmulatedS3:
    """The S3 of one account.

    Every call that names an object takes its URI, ``s3://bucket/key`` (or the ``https://`` forms that SageMaker takes
    too), and raises `ObjectMissingError` if the object or the bucket does not exist, RequestError for other text.
    """

    def __init__(self, account: str, *, partition: str = "aws") -> None:
        try:
            from moto.s3.exceptions import S3ClientError
            from moto.s3.models import s3_backends
        except ImportError as error:
            raise MissingExtraError("moto", extra="emulator") from error
        self._backend: Any = s3_backends[account][partition]
        self._error: type[Exception] = S3ClientError

    def head(self, uri: str) -> S3Object:
        """Return the size, etag and metadata of an object."""
        return _describe_key(self._find(uri))

    def get(self, uri: str, offset: int = 0) -> io.BufferedIOBase:
        """Open an object as a stream from ``offset`` on, read from moto's buffer in pieces; the caller closes it."""
        return io.BufferedReader(_KeyReader(self._find(uri), offset), 1 << 20)

    def read(self, uri: str) -> bytes:
        """Read a whole object."""
        content: bytes = self._find(uri).value
        return content

    def list(self, prefix: str) -> Iterator[S3Object]:
        """List the objects whose key starts with that of ``prefix``, sorted by key; empty if the bucket is missing."""
        bucket, key = split_uri(prefix)
        try:
            keys = self._backend.get_bucket(bucket).keys
        except self._error:
            return
        for name in sorted(name for name in list(keys) if name.startswith(key)):
            with contextlib.suppress(ObjectMissingError):  # removed since
                yield _describe_key(self._find(f"s3://{bucket}/{name}"))

    def put(self, uri: str, content: bytes, *, content_type: str = "application/octet-stream") -> None:
        """Write an object; the bucket must exist."""
        bucket, key = split_uri(uri)
        try:
            written = self._backend.put_object(bucket, key, content)
        except self._error as error:
            raise ObjectMissingError(f"s3://{bucket}: the bucket does not exist") from error
        written.set_metadata({"Content-Type": content_type})

    def delete(self, uri: str) -> None:
        """Remove an object; it need not be there."""
        bucket, key = split_uri(uri)
        with contextlib.suppress(self._error):
            self._backend.delete_object(bucket, key)

    def read_content_type(self, uri: str) -> str:
        """Return the content type that an object was stored with."""
        return str(self._find(uri).metadata.get("content-type", "binary/octet-stream"))

    def has_bucket(self, uri: str) -> bool:
        """Return True if the bucket of a URI exists."""
        return split_uri(uri)[0] in self._backend.buckets

    def _find(self, uri: str) -> Any:
        bucket, key = split_uri(uri)
        try:
            key_object = self._backend.get_object(bucket, key)
        except self._error as error:
            raise ObjectMissingError(f"s3://{bucket}: the bucket does not exist") from error
        if key_object is None or not hasattr(key_object, "contentsize"):  # nothing, or a delete marker
            raise ObjectMissingError(f"s3://{bucket}/{key}: the object does not exist")
        return key_object


def split_uri(uri: str) -> tuple[str, str]:
    """Split a URI into bucket and key.

    >>> split_uri("s3://models/digits/model.tar.gz")
    ('models', 'digits/model.tar.gz')
    """
    for pattern in (_S3, _PATH_STYLE, _HOST_STYLE):
        if match := pattern.fullmatch(uri):
            return match["bucket"], match["key"]
    raise RequestError(f"{uri!r} is not the address of an S3 object (expected s3://bucket/key)")


class _KeyReader(io.RawIOBase):
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


def _describe_key(key: Any) -> S3Object:
    return S3Object(key.bucket_name, key.name, int(key.contentsize), str(key.etag).strip('"'), dict(key.metadata or {}))


#: The folders of a state folder that outlive the process.
_FOLDERS: Final = ("neighbours", "sagemaker", "transforms", "trainings")


def make_state_folder(folder: Path) -> None:
    """Make a state folder and the folders in it.

    The mode of a state folder that exists is left alone, as it may be a folder with other files of the user's.
    """
    for name in _FOLDERS:
        make_private_folder(folder / name)


def make_container_folder(state: Path | None) -> Path:
    """Make an empty folder for the files of containers; remove what a killed emulator left in a state folder."""
    if state is None:
        return temporary.create_directory("emulator")
    folder = state / "containers"
    shutil.rmtree(folder, ignore_errors=True)
    make_private_folder(folder)
    return folder


def make_private_folder(folder: Path) -> None:
    """Make a folder and those above it that are missing, all with mode 0700; one that exists gets that mode too."""
    for missing in reversed([parent for parent in folder.parents if not parent.exists()]):
        missing.mkdir(mode=0o700, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    folder.chmod(0o700)


def open_private(path: Path, mode: str, **options: Any) -> IO[Any]:
    """Open a file as `open` does; one that is made gets mode 0600."""
    return open(path, mode, opener=lambda name, flags: os.open(name, flags, 0o600), **options)


#: The file in a job's folder that has the address of each of its outputs, a line of JSON each.
_OUTPUTS: Final = "outputs.jsonl"


class JobStore:
    """S3 for one job, whose files of its own lie in ``folder``; for use by many threads."""

    def __init__(self, objects: EmulatedS3, folder: Path) -> None:
        self._objects = objects
        self._outputs = folder / _OUTPUTS
        self._lock = threading.Lock()

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """List the objects whose URI starts with the prefix."""
        for entry in self._objects.list(prefix):
            yield _to_stored_object(entry)

    def find(self, uri: str) -> StoredObject | None:
        """Return the object at a URI, or None."""
        try:
            return _to_stored_object(self._objects.head(uri))
        except (ObjectMissingError, RequestError):
            return None

    def open(self, uri: str, offset: int = 0) -> Iterator[Buffer]:
        """Yield the content of an object, starting at ``offset``."""
        try:
            with self._objects.get(uri, offset) as stream:
                while piece := stream.read(CHUNK):
                    yield piece
        except (ObjectMissingError, RequestError, OSError) as error:
            raise StoreError(f"{uri}: cannot read: {error}") from error

    def put(self, content: Path | bytes, uri: str) -> None:
        """Put an output, after its address is known to be this job's."""
        body = content if isinstance(content, bytes) else content.read_bytes()
        with self._lock:
            with open_private(self._outputs, "a", encoding="utf-8") as file:
                file.write(f"\n{json.dumps(uri)}")  # in front: what a killed process left stays a line of its own
            try:
                self._objects.put(uri, body)
            except (ObjectMissingError, RequestError) as error:
                raise StoreError(f"{uri}: cannot write: {error}", permanent=True) from error
        if isinstance(content, Path):
            content.unlink()

    def check(self, uri: str) -> None:
        """Raise unless the bucket exists."""
        try:
            there = self._objects.has_bucket(uri)
        except RequestError as error:
            raise StoreError(str(error), permanent=True) from error
        if not there:
            raise StoreError(f"{uri}: cannot write: the bucket does not exist", permanent=True)

    def list_outputs(self) -> tuple[str, ...]:
        """Return the URIs that the job has written, in earlier runs too, without duplicates."""
        try:
            lines = self._outputs.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return ()
        return tuple(dict.fromkeys(address for line in lines if (address := _read_uri(line))))

    def withdraw(self) -> None:
        """Remove every output of the job."""
        for uri in self.list_outputs():
            self._objects.delete(uri)


def _to_stored_object(stored: S3Object) -> StoredObject:
    return StoredObject(stored.uri, stored.size, stored.etag)


def _read_uri(line: str) -> str:
    try:
        return str(json.loads(line)) if line else ""
    except ValueError:
        return ""  # a process was killed while it wrote the line: nothing was put by then
