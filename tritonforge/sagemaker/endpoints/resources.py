"""The resources of a deployment on AWS: their names and tags, and what AWS reports about them. No I/O.

Names carry digests, so that what exists under a name is up to date. A model is NAME-<12 of the repository's
digest>-<8 of the digest of its whole request>, an endpoint configuration NAME-<12 of the digest of its whole request>;
tags do not count, because they can be changed. The tag DEPLOYMENT says to which deployment a resource belongs.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

__all__ = ["DEPLOYMENT", "DIGEST", "IN_TRANSITION", "IncompleteUpload", "Observed", "ObservedBucket", "ObservedConfig",
           "ObservedEndpoint", "ObservedModel", "build_archive_key", "build_tags", "is_config", "is_model",
           "is_object", "is_owned", "list_tags", "name_config", "name_model"]  # fmt: skip

#: The tags of every resource of a deployment: its name, and the digest of the repository.
DEPLOYMENT: Final = "tritonforge:deployment"
DIGEST: Final = "tritonforge:digest"

#: States of an endpoint that pass by themselves. Source: service model, ``EndpointStatus``.
IN_TRANSITION: Final = frozenset({"Creating", "Updating", "SystemUpdating", "RollingBack", "Deleting"})

_REPOSITORY: Final = 12
_SETTINGS: Final = 8
_OBJECT: Final = re.compile(r"[0-9a-f]{64}/.+", re.DOTALL)


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _make_empty_mapping() -> Mapping[str, Any]:
    return MappingProxyType({})


def name_model(deployment: str, digest: str, request: Mapping[str, Any]) -> str:
    """Return the name of a repository's model (digest: hex) for ``CreateModel`` without name and tags."""
    return f"{deployment}-{digest[:_REPOSITORY]}-{_hash(request)[:_SETTINGS]}"


def name_config(deployment: str, request: Mapping[str, Any]) -> str:
    """Return the name of a generation for ``CreateEndpointConfig`` without name and tags."""
    return f"{deployment}-{_hash(request)[:_REPOSITORY]}"


def is_model(deployment: str, name: str) -> bool:
    """Return True if a model's name has the form that this deployment gives."""
    return re.fullmatch(rf"{re.escape(deployment)}-[0-9a-f]{{{_REPOSITORY}}}-[0-9a-f]{{{_SETTINGS}}}", name) is not None


def is_config(deployment: str, name: str) -> bool:
    """Return True if an endpoint configuration's name has the form that this deployment gives."""
    return re.fullmatch(rf"{re.escape(deployment)}-[0-9a-f]{{{_REPOSITORY}}}", name) is not None


def build_archive_key(prefix: str, deployment: str, digest: str) -> str:
    """Return the key of a repository's directory in the bucket by its digest (hex); it ends with a slash."""
    return "/".join(part for part in (prefix, deployment, digest) if part) + "/"


def is_object(key: str, folder: str) -> bool:
    """Return True if an object below the deployment's folder is one that tritonforge has put there: DIGEST/..."""
    return key.startswith(folder) and _OBJECT.fullmatch(key[len(folder) :]) is not None


def build_tags(deployment: str, own: Mapping[str, str], *, digest: str | None = None) -> dict[str, str]:
    """Return the tags of a resource: the user's own, and those of tritonforge."""
    return {**own, DEPLOYMENT: deployment, **({} if digest is None else {DIGEST: digest})}


def list_tags(tags: Mapping[str, str]) -> list[dict[str, str]]:
    """Return tags in the form of SageMaker and CloudWatch."""
    return [{"Key": key, "Value": value} for key, value in sorted(tags.items())]


def is_owned(tags: Mapping[str, str], deployment: str) -> bool:
    """Return True if a resource with these tags was made for this deployment."""
    return tags.get(DEPLOYMENT) == deployment


@dataclass(frozen=True, slots=True, kw_only=True)
class IncompleteUpload:
    """A multipart upload that was begun and neither finished nor aborted; its parts are paid for."""

    bucket: str
    key: str
    upload_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedBucket:
    """The objects below the deployment's folder (``PREFIX/NAME/``) in a bucket: sizes in bytes, by key."""

    name: str
    folder: str
    exists: bool = True
    objects: Mapping[str, int] = field(default_factory=_make_empty_mapping)
    incomplete_uploads: Sequence[IncompleteUpload] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedModel:
    """A model: the URLs of its containers' data, its tags, and its creation time as text that sorts."""

    name: str
    arn: str
    data: Sequence[str] = ()
    tags: Mapping[str, str] = field(default_factory=_make_empty_mapping)
    created: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedConfig:
    """An endpoint configuration; its variants, shadows among them, are as ``DescribeEndpointConfig`` returns them."""

    name: str
    arn: str
    variants: Sequence[Mapping[str, Any]] = ()
    tags: Mapping[str, str] = field(default_factory=_make_empty_mapping)
    created: str = ""

    @property
    def models(self) -> frozenset[str]:
        """The names of the models that it uses."""
        return frozenset(variant["ModelName"] for variant in self.variants if variant.get("ModelName"))


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedEndpoint:
    """An endpoint as ``DescribeEndpoint`` returns it; ``pending`` is the configuration to which it is changing."""

    name: str
    arn: str
    status: str
    config: str
    pending: str | None = None
    variants: Sequence[Mapping[str, Any]] = ()
    tags: Mapping[str, str] = field(default_factory=_make_empty_mapping)
    failure_reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """Everything that AWS has under a deployment's name in one account and region.

    ``models`` and ``configs`` are those whose names have the form of this deployment's, whether they belong to it or
    not, and the configuration that the endpoint uses. ``targets``, ``policies`` and ``alarms`` are as AWS describes
    them. ``bucket`` is where the archives go; ``others`` are buckets in which models of this deployment have theirs.
    """

    region: str
    account: str
    bucket: ObservedBucket
    partition: str = "aws"
    others: Sequence[ObservedBucket] = ()
    models: Mapping[str, ObservedModel] = field(default_factory=_make_empty_mapping)
    configs: Mapping[str, ObservedConfig] = field(default_factory=_make_empty_mapping)
    endpoint: ObservedEndpoint | None = None
    targets: Sequence[Mapping[str, Any]] = ()
    policies: Sequence[Mapping[str, Any]] = ()
    alarms: Sequence[Mapping[str, Any]] = ()

    @property
    def buckets(self) -> tuple[ObservedBucket, ...]:
        """Every bucket that was read."""
        return (self.bucket, *self.others)
