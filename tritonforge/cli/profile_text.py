"""The text of `tritonforge profile`: the loads, the steps of the highest one, the bottleneck and what to try."""

from __future__ import annotations

from collections.abc import Iterator

from rich.table import Table

from tritonforge.cli.terminal import err, escape_markup, format_count, human_bytes, out
from tritonforge.profiling.estimates import Estimate
from tritonforge.profiling.load import OpenLoop, find_saturation
from tritonforge.profiling.report import LoadProfile, ProfileReport
from tritonforge.profiling.step_times import RequestTime, StepTime

__all__ = ["print_report"]

_BAR = 24  # columns
_NARROW = 110  # columns of a terminal that has no space for bars
_PIPE_WIDTH = 200
_ERRORS = 3
_ERROR_WIDTH = 300


def print_report(report: ProfileReport) -> None:
    """Print a report on standard output, and its notes on standard error."""
    sizes = f"request {human_bytes(report.request_bytes)}"
    if report.response_bytes:
        sizes += f", answer {human_bytes(report.response_bytes)}"
    out.print(f"[bold]{escape_markup(report.model or 'the default model')}[/bold] at {escape_markup(report.url)}")
    out.print(f"{escape_markup(report.requests)}; {sizes}")
    out.print()
    _print_loads(report)
    main = report.main
    if main is not None and main.times is not None:
        out.print()
        _print_steps(main, main.times)
    if main is not None and main.bottleneck is not None:
        out.print()
        out.print(f"[bold]bottleneck:[/bold] {escape_markup(main.bottleneck.sentence)}")
        for advice in main.bottleneck.advice:
            out.print(f"  try: {escape_markup(advice)}")
    for load in report.loads:
        for error in load.result.errors[:_ERRORS]:
            sentence = escape_markup(error.sentence[:_ERROR_WIDTH])
            count = format_count(error.count, "request")
            out.print(f"[red]failed[/red] at {load.result.load}: {count}: {sentence}")
    for sentence in list_notes(report):
        err.print(f"[yellow]note:[/yellow] {escape_markup(sentence)}")


def list_notes(report: ProfileReport) -> Iterator[str]:
    """Yield what a reader should be aware of."""
    yield from report.notes
    results = [load.result for load in report.loads]
    for result in results:
        if not result.is_stable and not result.is_interrupted and result.requests:
            yield (
                f"{result.load}: not stable within {result.seconds:.0f} s (expected ±{report.precision:.0%} for "
                f"throughput and median, got {_describe_precision(result.throughput)} and "
                f"{_describe_precision(result.percentiles[50.0])}). Measure longer: --max-time"
            )
        if result.generator.is_saturated:
            yield (
                f"{result.load}: a process of the load generator takes {result.generator.busiest:.0%} of a processor "
                "and may be what limits the throughput. Run more of them: --processes"
            )
        if isinstance(result.load, OpenLoop) and result.throughput.value < 0.95 * result.load.rate and result.requests:
            yield (
                f"{result.load}: the server answers {result.throughput.value:.4g} requests per second, less than are "
                "sent: the latency grows with the length of the measurement"
            )
    lags = [result for result in results if result.send_lag is not None]
    if lags:
        worst = max((result.send_lag.mean for result in lags if result.send_lag is not None), default=0.0)
        yield (
            "latency at a rate counts from when a request was due, not from when it was sent, so that a late server is "
            f"charged for the requests behind a slow one; requests were sent {worst:.2f} ms late on average"
        )


def _print_loads(report: ProfileReport) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("load", "requests/s", "", "p50 ms", "p90", "p99", "failed", "generator"):
        table.add_column(name, justify="left" if name in ("load", "") else "right", no_wrap=True)
    best = max((load.result.throughput.value for load in report.loads), default=0.0)
    knee = find_saturation([load.result for load in report.loads])
    for load in report.loads:
        result = load.result
        mark = " ◀" if result is knee and len(report.loads) > 1 else ""
        table.add_row(
            str(result.load),
            _format_estimate(result.throughput),
            _draw_bar(result.throughput.value, best) + mark,
            *(_format_estimate(result.percentiles[percentile]) for percentile in (50.0, 90.0, 99.0)),
            f"[red]{result.failures}[/red]" if result.failures else "0",
            f"{result.generator.cpu:.0%} cpu",
        )
    _print_table(table)
    if knee is not None and len(report.loads) > 1:
        out.print("[dim]◀ the least load with 95 % of the highest throughput; ± is a 95 % confidence interval[/dim]")


