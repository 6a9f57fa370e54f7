"""AWS's SageMaker SDKs, version 2 and 3, unmodified, on an emulator: their own steps, and the code of AWS's posts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.support.accounts import COUNTER_PROGRAM as PROGRAM
from tests.support.peers import Peers, run_sdk_2
from tritonforge.emulator import Emulator

pytestmark = pytest.mark.process

IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/counter:1"

#: The training image that the SDK finds for the model of the post, by the specification that `jumpstart` writes.
JUMPSTART = "763104351884.dkr.ecr.us-east-1.amazonaws.com/tensorflow-training:2.11-gpu-py39"
MODEL = "tensorflow-od1-ssd-resnet50-v1-fpn-640x640-coco17-tpu-8"
CACHE = "jumpstart-cache-prod-us-east-1"
LABEL = "sthakur-groundtruth-demo"


@pytest.fixture(scope="module")
def emulator() -> Iterator[Emulator]:
    """An emulator with a proxy, whose images are the program that counts its samples."""
    with Emulator(speed=1000, proxy_port=0, images={IMAGE: PROGRAM, JUMPSTART: PROGRAM}) as running:
        yield running


def identity(emulator: Emulator) -> dict[str, str]:
    """What AWS's SDK asks STS for."""
    return {"role": emulator.role_arn, "bucket": emulator.bucket, "account": emulator.account}


def client(emulator: Emulator, service: str) -> Any:
    """A boto3 client of the emulator."""
    keys = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing", "region_name": "us-east-1"}
    return boto3.client(service, endpoint_url=emulator.url, **keys)


