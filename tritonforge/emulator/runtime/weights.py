"""Shares by counting: which variant takes the next request, which request is sampled. This module does no I/O.

AWS draws at random; here the same requests always meet the same variants, and after any number of requests the shares
are as close to the weights as whole requests can be.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["Balance", "Sampling"]


class Balance:
    """Chooses among weights so that every one gets its share, spread evenly (the smooth weighted round robin).

    >>> balance = Balance()
    >>> [balance.choose((2.0, 1.0)) for _ in range(6)]
    [0, 1, 0, 0, 1, 0]
    """

    def __init__(self) -> None:
        self._weights: tuple[float, ...] = ()
        self._credit: list[float] = []

    def choose(self, weights: Sequence[float]) -> int:
        """The index of the next; a weight of 0 is never chosen. Other weights than the last begin a new count.

        Raises:
            ValueError: no weight is above 0.
        """
        if tuple(weights) != self._weights:
            self._weights = tuple(weights)
            self._credit = [0.0] * len(self._weights)
        candidates = [index for index, weight in enumerate(self._weights) if weight > 0]
        if not candidates:
            raise ValueError("no weight is above 0")
        for index in candidates:
            self._credit[index] += self._weights[index]
        chosen = max(candidates, key=lambda index: self._credit[index])
        self._credit[chosen] -= sum(self._weights)
        return chosen


class Sampling:
    """Takes a percentage of what passes: of 20 % every fifth.

    >>> sampling = Sampling()
    >>> [sampling.takes(50) for _ in range(4)]
    [False, True, False, True]
    """

    def __init__(self) -> None:
        self._credit = 0.0

    def takes(self, percentage: float) -> bool:
        """Whether the next is taken; of 100 all are, of 0 none."""
        self._credit += min(max(percentage, 0.0), 100.0)
        if self._credit < 100.0:
            return False
        self._credit -= 100.0
        return True
