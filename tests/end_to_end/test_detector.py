"""A detector that is really learned: from boxes to a model repository, on the real server, and answered over HTTP."""

import json
import re
import signal
import socket
import sys
import tarfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock

from tests.end_to_end import detection
from tests.end_to_end.detection import LEARNS, SMALL, lay_out, precisions, running, trained, weights
from tritonforge.inference.client import Client
from tritonforge.repository.validation import validate
from tritonforge.serving.server import Server
from tritonforge.training.detection import Detected, from_rows_first, intersection_over_union, mean_average_precision

sys.path.insert(0, str(detection.ROOT / "tests/fixtures"))

import make_detections

pytestmark = [pytest.mark.server, pytest.mark.framework]


@pytest.fixture(scope="session")
def learned(shared: Path) -> Path:
    """The container's folder after training on the digits 0 to 4; learned once in a run."""
    base = shared / "detector"
    with FileLock(shared / "detector.lock"):
        if not (shared / "detector.learned").exists():
            make_detections.make(shared / "detector-training", 1000, classes=range(5))
            make_detections.make(shared / "detector-heldout", 100, classes=range(5), part="heldout")
            trained(lay_out(base, LEARNS, {"training": shared / "detector-training"}))
            (shared / "detector.learned").touch()
    return base


@pytest.fixture(scope="module")
def server(learned: Path) -> Iterator[Server]:
    """A real tritonserver on what was learned."""
    with Server(
        learned / "model",
        models=["detect", "detector_image_bytes"],
        sagemaker_port=None,
        http_port=0,
        grpc_port=None,
        metrics_port=None,
    ) as running_server:
        yield running_server


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small data set."""
    folder = tmp_path_factory.mktemp("few") / "pictures"
    make_detections.make(folder, 90, classes=(2, 3))
    return folder


@pytest.fixture(scope="module")
def undisturbed(few: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small training on files from beginning to end."""
    base = lay_out(tmp_path_factory.mktemp("container") / "undisturbed", SMALL, {"training": few})
    (base / "printed").write_text(trained(base))
    return base


def test_heldout_digits_are_found_through_the_ensemble(server: Server, learned: Path, shared: Path) -> None:
    """Mean average precision at IoU 0.5 is at least 0.8 on pictures with other digits and other backgrounds."""
    images, truths = detection.truth(shared / "detector-heldout")
    labels = (learned / "model/detector/labels.txt").read_text().splitlines()
    found: list[Detected] = []
    with Client(str(server.http_url), model="detect") as client:
        for start in range(0, len(images), 20):
            answer = client.infer_images(images[start : start + 20])
            for row, count in enumerate(answer["count"].reshape(-1)):
                boxes, classes, scores, names = (answer[each][row] for each in ("boxes", "classes", "scores", "labels"))
                assert [name.decode() for name in names[:count]] == [labels[each] for each in classes[:count]]
                assert not scores[count:].any()
                assert (classes[count:] == -1).all()
                found.append(Detected(boxes[:count], [int(name) for name in names[:count]], scores[:count]))
    precision = mean_average_precision(truths, found)
    assert sorted(precision.by_class) == [0, 1, 2, 3, 4]
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
        for box, number, score in zip(*(ensemble[each][row] for each in ("boxes", "classes", "scores")), strict=True):
            if score > 0.5:  # each side resizes in its own way, which may turn what is less sure around
                same = whole["detection_classes"][row][:count] == number
                assert intersection_over_union([box], boxes[same]).max() > 0.8


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


def test_metrics_are_read_off_the_log(undisturbed: Path) -> None:
    """The regexes of the built-in algorithm find the numbers of every epoch, whole."""
    printed = (undisturbed / "printed").read_text()
    history = json.loads((undisturbed / "output/data/history.json").read_text())
    for regex, name in (
        (r"Val_localization=([0-9\.]+)", "localization"),
        (r"Val_classification=([0-9\.]+)", "classification"),
        (r"loss=([0-9\.]+).", "loss"),
    ):
        found = [float(text) for text in re.findall(regex, printed)]
        assert found == [pytest.approx(epoch[name], abs=1e-6) for epoch in history]
    assert len(history) == int(SMALL["epochs"])


