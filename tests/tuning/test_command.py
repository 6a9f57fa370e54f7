"""`tritonforge tune` on a real server: a slow step gets a second instance, and the definition says so afterwards."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.command import tritonforge
from tests.support.killed_transforms import wait_for
from tritonforge.inference.client import Client
from tritonforge.inference.transports import InspectableTransport
from tritonforge.serving.server import Server

DEFINITION = '''"""Two steps, of which the second one is slow."""

from tritonforge import TYPE_FP32, Ensemble, Input, Output, Python, Tensor

double = Python(
    "double",
    input=[Input("x", TYPE_FP32, [2])],
    output=[Output("y", TYPE_FP32, [2])],
    artifact="double.py",
)

# It sleeps, so that a second instance doubles the throughput on any machine.
slow = Python(
    "slow",
    input=[Input("x", TYPE_FP32, [2])],
    output=[Output("y", TYPE_FP32, [2])],
    artifact="slow.py",  # 100 ms
)

pair = Ensemble("pair", outputs={"OUT": slow(double(Tensor("IN")))})
'''

MODEL = """
import time

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        responses = []
        for request in requests:
            time.sleep({seconds})
            array = pb_utils.get_input_tensor_by_name(request, "x").as_numpy()
            responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("y", array * 2)]))
        return responses
"""


#: Four points; the slow step takes so long that a busy machine adds little. Of three pairs, one that a busy machine
#: disturbs would make the confidence interval three times as wide.
BUDGET = (
    "--trials", "3", "--measure", "0.8", "--pairs", "6", "--instances", "2", "--concurrency", "2",
)  # fmt: skip


def write_definition(tmp_path: Path) -> Path:
    folder = tmp_path / "pair"
    folder.mkdir()
    (folder / "definition.py").write_text(DEFINITION)
    (folder / "double.py").write_text(MODEL.format(seconds=0))
    (folder / "slow.py").write_text(MODEL.format(seconds=0.1))
    return folder / "definition.py"


@pytest.mark.server
def test_the_slow_step_gets_a_second_instance_which_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    definition = write_definition(tmp_path)
    monkeypatch.chdir(tmp_path)
    result = tritonforge("tune", "pair", *BUDGET, "--write", "--json")
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert report["is_gain"], report["verdict"]
    assert report["written"]
    assert report["comparison"]["ratio"] > 1.5
    assert {"model": "slow", "name": "instance_group.count", "before": 1, "after": 2} in report["changes"]
    assert '    artifact="slow.py",  # 100 ms\n    instance_group=[InstanceGroup(count=2)],\n' in definition.read_text()
    assert "count: 2" in (tmp_path / "build" / "pair" / "slow" / "config.pbtxt").read_text()
    journal = (tmp_path / "build" / "pair.tune.jsonl").read_text().splitlines()
    assert len(journal) == 1 + len(report["trials"])


@pytest.mark.server
@pytest.mark.process
@pytest.mark.long  # test_search.py continues a search; this one is stopped by a signal, on a real server
def test_after_ctrl_c_the_same_command_continues(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_definition(tmp_path)
    monkeypatch.chdir(tmp_path)
    journal = tmp_path / "build" / "pair.tune.jsonl"
    program = [sys.executable, "-m", "tritonforge", "tune", "pair", *BUDGET]
    process = subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert wait_for(lambda: journal.exists() and len(journal.read_text().splitlines()) >= 2)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    kept = journal.read_text()
    trials = len(kept.splitlines()) - 1
    assert errors.splitlines()[-1] == f"interrupted after {trials} trials; run the command again to continue"
    result = tritonforge("tune", "pair", *BUDGET, "--json")
    assert f"continuing after {trials} trials" in result.stderr, result.stderr
    assert result.returncode == 0, result.stderr
    assert journal.read_text().startswith(kept)
    assert len(json.loads(result.stdout)["trials"]) >= trials


@pytest.mark.server
@pytest.mark.long
def test_a_running_server_is_tuned_and_left_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    definition = write_definition(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert tritonforge("build", "pair").returncode == 0
    with Server(
        tmp_path / "build" / "pair", models=["double", "pair", "slow"], sagemaker_port=None, http_port=0,
        grpc_port=None, metrics_port=None, unguessable=True,
    ) as server:  # fmt: skip
        assert server.http_url is not None
        options = ["--server", server.http_url, *BUDGET]
        refused = tritonforge("tune", "pair", *options)
        assert refused.returncode == 1
        assert "--model-control-mode=explicit" in refused.stderr
        ((name, value),) = server.model_control_headers.items()
        result = tritonforge("tune", "pair", *options, "--header", f"{name}={value}", "--json")
        with Client(server.http_url, front_end="triton") as client:
            transport = client.transport
            assert isinstance(transport, InspectableTransport)
            configs = [json.loads(transport.read_config(model)) for model in ("double", "slow")]
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert report["is_gain"], report["verdict"]
    assert "instance_group=[InstanceGroup(count=2)]" in report["diff"]
    assert definition.read_text() == DEFINITION
    assert [config["instance_group"][0]["count"] for config in configs] == [1, 1]


def test_a_file_is_refused_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("none")
    result = tritonforge("tune", str(tmp_path / "notes.txt"))
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].endswith(
        "notes.txt is not a directory; give the folder that holds the models' folders"
    )


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--objective", "latency"], "--objective latency requires --rate"),
        (["--rate", "10"], "--rate applies to --objective latency"),
        (["--objective", "latency", "--rate", "10", "--p99", "5"], "--p99 applies to --objective throughput"),
        (
            ["--objective", "latency", "--rate", "10", "--concurrency", "2"],
            "--concurrency applies to",
        ),
        (["--plot", "plot.png"], "--plot plot.png: expected a name that ends in .svg"),
        (["--header", "a=b"], "--header applies to --server only"),
        (["--write"], "is a model repository; give its definition"),
    ],
)
def test_options_that_do_not_apply_are_refused(tmp_path: Path, arguments: list[str], sentence: str) -> None:
    result = tritonforge("tune", str(tmp_path), *arguments)
    assert result.returncode == 2
    assert sentence in result.stderr
