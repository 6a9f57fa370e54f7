"""What an operation of the control plane works with: one region's resources, runners, preconditions and quotas."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias, TypeVar
from urllib.parse import unquote

from tritonforge.emulator.control import resource_store
from tritonforge.emulator.control.api_errors import (
    build_data_access_error,
    build_limit_error,
    build_no_data_error,
    build_no_input_error,
    build_role_error,
    build_validation_error,
)
from tritonforge.emulator.control.job_runner import JobRunner, begin_stop
from tritonforge.emulator.control.records import JobRecord, Record, StatusRecord, add_tags
from tritonforge.emulator.control.resource_store import AnyKind, ResourceKind, ResourceStore
from tritonforge.emulator.emulated_s3 import EmulatedS3, ObjectMissingError, split_uri
from tritonforge.emulator.front.moto_backend import MotoBackend
from tritonforge.errors import RequestError

__all__ = ["Operation", "Preconditions", "RequestContext"]

_PRINCIPAL: Final = "sagemaker.amazonaws.com"
_ACTIONS: Final = frozenset({"sts:assumerole", "sts:*", "*"})
_SCALING: Final = "application-autoscaling"


class Preconditions:
    """Checks against IAM, S3 and CloudWatch; each raises ApiError with AWS's sentence."""

    def __init__(self, moto: MotoBackend, objects: EmulatedS3) -> None:
        self._moto = moto
        self._objects = objects

    def check_role(self, region: str, arn: str) -> None:
        """Raise ApiError unless the role exists in this account and lets SageMaker assume it."""
        from botocore.exceptions import ClientError

        if f"::{self._moto.account}:role/" not in arn:
            # The sentence is as remembered from AWS; no public source of it was at hand.
            raise build_validation_error("RoleArn: Cross-account pass role is not allowed.")
        try:
            role = self._moto.client("iam", region).get_role(RoleName=arn.rpartition("/")[2])["Role"]
        except ClientError:
            raise build_role_error(arn) from None
        if role["Arn"] != arn or not _is_trusted(role.get("AssumeRolePolicyDocument")):
            raise build_role_error(arn)

    def check_model_data(self, region: str, container: Mapping[str, Any], role: str) -> None:
        """Raise ApiError unless a container's model data exist, in a bucket of this region."""
        source = (container.get("ModelDataSource") or {}).get("S3DataSource") or {}
        uri = source.get("S3Uri") or container.get("ModelDataUrl")
        if not uri:
            return
        try:
            bucket, _ = split_uri(uri)
        except RequestError:
            raise build_no_data_error(uri) from None
        if not self._objects.has_bucket(uri) or self._find_region(bucket) != region:
            raise build_data_access_error(uri, role, region)
        if container.get("Mode") == "MultiModel":
            return  # archives may come later
        try:
            if source.get("S3DataType") == "S3Prefix":
                if next(iter(self._objects.list(uri)), None) is None:
                    raise build_no_data_error(uri)
            else:
                self._objects.head(uri)
        except ObjectMissingError:
            raise build_no_data_error(uri) from None

    def check_input(self, region: str, source: Mapping[str, Any], role: str) -> None:
        """Raise ApiError unless objects exist below the prefix of a job's S3DataSource, or its manifest exists."""
        uri = source["S3Uri"]
        try:
            bucket, _ = split_uri(uri)
            if self._objects.has_bucket(uri) and self._find_region(bucket) == region:
                if source["S3DataType"] == "S3Prefix":
                    if next(iter(self._objects.list(uri)), None) is not None:
                        return
                else:
                    self._objects.head(uri)
                    return
        except (ObjectMissingError, RequestError):
            pass
        raise build_no_input_error(uri, role, region)

    def _find_region(self, bucket: str) -> str:
        location = self._moto.client("s3", "us-east-1").get_bucket_location(Bucket=bucket)
        return location.get("LocationConstraint") or "us-east-1"

    def check_alarms(self, region: str, names: Sequence[str]) -> None:
        """Raise ApiError unless the rollback alarms exist. The sentence is ours."""
        absent = sorted(set(names) - {alarm["AlarmName"] for alarm in self._list_alarms(region, names)})
        if absent:
            raise build_validation_error(f"CloudWatch has no alarm {', '.join(absent)} in {region}; create it first.")

    def list_tripped_alarms(self, region: str, names: Sequence[str]) -> list[str]:
        """List those of the alarms that are in state ALARM."""
        return sorted(
            alarm["AlarmName"] for alarm in self._list_alarms(region, names) if alarm.get("StateValue") == "ALARM"
        )

    def _list_alarms(self, region: str, names: Sequence[str]) -> Iterable[Mapping[str, Any]]:
        if not names:
            return ()
        alarms = self._moto.client("cloudwatch", region).describe_alarms(AlarmNames=list(names))
        return [*alarms.get("MetricAlarms", ()), *alarms.get("CompositeAlarms", ())]

    def deregister_scaling(self, region: str, endpoint: str) -> None:
        """Deregister an endpoint's scalable targets, as DeleteEndpoint does.

        Source: stable-diffusion-aws-extension issue 161, where AWS says that it does so in the caller's name.
        """
        client = self._moto.client(_SCALING, region)
        targets = client.describe_scalable_targets(ServiceNamespace="sagemaker").get("ScalableTargets", ())
        for target in targets:
            if target["ResourceId"].lower().startswith(f"endpoint/{endpoint.lower()}/"):
                client.deregister_scalable_target(
                    ServiceNamespace="sagemaker",
                    ResourceId=target["ResourceId"],
                    ScalableDimension=target["ScalableDimension"],
                )


