"""Hostile archives through `deploy` and CreateModel: the endpoint fails with a reason, and nothing else happens."""

from __future__ import annotations

import contextlib
import gzip
import io
import tarfile
import time
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.support.archives import END, header, pax
from tests.support.model_archives import LEAF
from tritonforge.emulator import Emulator
from tritonforge.errors import TritonForgeError
from tritonforge.sagemaker.endpoints import local_repository

pytestmark = pytest.mark.process

MODEL = [
    header("leaf/config.pbtxt", LEAF.encode()),
    header("leaf/1/model.py", b"class TritonPythonModel:\n    def execute(self, requests): ...\n"),
]
LINK, DIRECTORY = {"type": tarfile.SYMTYPE}, {"type": tarfile.DIRTYPE}


def pack_members(*parts: bytes) -> bytes:
    """An archive of a model and what is hostile in it."""
    return gzip.compress(b"".join([*MODEL, *parts]) + END, 1)


HOSTILE = {
    "escape": pack_members(header("../../out", b"x")),
    "absolute": pack_members(header("/etc/cron.d/x", b"x")),
    "link-out": pack_members(header("leaf/2", linkname="../../..", **LINK), header("leaf/2/out", b"x")),
    "link-out-only": pack_members(header("leaf/labels.txt", linkname="/etc/passwd", **LINK)),
    "device": pack_members(header("leaf/null", type=tarfile.CHRTYPE, devmajor=1, devminor=3)),
    "records": pack_members(pax(b"5 a=\n" * 100_000), header("leaf/x", b"x")),
    "directories": pack_members(header("leaf", **DIRECTORY) * 5000, header("../out", b"x")),
    "loop": pack_members(header("leaf/1/up", linkname="..", **LINK)),
    "names": pack_members(header("x\n::error::forged\x1b[2J/1/model.py", b"x")),
    "empty": gzip.compress(END),
    "no-tar": b"\x1f\x8b" + bytes(20),
    "cut": pack_members()[:-20],
}


@pytest.mark.parametrize("name", HOSTILE)
def test_deploy_reads_hostile_archives(name: str, tmp_path: Path) -> None:
    """It is read as a package or refused in a sentence, before anything is sent; nothing is left or written outside."""
    path = tmp_path / "model.tar.gz"
    path.write_bytes(HOSTILE[name])
    is_read = False
    with contextlib.suppress(TritonForgeError), local_repository.open_repository(path) as repository:
        is_read = bool(repository.content.digest)
    assert is_read == (name in ("records", "names", "empty"))
    assert list(tmp_path.iterdir()) == [path]
    assert not Path("/etc/cron.d/x").exists()


def test_endpoints_of_hostile_archives_fail_with_a_reason() -> None:
    """Each of them, while the emulator continues to answer; and the reasons steer no terminal."""
    lines: list[str] = []
    names = [name for name in HOSTILE if name not in ("records", "names", "loop")]
    with Emulator(port=0, speed=1000.0, log=lines.append) as emulator, contextlib.ExitStack():
        access: dict[str, Any] = {
            "endpoint_url": emulator.url, "region_name": "us-east-1",
            "aws_access_key_id": "testing", "aws_secret_access_key": "testing",
        }  # fmt: skip
        s3, sagemaker = boto3.client("s3", **access), boto3.client("sagemaker", **access)
        s3.create_bucket(Bucket="models")
        image = "785573368785.dkr.ecr.us-east-1.amazonaws.com/sagemaker-tritonserver:24.09-py3"
        for name in names:
            s3.upload_fileobj(io.BytesIO(HOSTILE[name]), "models", f"{name}/model.tar.gz")
            container = {"Image": image, "ModelDataUrl": f"s3://models/{name}/model.tar.gz"}
            sagemaker.create_model(ModelName=name, ExecutionRoleArn=emulator.role_arn, PrimaryContainer=container)
            variant = {"VariantName": "a", "ModelName": name, "InitialInstanceCount": 1, "InstanceType": "ml.c5.large"}
            sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant])
            sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
        waiting, reasons = set(names), {}
        deadline = time.monotonic() + 300
        while waiting and time.monotonic() < deadline:
            for name in sorted(waiting):
                found = sagemaker.describe_endpoint(EndpointName=name)
                if found["EndpointStatus"] != "Creating":
                    waiting.remove(name)
                    reasons[name] = (found["EndpointStatus"], found.get("FailureReason", ""))
            time.sleep(0.05)
    assert {name: status for name, (status, _) in reasons.items()} == dict.fromkeys(names, "Failed")
    assert all(reason for _, reason in reasons.values())
    assert all(line.isprintable() for line in lines)
    assert not Path("/etc/cron.d/x").exists()
