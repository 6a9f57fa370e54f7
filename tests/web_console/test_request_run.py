"""How a request is followed; the models are functions here, the browser tests have real ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from google.protobuf import text_format

from tritonforge.errors import ServerError
from tritonforge.inference.wire.responses import Response
from tritonforge.profiling.statistics import Duration, ModelStatistics
from tritonforge.triton.schema import new_model_config
from tritonforge.web_console.request_run import RequestFollower

ENSEMBLE = """name: "both" max_batch_size: 8 output { name: "OUT" } ensemble_scheduling {
  step { model_name: "double" input_map { key: "x" value: "IN" } output_map { key: "y" value: "middle" } }
  step { model_name: "add" input_map { key: "x" value: "middle" } output_map { key: "y" value: "OUT" } } }"""
CONFIGS = {
    "both": text_format.Parse(ENSEMBLE, new_model_config()),
    "double": text_format.Parse('name: "double" max_batch_size: 8 output { name: "y" }', new_model_config()),
    "add": text_format.Parse('name: "add" max_batch_size: 8 output { name: "y" }', new_model_config()),
    "scorer": text_format.Parse('name: "scorer"', new_model_config()),
    "words": text_format.Parse('name: "words" model_transaction_policy { decoupled: true }', new_model_config()),
}
INPUT = {"IN": np.array([[1.0, 2.0]], np.float32)}


class ModelServer:
    """Answers with functions, and counts as Triton does; ``others`` requests of other clients come with each one."""

    def __init__(self, *, others: int = 0, **models: Callable[[Any], Any]) -> None:
        self._models = {"double": lambda x: x * 2, "add": lambda x: x + 1, "both": lambda x: x * 2 + 1, **models}
        self._others = others
        self._counts: dict[str, int] = {}
        self._spent = {"double": 9_000_000}

    def infer(self, inputs: Any, *, model: str, outputs: Any = (), **_: Any) -> Response:
        """Return the answer of a model."""
        self._counts[model] = self._counts.get(model, 0) + 1 + self._others
        if model == "double":  # its code requests another one twice
            self._counts["scorer"] = self._counts.get("scorer", 0) + 2
        value = self._models[model](next(iter(inputs.values())))
        return Response(outputs={outputs[0] if outputs else "OUT": value})

    def infer_stream(self, inputs: Any, **_: Any) -> Any:
        """Yield two responses."""
        yield Response(outputs={"w": np.array([b"a"], object)})
        yield Response(outputs={"w": np.array([b"b"], object)})

    def read_statistics(self) -> Any:
        """Return what was counted: every request took 3 ms, and 9 ms one whose code requests another model."""
        counted = {}
        for name, count in self._counts.items():
            spent = Duration(count, self._spent.get(name, 3_000_000) * count)
            counted[name, "1"] = ModelStatistics(name, "1", executions=count, success=spent, compute_infer=spent)
        return counted

    def follow(self, model: str = "both", inputs: Any = INPUT) -> Any:
        """Follow a request."""
        follower = RequestFollower(
            self,  # type: ignore[arg-type]  # it has what is called of a client
            CONFIGS,
            labels={("add", "y"): ["cat", "dog"]},
            read_statistics=self.read_statistics,
            open_stream=lambda: self,  # type: ignore[arg-type,return-value]  # as above
            calls={"double": ["scorer"]},
        )
        return follower.follow(model, inputs)


def refuse(_: Any) -> Any:
    raise ServerError("too large", status=400)


def test_steps_have_their_tensors_times_and_labels() -> None:
    result = ModelServer().follow()
    assert [(step["name"], step["status"], step["server"]["total"]) for step in result["steps"]] == [
        ("double", "answered", 9.0),
        ("add", "answered", 3.0),
    ]
    assert list(result["tensors"]) == ["IN", "middle", "OUT"]
    assert result["tensors"]["middle"]["values"] == ["2", "4"]
    assert result["tensors"]["OUT"]["rows"][0][0]["label"] == "dog"
    assert result["answer"]["agreement"].endswith("bit for bit")


def test_an_ensemble_that_answers_otherwise_than_its_steps_is_named() -> None:
    result = ModelServer(both=lambda x: x * 2 + np.float32(1.5)).follow()
    assert result["answer"]["agreement"] == "the ensemble's own answer differs from its steps' in OUT (by 0.5 at most)"


def test_a_step_that_fails_has_the_error_and_those_after_it_are_skipped() -> None:
    result = ModelServer(double=refuse, both=refuse).follow()
    assert (result["answer"]["error"], result["answer"]["step"]) == ("too large", "double")
    assert [(step["status"], step["error"]) for step in result["steps"]] == [("failed", "too large"), ("skipped", "")]
    assert list(result["tensors"]) == ["IN"]


@pytest.mark.parametrize("others", [0, 4])
def test_a_time_states_of_how_many_requests_it_is_the_mean(others: int) -> None:
    counts = ModelServer(others=others).follow()["steps"][0]["server"]
    assert (counts["requests"], counts["total"]) == (1 + others, 9.0)


def test_models_that_the_code_of_a_step_requested_are_parts_of_its_time() -> None:
    double, add = ModelServer().follow()["steps"]
    (scorer,) = double["called"]
    assert (scorer["name"], scorer["server"]["requests"], scorer["server"]["total"]) == ("scorer", 2, 3.0)
    assert (double["calls"], double["server"]["compute_infer"]) == (6.0, 9.0)
    assert (add["calls"], add["called"]) == (0.0, [])


def test_a_decoupled_model_is_one_step_with_all_its_responses() -> None:
    result = ModelServer().follow("words", {"prompt": np.array([b"p"], object)})
    (step,) = result["steps"]
    assert [result["tensors"][name]["texts"] for name in step["outputs"].values()] == [["a"], ["b"]]
    assert step["server"] is None
