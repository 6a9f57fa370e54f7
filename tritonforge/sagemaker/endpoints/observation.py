"""The observation of a deployment: its resources, its role and its log on AWS. Every call here only reads."""

from __future__ import annotations

import contextlib
import datetime as dt
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from tritonforge.errors import DefinitionError, TritonForgeError
from tritonforge.sagemaker.client.errors import AwsError
from tritonforge.sagemaker.client.session import Session
from tritonforge.sagemaker.client.transfers import Location
from tritonforge.sagemaker.endpoints import policies, resources
from tritonforge.sagemaker.endpoints.resources import (
    IncompleteUpload,
    Observed,
    ObservedBucket,
    ObservedConfig,
    ObservedEndpoint,
    ObservedModel,
)

__all__ = ["find_role_arn", "is_missing", "observe", "read_bucket", "read_endpoint", "read_last_lines"]

_SAGEMAKER: Final = "sagemaker"
_GONE: Final = "does not exist"
_NO_BUCKET: Final = frozenset({"404", "NoSuchBucket", "NotFound"})


def observe(session: Session, *, name: str, bucket: str | None, folder: str) -> Observed:
    """Everything that AWS has under a deployment's name.

    ``bucket`` is where the archives go, None for SageMaker's default one, which must then be the caller's own;
    ``folder`` is the deployment's in it, with ``/`` at its end.

    Raises:
        DeploymentError, ConnectError, EncodeError: as `Session.call`.
    """
    account, region = session.get_account(), session.region
    default = f"sagemaker-{region}-{account}"
    models = _models(session, name)
    endpoint = read_endpoint(session, name)
    configs = _configs(session, name, endpoint)
    chosen = bucket or default
    owner = account if chosen == default else None
    return Observed(
        region=region,
        account=account,
        partition=session.partition,
        bucket=read_bucket(session, chosen, folder, owner=owner),
        others=tuple(
            read_bucket(session, each, place, owner=None) for each, place in _elsewhere(models, name, chosen, folder)
        ),
        models=models,
        configs=configs,
        endpoint=endpoint,
        targets=_scalable(session, name, "DescribeScalableTargets", "ScalableTargets"),
        policies=_scalable(session, name, "DescribeScalingPolicies", "ScalingPolicies"),
        alarms=_alarms(session, name),
    )


def is_missing(error: AwsError) -> bool:
    """Whether AWS says that what was asked for is not there."""
    if error.code in ("ResourceNotFound", "ResourceNotFoundException", "ObjectNotFoundException"):
        return True
    # Of algorithms and model packages the sentence ends otherwise than of models and endpoints.
    return error.code == "ValidationException" and ("Could not find" in error.message or _GONE in error.message)


def read_endpoint(session: Session, name: str, *, with_tags: bool = True) -> ObservedEndpoint | None:
    """An endpoint as it is now; None where there is none."""
    try:
        found = session.call(_SAGEMAKER, "DescribeEndpoint", EndpointName=name)
    except AwsError as error:
        if is_missing(error):
            return None
        raise
    pending = found.get("PendingDeploymentSummary") or {}
    arn = str(found["EndpointArn"])
    return ObservedEndpoint(
        name=name,
        arn=arn,
        status=str(found["EndpointStatus"]),
        config=str(found.get("EndpointConfigName", "")),
        pending=pending.get("EndpointConfigName"),
        variants=tuple(found.get("ProductionVariants", ())),
        tags=_tags(session, arn) if with_tags else {},
        failure_reason=str(found.get("FailureReason") or ""),
    )


def _tags(session: Session, arn: str) -> dict[str, str]:
    """The tags of a resource; none where it was deleted a moment ago."""
    try:
        return {
            each["Key"]: each["Value"]
            for page in session.paginate(_SAGEMAKER, "ListTags", ResourceArn=arn)
            for each in page.get("Tags", ())
        }
    except AwsError as error:
        if is_missing(error):
            return {}
        raise


