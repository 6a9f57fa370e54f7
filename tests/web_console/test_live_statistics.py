from dataclasses import replace

from google.protobuf import text_format

from tritonforge.profiling.statistics import Duration, ModelStatistics
from tritonforge.triton.schema import new_model_config
from tritonforge.web_console.live_statistics import LiveStatistics

CONFIGS = {"m": text_format.Parse('name: "m" backend: "python"', new_model_config())}


def read(count, milliseconds=2):
    """A reading of a server whose model has answered this number of requests."""
    spent = Duration(count, count * milliseconds * 1_000_000)
    return {("m", "1"): ModelStatistics("m", "1", executions=count, success=spent, compute_infer=spent)}


def test_figures_are_of_the_time_between_readings() -> None:
    live = LiveStatistics(CONFIGS, ["m"], calls={})
    assert live.needs_reading(0.0)
    live.add(read(100), 0.0)
    assert live.describe("m")["milliseconds"] is None
    assert not live.needs_reading(0.5)
    live.add(read(120), 1.0)
    live.add(read(140), 2.0)
    load = live.describe("m")
    assert (load["requests_per_second"], load["milliseconds"]) == (20.0, 2.0)
    assert [point["requests_per_second"] for point in load["history"]] == [20.0, 20.0]
    assert load["steps"][0]["compute"] == 2.0
    assert load["bottleneck"]["step"] == "m"


def test_a_second_without_requests_has_no_latency() -> None:
    live = LiveStatistics(CONFIGS, ["m"], calls={})
    live.add(read(1), 0.0)
    live.add(read(1), 1.0)
    assert live.describe("m")["history"][-1] == {
        "time": 1.0, "requests_per_second": 0.0, "milliseconds": None, "failures": 0,
    }  # fmt: skip


def test_readings_of_a_restarted_server_are_not_compared_with_those_before() -> None:
    live = LiveStatistics(CONFIGS, ["m"], calls={})
    live.add(read(100), 0.0)
    live.add(read(3), 1.0)
    assert live.describe("m")["seconds"] == 0
    live.add(read(5), 2.0)
    assert live.describe("m")["requests_per_second"] == 2.0


def test_a_page_that_is_open_for_long_keeps_a_bounded_history() -> None:
    live = LiveStatistics(CONFIGS, ["m"], calls={})
    for second in range(2000):
        live.add(read(second), float(second))
    load = live.describe("m")
    assert len(load["history"]) == 180
    assert load["seconds"] <= 10


def test_a_model_with_few_requests_has_figures_of_a_longer_time() -> None:
    live, busy = LiveStatistics(CONFIGS, ["m"], calls={}), LiveStatistics(CONFIGS, ["m"], calls={})
    for second in range(9):
        live.add(read(second // 2), float(second))
        busy.add(read(100 * second), float(second))
    assert live.describe("m")["seconds"] == 8
    assert live.describe("m")["bottleneck"]["step"] == "m"
    assert busy.describe("m")["seconds"] == 2


def test_models_that_code_requests_have_figures_of_their_own() -> None:
    configs = {**CONFIGS, "inner": text_format.Parse('name: "inner" backend: "python"', new_model_config())}
    live = LiveStatistics(configs, ["m"], calls={"m": ["inner"]})
    for second in range(2):
        (counted,) = read(second * 40, 1).values()
        live.add({**read(second * 20, 5), ("inner", "1"): replace(counted, name="inner")}, second)
    load = live.describe("m")
    assert [step["name"] for step in load["steps"]] == ["m"]
    assert [(called["name"], called["callers"], called["compute"]) for called in load["called"]] == [
        ("inner", ["m"], 1.0)
    ]
