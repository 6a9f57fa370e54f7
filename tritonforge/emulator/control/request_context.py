"""What an operation of the control plane works with: one region's resources, runners, preconditions and quotas."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

from tritonforge.emulator.control import resources
from tritonforge.emulator.control.api_errors import invalid, limit_exceeded
from tritonforge.emulator.control.job_runner import JobRunner, begin_stop
from tritonforge.emulator.control.preconditions import Preconditions
from tritonforge.emulator.control.records import JobRecord, Record, StatusRecord
from tritonforge.emulator.control.resource_store import ResourceStore
from tritonforge.emulator.control.resources import AnyKind, ResourceKind

__all__ = ["Operation", "RequestContext"]

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
        return resources.build_arn(kind.name, name, region=self.region, account=self.account)

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
                raise limit_exceeded(what, "Instances", limit=limit, used=total, wanted=added)

    def _parse_name(self, kind: AnyKind, text: str) -> str:
        """Return the name in a name or an ARN of this region and account. Raises ApiError for another ARN."""
        if not text.startswith("arn:"):
            return text
        arn = resources.parse_arn(text)
        if arn is None or arn.kind != kind.name:
            raise invalid(f"{text!r} is not the ARN of a {kind.noun}.")  # ours
        if arn.region != self.region:
            # amazon-sagemaker-examples issue 1438
            raise invalid(f"ARN should be scoped to correct region: {self.region}")
        if arn.account != self.account:
            raise invalid(f"{text!r} is not of account {self.account}.")  # ours
        return arn.name


def _count(usages: list[resources.InstanceUsage], quota: tuple[str, str]) -> int:
    return sum(usage.instances for usage in usages if usage[:2] == quota)


#: An operation: what it answers to a request that satisfies the service model.
Operation: TypeAlias = Callable[[RequestContext, Mapping[str, Any]], Mapping[str, Any]]
