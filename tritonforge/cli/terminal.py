"""What the subcommands share on the terminal: the consoles, and progress that is drawn only where someone watches."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.status import Status
from rich.text import Text

from tritonforge.escaping import terminal_line, terminal_text

if TYPE_CHECKING:
    from tritonforge.building import BuildProgress

__all__ = ["Steps", "err", "human_bytes", "out", "shown", "steps"]


class _Console(Console):
    """A console whose texts, those in tables too, cannot steer the terminal or be read as commands of a CI system."""

    def render_str(self, text: str, **arguments: Any) -> Text:
        """The text with its markup rendered, where that is asked for."""
        rendered = super().render_str(terminal_text(text), **arguments)
        safe = terminal_text(rendered.plain)  # a command may begin behind a tag of markup
        return rendered if safe == rendered.plain else Text(safe, style=rendered.style)


#: Results go to standard output, everything about the work itself to standard error.
out = _Console(highlight=False, soft_wrap=True, emoji=False)
err = _Console(stderr=True, highlight=False, soft_wrap=True, emoji=False)


def shown(name: str) -> str:
    """A name or a sentence as a part of a line with markup."""
    return escape(terminal_line(name))


class Steps:
    """Slow work, step by step: a spinner with the seconds on a terminal, one line a step elsewhere."""

    def __init__(self, status: Status | None) -> None:
        self._status = status
        self._what = ""
        self._since = 0.0

    def begin(self, what: str) -> None:
        """A step begins; the one before it is told as done."""
        self.end()
        self._what, self._since = what, time.monotonic()
        if self._status is not None:
            self._status.update(f"{shown(what)} ...")
            self._status.start()
        else:
            err.print(f"  {shown(what)} ...")

    def detail(self, text: str) -> None:
        """What the step is at now; shown on a terminal only."""
        if self._status is not None:
            self._status.update(f"{shown(self._what)} ... [dim]{shown(text)}[/dim]")

    def moved(self, done: int, total: int | None) -> None:
        """A bar of the bytes moved so far, where it is known how many there are."""
        if not total:
            self.detail(human_bytes(done))
            return
        filled = int(24 * done / total)
        self.detail(f"{'━' * filled}{'╌' * (24 - filled)} {human_bytes(done)} of {human_bytes(total)}")

    def say(self, sentence: str) -> None:
        """A sentence that must not be missed."""
        err.print(f"[yellow]note:[/yellow] {escape(sentence)}")

    def on_build(self, event: BuildProgress) -> None:
        """Show an event of `tritonforge.build`."""
        if event.kind == "step":
            self.begin(event.message)
        elif event.kind == "note":
            self.say(event.message)
        else:
            self.moved(event.done, event.total)

    def end(self) -> None:
        """The step is done."""
        if self._what and self._status is not None:
            self._status.stop()
            err.print(f"  [green]✓[/green] {shown(self._what)} [dim]{time.monotonic() - self._since:.1f} s[/dim]")
        self._what = ""


@contextmanager
def steps() -> Iterator[Steps]:
    """Progress for a block of work; a step that an error ends leaves no spinner behind."""
    status = err.status("", spinner="dots") if err.is_terminal else None
    shown = Steps(status)
    try:
        yield shown
        shown.end()
    finally:
        if status is not None:
            status.stop()


def human_bytes(size: float) -> str:
    """A size as people read it: 512 B, 8.6 MB; units of 1000."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
