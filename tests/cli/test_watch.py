"""`tritonforge watch`, `serve --watch` and `serve --trace`, on one real server of Python models."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread

import numpy as np
import pytest

from tests.support.command import tritonforge
from tests.support.step_models import write_steps
from tritonforge.errors import ServerError
from tritonforge.inference.client import Client

pytestmark = pytest.mark.server

PROGRAM = str(Path(sys.executable).with_name("tritonforge"))


@dataclass
class Running:
    """A `tritonforge serve --watch --trace` and its addresses."""

    process: subprocess.Popen[str]
    addresses: dict[str, str]
    trace: Path
    errors: Path


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """The server of this module; its step `slow` takes longer than `quick`."""
    folder = tmp_path_factory.mktemp("watched")
    repository = write_steps(folder / "repository", {"quick": 0.001, "slow": 0.03})
    trace, errors = folder / "trace.json", folder / "errors"
    ports = [f"--{name}-port=0" for name in ("http", "grpc", "metrics", "sagemaker")]
    with errors.open("w") as file:
        command = [PROGRAM, "serve", str(repository), *ports, "--json", "--watch", "--trace", str(trace)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=file, text=True)
    try:
        assert process.stdout is not None
        yield Running(process, json.loads(process.stdout.readline())["addresses"], trace, errors)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)
        assert process.stdout is not None
        process.stdout.close()


def infer(url: str, number: float = 1.0, request_id: str = "") -> None:
    with Client(url, model=None if "sagemaker" in url else "both") as client:
        client.infer({"IN": np.full((1, 4), number, np.float32)}, id=request_id)


@contextlib.contextmanager
def load(url: str) -> Iterator[None]:
    """Send requests while the context lasts."""
    ended = Event()

    def run() -> None:
        while not ended.is_set():
            infer(url)

    threads = [Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    yield
    ended.set()
    for thread in threads:
        thread.join()


def test_watch_reports_steps_failures_and_the_bottleneck(running: Running) -> None:
    http = running.addresses["http"]
    with pytest.raises(ServerError, match="a negative number"):
        infer(http, -1.0)
    with load(http):
        metrics = ["--metrics-url", running.addresses["metrics"]] * 2
        done = tritonforge("watch", http, running.addresses["grpc"], *metrics, "--once", "--json")
    assert done.returncode == 0
    document = json.loads(done.stdout)
    for server in document["servers"]:
        (model,) = server["models"]
        assert [step["name"] for step in model["steps"]] == ["quick", "slow"]
        assert model["bottleneck"]["step"] == "slow"
        assert model["steps"][1]["compute_ms"] >= 29
        assert model["requests_per_second"] > 1
        assert model["failures_since_load"] == 2  # Triton 2.51 counts a failed request to an ensemble twice
        assert model["steps"][1]["pending"] is not None
        assert server["metrics"]["failures"][0]["model"] == "both"


def test_a_server_that_gives_no_answer_is_a_row_and_the_columns_of_metrics_are_absent(running: Running) -> None:
    done = tritonforge("watch", running.addresses["http"], "http://127.0.0.1:9", "--once", "--interval", "0.1")
    assert done.returncode == 1
    assert "http://127.0.0.1:9  no valid answer for" in done.stdout
    heading = next(line for line in done.stdout.splitlines() if "req/s" in line)
    assert "pending" not in heading
    assert "no metrics, so no pending requests and no memory: " in done.stdout
    assert done.stderr.count("\n") == 1


def test_an_address_without_statistics_is_invalid_usage(running: Running) -> None:
    done = tritonforge("watch", running.addresses["sagemaker"], "--once")
    assert done.returncode == 2
    assert "this address has no statistics" in done.stderr


def test_on_a_terminal_the_table_is_live_until_q_or_ctrl_c(running: Running) -> None:
    with load(running.addresses["http"]):
        for end in (b"q", b"\x03"):
            shown, code = run_on_terminal("watch", running.addresses["http"], "--interval", "0.2", until=b"> ", end=end)
            assert code == 0
            assert b"slow takes" in shown
            assert shown.rstrip().endswith(b"\x1b[?1049l")  # the terminal is as it was


def run_on_terminal(*arguments: str, until: bytes, end: bytes) -> tuple[bytes, int]:
    """Run the command on a terminal; send the keys when a text appears; return the output and the exit code."""
    controller, terminal = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120", "LINES": "40"}
    # Ctrl-C of a terminal reaches the processes that have it as their controlling one.
    claim = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
    process = subprocess.Popen(
        [sys.executable, "-c", claim, PROGRAM, *arguments],
        stdin=terminal, stdout=terminal, stderr=terminal, env=environment, start_new_session=True,
    )  # fmt: skip
    os.close(terminal)
    shown, is_sent, deadline = b"", False, time.monotonic() + 60
    try:
        while time.monotonic() < deadline:
            if select.select([controller], [], [], 0.1)[0]:
                try:
                    shown += os.read(controller, 65536)
                except OSError:  # the command has ended
                    break
            if not is_sent and until in shown and b"takes" in shown:
                os.write(controller, end)
                is_sent = True
        return shown, process.wait(10)
    finally:
        process.kill()
        process.wait()
        os.close(controller)


def test_serve_writes_the_trace_of_all_front_ends_and_the_table(running: Running) -> None:
    """The last test: it ends the server, and watch continues without it."""
    for name in ("http", "grpc", "sagemaker"):
        url = running.addresses[name]
        with Client(url, model=None if name == "sagemaker" else "both") as client:
            client.infer({"IN": np.ones((1, 4), np.float32)}, id=f'"{name}"\n')
    with subprocess.Popen(
        [PROGRAM, "watch", running.addresses["http"], "--interval", "0.3", "--json"], stdout=subprocess.PIPE, text=True
    ) as watched:
        assert watched.stdout is not None
        assert json.loads(watched.stdout.readline())["servers"][0]["models"]
        running.process.send_signal(signal.SIGINT)
        assert running.process.wait(30) == 0
        while "error" not in json.loads(watched.stdout.readline())["servers"][0]:
            pass
        watched.send_signal(signal.SIGINT)
        watched.stdout.read()
    assert watched.returncode == 0
    records = json.loads(running.trace.read_text())
    identities = {record["request_id"] for record in records if record.get("request_id")}
    assert identities == {f'"{name}"\n' for name in ("http", "grpc", "sagemaker")}
    for name in ("http", "grpc", "sagemaker"):
        document = json.loads(tritonforge("trace", str(running.trace), "--json", "--id", f'"{name}"\n').stdout)
        assert document["requests"] == 1
        assert [step["path"][-1] for step in document["steps"]] == ["both", "quick", "slow"]
        assert document["steps"][2]["phases_ms"]["infer"] >= 29
        assert "send" in document["steps"][0]["phases_ms"]
    assert "slow takes" in running.errors.read_text()
