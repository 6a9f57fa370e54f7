"""The trials of a search as a plot of throughput over latency, with the Pareto front. This module does no I/O."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from tritonforge.profiling.plots import Point, Series, Theme, draw_points
from tritonforge.tuning.objective import Measurement
from tritonforge.tuning.tuning_report import ReportedTrial, TuningReport, describe_change

__all__ = ["draw_trials", "find_front"]

#: Changes that the hint of a point names.
_NAMED: Final = 6


def find_front(measurements: Sequence[Measurement]) -> list[Measurement]:
    """Return the measurements that no other one beats in both throughput and p99, by rising p99."""
    front: list[Measurement] = []
    for entry in sorted(measurements, key=lambda entry: (entry.p99, -entry.throughput)):
        if not front or entry.throughput > front[-1].throughput:
            front.append(entry)
    return front


def draw_trials(report: TuningReport, *, theme: Theme = "auto") -> str:
    """Return the trials as an SVG document: a point for each, the front as a line, and the two that were confirmed."""
    measured = [trial for trial in report.trials if trial.measurement is not None and not trial.measurement.errors]
    front = find_front([trial.measurement for trial in measured if trial.measurement is not None])
    series = [
        Series("trials", tuple(_place(trial, report) for trial in measured), is_line=False),
        Series("Pareto front", tuple(Point(entry.p99, entry.throughput) for entry in front)),
    ]
    for name, entry in (("before", report.before), ("after", report.after)):
        if entry is not None:
            series.append(Series(name, (Point(entry.p99, entry.throughput, label=name),), is_line=False))
    return draw_points(
        series, title=f"{report.tuned}: {report.model}", x_label="p99 latency (ms)", y_label="requests/s", theme=theme
    )


def _place(trial: ReportedTrial, report: TuningReport) -> Point:
    assert trial.measurement is not None
    changes = [describe_change(change) for change in report.space.list_changes(trial.point)]
    more = f" and {len(changes) - _NAMED} more" if len(changes) > _NAMED else ""
    hint = (", ".join(changes[:_NAMED]) or "present settings") + more
    return Point(trial.measurement.p99, trial.measurement.throughput, hint=hint)
