"""The plan of a training job on SageMaker: uploads of its local data, then the job, as exact requests. No I/O.

All local data go below one prefix of the bucket, under keys with digests, so that existing objects are up to date and
are not sent again: the files of a directory to ``channels/DIGEST/PATH``, files that a manifest refers to to
``objects/DIGEST/NAME``, a manifest to ``manifests/DIGEST/NAME``. Every job has a name of its own, because SageMaker
never accepts a name twice.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from tritonforge.errors import DefinitionError, DeploymentError
from tritonforge.sagemaker.endpoints.planning import plan_bucket
from tritonforge.sagemaker.endpoints.resources import ObservedBucket
from tritonforge.sagemaker.jobs.kinds import TRAINING
from tritonforge.sagemaker.plans.plan import Plan, Step
from tritonforge.training.job.training_job import Channel, TrainingJob

__all__ = [
    "DATA",
    "MODELS",
    "ChannelContent",
    "ContentPart",
    "ObservedData",
    "build_channel_prefix",
    "build_draft_plan",
    "build_manifest_key",
    "build_object_key",
    "build_source",
    "build_training_plan",
    "is_local",
    "list_local_channels",
    "place_in_s3",
    "plan_uploads",
]

#: Default prefixes of the data and of the models of training jobs in the bucket.
DATA: Final = "tritonforge-training/data/"
MODELS: Final = "tritonforge-training/models/"

#: Replaces a role whose account is not known yet, in a plan that is only checked.
_ROLE_PREFIX: Final = "arn:aws:iam::000000000000:role/"


@dataclass(frozen=True, slots=True, kw_only=True)
class ContentPart:
    """Files that are uploaded together below one prefix: their sizes in bytes by key. ``kind`` is shown in plans."""

    kind: str
    prefix: str
    digest: str
    files: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelContent:
    """The local data of one channel: the key that S3Uri names, and the parts to upload, in this order."""

    key: str
    parts: Sequence[ContentPart]


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedData:
    """The bucket of a job and which of its data are there. ``is_default``: it is SageMaker's own of the region."""

    region: str
    account: str
    bucket: ObservedBucket
    is_default: bool = True


def build_channel_prefix(digests: Mapping[str, str]) -> tuple[str, str]:
    """Return prefix and digest (hex) of a directory whose files have these digests (``sha256:...``), by path.

    >>> build_channel_prefix({"a": "sha256:00"})[0]
    'tritonforge-training/data/channels/cd413bc9c9dbace7d1b8b99a5d7432094256e61aba613f9a7f0294ab99072f98/'
    """
    digest = hashlib.sha256()
    for path in sorted(digests):
        digest.update(f"{digests[path]} {path}\0".encode("utf-8", "surrogateescape"))
    return f"{DATA}channels/{digest.hexdigest()}/", digest.hexdigest()


def build_object_key(digest: str, name: str) -> str:
    """Return the key of a file with this digest (``sha256:...``) that a manifest refers to."""
    return f"{DATA}objects/{digest.rpartition(':')[2]}/{name}"


def build_manifest_key(digest: str, name: str) -> str:
    """Return the key of a manifest with this digest (``sha256:...``)."""
    return f"{DATA}manifests/{digest.rpartition(':')[2]}/{name}"


def is_local(uri: str) -> bool:
    """Return True if an address is a path of this machine."""
    return "://" not in uri


def list_local_channels(job: TrainingJob) -> tuple[Channel, ...]:
    """Return the channels of a job whose data are on this machine."""
    return tuple(channel for channel in job.channels or () if channel.data is not None and is_local(channel.data.uri))


def place_in_s3(job: TrainingJob, keys: Mapping[str, str], *, bucket: str) -> TrainingJob:
    """Return the job with addresses in S3: local channels at their ``keys`` by channel, a missing output at `MODELS`.

    Raises:
        DefinitionError: its output, its checkpoints or the data of a channel without a key are on this machine.
    """
    for what, uri in (
        ("output", job.output.uri),
        ("checkpoints", "" if job.checkpoint_config is None else job.checkpoint_config.uri),
    ):
        if uri and not uri.startswith("s3://"):
            raise DefinitionError(f"{what} {uri}: SageMaker writes to S3 only (expected s3://bucket/prefix/)")
    channels = tuple(_place_channel(channel, keys, bucket) for channel in job.channels or ())
    return replace(
        job,
        channels=channels if job.channels is not None else None,
        output=replace(job.output, uri=job.output.uri or f"s3://{bucket}/{MODELS}"),
    )


def _place_channel(channel: Channel, keys: Mapping[str, str], bucket: str) -> Channel:
    data = channel.data
    if data is None or not is_local(data.uri):
        return channel
    if channel.name not in keys:
        raise DefinitionError(f"channel {channel.name}: {data.uri} is a local path and its data were not read")
    placed = replace(data, uri=f"s3://{bucket}/{keys[channel.name]}")
    return replace(channel, source=replace(channel.source, s3=placed))


