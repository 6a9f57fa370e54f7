"""Metrics: values that are read off the lines of a program's log. This module does no I/O."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from tritonforge.training.job.job import MetricDefinition
from tritonforge.training.job.outcomes import Measured

__all__ = ["Metrics"]


class Metrics:
    """A job's metric definitions, and the last value of each; what a definition finds in a line is its first group."""

    def __init__(self, definitions: Sequence[MetricDefinition]) -> None:
        self._expressions = [(each.name, re.compile(each.regex)) for each in definitions]
        self.last: dict[str, Measured] = {}

    def read(self, line: str, seconds: float) -> Iterator[Measured]:
        """The values in a line that was read at ``seconds`` since 1970; what is no number is passed over.

        >>> metrics = Metrics([MetricDefinition(name="loss", regex="loss=([0-9.]+)")])
        >>> [each.value for each in metrics.read("epoch 1 loss=0.5", 0.0)]
        [0.5]
        """
        for name, expression in self._expressions:
            for match in expression.finditer(line):
                try:
                    value = float(match[1])
                except (TypeError, ValueError):  # a group that took no part, or text
                    continue
                self.last[name] = measured = Measured(name, value, seconds)
                yield measured
