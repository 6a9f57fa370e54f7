"""A profile as one HTML page with plots. No I/O.

The page loads nothing and runs no script; its policy (Content-Security-Policy) forbids both.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from tritonforge.escaping import escape_html
from tritonforge.graph.html_page import render_page
from tritonforge.profiling.estimates import Estimate
from tritonforge.profiling.load import ClosedLoop, OpenLoop
from tritonforge.profiling.plots import Bar, Point, Series, draw_bars, draw_histogram, draw_points
from tritonforge.profiling.report import LoadProfile, ProfileReport
from tritonforge.profiling.step_times import RequestTime, StepTime

__all__ = ["render_html"]

_STYLE: Final = """\
:root{color-scheme:light dark}
body{font:15px/1.5 system-ui,sans-serif;margin:1.5rem auto;max-width:76rem;padding:0 1rem;background:#fff;color:#1f2328}
figure{margin:1rem 0}
figure svg{max-width:100%;height:auto}
table{border-collapse:collapse;margin:1rem 0;display:block;overflow:auto}
th,td{border:1px solid #afb8c1;padding:.25rem .6rem;text-align:right;white-space:nowrap}
th:first-child,td:first-child{text-align:left}
.finding{border-left:.3rem solid #0969da;padding:.2rem 1rem}
small{color:#59636e}
@media (prefers-color-scheme:dark){body{background:#0d1117;color:#e6edf3}th,td{border-color:#484f58}
small{color:#9da7b3}}"""

#: Latencies in the histogram; more make no difference to see.
_MOST_VALUES: Final = 200_000


def render_html(report: ProfileReport) -> str:
    """Return a report as an HTML page."""
    name = report.model or "the default model"
    sizes = f"request {report.request_bytes:,} bytes, answer {report.response_bytes:,} bytes"
    source = f"<p>{escape_html(report.url)}<br>{escape_html(report.requests)}; {sizes}</p>"
    return render_page("\n".join((source, *_list_parts(report))), title=f"Profile of {name}", style=_STYLE)


def _list_parts(report: ProfileReport) -> Iterator[str]:
    main = report.main
    if main is not None and main.bottleneck is not None:
        found = main.bottleneck
        advice = "".join(f"<li>{escape_html(text)}</li>" for text in found.advice)
        yield f'<section class="finding"><h2>Bottleneck: {escape_html(found.step)}</h2>'
        yield f"<p>{escape_html(found.sentence)}</p><p>What to try:</p><ul>{advice}</ul></section>"
    yield "<h2>Loads</h2>"
    yield from _draw_loads(report.loads)
    yield _build_table(
        ("load", "requests/s", "p50 ms", "p90 ms", "p95 ms", "p99 ms", "max ms", "failed", "stable", "generator"),
        [_list_load_cells(load) for load in report.loads],
    )
    yield "<p><small>± is a 95 % confidence interval, from batch means.</small></p>"
    if main is not None:
        yield from _list_main(main)
    errors = [(str(load.result.load), error) for load in report.loads for error in load.result.errors]
    if errors:
        yield "<h2>Errors</h2>"
        yield _build_table(
            ("load", "requests", "error"), [(load, str(error.count), error.sentence[:500]) for load, error in errors]
        )
    if report.notes:
        yield "<h2>Notes</h2><ul>" + "".join(f"<li>{escape_html(text)}</li>" for text in report.notes) + "</ul>"


def _draw_loads(loads: Sequence[LoadProfile]) -> Iterator[str]:
    results = [load.result for load in loads if load.result.requests]
    if len(results) < 2:
        return
    is_closed = isinstance(results[0].load, ClosedLoop)
    x_label = "concurrency" if is_closed else "requests/s sent"
    places = [one.load.concurrency if isinstance(one.load, ClosedLoop) else one.load.rate for one in results]

    def build(estimates: Sequence[Estimate]) -> tuple[Point, ...]:
        return tuple(
            Point(place, estimate.value, estimate.low, estimate.high)
            for place, estimate in zip(places, estimates, strict=True)
        )

    is_logarithmic = len(places) > 2 and places[-1] >= 4 * places[0]
    throughput = Series("throughput", build([one.throughput for one in results]))
    latency = [
        Series(f"p{percentile:g}", build([one.percentiles[percentile] for one in results]))
        for percentile in (50.0, 90.0, 99.0)
    ]
    for title, series, y_label in (
        ("Throughput", [throughput], "requests/s"),
        ("Latency", latency, "ms"),
    ):
        picture = draw_points(series, title=title, x_label=x_label, y_label=y_label, is_logarithmic=is_logarithmic)
        yield f"<figure>{picture}</figure>"


def _list_main(load: LoadProfile) -> Iterator[str]:
    result = load.result
    if load.times is not None and load.times.requests:
        yield f"<h2>A request at {escape_html(str(result.load))}</h2>"
        yield f"<figure>{_draw_steps(load, load.times)}</figure>"
        yield _build_table(
            ("step", "queue ms", "input ms", "infer ms", "output ms", "total ms", "mean batch", "batches", "instances",
             "busy", "critical path"),
            list(_list_step_rows(load.times)),
        )  # fmt: skip
        if any(called.callers for called in load.times.called):
            yield (
                "<p><small>calls: the code of the step above requests the model (BLS); its time is part of that step's "
                "infer.</small></p>"
            )
    if len(result.latencies):
        values = result.latencies[-_MOST_VALUES:].tolist()
        limit = result.percentiles[99.0].value * 1.5
        marks = {f"p{percentile:g}": result.percentiles[percentile].value for percentile in (50.0, 99.0)}
        shown = [value for value in values if value <= limit]
        title = f"Latency at {result.load}" + (
            f" ({len(values) - len(shown)} above {limit:.3g} ms)" if len(shown) < len(values) else ""
        )
        yield f"<figure>{draw_histogram(shown, title=title, x_label='ms', marks=marks)}</figure>"
    if isinstance(result.load, OpenLoop) and result.send_lag is not None:
        lag = result.send_lag
        yield (
            "<p>Latency counts from when a request was due (no coordinated omission). Requests were sent "
            f"{lag.mean:.2f} ms late on average, {lag.p99:.2f} ms at the 99th percentile, at most {lag.max:.2f} ms.</p>"
        )


def _list_step_rows(times: RequestTime) -> Iterator[tuple[str, ...]]:
    for step in times.steps:
        yield (step.name, *_list_step_cells(step), "yes" if step.is_critical else "no")
        for called in times.list_called(step.model):
            for inner in called.steps:
                yield (f"calls {inner.name}, {called.calls:.3g} times", *_list_step_cells(inner), "")


def _list_step_cells(step: StepTime) -> tuple[str, ...]:
    parts = (step.queue, step.compute_input, step.compute_infer, step.compute_output, step.total)
    return (
        *(f"{part:.2f}" for part in parts),
        f"{step.mean_batch_size:.1f}",
        ", ".join(f"{batch.batch_size}: {batch.executions}" for batch in step.batches),
        str(step.instances),
        f"{step.utilization:.0%}",
    )


def _draw_steps(load: LoadProfile, times: RequestTime) -> str:
    bars = [
        Bar(
            step.name,
            (step.queue, step.compute_input, step.compute_infer, step.compute_output),
            begin=step.begin,
            note=f"{step.total:.3g} ms",
        )
        for step in times.steps
    ]
    end = max(step.end for step in times.steps)
    if times.ensembles:
        bars.append(Bar("between the steps", (0, 0, 0, 0, times.overhead), begin=end, note=f"{times.overhead:.3g} ms"))
    bars.append(Bar("outside of Triton", (0, 0, 0, 0, load.outside), begin=times.total, note=f"{load.outside:.3g} ms"))
    padded = [Bar(bar.label, (*bar.parts, 0.0)[:5], bar.begin, bar.note) for bar in bars]
    names = ("queue", "input", "infer", "output", "other")
    return draw_bars(padded, names, title="Steps of a request, on average", x_label="ms")


def _list_load_cells(load: LoadProfile) -> tuple[str, ...]:
    result = load.result
    return (
        str(result.load),
        _format_estimate(result.throughput),
        *(_format_estimate(result.percentiles[percentile]) for percentile in (50.0, 90.0, 95.0, 99.0)),
        f"{result.max_latency:.2f}",
        str(result.failures),
        "yes" if result.is_stable else "no",
        f"{result.generator.cpu:.0%} of a processor",
    )


def _format_estimate(estimate: Estimate) -> str:
    if estimate.low is None or estimate.high is None:
        return f"{estimate.value:.4g}"
    return f"{estimate.value:.4g} ±{(estimate.high - estimate.low) / 2:.2g}"


def _build_table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape_html(name)}</th>" for name in names)
    body = "\n".join("<tr>" + "".join(f"<td>{escape_html(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table>"
