"""How the time of a request adds up by steps, and which step is the bottleneck."""

from typing import Any

import pytest

from tests.support.step_statistics import PLAIN, build_ensemble, build_statistics, build_times, parse_config
from tritonforge.profiling.bottleneck import find_bottleneck
from tritonforge.profiling.statistics import Duration, ModelStatistics
from tritonforge.profiling.step_times import Calls, RequestTime, compute_request_time, count_instances


def measure(
    configs: dict[str, Any], *, seconds: float = 1.0, calls: Calls | None = None, **models: dict[str, Any]
) -> RequestTime:
    statistics = build_statistics(**models)
    return compute_request_time(configs, next(iter(configs)), statistics, seconds=seconds, calls=calls or {})


def test_the_time_of_an_ensemble_is_its_steps_and_its_own_time() -> None:
    configs = {"both": build_ensemble("a: IN -> t", "b: t -> OUT"), "a": PLAIN, "b": PLAIN}
    times = measure(
        configs, both=build_times(total=20), a=build_times(infer=5, queue=1), b=build_times(infer=10, copy_out=2)
    )
    assert [(step.name, step.begin, step.end) for step in times.steps] == [("a", 0.0, 6.0), ("b", 6.0, 18.0)]
    assert times.overhead == pytest.approx(2.0)
    assert [step.utilization for step in times.steps] == pytest.approx([0.5, 1.2])


def test_the_critical_path_takes_the_slower_of_parallel_branches() -> None:
    configs = {
        "fork": build_ensemble("a: IN -> t", "b: t -> u", "c: t -> v", "d: u+v -> OUT"),
        "a": PLAIN,
        "b": PLAIN,
        "c": PLAIN,
        "d": PLAIN,
    }
    times = measure(
        configs,
        fork=build_times(total=33),
        a=build_times(infer=1),
        b=build_times(infer=3),
        c=build_times(infer=30),
        d=build_times(infer=1),
    )
    assert [step.name for step in times.critical_path] == ["a", "c", "d"]
    assert times.overhead == pytest.approx(1.0)


def test_nested_ensembles_have_steps_and_a_time_of_their_own() -> None:
    configs = {
        "outer": build_ensemble("a: IN -> t", "inner: t -> OUT"),
        "a": PLAIN,
        "inner": build_ensemble("b: IN -> u", "c: u -> OUT"),
        "b": PLAIN,
        "c": PLAIN,
    }
    times = measure(
        configs,
        outer=build_times(total=16),
        a=build_times(infer=1),
        inner=build_times(total=14),
        b=build_times(infer=4),
        c=build_times(infer=8),
    )
    assert [step.name for step in times.steps] == ["a", "inner/b", "inner/c"]
    outer, inner = times.ensembles
    assert (outer.name, outer.overhead) == ("outer", pytest.approx(3.0))
    assert (inner.name, inner.model, inner.overhead) == ("inner", "inner", pytest.approx(2.0))


def test_a_model_that_is_not_an_ensemble_is_its_own_step() -> None:
    times = measure({"a": PLAIN}, a=build_times(infer=5))
    assert [(step.name, step.is_critical) for step in times.steps] == [("a", True)]
    assert (times.ensembles, times.overhead) == ((), 0.0)


def test_requests_from_elsewhere_are_stated() -> None:
    configs = {"both": build_ensemble("a: IN -> t", "b: t -> OUT"), "a": PLAIN, "b": PLAIN}
    times = measure(configs, both=build_times(), a=build_times(200), b=build_times(105))
    assert [step.other_requests for step in times.steps] == [100, 0]


def test_means_count_requests_that_the_response_cache_answered() -> None:
    model = ModelStatistics(
        "a",
        success=Duration(100, 20_000_000),
        compute_infer=Duration(10, 10_000_000),
        cache_hit=Duration(90),
        cache_miss=Duration(10),
    )
    (step,) = compute_request_time({"a": PLAIN}, "a", {("a", "1"): model}, seconds=1).steps
    assert (step.compute_infer, step.total, step.cache_hits) == (0.1, 0.2, 0.9)


def test_instances_are_those_of_all_groups_on_all_gpus() -> None:
    assert count_instances(parse_config("instance_group { count: 2 gpus: [0, 1] } instance_group { count: 3 }")) == 7
    assert count_instances(parse_config("")) == 1


def test_nothing_is_named_without_requests() -> None:
    assert find_bottleneck(measure({"a": PLAIN}), {"a": PLAIN}) is None


