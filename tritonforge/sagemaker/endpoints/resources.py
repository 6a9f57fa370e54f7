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

__all__ = [
    "DEPLOYMENT",
    "DIGEST",
    "IN_TRANSITION",
    "IncompleteUpload",
    "Observed",
    "ObservedBucket",
    "ObservedConfig",
    "ObservedEndpoint",
    "ObservedModel",
    "build_archive_key",
    "build_tags",
    "is_config",
    "is_model",
    "is_object",
    "is_owned",
    "list_tags",
    "name_config",
    "name_model",
]

#: The tags that everything of a deployment carries: whose it is, and of which repository.
DEPLOYMENT: Final = "tritonforge:deployment"
DIGEST: Final = "tritonforge:digest"

_REPOSITORY: Final = 12
_SETTINGS: Final = 8
_OBJECT: Final = re.compile(r"[0-9a-f]{64}/.+", re.DOTALL)


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def name_model(deployment: str, digest: str, request: Mapping[str, Any]) -> str:
    """The name of a repository's model (digest: hex) for ``request``: ``CreateModel`` without name and tags."""
    return f"{deployment}-{digest[:_REPOSITORY]}-{_hash(request)[:_SETTINGS]}"


def name_config(deployment: str, request: Mapping[str, Any]) -> str:
    """The name, a generation, for ``request``: ``CreateEndpointConfig`` without name and tags."""
    return f"{deployment}-{_hash(request)[:_REPOSITORY]}"


def is_model(deployment: str, name: str) -> bool:
    """Whether a model's name is of the form that this deployment gives."""
    return re.fullmatch(rf"{re.escape(deployment)}-[0-9a-f]{{{_REPOSITORY}}}-[0-9a-f]{{{_SETTINGS}}}", name) is not None


def is_config(deployment: str, name: str) -> bool:
    """Whether an endpoint configuration's name is of the form that this deployment gives."""
    return re.fullmatch(rf"{re.escape(deployment)}-[0-9a-f]{{{_REPOSITORY}}}", name) is not None


def build_archive_key(prefix: str, deployment: str, digest: str) -> str:
    """The folder in the bucket for one repository, by its digest (hex); ends with a slash."""
    return "/".join(part for part in (prefix, deployment, digest) if part) + "/"


def is_object(key: str, folder: str) -> bool:
    """Whether an object below the deployment's folder is one that tritonforge laid there: DIGEST/..."""
    return key.startswith(folder) and _OBJECT.fullmatch(key[len(folder) :]) is not None


def build_tags(deployment: str, own: Mapping[str, str], *, digest: str | None = None) -> dict[str, str]:
    """The tags of a resource: the user's own and ours."""
    found = {**own, DEPLOYMENT: deployment}
    if digest is not None:
        found[DIGEST] = digest
    return found


def list_tags(found: Mapping[str, str]) -> list[dict[str, str]]:
    """Tags as SageMaker and CloudWatch take them."""
    return [{"Key": key, "Value": value} for key, value in sorted(found.items())]


#: States of an endpoint that pass by themselves. Source: service model, ``EndpointStatus``.
IN_TRANSITION: Final = frozenset({"Creating", "Updating", "SystemUpdating", "RollingBack", "Deleting"})


def _nothing() -> Mapping[str, Any]:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class IncompleteUpload:
    """A multipart upload that was begun and neither finished nor aborted; its parts are paid for."""

    bucket: str
    key: str
    upload_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedBucket:
    """What lies below the deployment's folder (``PREFIX/NAME/``) in a bucket: sizes in bytes, by key."""

    name: str
    folder: str
    exists: bool = True
    objects: Mapping[str, int] = field(default_factory=_nothing)
    half_uploads: Sequence[IncompleteUpload] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedModel:
    """A model: where its data lie (URLs of all containers), its tags, and when it was made, as text that sorts."""

    name: str
    arn: str
    data: Sequence[str] = ()
    tags: Mapping[str, str] = field(default_factory=_nothing)
    created: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedConfig:
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
class ObservedEndpoint:
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
    bucket: ObservedBucket
    partition: str = "aws"
    others: Sequence[ObservedBucket] = ()
    models: Mapping[str, ObservedModel] = field(default_factory=_nothing)
    configs: Mapping[str, ObservedConfig] = field(default_factory=_nothing)
    endpoint: ObservedEndpoint | None = None
    targets: Sequence[Mapping[str, Any]] = ()
    policies: Sequence[Mapping[str, Any]] = ()
    alarms: Sequence[Mapping[str, Any]] = ()

    @property
    def buckets(self) -> tuple[ObservedBucket, ...]:
        """Every bucket that was looked into."""
        return (self.bucket, *self.others)


def is_owned(tags: Mapping[str, str], deployment: str) -> bool:
    """Whether a thing with these tags was made for this deployment."""
    return tags.get(DEPLOYMENT) == deployment
