"""How long things take: the emulator's own pauses, and the waits that requests ask for, divided by ``speed``.

On AWS a creation takes some minutes and a deletion one. At speed 1 a creation takes three seconds here, or as long as
its containers need where that is longer; the waits of a DeploymentConfig take as long as they say. A speed of 60 turns
minutes into seconds. What a container needs to start, and its timeouts, are never scaled.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

__all__ = ["CREATION", "DELETION", "ROLLBACK", "SCALING", "Delays", "Task", "Threads"]

#: Seconds at speed 1.
CREATION: Final = 3.0
SCALING: Final = 2.0
ROLLBACK: Final = 2.0
DELETION: Final = 2.0

#: Seconds between two looks at an alarm, unscaled: the longest, and the shortest.
_MAX_PERIOD: Final = 1.0
_MIN_PERIOD: Final = 0.02


class Delays:
    """Waits that end early when ``closing`` is set."""

    def __init__(self, speed: float, closing: threading.Event) -> None:
        if not speed > 0:
            raise ValueError(f"speed is {speed}; it must be greater than 0")
        self._speed = speed
        self._closing = closing

    def wait(self, seconds: float) -> bool:
        """Wait so many scaled seconds; False where the emulator is being stopped."""
        return not self._closing.wait(max(seconds, 0.0) / self._speed)

    def split(self, seconds: float) -> list[float]:
        """So many scaled seconds cut into pieces, after each of which alarms are looked at."""
        real = seconds / self._speed
        piece = min(_MAX_PERIOD, max(_MIN_PERIOD, real / 10))
        count = max(1, round(real / piece))
        return [seconds / count] * count

    def scaled(self, seconds: float) -> float:
        """Real seconds as the scaled ones that they stand for."""
        return seconds * self._speed


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
