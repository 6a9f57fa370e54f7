"""Local data of a training job as a plan sees them: what of them goes where in S3. This module does no I/O.

Everything lies below one folder of the bucket, under names that carry digests, so that what is there is right: a
folder's files at ``channels/DIGEST/PATH``, what a manifest refers to at ``objects/DIGEST/NAME``, a manifest at
``manifests/DIGEST/NAME``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tritonforge.sagemaker.endpoints.resources import ObservedBucket

__all__ = ["DATA", "MODELS", "Content", "Part", "Seen", "channel_prefix", "manifest_key", "object_key"]

#: Where in the bucket data and models of training jobs lie, where nothing else is said.
DATA: Final = "tritonforge-training/data/"
MODELS: Final = "tritonforge-training/models/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Files that go up together, below one prefix: their sizes in bytes by key. ``kind`` is what people call them."""

    kind: str
    prefix: str
    digest: str
    files: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """The local data of one channel: the key that S3Uri is to name, and what must be in S3 for it, in this order."""

    key: str
    parts: Sequence[Part]


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """The place of a job on AWS, and what of its data is in S3: sizes by key. ``default`` is SageMaker's own bucket."""

    region: str
    account: str
    bucket: ObservedBucket
    default: bool = True


def channel_prefix(digests: Mapping[str, str]) -> tuple[str, str]:
    """The prefix and the digest (hex) of a folder whose files have these digests (``sha256:...``), by path.

    >>> channel_prefix({"a": "sha256:00"})[0]
    'tritonforge-training/data/channels/cd413bc9c9dbace7d1b8b99a5d7432094256e61aba613f9a7f0294ab99072f98/'
    """
    found = hashlib.sha256()
    for path in sorted(digests):
        found.update(f"{digests[path]} {path}\0".encode("utf-8", "surrogateescape"))
    return f"{DATA}channels/{found.hexdigest()}/", found.hexdigest()


def object_key(digest: str, name: str) -> str:
    """The key of a file with this digest (``sha256:...``) that a manifest refers to."""
    return f"{DATA}objects/{digest.rpartition(':')[2]}/{name}"


def manifest_key(digest: str, name: str) -> str:
    """The key of a manifest with this digest (``sha256:...``)."""
    return f"{DATA}manifests/{digest.rpartition(':')[2]}/{name}"
