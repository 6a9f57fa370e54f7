"""What an operation of the control plane works with, and the few things that all of them do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from tritonforge.emulator.control import resources
from tritonforge.emulator.control.api_errors import limit_exceeded, missing, missing_job
from tritonforge.emulator.control.preconditions import Preconditions
from tritonforge.emulator.control.records import Endpoint, Resource, TrainingRecord, TransformRecord
from tritonforge.emulator.control.resource_store import ResourceStore

__all__ = ["Begin", "Operation", "RequestContext", "Validate"]

#: Tells the deployments that an endpoint has work to do, by region and name; likewise of transform and training jobs.
Begin: TypeAlias = Callable[[str, str], None]

#: Tells the validations of an algorithm or a model package: region, kind, name.
Validate: TypeAlias = Callable[[str, str, str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestContext:
    """One region's context: the store, the moto' answers, the account's limits, the images that are declared."""

    region: str
    account: str
    store: ResourceStore
    preconditions: Preconditions
    begin: Begin
    transform: Begin
    stop_transform: Begin
    train: Begin
    stop_training: Begin
    validate: Validate
    images: Mapping[str, str] = field(default_factory=dict)
    limits: Mapping[str, int] = field(default_factory=dict)

    def now(self, after: float = 0.0) -> float:
        """The time of a change, as `Ledger.now`."""
        return self.store.now(after)

    def arn(self, kind: str, name: str) -> str:
        """The ARN of a resource in this region."""
        return resources.build_arn(kind, name, region=self.region, account=self.account)

    def model(self, name: str) -> Resource:
        """The model of a name. Raises ApiError where there is none."""
        return self._found("model", name)

    def config(self, name: str) -> Resource:
        """The endpoint configuration of a name. Raises ApiError where there is none."""
        return self._found("endpoint-config", name)

    def endpoint(self, name: str) -> Endpoint:
        """The endpoint of a name. Raises ApiError where there is none."""
        found = self.store.endpoint(self.region, name)
        if found is None:
            raise missing(resources.KINDS["endpoint"], self.arn("endpoint", name))
        return found

    def job(self, name: str) -> TransformRecord:
        """The transform job of a name. Raises ApiError where there is none."""
        found = self.store.transform(self.region, name)
        if found is None:
            raise missing_job()
        return found

    def training(self, name: str) -> TrainingRecord:
        """The training job of a name. Raises ApiError where there is none."""
        found = self.store.training(self.region, name)
        if found is None:
            raise missing_job()
        return found

    def _found(self, kind: str, name: str) -> Resource:
        found = self.store.resource(self.region, kind, name)
        if found is None:
            raise missing(resources.KINDS[kind], self.arn(kind, name))
        return found

    def allow(self, wanted: Mapping[str, int]) -> None:
        """Hold instances that are asked for, by type, against the limits of the account.

        Raises ApiError (ResourceLimitExceeded).
        """
        used: dict[str, int] = {}
        for _, endpoint in self.store.endpoints(self.region):
            if endpoint.status == "Failed":
                continue
            pending = endpoint.pending.variants if endpoint.pending else ()
            for each in (*endpoint.variants, *pending):
                kind = each.config.get("InstanceType", "")
                used[kind] = used.get(kind, 0) + each.desired_instances
        for kind, count in wanted.items():
            limit = self.limits.get(kind)
            if limit is not None and count > 0 and used.get(kind, 0) + count > limit:
                what = f"{kind} for endpoint usage"
                raise limit_exceeded(what, "Instances", limit=limit, used=used.get(kind, 0), wanted=count)

    def allow_job(self, kind: str, count: int) -> None:
        """Hold a transform job's instances against the limits of the account, which has its own for such jobs.

        Raises ApiError (ResourceLimitExceeded).
        """
        limit = self.limits.get(kind)
        if limit is None:
            return
        asked = [
            each.request["TransformResources"]
            for _, each in self.store.transforms(self.region)
            if each.status in ("InProgress", "Stopping")
        ]
        used = sum(each["InstanceCount"] for each in asked if each["InstanceType"] == kind)
        if used + count > limit:
            what = f"{kind} for transform job usage"
            raise limit_exceeded(what, "Instances", limit=limit, used=used, wanted=count)

    def allow_training(self, kind: str, count: int, *, spot: bool) -> None:
        """Hold a training job's instances against the limits of the account, which has its own for such jobs.

        Raises ApiError (ResourceLimitExceeded).
        """
        limit = self.limits.get(kind)
        if limit is None:
            return
        under_way = [
            each.request["ResourceConfig"]
            for _, each in self.store.trainings(self.region)
            if each.status in ("InProgress", "Stopping") and bool(each.request.get("EnableManagedSpotTraining")) is spot
        ]
        used = sum(int(each.get("InstanceCount") or 1) for each in under_way if each["InstanceType"] == kind)
        if used + count > limit:
            what = f"{kind} for {'spot ' if spot else ''}training job usage"
            raise limit_exceeded(what, "Instances", limit=limit, used=used, wanted=count)


#: An operation: what it answers to a request that satisfies the service model.
Operation: TypeAlias = Callable[[RequestContext, Mapping[str, Any]], Mapping[str, Any]]
