"""Figures of a load with confidence intervals."""

import numpy as np
import pytest

from tritonforge.profiling.estimates import (
    Estimate,
    count_batches,
    estimate_mean,
    estimate_percentile,
    estimate_throughput,
)
from tritonforge.profiling.load import (
    ClosedLoop,
    GeneratorUsage,
    LoadResult,
    OpenLoop,
    StopRule,
    build_result,
    find_saturation,
    is_precise,
)
from tritonforge.profiling.load_worker import schedule_requests


def test_equal_gaps_have_a_throughput_without_spread() -> None:
    ends = np.arange(1, 101) / 50
    estimate = estimate_throughput(ends, 0.0, batches=10)
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx((50, 50, 50))


def test_few_responses_have_no_interval() -> None:
    assert count_batches(9) == 1
    assert estimate_mean(np.ones(9), batches=1) == Estimate(1.0)
    assert estimate_throughput(np.zeros(0), 0.0, batches=0) == Estimate(0.0)
    assert estimate_percentile(np.zeros(0), 50, batches=0) == Estimate(0.0)
    assert Estimate(1.0).precision == float("inf")


def test_batches_are_longer_with_more_requests_at_a_time() -> None:
    assert [count_batches(1000, concurrency=concurrency) for concurrency in (1, 16, 64, 1000)] == [30, 30, 7, 0]


@pytest.mark.parametrize("percentile", [50, 90, 99])
def test_intervals_contain_the_true_percentile_as_often_as_they_state(percentile: float) -> None:
    """95 % of the intervals, of responses that depend on those before them."""
    true = float(np.percentile(_draw_latencies(10**6, seed=0), percentile))
    hits = 0
    for seed in range(1, 101):
        estimate = estimate_percentile(_draw_latencies(3000, seed=seed), percentile, batches=30)
        assert estimate.low is not None
        assert estimate.high is not None
        hits += estimate.low <= true <= estimate.high
    assert hits >= 88


def _draw_latencies(count: int, *, seed: int) -> np.ndarray:
    """Exponential latencies whose mean changes slowly: the mean of the last 10 draws is part of each one."""
    draws = np.random.default_rng(seed).exponential(1.0, count + 9)
    sums = np.cumsum(np.concatenate(([0.0], draws)))
    return (sums[10:] - sums[:-10]) / 10 + draws[9:]


def measurement(latencies: np.ndarray, *, concurrency: int = 1) -> np.ndarray:
    """Rows of due, sent and answered for clients that send one request after another, from time 0 on."""
    rows = []
    for client in range(concurrency):
        ends = np.cumsum(latencies[client::concurrency])
        rows.append(np.stack([ends - latencies[client::concurrency]] * 2 + [ends], axis=1))
    joined = np.concatenate(rows)
    return joined[np.argsort(joined[:, 2])]


def build(times: np.ndarray, load: ClosedLoop | OpenLoop) -> LoadResult:
    return build_result(
        load, times, begin=0.0, end=float(times[-1, 2]), warm_up=1.0, errors={"late": 1, "full": 3},
        generator=GeneratorUsage(1, 0.1, 0.1), is_stable=True,
    )  # fmt: skip


def test_a_measurement_is_precise_once_its_intervals_are_narrow() -> None:
    latencies = np.random.default_rng(1).normal(0.01, 0.002, 2000)
    times = measurement(latencies)
    stop = StopRule(precision=0.05, min_seconds=2.0)
    assert not is_precise(times[:100], 0.0, stop)  # one second
    assert is_precise(times, 0.0, stop)
    assert not is_precise(times, 0.0, StopRule(precision=0.0001))


def test_a_result_has_throughput_latency_and_errors() -> None:
    result = build(measurement(np.full(400, 0.01), concurrency=4), ClosedLoop(4))
    assert result.throughput.value == pytest.approx(400)
    assert (result.latency.value, result.p50, result.p99) == pytest.approx((10, 10, 10))
    assert (result.requests, result.failures, result.send_lag) == (400, 4, None)
    assert [(error.sentence, error.count) for error in result.errors] == [("full", 3), ("late", 1)]


def test_an_open_loop_counts_latency_from_when_a_request_was_due() -> None:
    times = np.array([[0.0, 0.0, 1.0], [0.1, 1.0, 1.1], [0.2, 1.1, 1.2]])
    result = build(times, OpenLoop(10))
    assert result.latency.value == pytest.approx(1000)
    assert result.send_lag is not None
    assert (result.send_lag.mean, result.send_lag.max) == pytest.approx((600, 900))


def test_the_saturation_is_the_least_load_with_nearly_the_highest_throughput() -> None:
    results = [
        build(measurement(np.full(400, latency), concurrency=concurrency), ClosedLoop(concurrency))
        for concurrency, latency in ((1, 0.01), (2, 0.01), (4, 0.0202), (8, 0.04))
    ]
    best = find_saturation(results)
    assert best is not None
    assert best.load == ClosedLoop(2)
    assert find_saturation([]) is None


def test_constant_requests_of_two_processes_alternate() -> None:
    first, second = (
        schedule_requests(5.0, is_poisson=False, begin=1.0, seed=0, offset=offset) for offset in (0.0, 0.5)
    )
    merged = [due for _ in range(3) for due in (next(first), next(second))]
    assert merged == pytest.approx([1.0, 1.1, 1.2, 1.3, 1.4, 1.5])


def test_poisson_requests_have_the_rate_and_repeat_with_their_seed() -> None:
    first, second = (schedule_requests(100.0, is_poisson=True, begin=0.0, seed=3) for _ in range(2))
    dues = [next(first) for _ in range(10_000)]
    assert dues == [next(second) for _ in range(10_000)]
    gaps = np.diff(dues)
    assert gaps.mean() == pytest.approx(0.01, rel=0.05)
    assert gaps.std() == pytest.approx(0.01, rel=0.05)
