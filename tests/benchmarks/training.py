"""The detector's training beside a bare Keras loop: images a second, both sides alternating, each in its own process.

Ours is the program's own epoch: samples out of its cache in the epoch's order, the schedule, the sum of the losses, the
look at SIGTERM before each step, and TensorFlow's deterministic operators. The other side is `keras.Model.fit` with the
same network and loss on tensors that are in memory, with what Keras does by default; neither side validates. What goes
before the first epoch (decoding, tracing) is measured by ``python tests/benchmarks/training.py profile``.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests" / "fixtures"))

Row = dict[str, Any]

PICTURES: Final = 480
BATCH: Final = 8
SIDE: Final = 96
ROUNDS: Final = 7
GIVEN: Final = {"epochs": "1000", "batch_size": str(BATCH), "image_size": str(SIDE), "learning_rate": "0.001"}


def run() -> list[Row]:
    """The figure; about a minute on two cores."""
    with tempfile.TemporaryDirectory() as folder, side("ours", folder) as ours, side("bare", folder) as bare:
        ours(), bare()
        rates = [(ours(), bare()) for _ in range(ROUNDS)]
    ratio = statistics.median(one / other for one, other in rates)
    mine, other = (statistics.median(column) for column in zip(*rates, strict=True))
    return [
        {
            "name": f"images/s of training, batch {BATCH}, {SIDE} x {SIDE}: the program / Keras' fit in memory",
            "ours_ms": 1000 / mine,
            "other_ms": 1000 / other,
            "ratio": ratio,
            "target": ">= 0.9",
            "ok": ratio >= 0.9,
        }
    ]


@contextlib.contextmanager
def side(which: str, folder: str) -> Iterator[Callable[[], float]]:
    """A process that trains one epoch whenever it is asked, and reports its images a second."""
    command = [sys.executable, __file__, which, folder]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def ask() -> float:
            process.stdin.write("\n")
            process.stdin.flush()
            line = process.stdout.readline()
            assert line, f"the process {which} ended"
            return float(json.loads(line))

        yield ask
        process.stdin.close()


def ours(folder: str) -> Callable[[], float]:
    """One epoch of the program."""
    from tritonforge.training.algorithm import Stopping

    made, stopping = learner(pictures(folder)), Stopping()

    def epoch() -> float:
        assert made._epoch(stopping)
        return float(made.history[-1]["images_per_second"])

    return epoch


def bare(folder: str) -> Callable[[], float]:
    """One epoch of Keras' own loop."""
    read = pictures(folder)
    import keras
    import numpy as np
    from network import losses, network

    pixels, wanted, targets = read.batch(np.arange(len(read)), read.categories)

    class Detector(keras.Model):
        """The network with its loss."""

        def __init__(self) -> None:
            super().__init__()
            self.inner = network(len(read.categories), SIDE)

        def call(self, images: Any, training: bool = False) -> Any:
            return self.inner(images, training=training)

        def compute_loss(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None, training: bool = True) -> Any:
            localization, classification = losses(*y_pred, *y, SIDE)
            return localization + classification

    model = Detector()
    model.compile(optimizer=keras.optimizers.Adam(0.001))
    images = pixels.astype(np.float32)
    model(images[:1])
    assert len(model.trainable_variables) == len(model.inner.trainable_variables) > 0

    def epoch() -> float:
        began = time.perf_counter()
        model.fit(images, (wanted, targets), batch_size=BATCH, epochs=1, verbose=0)
        return len(images) / (time.perf_counter() - began)

    return epoch


def pictures(folder: str) -> Any:
    """The program's samples of a data set, which is made where it is not there yet."""
    sys.path.insert(0, str(ROOT / "repos" / "detector"))
    import make_detections
    import samples

    from tritonforge.training.algorithm import ChannelInput

    made = Path(folder, f"pictures-{os.getpid()}")
    make_detections.make(made, PICTURES, classes=range(5))
    return samples.read(ChannelInput("training", folder=made), SIDE)


def learner(read: Any, *, validation: int = BATCH) -> Any:
    """The program's own learner."""
    import learning
    from algorithm import algorithm

    learning.say = lambda sentence: None
    few = read.part(slice(0, validation))
    return learning.Learner(algorithm.read(GIVEN), read, few, read.categories, None, job={})


def profile(folder: str) -> None:
    """Where the time of a training goes, in seconds."""
    times: dict[str, float] = {}

    def timed(what: str, call: Callable[[], Any]) -> Any:
        began = time.perf_counter()
        result = call()
        times[what] = round(time.perf_counter() - began, 3)
        return result

    pictures(folder)  # the program's modules
    shutil.rmtree(next(Path(folder).iterdir()))
    made = timed(f"{PICTURES} pictures made, decoded, resized and written", lambda: pictures(folder))
    timed("TensorFlow is loaded", lambda: __import__("tensorflow"))
    from tritonforge.training.algorithm import Stopping

    trained = timed("the network is built", lambda: learner(made, validation=48))
    timed("first epoch, tracing included", lambda: trained._epoch(Stopping()))
    timed("an epoch, validation included", lambda: trained._epoch(Stopping()))
    timed("of it: 48 images validated", trained.validate)
    import numpy as np

    places = np.arange(BATCH)
    timed("of it: 60 batches out of the cache", lambda: [made.batch(places, made.categories) for _ in range(60)])
    timed("a checkpoint", lambda: trained.save(Path(folder)))
    import exporting

    names = [str(category) for category in made.categories]
    timed(
        "the model repository",
        lambda: exporting.export(
            trained.network, categories=made.categories, labels=names, side=SIDE, folder=Path(folder, "model")
        ),
    )
    for what, seconds in times.items():
        print(f"{seconds:8.3f} s  {what}")  # noqa: T201 - the answer to who asks


def main(which: str, folder: str = "") -> None:
    """One side: an epoch for each line of standard input; or the profile."""
    if which == "profile":
        with tempfile.TemporaryDirectory() as work:
            profile(work)
        return
    epoch = {"ours": ours, "bare": bare}[which](folder)
    for _ in sys.stdin:
        print(json.dumps(epoch()), flush=True)  # noqa: T201 - the answer to the benchmark's process


if __name__ == "__main__":
    main(*sys.argv[1:])
