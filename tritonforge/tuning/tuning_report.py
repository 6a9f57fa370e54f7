"""The result of a search: as text for people and as JSON for machines. This module does no I/O."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from tritonforge.tuning.objective import Comparison, Measurement, Objective
from tritonforge.tuning.search_space import Change, Point, SearchSpace, format_value

__all__ = ["ReportedTrial", "TuningReport", "describe_change", "describe_measurement", "format_report", "to_json"]

_SHOWN: Final = 8

#: What every report says about the machine.
TRANSFER: Final = (
    "measured on this machine: settings for one processor do not fit another one, and a CPU's do not fit a GPU. Tune "
    "on the machine, or the kind of instance, that will serve."
)


@dataclass(frozen=True, slots=True)
class ReportedTrial:
    """A trial: its point, what was measured or why nothing was, and its seconds."""

    point: Point
    measurement: Measurement | None
    error: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TuningReport:
    """What a search came to.

    Attributes:
        tuned: the definition or the repository.
        model: the model that requests were sent to.
        objective: what was optimized.
        load: the load, as a phrase.
        machine: its processors, as a phrase.
        space: the settings.
        trials: all trials, in their order.
        chosen: the recommended point; the present one if no other is better.
        before, after: the mean of the confirmation's measurements.
        comparison: of the confirmation; None without one.
        answers: how answers differ at the chosen point, by output; empty if they do not.
        notes: sentences on what was not searched or not compared.
        diff: of the definition; "" without one.
        manual: what to set by hand, and why the definition is not edited.
        written: whether the definition was written.
    """

    tuned: str
    model: str
    objective: Objective
    load: str
    machine: str
    space: SearchSpace
    trials: Sequence[ReportedTrial]
    chosen: Point
    before: Measurement | None = None
    after: Measurement | None = None
    comparison: Comparison | None = None
    answers: dict[str, str] | None = None
    notes: Sequence[str] = ()
    diff: str = ""
    manual: Sequence[str] = ()
    written: bool = False

    def with_update(self, diff: str, manual: Sequence[str], *, written: bool) -> TuningReport:
        """Return the report with what became of the definition."""
        return replace(self, diff=diff, manual=manual, written=written)

    @property
    def changes(self) -> list[Change]:
        """The settings of the recommended point that differ."""
        return self.space.list_changes(self.chosen)

    @property
    def is_gain(self) -> bool:
        """Whether the recommended point is better by more than noise, and answers the same."""
        return self.comparison is not None and self.comparison.is_gain and not self.answers

    @property
    def verdict(self) -> str:
        """What came of the search, as a sentence."""
        measured = [trial.measurement for trial in self.trials if trial.measurement is not None]
        if measured and not any(self.objective.is_met(entry) for entry in measured):
            return self.objective.describe_miss(measured)
        if len(self.trials) == 1:
            return "only the present settings were measured; allow more with --trials or --time"
        if not self.changes:
            return "no settings are better than the present ones"
        assert self.comparison is not None
        ratio, low, high = self.comparison.ratio, self.comparison.low, self.comparison.high
        interval = f"{ratio:.2f} times as good ({low:.2f} to {high:.2f} with 95 % confidence)"
        if self.answers:
            return f"the best settings change answers, so they are not recommended: {next(iter(self.answers.values()))}"
        if self.is_gain and self.before is not None and not self.objective.is_met(self.before):
            return "the best settings keep the limit, which the present ones do not"
        if self.is_gain:
            return f"the best settings are {interval}, in {self.comparison.pairs} pairs measured in turn"
        if not self.comparison.is_within_limits:
            return f"the best settings do not keep the limit when measured again ({interval})"
        return f"the best settings are {interval}: not more than noise, so the present ones stay"


def format_report(report: TuningReport) -> Iterator[str]:
    """Yield the lines of the text report; the diff comes last."""
    yield f"{report.tuned}: {report.model}, {report.objective.describe()}, {report.load}"
    yield f"{len(report.trials)} trials of {report.space.count_points():,} points, on {report.machine}"
    yield ""
    yield f"{'trial':>5}  {'requests/s':>10}  {'p50 ms':>8}  {'p99 ms':>8}  settings that differ"
    for number, trial in _list_shown(report):
        yield f"{number:5}  {_format_trial(report.space, trial)}"
    yield ""
    if report.before is not None and report.after is not None:
        yield f"before  {describe_measurement(report.before)}"
        yield f"after   {describe_measurement(report.after)}"
    yield report.verdict
    if report.is_gain:
        yield from (f"  {describe_change(change)}" for change in report.changes)
    yield from (f"note: {note}" for note in report.notes)
    yield f"note: {TRANSFER}"
    if report.is_gain:
        yield from (f"set by hand: {sentence}" for sentence in report.manual)


def to_json(report: TuningReport) -> dict[str, Any]:
    """Return the report as plain JSON."""
    return {
        "tuned": report.tuned,
        "model": report.model,
        "objective": asdict(report.objective),
        "load": report.load,
        "machine": report.machine,
        "points": report.space.count_points(),
        "settings": [
            {
                "model": entry.model,
                "setting": entry.name,
                "values": entry.values,
                "current": entry.values[entry.current],
            }
            for entry in report.space.settings
        ],
        "trials": [
            {
                "changes": _changes_to_json(report.space.list_changes(trial.point)),
                **(asdict(trial.measurement) if trial.measurement is not None else {"error": trial.error}),
                "seconds": round(trial.seconds, 3),
            }
            for trial in report.trials
        ],
        "before": None if report.before is None else asdict(report.before),
        "after": None if report.after is None else asdict(report.after),
        "comparison": None if report.comparison is None else asdict(report.comparison),
        "is_gain": report.is_gain,
        "verdict": report.verdict,
        "changes": _changes_to_json(report.changes),
        "answers": report.answers or {},
        "notes": [*report.notes, TRANSFER],
        "diff": report.diff,
        "manual": list(report.manual),
        "written": report.written,
    }


def describe_change(change: Change) -> str:
    """Return a change as a line: ``decode.instance_group.count: 1 -> 2``."""
    before, after = (format_value(change.name, value) for value in (change.before, change.after))
    return f"{change.model}.{change.name}: {before} -> {after}"


def describe_measurement(measurement: Measurement) -> str:
    """Return a measurement as a phrase."""
    text = f"{measurement.throughput:.1f} requests/s, p50 {measurement.p50:.1f} ms, p99 {measurement.p99:.1f} ms"
    return f"{text}, {measurement.errors:.1%} errors" if measurement.errors else text


def _changes_to_json(changes: Sequence[Change]) -> list[dict[str, Any]]:
    return [asdict(change) for change in changes]


def _list_shown(report: TuningReport) -> list[tuple[int, ReportedTrial]]:
    """Return the trials of the table: the present settings first, then the best ones."""

    def rank(entry: tuple[int, ReportedTrial]) -> tuple[bool, float]:
        measurement = entry[1].measurement
        if measurement is None:
            return False, -1.0
        return report.objective.is_met(measurement), report.objective.score(measurement)

    numbered = list(enumerate(report.trials, start=1))
    first = [entry for entry in numbered if not report.space.list_changes(entry[1].point)][:1]
    others = sorted((entry for entry in numbered if entry not in first), key=rank, reverse=True)
    return [*first, *others[:_SHOWN]]


def _format_trial(space: SearchSpace, trial: ReportedTrial) -> str:
    changes = ", ".join(
        f"{change.model}.{_shorten(change.name)}={format_value(change.name, change.after)}"
        for change in space.list_changes(trial.point)
    )
    if trial.measurement is None:
        return f"{'failed':>10}  {'':8}  {'':8}  {changes or 'present settings'}: {trial.error}"
    figures = trial.measurement
    return f"{figures.throughput:10.1f}  {figures.p50:8.1f}  {figures.p99:8.1f}  {changes or 'present settings'}"


def _shorten(name: str) -> str:
    """Return a shorter name of a setting for the table.

    >>> _shorten("max_queue_delay_microseconds"), _shorten("num_threads")
    ('delay', 'num_threads')
    """
    return {
        "max_batch_size": "batch",
        "max_queue_delay_microseconds": "delay",
        "preferred_batch_size": "preferred",
        "instance_group.count": "instances",
    }.get(name, name)
