"""The whole road with the real detector: boxes in, Pipe mode, a model, an endpoint of its own image, boxes out."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.accounts import TrainingAccount, open_training_account
from tests.support.checkout import ROOT

sys.path.insert(0, str(ROOT / "tests" / "fixtures"))

import make_detections

# What this proves of the whole, smaller tests prove of its parts: `test_road` that a program trains from an augmented
# manifest in Pipe mode and serves on an endpoint, `test_control_plane` metrics and FailureReason, and
# `end_to_end/test_detector*` that the detector's own programs train from a pipe, refuse wrong hyperparameters, and
# answer with boxes.
pytestmark = [pytest.mark.server, pytest.mark.framework, pytest.mark.long]

DETECTOR = "123456789012.dkr.ecr.us-east-1.amazonaws.com/detector:1"
SETTINGS = {"epochs": "1", "batch_size": "4", "image_size": "64"}
IMAGES = 12


@pytest.fixture(scope="module")
def uploaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TrainingAccount, Path]]:
    """An emulator that has the detector's image, with labelled pictures in its S3, and their folder."""
    folder = tmp_path_factory.mktemp("pictures") / "digits"
    with open_training_account(images={DETECTOR: ROOT / "repos" / "detector"}) as account:
        make_detections.make(folder, IMAGES, classes=(3, 7), prefix=f"s3://{account.bucket}/digits/")
        files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        account.put({f"digits/{path.relative_to(folder)}": path.read_bytes() for path in files})
        yield account, folder


@pytest.fixture(scope="module")
def model(uploaded: tuple[TrainingAccount, Path]) -> tuple[TrainingAccount, Path, str]:
    """The address of the detector's model, trained from the augmented manifest."""
    account, folder = uploaded
    (manifest,) = folder.glob("*.manifest")
    channel = account.build_channel(
        f"digits/{manifest.name}",
        kind="AugmentedManifestFile",
        name="training",
        attributes=["source-ref", "digits"],
        RecordWrapperType="RecordIO",
        ContentType="application/x-recordio",
    )
    request = account.build_request("detector", mode="Pipe", InputDataConfig=[channel], HyperParameters=SETTINGS)
    request["AlgorithmSpecification"] |= {
        "TrainingImage": DETECTOR,
        "MetricDefinitions": [
            {"Name": "validation:localization_loss", "Regex": r"Val_localization=([0-9\.]+)"},
            {"Name": "train:loss", "Regex": r"loss=([0-9\.]+)."},
        ],
    }
    account.sagemaker.create_training_job(**request)
    found = account.wait_for_end("detector", seconds=240)
    assert found["TrainingJobStatus"] == "Completed", (found.get("FailureReason"), account.read_log("detector"))
    assert {item["MetricName"] for item in found["FinalMetricDataList"]} == {
        "validation:localization_loss",
        "train:loss",
    }
    return account, folder, str(found["ModelArtifacts"]["S3ModelArtifacts"])


def test_an_endpoint_answers_with_boxes(model: tuple[TrainingAccount, Path, str]) -> None:
    """A JPEG as application/x-image; the answer is that of SageMaker's own detector."""
    account, folder, artifact = model
    endpoint = account.deploy_model("detector", Image=DETECTOR, ModelDataUrl=artifact)
    assert endpoint["EndpointStatus"] == "InService", endpoint
    picture = next(folder.rglob("*.jpg")).read_bytes()

    def asked(accept: str) -> dict[str, Any]:
        answer = account.runtime.invoke_endpoint(
            EndpointName="detector", Body=picture, ContentType="application/x-image", Accept=accept
        )
        return dict(json.loads(answer["Body"].read()))

    plain = asked("application/json")
    assert plain.keys() == {"normalized_boxes", "classes", "scores"}
    few = asked("application/json;verbose;n_predictions=2")
    assert few["labels"] == ["3", "7"]
    assert len(few["normalized_boxes"]) == min(2, len(plain["normalized_boxes"]))
    for left, top, right, bottom in plain["normalized_boxes"]:
        assert 0 <= left <= right <= 1
        assert 0 <= top <= bottom <= 1
    account.sagemaker.delete_endpoint(EndpointName="detector")


def test_a_job_with_an_unknown_hyperparameter(uploaded: tuple[TrainingAccount, Path]) -> None:
    """The detector's own sentence names it, and the name that was meant, in FailureReason as in the log."""
    account, _ = uploaded
    request = account.build_request(
        "unknown",
        InputDataConfig=[account.build_channel("digits/", name="training")],
        HyperParameters={"train_only_top_layer": "True"},
    )
    request["AlgorithmSpecification"]["TrainingImage"] = DETECTOR
    account.sagemaker.create_training_job(**request)
    found = account.wait_for_end("unknown", seconds=240)
    assert found["TrainingJobStatus"] == "Failed"
    assert "train_only_top_layer" in found["FailureReason"]
    assert "train_only_on_top_layer" in found["FailureReason"]
    assert found["FailureReason"].endswith(", exit code: 2")
    (lines,) = account.read_log("unknown").values()
    assert any("train_only_on_top_layer" in line for line in lines)
