"""The search: propose a point, load it, measure it, write it down; then check the best one against the present one.

It talks to a `TrialServer` by three functions, so that a test or a recorded grid can take its place.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from tritonforge.errors import ConnectError, DecodeError, LaunchError
from tritonforge.triton.schema import ModelConfig
from tritonforge.tuning.model_control import TrialError
from tritonforge.tuning.objective import Comparison, Measurement, Objective, compare_measurements
from tritonforge.tuning.optimizer import (
    Observation,
    Optimizer,
    choose_best,
    estimate_scores,
    propose_point,
    rank_changes,
    take_back,
)
from tritonforge.tuning.search_space import Point, SearchSpace
from tritonforge.tuning.trial_journal import JournaledTrial, TrialJournal

__all__ = ["Budget", "Confirmation", "Search", "TrialServer"]

#: A point whose score is surely below this share of the best one is not measured to the end.
_HOPELESS: Final = 0.7
#: How many of the points that the model has as the best are measured, longer, before one is chosen.
_FINALISTS: Final = 5
#: Shares of the changes, the least important ones first, that are taken back together to see whether they matter: a
#: search changes many settings on its way that have no effect.
_SHARES: Final = (0.75, 0.5, 0.25)
#: A simpler point is taken if the model has it at least at this share of the best one.
_AS_GOOD: Final = 0.98


class TrialServer(Protocol):
    """A server whose configurations can be changed, and a load on it."""

    def apply(self, configs: Mapping[str, ModelConfig]) -> None:
        """Serve these configurations. Raises TrialError, LaunchError or ConnectError."""

    def measure(self, *, least_throughput: float, is_long: bool) -> Measurement:
        """Measure the present configurations; a throughput surely below the least one may end it early."""


@dataclass(frozen=True, slots=True)
class Budget:
    """When a search ends: after this many trials, those of a continued journal included, or this many seconds."""

    trials: int
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Confirmation:
    """Measurements of the present and of the best point, made in turn, and their comparison."""

    before: tuple[Measurement, ...]
    after: tuple[Measurement, ...]
    comparison: Comparison


@dataclass(slots=True)
class Search:
    """One search.

    ``on_trial`` gets every trial, with the number of trials so far; ``is_stopped`` ends it early; ``propose`` chooses
    the points.
    """

    space: SearchSpace
    objective: Objective
    server: TrialServer
    journal: TrialJournal
    seed: int = 0
    on_trial: Callable[[JournaledTrial, int], None] = lambda trial, count: None
    is_stopped: Callable[[], bool] = lambda: False
    propose: Optimizer = propose_point
    _clock: Callable[[], float] = field(default=time.monotonic)

    @property
    def best(self) -> JournaledTrial | None:
        """The trial with the best score within the limits, else with the best score; None if none succeeded."""
        return max(self._list_measured(), key=self._rank, default=None)

    def run(self, budget: Budget) -> None:
        """Make trials until the budget is spent, or nothing is left to try."""
        end = None if budget.seconds is None else self._clock() + budget.seconds
        while len(self.journal.trials) < budget.trials and not self.is_stopped():
            if end is not None and self._clock() >= end:
                return
            point = self.propose(self.space, self._list_observations(), self.seed)
            if point is None:
                return
            trial = self._make_trial(point)
            if self.is_stopped():  # what was measured until then is not a trial
                return
            self.journal.append(trial)
            self.on_trial(trial, len(self.journal.trials))

    def choose(self, *, on_measure: Callable[[int], None] = lambda count: None) -> Point:
        """Return the point to recommend: the best one by all measurements, made simpler.

        Points that no trial measured are among the candidates. It is the present one if it is the best, if no trial is
        within the limits, or if the search is stopped. ``on_measure`` gets the number of each measurement as it begins.
        """
        current = self.space.canonicalize(self.space.current)
        within = [trial.point for trial in self._list_measured() if self._rank(trial)[0]]
        if not within:
            return current
        observations = list(self._list_observations())
        beyond = {trial.point for trial in self.journal.trials} - set(within)
        finalists = choose_best(self.space, observations, count=_FINALISTS, without=beyond)
        if finalists[0] == current:
            return current

        is_within: dict[Point, bool] = {}

        def measure(point: Point) -> bool:
            """Measure a point once more, longer, and return whether it is within the limits."""
            if self.is_stopped():
                return False
            if point not in is_within:
                on_measure(len(is_within) + 1)
                observation, is_within[point] = self._measure_again(point)
                observations.append(observation)
            return is_within[point]

        def choose_of(points: Sequence[Point]) -> Point:
            scores = estimate_scores(self.space, observations, points)
            return points[scores.index(max(scores))]

        best = choose_of([point for point in finalists if measure(point)] or within)
        order = rank_changes(self.space, observations, best)
        for share in _SHARES:
            simpler = take_back(self.space, best, order[: int(share * len(order))])
            is_allowed = measure(simpler)
            if self.is_stopped():
                return current
            scores = estimate_scores(self.space, observations, [simpler, best])
            if is_allowed and scores[0] >= _AS_GOOD * scores[1]:
                return simpler
        return best

    def confirm(self, point: Point, *, pairs: int, on_pair: Callable[[int], None] = lambda pair: None) -> Confirmation:
        """Measure the present point and another one in turn.

        Raises:
            TrialError, ConnectError: one of them is not served any more.
        """
        before: list[Measurement] = []
        after: list[Measurement] = []
        for pair in range(pairs):
            on_pair(pair)
            for chosen, measurements in ((self.space.current, before), (point, after)):
                self.server.apply(self.space.apply(chosen))
                measurements.append(self.server.measure(least_throughput=0.0, is_long=True))
            if self.is_stopped():
                break
        return Confirmation(tuple(before), tuple(after), compare_measurements(before, after, self.objective))

    def _make_trial(self, point: Point) -> JournaledTrial:
        began = self._clock()
        best = self.best
        least = 0.0
        if self.objective.goal == "throughput" and best is not None and best.measurement is not None:
            least = _HOPELESS * self.objective.score(best.measurement)
        try:
            self.server.apply(self.space.apply(point))
            loaded = self._clock()
            measurement = self.server.measure(least_throughput=least, is_long=False)
        except (TrialError, LaunchError, ConnectError, DecodeError) as error:
            return JournaledTrial(point, None, str(error), load_seconds=self._clock() - began)
        return JournaledTrial(point, measurement, "", loaded - began, self._clock() - loaded)

    def _measure_again(self, point: Point) -> tuple[Observation, bool]:
        """Return a longer measurement of a point, and whether it is within the limits."""
        try:
            self.server.apply(self.space.apply(point))
            measurement = self.server.measure(least_throughput=0.0, is_long=True)
        except (TrialError, LaunchError, ConnectError, DecodeError):
            return Observation(point, 0.0), False
        return Observation(point, self._score(measurement)), self.objective.is_met(measurement)

    def _list_measured(self) -> list[JournaledTrial]:
        return [trial for trial in self.journal.trials if trial.measurement is not None]

    def _list_observations(self) -> Sequence[Observation]:
        return [
            Observation(trial.point, 0.0 if trial.measurement is None else self._score(trial.measurement))
            for trial in self.journal.trials
        ]

    def _score(self, measurement: Measurement) -> float:
        """Return the score of a measurement; beyond the limits it is at most the best one within them.

        A fast point a little beyond a limit would lead the search away from all that are within it.
        """
        score, best = self.objective.score(measurement), self.best
        if best is None or best.measurement is None or self.objective.is_met(measurement):
            return score
        return min(score, self.objective.score(best.measurement)) if self._rank(best)[0] else score

    def _rank(self, trial: JournaledTrial) -> tuple[bool, float]:
        assert trial.measurement is not None
        return self.objective.is_met(trial.measurement), self.objective.score(trial.measurement)
