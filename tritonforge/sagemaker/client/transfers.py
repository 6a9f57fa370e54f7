"""Transfers: the bytes of S3's objects on their way to and from this machine, each checked by its checksum.

An address is a `Location`. Uploads go through AWS's own s3transfer, a file's parts in parallel and straight from the
disk. A `Download` is resumed, however often the connection is cut (`tritonforge.sagemaker.client.errors`).

S3 keeps a CRC-32 of a whole object however many parts it came in ("FULL_OBJECT"), rejects an upload that ends with
another one, and returns it afterwards: one number from the disk here to the disk there. CRC64NVME and CRC32C would need
the awscrt package; SHA-256 is kept for parts only, so that it depends on how a file was cut.
"""

from __future__ import annotations

import base64
import io
import re
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from tritonforge.errors import ConnectError, EncodeError
from tritonforge.files import describe_error, hash_file, replace_file
from tritonforge.sagemaker.client.errors import RESUMES, AwsError
from tritonforge.sagemaker.client.session import Session
from tritonforge.triton.service_limits import S3_KEY

__all__ = ["Download", "DownloadStream", "Location", "OnTransfer", "Transfers", "compute_crc32", "compute_digest",
           "read_pieces", "save_download"]  # fmt: skip

_URI: Final = re.compile(r"s3://([a-z0-9][a-z0-9.\-]{1,61}[a-z0-9])(?:/(.*))?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Location:
    """An address in S3: the bucket, and the key, which is empty for the bucket, and ends with ``/`` for a folder.

    >>> str(Location.parse("s3://models/digits/") / "1/model.onnx")
    's3://models/digits/1/model.onnx'
    """

    bucket: str
    key: str = ""

    @classmethod
    def parse(cls, uri: str) -> Location:
        """Parse ``s3://bucket/key``; raises EncodeError."""
        match = _URI.fullmatch(uri)
        if match is None:
            raise EncodeError(f"{uri!r} is not an S3 address; write s3://bucket/key, the bucket's name in lower case")
        key = match[2] or ""
        if len(key.encode("utf-8", "surrogatepass")) > S3_KEY.value:
            raise EncodeError(f"the key of {uri!r:.80} has more than {S3_KEY.value} bytes, the limit of S3")
        return cls(match[1], key)

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}"

    def __truediv__(self, below: str) -> Location:
        """Return a location below this one."""
        return Location.parse(f"{self.folder}{below}")

    @property
    def folder(self) -> Location:
        """This location with ``/`` at its end, so that it includes what is below it and nothing beside it."""
        return self if not self.key or self.key.endswith("/") else Location(self.bucket, f"{self.key}/")

    def relative(self, key: str) -> str:
        """Return the part of a key that follows this folder's."""
        return key.removeprefix(self.folder.key)


#: Bytes read at a time.
_FILE_PIECE: Final = 4 << 20


def read_pieces(path: Path) -> Iterator[bytes]:
    """Yield a file's content in pieces."""
    with path.open("rb") as file:
        while piece := file.read(_FILE_PIECE):
            yield piece


def compute_crc32(content: Iterable[bytes | memoryview]) -> str:
    """Return the CRC-32 as S3 writes it: four bytes, the highest first, in base64.

    >>> compute_crc32([b"12345", b"6789"])
    'y/Q5Jg=='
    """
    value = 0
    for piece in content:
        value = zlib.crc32(piece, value)
    return base64.b64encode(value.to_bytes(4, "big")).decode()


def compute_digest(path: Path) -> str:
    """Return the digest of a file's content: ``sha256:`` and 64 hexadecimal digits."""
    return f"sha256:{hash_file(path)}"


#: Called with a number of bytes as they are sent, by one thread at a time; negative if some are sent again.
OnTransfer = Callable[[int], None]