def build_training_plan(
    job: TrainingJob, contents: Mapping[str, ChannelContent], observed: ObservedData
) -> tuple[Plan, TrainingJob]:
    """Return the plan of a job and the job with its addresses in S3; ``contents`` are its local data by channel.

    Raises:
        DefinitionError: an address must be in S3 and is not.
        DeploymentError: the given bucket does not exist.
    """
    job = place_in_s3(job, {name: content.key for name, content in contents.items()}, bucket=observed.bucket.name)
    plan = Plan(
        name=job.name,
        region=observed.region,
        account=observed.account,
        steps=(*plan_uploads(contents, observed, outputs=(job.output.uri,)), _plan_creation(job)),
        digests={name: content.parts[-1].digest for name, content in contents.items()},
    )
    return plan, job


def build_draft_plan(job: TrainingJob) -> Plan:
    """Return the job's own request as far as it is known before AWS is asked, to be checked only.

    A role without an account gets an account of zeros, local data a bucket that does not exist.

    Raises:
        DefinitionError: as `place_in_s3`.
    """
    role = job.role_arn
    if role and not role.startswith("arn:"):
        role = f"{_ROLE_PREFIX}{role.rpartition('/')[2]}"
    keys = {channel.name: f"{DATA}{channel.name}" for channel in list_local_channels(job)}
    placed = place_in_s3(replace(job, role_arn=role), keys, bucket="bucket")
    return Plan(name=job.name, region="", account="", steps=(_plan_creation(placed),))


def plan_uploads(
    contents: Mapping[str, ChannelContent], observed: ObservedData, *, outputs: Iterable[str] = ()
) -> tuple[Step, ...]:
    """Return the steps that bring data to S3: create the bucket, abort incomplete uploads, upload what is missing.

    The bucket is also created for ``outputs`` in it.

    Raises:
        DeploymentError: the given bucket does not exist.
    """
    bucket = observed.bucket
    # Data that two channels share are uploaded once.
    parts = {part.prefix + part.digest: (name, part) for name, content in contents.items() for part in content.parts}
    uploads = [step for name, part in parts.values() for step in _plan_upload(name, part, observed)]
    is_needed = bool(uploads) or any(uri.startswith(f"s3://{bucket.name}/") for uri in outputs)
    if is_needed and not bucket.exists and not observed.is_default:
        raise DeploymentError(
            f"bucket {bucket.name!r}: does not exist. Create it, or omit --bucket for SageMaker's own"
        )
    creation = (plan_bucket(bucket.name, observed.region),) if is_needed and not bucket.exists else ()
    return (*creation, *_plan_aborts((part for _, part in parts.values()), observed), *uploads)


def _plan_aborts(parts: Iterable[ContentPart], observed: ObservedData) -> Iterator[Step]:
    """Abort incomplete uploads of the same data: their parts are billed."""
    keys = {key for part in parts for key in part.files}
    for upload in observed.bucket.incomplete_uploads:
        if upload.key in keys:
            yield Step(
                action="delete",
                service="s3",
                operation="AbortMultipartUpload",
                kind="incomplete upload",
                name=f"s3://{upload.bucket}/{upload.key}",
                request={"Bucket": upload.bucket, "Key": upload.key, "UploadId": upload.upload_id},
                why="it was never completed",
            )


def _plan_upload(channel: str, part: ContentPart, observed: ObservedData) -> Iterator[Step]:
    objects = observed.bucket.objects
    missing = {key: size for key, size in part.files.items() if objects.get(key) != size}
    if missing:
        count = len(part.files)
        yield Step(
            action="upload",
            service="s3",
            operation="PutObject",
            kind=part.kind,
            name=f"s3://{observed.bucket.name}/{part.prefix}",
            request={
                "Bucket": observed.bucket.name,
                "Key": part.prefix,
                "Metadata": {"tritonforge-digest": f"sha256:{part.digest}"},
            },
            why="it is not in S3" if count == 1 else f"{len(missing)} of its {count} files are not in S3",
            source=build_source(channel, part),
            size=sum(missing.values()),
        )


def build_source(channel: str, part: ContentPart) -> str:
    """Return the name by which an upload step finds the files of a part."""
    return f"{channel}:{part.prefix}"


def _plan_creation(job: TrainingJob) -> Step:
    request = job.to_request()
    # The names first, as in the API's reference.
    first: dict[str, Any] = {name: request.pop(name) for name in ("TrainingJobName", "RoleArn") if name in request}
    return Step(
        action="create",
        service="sagemaker",
        operation=TRAINING.create,
        kind=TRAINING.noun,
        name=job.name,
        request={**first, **request},
        why="every job is a new one",
    )
