"""Model data on their way from S3 into a container's model folder."""

from __future__ import annotations

import io
import posixpath
import shutil
import threading
import time
from pathlib import Path
from typing import Any, Final

from tritonforge.emulator.hosting.definitions import ContainerError, ModelData
from tritonforge.emulator.objects import ObjectMissingError, ObjectStore
from tritonforge.errors import PackageError, RequestError
from tritonforge.sagemaker import package

__all__ = ["download"]

#: What AWS calls the only container of a model in such sentences.
_CONTAINER: Final = "container_1"


def download(
    data: ModelData,
    folder: Path,
    *,
    objects: ObjectStore,
    timeout: float,
    cancelled: threading.Event | None = None,
) -> None:
    """Fill ``folder``, which exists, with the model data.

    An archive is unpacked on its way, never stored. Of an uncompressed prefix each key less the prefix is a path.

    Raises:
        ContainerError: there is no such object, the archive is damaged or unsafe, or it took more than ``timeout`` s.
    """
    limit = _Limit(time.monotonic() + timeout, cancelled or threading.Event())
    try:
        if data.compression == "Gzip":
            if data.etag and objects.head(data.uri).etag != data.etag.strip('"'):
                raise ObjectMissingError(f"the object's ETag is {objects.head(data.uri).etag}, not {data.etag}")
            with objects.get(data.uri) as source:
                package.unpack(io.BufferedReader(_Watched(source, limit), 1 << 20), folder)
        elif data.kind == "S3Prefix":
            _copy_prefix(data.uri, folder, objects, limit)
        else:
            _copy(objects, data.uri, folder / posixpath.basename(data.uri), limit)
    except (ObjectMissingError, RequestError) as error:
        raise ContainerError(
            f'Failed to download model data for container "{_CONTAINER}" from URL: "{data.uri}". Please ensure that '
            "there is an object located at the URL and that the role passed to CreateModel has permissions to "
            "download the object.",
            detail=f"({error})",
        ) from error
    except PackageError as error:
        raise ContainerError(
            f'Failed to extract model data archive for container "{_CONTAINER}" from URL "{data.uri}". Please ensure '
            "that the object located at the URL is a valid tar.gz archive.",
            detail=f"({error})",
        ) from error
    except _TimeOverError as error:
        raise ContainerError(
            f'The download of model data for container "{_CONTAINER}" from URL: "{data.uri}" did not end within '
            f"{timeout:g} seconds (ModelDataDownloadTimeoutInSeconds)."
        ) from error
    except OSError as error:
        raise ContainerError(
            f'Failed to download model data for container "{_CONTAINER}" from URL: "{data.uri}".', detail=f"({error})"
        ) from error


class _TimeOverError(Exception):
    """A download took longer than it may, or is not wanted any more."""


class _Limit:
    """When a download must have ended."""

    def __init__(self, deadline: float, cancelled: threading.Event) -> None:
        self._deadline = deadline
        self._cancelled = cancelled

    def check(self) -> None:
        if time.monotonic() > self._deadline or self._cancelled.is_set():
            raise _TimeOverError


class _Watched(io.RawIOBase):
    """A stream that ends with its limit."""

    def __init__(self, source: io.BufferedIOBase, limit: _Limit) -> None:
        self._source = source
        self._limit = limit

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._limit.check()
        return self._source.readinto(buffer)


def _copy_prefix(uri: str, folder: Path, objects: ObjectStore, limit: _Limit) -> None:
    found = 0
    for each in objects.list(uri):
        found += 1
        relative = each.uri.removeprefix(uri)
        parts = relative.split("/")
        if relative.endswith("/") or not relative:
            continue  # the console's mark of a folder
        if any(part in ("", ".", "..") for part in parts) or "\0" in relative:
            raise PackageError(f"{each.uri}: the key is no path inside a model folder; name objects without '..'")
        _copy(objects, each.uri, folder.joinpath(*parts), limit)
    if not found:
        raise ObjectMissingError(f"there is no object below {uri}")


def _copy(objects: ObjectStore, uri: str, target: Path, limit: _Limit) -> None:
    with objects.get(uri) as source:
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as file:
            shutil.copyfileobj(io.BufferedReader(_Watched(source, limit), 1 << 20), file, 1 << 20)