def _models(session: Session, name: str) -> dict[str, ObservedModel]:
    found: dict[str, ObservedModel] = {}
    for page in session.paginate(_SAGEMAKER, "ListModels", NameContains=name):
        for each in page.get("Models", ()):
            if not resources.is_model(name, each["ModelName"]):
                continue
            described = _described(session, "DescribeModel", "ModelName", each["ModelName"])
            if described is None:
                continue
            containers = [described.get("PrimaryContainer"), *described.get("Containers", ())]
            found[each["ModelName"]] = ObservedModel(
                name=each["ModelName"],
                arn=each["ModelArn"],
                data=tuple(url for container in containers if container for url in _data(container)),
                tags=_tags(session, each["ModelArn"]),
                created=_when(each.get("CreationTime")),
            )
    return found


def _data(container: Mapping[str, Any]) -> Iterator[str]:
    if container.get("ModelDataUrl"):
        yield container["ModelDataUrl"]
    source = (container.get("ModelDataSource") or {}).get("S3DataSource") or {}
    if source.get("S3Uri") and source["S3Uri"] != container.get("ModelDataUrl"):
        yield source["S3Uri"]


def _configs(session: Session, name: str, endpoint: ObservedEndpoint | None) -> dict[str, ObservedConfig]:
    names: dict[str, Any] = {}
    for page in session.paginate(_SAGEMAKER, "ListEndpointConfigs", NameContains=name):
        for each in page.get("EndpointConfigs", ()):
            if resources.is_config(name, each["EndpointConfigName"]):
                names[each["EndpointConfigName"]] = each
    used = [] if endpoint is None else [each for each in (endpoint.config, endpoint.pending) if each]
    for each in used:
        names.setdefault(each, None)
    found: dict[str, ObservedConfig] = {}
    for each in names:
        described = _described(session, "DescribeEndpointConfig", "EndpointConfigName", each)
        if described is None:
            continue
        arn = str(described["EndpointConfigArn"])
        found[each] = ObservedConfig(
            name=each,
            arn=arn,
            variants=(*described.get("ProductionVariants", ()), *described.get("ShadowProductionVariants", ())),
            tags=_tags(session, arn),
            created=_when(described.get("CreationTime")),
        )
    return found


def _described(session: Session, operation: str, member: str, name: str) -> dict[str, Any] | None:
    """What a description says; None where the thing was deleted between its listing and this."""
    try:
        return session.call(_SAGEMAKER, operation, **{member: name})
    except AwsError as error:
        if is_missing(error):
            return None
        raise