class Transfers:
    """Uploads that share threads and memory; a context manager, safe for use by several threads.

    Memory is bounded: files are read as they are sent, of a stream at most ``threads`` parts of ``part_size`` bytes are
    kept. An error or Ctrl-C in the context cancels the running uploads and removes their parts.
    """

    def __init__(self, session: Session, *, part_size: int, threads: int) -> None:
        # Imported here because boto3 brings it, which is an extra.
        from s3transfer.manager import (  # type: ignore[import-untyped]  # s3transfer has no types
            TransferConfig,
            TransferManager,
        )

        self._lock = threading.Lock()
        self._guard = threading.Lock()  # of the next two
        self._futures: set[Any] = set()
        self._cancelled = False
        self._manager: Any = TransferManager(
            session.client("s3"),
            TransferConfig(
                multipart_threshold=part_size + 1,
                multipart_chunksize=part_size,
                max_request_concurrency=threads,
                max_in_memory_upload_chunks=threads,
            ),
        )

    def __enter__(self) -> Transfers:
        self._manager.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._manager.__exit__(kind, error, traceback)

    def cancel(self) -> None:
        """Cancel all running and later uploads: their callers get CancelledError, and no parts are left.

        The uploads are cancelled one by one: s3transfer's own ``shutdown(cancel=True)`` passes its arguments in the
        wrong order, and fails if an upload is running.
        """
        with self._guard:
            self._cancelled = True
            futures = list(self._futures)
        for future in futures:
            future.cancel()

    def send(self, source: Any, location: Location, *, extra: dict[str, Any], on_progress: OnTransfer | None) -> None:
        """Upload a file, given by its path, or a stream, and wait for it; raises botocore's errors."""
        from s3transfer.subscribers import BaseSubscriber  # type: ignore[import-untyped]  # as above

        lock = self._lock

        class Meter(BaseSubscriber):  # type: ignore[misc] # s3transfer has no types
            def on_progress(self, bytes_transferred: int, **_: Any) -> None:
                if on_progress is not None:
                    with lock:
                        on_progress(bytes_transferred)

        future = self._manager.upload(source, location.bucket, location.key, extra_args=extra, subscribers=[Meter()])
        with self._guard:
            self._futures.add(future)
            cancelled = self._cancelled
        if cancelled:
            future.cancel()
        try:
            future.result()
        finally:
            with self._guard:
                self._futures.discard(future)


_PIECE: Final = 1 << 20
#: S3's codes for a range that begins where the object ends.
_BEYOND: Final = frozenset({"416", "InvalidRange"})


class Download:
    """The download of an object: ``size`` in bytes, ``content_type``; iterating yields its pieces, once.

    With an ``offset`` the pieces begin at that byte, without any if the object ends there.

    Raises AwsError if the object does not exist, ConnectError if it arrives incomplete or with another checksum.
    """

    def __init__(self, session: Session, location: Location, *, extra: dict[str, Any], offset: int = 0) -> None:
        self._session, self._location, self._extra, self._offset = session, location, extra, offset
        try:
            answer = self._get({"Range": f"bytes={offset}-"} if offset else {})
        except AwsError as refusal:
            if not offset or refusal.code not in _BEYOND:
                raise
            answer = {"ContentLength": 0, "Body": io.BytesIO()}
        self.size = offset + int(answer["ContentLength"])
        self.content_type: str | None = answer.get("ContentType")
        self._etag: str = answer.get("ETag", "")
        self._body = answer["Body"]
        checksum = answer.get("ChecksumCRC32") or ""
        whole = not offset and answer.get("ChecksumType") in (None, "FULL_OBJECT") and "-" not in checksum
        self._crc32 = checksum if whole else ""

    def __iter__(self) -> Iterator[bytes]:
        got, crc, fruitless = self._offset, 0, 0
        while True:
            came = 0
            try:
                with self._session.map_errors("s3", "GetObject", str(self._location)):
                    while piece := self._body.read(_PIECE):
                        came += len(piece)
                        crc = zlib.crc32(piece, crc)
                        yield piece
            except ConnectError:
                fruitless = 0 if came else fruitless + 1
                if fruitless >= RESUMES:
                    raise
            finally:
                self._body.close()
                got += came
            if got >= self.size:
                break
            self._body = self._get({"Range": f"bytes={got}-", "IfMatch": self._etag})["Body"]
        checksum = base64.b64encode(crc.to_bytes(4, "big")).decode()
        if got != self.size or (self._crc32 and checksum != self._crc32):
            raise ConnectError(
                f"s3 GetObject of {self._location}: got {got} bytes with CRC-32 {checksum}, expected {self.size} with "
                f"{self._crc32 or 'none'}; run it again"
            )

    def close(self) -> None:
        """Close the connection."""
        self._body.close()

    def _get(self, more: dict[str, Any]) -> dict[str, Any]:
        return self._session.call(
            "s3",
            "GetObject",
            resource=str(self._location),
            Bucket=self._location.bucket,
            Key=self._location.key,
            **self._extra,
            **more,
        )


class DownloadStream(io.RawIOBase):
    """A download as a binary stream for `io.BufferedReader`."""

    def __init__(self, download: Download) -> None:
        super().__init__()
        self._download, self._pieces, self._rest = download, iter(download), memoryview(b"")

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read the next bytes, 0 at the end."""
        if not self._rest:
            self._rest = memoryview(next(self._pieces, b""))
        view = memoryview(buffer).cast("B")
        count = min(len(view), len(self._rest))
        view[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    def close(self) -> None:
        """Close the connection, too."""
        if not self.closed:
            self._download.close()
        super().close()


def save_download(download: Download, path: Path, *, on_progress: OnTransfer | None) -> None:
    """Write a download to a file, which appears when it is complete, with the mode that `open` gives to a new file.

    Raises EncodeError if it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replace_file(path, sync=False) as file:  # it can be downloaded again
            for piece in download:
                file.write(piece)
                if on_progress is not None:
                    on_progress(len(piece))
    except OSError as error:
        raise EncodeError(f"{path}: cannot write: {describe_error(error)}") from error
