"""What is made once in a run for several tests: a detector that is trained, and answers of `repos/digits`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock

from tests.support import detector_programs as detection
from tests.support.detector_programs import LEARNS, lay_out, train_program

sys.path.insert(0, str(detection.ROOT / "tests/fixtures"))

import make_detections


@pytest.fixture(scope="session")
def learned(shared: Path) -> Path:
    """The container's folder after training on the digits 0 to 2, by the program itself."""
    base = shared / "detector"
    with FileLock(shared / "detector.lock"):
        if not (shared / "detector.learned").exists():
            make_detections.make(shared / "detector-training", 700, classes=range(3))
            make_detections.make(shared / "detector-heldout", 100, classes=range(3), part="heldout")
            train_program(lay_out(base, LEARNS, {"training": shared / "detector-training"}))
            (shared / "detector.learned").touch()
    return base


#: Runs the pipeline and the graph of `repos/digits` itself.
IN_PROCESS = """
import sys
from pathlib import Path

import numpy as np

from tests.support.photographs import photographs_and_crops
from tritonforge import tf_memory
from tritonforge.model_files.dali_pipeline import move_to_cpu

tf_memory.without_keras()
import nvidia.dali as dali
import tensorflow as tf

digits, target = map(Path, sys.argv[1:])
images = photographs_and_crops()
pipeline = dali.Pipeline.deserialize(
    serialized_pipeline=move_to_cpu((digits / "decode/1/model.dali").read_bytes()),
    batch_size=len(images),
    num_threads=2,
    device_id=None,
)
pipeline.build()
pipeline.feed_input("encoded", [np.frombuffer(image, np.uint8) for image in images])
(pixels,) = pipeline.run()
graph = tf.Graph()
with graph.as_default():
    definition = tf.compat.v1.GraphDef()
    definition.ParseFromString((digits / "classify/1/model.graphdef").read_bytes())
    tf.import_graph_def(definition, name="")
with tf.compat.v1.Session(graph=graph) as session:
    np.save(target, session.run("probabilities:0", {"pixels:0": pixels.as_array()}))
"""


@pytest.fixture(scope="session")
def digits_answers(shared: Path, digits: Path) -> np.ndarray[Any, Any]:
    """The probabilities of `photographs_and_crops`, by DALI and TensorFlow without a server."""
    path = shared / "digits-answers.npy"
    with FileLock(shared / "digits-answers.lock"):
        if not path.exists():
            command = [sys.executable, "-c", IN_PROCESS, digits, path]
            subprocess.run(command, check=True, capture_output=True, cwd=detection.ROOT)
    answers: np.ndarray[Any, Any] = np.load(path)
    return answers
