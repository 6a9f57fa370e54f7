"""The seeds' own training jobs, as what AWS's SDK sends for their estimators, with the seeds' defects fixed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.accounts import COUNTER_PROGRAM, TrainingAccount, open_training_account
from tests.support.peers import Peers

pytestmark = pytest.mark.process

#: The images of seeds 3 and 4: a framework's training image, and that of the built-in object detection.
JUMPSTART = "763104351884.dkr.ecr.us-east-1.amazonaws.com/tensorflow-training:2.11-gpu-py39"
DETECTION = "811284229777.dkr.ecr.us-east-1.amazonaws.com/object-detection:1"

#: Seed 4's label, by its real name; the console's picture of it has lost what lies between it and source-ref.
LABEL = "sthakur-groundtruth-demo"

#: Seed 4's image and its four cars.
CARS = {
    "annotations": [
        {"class_id": 0, "width": 162, "top": 458, "height": 89, "left": 378},
        {"class_id": 0, "width": 201, "top": 434, "height": 96, "left": 602},
        {"class_id": 0, "width": 61, "top": 434, "height": 39, "left": 343},
        {"class_id": 0, "width": 66, "top": 426, "height": 47, "left": 240},
    ],
    "image_size": [{"width": 1280, "depth": 3, "height": 960}],
}


def digest(content: bytes) -> str:
    """What the program notes of a sample."""
    return hashlib.sha256(content).hexdigest()[:8]


@pytest.fixture(scope="module")
def seeds() -> Iterator[TrainingAccount]:
    """An emulator that has the seeds' images, and holds seed 4's manifest."""
    with open_training_account(images={JUMPSTART: COUNTER_PROGRAM, DETECTION: COUNTER_PROGRAM}) as account:
        line = {
            "source-ref": f"s3://{account.bucket}/demo/images/SSDB00004.JPG",
            LABEL: CARS,
            f"{LABEL}-metadata": {
                "job-name": f"labeling-job/{LABEL}",
                "class-map": {"0": "car"},
                "human-annotated": "yes",
                "objects": [{"confidence": 0.09}] * 4,
                "creation-date": "2018-12-13T21:24:33.546706",
                "type": "groundtruth/object-detection",
            },
        }
        account.put({"demo/images/SSDB00004.JPG": b"a photograph", "seed4/output.manifest": json.dumps(line).encode()})
        yield account


@pytest.mark.process
def test_transfer_learning(seeds: TrainingAccount) -> None:
    """Seed 3's Estimator: a channel of a folder, the pre-trained model in another, hyperparameters by real names."""
    seeds.put(
        {
            "PennFudanPed_COCO_format/images/abc.png": b"a picture",
            "PennFudanPed_COCO_format/annotations.json": b'{"images": [], "annotations": []}',
            "pretrained/model.tar.gz": b"an archive",
        }
    )
    hyperparameters = {
        "epochs": "5",
        "batch_size": "3",
        "train_only_on_top_layer": "False",  # the seed writes train_only_top_layer, which the algorithm has not
        "sagemaker_program": json.dumps("transfer_learning.py"),
        "sagemaker_submit_directory": json.dumps(f"s3://{seeds.bucket}/sourcedir.tar.gz"),
    }
    seeds.sagemaker.create_training_job(
        TrainingJobName="jumpstart-example-tensorflow-od-training",
        AlgorithmSpecification={
            "TrainingImage": JUMPSTART,
            "TrainingInputMode": "File",
            "MetricDefinitions": [{"Name": "samples", "Regex": r"samples=([0-9\.]+);"}],
        },
        OutputDataConfig={"S3OutputPath": f"s3://{seeds.bucket}/out"},
        StoppingCondition={"MaxRuntimeInSeconds": 360000},
        ResourceConfig={"InstanceCount": 1, "InstanceType": "ml.p3.2xlarge", "VolumeSizeInGB": 30},
        InputDataConfig=[
            seeds.build_channel("PennFudanPed_COCO_format/", name="training"),
            seeds.build_channel("pretrained/model.tar.gz", name="model", ContentType="application/x-sagemaker-model"),
        ],
        HyperParameters=hyperparameters,
        RoleArn=seeds.emulator.role_arn,
    )
    found = seeds.wait_for_end("jumpstart-example-tensorflow-od-training")
    assert found["TrainingJobStatus"] == "Completed", found
    model = seeds.read_model("jumpstart-example-tensorflow-od-training")
    assert model["hyperparameters"] == hyperparameters
    assert model["seen"] == [
        digest(b"an archive"),  # channel model
        digest(b'{"images": [], "annotations": []}'),
        digest(b"a picture"),
    ]
    assert [item["Value"] for item in found["FinalMetricDataList"]] == [3.0]


