"""`tritonforge tune` on a real server: a slow step gets a second instance, and the definition says so afterwards."""

import json
from pathlib import Path

import pytest

from tests.support.command import tritonforge

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
    artifact="slow.py",  # 20 ms
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


@pytest.mark.server
def test_the_slow_step_gets_a_second_instance_which_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "pair"
    folder.mkdir()
    definition = folder / "definition.py"
    definition.write_text(DEFINITION)
    (folder / "double.py").write_text(MODEL.format(seconds=0))
    (folder / "slow.py").write_text(MODEL.format(seconds=0.02))
    monkeypatch.chdir(tmp_path)
    result = tritonforge(
        "tune", "pair", "--trials", "3", "--measure", "0.6", "--pairs", "3", "--instances", "2", "--concurrency", "2",
        "--write", "--json",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert report["is_gain"]
    assert report["written"]
    assert report["comparison"]["ratio"] > 1.5
    assert {"model": "slow", "name": "instance_group.count", "before": 1, "after": 2} in report["changes"]
    assert '    artifact="slow.py",  # 20 ms\n    instance_group=[InstanceGroup(count=2)],\n' in definition.read_text()
    assert "count: 2" in (tmp_path / "build" / "pair" / "slow" / "config.pbtxt").read_text()
    journal = (tmp_path / "build" / "pair.tune.jsonl").read_text().splitlines()
    assert len(journal) == 1 + len(report["trials"])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--objective", "latency"], "--objective latency requires --rate"),
        (["--rate", "10"], "--rate applies to --objective latency"),
        (["--objective", "latency", "--rate", "10", "--p99", "5"], "--p99 applies to --objective throughput"),
        (["--header", "a=b"], "--header applies to --server only"),
        (["--write"], "is a model repository; give its definition"),
    ],
)
def test_options_that_do_not_apply_are_refused(tmp_path: Path, arguments: list[str], sentence: str) -> None:
    result = tritonforge("tune", str(tmp_path), *arguments)
    assert result.returncode == 2
    assert sentence in result.stderr
