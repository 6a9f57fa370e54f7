"""Draw requests as waterfalls: a bar for every execution, divided into its phases, in SVG and HTML. No I/O.

The picture is equal byte for byte for the same requests. Phases differ by hatching and are named with their durations,
so that nothing depends on colours.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from tritonforge.escaping import escape_html
from tritonforge.graph.html_page import render_page
from tritonforge.graph.svg import Theme
from tritonforge.graph.text_widths import measure_text, shorten_text
from tritonforge.profiling.trace_summary import list_executions_with_rest
from tritonforge.profiling.traces import PHASES, Execution, PhaseName, RequestTrace

__all__ = ["format_duration", "render_waterfall_html", "render_waterfall_svg"]

_FONTS: Final = "'DejaVu Sans', Verdana, 'Segoe UI', Helvetica, Arial, sans-serif"

#: Class -> attributes in light and in dark.
_COLOURS: Final[Mapping[str, tuple[Mapping[str, str], Mapping[str, str]]]] = {
    "page": ({"fill": "#ffffff"}, {"fill": "#0d1117"}),
    "text": ({"fill": "#1f2328"}, {"fill": "#e6edf3"}),
    "muted": ({"fill": "#59636e"}, {"fill": "#9da7b3"}),
    "grid": ({"stroke": "#d8dee4"}, {"stroke": "#2b323b"}),
    "bar": ({"fill": "#f6f8fa", "stroke": "#59636e"}, {"fill": "#161b22", "stroke": "#8b949e"}),
    "line": ({"stroke": "#1f2328"}, {"stroke": "#e6edf3"}),
    "receive": ({"fill": "#e7ecf0"}, {"fill": "#2b323b"}),
    "queue": ({"fill": "#fff1c2"}, {"fill": "#4a3a05"}),
    "input": ({"fill": "#d3edff"}, {"fill": "#10325c"}),
    "infer": ({"fill": "#57a773", "stroke": "#1f2328"}, {"fill": "#2f8f4e", "stroke": "#e6edf3"}),
    "output": ({"fill": "#eadcfc"}, {"fill": "#382a55"}),
    "send": ({"fill": "#e7ecf0"}, {"fill": "#2b323b"}),
}

#: Phase -> the lines of its hatching, in a square of 6 pixels; infer is solid.
_HATCHING: Final[Mapping[PhaseName, str]] = {
    "receive": "M0 1.5H6M0 4.5H6",
    "queue": "M-1 1L1 -1M0 6L6 0M5 7L7 5",
    "input": "M1 1h1M4 4h1",
    "output": "M1.5 0V6M4.5 0V6",
    "send": "M0 3H6",
}

_LABEL: Final = 220
_BARS: Final = 640
_MARGIN: Final = 16
_WIDTH: Final = _MARGIN + _LABEL + _BARS + 90
_ROW: Final = 38
_HEAD: Final = 46
_LEGEND: Final = 34

#: Executions of a request that are drawn.
_MOST_ROWS: Final = 200


def format_duration(nanoseconds: float) -> str:
    """Return a duration with three digits and its unit.

    >>> format_duration(182_207_539), format_duration(86_300), format_duration(0)
    ('182 ms', '86.3 µs', '0 µs')
    """
    for unit, size in (("s", 1e9), ("ms", 1e6)):
        if nanoseconds >= size * 0.9995:
            return f"{_shorten(nanoseconds / size)} {unit}"
    return f"{_shorten(nanoseconds / 1e3)} µs"


def _shorten(value: float) -> str:
    if value <= 0:
        return "0"
    digits = max(0, 2 - math.floor(math.log10(value)))
    return f"{value:.{min(digits, 2)}f}"


def render_waterfall_svg(traces: Sequence[RequestTrace], *, theme: Theme = "auto", title: str = "") -> str:
    """Return requests as an SVG document, one below the other, with a time axis for each.

    ``theme`` "auto" follows the viewer's preference.
    """
    height = _LEGEND + sum(_measure_height(trace) for trace in traces) + _MARGIN
    paint = _Paint(theme)
    size = f'width="{_WIDTH}" height="{height}" viewBox="0 0 {_WIDTH} {height}"'
    lines = [f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" font-family="{_FONTS}">']
    if title:
        lines.append(f"<title>{escape_html(title)}</title>")
    if theme == "auto":
        rules = "".join(
            f".tf-{name}{{{';'.join(f'{key}:{value}' for key, value in dark.items())}}}"
            for name, (_, dark) in _COLOURS.items()
        )
        lines.append(f"<style>@media (prefers-color-scheme:dark){{{rules}}}</style>")
    lines += _list_patterns(paint)
    lines.append(f'<rect width="{_WIDTH}" height="{height}"{paint("page")}/>')
    lines += _list_legend(paint)
    top = float(_LEGEND)
    for number, trace in enumerate(traces, 1):
        lines += _list_request(trace, number, top, paint)
        top += _measure_height(trace)
    return "\n".join([*lines, "</svg>"]) + "\n"


class _Paint:
    """Returns the attributes of a class in a theme."""

    def __init__(self, theme: Theme) -> None:
        self._theme = theme

    def __call__(self, name: str) -> str:
        attributes = "".join(f' {key}="{value}"' for key, value in _COLOURS[name][self._theme == "dark"].items())
        return f' class="tf-{name}"{attributes}' if self._theme == "auto" else attributes


def _measure_height(trace: RequestTrace) -> int:
    return _HEAD + _ROW * min(len(trace.executions), _MOST_ROWS) + (20 if len(trace.executions) > _MOST_ROWS else 0)


def _list_patterns(paint: _Paint) -> Iterator[str]:
    yield "<defs>"
    for name, hatching in _HATCHING.items():
        lines = f'<path d="{hatching}" stroke-width="0.8" stroke-opacity="0.55"{paint("line")}/>'
        yield (
            f'<pattern id="tf-hatching-{name}" width="6" height="6" patternUnits="userSpaceOnUse">'
            f'<rect width="6" height="6" stroke="none"{paint(name)}/>{lines}</pattern>'
        )
    yield "</defs>"


def _list_legend(paint: _Paint) -> Iterator[str]:
    x = float(_MARGIN)
    for name in PHASES:
        box = f'x="{_number(x)}" y="11" width="22" height="12" stroke-width="0.6"'
        yield f"<rect {box} {_paint_phase(name, paint)}/>"
        yield f'<text x="{_number(x + 27)}" y="21" font-size="12"{paint("text")}>{name}</text>'
        x += 27 + measure_text(name, 12) + 20


def _list_request(trace: RequestTrace, number: int, top: float, paint: _Paint) -> Iterator[str]:
    span = max(trace.duration, 1)
    left = _MARGIN + _LABEL
    title = _describe_request(trace, number)
    yield f'<g role="group" aria-label="{escape_html(title)}">'
    yield (
        f'<text x="{_MARGIN}" y="{_number(top + 16)}" font-size="13" font-weight="bold"{paint("text")}>'
        f"{escape_html(title)}</text>"
    )
    rows = trace.executions[:_MOST_ROWS]
    bottom = top + _HEAD + _ROW * len(rows)
    for tick in _list_ticks(span):
        x = left + _BARS * tick / span
        yield (
            f'<path d="M{_number(x)} {_number(top + 40)}V{_number(bottom - 6)}" fill="none" stroke-width="1"'
            f"{paint('grid')}/>"
        )
        yield (
            f'<text x="{_number(x)}" y="{_number(top + 36)}" font-size="10" text-anchor="middle"{paint("muted")}>'
            f"{format_duration(tick) if tick else '0'}</text>"
        )
    for place, execution in enumerate(rows):
        yield from _list_execution(trace, execution, top + _HEAD + _ROW * place, span, paint)
    if len(trace.executions) > _MOST_ROWS:
        more = len(trace.executions) - _MOST_ROWS
        yield f'<text x="{_MARGIN}" y="{_number(bottom + 10)}" font-size="11"{paint("muted")}>and {more} more</text>'
    yield "</g>"


def _list_execution(trace: RequestTrace, execution: Execution, y: float, span: int, paint: _Paint) -> Iterator[str]:
    left = _MARGIN + _LABEL
    indent = 14 * min(execution.depth, 8)
    label = shorten_text(execution.model, 30 - 2 * min(execution.depth, 8))
    yield (
        f'<text x="{_number(_MARGIN + indent)}" y="{_number(y + 11)}" font-size="12"{paint("text")}>'
        f"{escape_html(label)}</text>"
    )
    x, width = _scale(trace, execution.begin, execution.end, span)
    hint = escape_html(f"{execution.model}: {_describe_phases(execution)}")
    yield (
        f'<rect x="{_number(left + x)}" y="{_number(y)}" width="{_number(width)}" height="15" stroke-width="1"'
        f"{paint('bar')}><title>{hint}</title></rect>"
    )
    for phase in execution.phases:
        x, width = _scale(trace, phase.begin, phase.end, span)
        hint = f"{phase.name} {format_duration(phase.end - phase.begin)}"
        yield (
            f'<rect x="{_number(left + x)}" y="{_number(y)}" width="{_number(width)}" height="15" stroke-width="0.6" '
            f"{_paint_phase(phase.name, paint)}><title>{hint}</title></rect>"
        )
    yield (
        f'<text x="{_number(left + _BARS + 8)}" y="{_number(y + 12)}" font-size="12"{paint("text")}>'
        f"{format_duration(execution.duration)}</text>"
    )
    # The names of the phases begin below the bar, or end with the picture where they would leave it.
    names = _describe_phases(execution)
    start = min(left + _scale(trace, execution.begin, execution.end, span)[0], _WIDTH - 8 - measure_text(names, 10))
    yield (
        f'<text x="{_number(max(start, _MARGIN))}" y="{_number(y + 27)}" font-size="10"{paint("muted")}>'
        f"{escape_html(names)}</text>"
    )


def _scale(trace: RequestTrace, begin: int, end: int, span: int) -> tuple[float, float]:
    """Return the left side and the width of a period in pixels; the width is at least one pixel."""
    x = _BARS * (begin - trace.begin) / span
    return min(x, _BARS - 1.0), max(_BARS * (end - begin) / span, 1.0)


def _list_ticks(span: int) -> Iterator[int]:
    """Yield round numbers of nanoseconds from 0 to the length of the axis, eight at most."""
    step = 10 ** math.floor(math.log10(span)) if span >= 1 else 1
    for factor in (0.1, 0.2, 0.5, 1, 2, 5):
        if span / (step * factor) <= 7:
            step = max(round(step * factor), 1)
            break
    yield from range(0, span + 1, step)


def _describe_request(trace: RequestTrace, number: int) -> str:
    identity = f", id {shorten_text(trace.request_id, 40)}" if trace.request_id else ""
    return f"{number}. {shorten_text(trace.root.model, 40)}: {format_duration(trace.duration)}{identity}"


def _describe_phases(execution: Execution) -> str:
    parts = [f"{phase.name} {format_duration(phase.end - phase.begin)}" for phase in execution.phases]
    return ", ".join(parts) if parts else format_duration(execution.duration)


def _paint_phase(name: PhaseName, paint: _Paint) -> str:
    return f'fill="url(#tf-hatching-{name})"{paint("line")}' if name in _HATCHING else paint(name).strip()


def _number(value: float) -> str:
    """Return a number with at most one decimal, the same on every machine."""
    return f"{value:.1f}".removesuffix(".0")


_STYLE: Final = """\
:root{color-scheme:light dark}
body{font:14px/1.45 system-ui,sans-serif;margin:1.5rem;background:#fff;color:#1f2328}
figure{margin:0;overflow:auto}
table{border-collapse:collapse;margin:.5rem 0 1.5rem}
th,td{border:1px solid #afb8c1;padding:.2rem .5rem;text-align:right;font-variant-numeric:tabular-nums}
th:first-child,td:first-child{text-align:left;overflow-wrap:anywhere;white-space:pre-wrap}
@media (prefers-color-scheme:dark){body{background:#0d1117;color:#e6edf3}th,td{border-color:#484f58}}"""


def render_waterfall_html(traces: Sequence[RequestTrace], *, title: str, summary: Sequence[Sequence[str]] = ()) -> str:
    """Return requests as an HTML page: the picture, and the same figures as tables.

    ``summary`` is a table with its heading as the first row. The page loads nothing and runs no script; its policy
    forbids both.
    """
    tables = "\n".join(_render_request_table(trace, number) for number, trace in enumerate(traces, 1))
    overview = f"<h2>Steps</h2>\n{_render_table(summary)}" if summary else ""
    picture = render_waterfall_svg(traces, title=title)
    body = f"{overview}\n<h2>Requests</h2>\n<figure>\n{picture}</figure>\n{tables}"
    return render_page(body, title=title, style=_STYLE)


def _render_request_table(trace: RequestTrace, number: int) -> str:
    rows = [("step", "begins at", "duration", *PHASES, "rest")]
    for execution, rest in list(list_executions_with_rest(trace))[:_MOST_ROWS]:
        durations = (execution.sum_phase(name) for name in PHASES)
        rows.append(
            (
                f"{'- ' * execution.depth}{execution.model}",
                format_duration(execution.begin - trace.begin),
                format_duration(execution.duration),
                *("" if duration is None else format_duration(duration) for duration in durations),
                format_duration(rest),
            )
        )
    return f"<h3>{escape_html(_describe_request(trace, number))}</h3>\n{_render_table(rows)}"


def _render_table(rows: Sequence[Sequence[str]]) -> str:
    heading = "".join(f'<th scope="col">{escape_html(cell)}</th>' for cell in rows[0])
    body = "\n".join(f"<tr>{''.join(f'<td>{escape_html(cell)}</td>' for cell in row)}</tr>" for row in rows[1:])
    return f"<table>\n<thead><tr>{heading}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>"
