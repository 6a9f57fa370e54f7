"""The threads of jobs under way, by region and name: begun, found and ended together."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

__all__ = ["Task", "Threads"]


@dataclass(slots=True)
class Task:
    """A job that a thread is at; ``stop`` ends it."""

    stop: threading.Event = field(default_factory=threading.Event)
    thread: threading.Thread | None = None


_Task = TypeVar("_Task", bound=Task)


class Threads(Generic[_Task]):
    """Threads of one kind of job; safe for use by many threads.

    ``make`` gives a new task, ``run`` does it (region, name, task) and raises nothing. ``guard`` is for what a task
    has besides; ``closing`` says that the emulator ends, and that jobs stay as they are.
    """

    def __init__(self, make: Callable[[], _Task], run: Callable[[str, str, _Task], None]) -> None:
        self.guard = threading.Lock()
        self.closing = False
        self._make = make
        self._run = run
        self._tasks: dict[tuple[str, str], _Task] = {}

    def begin(self, region: str, name: str) -> None:
        """Start a job."""
        with self.guard:
            task = self._make()
            task.thread = threading.Thread(
                target=self._done, args=(region, name, task), name=f"emulator-{name}", daemon=True
            )
            self._tasks[region, name] = task
            if not self.closing:
                task.thread.start()

    def find(self, region: str, name: str) -> _Task | None:
        """The task of a job under way; hold ``guard``."""
        return self._tasks.get((region, name))

    def close(self) -> Sequence[_Task]:
        """Stop every job and begin no other; gives those that are still under way."""
        with self.guard:
            self.closing = True
            tasks = list(self._tasks.values())
        for task in tasks:
            task.stop.set()
        return tasks

    @staticmethod
    def join(tasks: Sequence[_Task], timeout: float | None = None) -> None:
        """Wait for their threads, ``timeout`` seconds at most for all of them together."""
        deadline = None if timeout is None else time.monotonic() + timeout
        for task in tasks:
            if task.thread is not None and task.thread.ident is not None:
                task.thread.join(None if deadline is None else max(0.0, deadline - time.monotonic()))

    def _done(self, region: str, name: str, task: _Task) -> None:
        try:
            self._run(region, name, task)
        finally:
            with self.guard:
                self._tasks.pop((region, name), None)
