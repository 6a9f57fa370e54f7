"""The detector's training: its parts, where its samples come from, what stops it, and what an earlier model gives."""

import json
import os
import re
import signal
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support import detector_programs as detection
from tests.support.detector_programs import LEARNS, SMALL, Host, feed, lay_out, precisions, weights

sys.path.insert(0, str(detection.ROOT / "tests/fixtures"))

import make_detections

pytestmark = pytest.mark.framework


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """The process that all of these trainings are forked from."""
    with Host(tmp_path_factory.mktemp("host"), keras=True) as started:
        yield started


@pytest.fixture(scope="module")
def found(host: Host, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The report of `learner_checks`."""
    base = tmp_path_factory.mktemp("checks")
    make_detections.make(base / "pictures", 12, classes=(4, 9))
    return dict(json.loads(host.finish(host.start(base, "checks"), base)))


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small data set."""
    folder = tmp_path_factory.mktemp("few") / "pictures"
    make_detections.make(folder, 90, classes=(2, 3))
    return folder


@pytest.fixture(scope="module")
def undisturbed(few: Path, host: Host, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small training on files from beginning to end."""
    base = lay_out(tmp_path_factory.mktemp("container") / "undisturbed", SMALL, {"training": few})
    (base / "printed").write_text(host.train(base))
    return base


def test_a_box_belongs_to_the_level_of_its_size(found: dict[str, Any]) -> None:
    """Up to 48 pixels the finest, up to 96 the middle one, then the coarsest; near the middle, and nowhere else."""
    for name, stride in (("small", 8), ("large", 16), ("huge", 32)):
        box = found["locations"][name]
        assert box["stride"] == [stride]
        assert box["others"] == [-1]
        assert box["targets"]
        assert 1 <= box["count"] <= 16
        assert box["near"] <= 1.5 * stride


def test_a_box_that_no_location_lies_in_has_the_nearest(found: dict[str, Any]) -> None:
    """One pixel wide, between two columns of locations."""
    assert found["locations"]["thin"]["count"] >= 1
    assert found["locations"]["thin"]["stride"] == [8]


def test_where_boxes_meet_the_smallest_has_the_location(found: dict[str, Any]) -> None:
    """And where no boxes are, no location has one."""
    assert found["locations"]["smallest"] == [1]
    assert found["locations"]["none"] == 0


def test_keras_is_loaded_without_scikit_learn(found: dict[str, Any]) -> None:
    assert found["loaded"] == ["keras.layers"]


def test_categories_become_places(found: dict[str, Any]) -> None:
    """4 and 9 are the classes 0 and 1 of the network, -1 is nothing."""
    assert found["categories"] == [4, 9]
    shape, dtype, places = found["batch"]
    assert (shape, dtype) == ([3, 64, 64, 3], "uint8")
    assert set(places) <= {-1, 0, 1}
    assert {-1} < set(places)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("adam", {"beta_1": 0.125, "beta_2": 0.75, "epsilon": 0.001}),
        ("sgd", {"momentum": 0.25, "nesterov": False}),
        ("nesterov", {"momentum": 0.25, "nesterov": True}),
        ("rmsprop", {"rho": 0.375, "momentum": 0.25, "epsilon": 0.001}),
        ("adagrad", {"initial_accumulator_value": 0.625, "epsilon": 0.001}),
        ("adadelta", {"rho": 0.375, "epsilon": 0.001}),
    ],
)
def test_optimizers_have_their_hyperparameters(found: dict[str, Any], name: str, expected: dict[str, Any]) -> None:
    """Each takes its own."""
    config = found["optimizers"][name]
    assert {key: config[key] for key in expected} == expected
    assert config["learning_rate"] == 0.5


def test_the_learning_rate_rises_and_falls(found: dict[str, Any]) -> None:
    """A cosine over twelve steps, the first two of which rise to it."""
    rates = found["rates"]
    assert rates[0] < rates[1] < rates[2] == max(rates) == pytest.approx(0.01)
    assert rates[2:] == sorted(rates[2:], reverse=True)
    assert 0 < rates[-1] < 0.001


def test_an_earlier_model_is_gone_on_from(found: dict[str, Any]) -> None:
    """With the same classes all of it, unless the parameters ask for a new head."""
    assert found["same classes"] == {"head": True, "rest": True}
    assert found["anew"] == {"head": False, "rest": True}
    assert "going on from the model of channel model, with its top layer" in found["lines"]
    assert "going on from the model of channel model, with a new top layer" in found["lines"]


def test_the_top_layer_can_be_trained_alone(found: dict[str, Any]) -> None:
    """The variables that are trained are those of the top layer."""
    assert found["top layer alone"]


def test_training_stops_early_without_progress(found: dict[str, Any]) -> None:
    """What learns nothing has one best epoch, and as many more as patience allows."""
    assert found["early"] == 3
    assert "stopped early: no progress in 2 epochs" in found["lines"]


def test_a_stop_that_is_known_beforehand_trains_nothing(found: dict[str, Any]) -> None:
    """The checkpoint is of the first step of the first epoch."""
    assert found["stopped"] is False
    assert found["lines"][-1] == "stopped in epoch 1 after 0 steps; the checkpoint is saved"


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


def test_a_pipe_gives_the_weights_that_files_give_also_after_sigterm(
    undisturbed: Path, few: Path, host: Host, tmp_path: Path
) -> None:
    """The same samples, shuffled and in two runs, are the same training as files in one run, to the last bit.

    The program, stopped in the middle of an epoch, leaves a checkpoint and no model; the next run ends as if not. Both
    read an augmented manifest, which has names for the classes; annotations.json has none.
    """
    piped = detection.stream(few / "digits.manifest", shuffled=1)
    for pause in (0.05, 0.1, 0.2):  # a busy machine may hear the signal between two epochs, which is not what is meant
        base = lay_out(tmp_path / f"stopped{pause}", SMALL, {}, pipes={"training": few})
        feed(base, piped)
        program = host.start(base)
        while not (base / "checkpoints/state.npz").exists():  # of the first epoch
            assert host.is_running(program), (base / "train.err").read_text()[-2000:]
            time.sleep(0.02)
        time.sleep(pause)
        os.kill(program, signal.SIGTERM)
        printed = host.finish(program, base)
        if stopped := re.search(r"stopped in epoch \d+ after [1-9]\d* steps; the checkpoint is saved", printed):
            break
    assert stopped, printed
    assert not any((base / "model").iterdir())
    assert "going on from a checkpoint: epoch" in host.train(base, pipe=piped)
    assert_equal(weights(base), weights(undisturbed))
    assert (base / "model/detector/labels.txt").read_text() == "two\nthree\n"
    assert (undisturbed / "model/detector/labels.txt").read_text() == "2\n3\n"


@pytest.mark.long  # test_the_top_layer_can_be_trained_alone and test_an_earlier_model_is_gone_on_from have its parts
def test_the_top_layer_alone_learns_other_digits_sooner(learned: Path, host: Host, tmp_path: Path) -> None:
    """From a model of 0 to 2, 5 to 7 are learned in fewer epochs than from random weights; the rest stays as it was.

    Both curves are drawn into build/transfer_learning.png.
    """
    pictures = tmp_path / "pictures"
    make_detections.make(pictures, 120, classes=range(5, 8))
    chosen = {**LEARNS, "epochs": "3"}
    anew = lay_out(tmp_path / "anew", chosen, {"training": pictures})
    top = lay_out(
        tmp_path / "top",
        {**chosen, "train_only_on_top_layer": "True"},
        {"training": pictures, "model": tmp_path / "model"},
    )
    (tmp_path / "model").mkdir()
    with tarfile.open(tmp_path / "model/model.tar.gz", "w:gz") as archive:
        archive.add(learned / "model", ".")
    host.train(anew)
    assert "with a new top layer" in host.train(top)
    curves = {"top layer of a trained model": precisions(top), "from random weights": precisions(anew)}
    detection.draw(curves, detection.ROOT / "build" / "transfer_learning.png")
    best = max(curves["from random weights"])
    reached = [number for number, value in enumerate(curves["top layer of a trained model"], 1) if value >= best]
    assert reached, curves
    assert reached[0] < 1 + curves["from random weights"].index(best), curves
    before, after = weights(learned), weights(top)
    for name in before:
        assert np.array_equal(before[name], after[name]) == (not name.startswith(("hidden", "classes", "box"))), name


def assert_equal(one: dict[str, Any], other: dict[str, Any]) -> None:
    """Equal to the last bit."""
    assert sorted(one) == sorted(other)
    for name in one:
        assert one[name].tobytes() == other[name].tobytes(), name