def find_kind(text: str, *, latency: float | None = None, seconds: float = 1.0, **values: Any) -> tuple[str, str]:
    """The kind and the sentence of the bottleneck of a model of this configuration."""
    configs = {"a": parse_config(text)}
    found = find_bottleneck(measure(configs, seconds=seconds, a=build_times(**values)), configs, latency=latency)
    assert found is not None
    return found.kind, " ".join([found.sentence, *found.advice])


def test_busy_instances_are_a_queue() -> None:
    kind, text = find_kind("instance_group { count: 1 } max_batch_size: 8", queue=70, infer=10)
    assert kind == "queue"
    assert "its 1 instance is busy 100% of the time" in text
    assert "dynamic_batching" in text


def test_full_batches_are_stated() -> None:
    _, text = find_kind("max_batch_size: 4 dynamic_batching {}", queue=70, infer=40, batch=4)
    assert "a larger max_batch_size (4 now)" in text


def test_idle_instances_and_a_long_delay_are_a_delay() -> None:
    text = "max_batch_size: 8 dynamic_batching { max_queue_delay_microseconds: 50000 }"
    kind, sentence = find_kind(text, queue=50, infer=1)
    assert kind == "delay"
    assert "max_queue_delay_microseconds: 50000" in sentence


def test_idle_instances_and_resources_are_the_rate_limiter() -> None:
    text = 'instance_group { count: 2 rate_limiter { resources { name: "lock" count: 1 } } }'
    kind, sentence = find_kind(text, queue=50, infer=1)
    assert kind == "rate_limiter"
    assert "until they get lock" in sentence


def test_idle_instances_and_sequences_are_slots() -> None:
    assert find_kind("max_batch_size: 1 sequence_batching {}", queue=50, infer=1)[0] == "sequence"


def test_copies_are_named_by_their_side() -> None:
    assert find_kind("", copy_in=9, infer=1)[0] == "input"
    assert find_kind("", copy_out=9, infer=1)[0] == "output"
    assert find_kind("", infer=9)[0] == "compute"


def test_what_passes_outside_of_the_core_is_transfer() -> None:
    kind, sentence = find_kind("", infer=2, latency=30.0)
    assert kind == "transfer"
    assert sentence.startswith("28.0 ms of 30.0 ms (93%)")


def test_the_time_between_steps_is_overhead() -> None:
    configs = {"both": build_ensemble("a: IN -> t", "b: t -> OUT"), "a": PLAIN, "b": PLAIN}
    times = measure(configs, both=build_times(total=20), a=build_times(infer=5), b=build_times(infer=4))
    found = find_bottleneck(times, configs)
    assert found is not None
    assert (found.kind, found.step, found.milliseconds) == ("overhead", "both", pytest.approx(11.0))


def test_a_python_model_that_waits_for_other_models_is_named_with_them() -> None:
    configs = {"both": build_ensemble("a: IN -> t", "b: t -> OUT"), "a": PLAIN, "b": PLAIN, "inner": PLAIN}
    times = measure(
        configs,
        both=build_times(total=30),
        a=build_times(infer=2),
        b=build_times(infer=22),
        inner=build_times(400, infer=5),
    )
    found = find_bottleneck(times, configs)
    assert found is not None
    assert (found.kind, found.step) == ("calls", "b")
    assert "4 x inner (20.0 ms)" in found.sentence


def test_a_called_ensemble_is_listed_without_its_steps() -> None:
    configs = {"a": PLAIN, "inner": build_ensemble("b: IN -> t", "c: t -> OUT"), "b": PLAIN, "c": PLAIN}
    times = measure(
        configs, a=build_times(infer=20), inner=build_times(total=18), b=build_times(infer=9), c=build_times(infer=9)
    )
    assert [(called.model, called.calls) for called in times.called] == [("inner", 1.0)]


def test_the_time_of_calls_is_a_part_of_the_computation_of_the_model_whose_code_makes_them() -> None:
    configs = {"both": build_ensemble("a: IN -> t", "b: t -> OUT"), "a": PLAIN, "b": PLAIN, "inner": PLAIN}
    times = measure(
        configs,
        both=build_times(total=25),
        a=build_times(infer=22),
        b=build_times(infer=2),
        inner=build_times(200, queue=1, infer=4),
        calls={"a": ["inner"], "elsewhere": ["inner"]},
    )
    (called,) = times.called
    assert (called.callers, called.calls, called.total) == (("a",), 2.0, pytest.approx(10))
    assert [(step.name, step.queue, step.compute_infer) for step in called.steps] == [("inner", 1.0, 4.0)]
    assert [step.calls for step in times.steps] == [pytest.approx(10), 0.0]
    assert (sum(step.total for step in times.critical_path), times.overhead) == (24.0, 1.0)  # calls are not added


