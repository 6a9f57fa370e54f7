"""Host names of AWS: which names belong to AWS, and which service, region and bucket a name stands for.

The DNS suffixes are those of botocore's partitions. Source of the forms of S3's names: Amazon S3 user guide, "Virtual
hosting of general purpose buckets" and "Making requests over dual-stack endpoints".
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from typing import Final

__all__ = ["AwsHost", "is_aws_host", "parse_host", "suffixes"]

_LABEL: Final = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_REGION: Final = re.compile(r"[a-z]{2,4}(?:-[a-z]+)+-\d+")

#: A label of S3's own: s3, s3-fips, s3-accelerate, s3-external-1, and s3-us-west-2, an older form of s3.us-west-2.
_S3: Final = re.compile(r"s3(?:-(?:fips|accelerate|external-1|(?P<region>[a-z]{2,4}(?:-[a-z]+)+-\d+)))?")

_LONGEST_NAME: Final = 253
_DEFAULT_REGION: Final = "us-east-1"


@dataclass(frozen=True, slots=True)
class AwsHost:
    """What a host name says: the service, the region, and the bucket of a virtual-hosted name of S3."""

    service: str
    region: str
    bucket: str = ""


@functools.cache
def suffixes() -> tuple[str, ...]:
    """The DNS suffixes of all partitions, longest first: ``amazonaws.com.cn``, ``amazonaws.com``, ``api.aws``, ..."""
    from botocore.loaders import create_loader

    partitions = create_loader().load_data("partitions")["partitions"]
    outputs = [partition["outputs"] for partition in partitions]
    found = {output[name] for output in outputs for name in ("dnsSuffix", "dualStackDnsSuffix") if output.get(name)}
    return tuple(sorted(found, key=lambda suffix: (-len(suffix), suffix)))


def is_aws_host(name: str) -> bool:
    """Whether a name is a host name below one of AWS's DNS suffixes."""
    return _labels(name) is not None


def parse_host(name: str) -> AwsHost | None:
    """What a host name of AWS stands for; None for other names.

    >>> parse_host("models.s3.eu-west-1.amazonaws.com")
    AwsHost(service='s3', region='eu-west-1', bucket='models')
    >>> parse_host("sts.eu-west-1.amazonaws.com")
    AwsHost(service='sts', region='eu-west-1', bucket='')
    """
    labels = _labels(name)
    if labels is None:
        return None
    regions = [label for label in labels if _REGION.fullmatch(label)]
    region = regions[-1] if regions else _DEFAULT_REGION
    for index in range(len(labels) - 1, -1, -1):
        found = _S3.fullmatch(labels[index])
        if found is not None and _ends_s3_name(labels[index + 1 :]):
            return AwsHost("s3", found["region"] or region, ".".join(labels[:index]))
    others = [label for label in labels if not _REGION.fullmatch(label) and label != "dualstack"]
    service = others[-1].removesuffix("-fips") if others else ""
    return AwsHost(service, region)


def _ends_s3_name(labels: list[str]) -> bool:
    """Whether labels may follow the label of S3 itself: ``dualstack``, and a region."""
    rest = [label for label in labels if label != "dualstack"]
    return len(rest) <= 1 and all(_REGION.fullmatch(label) for label in rest)


def _labels(name: str) -> list[str] | None:
    """The labels of an AWS host name before the suffix; None for other names."""
    name = name.lower().removesuffix(".")
    if len(name) > _LONGEST_NAME:
        return None
    for suffix in suffixes():
        if name.endswith(f".{suffix}"):
            labels = name[: -len(suffix) - 1].split(".")
            return labels if all(_LABEL.fullmatch(label) for label in labels) else None
    return None