def _print_steps(load: LoadProfile, times: RequestTime) -> None:
    total = max(load.result.latency.value, times.total)
    shares = f"{_ms(total)} ms on average, {_ms(times.total)} of them in Triton"
    out.print(f"[bold]a request at {load.result.load}[/bold]: {shares}")
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("step", "queue", "input", "infer", "output", "total", "batch", "busy", ""):
        table.add_column(name, justify="left" if name in ("step", "") else "right", no_wrap=True)
    bottleneck = load.bottleneck.step if load.bottleneck is not None else None
    for step in times.steps:
        style = "bold red" if step.name == bottleneck else "" if step.is_critical else "dim"
        bar = _draw_step(step.begin, step.queue, step.total, total)
        table.add_row(escape_markup(step.name), *_list_figures(step), bar, style=style)
        for called in times.list_called(step.model):
            for inner in called.steps:
                name = f"  calls {escape_markup(inner.name)}"
                table.add_row(name, *_list_figures(inner), f"{called.calls:.3g} x", style="dim")
    if times.ensembles:
        table.add_row("between the steps", "", "", "", "", _ms(times.overhead), "", "", "")
    table.add_row("outside of Triton", "", "", "", "", _ms(load.outside), "", "", "")
    if load.result.send_lag is not None:
        table.add_row("sent late", "", "", "", "", _ms(load.result.send_lag.mean), "", "", "")
    _print_table(table)
    for called in times.called:
        if called.callers or not called.calls:
            continue
        out.print(
            f"[dim]also asked: {escape_markup(called.model)}, {called.calls:.3g} times for a request, "
            f"{_ms(called.total)} ms together[/dim]"
        )
    out.print("[dim]░ queue  █ computation and copies; steps off the critical path are dim[/dim]")
    if any(called.callers for called in times.called):
        out.print(
            "[dim]calls: the code of the step above requests the model (BLS), as often as stated for a request; its "
            "time is part of that step's infer[/dim]"
        )


def _list_figures(step: StepTime) -> list[str]:
    row = [step.queue, step.compute_input, step.compute_infer, step.compute_output, step.total]
    return [*map(_ms, row), _format_batches(step.batches), f"{step.utilization:.0%} of {step.instances}"]


def _print_table(table: Table) -> None:
    """Print a table in full where a file or a pipe takes it; a terminal decides its width."""
    width = out.width
    if not out.is_terminal:
        out.width = max(width, _PIPE_WIDTH)
    try:
        out.print(table)
    finally:
        out.width = width


def _format_batches(batches: object) -> str:
    """Return the batch sizes with their shares: "1", or "1: 20 % 4: 80 %" with at most three of them."""
    counted = [(batch.batch_size, batch.executions) for batch in batches]  # type: ignore[attr-defined]  # a tuple
    total = sum(count for _, count in counted)
    if len(counted) == 1:
        return str(counted[0][0])
    largest = sorted(sorted(counted, key=lambda item: -item[1])[:3])
    return " ".join(f"{size}:{count / total:.0%}" for size, count in largest)


def _draw_step(begin: float, queue: float, total: float, whole: float) -> str:
    """Return a step on the line of a request: where it begins, its queue, and the rest."""
    if whole <= 0 or not _has_space():
        return ""
    marks = [round(_BAR * part / whole) for part in (begin, begin + queue, begin + total)]
    return " " * marks[0] + "░" * (marks[1] - marks[0]) + "█" * max(1, marks[2] - marks[1])


def _draw_bar(value: float, best: float) -> str:
    return "█" * round(_BAR * value / best) if best and _has_space() else ""


def _has_space() -> bool:
    return not out.is_terminal or out.width >= _NARROW


def _format_estimate(estimate: Estimate) -> str:
    """Return a value with half of its interval: "24.7 ±0.4"."""
    if estimate.low is None or estimate.high is None:
        return _ms(estimate.value)
    return f"{_ms(estimate.value)} ±{_ms((estimate.high - estimate.low) / 2)}"


def _describe_precision(estimate: Estimate) -> str:
    return "no interval" if estimate.low is None else f"±{estimate.precision:.0%}"


def _ms(value: float) -> str:
    """Return a number with three digits."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
