"""The progress and the report of the command transform, of one machine and of the nodes of a cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from rich.progress import BarColumn, Progress, TaskID, TextColumn

from tritonforge.cli.job_monitor import format_state, print_error_line
from tritonforge.cli.printing import echo_json
from tritonforge.cli.terminal import err, escape_markup, human_bytes, list_names, note, out
from tritonforge.transform import Outcome
from tritonforge.transform import Progress as TransformProgress

__all__ = ["print_outcome", "show_progress"]

#: Nodes of a cluster whose rates are shown in the progress line.
_MAX_NODES: Final = 6

#: Failed objects that are printed; the JSON report has more.
_MAX_PRINTED: Final = 20


@contextmanager
def show_progress() -> Iterator[Callable[[TransformProgress], None]]:
    """Show a progress bar on a terminal."""
    if not err.is_terminal:
        yield lambda progress: None
        return
    columns = (BarColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=err, transient=True) as bar:
        task = bar.add_task("listing ...", total=None)
        yield lambda progress: _draw(bar, task, progress)


def _draw(bar: Progress, task: TaskID, progress: TransformProgress) -> None:
    objects = progress.objects + progress.objects_before
    total = "" if progress.total_objects is None else f" of {progress.total_objects:,}"
    parts = [f"{objects:,}{total} objects"]
    if progress.failed:
        parts.append(f"[red]{progress.failed:,} failed[/red]")
    parts.append(f"{progress.rate:,.0f} images/s")
    if progress.nodes:
        rates = [f"{node.name} {node.rate:,.0f}/s" for node in progress.nodes]
        parts.append(f"[dim]{list_names(rates, _MAX_NODES)}[/dim]")
    if (left := progress.seconds_left) is not None:
        minutes, seconds = divmod(round(left), 60)
        parts.append(f"{minutes // 60}:{minutes % 60:02}:{seconds:02} left")
    bar.update(
        task,
        description=", ".join(parts),
        total=progress.total_size or progress.total_objects,
        completed=progress.size + progress.size_before if progress.total_size else objects + progress.failed,
    )


def print_outcome(outcome: Outcome, target: str, work: Path, *, as_json: bool) -> None:
    """Print the report of a job, its notes and its failures."""
    rate = outcome.records / outcome.seconds if outcome.seconds else 0.0
    if as_json:
        document: dict[str, Any] = {
            "state": outcome.state,
            "objects": outcome.objects,
            "objects_before": outcome.objects_before,
            "failed": outcome.failed,
            "records": outcome.records,
            "bytes": outcome.size,
            "seconds": round(outcome.seconds, 3),
            "images_per_second": round(rate, 1),
            "reason": outcome.reason,
            "notes": list(outcome.notes),
            "failures": [
                {"object": failure.uri, "record": failure.record, "reason": failure.reason}
                for failure in outcome.failures
            ],
        }
        if outcome.nodes:
            document["nodes"] = [
                {
                    "node": node.name,
                    "objects": node.objects,
                    "records": node.records,
                    "bytes": node.size,
                    "seconds": round(node.seconds, 3),
                    "images_per_second": round(node.rate, 1),
                }
                for node in outcome.nodes
            ]
        echo_json(document)
    else:
        before = f" ({outcome.objects_before:,} of them before)" if outcome.objects_before else ""
        out.print(
            f"{format_state(outcome.state)}  {outcome.objects:,} objects{before} -> {escape_markup(target)}  "
            f"[dim]{outcome.records:,} records, {human_bytes(outcome.size)}, {outcome.seconds:.1f} s, "
            f"{rate:,.0f} images/s[/dim]"
        )
        for node in outcome.nodes:
            out.print(
                f"  {escape_markup(node.name)}  [dim]{node.objects:,} objects, {node.records:,} records, "
                f"{node.rate:,.0f} images/s[/dim]"
            )
    for sentence in outcome.notes:
        note(sentence)
    for failure in outcome.failures[:_MAX_PRINTED]:
        where = f", record {failure.record}" if failure.record is not None else ""
        err.print(f"[red]failed:[/red] {escape_markup(failure.uri)}{where}: {escape_markup(failure.reason)}")
    if outcome.failed > _MAX_PRINTED:
        err.print(f"[red]failed:[/red] {outcome.failed - _MAX_PRINTED:,} more (--json lists 1,000)")
    if outcome.reason and not outcome.failures:
        print_error_line(outcome.reason)
    if outcome.state != "Completed":
        text = f"the same command continues from here (--afresh starts again); progress is kept in {work}"
        err.print(f"[dim]{escape_markup(text)}[/dim]")
