"""The rows of a watched server, from two readings."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from google.protobuf import text_format

from tritonforge.profiling.activity import ActivityHistory, ActivityRow, ServerReading, compute_activity
from tritonforge.profiling.metrics import ServerMetrics
from tritonforge.profiling.statistics import BatchStatistics, Duration, ModelStatistics
from tritonforge.triton.schema import new_model_config


def config(text: str) -> Any:
    return text_format.Parse(text, new_model_config())


def ensemble(*models: str) -> Any:
    """An ensemble of these steps in a chain."""
    tensors = ["IN", *(f"t{place}" for place in range(1, len(models))), "OUT"]
    steps = " ".join(
        f'step {{ model_name: "{model}" input_map {{ key: "IN" value: "{tensors[place]}" }} '
        f'output_map {{ key: "OUT" value: "{tensors[place + 1]}" }} }}'
        for place, model in enumerate(models)
    )
    output = 'output { name: "OUT" data_type: TYPE_FP32 dims: 1 }'
    return config(f'platform: "ensemble" {output} ensemble_scheduling {{ {steps} }}')


PLAIN = config('backend: "python" instance_group { count: 2 }')
CONFIGS = {"both": ensemble("first", "inner"), "inner": ensemble("second", "third"), "first": PLAIN, "second": PLAIN,
           "third": PLAIN}  # fmt: skip


def count(model: str, requests: int, milliseconds: float, *, queue: float = 0.0, failures: int = 0) -> ModelStatistics:
    """The counts of a model whose requests took this long, in batches of two."""

    def sum_up(value: float, times: int) -> Duration:
        return Duration(times, round(value * times * 1e6))

    return ModelStatistics(
        model,
        "1",
        executions=requests // 2,
        success=sum_up(milliseconds + queue, requests),
        failure=sum_up(1, failures),
        queue=sum_up(queue, requests),
        compute_infer=sum_up(milliseconds, requests),
        batches=(BatchStatistics(2, compute_infer=sum_up(milliseconds, requests // 2)),),
    )


def read(time: float, *models: ModelStatistics, metrics: ServerMetrics | None = None) -> ServerReading:
    return ServerReading(time, {(model.name, "1"): model for model in models}, CONFIGS, metrics)


def load(time: float, requests: int, **other: Any) -> ServerReading:
    """A reading after a number of requests to ``both``."""
    names = {"both": 40.0, "inner": 32.0, "first": 5.0, "third": 10.0}
    models = [count(name, requests, value) for name, value in names.items()]
    return read(time, *models, count("second", requests, 16, queue=6, failures=3), **other)


def test_steps_are_rows_below_their_ensemble_and_the_bottleneck_is_marked() -> None:
    metrics = ServerMetrics(frozenset(), pending={"second": 4})
    activity = compute_activity(load(10.0, 100), load(12.0, 150, metrics=metrics))
    (model,) = activity.models
    assert [(row.name, row.depth, row.is_ensemble, row.is_bottleneck) for row in model.rows] == [
        ("both", 0, True, False), ("first", 1, False, False), ("inner", 1, True, False),
        ("inner/second", 2, False, True), ("inner/third", 2, False, False),
    ]  # fmt: skip
    second = model.rows[3]
    assert (second.rate, second.queue, second.compute, second.total) == pytest.approx((25, 6, 16, 22))
    assert (second.mean_batch_size, second.batches) == (2, {2: 25})
    assert second.utilization == pytest.approx(25 * 16 / 2000 / 2)
    assert (second.pending, model.rows[0].pending) == (4, None)
    assert (second.failures, second.failures_since_load) == (0, 3)
    assert (model.rows[0].queue, model.rows[0].total) == (None, pytest.approx(40))
    assert model.bottleneck is not None
    assert model.bottleneck.sentence.startswith("inner/second takes 22.0 ms of 40.0 ms (55%)")


def test_a_server_without_requests_has_rows_without_times() -> None:
    (model,) = compute_activity(load(1, 100), load(2, 100)).models
    assert model.bottleneck is None
    assert {(row.rate, row.total, row.mean_batch_size) for row in model.rows} == {(0, None, None)}


def test_a_step_that_clients_also_request_is_marked_as_shared() -> None:
    before, after = load(1, 100), load(2, 200)
    statistics = {**after.statistics, ("first", "1"): count("first", 1200, 5)}
    (model,) = compute_activity(before, replace(after, statistics=statistics)).models
    assert [row.name for row in model.rows if row.is_shared] == ["first"]


def test_models_that_code_requests_are_rows_below_the_model_whose_code_does() -> None:
    """Clients and code are not distinguished by statistics: only what the repository states is shown as a call."""
    configs = {**CONFIGS, "pipeline": PLAIN, "scorer": PLAIN}
    names = ("pipeline", "scorer", "both", "first", "inner", "second", "third")

    def read_all(time: float, requests: int) -> ServerReading:
        statistics = {(name, "1"): count(name, requests, 5) for name in names}
        return ServerReading(time, statistics, configs)

    calls = {"pipeline": ["both", "scorer"], "second": ["scorer", "absent"]}
    (model,) = compute_activity(read_all(1, 0), read_all(2, 10), calls).models
    assert [(row.name, row.depth, row.is_called, row.is_shared) for row in model.rows] == [
        ("pipeline", 0, False, False), ("pipeline/both", 1, True, False), ("pipeline/both/first", 2, False, False),
        ("pipeline/both/inner/second", 3, False, False), ("pipeline/both/inner/second/scorer", 4, True, True),
        ("pipeline/both/inner/third", 3, False, False),
    ]  # fmt: skip
    assert model.rows[4].compute == pytest.approx(5)
    unknown = compute_activity(read_all(1, 0), read_all(2, 10)).models
    assert [entry.rows[0].name for entry in unknown] == ["both", "pipeline", "scorer"]


def test_models_that_request_one_another_are_rows_of_the_first_one() -> None:
    configs = {"a": PLAIN, "b": PLAIN}
    readings = [
        ServerReading(time, {(name, "1"): count(name, 10 * time, 5) for name in configs}, configs) for time in (1, 2)
    ]
    (model,) = compute_activity(*readings, {"a": ["b"], "b": ["a"]}).models
    assert [row.name for row in model.rows] == ["a", "a/b", "a/b/a"]


def test_a_model_without_configuration_or_step_is_a_plain_row() -> None:
    """Models are loaded and unloaded between two requests of one reading."""
    after = ServerReading(2, {("new", "1"): count("new", 10, 5), ("half", "1"): count("half", 10, 5)},
                          {"half": ensemble("missing")})  # fmt: skip
    activity = compute_activity(ServerReading(1, {}, {}), after)
    assert [(model.rows[0].name, len(model.rows), model.bottleneck) for model in activity.models] == [
        ("half", 1, None), ("new", 1, None)
    ]  # fmt: skip


def test_the_history_keeps_its_window_and_begins_again_after_a_reload() -> None:
    history = ActivityHistory(10.0)
    assert history.add(load(0, 0)) is None
    for second in range(1, 60):
        activity = history.add(load(second, second * 10))
        assert activity is not None
        assert activity.seconds == min(second, 10)
        assert activity.models[0].rows[0].rate == pytest.approx(10)
    assert history.add(load(60, 5)) is None
    activity = history.add(load(61, 10))
    assert activity is not None
    assert activity.seconds == 1
    history.clear()
    assert history.add(load(62, 15)) is None


def test_without_a_window_the_figures_are_of_one_interval() -> None:
    history = ActivityHistory(0.0)
    history.add(load(0, 0))
    for second in range(1, 5):
        activity = history.add(load(second, second * second))
        assert activity is not None
        assert activity.seconds == 1


def test_rows_are_frozen() -> None:
    row = compute_activity(load(1, 1), load(2, 2)).models[0].rows[0]
    assert isinstance(row, ActivityRow)
    with pytest.raises(AttributeError):
        row.rate = 1.0  # type: ignore[misc]
