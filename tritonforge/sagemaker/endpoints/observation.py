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
_NO_BUCKET: Final = frozenset({"404", "NoSuchBucket", "NotFound"})

#: Streams and lines of each that are read from the log of an endpoint.
_STREAMS: Final = 2
_LINES: Final = 15
#: Lines arrive in CloudWatch some seconds after they were written: attempts to read them, and the delay in seconds.
_LOOKS: Final = 4
_DELAY: Final = 1.0


def observe(session: Session, *, name: str, bucket: str | None, folder: str) -> Observed:
    """Read everything that AWS has under a deployment's name.

    Args:
        session: the credentials and the region of the calls.
        name: the deployment's name.
        bucket: where the archives go; None for SageMaker's default bucket, which must belong to the caller's account.
        folder: the deployment's key in it, with ``/`` at its end.

    Raises:
        DeploymentError, ConnectError, EncodeError: as `Session.call`.
    """
    account, region = session.get_account(), session.region
    default = f"sagemaker-{region}-{account}"
    models = _read_models(session, name)
    endpoint = read_endpoint(session, name)
    chosen = bucket or default
    return Observed(
        region=region,
        account=account,
        partition=session.partition,
        models=models,
        configs=_read_configs(session, name, endpoint),
        bucket=read_bucket(session, chosen, folder, owner=account if chosen == default else None),
        others=tuple(
            read_bucket(session, other, place, owner=None)
            for other, place in _find_elsewhere(models, name, chosen, folder)
        ),
        endpoint=endpoint,
        targets=_read_scaling(session, name, "DescribeScalableTargets", "ScalableTargets"),
        policies=_read_scaling(session, name, "DescribeScalingPolicies", "ScalingPolicies"),
        alarms=tuple(
            alarm
            for page in session.paginate(
                "cloudwatch",
                "DescribeAlarms",
                AlarmNamePrefix=policies.build_alarm_name(name, "", "").rstrip("/") + "/",
            )
            for alarm in page.get("MetricAlarms", ())
        ),
    )


def is_missing(error: AwsError) -> bool:
    """Return True if AWS reports that a resource does not exist."""
    if error.code in ("ResourceNotFound", "ResourceNotFoundException", "ObjectNotFoundException"):
        return True
    # Of algorithms and model packages the sentence ends otherwise than of models and endpoints.
    is_absent = "Could not find" in error.message or "does not exist" in error.message
    return error.code == "ValidationException" and is_absent


def _read_or_none(session: Session, operation: str, **request: str) -> dict[str, Any] | None:
    """Return a description; None if the resource does not exist, for example because it was deleted meanwhile."""
    try:
        return session.call(_SAGEMAKER, operation, **request)
    except AwsError as error:
        if is_missing(error):
            return None
        raise


def read_endpoint(session: Session, name: str, *, with_tags: bool = True) -> ObservedEndpoint | None:
    """Return an endpoint as it is now; None if it does not exist."""
    description = _read_or_none(session, "DescribeEndpoint", EndpointName=name)
    if description is None:
        return None
    arn = str(description["EndpointArn"])
    return ObservedEndpoint(
        name=name,
        arn=arn,
        status=str(description["EndpointStatus"]),
        config=str(description.get("EndpointConfigName", "")),
        pending=(description.get("PendingDeploymentSummary") or {}).get("EndpointConfigName"),
        variants=tuple(description.get("ProductionVariants", ())),
        tags=_read_tags(session, arn) if with_tags else {},
        failure_reason=str(description.get("FailureReason") or ""),
    )


def _read_tags(session: Session, arn: str) -> dict[str, str]:
    """Return the tags of a resource; none if it was deleted a moment ago."""
    try:
        pages = list(session.paginate(_SAGEMAKER, "ListTags", ResourceArn=arn))
    except AwsError as error:
        if is_missing(error):
            return {}
        raise
    return {tag["Key"]: tag["Value"] for page in pages for tag in page.get("Tags", ())}


def _read_models(session: Session, name: str) -> dict[str, ObservedModel]:
    models: dict[str, ObservedModel] = {}
    for page in session.paginate(_SAGEMAKER, "ListModels", NameContains=name):
        for summary in page.get("Models", ()):
            model = summary["ModelName"]
            if not resources.is_model(name, model):
                continue
            description = _read_or_none(session, "DescribeModel", ModelName=model)
            if description is None:
                continue
            containers = [description.get("PrimaryContainer"), *description.get("Containers", ())]
            models[model] = ObservedModel(
                name=model,
                arn=summary["ModelArn"],
                data=tuple(url for container in containers if container for url in _list_data_urls(container)),
                tags=_read_tags(session, summary["ModelArn"]),
                created=_format_time(summary.get("CreationTime")),
            )
    return models


def _list_data_urls(container: Mapping[str, Any]) -> Iterator[str]:
    url = container.get("ModelDataUrl")
    if url:
        yield url
    source = (container.get("ModelDataSource") or {}).get("S3DataSource") or {}
    if source.get("S3Uri") and source["S3Uri"] != url:
        yield source["S3Uri"]


def _read_configs(session: Session, name: str, endpoint: ObservedEndpoint | None) -> dict[str, ObservedConfig]:
    names = [
        summary["EndpointConfigName"]
        for page in session.paginate(_SAGEMAKER, "ListEndpointConfigs", NameContains=name)
        for summary in page.get("EndpointConfigs", ())
        if resources.is_config(name, summary["EndpointConfigName"])
    ]
    used = () if endpoint is None else (endpoint.config, endpoint.pending)
    configs: dict[str, ObservedConfig] = {}
    for config in dict.fromkeys([*names, *filter(None, used)]):
        description = _read_or_none(session, "DescribeEndpointConfig", EndpointConfigName=config)
        if description is None:
            continue
        arn = str(description["EndpointConfigArn"])
        shadows = description.get("ShadowProductionVariants", ())
        configs[config] = ObservedConfig(
            name=config,
            arn=arn,
            variants=(*description.get("ProductionVariants", ()), *shadows),
            tags=_read_tags(session, arn),
            created=_format_time(description.get("CreationTime")),
        )
    return configs


