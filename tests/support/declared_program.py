"""A program folder that declares its algorithm: the counter of the emulator's own tests."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.support.accounts import COUNTER_PROGRAM

DECLARATION = """
from tritonforge.training.algorithm import Algorithm, Channel, HyperParameter, Metric

algorithm = Algorithm(
    "counter",
    description="Counts samples.",
    hyperparameters=[
        HyperParameter("epochs", "Integer", "Passes.", default=1, minimum=1, maximum=100),
        HyperParameter("seconds", "Continuous", "Of an epoch.", default=0, minimum=0, maximum=100),
        HyperParameter("fail", "FreeText", "Why it fails."),
    ],
    channels=[Channel("train", "Anything.", required=True, input_modes=["File", "Pipe"])],
    metrics=[Metric("epoch", "epoch=([0-9]+)"), Metric("samples", "samples=([0-9]+)")],
    training_instance_types=["ml.m5.large", "ml.m5.xlarge"],
    transform_instance_types=["ml.m5.large"],
    realtime_instance_types=["ml.m5.large"],
    content_types=["text/plain"],
    response_types=["application/json"],
)
"""


def write_declared_program(folder: Path) -> Path:
    """The program, with its declaration, as a folder."""
    shutil.copytree(COUNTER_PROGRAM, folder)
    (folder / "algorithm.py").write_text(DECLARATION)
    return folder
