"""The parts of the detector's training: locations, optimizers by their hyperparameters, what an earlier model gives."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.framework


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    """What the child process found out."""
    script = Path(__file__).with_name("learner_checks.py")
    root = script.parents[2]
    path = os.pathsep.join(map(str, (root / "repos/detector", root / "tests/fixtures", root)))
    done = subprocess.run(
        [sys.executable, script],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


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
    """With the same classes all of it, unless told otherwise."""
    assert found["same classes"] == {"head": True, "rest": True}
    assert found["anew"] == {"head": False, "rest": True}
    assert "going on from the model of channel model, with its top layer" in found["said"]
    assert "going on from the model of channel model, with a new top layer" in found["said"]


def test_the_top_layer_alone_is_trained(found: dict[str, Any]) -> None:
    """Everything else stays, its running means included."""
    assert found["top layer only"] == {"head": False, "rest": True}
    assert found["all of the rest"]


def test_training_stops_early_without_progress(found: dict[str, Any]) -> None:
    """What learns nothing has one best epoch, and as many more as patience allows."""
    assert found["early"] == 3
    assert "stopped early: no progress in 2 epochs" in found["said"]


def test_a_stop_that_is_known_beforehand_trains_nothing(found: dict[str, Any]) -> None:
    """The checkpoint is of the first step of the first epoch."""
    assert found["stopped"] is False
    assert found["said"][-1] == "stopped in epoch 1 after 0 steps; the checkpoint is saved"
