"""The plan of a training job on SageMaker: its data, then the job, as exact requests. This module does no I/O.

What lies in S3 under a name with its digest is not sent again. A job's name is its own each time, because SageMaker
never gives one twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from tritonforge.errors import DefinitionError, DeploymentError
from tritonforge.sagemaker.endpoints.planning import plan_bucket
from tritonforge.sagemaker.jobs.kinds import TRAINING
from tritonforge.sagemaker.jobs.training.contents import DATA, MODELS, Content, Part, Seen
from tritonforge.sagemaker.plans.plan import Plan, Step
from tritonforge.training.job.training_job import Channel, TrainingJob

__all__ = ["is_local", "local_channels", "placed", "plan", "sketch", "source", "uploads"]

#: An IAM role that stands for one whose account is not known yet.
_STAND_IN: Final = "arn:aws:iam::000000000000:role/"


def is_local(uri: str) -> bool:
    """Whether an address is a path of this machine."""
    return "://" not in uri


def local_channels(job: TrainingJob) -> tuple[Channel, ...]:
    """The channels of a job whose data lie on this machine."""
    return tuple(each for each in job.channels or () if each.data is not None and is_local(each.data.uri))


def placed(job: TrainingJob, keys: Mapping[str, str], *, bucket: str) -> TrainingJob:
    """The job with addresses in S3: local channels at their ``keys`` (by channel), a job without output at ours.

    Raises:
        DefinitionError: its output or its checkpoints are a path of this machine, or another channel's data are.
    """
    for what, uri in (
        ("the output", job.output.uri),
        ("the checkpoints' place", "" if job.checkpoint_config is None else job.checkpoint_config.uri),
    ):
        if uri and not uri.startswith("s3://"):
            raise DefinitionError(f"{what} {uri}: SageMaker writes to S3; write s3://bucket/prefix/")
    channels = [_channel(each, keys, bucket) for each in job.channels or ()]
    return replace(
        job,
        channels=tuple(channels) if job.channels is not None else None,
        output=replace(job.output, uri=job.output.uri or f"s3://{bucket}/{MODELS}"),
    )


def _channel(channel: Channel, keys: Mapping[str, str], bucket: str) -> Channel:
    data = channel.data
    if data is None or not is_local(data.uri):
        return channel
    if channel.name not in keys:
        raise DefinitionError(f"channel {channel.name}: {data.uri} lies on this machine, and was not given to be sent")
    here = replace(data, uri=f"s3://{bucket}/{keys[channel.name]}")
    return replace(channel, source=replace(channel.source, s3=here))


def plan(job: TrainingJob, contents: Mapping[str, Content], seen: Seen) -> tuple[Plan, TrainingJob]:
    """What it takes to run a job, and the job with its addresses in S3.

    ``contents`` are the data of its local channels, by channel.

    Raises:
        DefinitionError: an address is not in S3 that must be.
        DeploymentError: the bucket that was named does not exist.
    """
    bucket = seen.bucket
    job = placed(job, {name: each.key for name, each in contents.items()}, bucket=bucket.name)
    return (
        Plan(
            name=job.name,
            region=seen.region,
            account=seen.account,
            steps=(*uploads(contents, seen, outputs=(job.output.uri,)), _create(job)),
            digests={name: each.parts[-1].digest for name, each in contents.items()},
        ),
        job,
    )


def uploads(contents: Mapping[str, Content], seen: Seen, *, outputs: Iterable[str] = ()) -> tuple[Step, ...]:
    """What it takes to have data in S3: the bucket, which ``outputs`` may need too, half uploads, and what is missing.

    Raises:
        DeploymentError: the bucket that was named does not exist.
    """
    bucket = seen.bucket
    # Data that two channels share go up once.
    parts = {part.prefix + part.digest: (name, part) for name, each in contents.items() for part in each.parts}
    missing = [step for name, part in parts.values() for step in _upload(name, part, seen)]
    needs = bool(missing) or any(each.startswith(f"s3://{bucket.name}/") for each in outputs)
    made = () if bucket.exists or not needs else (_bucket(seen),)
    return (*made, *_halves((part for _, part in parts.values()), seen), *missing)


def sketch(job: TrainingJob) -> Plan:
    """The job's own request as far as it is known before AWS was asked, to be checked only.

    A role that is named stands in an account of zeros, data of this machine in a bucket that is none.

    Raises:
        DefinitionError: as of `placed`.
    """
    role = job.role_arn
    if role and not role.startswith("arn:"):
        role = f"{_STAND_IN}{role.rpartition('/')[2]}"
    keys = {each.name: f"{DATA}{each.name}" for each in local_channels(job)}
    return Plan(
        name=job.name,
        region="",
        account="",
        steps=(_create(placed(replace(job, role_arn=role), keys, bucket="bucket")),),
    )


def _bucket(seen: Seen) -> Step:
    if not seen.default:
        raise DeploymentError(
            f"there is no bucket {seen.bucket.name!r}; create it, or leave --bucket out for SageMaker's own"
        )
    return plan_bucket(seen.bucket.name, seen.region)


def _halves(parts: Iterable[Part], seen: Seen) -> Iterator[Step]:
    """Abort what was begun of these very data and not finished: its parts are paid for."""
    keys = {key for part in parts for key in part.files}
    for each in seen.bucket.incomplete_uploads:
        if each.key in keys:
            yield Step(
                action="delete",
                service="s3",
                operation="AbortMultipartUpload",
                kind="half upload",
                name=f"s3://{each.bucket}/{each.key}",
                request={"Bucket": each.bucket, "Key": each.key, "UploadId": each.upload_id},
                why="it was begun and never finished",
            )


def _upload(channel: str, part: Part, seen: Seen) -> Iterator[Step]:
    there = seen.bucket.objects
    missing = {key: size for key, size in part.files.items() if there.get(key) != size}
    if missing:
        count = len(part.files)
        yield Step(
            action="upload",
            service="s3",
            operation="PutObject",
            kind=part.kind,
            name=f"s3://{seen.bucket.name}/{part.prefix}",
            request={
                "Bucket": seen.bucket.name,
                "Key": part.prefix,
                "Metadata": {"tritonforge-digest": f"sha256:{part.digest}"},
            },
            why="it is not in S3" if count == 1 else f"{len(missing)} of its {count} files are not in S3",
            source=source(channel, part),
            size=sum(missing.values()),
        )


def source(channel: str, part: Part) -> str:
    """What an upload calls the files of a part, by which they are found when it is carried out."""
    return f"{channel}:{part.prefix}"


def _create(job: TrainingJob) -> Step:
    request = job.to_request()
    # The names first, as the API's reference has them.
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
