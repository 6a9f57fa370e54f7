"""What a request takes for granted and AWS looks at first: the role, the model data, the alarms, scalable targets."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import unquote

from tritonforge.emulator.control.api_errors import denied_data, invalid, missing_data, missing_input, unassumable
from tritonforge.emulator.emulated_s3 import EmulatedS3, ObjectMissingError, split_uri
from tritonforge.emulator.front.moto_backend import MotoBackend
from tritonforge.errors import RequestError

__all__ = ["Preconditions"]

_PRINCIPAL: Final = "sagemaker.amazonaws.com"
_ACTIONS: Final = frozenset({"sts:assumerole", "sts:*", "*"})
_SCALING: Final = "application-autoscaling"


class Preconditions:
    """Questions to the services beside SageMaker; every one raises ApiError with AWS's sentence."""

    def __init__(self, moto: MotoBackend, objects: EmulatedS3) -> None:
        self._moto = moto
        self._objects = objects

    def check_role(self, region: str, arn: str) -> None:
        """The role exists in this account and lets SageMaker assume it."""
        from botocore.exceptions import ClientError

        if f"::{self._moto.account}:role/" not in arn:
            # The sentence is as remembered from AWS; no public source of it was at hand.
            raise invalid("RoleArn: Cross-account pass role is not allowed.")
        try:
            found = self._moto.client("iam", region).get_role(RoleName=arn.rpartition("/")[2])["Role"]
        except ClientError:
            raise unassumable(arn) from None
        if found["Arn"] != arn or not _is_trusted(found.get("AssumeRolePolicyDocument")):
            raise unassumable(arn)

    def check_model_data(self, region: str, container: Mapping[str, Any], role: str) -> None:
        """There are model data where a container says, in a bucket of this region."""
        source = (container.get("ModelDataSource") or {}).get("S3DataSource") or {}
        uri = source.get("S3Uri") or container.get("ModelDataUrl")
        if not uri:
            return
        try:
            bucket, _ = split_uri(uri)
        except RequestError:
            raise missing_data(uri) from None
        if not self._objects.has_bucket(uri) or self._home(bucket) != region:
            raise denied_data(uri, role, region)
        if container.get("Mode") == "MultiModel":
            return  # archives may come later
        try:
            if source.get("S3DataType") == "S3Prefix":
                if next(iter(self._objects.list(uri)), None) is None:
                    raise missing_data(uri)
            else:
                self._objects.head(uri)
        except ObjectMissingError:
            raise missing_data(uri) from None

    def check_input(self, region: str, source: Mapping[str, Any], role: str) -> None:
        """There are objects below the prefix of a job's S3DataSource, or there is its manifest."""
        uri = source["S3Uri"]
        try:
            bucket, _ = split_uri(uri)
            if self._objects.has_bucket(uri) and self._home(bucket) == region:
                if source["S3DataType"] == "S3Prefix":
                    if next(iter(self._objects.list(uri)), None) is not None:
                        return
                else:
                    self._objects.head(uri)
                    return
        except (ObjectMissingError, RequestError):
            pass
        raise missing_input(uri, role, region)

    def _home(self, bucket: str) -> str:
        found = self._moto.client("s3", "us-east-1").get_bucket_location(Bucket=bucket)
        return found.get("LocationConstraint") or "us-east-1"

    def check_alarms(self, region: str, names: Sequence[str]) -> None:
        """The rollback alarms exist. The sentence is ours."""
        absent = sorted(set(names) - {each["AlarmName"] for each in self._alarms(region, names)})
        if absent:
            raise invalid(f"CloudWatch has no alarm {', '.join(absent)} in {region}; create it first.")

    def list_tripped_alarms(self, region: str, names: Sequence[str]) -> list[str]:
        """Those of the alarms that are in state ALARM."""
        return sorted(each["AlarmName"] for each in self._alarms(region, names) if each.get("StateValue") == "ALARM")

    def _alarms(self, region: str, names: Sequence[str]) -> Iterable[Mapping[str, Any]]:
        if not names:
            return ()
        found = self._moto.client("cloudwatch", region).describe_alarms(AlarmNames=list(names))
        return [*found.get("MetricAlarms", ()), *found.get("CompositeAlarms", ())]

    def deregister_scaling(self, region: str, endpoint: str) -> None:
        """Deregister an endpoint's scalable targets, as DeleteEndpoint does.

        Source: stable-diffusion-aws-extension issue 161, where AWS says that it does so in the caller's name.
        """
        client = self._moto.client(_SCALING, region)
        found = client.describe_scalable_targets(ServiceNamespace="sagemaker").get("ScalableTargets", ())
        for each in found:
            if each["ResourceId"].lower().startswith(f"endpoint/{endpoint.lower()}/"):
                client.deregister_scalable_target(
                    ServiceNamespace="sagemaker",
                    ResourceId=each["ResourceId"],
                    ScalableDimension=each["ScalableDimension"],
                )


def _is_trusted(policy: object) -> bool:
    """Whether a trust policy lets SageMaker assume the role; conditions are not looked at."""
    if isinstance(policy, str):
        try:
            policy = json.loads(unquote(policy))
        except ValueError:
            return False
    statements = policy.get("Statement", ()) if isinstance(policy, Mapping) else ()
    if isinstance(statements, Mapping):
        statements = [statements]
    for each in statements:
        principal = each.get("Principal", {})
        services = ["*"] if principal == "*" else _to_list(principal.get("Service", ()))
        actions = {str(action).lower() for action in _to_list(each.get("Action", ()))}
        if each.get("Effect") == "Allow" and actions & _ACTIONS and {_PRINCIPAL, "*"} & set(services):
            return True
    return False


def _to_list(value: Any) -> Sequence[str]:
    return [value] if isinstance(value, str) else list(value)
