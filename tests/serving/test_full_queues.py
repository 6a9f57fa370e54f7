"""W349 on the real server: what becomes of an ensemble's requests when the queue of a step is full."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import urllib3

from tests.support.rule_findings import codes
from tests.support.rule_repositories import e, step
from tests.support.tensor_client import FREE
from tests.support.throwaway_server import ThrowawayServer

pytestmark = [pytest.mark.server, pytest.mark.slow]

SLOW = """
import time
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        time.sleep(0.5)
        return [pb_utils.InferenceResponse([pb_utils.Tensor("B", r.inputs()[0].as_numpy())]) for r in requests]
"""
CONFIG = (
    'backend: "python" max_batch_size: 1 input { name: "A" data_type: TYPE_FP32 dims: [4] } '
    'output { name: "B" data_type: TYPE_FP32 dims: [4] } instance_group { kind: KIND_CPU }'
)
LIMITED = f"{CONFIG} dynamic_batching {{ default_queue_policy {{ max_queue_size: 1 }} }}"
BESIDE = (step("x", {"A": "I"}, {"B": "O"}), step("y", {"A": "I"}, {"B": "P"}))
IN_A_ROW = (step("x", {"A": "I"}, {"B": "T"}), step("y", {"A": "T"}, {"B": "O"}))


def build(*steps: str, outputs: str) -> dict[str, str]:
    """The ensemble "e" over a slow model "x" and a slow one with a limited queue, "y"."""
    models = {"x/config.pbtxt": CONFIG, "y/config.pbtxt": LIMITED, "x/1/model.py": SLOW, "y/1/model.py": SLOW}
    return {**models, **e(*steps, outputs=outputs, config="max_batch_size: 1")}


def ask(folder: Path, files: dict[str, str]) -> list[int]:
    """The statuses of six requests at once; 0 for one that has no answer after four seconds."""
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    body = json.dumps({"inputs": [{"name": "I", "shape": [1, 4], "datatype": "FP32", "data": [0, 1, 2, 3]}]})

    def send(_: int) -> int:
        try:
            return pool.request("POST", f"{server.http_url}/v2/models/e/infer", body=body).status
        except urllib3.exceptions.HTTPError:
            return 0

    with (
        ThrowawayServer(folder, **FREE) as server,
        urllib3.PoolManager(timeout=4, retries=False, maxsize=6) as pool,
        ThreadPoolExecutor(6) as threads,
    ):
        return list(threads.map(send, range(6)))


def test_requests_are_never_answered_when_another_step_runs_beside_a_full_queue(tmp_path: Path) -> None:
    """None of them is refused; some wait for ever."""
    files = build(*BESIDE, outputs="OP")
    assert codes("W349", files) == ["W349"]
    statuses = ask(tmp_path, files)
    assert set(statuses) == {0, 200}


def test_steps_in_a_row_refuse_what_does_not_fit_into_the_queue(tmp_path: Path) -> None:
    files = build(*IN_A_ROW, outputs="O")
    files["x/1/model.py"] = SLOW.replace("0.5", "0.05")
    assert codes("W349", files) == []
    assert set(ask(tmp_path, files)) == {200, 503}