def test_an_execution_waits_for_the_calls_of_its_whole_batch() -> None:
    times = measure(
        {"a": PLAIN, "inner": PLAIN},
        a=build_times(infer=22, batch=4),
        inner=build_times(infer=5),
        calls={"a": ["inner"]},
    )
    assert times.steps[0].calls == pytest.approx(20)
    found = find_bottleneck(times, {"a": PLAIN, "inner": PLAIN})
    assert found is not None
    assert found.kind == "calls"
    assert "1 x inner (5.00 ms), 20.0 ms for all requests of a batch (mean batch 4.0)" in found.sentence


def test_calls_at_the_same_time_or_of_several_models_are_no_part_that_is_known() -> None:
    configs = {"both": build_ensemble("a: IN -> t", "b: t -> OUT"), "a": PLAIN, "b": PLAIN, "inner": PLAIN}
    models = {"both": build_times(total=20), "a": build_times(infer=12), "b": build_times(infer=8)}
    at_once = measure(configs, **models, inner=build_times(300, infer=6), calls={"a": ["inner"]})
    assert at_once.steps[0].calls == 0.0
    of_both = measure(configs, **models, inner=build_times(200, infer=6), calls={"a": ["inner"], "b": ["inner"]})
    assert (of_both.called[0].callers, [step.calls for step in of_both.steps]) == (("a", "b"), [0.0, 0.0])


def test_calls_of_called_models_and_of_the_steps_of_called_ensembles_are_listed_below_the_first_caller() -> None:
    configs = {
        "a": PLAIN,
        "chain": build_ensemble("b: IN -> t", "c: t -> OUT"),
        **dict.fromkeys(("b", "c", "deep"), PLAIN),
    }
    times = measure(
        configs,
        a=build_times(infer=20),
        chain=build_times(total=15),
        b=build_times(infer=4),
        c=build_times(infer=10),
        deep=build_times(infer=3),
        calls={"a": ["chain", "a"], "c": ["deep", "absent"], "deep": ["a"]},
    )
    names = [(called.model, [step.name for step in called.steps]) for called in times.list_called("a")]
    assert names == [("chain", ["chain/b", "chain/c"]), ("deep", ["deep"])]
    assert times.steps[0].calls == pytest.approx(15)
    found = find_bottleneck(times, configs)
    assert found is not None
    assert found.kind == "calls"
    assert "deep" not in found.sentence  # its time is in that of chain


def test_executions_that_take_longer_under_load_are_contention() -> None:
    configs = {"a": parse_config('backend: "python" instance_group { count: 4 }')}
    alone = measure(configs, a=build_times(infer=10))
    found = find_bottleneck(measure(configs, a=build_times(queue=100, infer=40)), configs, baseline=alone)
    assert found is not None
    assert found.kind == "contention"
    assert "4.0 times as long as without load" in found.sentence


def test_a_larger_batch_that_takes_longer_is_not_contention() -> None:
    configs = {"a": parse_config("instance_group { count: 2 } max_batch_size: 8 dynamic_batching {}")}
    alone = measure(configs, a=build_times(infer=10))
    found = find_bottleneck(measure(configs, a=build_times(queue=100, infer=40, batch=4)), configs, baseline=alone)
    assert found is not None
    assert found.kind == "queue"


def test_a_step_that_waits_behind_a_rate_limiter_names_the_step_with_the_resources() -> None:
    limiter = 'instance_group { count: 4 rate_limiter { resources { name: "licence" count: 1 } } }'
    configs = {"both": build_ensemble("a: IN -> t", "b: t -> OUT"), "a": PLAIN, "b": parse_config(limiter)}
    times = measure(configs, both=build_times(total=50), a=build_times(queue=28, infer=2), b=build_times(infer=10))
    found = find_bottleneck(times, configs)
    assert found is not None
    assert (found.kind, found.step) == ("queue", "a")  # b waits for nothing
    times = measure(
        configs, both=build_times(total=50), a=build_times(queue=28, infer=2), b=build_times(queue=8, infer=10)
    )
    found = find_bottleneck(times, configs)
    assert found is not None
    assert (found.kind, found.step) == ("rate_limiter", "b")
    assert "a waits 28.0 ms behind them" in found.sentence
