"""The activity of watched servers as a table for a terminal, as lines, and as JSON."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from tritonforge.cli.printing import align_columns
from tritonforge.cli.terminal import format_count
from tritonforge.errors import EncodeError, TritonForgeError
from tritonforge.escaping import escape_line
from tritonforge.graph.text_widths import shorten_text
from tritonforge.profiling.activity import ActivityHistory, ActivityRow, ModelActivity, ServerActivity
from tritonforge.profiling.server_poller import ServerPoller
from tritonforge.profiling.waterfall import format_duration

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions
    from rich.segment import Segment

__all__ = ["ServerTable", "WatchedServer", "describe_servers", "list_lines"]

_HEADINGS: Final = ("model", "req/s", "failed", "queue", "compute", "total", "batch", "busy", "pending")

_STYLES: Final = {"server": "bold", "heading": "dim", "bottleneck": "bold reverse"}

#: Lines of a server besides the rows of models; models without requests are left out where the rows do not fit.
_OTHER_LINES: Final = 6

#: Characters that a name keeps on a narrow terminal.
_NARROWEST: Final = 16

#: The prefix of the step that limits its model.
_MARK: Final = "> "

#: The prefix of a model that the code of the model above requests.
_CALLED: Final = "calls "


@dataclass(slots=True)
class WatchedServer:
    """A server with its last activity, or why it has none."""

    poller: ServerPoller
    history: ActivityHistory
    activity: ServerActivity | None = None
    #: Why the last reading failed, "" if it did not.
    problem: str = ""
    #: When it first failed, in seconds of the monotonic clock.
    _failed_since: float = field(default=0.0)

    @property
    def url(self) -> str:
        """The address."""
        return self.poller.url

    @property
    def silence(self) -> float:
        """Seconds since the server has given no valid answer; 0 if it does."""
        return time.monotonic() - self._failed_since if self.problem else 0.0

    def update(self) -> None:
        """Read the server; a server that gives no answer is one of the states, not an error.

        Raises:
            EncodeError: the address has no statistics.
        """
        try:
            self.activity = self.history.add(self.poller.poll())
        except EncodeError:
            raise
        except TritonForgeError as error:
            if not self.problem:
                self._failed_since = time.monotonic()
            self.problem = str(error)
            self.activity = None
            self.history.clear()
        else:
            self.problem = ""


class ServerTable:
    """The table for a terminal, which rich renders; ``hint`` is the last line.

    It is lines of text and not rich's own table, which takes ten times the processor time for a table of this size:
    the table must not slow down a server on the same machine.
    """

    def __init__(self, servers: Sequence[WatchedServer], *, hint: str = "") -> None:
        self._servers = servers
        self._hint = hint

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        from rich.cells import set_cell_size
        from rich.segment import Segment
        from rich.style import Style

        styles = {name: Style.parse(text) for name, text in _STYLES.items()}
        for line, style in self._list_styled_lines(options.max_width, console.height):
            text = line if line.isascii() and len(line) < options.max_width else set_cell_size(line, options.max_width)
            yield Segment(text.rstrip(), styles.get(style))
            yield Segment.line()

    def _list_styled_lines(self, width: int, height: int) -> Iterator[tuple[str, str]]:
        for server in self._servers:
            yield escape_line(_describe_server(server)), "server"
            if server.activity is not None:
                rows = _list_rows(server.activity)
                idle: list[ModelActivity] = []
                if len(rows) > height // len(self._servers) - _OTHER_LINES:
                    idle = [model for model in server.activity.models if not model.rows[0].rate]
                    rows = [row for model in server.activity.models if model not in idle for row in model.rows]
                heading, *lines = _align_rows(rows, has_metrics=server.activity.metrics is not None, width=width)
                yield heading, "heading"
                for row, line in zip(rows, lines, strict=True):
                    yield line, "bottleneck" if row.is_bottleneck else ""
                if idle:
                    yield f"  {format_count(len(idle), 'model')} without requests", "heading"
            for sentence in _list_sentences(server):
                for line in textwrap.wrap(escape_line(sentence), max(width - 1, 20)):
                    yield line, ""
            yield "", ""
        if self._hint:
            yield self._hint, "heading"


def _align_rows(rows: Sequence[ActivityRow], *, has_metrics: bool, width: int) -> Iterator[str]:
    """Yield the heading and a line for each row; names are shortened where the lines would be wider than that."""
    cells = [_list_headings(has_metrics=has_metrics), *(_list_cells(row, has_metrics=has_metrics) for row in rows)]
    others = sum(2 + max(map(len, column)) for column in list(zip(*cells, strict=True))[1:])
    limit = max(width - 1 - others, _NARROWEST)
    yield from align_columns([(shorten_text(name, limit), *figures) for name, *figures in cells])


def list_lines(servers: Sequence[WatchedServer]) -> Iterator[str]:
    """Yield the same as escaped lines without colours."""
    for server in servers:
        yield escape_line(_describe_server(server))
        if server.activity is not None:
            has_metrics = server.activity.metrics is not None
            rows = [_list_cells(row, has_metrics=has_metrics) for row in _list_rows(server.activity)]
            yield from align_columns([_list_headings(has_metrics=has_metrics), *rows])
        yield from map(escape_line, _list_sentences(server))


def _list_headings(*, has_metrics: bool) -> Sequence[str]:
    return _HEADINGS if has_metrics else _HEADINGS[:-1]


def _list_rows(activity: ServerActivity) -> list[ActivityRow]:
    return [row for model in activity.models for row in model.rows]


def _list_cells(row: ActivityRow, *, has_metrics: bool) -> list[str]:
    mark = _MARK if row.is_bottleneck else "  "
    name = row.name.rpartition("/")[2] if row.depth else row.name
    total = f" ({row.failures_since_load})" if row.failures_since_load > row.failures else ""
    batch = row.mean_batch_size
    cells = [
        f"{mark}{'  ' * row.depth}{_CALLED if row.is_called else ''}{name}{' *' if row.is_shared else ''}",
        f"{row.rate:.1f}",
        f"{row.failures}{total}",
        *("" if value is None else format_duration(value * 1e6) for value in (row.queue, row.compute, row.total)),
        "" if batch is None else f"{batch:.1f}",
        "" if row.utilization is None else f"{row.utilization:.0%}",
    ]
    return [*cells, "" if row.pending is None else str(row.pending)] if has_metrics else cells


def _describe_server(server: WatchedServer) -> str:
    if server.problem:
        return f"{server.url}  no valid answer for {server.silence:.0f} s"
    if server.activity is None:
        return f"{server.url}  reading ..."
    rate = sum(model.rows[0].rate for model in server.activity.models)
    return "  ".join([server.url, f"{rate:.1f} requests/s", *_list_resources(server.activity)])


def _list_resources(activity: ServerActivity) -> Iterator[str]:
    """Yield the machine's utilization and memory."""
    metrics = activity.metrics
    if metrics is None:
        return
    if metrics.cpu is not None:
        yield f"CPU {metrics.cpu:.0%}"
    if metrics.memory_used is not None and metrics.memory_total is not None:
        yield f"memory {_gigabytes(metrics.memory_used)} of {_gigabytes(metrics.memory_total)} GB"
    for number, (used, total, utilization) in enumerate(metrics.gpus.values()):
        if utilization is not None:
            yield f"GPU {number} {utilization:.0%}"
        if used is not None and total is not None:
            yield f"GPU {number} memory {_gigabytes(used)} of {_gigabytes(total)} GB"


