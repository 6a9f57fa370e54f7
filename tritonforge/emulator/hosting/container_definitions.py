"""The input of a container: its variant, its container definition, and the download of its model data."""

from __future__ import annotations

import io
import posixpath
import shutil
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tritonforge.emulator.emulated_s3 import EmulatedS3, ObjectMissingError
from tritonforge.errors import PackageError, RequestError, TritonForgeError
from tritonforge.sagemaker import package

__all__ = ["ContainerDefinition", "ContainerError", "ContainerGoneError", "ContainerTimeoutError", "ModelData",
           "TargetModelError", "UnhealthyError", "Variant", "download_model", "list_container_definitions"]  # fmt: skip

_MAX_REASON: Final = 1024


class ContainerError(TritonForgeError):
    """A container did not start; the message is the endpoint's FailureReason.

    ``detail`` is the reason in the words of Triton or of the serve script, which AWS leaves to the log. The message has
    at most the 1024 characters of a FailureReason (service model of sagemaker).
    """

    def __init__(self, reason: str, *, detail: str = "") -> None:
        message = f"{reason} {detail}".strip()
        super().__init__(message if len(message) <= _MAX_REASON else f"{message[: _MAX_REASON - 4]} ...")
        self.detail = detail


class UnhealthyError(ContainerError):
    """A container ended, or did not answer /ping in time; ``detail`` is what its log says."""


class ContainerGoneError(TritonForgeError):
    """A container gives no answer: it ended, and is being started again.

    ``in_flight`` says that it may have received the request; ``container`` is its name in its model.
    """

    def __init__(self, message: str, *, in_flight: bool = False, container: str = "primary") -> None:
        super().__init__(message)
        self.in_flight = in_flight
        self.container = container


class ContainerTimeoutError(TimeoutError):
    """A container of a pipeline gave no answer in time; ``container`` is its name."""

    def __init__(self, message: str, *, container: str) -> None:
        super().__init__(message)
        self.container = container


class TargetModelError(TritonForgeError):
    """A TargetModel cannot be served; the message is AWS's sentence."""

    def __init__(self, message: str, *, status: int = 400, code: str = "ValidationError") -> None:
        super().__init__(message)
        self.status = status
        self.code = code


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelData:
    """Where a model's files lie in S3: ``kind`` is S3Prefix or S3Object, ``compression`` Gzip or None.

    A multi-model container's ``uri`` is the prefix of its archives.
    """

    uri: str
    kind: str = "S3Object"
    compression: str = "Gzip"
    etag: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerDefinition:
    """A model's container: the image's URI, where the model data are, the environment, single- or multi-model."""

    image: str
    model_data: ModelData | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    multi_model: bool = False
    model_cache: bool = True

    @classmethod
    def from_request(cls, definition: Mapping[str, Any]) -> ContainerDefinition:
        """Parse a request's ``ContainerDefinition`` (`CreateModel`'s PrimaryContainer)."""
        source = (definition.get("ModelDataSource") or {}).get("S3DataSource")
        data = None
        if source:
            data = ModelData(
                uri=source["S3Uri"],
                kind=source["S3DataType"],
                compression=source["CompressionType"],
                etag=source.get("ETag", ""),
            )
        elif definition.get("ModelDataUrl"):
            data = ModelData(uri=definition["ModelDataUrl"])
        caching = (definition.get("MultiModelConfig") or {}).get("ModelCacheSetting", "Enabled")
        return cls(
            image=definition.get("Image", ""),
            model_data=data,
            environment=dict(definition.get("Environment") or {}),
            multi_model=definition.get("Mode") == "MultiModel",
            model_cache=caching == "Enabled",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """A production variant to start: its name, its endpoint's, the container, the instance type, limits in seconds.

    ``download_timeout`` is ModelDataDownloadTimeoutInSeconds and ``startup_timeout``
    ContainerStartupHealthCheckTimeoutInSeconds; AWS's defaults are "about 4 minutes" for the latter. ``instance_type``
    is "" for a serverless variant. ``container_name`` is what a FailureReason calls the container.
    """

    name: str
    endpoint: str
    container: ContainerDefinition
    instance_type: str = ""
    serverless: bool = False
    container_name: str = "primary container"
    download_timeout: float = 3600.0
    startup_timeout: float = 240.0


def list_container_definitions(model: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """Return the container definitions of a CreateModel request, in their order."""
    primary = model.get("PrimaryContainer")
    return [primary] if primary else list(model.get("Containers") or ())


#: What AWS calls the only container of a model in such sentences.
_CONTAINER: Final = "container_1"


def download_model(
    data: ModelData, folder: Path, *, objects: EmulatedS3, timeout: float, cancelled: threading.Event | None = None
) -> None:
    """Fill ``folder``, which exists, with the model data.

    An archive is unpacked on its way, never stored. Of an uncompressed prefix each key less the prefix is a path.

    Raises:
        ContainerError: the object does not exist, the archive is damaged or unsafe, or it took more than ``timeout`` s.
    """
    limit = _Deadline(time.monotonic() + timeout, cancelled or threading.Event())
    try:
        if data.compression == "Gzip":
            if data.etag and objects.head(data.uri).etag != data.etag.strip('"'):
                raise ObjectMissingError(f"the object's ETag is {objects.head(data.uri).etag}, not {data.etag}")
            with objects.get(data.uri) as source:
                package.unpack(io.BufferedReader(_LimitedStream(source, limit), 1 << 20), folder)
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
    except _DeadlineError as error:
        raise ContainerError(
            f'The download of model data for container "{_CONTAINER}" from URL: "{data.uri}" did not end within '
            f"{timeout:g} seconds (ModelDataDownloadTimeoutInSeconds)."
        ) from error
    except OSError as error:
        raise ContainerError(
            f'Failed to download model data for container "{_CONTAINER}" from URL: "{data.uri}".', detail=f"({error})"
        ) from error


class _DeadlineError(Exception):
    """A download took longer than it may, or is not wanted any more."""


class _Deadline:
    """When a download must have ended."""

    def __init__(self, deadline: float, cancelled: threading.Event) -> None:
        self._deadline = deadline
        self._cancelled = cancelled

    def check(self) -> None:
        if time.monotonic() > self._deadline or self._cancelled.is_set():
            raise _DeadlineError


class _LimitedStream(io.RawIOBase):
    """A stream that ends with its limit."""

    def __init__(self, source: io.BufferedIOBase, limit: _Deadline) -> None:
        self._source = source
        self._limit = limit

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._limit.check()
        return self._source.readinto(buffer)


def _copy_prefix(uri: str, folder: Path, objects: EmulatedS3, limit: _Deadline) -> None:
    count = 0
    for entry in objects.list(uri):
        count += 1
        relative = entry.uri.removeprefix(uri)
        parts = relative.split("/")
        if relative.endswith("/") or not relative:
            continue  # the console's mark of a folder
        if any(part in ("", ".", "..") for part in parts) or "\0" in relative:
            raise PackageError(f"{entry.uri}: the key is not a path inside a model folder; name objects without '..'")
        _copy(objects, entry.uri, folder.joinpath(*parts), limit)
    if not count:
        raise ObjectMissingError(f"{uri}: no objects below this prefix")


def _copy(objects: EmulatedS3, uri: str, target: Path, limit: _Deadline) -> None:
    with objects.get(uri) as source:
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as file:
            shutil.copyfileobj(io.BufferedReader(_LimitedStream(source, limit), 1 << 20), file, 1 << 20)
