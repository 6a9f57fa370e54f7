"""Amazon Resource Names of SageMaker's resources. This module does no I/O.

SageMaker writes the resource's name in small letters into the ARN and keeps the spelling in the name (the ListEndpoints
answer in aws/amazon-sagemaker-examples issue 293); names are told apart without regard to case (CreateEndpoint,
"The name is case-insensitive").
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

__all__ = ["KINDS", "Arn", "build_arn", "find_partition", "parse_arn"]

#: How a sentence names a resource, by the word that its ARN has for it.
KINDS: Final = {
    "model": "model",
    "endpoint-config": "endpoint configuration",
    "endpoint": "endpoint",
    "transform-job": "transform job",
    "training-job": "training job",
    "algorithm": "algorithm",
    "model-package": "model package",
    "model-package-group": "model package group",
}

_ARN: Final = re.compile(
    r"arn:aws[a-z-]*:sagemaker:(?P<region>[a-z0-9-]*):(?P<account>\d{12}):(?P<kind>[a-z-]+)/(?P<name>.+)"
)


@dataclass(frozen=True, slots=True)
class Arn:
    """An ARN taken apart; ``name`` is in small letters."""

    region: str
    account: str
    kind: str
    name: str


def find_partition(region: str) -> str:
    """The partition of a region: ``aws``, ``aws-cn`` or ``aws-us-gov``."""
    return "aws-cn" if region.startswith("cn-") else "aws-us-gov" if region.startswith("us-gov-") else "aws"


def build_arn(kind: str, name: str, *, region: str, account: str) -> str:
    """The ARN of a resource.

    >>> arn("endpoint", "Digits", region="eu-west-1", account="123456789012")
    'arn:aws:sagemaker:eu-west-1:123456789012:endpoint/digits'
    """
    return f"arn:{find_partition(region)}:sagemaker:{region}:{account}:{kind}/{name.lower()}"


def parse_arn(text: str) -> Arn | None:
    """The parts of an ARN of SageMaker's; None for other text."""
    found = _ARN.fullmatch(text)
    return Arn(found["region"], found["account"], found["kind"], found["name"].lower()) if found else None
