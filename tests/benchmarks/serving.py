"""What the real server costs: throughput and latency beside the same models called in process, in one run.

Rows as in `wire`. Server and in-process rounds alternate, each while the other side is idle.
"""

from __future__ import annotations

import io
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import sklearn
from PIL import Image

from tritonforge.inference.client import Client
from tritonforge.inference.wire import pad_batch
from tritonforge.serving.server import Server

Row = dict[str, Any]

ROOT = Path(__file__).parents[2]
PHOTOGRAPHS = Path(sklearn.__file__).parent / "datasets" / "images"
BATCH = 8
CLIENTS = 2  # closed-loop, as many as there are cores: one batch decodes while the other one is in the graph
ROUNDS = 12


def run() -> list[Row]:
    """All figures; about two minutes on two cores, building the repositories included."""
    return [throughput(), *latency()]


def throughput() -> Row:
    """Images/s of Inception's ensemble through the SageMaker front end, over those of a plain loop in process."""
    repository = build("inception_v3")
    images = photographs(BATCH)
    with (
        Server(repository, sagemaker_port=0, http_port=None, grpc_port=None, metrics_port=None) as server,
        in_process(repository / "dali/1/model.dali", repository / "inception_graphdef/1/model.graphdef", BATCH) as ask,
    ):
        assert server.sagemaker_url is not None
        batch = pad_batch(images)
        load(server.sagemaker_url, batch, 4)
        ask(images, 3)
        ours, other = [], []
        for _ in range(4):
            other.append(ROUNDS * BATCH / sum(ask(images, ROUNDS)))
            ours.append(ROUNDS * BATCH / load(server.sagemaker_url, batch, ROUNDS))
    ratio = statistics.median(a / b for a, b in zip(ours, other, strict=True))
    return {
        "name": f"throughput of Inception V3's ensemble, batch {BATCH}: server / in process (images/s)",
        "ours_ms": 1000 / statistics.median(ours),
        "other_ms": 1000 / statistics.median(other),
        "ratio": ratio,
        "target": ">= 0.95",
        "ok": ratio >= 0.95,
    }


def latency() -> Iterator[Row]:
    """Milliseconds that the server adds to one request of 100 KB: the digits' ensemble, and the same in process."""
    repository = build("digits")
    image = noise(100_000)
    with (
        Server(repository, sagemaker_port=0, http_port=None, grpc_port=None, metrics_port=None) as server,
        in_process(repository / "decode/1/model.dali", repository / "classify/1/model.graphdef", 1) as ask,
    ):
        assert server.sagemaker_url is not None
        batch = pad_batch([image])
        with Client(server.sagemaker_url) as client:
            client.infer({"IMAGE": batch})
            ask([image], 20)
            ours: list[float] = []
            other: list[float] = []
            for _ in range(10):
                other += ask([image], 30)
                for _ in range(30):
                    began = time.perf_counter()
                    client.infer({"IMAGE": batch})
                    ours.append(time.perf_counter() - began)
    added = (statistics.median(ours) - statistics.median(other)) * 1000
    yield {
        "name": f"latency that server and protocol add to a request of {len(image) // 1000} KB, two steps (ms)",
        "ours_ms": statistics.median(ours) * 1000,
        "other_ms": statistics.median(other) * 1000,
        "ratio": added,
        "target": "<= 3 ms",
        "ok": added <= 3,
    }


def load(url: str, batch: np.ndarray[Any, Any], requests: int) -> float:
    """Seconds that closed-loop clients need for the given number of requests."""

    def work(count: int) -> None:
        with Client(url, front_end="sagemaker") as client:
            for _ in range(count):
                client.infer({"INPUT": batch})

    threads = [threading.Thread(target=work, args=(requests // CLIENTS,)) for _ in range(CLIENTS)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - began


@contextmanager
def in_process(pipeline: Path, graph: Path, batch: int) -> Iterator[Any]:
    """A process that runs the pipeline and the graph; gives a function of (images, rounds) to seconds."""
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("in_process.py")), pipeline, graph, str(batch)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None

        def ask(images: Sequence[bytes], rounds: int) -> list[float]:
            assert process.stdin is not None
            assert process.stdout is not None
            paths = [Path(folder) / str(index) for index in range(len(images))]
            for path, image in zip(paths, images, strict=True):
                path.write_bytes(image)
            process.stdin.write(json.dumps({"images": [str(path) for path in paths], "rounds": rounds}) + "\n")
            process.stdin.flush()
            seconds: list[float] = json.loads(process.stdout.readline())
            return seconds

        yield ask
        process.stdin.close()


def build(name: str) -> Path:
    """`repos/<name>`, built under build/ as the demo does."""
    repository = ROOT / "build" / name
    program = Path(sys.executable).with_name("tritonforge")
    subprocess.run([program, "build", f"repos/{name}", "-o", repository], cwd=ROOT, check=True, capture_output=True)
    return repository


def photographs(count: int) -> list[bytes]:
    """scikit-learn's two photographs in turn, each about 170 KB."""
    return [(PHOTOGRAPHS / ("china.jpg", "flower.jpg")[index % 2]).read_bytes() for index in range(count)]


def noise(size: int) -> bytes:
    """A JPEG of about the given number of bytes: a photograph, and noise in its corner until the size fits."""
    photograph = np.asarray(Image.open(PHOTOGRAPHS / "china.jpg")).copy()
    random = np.random.default_rng(0)
    quality = 95
    while True:
        buffer = io.BytesIO()
        Image.fromarray(photograph[:320, :400]).save(buffer, "JPEG", quality=quality)
        if buffer.tell() >= size or quality >= 99:
            break
        quality += 1
    content = buffer.getvalue()
    if len(content) < size:
        photograph[:160, :200] = random.integers(0, 256, (160, 200, 3), dtype=np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(photograph[:320, :400]).save(buffer, "JPEG", quality=quality)
        content = buffer.getvalue()
    return content
