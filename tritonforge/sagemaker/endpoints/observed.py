"""What AWS has of a deployment now, as data: what `tritonforge.sagemaker.endpoints.apply.observe` saw. No I/O.

Nothing here is judged; `mine` alone says whose a thing is, by its tag.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from tritonforge.sagemaker.endpoints.naming import DEPLOYMENT

__all__ = [
    "IN_TRANSITION",
    "Bucket",
    "HalfUpload",
    "Observed",
    "SeenConfig",
    "SeenEndpoint",
    "SeenModel",
    "mine",
]

#: States of an endpoint that pass by themselves. Source: service model, ``EndpointStatus``.
IN_TRANSITION: Final = frozenset({"Creating", "Updating", "SystemUpdating", "RollingBack", "Deleting"})


def _nothing() -> Mapping[str, Any]:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class HalfUpload:
    """A multipart upload that was begun and neither finished nor aborted; its parts are paid for."""

    bucket: str
    key: str
    upload_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """What lies below the deployment's folder (``PREFIX/NAME/``) in a bucket: sizes in bytes, by key."""

    name: str
    folder: str
    exists: bool = True
    objects: Mapping[str, int] = field(default_factory=_nothing)
    half_uploads: Sequence[HalfUpload] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenModel:
    """A model: where its data lie (URLs of all containers), its tags, and when it was made, as text that sorts."""

    name: str
    arn: str
    data: Sequence[str] = ()
    tags: Mapping[str, str] = field(default_factory=_nothing)
    created: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenConfig:
    """An endpoint configuration: its variants as ``DescribeEndpointConfig`` tells them, shadows among them."""

    name: str
    arn: str
    variants: Sequence[Mapping[str, Any]] = ()
    tags: Mapping[str, str] = field(default_factory=_nothing)
    created: str = ""

    @property
    def models(self) -> frozenset[str]:
        """The names of the models that it uses."""
        return frozenset(each["ModelName"] for each in self.variants if each.get("ModelName"))


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenEndpoint:
    """An endpoint as ``DescribeEndpoint`` tells it; ``pending`` is the configuration that it is moving to."""

    name: str
    arn: str
    status: str
    config: str
    pending: str | None = None
    variants: Sequence[Mapping[str, Any]] = ()
    tags: Mapping[str, str] = field(default_factory=_nothing)
    failure_reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """Everything that AWS has under a deployment's name, and the place where it was looked for.

    ``models`` and ``configs`` are those whose names have the form of this deployment's, whoever's they are, and the
    configuration that the endpoint uses. ``targets``, ``policies`` and ``alarms`` are as AWS describes them.
    ``bucket`` is where the archives go; ``others`` are buckets in which models of this deployment have theirs.
    """

    region: str
    account: str
    bucket: Bucket
    partition: str = "aws"
    others: Sequence[Bucket] = ()
    models: Mapping[str, SeenModel] = field(default_factory=_nothing)
    configs: Mapping[str, SeenConfig] = field(default_factory=_nothing)
    endpoint: SeenEndpoint | None = None
    targets: Sequence[Mapping[str, Any]] = ()
    policies: Sequence[Mapping[str, Any]] = ()
    alarms: Sequence[Mapping[str, Any]] = ()

    @property
    def buckets(self) -> tuple[Bucket, ...]:
        """Every bucket that was looked into."""
        return (self.bucket, *self.others)


def mine(tags: Mapping[str, str], deployment: str) -> bool:
    """Whether a thing with these tags was made for this deployment."""
    return tags.get(DEPLOYMENT) == deployment
