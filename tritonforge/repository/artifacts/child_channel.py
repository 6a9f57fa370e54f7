"""The messages of a child process to its parent, `tritonforge.repository.artifacts.child_process`."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import IO, Any

from tritonforge.errors import TritonForgeError
from tritonforge.repository.artifacts.child_process import error_to_json

__all__ = ["Parent", "answer"]


class Parent:
    """What the child tells while it works."""

    def __init__(self, lines: IO[str]) -> None:
        self._lines = lines
        self._last = 0.0

    def say(self, text: str) -> None:
        """A sentence for the user."""
        self.write({"report": text})

    def moved(self, done: int, total: int | None) -> None:
        """Bytes that are moved: told ten times a second at most, and the last ones."""
        now = time.monotonic()
        if now - self._last >= 0.1 or done == total:
            self._last = now
            self.write({"moved": [done, total]})

    def write(self, message: dict[str, Any]) -> None:
        """One line."""
        self._lines.write(json.dumps(message) + "\n")
        self._lines.flush()


def answer(work: Callable[[Parent], Any]) -> int:
    """Do the work, and tell the parent its result as plain JSON, or its error; gives the exit status."""
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    # What definitions and frameworks print is not to mix with the lines for the parent.
    lines = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    with lines:
        parent = Parent(lines)
        try:
            done = work(parent)
        except TritonForgeError as error:
            parent.write({"error": error_to_json(error)})
            return 1
        parent.write({"done": done})
    return 0


def _end_with_the_parent() -> None:
    """Wait for the end of standard input, which comes when the parent closes it or is killed."""
    os.read(0, 1)  # sys.stdin would be locked while Python shuts down
    os._exit(1)