def _gigabytes(size: float) -> str:
    return f"{size / 1e9:.1f}"


def _list_sentences(server: WatchedServer) -> Iterator[str]:
    if server.problem:
        yield server.problem
        return
    if server.activity is None:
        return
    for model in server.activity.models:
        if model.bottleneck is not None and len(server.activity.models) > 1:
            yield f"{model.rows[0].name}: {model.bottleneck.sentence}"
        elif model.bottleneck is not None:
            yield model.bottleneck.sentence
    if any(row.is_shared for row in _list_rows(server.activity)):
        yield "* also used by other requests; Triton counts for each model, not for each ensemble"
    if any(row.is_called for row in _list_rows(server.activity)):
        yield "calls: the code of the model above requests it (BLS); its time is part of that model's compute"
    if server.poller.metrics_problem:
        yield f"no metrics, so no pending requests and no memory: {server.poller.metrics_problem}"


def describe_servers(servers: Sequence[WatchedServer], *, moment: float) -> dict[str, Any]:
    """Return one interval as a JSON object; ``moment`` is in seconds since 1970."""
    return {"time": round(moment, 3), "servers": [_describe_json(server) for server in servers]}


def _describe_json(server: WatchedServer) -> dict[str, Any]:
    activity = server.activity
    if activity is None:
        return {"url": server.url, "error": server.problem or "only one reading so far"}
    metrics = activity.metrics
    document: dict[str, Any] = {
        "url": server.url,
        "seconds": round(activity.seconds, 3),
        "models": [_describe_model(model) for model in activity.models],
        "metrics": None,
    }
    if metrics is not None:
        document["metrics"] = {
            "cpu_utilization": metrics.cpu,
            "memory_used_bytes": metrics.memory_used,
            "memory_total_bytes": metrics.memory_total,
            "gpus": [
                {"uuid": uuid, "memory_used_bytes": used, "memory_total_bytes": total, "utilization": utilization}
                for uuid, (used, total, utilization) in metrics.gpus.items()
            ],
            "failures": [
                {"model": model, "reason": reason, "count": count}
                for (model, reason), count in sorted(metrics.failures.items())
                if count
            ],
        }
    elif server.poller.metrics_problem:
        document["metrics_problem"] = server.poller.metrics_problem
    return document


def _describe_model(model: ModelActivity) -> dict[str, Any]:
    bottleneck = model.bottleneck
    described: dict[str, Any] = _describe_row(model.rows[0])
    described["steps"] = [_describe_row(row) for row in model.rows[1:]]
    described["bottleneck"] = None
    if bottleneck is not None:
        described["bottleneck"] = {
            "step": bottleneck.step,
            "model": bottleneck.model,
            "kind": bottleneck.kind,
            "share": round(bottleneck.share, 4),
            "sentence": bottleneck.sentence,
            "advice": list(bottleneck.advice),
        }
    return described


def _describe_row(row: ActivityRow) -> dict[str, Any]:
    durations: Mapping[str, float | None] = {
        "queue_ms": row.queue,
        "compute_ms": row.compute,
        "total_ms": row.total,
        "mean_batch_size": row.mean_batch_size,
        "utilization": row.utilization,
    }
    return {
        "name": row.name,
        "model": row.model,
        "requests_per_second": round(row.rate, 3),
        "failures": row.failures,
        "failures_since_load": row.failures_since_load,
        **{name: None if value is None else round(value, 4) for name, value in durations.items()},
        "batches": {str(size): count for size, count in row.batches.items()},
        "pending": row.pending,
        "shared": row.is_shared,
        "called": row.is_called,
    }