@pytest.fixture(scope="module")
def sdk_2(emulator: Emulator, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder with what the scripts on SDK 2 wrote, a file each, and what they printed."""
    folder = tmp_path_factory.mktemp("sdk-2")
    s3 = client(emulator, "s3")
    s3.put_object(Bucket=emulator.bucket, Key="street/1.jpg", Body=b"a photograph")
    line = {"source-ref": f"s3://{emulator.bucket}/street/1.jpg", LABEL: {"annotations": []}}
    s3.put_object(Bucket=emulator.bucket, Key="labelled/output.manifest", Body=json.dumps(line).encode())
    write_jumpstart(s3)
    _, printed = run_sdk_2(
        emulator,
        ("sdk2_steps.py", IMAGE, str(folder / "steps")),
        ("seed_manifest.py", IMAGE, emulator.role_arn, f"s3://{emulator.bucket}/labelled", str(folder / "manifest")),
        ("seed_jumpstart.py", str(folder / "jumpstart")),
        ("sdk2_processing.py", IMAGE, str(folder / "processing")),
    )
    return folder, printed


def read(file: Path, printed: str) -> Any:
    """What a script wrote."""
    assert file.exists(), printed[-6000:]
    return json.loads(file.read_text())


def test_sdk_2_trains_attaches_deploys_registers_and_transforms(emulator: Emulator, sdk_2: tuple[Path, str]) -> None:
    """`Estimator`, `attach`, `Predictor`, `register`, `ModelPackage`, `Transformer`, and the default bucket."""
    result = read(sdk_2[0] / "steps", sdk_2[1])
    assert result["identity"] == identity(emulator)
    assert "epoch=1 samples=2;" in sdk_2[1]  # the job's log, which fit() shows
    assert result["attached"] == [True, "2"]
    assert (result["predicted"]["samples"], result["predicted"]["body"]) == (2, "1,2")
    assert result["package"].endswith(":model-package/counters/1")
    assert result["deployed"] == "InService"
    assert result["transformer"] == ["SingleRecord", "Line", True]
    assert result["outputs"] == ["transformed/a.out", "transformed/b.out"]


def test_the_code_of_the_post_on_labelled_data(emulator: Emulator, sdk_2: tuple[Path, str]) -> None:
    """Two channels of an augmented manifest, through pipes, with the names of SDK 1 that SDK 2 still takes."""
    status, model_data = read(sdk_2[0] / "manifest", sdk_2[1])
    assert status == "Completed"
    assert model_data.startswith(f"s3://{emulator.bucket}/labelled/model/")


def test_the_code_of_the_post_on_transfer_learning(sdk_2: tuple[Path, str]) -> None:
    """JumpStart's manifest, specification, script and model are read from its bucket, which is here."""
    result = read(sdk_2[0] / "jumpstart", sdk_2[1])
    assert result["image"] == JUMPSTART
    assert result["source"] == f"s3://{CACHE}/source/transfer_learning.tar.gz"
    assert result["status"] == "Completed"
    assert (result["hyperparameters"]["epochs"], result["hyperparameters"]["batch_size"]) == ('"5"', '"3"')
    assert result["channels"] == {
        "training": f"s3://{CACHE}/training-datasets/PennFudanPed_COCO_format/",
        "model": f"s3://{CACHE}/model/pretrained.tar.gz",
    }


def test_script_processor_of_sdk_2(sdk_2: tuple[Path, str]) -> None:
    """It uploads a script of this machine, waits, and shows the job's log."""
    report = read(sdk_2[0] / "processing", sdk_2[1])
    assert report == {"status": "Completed", "message": "done", "outputs": ["upper.txt"], "content": "ONE TWO"}
    assert "the script runs with --shout" in sdk_2[1]


def test_sdk_3_trains_builds_deploys_and_registers(emulator: Emulator, peers: Peers, tmp_path: Path) -> None:
    """`ModelTrainer`, `ModelBuilder`, its endpoint and its model package."""
    script = Path(__file__).with_name("sdk3_steps.py")
    printed = peers.sdk_3(emulator, script, IMAGE, str(tmp_path / "steps"), proxy=True)
    result = read(tmp_path / "steps", printed)
    assert result["identity"] == identity(emulator)
    assert result["job"] == "Completed"
    assert (result["predicted"]["samples"], result["predicted"]["body"]) == (1, "1,2")
    assert result["package"].endswith(":model-package/builders/1")


def write_jumpstart(s3: Any) -> None:
    """Write what of JumpStart's bucket the post's code needs; the names of the members are those of its files."""
    s3.create_bucket(Bucket=CACHE)
    version = "1.0.0"
    header = {"model_id": MODEL, "version": version, "min_version": "2.0.0", "spec_key": "specs/od1.json"}
    hyperparameters = [
        {"name": name, "type": kind, "default": default, "scope": "algorithm"}
        for name, kind, default in (("epochs", "int", "3"), ("batch_size", "int", "3"))
    ]
    specification = {
        "model_id": MODEL,
        "url": "https://tfhub.dev",
        "version": version,
        "min_sdk_version": "2.0.0",
        "training_supported": True,
        "incremental_training_supported": False,
        "hosting_artifact_key": "model/hosted.tar.gz",
        "hosting_script_key": "source/inference.tar.gz",
        "training_instance_type_variants": {
            "regional_aliases": {"us-east-1": {"gpu_ecr_uri": JUMPSTART}},
            "variants": {"p3": {"regional_properties": {"image_uri": "$gpu_ecr_uri"}}},
        },
        "training_artifact_key": "model/pretrained.tar.gz",
        "training_script_key": "source/transfer_learning.tar.gz",
        "hyperparameters": hyperparameters,
        "default_training_instance_type": "ml.p3.2xlarge",
        "supported_training_instance_types": ["ml.p3.2xlarge"],
    }
    objects = {
        "models_manifest.json": json.dumps([header]).encode(),
        "proprietary-sdk-manifest.json": b"[]",
        "specs/od1.json": json.dumps(specification).encode(),
        "source/transfer_learning.tar.gz": b"an archive",
        "model/pretrained.tar.gz": b"an archive",
        "training-datasets/PennFudanPed_COCO_format/annotations.json": b"{}",
    }
    for key, body in objects.items():
        checksum = hashlib.md5(body, usedforsecurity=False).hexdigest()
        s3.put_object(Bucket=CACHE, Key=key, Body=body, Metadata={"md5": checksum})
