"""A detector that is really learned: from boxes to a model repository, on the real server, and answered over HTTP."""

import json
import shutil
import signal
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import detector_programs as detection
from tests.support.detector_programs import running
from tritonforge.inference.client import Client
from tritonforge.serving.server import Server
from tritonforge.training.detection import Detections, compute_iou, compute_mean_average_precision, from_rows_first
from tritonforge.validation.report import validate

pytestmark = [pytest.mark.server, pytest.mark.framework]


@pytest.fixture(scope="module")
def served(learned: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The container's folder with one process for each model: on a CPU Triton starts two of most."""
    base = tmp_path_factory.mktemp("served")
    shutil.copytree(learned / "model", base / "model")
    for config in base.glob("model/*/config.pbtxt"):
        if "ensemble" not in config.read_text():
            with config.open("a") as file:
                file.write("instance_group { count: 1 kind: KIND_CPU }\n")
    return base


@pytest.fixture(scope="module")
def server(served: Path) -> Iterator[Server]:
    """A real tritonserver on what was learned."""
    with Server(
        served / "model",
        models=["detect", "detector_image_bytes"],
        sagemaker_port=None,
        http_port=0,
        grpc_port=None,
        metrics_port=None,
    ) as running_server:
        yield running_server


def test_heldout_digits_are_found_through_the_ensemble(server: Server, learned: Path, shared: Path) -> None:
    """Mean average precision at IoU 0.5 is at least 0.8 on pictures with other digits and other backgrounds."""
    images, truths = detection.truth(shared / "detector-heldout")
    labels = (learned / "model/detector/labels.txt").read_text().splitlines()
    found: list[Detections] = []
    with Client(str(server.http_url), model="detect") as client:
        for start in range(0, len(images), 20):
            answer = client.infer_images(images[start : start + 20])
            for row, count in enumerate(answer["count"].reshape(-1)):
                boxes, classes, scores, names = (
                    answer[output][row] for output in ("boxes", "classes", "scores", "labels")
                )
                assert [name.decode() for name in names[:count]] == [labels[index] for index in classes[:count]]
                assert not scores[count:].any()
                assert (classes[count:] == -1).all()
                found.append(Detections(boxes[:count], [int(name) for name in names[:count]], scores[:count]))
    precision = compute_mean_average_precision(truths, found)
    assert sorted(precision.by_class) == [0, 1, 2]
    assert precision.mean >= 0.8, precision


def test_the_saved_model_that_takes_encoded_images_finds_the_same(server: Server, shared: Path) -> None:
    """What the ensemble is surest of, `detector_image_bytes` finds too, in the Object Detection API's form."""
    images, _ = detection.truth(shared / "detector-heldout")
    with Client(str(server.http_url)) as client:
        ensemble = client.infer_images(images[:8], model="detect")
        whole = client.infer_images(images[:8], model="detector_image_bytes")
    for row in range(8):
        count = int(whole["num_detections"][row].item())
        boxes = from_rows_first(whole["detection_boxes"][row][:count])
        for box, number, score in zip(
            *(ensemble[output][row] for output in ("boxes", "classes", "scores")), strict=True
        ):
            if score > 0.5:  # each side resizes in its own way, which may turn what is less sure around
                same = whole["detection_classes"][row][:count] == number
                assert compute_iou([box], boxes[same]).max() > 0.8


def test_triton_loads_what_was_learned(learned: Path) -> None:
    """`tritonforge validate` finds nothing, and the model directory holds model folders only."""
    assert not validate(learned / "model")
    assert sorted(path.name for path in (learned / "model").iterdir()) == [
        "decode",
        "detect",
        "detector",
        "detector_image_bytes",
        "postprocess",
    ]


def test_predictor_code_of_the_seed_reads_the_answers(served: Path, shared: Path) -> None:
    """`serve` answers pings, encoded images in every form of Accept, refuses the rest, and ends on SIGTERM."""
    images, truths = detection.truth(shared / "detector-heldout")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    with running("serve", served, SAGEMAKER_BIND_TO_PORT=str(port)) as process:
        deadline = time.monotonic() + 200
        while ask(f"{url}/ping")[0] != 200:
            assert process.poll() is None, (served / "serve.err").read_text()[-2000:]
            assert time.monotonic() < deadline
            time.sleep(0.2)
        verbose = {"Content-Type": "application/x-image", "Accept": "application/json;verbose;n_predictions=5"}
        status, body = ask(f"{url}/invocations", images[0], verbose)
        assert status == 200, body
        boxes, classes, scores, labels = parse_response(body)
        assert len(boxes) <= 5
        sides = compute_iou(boxes[:1], truths[0].boxes)
        assert sides.max() >= 0.5
        assert int(labels[int(classes[0])]) == truths[0].classes[int(sides.argmax())]
        assert scores == sorted(scores, reverse=True)
        plain = json.loads(ask(f"{url}/invocations", images[0], {"Content-Type": "application/x-image"})[1])
        assert sorted(plain) == ["classes", "normalized_boxes", "scores"]
        for data, headers, refused, words in (
            (b"{}", {"Content-Type": "application/json"}, 415, "application/x-image"),
            (images[0], {"Content-Type": "application/x-image", "Accept": "text/csv"}, 406, "application/json"),
            (b"", {"Content-Type": "application/x-image"}, 400, "empty"),
            (b"no image", {"Content-Type": "application/x-image"}, 400, "image"),
        ):
            status, body = ask(f"{url}/invocations", data, headers)
            assert (status, words in body) == (refused, True), body
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


def parse_response(query_response: str) -> tuple[Any, ...]:
    """As AWS's notebook "Introduction to SageMaker TensorFlow - Object Detection" does."""
    model_predictions = json.loads(query_response)
    return tuple(model_predictions[name] for name in ("normalized_boxes", "classes", "scores", "labels"))


def ask(url: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> tuple[int, str]:
    """Status and body of an answer; status 0 without an answer."""
    request = urllib.request.Request(url, body, headers or {})
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
    except OSError:
        return 0, ""