def channels(seeds: TrainingAccount, **changes: Any) -> list[dict[str, Any]]:
    """Seed 4's two channels over one manifest."""
    found = []
    for name in ("train", "validation"):
        channel = seeds.build_channel(
            "seed4/output.manifest",
            kind="AugmentedManifestFile",
            name=name,
            attributes=["source-ref", LABEL],
            **changes,
        )
        channel["DataSource"]["S3DataSource"]["S3DataDistributionType"] = "FullyReplicated"
        found.append(channel)
    return found


def estimator(seeds: TrainingAccount, name: str, inputs: list[dict[str, Any]]) -> dict[str, Any]:
    """Seed 4's Estimator, whose arguments of SDK version 1 have other names in version 2, and its fit()."""
    seeds.sagemaker.create_training_job(
        TrainingJobName=name,
        AlgorithmSpecification={"TrainingImage": DETECTION, "TrainingInputMode": "Pipe"},
        RoleArn=seeds.emulator.role_arn,
        OutputDataConfig={"S3OutputPath": f"s3://{seeds.bucket}/out"},
        ResourceConfig={"InstanceCount": 1, "InstanceType": "ml.p3.2xlarge", "VolumeSizeInGB": 50},
        StoppingCondition={"MaxRuntimeInSeconds": 360000},
        InputDataConfig=inputs,
    )
    return seeds.wait_for_end(name)


@pytest.mark.process
def test_labelled_by_ground_truth(seeds: TrainingAccount) -> None:
    inputs = channels(seeds, ContentType="application/x-recordio", RecordWrapperType="RecordIO")
    found = estimator(seeds, "od-model", inputs)
    assert found["TrainingJobStatus"] == "Completed", found
    seen = seeds.read_model("od-model")["seen"]
    assert len(seen) == 4  # two records a channel
    assert seen[0] == seen[2] == digest(b"a photograph")
    assert seen[1] == seen[3]


@pytest.mark.process
def test_without_the_record_wrapper(seeds: TrainingAccount) -> None:
    found = estimator(seeds, "od-model-as-written", channels(seeds, ContentType="image/jpeg"))
    assert found["TrainingJobStatus"] == "Completed", found
    assert len(seeds.read_model("od-model-as-written")["seen"]) == 2  # one stream a channel


@pytest.mark.process
def test_the_sdk_s_job(seeds: TrainingAccount, peers: Peers) -> None:
    """sagemaker-core creates a job, waits for it, reads its artifacts and finds it again."""
    script = Path(__file__).with_name("core_job.py")
    stated = peers.sdk_3(seeds.emulator, script, seeds.bucket, seeds.emulator.role_arn, DETECTION)
    reported = json.loads(stated[stated.index('{"status"') :])  # after what the SDK draws while it waits
    assert reported["status"] == "Completed"
    assert reported["arn"].endswith(":training-job/core-job")
    assert reported["artifacts"] == f"s3://{seeds.bucket}/out/core-job/output/model.tar.gz"
    assert reported["names"] == ["core-job"]


@pytest.mark.process
def test_the_command_line_s_job(seeds: TrainingAccount, peers: Peers) -> None:
    """AWS's own command line: create-training-job in its shorthand, wait, describe."""

    def aws(*arguments: str) -> Any:
        return peers.aws(seeds.emulator, "sagemaker", *arguments)

    source = f"DataSource={{S3DataSource={{S3DataType=S3Prefix,S3Uri=s3://{seeds.bucket}/data/}}}}"
    aws(
        "create-training-job",
        *("--training-job-name", "cli-job"),
        *("--algorithm-specification", f"TrainingImage={DETECTION},TrainingInputMode=File"),
        *("--role-arn", seeds.emulator.role_arn),
        *("--input-data-config", f"ChannelName=train,{source}"),
        *("--output-data-config", f"S3OutputPath=s3://{seeds.bucket}/out"),
        *("--resource-config", "InstanceType=ml.m5.xlarge,InstanceCount=1,VolumeSizeInGB=10"),
        *("--stopping-condition", "MaxRuntimeInSeconds=600"),
    )
    seeds.wait_for_end("cli-job")  # the command's own wait looks every two minutes
    aws("wait", "training-job-completed-or-stopped", "--training-job-name", "cli-job")
    assert aws("describe-training-job", "--training-job-name", "cli-job")["TrainingJobStatus"] == "Completed"
