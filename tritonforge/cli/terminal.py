"""The consoles of standard output and standard error, the progress of slow work, and its interruption by signals."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console
from rich.markup import escape
from rich.status import Status
from rich.text import Text

from tritonforge.cli.printing import get_verbosity
from tritonforge.escaping import escape_line, escape_text

if TYPE_CHECKING:
    from tritonforge.building import BuildProgress

__all__ = ["Steps", "StopRequest", "err", "escape_markup", "format_count", "handle_signals", "human_bytes",
           "list_names", "note", "out", "steps", "stop_on_signals"]  # fmt: skip

_STOPPING: Final = (signal.SIGINT, signal.SIGTERM)


class _Console(Console):
    """A console whose texts cannot control the terminal and are not read as commands by a CI system.

    With --quiet that of standard error prints nothing.
    """

    def print(self, *objects: Any, **arguments: Any) -> None:
        """Print as rich does, unless --quiet hides it."""
        if not (self.stderr and get_verbosity() == "quiet"):
            super().print(*objects, **arguments)

    def render_str(self, text: str, **arguments: Any) -> Text:
        """Render the text, with its markup if that is enabled."""
        rendered = super().render_str(escape_text(text), **arguments)
        safe = escape_text(rendered.plain)  # a command may begin behind a tag of markup
        return rendered if safe == rendered.plain else Text(safe, style=rendered.style)


#: Results go to standard output; progress, notes and errors go to standard error.
out = _Console(highlight=False, soft_wrap=True, emoji=False)
err = _Console(stderr=True, highlight=False, soft_wrap=True, emoji=False)


def escape_markup(name: str) -> str:
    """Return a name or a sentence as a part of a line with markup."""
    return escape(escape_line(name))


def note(sentence: str) -> None:
    """Print a note on standard error; --quiet hides it."""
    err.print(f"[yellow]note:[/yellow] {escape(sentence)}")


def list_names(names: Sequence[str], limit: int = 8) -> str:
    """Return names as a part of a line, the first ``limit`` of them and the number of the others."""
    text = escape_line(", ".join(names[:limit]))
    return text if len(names) <= limit else f"{text} and {len(names) - limit} more"


def format_count(count: int, one: str, many: str = "") -> str:
    """Return a count with its noun: "1 line", "2,000 lines"."""
    return f"{count:,} {one if count == 1 else many or f'{one}s'}"


class Steps:
    """The steps of slow work: a spinner with the seconds on a terminal, one line per step elsewhere."""

    def __init__(self, status: Status | None) -> None:
        self._status = status
        self._what = ""
        self._since = 0.0

    def begin(self, what: str) -> None:
        """Begin a step; the one before it is done."""
        self.end()
        self._what, self._since = what, time.monotonic()
        if self._status is not None:
            self._status.update(f"{escape_markup(what)} ...")
            self._status.start()
        else:
            err.print(f"  {escape_markup(what)} ...")

    def detail(self, text: str) -> None:
        """Show a detail of the step, on a terminal only."""
        if self._status is not None:
            self._status.update(f"{escape_markup(self._what)} ... [dim]{escape_markup(text)}[/dim]")

    def show_bytes(self, done: int, total: int | None) -> None:
        """Show the bytes moved so far, as a bar if their total is known."""
        if not total:
            self.detail(human_bytes(done))
            return
        filled = int(24 * done / total)
        self.detail(f"{'━' * filled}{'╌' * (24 - filled)} {human_bytes(done)} of {human_bytes(total)}")

    def note(self, sentence: str) -> None:
        """Print a note."""
        note(sentence)

    def on_build(self, event: BuildProgress) -> None:
        """Show a progress event of `tritonforge.build`."""
        if event.kind == "step":
            self.begin(event.message)
        elif event.kind == "note":
            self.note(event.message)
        else:
            self.show_bytes(event.done, event.total)

    def end(self) -> None:
        """End the step."""
        if self._what and self._status is not None:
            self._status.stop()
            seconds = f"[dim]{time.monotonic() - self._since:.1f} s[/dim]"
            err.print(f"  [green]✓[/green] {escape_markup(self._what)} {seconds}")
        self._what = ""


@contextmanager
def steps() -> Iterator[Steps]:
    """Show progress while the context lasts; a step that an error ends leaves no spinner behind."""
    has_spinner = err.is_terminal and get_verbosity() != "quiet"
    status = err.status("", spinner="dots") if has_spinner else None
    progress = Steps(status)
    try:
        yield progress
        progress.end()
    finally:
        if status is not None:
            status.stop()


def human_bytes(size: float) -> str:
    """Return a size with a unit, in steps of 1000: 512 B, 8.6 MB."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


@contextmanager
def handle_signals(handler: Callable[[int], None], numbers: Iterable[int] = _STOPPING) -> Iterator[None]:
    """Call ``handler`` with the number of each signal that arrives while the context lasts."""

    def handle(number: int, _: FrameType | None) -> None:
        handler(number)

    previous = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield
    finally:
        for number, old in previous.items():
            signal.signal(number, old)


class StopRequest:
    """Counts signals. While a job runs the first one requests its stop and the next one interrupts it.

    ``is_running`` states that a job runs; while it is False each signal raises KeyboardInterrupt.
    """

    def __init__(self) -> None:
        self.event = threading.Event()
        self.is_running = False

    def handle(self, _: int) -> None:
        """Handle a signal. Raises KeyboardInterrupt if no job runs or a stop is requested already."""
        if self.event.is_set() or not self.is_running:
            raise KeyboardInterrupt
        self.event.set()


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Have SIGINT and SIGTERM set ``event`` while the context lasts."""
    request = StopRequest()
    with handle_signals(request.handle):
        yield request
