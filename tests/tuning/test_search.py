"""The search on a server whose throughput is a formula: it finds the best settings, resumes, and trusts no noise."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format

from tritonforge.triton.schema import new_model_config
from tritonforge.tuning.model_control import TrialError
from tritonforge.tuning.objective import Measurement, Objective
from tritonforge.tuning.optimizer import (
    Observation,
    choose_best,
    estimate_scores,
    propose_point,
    rank_changes,
    take_back,
)
from tritonforge.tuning.search import Budget, Search
from tritonforge.tuning.search_space import COUNT, DELAY, SearchSpace
from tritonforge.tuning.space_builder import SpaceLimits, build_space
from tritonforge.tuning.trial_journal import TrialJournal, describe_space

THROUGHPUT = Objective(goal="throughput")


def build(*, batch: int = 8) -> SearchSpace:
    configs: dict[str, Any] = {}
    for name in ("decode", "classify"):
        configs[name] = new_model_config()
        text_format.Parse(f'name: "{name}" backend: "python" max_batch_size: {batch}', configs[name])
    return build_space(configs, configs, limits=SpaceLimits(cores=2, instances=4, rows_in_flight=8))


class Formula:
    """A server: more instances decode faster, batches classify faster, and more than 2 instances of classify fail."""

    def __init__(self, *, has_effect: bool = True) -> None:
        self.applied: list[Mapping[str, Any]] = []
        self.has_effect = has_effect

    def apply(self, configs: Mapping[str, Any]) -> None:
        """Keep the configurations."""
        if len(configs["classify"].instance_group) and configs["classify"].instance_group[0].count > 2:
            raise TrialError("no memory")
        self.applied.append(configs)

    def measure(self, *, least_throughput: float, is_long: bool) -> Measurement:
        """Return the formula's figures, with noise."""
        decode, classify = self.applied[-1]["decode"], self.applied[-1]["classify"]
        throughput = 100.0
        if self.has_effect:
            instances = decode.instance_group[0].count if len(decode.instance_group) else 1
            throughput = min(50.0 * instances, 160.0 if classify.HasField("dynamic_batching") else 90.0)
        noise = (len(self.applied) * 7919 % 13 - 6) / 600  # within 1 %
        return Measurement(throughput=throughput * (1 + noise), p50=1000 / throughput, p99=2000 / throughput)


def start(folder: Path, server: Formula, *, seed: int = 0) -> Search:
    space = build()
    journal = TrialJournal(folder / "trials.jsonl", {"space": describe_space(space), "seed": seed})
    return Search(space, THROUGHPUT, server, journal, seed=seed)


@pytest.mark.parametrize("seed", range(6))
def test_the_best_settings_are_recommended_in_few_trials_and_only_those_that_matter(tmp_path: Path, seed: int) -> None:
    search = start(tmp_path, Formula(), seed=seed)
    search.run(Budget(trials=25))
    chosen = search.choose()
    changes = {(change.model, change.name): change.after for change in search.space.list_changes(chosen)}
    assert changes[("decode", COUNT)] == 4
    assert changes[("classify", DELAY)] is not None
    assert len(changes) <= 4
    confirmation = search.confirm(chosen, pairs=4)
    assert confirmation.comparison.is_gain
    assert confirmation.comparison.ratio == pytest.approx(3.2, rel=0.05)


def test_settings_without_effect_are_not_recommended(tmp_path: Path) -> None:
    search = start(tmp_path, Formula(has_effect=False))
    search.run(Budget(trials=12))
    chosen = search.choose()
    assert chosen == search.space.current or not search.confirm(chosen, pairs=4).comparison.is_gain


def test_where_no_trial_is_within_the_limit_the_present_point_stays_unmeasured(tmp_path: Path) -> None:
    server = Formula()
    search = start(tmp_path, server)
    search.objective = Objective(goal="throughput", p99=1.0)
    search.run(Budget(trials=12))
    measured = len(server.applied)
    assert search.choose() == search.space.current
    assert len(server.applied) == measured


class LateBatches(Formula):
    """A server whose batches of classify come late."""

    def measure(self, *, least_throughput: float, is_long: bool) -> Measurement:
        """Return the formula's throughput, and a latency beyond the limit with batches."""
        measurement = super().measure(least_throughput=least_throughput, is_long=is_long)
        is_late = self.applied[-1]["classify"].HasField("dynamic_batching")
        return Measurement(throughput=measurement.throughput, p50=5.0, p99=21.0 if is_late else 10.0)


@pytest.mark.parametrize("seed", range(3))
def test_a_point_beyond_the_limit_is_not_recommended_although_it_is_faster(tmp_path: Path, seed: int) -> None:
    search = start(tmp_path, LateBatches(), seed=seed)
    search.objective = Objective(goal="throughput", p99=20.0)
    search.run(Budget(trials=20))
    changes = {(change.model, change.name): change.after for change in search.space.list_changes(search.choose())}
    assert ("classify", DELAY) not in changes
    assert changes["decode", COUNT] in (2, 4)


class LateAlone(Formula):
    """A server that is faster, and a little beyond the limit, with one instance of decode."""

    def measure(self, *, least_throughput: float, is_long: bool) -> Measurement:
        """Return throughput and latency by the instances of decode."""
        groups = self.applied[-1]["decode"].instance_group
        is_alone = not groups or groups[0].count == 1
        return Measurement(throughput=200.0 if is_alone else 100.0, p50=5.0, p99=20.05 if is_alone else 10.0)


