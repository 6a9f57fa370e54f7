"""The kinds of resources, their ARNs, and the store that holds them by kind, region and name.

Every change is on disk before the caller continues, one file for each resource, replaced as a whole: a process that is
killed at any moment leaves each resource as it was before a change or after it.

SageMaker writes the resource's name in small letters into the ARN and keeps the spelling in the name (the ListEndpoints
answer in aws/amazon-sagemaker-examples issue 293); names are compared without regard to case (CreateEndpoint, "The name
is case-insensitive").
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Generic, NamedTuple, TypeVar

from tritonforge.emulator.control import api_errors
from tritonforge.emulator.control.api_errors import ApiError
from tritonforge.emulator.control.records import Record, StatusRecord, from_json, to_json
from tritonforge.emulator.emulated_s3 import make_private_folder
from tritonforge.errors import LaunchError
from tritonforge.files import write_file

__all__ = ["Arn", "InstanceUsage", "ResourceKind", "ResourceStore", "build_arn", "find_partition", "parse_arn"]

RecordT = TypeVar("RecordT", bound=Record)

_ARN: Final = re.compile(
    r"arn:aws[a-z-]*:sagemaker:(?P<region>[a-z0-9-]*):(?P<account>\d{12}):(?P<kind>[a-z-]+)/(?P<name>.+)"
)


class InstanceUsage(NamedTuple):
    """Instances that a resource uses; ``purpose`` is the end of the quota's name, such as "endpoint usage"."""

    instance_type: str
    purpose: str
    instances: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceKind(Generic[RecordT]):
    """A kind of resource: everything that the store, the tags and the quotas need to know of it.

    ``name`` is the word in ARNs, ``noun`` the words in sentences, ``record`` the class that is stored. ``missing`` and
    ``taken`` make AWS's errors for a name that does not exist (noun, ARN) or that is in use (noun, ARN). ``usage``
    returns the instances that count towards the account's quotas. ``log_group`` is the group in CloudWatch Logs.
    ``has_arn_lookup`` says that requests may give the ARN instead of the name.
    """

    name: str
    noun: str
    record: type[RecordT]
    missing: Callable[[str, str], ApiError] = api_errors.build_not_found_error
    taken: Callable[[str, str], ApiError] = api_errors.build_name_taken_error
    usage: Callable[[RecordT], Iterable[InstanceUsage]] = lambda record: ()
    log_group: str = ""
    has_arn_lookup: bool = False


#: A kind whose record's class does not matter.
AnyKind = ResourceKind[Any]


@dataclass(frozen=True, slots=True)
class Arn:
    """The parts of an ARN; ``name`` is in small letters."""

    region: str
    account: str
    kind: str
    name: str


def find_partition(region: str) -> str:
    """Return the partition of a region: ``aws``, ``aws-cn`` or ``aws-us-gov``."""
    return "aws-cn" if region.startswith("cn-") else "aws-us-gov" if region.startswith("us-gov-") else "aws"


def build_arn(kind: str, name: str, *, region: str, account: str) -> str:
    """Return the ARN of a resource.

    >>> build_arn("endpoint", "Digits", region="eu-west-1", account="123456789012")
    'arn:aws:sagemaker:eu-west-1:123456789012:endpoint/digits'
    """
    return f"arn:{find_partition(region)}:sagemaker:{region}:{account}:{kind}/{name.lower()}"


def parse_arn(text: str) -> Arn | None:
    """Return the parts of an ARN of SageMaker's, None for other text."""
    match = _ARN.fullmatch(text)
    return Arn(match["region"], match["account"], match["kind"], match["name"].lower()) if match else None


StatusT = TypeVar("StatusT", bound=StatusRecord)


class ResourceStore:
    """The resources of one account. Hold `lock` around a reading and the change that follows from it.

    ``kinds`` are those that the store holds; `kind` finds one by the word in ARNs.
    """

    def __init__(
        self, kinds: Iterable[AnyKind], folder: Path | None = None, *, clock: Callable[[], float] = time.time
    ) -> None:
        self.lock = threading.RLock()
        self.kinds = {kind.name: kind for kind in kinds}
        self._folder = folder
        self._clock = clock
        self._records: dict[str, dict[tuple[str, str], Record]] = {name: {} for name in self.kinds}
        if folder is not None:
            for path in folder.glob("*/*/.*.part"):  # a process was killed while it wrote
                path.unlink()
            for path in sorted(folder.glob("*/*/*.json")):
                self._read(path)

    def now(self, after: float = 0.0) -> float:
        """Return seconds since 1970, to the millisecond, as AWS gives them; never less than ``after``.

        ``after`` is the time of the resource's last change: its history stays in order, however the clock is set.
        """
        return max(round(self._clock(), 3), after)

    def find(self, kind: ResourceKind[RecordT], region: str, name: str) -> RecordT | None:
        """Return the resource of a name, in whatever case; None if it does not exist."""
        with self.lock:
            record = self._records[kind.name].get((region, name.lower()))
        assert record is None or isinstance(record, kind.record)
        return record

    def list_region(self, kind: ResourceKind[RecordT], region: str) -> list[RecordT]:
        """Return the resources of a kind in a region."""
        return [record for place, record in self.list_all(kind) if place == region]

    def list_all(self, kind: ResourceKind[RecordT]) -> list[tuple[str, RecordT]]:
        """Return the resources of a kind in all regions, each with its region."""
        with self.lock:
            pairs = [(region, record) for (region, _), record in self._records[kind.name].items()]
        return [(region, record) for region, record in pairs if isinstance(record, kind.record)]

    def put(self, kind: ResourceKind[RecordT], region: str, record: RecordT) -> None:
        """Write a resource, new or changed."""
        with self.lock:
            path = self._build_path(kind, region, record.name)
            if path is not None:
                make_private_folder(path.parent)
                write_file(path, json.dumps(to_json(record), indent=1).encode(), mode=0o600, sync=False)
            self._records[kind.name][region, record.name.lower()] = record

    def change(
        self, kind: ResourceKind[StatusT], region: str, name: str, change: Callable[[StatusT, float], StatusT]
    ) -> StatusT:
        """Write what a function makes of an existing resource and the time of the change; return it."""
        with self.lock:
            record = self.find(kind, region, name)
            assert record is not None
            changed = change(record, self.now(record.modified))
            self.put(kind, region, changed)
        return changed

    def remove(self, kind: AnyKind, region: str, name: str) -> None:
        """Remove a resource; it may be missing."""
        with self.lock:
            path = self._build_path(kind, region, name)
            if path is not None:
                path.unlink(missing_ok=True)
            self._records[kind.name].pop((region, name.lower()), None)

    def _read(self, path: Path) -> None:
        region, name = path.parts[-3], path.parts[-2]
        try:
            record: Record = from_json(self.kinds[name].record, json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError, LookupError) as error:
            raise LaunchError(
                f"{path}: not a resource that an emulator wrote: {error}. Remove the file to do without it."
            ) from error
        self._records[name][region, record.name.lower()] = record

    def _build_path(self, kind: AnyKind, region: str, name: str) -> Path | None:
        # The name of a version of a model package is "group/version".
        file = f"{name.lower().replace('/', '.')}.json"
        return None if self._folder is None else self._folder / region / kind.name / file
