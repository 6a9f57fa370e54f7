"""`tritonforge serve` and `tritonforge infer` on a real server, as a user runs them."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import urllib3

from tests.support import checkout
from tests.support.checkout import ROOT
from tests.support.command import tritonforge
from tests.support.model_archives import lay
from tests.support.photographs import CHINA
from tests.support.picture_models import DIGITS, write_repository

pytestmark = pytest.mark.server


class Serving:
    """A running `tritonforge serve --format json`."""

    def __init__(self, repository: Path, *options: str) -> None:
        program = Path(sys.executable).with_name("tritonforge")
        ports = [f"--{name}-port=0" for name in ("sagemaker", "http", "grpc", "metrics")]
        self.process = subprocess.Popen(
            [program, "serve", repository, *ports, "--format", "json", *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        assert self.process.stdout is not None
        self.document = json.loads(self.process.stdout.readline())
        self.urls: dict[str, str] = self.document["addresses"]

    def end(self, number: int) -> tuple[int, str]:
        """Send a signal; return the exit code and the text on standard error."""
        self.process.send_signal(number)
        _, stderr = self.process.communicate(timeout=60)
        return self.process.returncode, stderr


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ensemble with the names of `repos/digits`, without a framework."""
    return write_repository(tmp_path_factory.mktemp("repositories") / "digits", DIGITS)


@pytest.fixture(scope="module")
def serving(digits: Path) -> Iterator[Serving]:
    """One server for all tests of this file; ended as Ctrl-C ends it."""
    running = Serving(digits)
    yield running
    code, stderr = running.end(signal.SIGINT)
    assert code == 0, stderr
    assert "Traceback" not in stderr


@pytest.fixture(scope="module")
def reference(serving: Serving) -> Any:
    """The classes of the photograph, as `infer` prints them for the address of SageMaker's front end."""
    done = tritonforge("infer", serving.urls["sagemaker"], str(CHINA), "--json")
    return json.loads(done.stdout)["answers"][0]["outputs"]


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A repository of two models that need no framework, for servers that are only started and ended."""
    io = 'input { name: "x" data_type: TYPE_FP32 dims: [ 1 ] } output { name: "y" data_type: TYPE_FP32 dims: [ 1 ] }'
    code = """
import triton_python_backend_utils as pb_utils
class TritonPythonModel:
    def execute(self, requests):
        inputs = [request.inputs()[0].as_numpy() for request in requests]
        return [pb_utils.InferenceResponse([pb_utils.Tensor("y", x)]) for x in inputs]
"""
    config = f'backend: "python" {io}'
    files = {f"{name}/{file}": text for name in "mn" for file, text in (("config.pbtxt", config), ("1/model.py", code))}
    return lay(tmp_path / "small", files)


@pytest.fixture
def no_image(tmp_path: Path) -> Path:
    """A text file that calls itself a JPEG."""
    path = tmp_path / "letter.jpg"
    path.write_text("dear model")
    return path


def test_the_addresses_and_models_are_reported(serving: Serving) -> None:
    """JSON has the four addresses, all on loopback, the model table, and what /invocations asks."""
    assert sorted(serving.urls) == ["grpc", "http", "metrics", "sagemaker"]
    assert all("//127.0.0.1:" in url for url in serving.urls.values())
    assert serving.document["default_model"] == "digits"
    assert [(row["name"], row["state"]) for row in serving.document["models"]] == [
        ("classify", "READY"),
        ("decode", "READY"),
        ("digits", "READY"),
    ]
    backends = serving.document["backends"]
    assert {"dali", "onnxruntime", "python", "tensorflow"} <= {*backends["installed"]}
    assert not {*backends["installed"]} & {*backends["missing"]}


@pytest.mark.parametrize("address", ["sagemaker", "http", "grpc"])
@pytest.mark.parametrize("form", ["--binary", "--no-binary"])
def test_every_address_answers_the_same(serving: Serving, reference: Any, address: str, form: str) -> None:
    """The same classes from each front end, in either form."""
    url = serving.urls[address]
    extra = [] if address == "sagemaker" else ["--model", "digits"]
    done = tritonforge("infer", url, str(CHINA), "--json", form, *extra)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)["answers"][0]
    assert answer["outputs"] == reference
    classes = answer["outputs"]["PROBABILITIES"]
    assert len(classes) == 5
    assert {entry["label"] for entry in classes} < {
        "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine",
    }  # fmt: skip


def test_a_person_reads_scores_indices_and_labels(serving: Serving) -> None:
    """Each image with its best classes, one a line."""
    done = checkout.run_tritonforge("infer", serving.urls["sagemaker"], str(CHINA), "--top", "2")
    lines = done.stdout.splitlines()
    assert lines[0].startswith(f"{CHINA}  ")
    assert len(lines) == 3
    score, index, label = lines[1].split()
    assert 0 < float(score) <= 1
    assert label == ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")[int(index)]


def test_numbers_come_as_they_are_with_top_0(serving: Serving) -> None:
    """All ten probabilities."""
    done = tritonforge("infer", serving.urls["sagemaker"], str(CHINA), "--top", "0", "--json")
    document = json.loads(done.stdout)["answers"][0]["outputs"]["PROBABILITIES"]
    assert (document["datatype"], document["shape"], len(document["data"])) == ("FP32", [10], 10)
    assert abs(sum(document["data"]) - 1) < 1e-5


def test_a_file_without_an_image_does_not_stop_the_others(serving: Serving, no_image: Path) -> None:
    """Exit code 1, the server's sentence for the one file, the answers for the others."""
    done = tritonforge("infer", serving.urls["sagemaker"], str(CHINA), str(no_image), str(CHINA))
    assert done.returncode == 1
    assert done.stdout.count(str(CHINA)) == 2
    assert f"error: {no_image}: the server answered 400" in done.stderr
    assert "dear model" in done.stderr


