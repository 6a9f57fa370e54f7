"""Downloads: an object of S3 as pieces, whole and checked, however often the connection is cut.

botocore repeats a request, but not the reading of its answer; here what is missing is asked for again, of the same
object (``IfMatch``), and the sum is held against the CRC-32 that S3 keeps.
"""

from __future__ import annotations

import base64
import io
import os
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from tritonforge.errors import ConnectError, EncodeError
from tritonforge.sagemaker.client.errors import AwsError
from tritonforge.sagemaker.client.locations import Location
from tritonforge.sagemaker.client.session import Session
from tritonforge.sagemaker.client.transfers import Progress

__all__ = ["Download", "save"]

_PIECE: Final = 1 << 20
#: S3's codes for a range that begins where the object ends.
_BEYOND: Final = frozenset({"416", "InvalidRange"})
#: How often reading goes on after a cut that brought nothing new.
_RESUMED: Final = 3


class Download:
    """One object on its way here: ``size`` in bytes, ``content_type``; iterating gives its pieces, once.

    With an ``offset`` the pieces begin at that byte; none come where the object ends there.

    Raises AwsError where it is not there, ConnectError where it does not come whole or not as S3 keeps it.
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
                with self._session.asking("s3", "GetObject", str(self._location)):
                    while piece := self._body.read(_PIECE):
                        came += len(piece)
                        crc = zlib.crc32(piece, crc)
                        yield piece
            except ConnectError:
                fruitless = 0 if came else fruitless + 1
                if fruitless >= _RESUMED:
                    raise
            finally:
                self._body.close()
                got += came
            if got >= self.size:
                break
            self._body = self._get({"Range": f"bytes={got}-", "IfMatch": self._etag})["Body"]
        found = base64.b64encode(crc.to_bytes(4, "big")).decode()
        if got != self.size or (self._crc32 and found != self._crc32):
            raise ConnectError(
                f"s3 GetObject of {self._location}: {got} bytes with CRC-32 {found} came, S3 keeps {self.size} with "
                f"{self._crc32 or 'none'}; run it again"
            )

    def close(self) -> None:
        """Give up what did not come yet."""
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


class Stream(io.RawIOBase):
    """A download as a binary stream, to be wrapped in `io.BufferedReader`."""

    def __init__(self, download: Download) -> None:
        super().__init__()
        self._download, self._pieces, self._rest = download, iter(download), memoryview(b"")

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """The next bytes, 0 at the end."""
        if not self._rest:
            self._rest = memoryview(next(self._pieces, b""))
        view = memoryview(buffer).cast("B")
        count = min(len(view), len(self._rest))
        view[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    def close(self) -> None:
        """Close the connection too."""
        if not self.closed:
            self._download.close()
        super().close()


def save(download: Download, path: Path, *, progress: Progress | None) -> None:
    """Write a download to a file, which appears when it is whole and right; raises EncodeError where it cannot."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise EncodeError(f"{path}: {error.strerror}") from error
    beside = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            for piece in download:
                file.write(piece)
                if progress is not None:
                    progress(len(piece))
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise EncodeError(f"{path}: {error.strerror}") from error
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
