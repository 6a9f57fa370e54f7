"""The store: S3, with uploads that appear complete or not at all.

An upload carries the CRC-32 of the whole object, which S3 checks before the object appears and returns afterwards, and
the digest of its content as metadata, by which the next upload is skipped. Parts are sent in parallel
(`tritonforge.sagemaker.client.transfers`); a lost part is sent again by botocore.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, cast
from urllib.parse import urlencode

from tritonforge.errors import ConnectError, DeploymentError, EncodeError
from tritonforge.files import describe_error
from tritonforge.sagemaker.client import sync, transfers
from tritonforge.sagemaker.client.errors import AwsError
from tritonforge.sagemaker.client.session import Session
from tritonforge.sagemaker.client.sync import Difference, UploadedTree
from tritonforge.sagemaker.client.transfers import Download, Location, OnTransfer, Transfers, compute_crc32, read_pieces
from tritonforge.triton.service_limits import S3_DELETED_OBJECTS

__all__ = ["DIGEST", "S3Object", "Store", "UploadResult"]

#: The name under which S3 keeps an object's digest (``x-amz-meta-...``).
DIGEST: Final = "tritonforge-digest"
#: Bytes of a part; a file up to this size is sent at once. s3transfer makes parts larger if 10 000 are too few.
_PART: Final = 16 << 20
_NOT_FOUND: Final = frozenset({"404", "NoSuchKey", "NotFound"})
#: S3's codes for content that does not match its checksum.
_DAMAGED: Final = frozenset(
    {"BadDigest", "IncompleteBody", "InvalidDigest", "InvalidPart", "XAmzContentChecksumMismatch"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Object:
    """An object in S3.

    ``digest`` is from its upload's metadata, ``crc32`` (base64) from S3; each is None if the object has none.
    """

    uri: str
    size: int
    etag: str
    digest: str | None = None
    crc32: str | None = None
    content_type: str | None = None
    version: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadResult:
    """The result of an upload: ``skipped`` if the object existed already; ``size`` is in bytes.

    ``verified`` is False only if S3 keeps no checksum, or does not return it to this caller; the size is verified even
    then.
    """

    uri: str
    size: int
    skipped: bool
    verified: bool = True


class Store:
    """S3 through a session; safe for use by several threads.

    ``kms_key`` encrypts what is uploaded, ``bucket_owner`` is the account to which every bucket must belong (S3 rejects
    other buckets), ``tags`` are put on objects. ``part_size`` is in bytes, ``threads`` is the number of parallel
    requests. All methods raise as `tritonforge.sagemaker.client.errors.map_errors`, and EncodeError for an invalid
    address or file.
    """

    def __init__(
        self,
        session: Session,
        *,
        kms_key: str | None = None,
        bucket_owner: str | None = None,
        tags: Mapping[str, str] | None = None,
        part_size: int = _PART,
        threads: int = 8,
    ) -> None:
        self.session = session
        self.part_size = part_size
        self.threads = threads
        self._owner: dict[str, str] = {} if bucket_owner is None else {"ExpectedBucketOwner": bucket_owner}
        self._attributes: dict[str, str] = {"Tagging": urlencode(tags)} if tags else {}
        if kms_key is not None:
            self._attributes |= {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": kms_key}

    def find(self, uri: str) -> S3Object | None:
        """Return the object at an address, None if it does not exist. Read-only."""
        return self._head(Location.parse(uri))

    def exists(self, uri: str, digest: str, *, size: int | None = None) -> bool:
        """Return True if the object exists with this digest, and this size in bytes if one is given. Read-only."""
        stored = self.find(uri)
        return stored is not None and stored.digest == digest and size in (None, stored.size)

    def list_objects(self, uri: str) -> Iterator[S3Object]:
        """Yield the objects whose key begins with the address's, in S3's order, without digests. Read-only.

        A folder's address ends with ``/``.
        """
        location = Location.parse(uri)
        for page in self.session.paginate(
            "s3", "ListObjectsV2", resource=uri, Bucket=location.bucket, Prefix=location.key, **self._owner
        ):
            for content in page.get("Contents", ()):
                uri = str(Location(location.bucket, content["Key"]))
                yield S3Object(uri=uri, size=int(content["Size"]), etag=str(content.get("ETag", "")).strip('"'))

    def upload(
        self,
        path: Path,
        uri: str,
        *,
        digest: str,
        metadata: Mapping[str, str] | None = None,
        content_type: str | None = None,
        on_progress: OnTransfer | None = None,
    ) -> UploadResult:
        """Put a file at an address, unless it exists there with the same digest and size.

        ``digest`` identifies the content, such as a package's. ``on_progress`` is called with the number of bytes sent,
        by one thread at a time: a negative number if some are sent again, all of them if the upload is skipped.
        Incomplete uploads of this address that a killed process left are removed afterwards. A failed upload leaves
        nothing. Raises DeploymentError if other bytes arrived than were sent.
        """
        location = Location.parse(uri)
        try:
            size = path.stat().st_size
            if self.exists(uri, digest, size=size):
                self.remove_incomplete_uploads(uri)
                if on_progress is not None:
                    on_progress(size)
                return UploadResult(uri=uri, size=size, skipped=True)
            checksum = compute_crc32(read_pieces(path))
        except OSError as error:
            raise EncodeError(f"{path}: cannot read: {describe_error(error)}") from error
        verified = self.upload_content(
            str(path),
            location,
            size=size,
            checksum=checksum,
            digest=digest,
            metadata=metadata,
            content_type=content_type,
            on_progress=on_progress,
        )
        return UploadResult(uri=uri, size=size, skipped=False, verified=verified)

    def upload_tree(
        self,
        files: Mapping[str, Path],
        uri: str,
        *,
        digests: Mapping[str, str] | None = None,
        prune: bool = False,
        on_progress: OnTransfer | None = None,
    ) -> UploadedTree:
        """Put files below an address, each at its key; those that exist with the same digest and size are skipped.

        ``digests`` are the files' own (``sha256:...``); those that are not given are computed. ``prune`` removes all
        other objects below the address once all files are there; ``on_progress`` as in `upload`.
        """
        return sync.upload_tree(self, files, uri, digests=digests, prune=prune, on_progress=on_progress)

    def compare_tree(
        self, files: Mapping[str, Path], uri: str, *, digests: Mapping[str, str] | None = None
    ) -> Difference:
        """Return what `upload_tree` would send, skip and remove. Read-only."""
        return sync.compare_tree(self, files, uri, digests=digests)

    def put(self, content: Path | BinaryIO | bytes, uri: str, *, content_type: str) -> int:
        """Put a file, a seekable stream, or bytes at an address, replacing what is there; return the size in bytes.

        It is read twice, a part at a time: for its checksum, and to be sent.
        """
        if isinstance(content, Path):
            try:
                with content.open("rb") as file:
                    return self.put(file, uri, content_type=content_type)
            except OSError as error:
                raise EncodeError(f"{content}: cannot read: {describe_error(error)}") from error
        stream: Any = io.BytesIO(content) if isinstance(content, bytes) else content
        size = int(stream.seek(0, io.SEEK_END))
        stream.seek(0)
        checksum = compute_crc32(iter(lambda: stream.read(self.part_size), b""))
        stream.seek(0)
        self.upload_content(stream, Location.parse(uri), size=size, checksum=checksum, content_type=content_type)
        return size

    def get(self, uri: str, offset: int = 0) -> Download:
        """Return the download of an object; a cut connection is resumed, the checksum verified.

        With an ``offset`` it begins at that byte, and has no checksum.
        """
        return Download(self.session, Location.parse(uri), extra=dict(self._owner), offset=offset)

    def open(self, uri: str) -> BinaryIO:
        """Open an object as a stream to read once, as reliable as `get`; close it."""
        return cast("BinaryIO", io.BufferedReader(transfers.DownloadStream(self.get(uri)), buffer_size=1 << 20))

    def download(self, uri: str, path: Path, *, on_progress: OnTransfer | None = None) -> int:
        """Write the object to a file, which appears when it is complete; return its size in bytes."""
        download = self.get(uri)
        transfers.save_download(download, path, on_progress=on_progress)
        return download.size

    def delete(self, uri: str) -> None:
        """Remove the object at an address; it need not exist."""
        self._delete(Location.parse(uri), version=None)

    def delete_all(self, uris: Sequence[str]) -> int:
        """Remove objects of one bucket and return their number. Raises DeploymentError for the first that S3 keeps."""
        for start in range(0, len(uris), S3_DELETED_OBJECTS.value):
            batch = [Location.parse(uri) for uri in uris[start : start + S3_DELETED_OBJECTS.value]]
            bucket = batch[0].bucket
            answer = self.session.call(
                "s3",
                "DeleteObjects",
                resource=f"s3://{bucket}",
                Bucket=bucket,
                Delete={"Objects": [{"Key": location.key} for location in batch], "Quiet": True},
                **self._owner,
            )
            for kept in answer.get("Errors", ()):
                raise DeploymentError(
                    f"s3 DeleteObjects of s3://{bucket}/{kept.get('Key')}: {kept.get('Code')}: {kept.get('Message')}; "
                    "the object still exists"
                )
        return len(uris)

    def list_incomplete_uploads(self, uri: str) -> tuple[tuple[str, str], ...]:
        """Return address and id of the incomplete uploads whose key begins with the address's. Read-only."""
        location = Location.parse(uri)
        return tuple(
            (str(Location(location.bucket, upload["Key"])), str(upload["UploadId"]))
            for page in self.session.paginate(
                "s3", "ListMultipartUploads", resource=uri, Bucket=location.bucket, Prefix=location.key, **self._owner
            )
            for upload in page.get("Uploads", ())
        )

    def abort_incomplete_uploads(self, uri: str) -> int:
        """Abort the incomplete uploads below an address and return their number; one of another process fails then."""
        return self._abort(self.list_incomplete_uploads(uri))

    def remove_incomplete_uploads(self, uri: str, *, below: bool = False) -> None:
        """Remove incomplete uploads of exactly this address, or of all ``below`` it, if that is permitted.

        It needs s3:ListBucketMultipartUploads, which an upload itself does not need.
        """
        with contextlib.suppress(DeploymentError, ConnectError):
            self._abort(tuple(upload for upload in self.list_incomplete_uploads(uri) if below or upload[0] == uri))

    def upload_content(
        self,
        source: Any,
        location: Location,
        *,
        size: int,
        checksum: str,
        digest: str | None = None,
        metadata: Mapping[str, str] | None = None,
        content_type: str | None = None,
        on_progress: OnTransfer | None = None,
        transfers: Transfers | None = None,
    ) -> bool:
        """Upload a file, given by its path, or a stream; return True if S3 has confirmed its checksum."""
        extra: dict[str, Any] = {
            "ChecksumAlgorithm": "CRC32",
            "ChecksumCRC32": checksum,
            "Metadata": {**(metadata or {}), **({} if digest is None else {DIGEST: digest})},
            **({} if content_type is None else {"ContentType": content_type}),
            **self._attributes,
            **self._owner,
        }
        try:
            with self.session.map_errors("s3", "PutObject", str(location)):
                if transfers is not None:
                    transfers.send(source, location, extra=extra, on_progress=on_progress)
                else:
                    with Transfers(self.session, part_size=self.part_size, threads=self.threads) as own:
                        own.send(source, location, extra=extra, on_progress=on_progress)
        except AwsError as refusal:
            if self._is_stored(location, size=size, checksum=checksum, digest=digest):
                return True
            self.remove_incomplete_uploads(str(location))
            if refusal.code in _DAMAGED:
                raise DeploymentError(
                    f"{location}: S3 got other bytes than were sent ({refusal.code}: {refusal.message.rstrip('.')}): "
                    "the file changed while it was read, or the connection damages it; nothing is left, run it again"
                ) from refusal
            raise
        except OSError as error:
            raise EncodeError(
                f"{source}: cannot read: {describe_error(error)}; it was not sent to {location}"
            ) from error
        if size > self.part_size:
            self.remove_incomplete_uploads(str(location))
        return self._verify(location, size=size, checksum=checksum)

    def _head(self, location: Location, *, with_checksum: bool = True) -> S3Object | None:
        try:
            answer = self.session.call(
                "s3",
                "HeadObject",
                resource=str(location),
                Bucket=location.bucket,
                Key=location.key,
                **({"ChecksumMode": "ENABLED"} if with_checksum else {}),
                **self._owner,
            )
        except AwsError as refusal:
            if refusal.code in _NOT_FOUND:
                return None
            if with_checksum and refusal.denied:
                # S3 returns the checksum of an object under a KMS key only to callers that may decrypt it.
                return self._head(location, with_checksum=False)
            raise
        # A checksum of checksums carries "-<parts>" behind it.
        checksum = answer.get("ChecksumCRC32") or ""
        whole = answer.get("ChecksumType") in (None, "FULL_OBJECT") and "-" not in checksum
        return S3Object(
            uri=str(location),
            size=int(answer["ContentLength"]),
            etag=str(answer.get("ETag", "")).strip('"'),
            digest=answer.get("Metadata", {}).get(DIGEST),
            crc32=checksum if whole and checksum else None,
            content_type=answer.get("ContentType"),
            version=answer.get("VersionId"),
        )

    def _is_stored(self, location: Location, *, size: int, checksum: str, digest: str | None) -> bool:
        """Return True if the object is there although the upload failed.

        A CompleteMultipartUpload whose response was lost is repeated by botocore and ends in NoSuchUpload; so does an
        upload if another process was faster.
        """
        with contextlib.suppress(DeploymentError, ConnectError):
            stored = self._head(location)
            return stored is not None and (stored.size, stored.crc32, stored.digest) == (size, checksum, digest)
        return False

    def _verify(self, location: Location, *, size: int, checksum: str) -> bool:
        """Return True if S3 confirms the checksum; raise DeploymentError, and remove the object, if it is another."""
        stored = self._head(location)
        if stored is None:
            raise DeploymentError(
                f"{location}: the upload succeeded, but S3 has no such object; it may have been deleted"
            )
        if stored.size == size and stored.crc32 in (None, checksum):
            return stored.crc32 is not None
        self._delete(location, version=stored.version)
        raise DeploymentError(
            f"{location}: S3 has other bytes than were sent ({stored.size} with CRC-32 {stored.crc32}, not {size} with "
            f"{checksum}); the object was removed, run it again"
        )

    def _delete(self, location: Location, *, version: str | None) -> None:
        self.session.call(
            "s3",
            "DeleteObject",
            resource=str(location),
            Bucket=location.bucket,
            Key=location.key,
            **({} if version is None else {"VersionId": version}),
            **self._owner,
        )

    def _abort(self, halves: Sequence[tuple[str, str]]) -> int:
        for uri, upload in halves:
            location = Location.parse(uri)
            try:
                self.session.call(
                    "s3",
                    "AbortMultipartUpload",
                    resource=uri,
                    Bucket=location.bucket,
                    Key=location.key,
                    UploadId=upload,
                    **self._owner,
                )
            except AwsError as refusal:
                if refusal.code != "NoSuchUpload":
                    raise
        return len(halves)