def test_a_model_must_be_named_where_models_have_names(serving: Serving) -> None:
    """Triton's own address needs --model, and the sentence says so."""
    done = tritonforge("infer", serving.urls["http"], str(CHINA))
    assert done.returncode == 2
    assert "--model" in done.stderr


def test_an_unknown_model_is_reported_in_tritons_words(serving: Serving) -> None:
    """Triton's sentence and status arrive."""
    done = tritonforge("infer", serving.urls["http"], str(CHINA), "--model", "unknown")
    assert done.returncode == 1
    assert "Request for unknown model: 'unknown' is not found" in done.stderr


def test_a_port_in_use_is_named(serving: Serving, digits: Path) -> None:
    """The sentence has the port and the option that changes it."""
    port = serving.urls["sagemaker"].rpartition(":")[2]
    done = tritonforge("serve", str(digits), "--sagemaker-port", port, "--http-port", "0", "--grpc-port", "0")
    assert done.returncode == 1
    assert f"port {port} on 127.0.0.1 is in use" in done.stderr
    assert "--sagemaker-port" in done.stderr


def test_a_model_that_does_not_load_is_reported_in_tritons_words(tmp_path: Path) -> None:
    """Triton's own reason, without a log to search."""
    broken = tmp_path / "broken"
    (broken / "classify" / "1").mkdir(parents=True)
    config = (ROOT / "repos" / "digits" / "classify" / "config.pbtxt").read_text()
    (broken / "classify" / "config.pbtxt").write_text(config)
    (broken / "classify" / "labels.txt").write_text("zero\n")
    ports = [f"--{name}-port=0" for name in ("sagemaker", "http", "grpc", "metrics")]
    done = tritonforge("serve", str(broken), *ports)
    assert done.returncode == 1
    assert "classify" in done.stderr
    assert "model.graphdef" in done.stderr
    assert "Traceback" not in done.stderr


def children(pid: int) -> list[int]:
    """The processes that a process started."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [int(child) for task in tasks for child in (task / "children").read_text().split()]


def _is_ready(url: str) -> bool:
    try:
        return urllib3.request("GET", f"{url}/v2/health/ready", retries=False).status == 200
    except urllib3.exceptions.HTTPError:
        return False


def await_restart(running: Serving, server: int) -> int:
    """Return the tritonserver that runs after this one, once it is ready."""
    again: list[int] = []
    deadline = time.monotonic() + 60
    while not (again and _is_ready(running.urls["http"])) and time.monotonic() < deadline:
        time.sleep(0.1)
        with contextlib.suppress(OSError):  # a process that ended meanwhile
            again = [child for parent in children(running.process.pid) for child in children(parent) if child != server]
    assert again
    return again[0]


def test_a_traced_server_that_crashes_is_restarted(small: Path, tmp_path: Path) -> None:
    running = Serving(small, "--trace", str(tmp_path / "trace.json"))
    (supervisor,) = children(running.process.pid)
    (server,) = children(supervisor)
    os.kill(server, signal.SIGSEGV)
    await_restart(running, server)
    tritonforge("infer", running.urls["http"], "--input", "x=7", "--model", "m")
    code, stderr = running.end(signal.SIGTERM)
    assert (code, "tritonserver ended by signal SIGSEGV" in stderr) == (0, True), stderr
    assert json.loads((tmp_path / "trace.json").read_text())


def test_a_dead_model_restarts_the_server_and_a_dead_server_ends_the_command(small: Path) -> None:
    """The model answers on the same port; when tritonserver itself is killed, serve ends with 1 and says how."""
    running = Serving(small)
    (supervisor,) = children(running.process.pid)
    (server,) = children(supervisor)
    os.kill(children(server)[0], signal.SIGKILL)
    again = await_restart(running, server)
    done = tritonforge("infer", running.urls["http"], "--input", "x=7", "--model", "m", "--json")
    assert json.loads(done.stdout)["answers"][0]["outputs"]["y"]["data"] == [7.0]
    os.kill(again, signal.SIGKILL)
    _, stderr = running.process.communicate(timeout=60)
    assert running.process.returncode == 1
    assert re.search(r"model '[mn]': its Python process ended by signal SIGKILL; restarting tritonserver", stderr)
    assert stderr.rstrip().count("SIGKILL") == 2


def test_several_models_are_served_and_sigterm_leaves_nothing(small: Path) -> None:
    """Two models without a default one, which /invocations lists; after SIGTERM exit code 0, no open port."""
    running = Serving(small)
    try:
        assert [(row["name"], row["state"]) for row in running.document["models"]] == [("m", "READY"), ("n", "READY")]
        sentence = "/invocations has no default model; choose one with --model: m, n"
        assert (running.document["default_model"], running.document["warnings"]) == (None, [sentence])
        done = tritonforge("infer", running.urls["sagemaker"], "--input", "x=1")
        assert done.returncode == 1
        assert "there is no default model; choose one with serve --model: m, n" in done.stderr
        done = tritonforge("infer", running.urls["http"], "--input", "x=7", "--model", "n", "--json")
        assert json.loads(done.stdout)["answers"][0]["outputs"]["y"]["data"] == [7.0]
    except BaseException:
        running.end(signal.SIGTERM)
        raise
    port = int(running.urls["sagemaker"].rpartition(":")[2])
    code, stderr = running.end(signal.SIGTERM)
    assert code == 0, stderr
    deadline = time.monotonic() + 10
    listening = True
    while listening and time.monotonic() < deadline:
        rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        listening = any(row[1].endswith(f":{port:04X}") and row[3] == "0A" for row in rows)
    assert not listening
