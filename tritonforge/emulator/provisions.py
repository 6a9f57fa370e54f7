"""What an account has from the start: the execution role for models, and the SDK's default bucket."""

from __future__ import annotations

import json
from typing import Final

from tritonforge.emulator.front.moto_backend import Neighbours

__all__ = ["default_bucket", "execution_role"]

#: The role, in the place where SageMaker's console puts its own.
_ROLE: Final = "TritonForgeExecutionRole"
_ROLE_PATH: Final = "/service-role/"

_TRUST: Final = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Principal": {"Service": "sagemaker.amazonaws.com"}, "Action": "sts:AssumeRole"}
        ],
    }
)


def execution_role(neighbours: Neighbours, region: str) -> str:
    """The ARN of the role that SageMaker may assume; it is created where it is missing."""
    iam = neighbours.client("iam", region)
    for role in iam.list_roles(PathPrefix=_ROLE_PATH)["Roles"]:
        if role["RoleName"] == _ROLE:
            return str(role["Arn"])
    made = iam.create_role(RoleName=_ROLE, Path=_ROLE_PATH, AssumeRolePolicyDocument=_TRUST)
    return str(made["Role"]["Arn"])


def default_bucket(neighbours: Neighbours, region: str) -> str:
    """The name of the bucket that AWS's SDK takes where none is named; it is created where it is missing."""
    s3 = neighbours.client("s3", region)
    name = f"sagemaker-{region}-{neighbours.account}"
    if name not in {bucket["Name"] for bucket in s3.list_buckets()["Buckets"]}:
        place = {} if region == "us-east-1" else {"LocationConstraint": region}
        s3.create_bucket(Bucket=name, **({"CreateBucketConfiguration": place} if place else {}))
    return name
