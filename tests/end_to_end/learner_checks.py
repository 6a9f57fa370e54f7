"""The parts of the learner that `test_detector_learner` holds, reported by `detector_host`; not a test itself."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import learning
import numpy as np
import samples
from algorithm import OPTIMIZERS, algorithm
from earlier import Earlier, arrays_of
from locations import STRIDES, assign, centres
from network import top_layers

from tritonforge.training.algorithm import ChannelInput, Stopping

SIDE = 64


def locations() -> dict[str, Any]:
    """Which locations have which box."""
    found: dict[str, Any] = {}
    points, strides = centres(128)
    small, large, huge, thin = [10, 10, 40, 40], [0, 0, 80, 80], [0, 0, 128, 128], [61, 0, 62, 40]
    for name, boxes in {"small": [small], "large": [large], "huge": [huge], "thin": [thin]}.items():
        wanted, targets = assign(np.array(boxes), np.array([7]), 128)
        chosen = wanted == 7
        found[name] = {
            "stride": sorted({int(stride) for stride in strides[chosen]}),
            "count": int(chosen.sum()),
            "others": sorted({int(value) for value in wanted[~chosen]}),
            "targets": bool((targets[chosen] == boxes[0]).all() and not targets[~chosen].any()),
            "near": float(np.abs(points[chosen] - np.mean([boxes[0][:2], boxes[0][2:]], axis=0)).max()),
        }
    wanted, _ = assign(np.array([[20, 20, 30, 30], [10, 10, 40, 40]]), np.array([1, 2]), 128)
    within = (np.abs(points - 25) < 5).all(axis=1) & (strides == STRIDES[0])
    found["smallest"] = sorted({int(value) for value in wanted[within]})
    found["none"] = int((assign(np.zeros((0, 4)), np.zeros(0), 128)[0] >= 0).sum())
    return found


def learner(read: samples.Samples, given: Earlier | None = None, **chosen: str) -> learning.Learner:
    """A learner on a data set, which validates on all of it."""
    values = algorithm.read({"image_size": str(SIDE), "batch_size": "4", **chosen})
    return learning.Learner(values, read, read, read.categories, given, job={})


def build_report(base: Path) -> dict[str, Any]:
    """Return all of it as JSON; ``base/pictures`` are a few labelled pictures."""
    lines: list[str] = []
    say, learning.say = learning.say, lines.append
    try:
        return {**_check_parts(base), "lines": lines}
    finally:
        learning.say = say


def _check_parts(base: Path) -> dict[str, Any]:
    found: dict[str, Any] = {"locations": locations()}
    found["loaded"] = sorted(sys.modules.keys() & {"keras.layers", "sklearn.base"})
    read = samples.read(ChannelInput("training", folder=base / "pictures"), SIDE)
    found["categories"] = read.categories
    pixels, wanted, _ = read.batch(np.arange(3), read.categories)
    found["batch"] = [list(pixels.shape), str(pixels.dtype), sorted({int(category) for category in wanted.ravel()})]
    settings = {}
    for name in OPTIMIZERS:
        values = algorithm.read(
            {
                "optimizer": name,
                "learning_rate": "0.5",
                "momentum": "0.25",
                "beta_1": "0.125",
                "beta_2": "0.75",
                "rho": "0.375",
                "epsilon": "0.001",
                "initial_accumulator_value": "0.625",
            }
        )
        settings[name] = learning.optimizer_of(values).get_config()
    found["optimizers"] = settings

    first = learner(read, epochs="2", learning_rate="0.01", seed="1")  # other weights than those below begin with
    folder = base / "checkpoints"
    folder.mkdir()
    found["rates"] = [first._rate(step, 6) for step in range(12)]
    given = Earlier(read.categories, {4: "four", 9: "nine"}, arrays_of(first.network))
    head = {variable.path for variable in top_layers(first.network).variables}

    def kept(made: learning.Learner) -> dict[str, bool]:
        """Whether the head and the rest are as in the earlier model."""
        equal = {
            variable.path: bool((variable.numpy() == given.arrays[variable.path]).all())
            for variable in made.network.variables
        }
        kernels = {path for path in equal if path.endswith("kernel")}
        return {
            "head": all(equal[path] for path in head & kernels),
            "rest": all(equal[path] for path in kernels - head),
        }

    found["same classes"] = kept(learner(read, given))
    found["anew"] = kept(learner(read, given, reinitialize_top_layer="True"))

    still = learner(
        read,
        epochs="9",
        learning_rate="0",
        learning_rate_schedule="constant",
        early_stopping="True",
        early_stopping_patience="2",
        optimizer="sgd",
        momentum="0",
        train_only_on_top_layer="True",
    )
    found["top layer alone"] = {variable.path for variable in still.network.trainable_variables} == head
    assert still.run(folder, Stopping())
    found["early"] = len(still.history)
    stopping = Stopping()
    stopping.set()
    found["stopped"] = learner(read).run(folder, stopping)
    return found
