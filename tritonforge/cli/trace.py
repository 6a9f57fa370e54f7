"""The command trace."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from tritonforge.cli.command import Command
from tritonforge.cli.options import EXISTING_FILE, FILE, OUTPUT, json_option, option
from tritonforge.cli.printing import align_columns, echo, echo_json
from tritonforge.errors import TraceError, TritonForgeError
from tritonforge.escaping import escape_line
from tritonforge.files import describe_error, replace_file, write_file

if TYPE_CHECKING:
    from tritonforge.graph.svg import Theme
    from tritonforge.profiling.trace_file import TraceFiles
    from tritonforge.profiling.trace_summary import StepSummary, TraceSummary
    from tritonforge.profiling.traces import RequestTrace

__all__ = ["trace"]

#: The ends of names that -o takes.
_SUFFIXES: Final = (".svg", ".html", ".htm", ".json")

#: Bytes of files that take longer to read than a person waits without a sign.
_LARGE: Final = 32 << 20

#: Columns of the table of steps that are phases.
_PHASES: Final = ("queue", "input", "infer", "output")


@click.command(
    cls=Command,
    example="tritonforge trace trace.json\ntritonforge trace trace.json -o trace.html",
)
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=EXISTING_FILE)
@option("-o", "--output", type=FILE, help="The file to write: a waterfall of the slowest requests as .svg or .html, or "
        "all requests as OpenTelemetry's .json. Default: print a summary.")  # fmt: skip
@option("--slowest", default=10, type=click.IntRange(1, 100), metavar="N", show_default=True,
        help="How many of the slowest requests are listed and drawn.")  # fmt: skip
@option("--model", metavar="NAME", help="Only requests to this model. Default: all.")
@option("--id", "request_id", metavar="TEXT", help="Only requests with this request id. Default: all.")
@option("--theme", type=click.Choice(["auto", "light", "dark"]), default="auto", show_default=True, group=OUTPUT,
        help="The colours of .svg. auto follows the viewer's preference.")  # fmt: skip
@json_option
def trace(
    files: tuple[Path, ...],
    output: Path | None,
    slowest: int,
    model: str | None,
    request_id: str | None,
    theme: Theme,
    as_json: bool,
) -> int:
    """Show where single requests spent their time, from a trace file of Triton.

    FILE is a file of `tritonforge serve --trace`, or of any tritonserver with --trace-config triton,file=FILE and level
    TIMESTAMPS; it may be the file of a server that still runs. Of a server with log-frequency, pass FILE.0, FILE.1, ...
    """
    if output is not None and output.suffix.lower() not in _SUFFIXES:
        raise click.UsageError(f"-o {output}: expected a name that ends in {', '.join(_SUFFIXES)}")
    from tritonforge.cli.terminal import note
    from tritonforge.profiling.trace_file import TraceFiles
    from tritonforge.profiling.trace_summary import summarize_traces

    def select() -> Iterator[RequestTrace]:
        for request in traces:
            if model in (None, request.root.model) and request_id in (None, request.request_id):
                yield request

    title = ", ".join(path.name for path in files[:3])
    traces = TraceFiles(files)
    with _show_progress(traces, f"reading {title}"):
        summary = summarize_traces(select(), slowest=slowest)
    for problem in traces.problems:
        note(problem)
    if not summary.requests and (model is not None or request_id is not None):
        raise click.UsageError(f"{files[0]}: no request matches --model and --id; leave them out to see all requests")
    if not summary.requests:
        raise TraceError(f"{files[0]}: no complete request in the file. Send a request to the server")
    if output is not None:
        with _show_progress(traces, f"writing {output.name}"):
            _write(output, summary, select, traces, theme=theme, title=title)
        count = summary.requests if output.suffix.lower() == ".json" else len(summary.slowest)
        echo(f"{output}: {count} request{'' if count == 1 else 's'}")
    elif as_json:
        echo_json(_describe(summary))
    else:
        _print(summary)
    return 0


@contextlib.contextmanager
def _show_progress(traces: TraceFiles, what: str) -> Iterator[None]:
    """Show how much of large files is read while the context lasts."""
    from tritonforge.cli.terminal import steps

    if traces.measure_size() < _LARGE:
        yield
        return
    with steps() as progress:
        progress.begin(what)
        traces.on_progress = progress.show_bytes
        yield


def _write(output: Path, summary: TraceSummary, select: Any, traces: TraceFiles, *, theme: Theme, title: str) -> None:
    from tritonforge.profiling.waterfall import render_waterfall_html, render_waterfall_svg

    try:
        if output.suffix.lower() == ".json":
            from tritonforge import __version__
            from tritonforge.profiling.otlp import render_otlp

            offset = traces.measure_clock_offset(traces)
            with replace_file(output) as file:
                for piece in render_otlp(select(), clock_offset=offset, version=__version__):
                    file.write(piece.encode())
        elif output.suffix.lower() == ".svg":
            write_file(output, render_waterfall_svg(summary.slowest, theme=theme, title=title).encode())
        else:
            rows = [_list_headings(), *map(_list_cells, summary.steps)]
            write_file(output, render_waterfall_html(summary.slowest, title=title, summary=rows).encode())
    except OSError as error:
        raise TritonForgeError(f"{output}: cannot write: {describe_error(error)}") from error


def _list_headings() -> Sequence[str]:
    return ("step", "requests", "mean", "p50", "p99", "max", *_PHASES, "rest")


def _list_cells(step: StepSummary) -> list[str]:
    from tritonforge.profiling.waterfall import format_duration

    phases = {str(name): value for name, value in step.phases.items()}
    return [
        f"{'  ' * (len(step.path) - 1)}{step.path[-1]}",
        f"{step.count:,}",
        *map(format_duration, (step.mean, step.p50, step.p99, step.maximum)),
        *(format_duration(phases[name]) if name in phases else "" for name in _PHASES),
        format_duration(step.rest),
    ]


def _print(summary: TraceSummary) -> None:
    from tritonforge.cli.terminal import format_count, out
    from tritonforge.profiling.waterfall import format_duration

    out.print(f"{format_count(summary.requests, 'request')}; queue to rest are averages", markup=False)
    for line in align_columns([_list_headings(), *map(_list_cells, summary.steps)]):
        out.print(line, markup=False)
    out.print("\nslowest requests", style="bold")
    for number, request in enumerate(summary.slowest, 1):
        steps = ", ".join(f"{step.model} {format_duration(step.duration)}" for step in request.executions[1:9])
        more = f" and {len(request.executions) - 9} more" if len(request.executions) > 9 else ""
        identity = f"  id {request.request_id}" if request.request_id else ""
        line = f"{number:4}  {format_duration(request.duration):>8}  {request.root.model}{identity}"
        out.print(escape_line(f"{line}{f': {steps}{more}' if steps else ''}"), markup=False)
    if summary.uncounted:
        out.print(f"{summary.uncounted} executions of further steps are not listed", markup=False)


def _describe(summary: TraceSummary) -> dict[str, Any]:
    from tritonforge.profiling.trace_summary import describe_execution, list_executions_with_rest

    return {
        "requests": summary.requests,
        "steps": [
            {
                "path": list(step.path),
                "requests": step.count,
                "mean_ms": round(step.mean / 1e6, 6),
                "p50_ms": round(step.p50 / 1e6, 6),
                "p99_ms": round(step.p99 / 1e6, 6),
                "max_ms": round(step.maximum / 1e6, 6),
                "phases_ms": {name: round(value / 1e6, 6) for name, value in step.phases.items()},
                "rest_ms": round(step.rest / 1e6, 6),
            }
            for step in summary.steps
        ],
        "slowest": [
            {
                "request_id": request.request_id,
                "duration_ms": round(request.duration / 1e6, 6),
                "executions": [
                    describe_execution(execution, rest, request.begin)
                    for execution, rest in list_executions_with_rest(request)
                ],
            }
            for request in summary.slowest
        ],
    }