def _is_trusted(policy: object) -> bool:
    """Return True if a trust policy lets SageMaker assume the role; conditions are ignored."""
    if isinstance(policy, str):
        try:
            policy = json.loads(unquote(policy))
        except ValueError:
            return False
    statements = policy.get("Statement", ()) if isinstance(policy, Mapping) else ()
    if isinstance(statements, Mapping):
        statements = [statements]
    for statement in statements:
        principal = statement.get("Principal", {})
        services = ["*"] if principal == "*" else _to_list(principal.get("Service", ()))
        actions = {str(action).lower() for action in _to_list(statement.get("Action", ()))}
        if statement.get("Effect") == "Allow" and actions & _ACTIONS and {_PRINCIPAL, "*"} & set(services):
            return True
    return False


def _to_list(value: Any) -> Sequence[str]:
    return [value] if isinstance(value, str) else list(value)


RecordT = TypeVar("RecordT", bound=Record)
StatusT = TypeVar("StatusT", bound=StatusRecord)
JobT = TypeVar("JobT", bound=JobRecord)


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestContext:
    """One region of the account.

    ``runners`` do what takes time, by the name of their kind; ``images`` are those that the user declared, ``limits``
    the account's quotas by instance type.
    """

    region: str
    account: str
    store: ResourceStore
    preconditions: Preconditions
    runners: Mapping[str, JobRunner[Any]]
    images: Mapping[str, str] = field(default_factory=dict)
    limits: Mapping[str, int] = field(default_factory=dict)

    def now(self) -> float:
        """Return the time of a change, as `ResourceStore.now` does."""
        return self.store.now()

    def arn(self, kind: AnyKind, name: str) -> str:
        """Return the ARN of a resource in this region."""
        return resource_store.build_arn(kind.name, name, region=self.region, account=self.account)

    def list(self, kind: ResourceKind[RecordT]) -> list[RecordT]:
        """Return the resources of a kind in this region."""
        return self.store.list_region(kind, self.region)

    def find(self, kind: ResourceKind[RecordT], name: str) -> RecordT:
        """Return the resource of a name, or of an ARN where the kind allows it. Raises ApiError if it is missing."""
        if kind.has_arn_lookup:
            name = self._parse_name(kind, name)
        record = self.store.find(kind, self.region, name)
        if record is None:
            raise kind.missing(kind.noun, self.arn(kind, name))
        return record

    def create(self, kind: ResourceKind[RecordT], record: RecordT) -> None:
        """Store a new resource and start its work. Raises ApiError for a name in use and for an exceeded quota."""
        with self.store.lock:
            self.check_name(kind, record.name)
            self.check_quota(kind, record)
            self.store.put(kind, self.region, record)
        self.begin(kind, record.name)

    def build_fields(self, kind: AnyKind, name: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields of a new record of a request: its name, ARN, times and tags, and the request without tags.

        Raises ApiError for invalid tags.
        """
        arn, now = self.arn(kind, name), self.store.now()
        return {
            "name": name,
            "arn": arn,
            "created": now,
            "tags": add_tags((), request.get("Tags") or (), arn=arn),
            "request": {key: value for key, value in request.items() if key != "Tags"},
            **({"modified": now} if issubclass(kind.record, StatusRecord) else {}),
        }

    def check_name(self, kind: AnyKind, name: str) -> None:
        """Raise ApiError if a name is in use."""
        if self.store.find(kind, self.region, name) is not None:
            raise kind.taken(kind.noun, self.arn(kind, name))

    def change(self, kind: ResourceKind[StatusT], name: str, change: Callable[[StatusT, float], StatusT]) -> StatusT:
        """Store what a function makes of an existing resource and the time of the change; return it."""
        with self.store.lock:
            before = self.find(kind, name)
            record = change(before, self.store.now(before.modified))
            self.check_quota(kind, record, before=before)
            self.store.put(kind, self.region, record)
        return record

    def remove(self, kind: ResourceKind[RecordT], name: str) -> None:
        """Remove an existing resource. Raises ApiError if it is missing."""
        with self.store.lock:
            self.store.remove(kind, self.region, self.find(kind, name).name)

    def begin(self, kind: AnyKind, name: str) -> None:
        """Start the work that the status of a resource asks for, if its kind has any."""
        if kind.name in self.runners:
            self.runners[kind.name].begin(self.region, name)

    def stop_job(
        self, kind: ResourceKind[JobT], name: str, change: Callable[[JobT, float], JobT] | None = None
    ) -> Mapping[str, Any]:
        """Stop a job, and return the empty answer of the operation. Raises ApiError if it has ended.

        ``change`` makes the record that is Stopping, where that takes more than the status.
        """
        job = self.change(kind, name, change or (lambda record, now: begin_stop(record, now, noun=kind.noun)))
        self.runners[kind.name].stop(self.region, job.name)
        return {}

    def check_quota(self, kind: ResourceKind[RecordT], record: RecordT, *, before: RecordT | None = None) -> None:
        """Compare the instances of a new or changed resource with the account's quotas.

        Raises ApiError (ResourceLimitExceeded). Each purpose, such as "endpoint usage", has a quota of its own.
        """
        if not self.limits:
            return
        used = [usage for other in self.list(kind) for usage in kind.usage(other)]
        own = [] if before is None else list(kind.usage(before))
        wanted = list(kind.usage(record))
        for quota in dict.fromkeys(usage[:2] for usage in wanted):
            instance_type, purpose = quota
            limit = self.limits.get(instance_type)
            total, added = _count(used, quota), _count(wanted, quota) - _count(own, quota)
            if limit is not None and added > 0 and total + added > limit:
                what = f"{instance_type} for {purpose}"
                raise build_limit_error(what, "Instances", limit=limit, used=total, wanted=added)

    def _parse_name(self, kind: AnyKind, text: str) -> str:
        """Return the name in a name or an ARN of this region and account. Raises ApiError for another ARN."""
        if not text.startswith("arn:"):
            return text
        arn = resource_store.parse_arn(text)
        if arn is None or arn.kind != kind.name:
            raise build_validation_error(f"{text!r} is not the ARN of a {kind.noun}.")  # ours
        if arn.region != self.region:
            # amazon-sagemaker-examples issue 1438
            raise build_validation_error(f"ARN should be scoped to correct region: {self.region}")
        if arn.account != self.account:
            raise build_validation_error(f"{text!r} is not of account {self.account}.")  # ours
        return arn.name


def _count(usages: list[resource_store.InstanceUsage], quota: tuple[str, str]) -> int:
    return sum(usage.instances for usage in usages if usage[:2] == quota)


#: An operation: what it answers to a request that satisfies the service model.
Operation: TypeAlias = Callable[[RequestContext, Mapping[str, Any]], Mapping[str, Any]]
