"""Plots as SVG: lines, points, histograms and stacked bars; equal byte for byte for the same values. No I/O.

Every shape has its light colours as attributes; a viewer that supports the user's preference (``prefers-color-scheme``)
shows the dark ones. Meaning does not depend on colours: series differ by dashes and markers, the parts of bars by
hatching, and a legend names them. Each plot has a title and a description for screen readers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tritonforge.graph.text_widths import measure_text
from tritonforge.profiling.plot_canvas import TEXT_SIZE, Canvas, Theme, format_number

__all__ = ["Bar", "Point", "Series", "Theme", "draw_bars", "draw_histogram", "draw_points"]

_WIDTH: Final = 720.0
_HEIGHT: Final = 320.0
_TOP: Final = 44.0
_BOTTOM: Final = 52.0
_RIGHT: Final = 24.0
_ROW: Final = 30.0


@dataclass(frozen=True, slots=True)
class Point:
    """A point of a series; ``low`` and ``high`` are the ends of an interval of ``y``, ``label`` is written beside it.

    ``hint`` is shown where the pointer rests.
    """

    x: float
    y: float
    low: float | None = None
    high: float | None = None
    label: str = ""
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Series:
    """Points with a name; ``is_line`` joins them, in their order."""

    name: str
    points: tuple[Point, ...]
    is_line: bool = True


@dataclass(frozen=True, slots=True)
class Bar:
    """A horizontal bar: its label, where it begins, and its parts, in the order of the plot's names."""

    label: str
    parts: tuple[float, ...]
    begin: float = 0.0
    note: str = ""


def draw_points(
    series: Sequence[Series],
    *,
    title: str,
    x_label: str,
    y_label: str,
    is_logarithmic: bool = False,
    theme: Theme = "auto",
) -> str:
    """Return series of points, with or without lines, as an SVG document; the axis of y begins at 0.

    ``is_logarithmic`` spaces x by its logarithm, for values that double; all must be above 0.
    """
    points = [point for one in series for point in one.points if math.isfinite(point.x) and math.isfinite(point.y)]
    top = max((max(point.y, point.high or 0.0) for point in points), default=0.0)
    y_ticks = _list_ticks(0.0, top)
    names = sorted({point.x for point in points})
    if is_logarithmic and names and names[0] > 0:
        x_ticks = names if len(names) <= 12 else names[:: math.ceil(len(names) / 12)]
        low, high = math.log(names[0]), math.log(names[-1])
    else:
        is_logarithmic = False
        x_ticks = _list_ticks(min(names, default=0.0) if names and min(names) < 0 else 0.0, max(names, default=1.0))
        low, high = x_ticks[0], x_ticks[-1]
    left = max(measure_text(format_number(tick), TEXT_SIZE) for tick in y_ticks) + 42
    width, height = _WIDTH - left - _RIGHT, _HEIGHT - _TOP - _BOTTOM
    margin = 16.0 if is_logarithmic else 0.0

    def place_x(value: float) -> float:
        position = math.log(value) if is_logarithmic else value
        share = (position - low) / (high - low) if high > low else 0.5
        return left + margin + share * (width - 2 * margin)

    def place_y(value: float) -> float:
        return _TOP + height * (1 - value / y_ticks[-1])

    canvas = Canvas(_WIDTH, _HEIGHT, title, _describe_series(series, x_label, y_label), theme)
    for tick in y_ticks:
        canvas.add_line(left, place_y(tick), left + width, place_y(tick), "grid")
        canvas.add_text(left - 6, place_y(tick) + 4, format_number(tick), "muted", anchor="end")
    for tick in x_ticks:
        canvas.add_line(place_x(tick), _TOP + height, place_x(tick), _TOP + height + 4, "axis")
        canvas.add_text(place_x(tick), _TOP + height + 18, format_number(tick), "muted", anchor="middle")
    canvas.add_line(left, _TOP + height, left + width, _TOP + height, "axis")
    canvas.add_text(left + width / 2, _HEIGHT - 14, x_label, "text", anchor="middle")
    canvas.add_text(14, _TOP + height / 2, y_label, "text", anchor="middle", is_vertical=True)
    for number, one in enumerate(series):
        finite = [point for point in one.points if math.isfinite(point.x) and math.isfinite(point.y)]
        if one.is_line and len(finite) > 1:
            canvas.add_path([(place_x(point.x), place_y(point.y)) for point in finite], number)
        for point in finite:
            if point.low is not None and point.high is not None:
                canvas.add_interval(place_x(point.x), place_y(max(0.0, point.low)), place_y(point.high), number)
            canvas.add_marker(place_x(point.x), place_y(point.y), number, point.hint)
            if point.label:
                canvas.add_text(place_x(point.x) + 8, place_y(point.y) - 6, point.label, "text")
    canvas.add_legend([one.name for one in series], left, has_markers=True)
    return canvas.render()