def _when(time: Any) -> str:
    if isinstance(time, dt.datetime):
        return time.astimezone(dt.timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")
    return "" if time is None else str(time)


def _elsewhere(models: Mapping[str, ObservedModel], name: str, bucket: str, folder: str) -> Sequence[tuple[str, str]]:
    """The other buckets and folders in which archives of this deployment's models lie: .../NAME/DIGEST/..."""
    found: set[tuple[str, str]] = set()
    for model in models.values():
        if model.tags.get(resources.DEPLOYMENT) != name:
            continue
        for url in model.data:
            if not url.startswith("s3://"):
                continue
            place = Location.parse(url)
            above, slash, _ = place.key.rpartition(f"{name}/")
            candidate = f"{above}{name}/"
            if slash and above[-1:] in ("", "/") and resources.is_object(f"{place.key}-", candidate):
                found.add((place.bucket, candidate))
    return sorted(found - {(bucket, folder)})


def read_bucket(session: Session, name: str, folder: str, *, owner: str | None) -> ObservedBucket:
    """What lies below a folder of a bucket now; ``owner`` is the account that the bucket must belong to."""
    expected = {} if owner is None else {"ExpectedBucketOwner": owner}
    place = f"s3://{name}/{folder}"
    objects: dict[str, int] = {}
    try:
        for page in session.paginate("s3", "ListObjectsV2", resource=place, Bucket=name, Prefix=folder, **expected):
            objects |= {each["Key"]: int(each["Size"]) for each in page.get("Contents", ())}
    except AwsError as error:
        if error.code in _NO_BUCKET:
            return ObservedBucket(name=name, folder=folder, exists=False)
        raise
    return ObservedBucket(
        name=name,
        folder=folder,
        objects=objects,
        half_uploads=tuple(_half_uploads(session, name, folder, place, expected)),
    )


def _half_uploads(
    session: Session, name: str, folder: str, place: str, expected: Mapping[str, str]
) -> Iterator[IncompleteUpload]:
    try:
        for page in session.paginate(
            "s3", "ListMultipartUploads", resource=place, Bucket=name, Prefix=folder, **expected
        ):
            for each in page.get("Uploads", ()):
                yield IncompleteUpload(bucket=name, key=each["Key"], upload_id=each["UploadId"])
    except AwsError as error:
        if not error.denied:  # a courtesy: who may not list them deploys as well
            raise


def _scalable(session: Session, name: str, operation: str, member: str) -> tuple[Mapping[str, Any], ...]:
    """Targets or policies of the endpoint's variants; the service cannot be asked for a beginning."""
    beginning = policies.build_resource_id(name, "")
    return tuple(
        each
        for page in session.paginate("application-autoscaling", operation, ServiceNamespace=policies.NAMESPACE)
        for each in page.get(member, ())
        if str(each["ResourceId"]).startswith(beginning)
    )


def _alarms(session: Session, name: str) -> tuple[Mapping[str, Any], ...]:
    beginning = policies.build_alarm_name(name, "", "").rstrip("/") + "/"
    return tuple(
        each
        for page in session.paginate("cloudwatch", "DescribeAlarms", AlarmNamePrefix=beginning)
        for each in page.get("MetricAlarms", ())
    )


_MISSING: Final = "NoSuchEntity"


def find_role_arn(session: Session, role: str) -> str:
    """The ARN of a role that is given by ARN or by name; SageMaker's own console makes roles below ``service-role/``.

    Where the caller may not read IAM the name is given back as it is, and stands for a role without a path.

    Raises:
        DefinitionError: the account has no such role.
    """
    if role.startswith("arn:") or not role:
        return role
    name = role.rpartition("/")[2]
    try:
        found = session.call("iam", "GetRole", RoleName=name)
    except AwsError as error:
        if error.code == _MISSING:
            raise DefinitionError(
                f"IAM has no role {name!r} in account {session.get_account()}; give the ARN or name of an existing role"
            ) from error
        if error.denied:
            return role
        raise
    return str(found["Role"]["Arn"])


_STREAMS: Final = 2
_LINES: Final = 15
#: Lines come to CloudWatch some seconds after they were written: how often to look again, and the pause in seconds.
_LOOKS: Final = 4
_PAUSE: Final = 1.0


def read_last_lines(session: Session, endpoint: str, *, since: float = 0.0) -> list[str]:
    """The last lines of the newest streams, each stream with a heading; none where there are none to be had.

    Looks again for a while where there is none after ``since`` (seconds since 1970). They are a help beside an error
    that is told anyway, so nothing that goes wrong here hides that error.
    """
    group = f"/aws/sagemaker/Endpoints/{endpoint}"
    found: list[str] = []
    with contextlib.suppress(TritonForgeError, KeyError):
        for look in range(_LOOKS):
            streams = _streams(session, group)
            if any(event.get("timestamp", 0) >= since * 1000 for _, events in streams for event in events):
                break
            if look < _LOOKS - 1:
                time.sleep(_PAUSE)
        for name, events in streams:
            lines = [f"    {str(each.get('message', '')).rstrip()}" for each in events]
            found.append("\n".join([f"the last lines of {group} {name}:", *lines]))
    return found


def _streams(session: Session, group: str) -> list[tuple[str, list[dict[str, Any]]]]:
    """The newest streams that have lines, and their last; none while there is no group yet."""
    try:
        answer = session.call(
            "logs",
            "DescribeLogStreams",
            resource=group,
            logGroupName=group,
            orderBy="LastEventTime",
            descending=True,
            limit=_STREAMS,
        )
    except AwsError as error:
        if error.code == "ResourceNotFoundException":
            return []
        raise
    found: list[tuple[str, list[dict[str, Any]]]] = []
    for stream in answer.get("logStreams", ()):
        events = session.call(
            "logs",
            "GetLogEvents",
            resource=group,
            logGroupName=group,
            logStreamName=stream["logStreamName"],
            limit=_LINES,
            startFromHead=False,
        ).get("events", ())
        if events:
            found.append((stream["logStreamName"], list(events)))
    return found