def test_a_pipe_gives_the_weights_that_files_give(undisturbed: Path, few: Path, tmp_path: Path) -> None:
    """The same samples out of an augmented manifest, shuffled on the way, are the same training to the last bit.

    The manifest has names for the classes, which annotations.json has not.
    """
    base = lay_out(tmp_path / "pipe", SMALL, {}, pipes={"training": few})
    trained(base, pipe=detection.stream(few / "digits.manifest", shuffled=1))
    assert_equal(weights(base), weights(undisturbed))
    assert (base / "model/detector/labels.txt").read_text() == "two\nthree\n"
    assert (undisturbed / "model/detector/labels.txt").read_text() == "2\n3\n"


def test_training_goes_on_after_sigterm_to_the_same_weights(undisturbed: Path, few: Path, tmp_path: Path) -> None:
    """Stopped in the middle of an epoch it leaves a checkpoint and no model; the next run ends as if undisturbed."""
    base = lay_out(tmp_path / "stopped", SMALL, {"training": few})
    with running("train", base) as process:
        assert process.stdout is not None
        printed = ""
        while "epoch 1 of" not in printed:
            line = process.stdout.readline()
            assert line, (base / "train.err").read_text()[-2000:]
            printed += line
        time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        rest, _ = process.communicate(timeout=110)
    assert process.returncode == 0
    assert re.search(r"stopped in epoch \d+ after [1-9]\d* steps; the checkpoint is saved", rest)
    assert not any((base / "model").iterdir())
    assert "going on from a checkpoint: epoch" in trained(base)
    assert_equal(weights(base), weights(undisturbed))


def test_the_top_layer_alone_learns_other_digits_sooner(learned: Path, tmp_path: Path) -> None:
    """From what knows 0 to 4, 5 to 9 are learned in fewer epochs than from random weights; the rest stays as it was.

    Both curves are drawn into build/transfer_learning.png.
    """
    pictures = tmp_path / "pictures"
    make_detections.make(pictures, 160, classes=range(5, 10))
    chosen = {**LEARNS, "epochs": "5"}
    anew = lay_out(tmp_path / "anew", chosen, {"training": pictures})
    top = lay_out(
        tmp_path / "top",
        {**chosen, "train_only_on_top_layer": "True"},
        {"training": pictures, "model": tmp_path / "model"},
    )
    (tmp_path / "model").mkdir()
    with tarfile.open(tmp_path / "model/model.tar.gz", "w:gz") as archive:
        archive.add(learned / "model", ".")
    trained(anew)
    assert "with a new top layer" in trained(top)
    curves = {"top layer of a trained model": precisions(top), "from random weights": precisions(anew)}
    detection.draw(curves, detection.ROOT / "build" / "transfer_learning.png")
    best = max(curves["from random weights"])
    reached = [number for number, value in enumerate(curves["top layer of a trained model"], 1) if value >= best]
    assert reached, curves
    assert reached[0] < 1 + curves["from random weights"].index(best), curves
    before, after = weights(learned), weights(top)
    for name in before:
        assert np.array_equal(before[name], after[name]) == (not name.startswith(("hidden", "classes", "box"))), name


def test_predictor_code_of_the_seed_reads_the_answers(learned: Path, shared: Path) -> None:
    """`serve` answers pings, encoded images in every form of Accept, refuses the rest, and ends on SIGTERM."""
    images, truths = detection.truth(shared / "detector-heldout")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    with running("serve", learned, SAGEMAKER_BIND_TO_PORT=str(port)) as process:
        deadline = time.monotonic() + 200
        while ask(f"{url}/ping")[0] != 200:
            assert process.poll() is None, (learned / "serve.err").read_text()[-2000:]
            assert time.monotonic() < deadline
            time.sleep(0.2)
        verbose = {"Content-Type": "application/x-image", "Accept": "application/json;verbose;n_predictions=5"}
        status, body = ask(f"{url}/invocations", images[0], verbose)
        assert status == 200, body
        boxes, classes, scores, labels = parse_response(body)
        assert len(boxes) <= 5
        sides = intersection_over_union(boxes[:1], truths[0].boxes)
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
    """Status and body of an answer; status 0 where there is none."""
    request = urllib.request.Request(url, body, headers or {})
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
    except OSError:
        return 0, ""


def assert_equal(one: dict[str, Any], other: dict[str, Any]) -> None:
    """Equal to the last bit."""
    assert sorted(one) == sorted(other)
    for name in one:
        assert one[name].tobytes() == other[name].tobytes(), name
