"""Where a model repository is served, one row each: what the place adds to Triton and takes from it. No I/O.

A row is a target (`--target`) in one version of it. What a source does not state is None, and no rule judges by it.

>>> find_target("kserve").image
'23.05-py3'
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Final, Literal, TypeAlias

from tritonforge.errors import DefinitionError

__all__ = ["SERVE_REGION", "TARGETS", "ServingTarget", "Target", "find_storage", "find_target", "list_versions"]

Target: TypeAlias = Literal["triton", "sagemaker", "kserve", "dynamo"]

#: Docker's and containerd's default size of /dev/shm, in bytes: a container and a pod have it unless it is configured.
#: Source: Docker's reference of ``docker run --shm-size``; containerd pkg/cri, the mount of /dev/shm ("size=65536k").
_DEFAULT_SHARED_MEMORY: Final = 64 << 20
#: What SageMaker's serve script sets as the python backend's ``shm-default-byte-size``, in bytes. Source: server
#: docker/sagemaker/serve, r22.12 to r26.08 (`tritonforge.triton.changes.SERVE_REGIONS`).
SERVE_REGION: Final = 16 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingTarget:
    """One target in one version.

    ``title`` is its name in sentences. ``version`` is "" where the image decides. ``image`` is the tag that serves
    where the user names none, "" for the local server. ``shared_memory`` is the size of /dev/shm in bytes, and
    ``region`` what its start script sets as the python backend's ``shm-default-byte-size``, None for the backend's own
    default. ``refused_types`` are data types that clients cannot send or receive there, and ``has_classification`` is
    True where a client may ask for the classification of an output. ``drops_empty_files`` is True where the download
    from S3 and Azure leaves empty files behind. ``source`` names what was read.
    """

    name: Target
    title: str
    version: str = ""
    image: str = ""
    shared_memory: int | None = None
    region: int | None = None
    refused_types: frozenset[str] = frozenset()
    has_classification: bool = True
    drops_empty_files: bool = False
    source: str


_DYNAMO_PAGE: Final = "ai-dynamo/dynamo docs, backends/triton/overview.md"

_KSERVE: Final = ServingTarget(
    name="kserve",
    title="KServe",
    image="23.05-py3",
    shared_memory=_DEFAULT_SHARED_MEMORY,
    drops_empty_files=True,
    source="kserve/kserve v0.16.0 to v0.20.0: config/runtimes/kserve-tritonserver.yaml (no volume at /dev/shm) and "
    "kustomization.yaml (the image), python/storage/kserve_storage/kserve_storage.py, pkg/webhook/admission/pod",
)

#: Every target; of one with versions the newest is last.
TARGETS: Final = (
    ServingTarget(name="triton", title="Triton", source="tritonforge.triton.changes"),
    ServingTarget(
        name="sagemaker",
        title="SageMaker",
        shared_memory=_DEFAULT_SHARED_MEMORY,
        region=SERVE_REGION,
        source="server docker/sagemaker/serve, r22.05 to r26.08; /dev/shm: no page of AWS states a size or a setting, "
        "and users met Docker's default (sagemaker-python-sdk issue 2801, amazon-sagemaker-examples issue 3506)",
    ),
    replace(_KSERVE, version="0.16", drops_empty_files=False),
    *(replace(_KSERVE, version=version) for version in ("0.17", "0.18", "0.19", "0.20")),
    ServingTarget(
        name="dynamo",
        title="Dynamo",
        version="1.5",
        image="26.07-py3",
        refused_types=frozenset({"TYPE_FP16", "TYPE_BF16"}),
        has_classification=False,
        source=f"{_DYNAMO_PAGE} of 1.5: Known limitations; components/src/dynamo/triton/handlers.py",
    ),
    ServingTarget(
        name="dynamo",
        title="Dynamo",
        version="1.6",
        image="26.09-py3",
        source=f"{_DYNAMO_PAGE} of 1.6: Known limitations; components/src/dynamo/triton/handlers.py",
    ),
)


def list_versions(name: str) -> tuple[str, ...]:
    """Return the known versions of a target, the newest last; none where it has none of its own."""
    return tuple(row.version for row in TARGETS if row.name == name and row.version)


def find_target(name: str, version: str | None = None) -> ServingTarget:
    """Return the row of a target; without a version the newest.

    Raises:
        DefinitionError: the target or its version is not known.
    """
    rows = [row for row in TARGETS if row.name == name]
    if not rows:
        raise DefinitionError(f"target {name!r} is not known (expected {', '.join(dict.fromkeys(_NAMES))})")
    if version is None:
        return rows[-1]
    for row in rows:
        if row.version and (version == row.version or version.startswith(f"{row.version}.")):
            return row
    known = ", ".join(list_versions(name))
    raise DefinitionError(
        f"version {version!r} of {rows[0].title} is not known (expected {known})"
        if known
        else f"target {name!r} has no version of its own (got {version!r}). Give --image"
    )


_NAMES: Final = tuple(row.name for row in TARGETS)

#: How KServe's storage initializer and its webhook recognise a ``storageUri``, in their order; the name is ours.
#: Source: kserve v0.20.0 kserve_storage.py `Storage.download`, pkg/constants/constants.go (``pvc://``, ``oci://``).
_STORAGES: Final = (
    ("gcs", r"gs://"),
    ("s3", r"s3://"),
    ("hdfs", r"(web)?hdfs://"),
    ("azure blob", r"https://.+?\.blob\.core\.windows\.net/."),
    ("azure blob", r"https://.+?\.z[0-9]{1,2}\.blob\.storage\.azure\.net/."),
    ("azure file", r"https://.+?\.file\.core\.windows\.net/."),
    ("azure file", r"https://.+?\.z[0-9]{1,2}\.file\.storage\.azure\.net/."),
    ("hugging face", r"hf://"),
    ("git", r"https://.+\.git"),
    ("http", r"https?://.+/."),
    ("volume", r"pvc://"),
    ("oci", r"oci://"),
    ("local", r"file://|/"),
)


def find_storage(uri: str) -> str | None:
    """Return the kind of storage that KServe takes a ``storageUri`` for, None where it recognises none.

    >>> find_storage("s3://models/repository")
    's3'
    """
    return next((kind for kind, pattern in _STORAGES if re.match(pattern, uri)), None)
