"""SIGINT and SIGTERM while a command works."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

__all__ = ["StopRequest", "handle_signals", "stop_on_signals"]

_STOPPING: Final = (signal.SIGINT, signal.SIGTERM)


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
