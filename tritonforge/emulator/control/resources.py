"""The description of a kind of resource, and the ARNs of resources. This module does no I/O.

SageMaker writes the resource's name in small letters into the ARN and keeps the spelling in the name (the ListEndpoints
answer in aws/amazon-sagemaker-examples issue 293); names are compared without regard to case (CreateEndpoint, "The name
is case-insensitive").
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, Generic, NamedTuple, TypeVar

from tritonforge.emulator.control import api_errors
from tritonforge.emulator.control.api_errors import ApiError
from tritonforge.emulator.control.records import Record

__all__ = ["Arn", "InstanceUsage", "ResourceKind", "build_arn", "find_partition", "parse_arn"]

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
    missing: Callable[[str, str], ApiError] = api_errors.missing
    taken: Callable[[str, str], ApiError] = api_errors.already_exists
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
