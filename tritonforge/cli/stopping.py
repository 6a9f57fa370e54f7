"""What SIGTERM and Ctrl-C do to a job of this machine."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["Stop", "signals"]


class Stop:
    """While a job runs a signal ends it in good order, and the second one at once; ``working`` says that one runs."""

    def __init__(self) -> None:
        self.event = threading.Event()
        self.working = False

    def __call__(self, _: int, __: FrameType | None) -> None:
        """A signal arrived."""
        if self.event.is_set() or not self.working:
            raise KeyboardInterrupt
        self.event.set()


@contextmanager
def signals() -> Iterator[Stop]:
    """Have the signals set ``event`` in a block."""
    stop = Stop()
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
