"""Which worker gets which objects. This module does no I/O: time and names are given.

Every worker has a window: as many objects as fill its requests in flight, and those that it finished in the last two
seconds. A fast worker's window grows with every report; a slow node holds few objects. Objects of a lost worker go to
others first. Since one of them may have ended it, those that were lost twice are sent alone, and one that ends a worker
alone fails.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from tritonforge.transform.run_state import InputObject

__all__ = ["Dispatcher"]

#: Seconds of work that a worker has beyond its requests in flight. Its reports take a tenth of a second, a page
#: of S3's listing a tenth more; what a lost worker had is repeated.
_AHEAD: Final = 2.0

#: Objects that a worker may have at most, whatever its speed, so that the memory of the driver has a bound.
_MAX_WINDOW: Final = 20_000

#: A worker gets more objects when this part of its window is free, so that neighbours of the listing stay together.
_REFILL: Final = 0.25

#: An object that was lost this often is sent alone, and fails when that worker is lost too.
_SUSPECT: Final = 2


@dataclass(slots=True)
class _Share:
    """The objects of one worker by key, and when it finished how many."""

    capacity: int
    objects: dict[str, InputObject] = field(default_factory=dict)
    recent: deque[tuple[float, int]] = field(default_factory=deque)
    is_alone: bool = False

    def compute_window(self, now: float) -> int:
        while self.recent and self.recent[0][0] < now - _AHEAD:
            self.recent.popleft()
        return min(_MAX_WINDOW, self.capacity + sum(count for _, count in self.recent))


class Dispatcher:
    """Distributes objects over workers, each of which is a name; times are in seconds."""

    def __init__(self) -> None:
        self._shares: dict[str, _Share] = {}
        self._returned: deque[InputObject] = deque()
        self._suspects: deque[InputObject] = deque()
        self._losses: dict[str, int] = {}
        self._known: dict[str, InputObject] = {}

    @property
    def is_idle(self) -> bool:
        """True if no object is with a worker or waits for one."""
        return not self._known

    def add_worker(self, worker: str, capacity: int) -> None:
        """Add a worker that has up to ``capacity`` objects in requests at the same time."""
        self._shares[worker] = _Share(max(1, capacity))

    def remove_worker(self, worker: str, *, is_lost: bool) -> list[InputObject]:
        """Take a worker's objects back. Return those that are not to be sent again, because they end their workers.

        ``is_lost`` means that its process ended by itself, for which one of its objects may be the cause.
        """
        share = self._shares.pop(worker, None)
        if share is None:
            return []
        failed = []
        for key, lost in reversed(share.objects.items()):
            losses = self._losses[key] = self._losses.get(key, 0) + is_lost
            if losses > _SUSPECT and share.is_alone:
                del self._losses[key], self._known[key]
                failed.append(lost)
            elif losses >= _SUSPECT:
                self._suspects.appendleft(lost)
            else:
                self._returned.appendleft(lost)
        return failed

    def find(self, key: str) -> InputObject | None:
        """Return the object with this key that is with a worker or waits for one."""
        return self._known.get(key)

    def count_objects(self, worker: str) -> int:
        """Return how many objects a worker has."""
        return len(self._shares[worker].objects)

    def list_free_windows(self, now: float) -> list[tuple[str, int]]:
        """Return the workers that are to get objects, and how many; the emptiest first."""
        windows = []
        for worker, share in self._shares.items():
            window = share.compute_window(now)
            free = 0 if share.is_alone else window - len(share.objects)
            if free >= max(1, int(_REFILL * window)):
                windows.append((free / window, worker, free))
        return [(worker, free) for _, worker, free in sorted(windows, key=lambda item: (-item[0], item[1]))]

    def take_returned(self, worker: str, free: int) -> list[InputObject]:
        """Give a worker up to ``free`` objects that others have lost, and return them."""
        share = self._shares[worker]
        if self._suspects and not share.objects:
            taken = [self._suspects.popleft()]
            share.is_alone = True
        else:
            taken = [self._returned.popleft() for _ in range(min(free, len(self._returned)))]
        self.assign(worker, taken)
        return taken

    def assign(self, worker: str, objects: Iterable[InputObject]) -> None:
        """Note that a worker gets these objects."""
        for given in objects:
            self._shares[worker].objects[given.key] = self._known[given.key] = given

    def complete(self, worker: str, keys: Sequence[str], now: float) -> dict[str, InputObject]:
        """Note that a worker has finished objects. Return those of them that it had, by key."""
        share = self._shares.get(worker)
        if share is None:
            return {}
        known = {key: share.objects.pop(key) for key in keys if key in share.objects}
        for key in known:
            del self._known[key]
            self._losses.pop(key, None)
        if known:
            share.recent.append((now, len(known)))
            share.is_alone = False
        return known