@pytest.mark.parametrize("trials", [3, 12])
@pytest.mark.parametrize("seed", range(3))
def test_a_change_that_keeps_the_limit_is_not_taken_back(tmp_path: Path, seed: int, trials: int) -> None:
    search = start(tmp_path, LateAlone(has_effect=False), seed=seed)
    search.objective = Objective(goal="throughput", p99=20.0)
    search.run(Budget(trials=trials))
    changes = search.space.list_changes(search.choose())
    assert ("decode", COUNT) in {(change.model, change.name) for change in changes}


def test_one_instance_of_each_model_with_batches_of_what_waits_is_tried_early(tmp_path: Path) -> None:
    search = start(tmp_path, Formula())
    search.run(Budget(trials=6))
    values = search.space.read(search.journal.trials[5].point)
    assert [values[name, setting] for name in ("decode", "classify") for setting in (COUNT, DELAY)] == [1, 0, 1, 0]


def test_a_point_that_no_trial_measured_is_among_the_best_where_its_settings_help_alone() -> None:
    space = build()
    places = [[setting.name for setting in space.settings].index(COUNT), len(space.settings) - 1]
    history = [Observation(space.current, 100.0)]
    for place in places:
        for value in (1, 2):
            point = tuple(value if index == place else current for index, current in enumerate(space.current))
            history.append(Observation(point, 100.0 * (1 + value)))
    both = tuple(2 if index in places else current for index, current in enumerate(space.current))
    assert choose_best(space, history, count=1) == [both]
    assert both not in choose_best(space, history, count=3, without={both})


def test_the_values_that_a_failed_point_has_beside_the_reason_stay_good() -> None:
    space = build()
    names = [(setting.model, setting.name) for setting in space.settings]
    decode, classify = names.index(("decode", COUNT)), names.index(("classify", COUNT))

    def place(instances: int, others: int) -> tuple[int, ...]:
        values = {decode: instances, classify: others}
        return tuple(values.get(index, current) for index, current in enumerate(space.current))

    history = [
        *(Observation(place(decoders, 0), 50.0 * (1 + decoders)) for decoders in (0, 1)),
        *(Observation(place(decoders, 1), 50.0 * (1 + decoders)) for decoders in (0, 1)),
        *(Observation(place(decoders, 2), 0.0) for decoders in (0, 1, 2)),
    ]
    better, present, failing = estimate_scores(space, history, [place(2, 0), place(1, 0), place(2, 2)])
    assert better > 0.75 * present  # 0.73 if failures count as scores, half of the least one
    assert failing < 0.5 * better


def test_measurements_of_the_choice_are_counted_and_a_stop_ends_them(tmp_path: Path) -> None:
    server = Formula()
    search = start(tmp_path, server)
    search.run(Budget(trials=12))
    counts: list[int] = []
    measured = len(server.applied)
    search.choose(on_measure=counts.append)
    assert counts == list(range(1, len(counts) + 1))
    assert len(counts) >= len(server.applied) - measured > 1
    measured = len(server.applied)
    search.is_stopped = lambda: len(server.applied) > measured
    assert search.choose() == search.space.current
    assert len(server.applied) == measured + 1


def test_a_point_that_does_not_load_is_a_failed_trial(tmp_path: Path) -> None:
    search = start(tmp_path, Formula())
    search.run(Budget(trials=25))
    failed = [trial for trial in search.journal.trials if trial.measurement is None]
    assert failed
    assert {trial.error for trial in failed} == {"no memory"}


def test_an_interrupted_search_continues_as_if_it_had_not_been(tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    whole = start(tmp_path / "whole", Formula(has_effect=False))
    whole.run(Budget(trials=10))
    (tmp_path / "parts").mkdir()
    start(tmp_path / "parts", Formula(has_effect=False)).run(Budget(trials=4))
    second = start(tmp_path / "parts", Formula(has_effect=False))
    assert len(second.journal.trials) == 4
    second.run(Budget(trials=10))
    points = [trial.point for trial in second.journal.trials]
    assert len(set(points)) == 10
    assert points[:5] == [trial.point for trial in whole.journal.trials][:5]


def test_a_time_limit_ends_the_search(tmp_path: Path) -> None:
    search = start(tmp_path, Formula())
    times = iter(range(1000))
    search._clock = lambda: float(next(times))
    search.run(Budget(trials=1000, seconds=20))
    assert 0 < len(search.journal.trials) < 10


def test_every_point_of_a_small_space_is_proposed_once() -> None:
    space = build(batch=0)  # instances alone
    history: list[Observation] = []
    while (point := propose_point(space, history, 0)) is not None:
        assert point not in {entry.point for entry in history}
        history.append(Observation(point, 1.0 + len(history) % 3))
    assert history[0].point == space.current
    assert len(history) == 9


def test_the_setting_that_matters_is_taken_back_last() -> None:
    space = build()
    names = [(setting.model, setting.name) for setting in space.settings]
    effect = names.index(("decode", COUNT))
    history: list[Observation] = []
    while len(history) < 15:
        point = propose_point(space, history, 0)
        assert point is not None
        history.append(Observation(point, 100.0 * (1 + point[effect])))
    best = max(
        (entry for entry in history), key=lambda entry: (entry.score, len(space.list_changes(entry.point)))
    ).point
    order = rank_changes(space, history, best)
    assert order[-1] == effect
    assert [change.name for change in space.list_changes(take_back(space, best, order[:-1]))] == [COUNT]
