"""Training jobs and data for these tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tritonforge.training.job import TrainingJob

IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/learner:1"
ROLE = "arn:aws:iam::123456789012:role/TritonForgeExecutionRole"


def channel(name: str, uri: str | Path, data_type: str = "S3Prefix", **members: Any) -> dict[str, Any]:
    """A channel of a request; members of S3DataSource are given in small letters."""
    inner = {key: members.pop(key) for key in ("AttributeNames",) if key in members}
    return {
        "ChannelName": name,
        "DataSource": {"S3DataSource": {"S3DataType": data_type, "S3Uri": str(uri), **inner}},
        **members,
    }


def request(name: str, *channels: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A request that AWS would take, but for what is changed."""
    return {
        "TrainingJobName": name,
        "RoleArn": ROLE,
        "AlgorithmSpecification": {"TrainingImage": IMAGE, "TrainingInputMode": "File"},
        "InputDataConfig": list(channels) or [channel("training", "s3://data/train/")],
        "OutputDataConfig": {"S3OutputPath": "s3://data/models"},
        "ResourceConfig": {"InstanceType": "ml.m5.xlarge", "InstanceCount": 1, "VolumeSizeInGB": 30},
        "StoppingCondition": {"MaxRuntimeInSeconds": 3600},
        **changes,
    }


def job(name: str, *channels: dict[str, Any], **changes: Any) -> TrainingJob:
    """The same as a value."""
    return TrainingJob.from_request(request(name, *channels, **changes))


def pictures(folder: Path, *names: str) -> Path:
    """A folder with files of these names, each with its name as content."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(f"picture {name}".encode())
    return folder


def manifest(path: Path, *lines: dict[str, Any]) -> Path:
    """An augmented manifest."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path
