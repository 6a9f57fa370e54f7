"""Which point to measure next, from the points measured so far. No I/O.

An optimizer is a function of the space, the history and a seed, so that an interrupted search continues unchanged.
`propose_point` is the one that `tune` uses; the others are what `tests/benchmarks/tune_grids.py` compares it with.

The model is a Gaussian process on the logarithm of the score: settings act on their own (an additive part) and together
(a product part), and neighbouring values are alike. The next point has the largest expected improvement (Jones et al.
1998). Hyperparameters have the largest marginal likelihood of a small grid, which is exact enough for tens of trials.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from tritonforge.tuning.search_space import Point, SearchSpace

__all__ = ["OPTIMIZERS", "Observation", "Optimizer", "propose_point", "rank_changes", "take_back"]

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Observation:
    """A point and its score, larger is better and above 0; 0 for a point that does not load or does not answer."""

    point: Point
    score: float


#: Returns a point that is not in the history, None where all points were measured.
Optimizer: TypeAlias = Callable[[SearchSpace, Sequence[Observation], int], Point | None]

#: Trials before the model is used: the present point, and points that differ from it in many settings.
_STARTING: Final = 4
#: Points of a space that are all compared; of a larger space, neighbours of the best ones and random ones.
_ENUMERATED: Final = 4096
_RANDOM: Final = 2000
_BEST: Final = 4

_LENGTHS: Final = (0.4, 0.8, 1.6)
#: The share of the additive part; the best of 0, 0.3, 0.5 and 0.7 on the recorded grids.
_ADDITIVE: Final = 0.3
_NOISES: Final = (1e-3, 1e-2, 5e-2)


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
    if len(history) < _STARTING:
        return _choose_distant(space, candidates, measured)
    features = _encode(space, [entry.point for entry in history])
    targets = _scale([entry.score for entry in history])
    options = _encode(space, candidates)
    mean, deviation = _predict(features, targets, options)
    improvement = _expect_improvement(mean, deviation, float(targets.max()))
    return candidates[int(np.argmax(improvement))]


def rank_changes(space: SearchSpace, history: Sequence[Observation], point: Point) -> list[int]:
    """Return the settings in which a point differs from the present one, the least important one first.

    The importance is the score that the model predicts to be lost where the setting alone is taken back.
    """
    changed = [index for index, setting in enumerate(space.settings) if point[index] != setting.current]
    if not changed:
        return []
    options = [take_back(space, point, [index]) for index in changed]
    features = _encode(space, [entry.point for entry in history])
    means = _predict(features, _scale([entry.score for entry in history]), _encode(space, options))[0]
    return [changed[place] for place in np.argsort(-means, kind="stable")]


def take_back(space: SearchSpace, point: Point, indices: Collection[int]) -> Point:
    """Return a point with the present values of these settings."""
    return space.canonicalize(
        [setting.current if index in indices else point[index] for index, setting in enumerate(space.settings)]
    )


def propose_random(space: SearchSpace, history: Sequence[Observation], seed: int) -> Point | None:
    """Return a random point."""
    measured = {entry.point for entry in history}
    generator = np.random.default_rng([seed, len(history)])
    candidates = [point for point in _list_candidates(space, history, generator) if point not in measured]
    return candidates[int(generator.integers(len(candidates)))] if candidates else None


def propose_neighbour(space: SearchSpace, history: Sequence[Observation], seed: int) -> Point | None:
    """Return a point that differs from the best one in one setting, in turn; a random one when all were measured."""
    measured = {entry.point for entry in history}
    first = space.canonicalize(space.current)
    if first not in measured:
        return first
    best = max(history, key=lambda entry: entry.score).point
    generator = np.random.default_rng([seed, len(history)])
    neighbours = [point for point in _list_neighbours(space, best) if point not in measured]
    if not neighbours:
        return propose_random(space, history, seed)
    return neighbours[int(generator.integers(len(neighbours)))]


OPTIMIZERS: Final[dict[str, Optimizer]] = {
    "gaussian process": propose_point,
    "coordinate search": propose_neighbour,
    "random": propose_random,
}


def _list_candidates(space: SearchSpace, history: Sequence[Observation], generator: np.random.Generator) -> list[Point]:
    """Return points that were not measured, in a fixed order."""
    measured = {entry.point for entry in history}
    if space.count_points() <= _ENUMERATED:
        points: Collection[Point] = space.all_points
    else:
        best = sorted(history, key=lambda entry: -entry.score)[:_BEST]
        near = [point for entry in best for point in _list_neighbours(space, entry.point)]
        around = [second for entry in best[:1] for first in _list_neighbours(space, entry.point)
                  for second in _list_neighbours(space, first)]  # fmt: skip
        drawn = np.stack([generator.integers(0, size, _RANDOM) for size in space.sizes], axis=1)
        points = [*near, *around, *(space.canonicalize(row) for row in drawn.tolist())]
    return [point for point in dict.fromkeys(points) if point not in measured]


def _list_neighbours(space: SearchSpace, point: Point) -> list[Point]:
    """Return the points that differ in the value of one setting."""
    return list(
        dict.fromkeys(
            space.canonicalize((*point[:index], value, *point[index + 1 :]))
            for index, size in enumerate(space.sizes)
            for value in range(size)
            if value != point[index]
        )
    )


def _choose_distant(space: SearchSpace, candidates: Sequence[Point], measured: Collection[Point]) -> Point:
    """Return the candidate that is farthest from all measured ones: a design that fills the space."""
    options, known = _encode(space, candidates), _encode(space, list(measured))
    distances = np.abs(options[:, None, :] - known[None, :, :]).sum(axis=2).min(axis=1)
    return candidates[int(np.argmax(distances))]


def _encode(space: SearchSpace, points: Sequence[Point]) -> Array:
    """Return the values of settings as numbers from 0 to 1, in the order of their values; points x settings."""
    sizes = np.array([max(size - 1, 1) for size in space.sizes], dtype=np.float64)
    return np.asarray(points, dtype=np.float64) / sizes


def _scale(scores: Sequence[float]) -> Array:
    """Return logarithms of scores with mean 0 and deviation 1; a failed point is worse than the worst."""
    logarithms = _take_logarithms(scores)
    deviation = float(logarithms.std())
    return np.asarray((logarithms - logarithms.mean()) / (deviation or 1.0))


def _take_logarithms(scores: Sequence[float]) -> Array:
    least = min([score for score in scores if score > 0], default=1.0) / 2
    return np.asarray(np.log(np.array([max(score, least) for score in scores])))


def _compute_kernel(first: Array, second: Array, length: float) -> Array:
    """Return the covariances of two lists of points."""
    differences = np.abs(first[:, None, :] - second[None, :, :]) / length
    # Matern 3/2: values change without jumps, and not as smoothly as with a square in the exponent.
    parts = (1 + math.sqrt(3) * differences) * np.exp(-math.sqrt(3) * differences)
    return np.asarray(_ADDITIVE * parts.mean(axis=2) + (1 - _ADDITIVE) * np.exp(np.log(parts).mean(axis=2) * 2))


def _predict(features: Array, targets: Array, options: Array) -> tuple[Array, Array]:
    """Return mean and standard deviation of the targets of ``options``."""
    best: tuple[float, Any] | None = None
    for length, noise in itertools.product(_LENGTHS, _NOISES):
        covariance = _compute_kernel(features, features, length) + noise * np.eye(len(features))
        lower = np.linalg.cholesky(covariance)
        weights = np.linalg.solve(lower.T, np.linalg.solve(lower, targets))
        likelihood = -0.5 * float(targets @ weights) - float(np.log(np.diag(lower)).sum())
        if best is None or likelihood > best[0]:
            best = likelihood, (length, lower, weights)
    assert best is not None
    length, lower, weights = best[1]
    cross = _compute_kernel(options, features, length)
    mean = cross @ weights
    explained = np.linalg.solve(lower, cross.T)
    variance = np.maximum(1.0 - (explained**2).sum(axis=0), 1e-9)
    return np.asarray(mean), np.asarray(np.sqrt(variance))


def _expect_improvement(mean: Array, deviation: Array, best: float) -> Array:
    """Return the expected improvement over the best target."""
    distance = (mean - best) / deviation
    density = np.exp(-0.5 * distance**2) / math.sqrt(2 * math.pi)
    probability = 0.5 * (1 + np.vectorize(math.erf)(distance / math.sqrt(2)))
    return np.asarray(deviation * (distance * probability + density))
