"""What the real server costs: throughput and latency beside the same models called in process, in one run.

Rows as in `wire`. Server and in-process rounds alternate, each while the other side is idle. Throughput is measured
with requests that are encoded before, so that the clients, which share the machine's cores, cost little.
"""

from __future__ import annotations

import http.client
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
from tritonforge.inference.wire import encode_request, pad_batch
from tritonforge.serving.server import Server

Row = dict[str, Any]

ROOT = Path(__file__).parents[2]
PHOTOGRAPHS = Path(sklearn.__file__).parent / "datasets" / "images"
BATCH = 8
CLIENTS = 2  # closed-loop, as many as there are cores: one batch decodes while the other one is in the graph
ROUNDS = 12
LIGHT_CLIENTS = 8
LIGHT_ROUNDS = 800  # requests of a light model in one round: about two seconds
ALTERNATIONS = 4


def run() -> list[Row]:
    """All figures; about three minutes on two cores, building the repositories included."""
    return [throughput(), light_throughput(), *latency()]


def throughput() -> Row:
    """Images/s of Inception's ensemble through the SageMaker front end, over those of a plain loop in process."""
    return compare_throughput(
        "throughput of Inception V3's ensemble",
        build("inception_v3"),
        models=("dali", "inception_graphdef"),
        input_name="INPUT",
        images=photographs(BATCH),
        clients=CLIENTS,
        requests=ROUNDS,
    )


def light_throughput() -> Row:
    """The same of the digits, whose network is so small that everything else counts."""
    images = [
        (ROOT / "repos/digits/tests" / ("six.jpg", "seven.png")[index % 2]).read_bytes() for index in range(BATCH)
    ]
    return compare_throughput(
        "throughput of the digits' ensemble",
        build("digits"),
        models=("decode", "classify"),
        input_name="IMAGE",
        images=images,
        clients=LIGHT_CLIENTS,
        requests=LIGHT_ROUNDS,
    )


def compare_throughput(
    name: str,
    repository: Path,
    *,
    models: tuple[str, str],
    input_name: str,
    images: list[bytes],
    clients: int,
    requests: int,
) -> Row:
    """Images/s of an ensemble of two ``models`` over those of a plain loop in process, in rounds that alternate."""
    pipeline, graph = (repository / model / "1" for model in models)
    with (
        Server(repository, sagemaker_port=0, http_port=None, grpc_port=None, metrics_port=None) as server,
        in_process(pipeline / "model.dali", graph / "model.graphdef", BATCH) as ask,
    ):
        assert server.sagemaker_url is not None
        batch = pad_batch(images)
        load(server.sagemaker_url, batch, 4 * clients, clients=clients, input_name=input_name)
        ask(images, 3)
        ours, other = [], []
        for _ in range(ALTERNATIONS):
            other.append(requests * BATCH / sum(ask(images, requests)))
            seconds = load(server.sagemaker_url, batch, requests, clients=clients, input_name=input_name)
            ours.append(requests * BATCH / seconds)
    ratio = statistics.median(a / b for a, b in zip(ours, other, strict=True))
    return {
        "name": f"{name}, batch {BATCH}, {clients} clients: server / in process (images/s)",
        "ours_ms": 1000 / statistics.median(ours),
        "other_ms": 1000 / statistics.median(other),
        "ratio": ratio,
        "target": ">= 1.0",
        "ok": ratio >= 1.0,
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


def load(
    url: str, batch: np.ndarray[Any, Any], requests: int, *, clients: int = CLIENTS, input_name: str = "INPUT"
) -> float:
    """Seconds that closed-loop clients need for the given number of requests."""
    payload = encode_request({input_name: batch})
    body = b"".join(bytes(buffer) for buffer in payload.buffers)
    headers = {"Content-Type": f"application/vnd.sagemaker-triton.binary+json;json-header-size={payload.header_length}"}
    failures: list[bytes] = []

    def work(count: int) -> None:
        connection = http.client.HTTPConnection(url.removeprefix("http://"))
        for _ in range(count):
            connection.request("POST", "/invocations", body, headers)
            response = connection.getresponse()
            answer = response.read()
            if response.status != http.client.OK:
                failures.append(answer)
        connection.close()

    threads = [threading.Thread(target=work, args=(requests // clients,)) for _ in range(clients)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - began
    assert not failures, failures[0]
    return seconds


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
