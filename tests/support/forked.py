"""Processes that are forked from one that has imported the emulator: for tests that kill emulators.

A process of its own takes more than a second of computing until its emulator listens; a forked one a tenth of that.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from typing import Any, TextIO

#: What the process imports that all others are forked from.
_WARM_UP = "tests.support.forked_warm_up"


class Forked:
    """A function that runs in a forked process; it prints what the test reads from `output`."""

    def __init__(self, target: Callable[..., Any], *arguments: Any) -> None:
        sys.audit("os.fork")  # multiprocessing raises no event, and `markers` listens for one
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([_WARM_UP])
        reader, writer = context.Pipe(duplex=False)
        self._process = context.Process(target=_printing, args=(writer, target, arguments), daemon=True)
        self._process.start()
        writer.close()
        self.output: TextIO = os.fdopen(os.dup(reader.fileno()))
        reader.close()

    @property
    def running(self) -> bool:
        """Whether the process has not ended."""
        return self._process.is_alive()

    def end(self, number: int = signal.SIGKILL) -> None:
        """Send a signal and wait for the end; SIGKILL leaves the process no time to tidy up."""
        assert self._process.pid is not None
        os.kill(self._process.pid, number)
        self._process.join(60)
        assert not self.running
        self.output.close()


def _printing(writer: Any, target: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    """Run the function with standard output at the pipe."""
    os.dup2(writer.fileno(), 1)
    sys.stdout = os.fdopen(os.dup(1), "w", buffering=1)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    importlib.import_module(_WARM_UP)  # was imported before the fork; multiprocessing passes over a failure there
    target(*arguments)
    sys.stdout.flush()
