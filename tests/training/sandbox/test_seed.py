"""SageMaker's guide to algorithm images, step by step: what it does with docker run, done with `algorithm run`.

Source: SageMaker developer guide, "Create algorithm images"; the programs of programs/seed are the guide's own, where
its Dockerfile sets FLASK_APP and its shell script has a place for a training program.
"""

from __future__ import annotations

import http.client
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.checkout import ROOT, run_tritonforge
from tests.support.sandbox_containers import PROGRAMS, are_gone, descendants, until

pytestmark = pytest.mark.process

TRITONFORGE = Path(sys.executable).with_name("tritonforge")
SEED = str(PROGRAMS / "seed")


@pytest.fixture
def volumes(tmp_path: Path) -> Path:
    """<path_to_input>, <path_to_model> and <path_to_output>, with the inputs that SageMaker would copy there."""
    for name in ("input/config", "input/data/training", "model", "output"):
        (tmp_path / name).mkdir(parents=True)
    for name, value in (
        ("hyperparameters.json", {"epochs": "3"}),
        ("inputdataconfig.json", {"training": {"TrainingInputMode": "File"}}),
        ("resourceconfig.json", {"current_host": "algo-1", "hosts": ["algo-1"]}),
    ):
        (tmp_path / "input" / "config" / name).write_text(json.dumps(value))
    (tmp_path / "input" / "data" / "training" / "lines.csv").write_text("1,2\n3,4\n")
    return tmp_path


def test_docker_run_train(volumes: Path) -> None:
    """The training image: `docker run --volume ... my-training-image train`; the model is there when it ended."""
    before = {path: path.stat().st_mtime_ns for path in (volumes / "input").rglob("*")}
    done = run_tritonforge(
        "algorithm", "run", "train", SEED,
        f"--input={volumes / 'input'}", f"--model-dir={volumes / 'model'}", f"--output={volumes / 'output'}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == 'trained with {"epochs": "3"}\n'
    assert (volumes / "model" / "lines.txt").read_text().strip() == "2"
    assert list((volumes / "output").iterdir()) == []  # a job that succeeds has no reason to write a failure
    assert {path: path.stat().st_mtime_ns for path in (volumes / "input").rglob("*")} == before
    assert [line for line in done.stderr.splitlines() if not line.startswith("not isolated: ")] == []


@pytest.fixture
def container(volumes: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """The inference image: `docker run --publish 8080:8080/tcp --volume ...:ro --detach my-inference-image serve`."""
    given = [f"--model-dir={volumes / 'model'}", "--port=0", "--env=FLASK_APP=/opt/program/web_app_serve.py"]
    process = subprocess.Popen(
        [TRITONFORGE, "algorithm", "run", "serve", SEED, *given, "--format=json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    try:
        assert process.stdout is not None
        report = json.loads(process.stdout.readline())
        yield process, int(report["url"].rpartition(":")[2])
    finally:
        process.kill()
        process.communicate()


def ask(port: int, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
    """What curl asks in the guide."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request(method, path, body)
    answer = connection.getresponse()
    got = answer.status, answer.read()
    connection.close()
    return got


def test_docker_run_serve_ping_invocations_stop(container: tuple[subprocess.Popen[str], int]) -> None:
    """The guide's answers, and `docker container stop`: SIGTERM, after which nothing runs and the port is closed."""
    process, port = container
    assert ask(port, "GET", "/ping") == (200, b"")
    assert ask(port, "POST", "/invocations", b"hello world") == (200, b'{"prediction": "a", "text": "hello world"}')
    started = descendants(process.pid)
    assert len(started) >= 4  # the keeper, process 1, the shell of `serve`, flask
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert "stopping ..." in errors
    assert are_gone(started)
    with pytest.raises(ConnectionRefusedError):
        ask(port, "GET", "/ping")


def test_serve_ends_with_kill_9(container: tuple[subprocess.Popen[str], int]) -> None:
    """The command line itself killed: the server does not outlive it."""
    process, port = container
    started = descendants(process.pid)
    process.kill()
    assert until(lambda: are_gone(started))
    with pytest.raises(ConnectionRefusedError):
        ask(port, "GET", "/ping")
