"""Measurements are scored by an objective, and a gain within noise is none."""

import math

import pytest

from tritonforge.tuning.objective import Measurement, Objective, compare_measurements

THROUGHPUT = Objective(goal="throughput")


def measure(throughput: float = 100.0, p99: float = 10.0, errors: float = 0.0) -> Measurement:
    return Measurement(throughput=throughput, p50=p99 / 2, p99=p99, errors=errors)


def test_throughput_counts_within_the_limit() -> None:
    objective = Objective(goal="throughput", p99=20)
    assert objective.score(measure(100, 20)) == 100
    assert objective.is_met(measure(100, 20))
    assert not objective.is_met(measure(100, 21))
    assert objective.score(measure(110, 40)) < objective.score(measure(50, 19))
    assert objective.score(measure(110, 30)) > objective.score(measure(110, 40)) > 0


def test_latency_counts_while_the_server_keeps_up() -> None:
    objective = Objective(goal="latency", rate=100)
    assert objective.score(measure(99, 5)) > objective.score(measure(99, 6))
    assert objective.is_met(measure(80, 5))
    assert not objective.is_met(measure(70, 5))
    assert objective.score(measure(50, 5)) < objective.score(measure(99, 6))


def test_a_point_with_errors_is_worth_nothing() -> None:
    assert THROUGHPUT.score(measure(errors=0.1)) == 0
    assert not THROUGHPUT.is_met(measure(errors=0.1))


def test_a_steady_gain_is_one() -> None:
    before = [measure(value) for value in (100, 101, 99, 100, 100)]
    after = [measure(value) for value in (120, 121, 119, 121, 120)]
    comparison = compare_measurements(before, after, THROUGHPUT)
    assert comparison.is_gain
    assert comparison.ratio == pytest.approx(1.2, rel=0.02)
    assert 1.17 < comparison.low < comparison.ratio < comparison.high < 1.24


def test_a_gain_within_noise_is_none() -> None:
    before = [measure(value) for value in (100, 120, 90, 110, 100)]
    after = [measure(value) for value in (110, 100, 115, 108, 101)]
    comparison = compare_measurements(before, after, THROUGHPUT)
    assert not comparison.is_gain
    assert comparison.low < 1 < comparison.ratio


def test_a_gain_beyond_the_limit_is_none() -> None:
    objective = Objective(goal="throughput", p99=20)
    before, after = [measure(10, 50)] * 3, [measure(100, 30)] * 3
    assert not compare_measurements(before, after, objective).is_gain


def test_one_pair_proves_nothing() -> None:
    assert not compare_measurements([measure(100)], [measure(200)], THROUGHPUT).is_gain


def test_errors_before_are_a_gain_and_errors_after_are_none() -> None:
    broken = [measure(errors=0.5)] * 2
    assert compare_measurements(broken, [measure()] * 2, THROUGHPUT).ratio == math.inf
    assert not compare_measurements([measure()] * 2, broken, THROUGHPUT).is_gain
