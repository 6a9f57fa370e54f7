"""The names of what a deployment makes: they carry digests, so that what exists under a name is up to date. No I/O.

A model is NAME-<12 of the repository's digest>-<8 of the digest of its whole request>, an endpoint configuration
NAME-<12 of the digest of its whole request>; tags do not count, because they can be changed.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any, Final

__all__ = [
    "DEPLOYMENT",
    "DIGEST",
    "archive_key",
    "config_name",
    "is_config",
    "is_model",
    "is_object",
    "model_name",
    "tag_list",
    "tags",
]

#: The tags that everything of a deployment carries: whose it is, and of which repository.
DEPLOYMENT: Final = "tritonforge:deployment"
DIGEST: Final = "tritonforge:digest"

_REPOSITORY: Final = 12
_SETTINGS: Final = 8
_OBJECT: Final = re.compile(r"[0-9a-f]{64}/.+", re.DOTALL)


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def model_name(deployment: str, digest: str, request: Mapping[str, Any]) -> str:
    """The name of a repository's model (digest: hex) for ``request``: ``CreateModel`` without name and tags."""
    return f"{deployment}-{digest[:_REPOSITORY]}-{_hash(request)[:_SETTINGS]}"


def config_name(deployment: str, request: Mapping[str, Any]) -> str:
    """The name, a generation, for ``request``: ``CreateEndpointConfig`` without name and tags."""
    return f"{deployment}-{_hash(request)[:_REPOSITORY]}"


def is_model(deployment: str, name: str) -> bool:
    """Whether a model's name is of the form that this deployment gives."""
    return re.fullmatch(rf"{re.escape(deployment)}-[0-9a-f]{{{_REPOSITORY}}}-[0-9a-f]{{{_SETTINGS}}}", name) is not None


def is_config(deployment: str, name: str) -> bool:
    """Whether an endpoint configuration's name is of the form that this deployment gives."""
    return re.fullmatch(rf"{re.escape(deployment)}-[0-9a-f]{{{_REPOSITORY}}}", name) is not None


def archive_key(prefix: str, deployment: str, digest: str) -> str:
    """The folder in the bucket for one repository, by its digest (hex); ends with a slash."""
    return "/".join(part for part in (prefix, deployment, digest) if part) + "/"


def is_object(key: str, folder: str) -> bool:
    """Whether an object below the deployment's folder is one that tritonforge laid there: DIGEST/..."""
    return key.startswith(folder) and _OBJECT.fullmatch(key[len(folder) :]) is not None


def tags(deployment: str, own: Mapping[str, str], *, digest: str | None = None) -> dict[str, str]:
    """The tags of a resource: the user's own and ours."""
    found = {**own, DEPLOYMENT: deployment}
    if digest is not None:
        found[DIGEST] = digest
    return found


def tag_list(found: Mapping[str, str]) -> list[dict[str, str]]:
    """Tags as SageMaker and CloudWatch take them."""
    return [{"Key": key, "Value": value} for key, value in sorted(found.items())]
