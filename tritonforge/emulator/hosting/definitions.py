"""What a container is started from, as values: a variant and its container definition. This module does no I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from tritonforge.errors import TritonForgeError

__all__ = [
    "ContainerDefinition",
    "ContainerError",
    "ContainerGoneError",
    "ContainerTimeoutError",
    "ModelData",
    "TargetModelError",
    "UnhealthyError",
    "Variant",
    "container_definitions",
]

_LONGEST_REASON: Final = 1024


class ContainerError(TritonForgeError):
    """A container did not start; the message is the endpoint's FailureReason.

    ``detail`` is the reason in the words of Triton or of the serve script, which AWS leaves to the log. The message has
    at most the 1024 characters of a FailureReason (service model of sagemaker).
    """

    def __init__(self, reason: str, *, detail: str = "") -> None:
        message = f"{reason} {detail}".strip()
        super().__init__(message if len(message) <= _LONGEST_REASON else f"{message[: _LONGEST_REASON - 4]} ...")
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
    def of(cls, definition: Mapping[str, Any]) -> ContainerDefinition:
        """The value of a request's ``ContainerDefinition`` (`CreateModel`'s PrimaryContainer)."""
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


def container_definitions(model: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """Return the container definitions of a CreateModel request, in their order."""
    primary = model.get("PrimaryContainer")
    return [primary] if primary else list(model.get("Containers") or ())