def draw_histogram(
    values: Sequence[float],
    *,
    title: str,
    x_label: str,
    y_label: str = "requests",
    marks: Mapping[str, float] | None = None,
    bins: int = 40,
    theme: Theme = "auto",
) -> str:
    """Return how often values occur as an SVG document; ``marks`` are vertical lines by name, such as percentiles."""
    top = max(values, default=0.0)
    x_ticks = _list_ticks(0.0, top)
    counts = [0] * bins
    for value in values:
        counts[min(bins - 1, int(value / x_ticks[-1] * bins))] += 1
    y_ticks = _list_ticks(0.0, float(max(counts)))
    left = max(measure_text(format_number(tick), TEXT_SIZE) for tick in y_ticks) + 42
    width, height = _WIDTH - left - _RIGHT, _HEIGHT - _TOP - _BOTTOM
    description = f"{len(values)} values of {x_label}" + "".join(
        f"; {name} {format_number(value)}" for name, value in (marks or {}).items()
    )
    canvas = Canvas(_WIDTH, _HEIGHT, title, description, theme)
    for tick in y_ticks:
        y = _TOP + height * (1 - tick / y_ticks[-1])
        canvas.add_line(left, y, left + width, y, "grid")
        canvas.add_text(left - 6, y + 4, format_number(tick), "muted", anchor="end")
    for number, count in enumerate(counts):
        if count:
            bar = height * count / y_ticks[-1]
            x = left + width * number / bins
            canvas.add_box(x + 0.5, _TOP + height - bar, width / bins - 1, bar, 0, hint=f"{count}")
    for tick in x_ticks:
        x = left + width * tick / x_ticks[-1]
        canvas.add_text(x, _TOP + height + 18, format_number(tick), "muted", anchor="middle")
    canvas.add_line(left, _TOP + height, left + width, _TOP + height, "axis")
    for number, (name, value) in enumerate((marks or {}).items()):
        x = left + width * value / x_ticks[-1]
        canvas.add_line(x, _TOP, x, _TOP + height, "c1", dashes="5 3")
        canvas.add_text(x + 4, _TOP + 12 + 14 * number, f"{name} {format_number(value)}", "text")
    canvas.add_text(left + width / 2, _HEIGHT - 14, x_label, "text", anchor="middle")
    canvas.add_text(14, _TOP + height / 2, y_label, "text", anchor="middle", is_vertical=True)
    return canvas.render()


def draw_bars(bars: Sequence[Bar], names: Sequence[str], *, title: str, x_label: str, theme: Theme = "auto") -> str:
    """Return stacked horizontal bars as an SVG document: one row for each bar; ``names`` are those of the parts.

    Bars that begin later than 0 make a waterfall.
    """
    end = max((bar.begin + sum(bar.parts) for bar in bars), default=0.0)
    ticks = _list_ticks(0.0, end)
    left = min(280.0, max((measure_text(bar.label, TEXT_SIZE) for bar in bars), default=0.0) + 24)
    notes = max((measure_text(bar.note, TEXT_SIZE) for bar in bars), default=0.0)
    width = _WIDTH - left - _RIGHT - notes - (8 if notes else 0)
    height = _ROW * len(bars)
    total = _TOP + height + _BOTTOM
    description = "; ".join(
        f"{bar.label}: "
        + ", ".join(f"{name} {format_number(part)}" for name, part in zip(names, bar.parts, strict=False))
        for bar in bars
    )
    canvas = Canvas(_WIDTH, total, title, description, theme)
    for tick in ticks:
        x = left + width * tick / ticks[-1]
        canvas.add_line(x, _TOP, x, _TOP + height, "grid")
        canvas.add_text(x, _TOP + height + 18, format_number(tick), "muted", anchor="middle")
    for row, bar in enumerate(bars):
        y = _TOP + _ROW * row
        canvas.add_text(left - 8, y + _ROW / 2 + 4, bar.label, "text", anchor="end")
        x = left + width * bar.begin / ticks[-1]
        for number, part in enumerate(bar.parts):
            length = width * part / ticks[-1]
            if length >= 0.05:
                canvas.add_box(x, y + 5, length, _ROW - 10, number, hint=f"{names[number]}: {format_number(part)}")
            x += length
        if bar.note:
            canvas.add_text(x + 6, y + _ROW / 2 + 4, bar.note, "muted")
    canvas.add_line(left, _TOP, left, _TOP + height, "axis")
    canvas.add_text(left + width / 2, total - 14, x_label, "text", anchor="middle")
    canvas.add_legend(names, left, has_markers=False)
    return canvas.render()


def _list_ticks(low: float, high: float) -> list[float]:
    """Return round values from ``low`` to ``high`` or a little more."""
    if not high > low:
        high = low + 1.0
    raw = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * 0.999)
    first, last = math.floor(low / step), math.ceil(high / step - 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]


def _describe_series(series: Sequence[Series], x_label: str, y_label: str) -> str:
    return f"{y_label} by {x_label}. " + "; ".join(
        f"{one.name}: " + ", ".join(f"{format_number(point.x)}: {format_number(point.y)}" for point in one.points[:40])
        for one in series
    )
