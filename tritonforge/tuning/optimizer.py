"""Which point to measure next, from the points measured so far. No I/O.

The model is a Gaussian process on the logarithm of the score. Every setting has its own rate, by which points that
differ in it are less alike; a setting without effect has a small one. Rates and noise are not fitted, since a few
measurements allow many: they are drawn at random, kept by their likelihood, and predictions are averaged. The next
point has the largest expected improvement (Jones et al. 1998) over what the model makes of the best point, not over the
best figure, which noise made larger than it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from tritonforge.tuning.search_space import DELAY, MAX_BATCH_SIZE, PREFERRED, Point, SearchSpace

__all__ = ["Observation", "Optimizer", "choose_best", "estimate_scores", "list_neighbours", "propose_point",
           "rank_changes", "take_back"]  # fmt: skip

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Observation:
    """A point and its score, larger is better and above 0; 0 for a point that does not load or does not answer."""

    point: Point
    score: float


#: Returns a point that is not in the history, None where all points were measured. It is a function of the space, the
#: history and a seed, so that an interrupted search continues unchanged.
Optimizer: TypeAlias = Callable[[SearchSpace, Sequence[Observation], int], Point | None]

#: Trials before the model is used: the present point, points that differ from it in many settings, and the one of
#: the fewest instances and threads.
_STARTING: Final = 6
#: Points of a space that are all compared; of a larger space, neighbours of the best ones and random ones.
_ENUMERATED: Final = 4096
_RANDOM: Final = 2000
_BEST: Final = 4

#: The least distance of two values of a setting, whose ends have the distance 1: often a value in the middle is the
#: best, and "off" or the default has little in common with the number beside it.
_LEAST_DISTANCE: Final = 0.1
#: Bounds of a rate: between the ends of a setting the correlation is exp(-rate).
_RATES: Final = (0.03, 3.0)
#: Bounds of the variance of noise, as a share of the variance of scores.
_NOISES: Final = (1e-3, 1.0)
#: The least probability with which a point is expected to load and to answer.
_LEAST_PROBABILITY: Final = 0.05
#: Draws of rates and noise, and how many of them are kept, by their likelihood.
_DRAWS: Final = 256
_KEPT: Final = 16


def propose_point(space: SearchSpace, history: Sequence[Observation], seed: int) -> Point | None:
    """Return the point with the largest expected improvement."""
    measured = {entry.point for entry in history}
    first = space.canonicalize(space.current)
    if first not in measured:
        return first
    generator = np.random.default_rng([seed, len(history)])
    candidates = _list_candidates(space, history, generator)
    if not candidates:
        return None
    answered = [entry for entry in history if entry.score > 0]
    fewest = _choose_fewest_instances(space)
    if len(history) == _STARTING - 1 and fewest not in measured:
        return fewest
    if len(history) < _STARTING or not answered:
        return _choose_distant(space, candidates, measured)
    model = _GaussianProcess.draw_scores(space, answered, generator)
    best = model.predict([entry.point for entry in answered])[0].max(axis=1, keepdims=True)
    improvement = _expect_improvement(*model.predict(candidates), best).mean(axis=0)
    improvement *= _estimate_probabilities(space, history, candidates, generator)
    return candidates[int(np.argmax(improvement))]


def estimate_scores(space: SearchSpace, history: Sequence[Observation], points: Sequence[Point]) -> list[float]:
    """Return the scores of points as the model has them: less noisy than single measurements.

    They are smaller where a point may not load or not answer; 0 if none of the history did.
    """
    generator = np.random.default_rng(len(history))
    answered = [entry for entry in history if entry.score > 0]
    if not answered:
        return [0.0] * len(points)
    means = _GaussianProcess.draw_scores(space, answered, generator).predict(points)[0].mean(axis=0)
    return [float(score) for score in np.exp(means) * _estimate_probabilities(space, history, points, generator)]


def choose_best(
    space: SearchSpace, history: Sequence[Observation], *, count: int, without: Collection[Point] = ()
) -> list[Point]:
    """Return the points that the model has as the best ones, the best one first, also such that were not measured."""
    measured = dict.fromkeys(entry.point for entry in history)
    others = _list_candidates(space, history, np.random.default_rng(len(history)))
    points = [point for point in (*measured, *others) if point not in without]
    scores = np.array(estimate_scores(space, history, points))
    return [points[place] for place in np.argsort(-scores, kind="stable")[:count]]


def rank_changes(space: SearchSpace, history: Sequence[Observation], point: Point) -> list[int]:
    """Return the settings in which a point differs from the present one, the least important one first.

    The importance is the score that the model predicts to be lost where the setting alone is taken back.
    """
    changed = [index for index, setting in enumerate(space.settings) if point[index] != setting.current]
    if not changed:
        return []
    scores = estimate_scores(space, history, [take_back(space, point, [index]) for index in changed])
    return [changed[place] for place in np.argsort(-np.array(scores), kind="stable")]


def take_back(space: SearchSpace, point: Point, indices: Collection[int]) -> Point:
    """Return a point with the present values of these settings."""
    return space.canonicalize(
        [setting.current if index in indices else point[index] for index, setting in enumerate(space.settings)]
    )


def list_neighbours(space: SearchSpace, point: Point) -> list[Point]:
    """Return the points that differ in the value of one setting."""
    return list(
        dict.fromkeys(
            space.canonicalize((*point[:index], value, *point[index + 1 :]))
            for index, size in enumerate(space.sizes)
            for value in range(size)
            if value != point[index]
        )
    )


def _list_candidates(space: SearchSpace, history: Sequence[Observation], generator: np.random.Generator) -> list[Point]:
    """Return points that were not measured, in random order: of equally good ones none is preferred."""
    if space.count_points() <= _ENUMERATED:
        points = list(space.all_points)
    else:
        best = sorted(history, key=lambda entry: -entry.score)[:_BEST]
        points = [point for entry in best for point in list_neighbours(space, entry.point)]
        points += [
            second for first in list_neighbours(space, best[0].point) for second in list_neighbours(space, first)
        ]
        drawn = np.stack([generator.integers(0, size, _RANDOM) for size in space.sizes], axis=1)
        points += [space.canonicalize(row) for row in drawn.tolist()]
    measured = {entry.point for entry in history}
    distinct = [point for point in dict.fromkeys(points) if point not in measured]
    return [distinct[place] for place in generator.permutation(len(distinct))]


def _choose_distant(space: SearchSpace, candidates: Sequence[Point], measured: Collection[Point]) -> Point:
    """Return the candidate that is farthest from all measured ones: a design that fills the space."""
    distances = _measure_distances(space, candidates, list(measured)).sum(axis=0).min(axis=1)
    return candidates[int(np.argmax(distances))]


def _choose_fewest_instances(space: SearchSpace) -> Point:
    """Return the point of the fewest instances and threads, with dynamic batching without a delay.

    Steps that share processors are often fastest like this (two of the three grids of ``tests/benchmarks``), and points
    that are far from each other have the extremes of all settings instead.
    """
    point = list(space.current)
    for index, setting in enumerate(space.settings):
        if setting.name == DELAY and 0 in setting.values:
            point[index] = setting.values.index(0)
        elif setting.name not in (DELAY, PREFERRED, MAX_BATCH_SIZE):
            point[index] = next(place for place, value in enumerate(setting.values) if value is not None)
    return space.canonicalize(point)


def _estimate_probabilities(
    space: SearchSpace, history: Sequence[Observation], points: Sequence[Point], generator: np.random.Generator
) -> Array:
    """Return the probabilities with which points load and answer.

    Failures have a model of their own: as very bad scores they would also keep a search from other points with the
    values that a failed one had beside the reason.
    """
    targets = np.array([float(entry.score > 0) for entry in history])
    if targets.all():
        return np.ones(len(points))
    model = _GaussianProcess.draw(space, [entry.point for entry in history], targets, generator)
    return np.asarray(np.clip(model.predict(points)[0].mean(axis=0), _LEAST_PROBABILITY, 1.0))


def _measure_distances(space: SearchSpace, first: Sequence[Point], second: Sequence[Point]) -> Array:
    """Return how far apart the values of settings are, from 0 to 1; settings x first x second."""
    sizes = np.array([max(size - 1, 1) for size in space.sizes], dtype=np.float64)
    one, other = np.asarray(first) / sizes, np.asarray(second) / sizes
    distances = np.abs(one.T[:, :, None] - other.T[:, None, :])
    return np.asarray(_LEAST_DISTANCE * (distances > 0) + (1 - _LEAST_DISTANCE) * distances)


@dataclass(frozen=True, slots=True)
class _GaussianProcess:
    """A Gaussian process of the targets of points, as draws of its rates and noise.

    Attributes:
        space: of the points.
        points: that were measured.
        rates: of the settings; draws x settings.
        inverses: of the lower factors of the covariances; draws x points x points.
        means: of targets; draws.
        residuals: of targets, multiplied by ``inverses``; draws x points.
        variances: of targets; draws.
    """

    space: SearchSpace
    points: Sequence[Point]
    rates: Array
    inverses: Array
    means: Array
    residuals: Array
    variances: Array

    @classmethod
    def draw_scores(
        cls, space: SearchSpace, answered: Sequence[Observation], generator: np.random.Generator
    ) -> _GaussianProcess:
        """Return the model of the logarithms of scores, all above 0."""
        targets = np.log(np.array([entry.score for entry in answered]))
        return cls.draw(space, [entry.point for entry in answered], targets, generator)

    @classmethod
    def draw(
        cls, space: SearchSpace, points: Sequence[Point], targets: Array, generator: np.random.Generator
    ) -> _GaussianProcess:
        """Return the model of targets.

        Mean and variance of a draw are the most likely ones (Jones et al. 1998, equations 5 and 6).
        """
        rates = _draw_logarithmic(generator, *_RATES, (_DRAWS, len(space.settings)))
        noises = _draw_logarithmic(generator, *_NOISES, (_DRAWS, 1, 1))
        count = len(targets)
        lower = np.linalg.cholesky(_correlate(space, points, points, rates) + noises * np.eye(count))
        scaled, ones = np.moveaxis(_solve_lower(lower, np.stack([targets, np.ones(count)], axis=1)), 2, 0)
        means = (scaled * ones).sum(axis=1) / (ones**2).sum(axis=1)
        residuals = scaled - means[:, None] * ones
        variances = np.maximum((residuals**2).mean(axis=1), 1e-12)
        likelihoods = -0.5 * count * np.log(variances) - np.log(np.diagonal(lower, axis1=1, axis2=2)).sum(axis=1)
        weights = np.exp(likelihoods - likelihoods.max())
        kept = generator.choice(_DRAWS, _KEPT, p=weights / weights.sum())
        inverses = _solve_lower(lower[kept], np.eye(count))
        return cls(space, points, rates[kept], inverses, means[kept], residuals[kept], variances[kept])

    def predict(self, points: Sequence[Point]) -> tuple[Array, Array]:
        """Return mean and standard deviation of the targets of points; draws x points."""
        explained = self.inverses @ _correlate(self.space, self.points, points, self.rates)
        means = self.means[:, None] + np.einsum("dn,dnp->dp", self.residuals, explained)
        rest = np.maximum(1.0 - (explained**2).sum(axis=1), 1e-9)
        return np.asarray(means), np.asarray(np.sqrt(self.variances[:, None] * rest))


def _solve_lower(lower: Array, right: Array) -> Array:
    """Return the solutions of many small lower triangular systems with the same right-hand sides.

    All systems take a step at once: LAPACK takes them one by one, and its threads wait for each other at each.
    """
    solution = np.empty((*lower.shape[:2], right.shape[1]))
    for row in range(len(right)):
        known = lower[:, row : row + 1, :row] @ solution[:, :row]
        solution[:, row] = (right[row] - known[:, 0]) / lower[:, row, row, None]
    return solution


def _draw_logarithmic(generator: np.random.Generator, low: float, high: float, shape: tuple[int, ...]) -> Array:
    """Return random numbers, uniform in their logarithm."""
    return np.asarray(np.exp(generator.uniform(math.log(low), math.log(high), shape)))


def _correlate(space: SearchSpace, first: Sequence[Point], second: Sequence[Point], rates: Array) -> Array:
    """Return exponential correlations, as of values without jumps that are not smooth; draws x first x second."""
    return np.asarray(np.exp(-np.tensordot(rates, _measure_distances(space, first, second), axes=1)))


def _expect_improvement(mean: Array, deviation: Array, best: Array) -> Array:
    """Return the expected improvement over the best logarithm."""
    distance = (mean - best) / deviation
    density = np.exp(-0.5 * distance**2) / math.sqrt(2 * math.pi)
    probability = 0.5 * (1 + np.vectorize(math.erf)(distance / math.sqrt(2)))
    return np.asarray(deviation * (distance * probability + density))
