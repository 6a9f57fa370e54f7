"""What a conversion to ONNX costs and gains: Inception V3 converted, then both repositories on real servers in one run.

Rows as in `wire`. The servers are asked in turns, each while the other is idle.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from serving import BATCH, ROUNDS, build, load, photographs

from tritonforge.inference.wire import pad_batch
from tritonforge.repository.onnx_conversion import Conversion
from tritonforge.repository.onnx_converter import convert_repository
from tritonforge.serving.server import Server

Row = dict[str, Any]

IMAGE = "26.05"


def run() -> list[Row]:
    """All figures; about three minutes on two cores, building the repository included."""
    repository = build("inception_v3")
    with tempfile.TemporaryDirectory() as folder:
        conversion, seconds, again = convert(repository, Path(folder) / "onnx")
        (facts,) = conversion.models
        return [
            throughput(repository, conversion.repository),
            {
                "name": "conversion of Inception V3 to ONNX, comparison included / a second one, unchanged",
                "ours_ms": again * 1000,
                "other_ms": seconds * 1000,
                "ratio": seconds / again,
                "target": ">= 20",
                "ok": seconds / again >= 20,
            },
            {
                "name": "largest difference of its answers from TensorFlow's (fraction of the largest value, 1e-6)",
                "ours_ms": facts.relative_difference * 1e6,
                "other_ms": facts.tolerance * 1e6,
                "ratio": facts.relative_difference / facts.tolerance,
                "target": "<= 1",
                "ok": facts.relative_difference <= facts.tolerance,
            },
        ]


def convert(repository: Path, target: Path) -> tuple[Conversion, float, float]:
    """The conversion, its seconds, and those of the same again."""
    seconds = []
    for _ in range(2):
        began = time.perf_counter()
        conversion = convert_repository(repository, target, image=IMAGE)
        seconds.append(time.perf_counter() - began)
    return conversion, seconds[0], seconds[1]


def throughput(tensorflow: Path, onnx: Path) -> Row:
    """Images/s of the ensemble through the SageMaker front end: ONNX over TensorFlow.

    Without a target: on a CPU either runtime may be the faster one, by the model, and ONNX Runtime's waiting threads
    spin, so that it loses most where the cores are shared.
    """
    options: dict[str, Any] = {"sagemaker_port": 0, "http_port": None, "grpc_port": None, "metrics_port": None}
    batch = pad_batch(photographs(BATCH))
    with Server(onnx, **options) as ours_server, Server(tensorflow, **options) as other_server:
        ours, other = [], []
        for server in (ours_server, other_server):
            load(str(server.sagemaker_url), batch, 4)
        for _ in range(4):
            other.append(ROUNDS * BATCH / load(str(other_server.sagemaker_url), batch, ROUNDS))
            ours.append(ROUNDS * BATCH / load(str(ours_server.sagemaker_url), batch, ROUNDS))
    ratio = statistics.median(a / b for a, b in zip(ours, other, strict=True))
    return {
        "name": f"throughput of Inception V3's ensemble, batch {BATCH}: ONNX / TensorFlow (images/s)",
        "ours_ms": 1000 / statistics.median(ours),
        "other_ms": 1000 / statistics.median(other),
        "ratio": ratio,
        "target": "",
        "ok": True,
    }