def _format_time(moment: Any) -> str:
    if isinstance(moment, dt.datetime):
        return moment.astimezone(dt.timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")
    return "" if moment is None else str(moment)


def _find_elsewhere(
    models: Mapping[str, ObservedModel], name: str, bucket: str, folder: str
) -> Sequence[tuple[str, str]]:
    """Return the other buckets and folders in which archives of this deployment's models lie: .../NAME/DIGEST/..."""
    places: set[tuple[str, str]] = set()
    for model in models.values():
        for url in model.data if resources.is_owned(model.tags, name) else ():
            if not url.startswith("s3://"):
                continue
            location = Location.parse(url)
            above, slash, _ = location.key.rpartition(f"{name}/")
            candidate = f"{above}{name}/"
            if slash and above[-1:] in ("", "/") and resources.is_object(f"{location.key}-", candidate):
                places.add((location.bucket, candidate))
    return sorted(places - {(bucket, folder)})


def read_bucket(session: Session, name: str, folder: str, *, owner: str | None) -> ObservedBucket:
    """Return what lies below a folder of a bucket; ``owner`` is the account to which the bucket must belong."""
    place: dict[str, Any] = {"resource": f"s3://{name}/{folder}", "Bucket": name, "Prefix": folder}
    if owner is not None:
        place["ExpectedBucketOwner"] = owner
    objects: dict[str, int] = {}
    try:
        for page in session.paginate("s3", "ListObjectsV2", **place):
            objects |= {stored["Key"]: int(stored["Size"]) for stored in page.get("Contents", ())}
    except AwsError as error:
        if error.code in _NO_BUCKET:
            return ObservedBucket(name=name, folder=folder, exists=False)
        raise
    uploads: list[IncompleteUpload] = []
    try:
        for page in session.paginate("s3", "ListMultipartUploads", **place):
            uploads += [
                IncompleteUpload(bucket=name, key=upload["Key"], upload_id=upload["UploadId"])
                for upload in page.get("Uploads", ())
            ]
    except AwsError as error:
        if not error.denied:  # a deployment does not need the permission to list them
            raise
    return ObservedBucket(name=name, folder=folder, objects=objects, incomplete_uploads=tuple(uploads))


def _read_scaling(session: Session, name: str, operation: str, member: str) -> tuple[Mapping[str, Any], ...]:
    """Return the targets or policies of the endpoint's variants; the service cannot filter by a prefix."""
    prefix = policies.build_resource_id(name, "")
    return tuple(
        item
        for page in session.paginate("application-autoscaling", operation, ServiceNamespace=policies.NAMESPACE)
        for item in page.get(member, ())
        if str(item["ResourceId"]).startswith(prefix)
    )


def find_role_arn(session: Session, role: str) -> str:
    """Return the ARN of a role that is given by ARN or by name.

    SageMaker's console creates roles below ``service-role/``, so the path of a name is read from IAM. If the caller may
    not read IAM, the name is returned as it is: a role without a path.

    Raises:
        DefinitionError: the account has no such role.
    """
    if role.startswith("arn:") or not role:
        return role
    name = role.rpartition("/")[2]
    try:
        return str(session.call("iam", "GetRole", RoleName=name)["Role"]["Arn"])
    except AwsError as error:
        if error.code == "NoSuchEntity":
            raise DefinitionError(
                f"IAM has no role {name!r} in account {session.get_account()}; give the ARN or name of an existing role"
            ) from error
        if error.denied:
            return role
        raise


def read_last_lines(session: Session, endpoint: str, *, since: float = 0.0) -> list[str]:
    """Return the last lines of the newest streams of an endpoint's log, each stream with a heading.

    Tries for a while until there are lines after ``since`` (seconds since 1970). The lines complete an error that is
    raised anyway, so a failure here does not hide that error.
    """
    group = f"/aws/sagemaker/Endpoints/{endpoint}"
    texts: list[str] = []
    with contextlib.suppress(TritonForgeError, KeyError):
        for look in range(_LOOKS):
            streams = _read_streams(session, group)
            if any(event.get("timestamp", 0) >= since * 1000 for _, events in streams for event in events):
                break
            if look < _LOOKS - 1:
                time.sleep(_DELAY)
        for name, events in streams:
            lines = [f"    {str(event.get('message', '')).rstrip()}" for event in events]
            texts.append("\n".join([f"the last lines of {group} {name}:", *lines]))
    return texts


def _read_streams(session: Session, group: str) -> list[tuple[str, list[dict[str, Any]]]]:
    """Return the newest streams that have lines, and their last events; none while the group does not exist."""
    request = {"logGroupName": group, "orderBy": "LastEventTime", "descending": True, "limit": _STREAMS}
    try:
        response = session.call("logs", "DescribeLogStreams", resource=group, **request)
    except AwsError as error:
        if error.code == "ResourceNotFoundException":
            return []
        raise
    streams: list[tuple[str, list[dict[str, Any]]]] = []
    for stream in response.get("logStreams", ()):
        request = {"logGroupName": group, "logStreamName": stream["logStreamName"], "limit": _LINES}
        events = session.call("logs", "GetLogEvents", resource=group, **request, startFromHead=False).get("events", ())
        if events:
            streams.append((stream["logStreamName"], list(events)))
    return streams
