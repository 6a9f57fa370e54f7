"""The objects of a job for the driver: listed ahead by a thread, without those that the journal has."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections import deque
from collections.abc import Callable
from contextlib import closing
from itertools import islice
from typing import Final

from tritonforge.errors import TritonForgeError
from tritonforge.transform.journal import FinishedObject, Journal
from tritonforge.transform.listing import Listing
from tritonforge.transform.object_store import ObjectStore, StoreError
from tritonforge.transform.run_state import InputObject

__all__ = ["ObjectFeed"]

#: Objects of a lot, as many as a response of S3's ListObjectsV2 has, and the lots that are listed ahead.
_LOT: Final = 1000
_LOTS: Final = 8

#: Objects that one call of `take` looks up at most, so that skipping millions of finished ones stops nothing else.
_MAX_LOOKED_UP: Final = 5000

_PERIOD: Final = 0.1


class ObjectFeed:
    """The objects of a listing that are not finished.

    ``skipped`` counts those that an earlier run finished; ``error`` is why the listing ended early.
    """

    def __init__(self, listing: Listing, journal: Journal, source: ObjectStore) -> None:
        self.skipped = 0
        self.error = ""
        self._listing = listing
        self._journal = journal
        self._source = source
        self._lots: queue.Queue[list[InputObject] | None] = queue.Queue(_LOTS)
        self._next: deque[InputObject] = deque()
        self._is_listed = False
        self._closed = threading.Event()
        self._internal_error: BaseException | None = None
        threading.Thread(target=self._list, name="transform-listing", daemon=True).start()

    @property
    def is_exhausted(self) -> bool:
        """True if no object follows."""
        self._fetch()
        return self._is_listed and not self._next

    @property
    def is_empty(self) -> bool:
        """True if the listing had no object at all."""
        return self._is_listed and not self._listing.count

    def take(
        self, count: int, find_in_flight: Callable[[str], InputObject | None]
    ) -> tuple[list[InputObject], list[FinishedObject]]:
        """Return up to ``count`` objects to transform that are listed already, and those that fail at once.

        Objects with the key of one in flight are skipped if they are the same, and fail otherwise.
        """
        taken: dict[str, InputObject] = {}
        failed: list[FinishedObject] = []
        for _ in range(_MAX_LOOKED_UP):
            self._fetch()
            if len(taken) >= count or not self._next:
                break
            listed = self._next.popleft()
            if (other := taken.get(listed.key) or find_in_flight(listed.key)) is not None:
                if other.uri != listed.uri:
                    failed.append(_fail(listed, f"its output would have the same name as that of {other.uri}"))
                continue
            try:
                kind, reason = self._admit(listed)
            except StoreError as error:
                kind, reason = "conflict", str(error)
            if kind == "conflict":
                failed.append(_fail(listed, reason))
            elif kind == "finished":
                self.skipped += 1
            elif kind != "repeated":
                taken[listed.key] = listed
        return [*taken.values()], failed

    def close(self) -> None:
        """End the listing."""
        self._closed.set()

    def _admit(self, listed: InputObject) -> tuple[str, str]:
        """Return what the journal says of an object, and why it fails."""
        stored = listed.stored
        if stored is None:  # a manifest has no metadata; workers ask for those that the journal does not have
            if self._journal.find(listed.key) is None:
                return "begin", ""
            stored = self._source.find(listed.uri)
            if stored is None:
                return "conflict", "no such object"
        admission = self._journal.admit(listed.key, stored.uri, stored.etag)
        return admission.kind, admission.conflict if admission.kind == "conflict" else ""

    def _fetch(self) -> None:
        """Take the next lot if the last one is used up."""
        if self._next or self._is_listed:
            return
        try:
            lot = self._lots.get_nowait()
        except queue.Empty:
            return
        if self._internal_error is not None:
            raise self._internal_error
        if lot is None:
            self._is_listed = True
        else:
            self._next.extend(lot)

    def _list(self) -> None:
        try:
            with closing(iter(self._listing)) as listing:
                while lot := [*islice(listing, _LOT)]:
                    if not self._put(lot):
                        return
        except TritonForgeError as error:
            self.error = str(error)
        except BaseException as error:
            self._internal_error = error
        self._put(None)

    def _put(self, lot: list[InputObject] | None) -> bool:
        """Queue a lot; return False if the feed is closed."""
        while not self._closed.is_set():
            with contextlib.suppress(queue.Full):
                self._lots.put(lot, timeout=_PERIOD)
                return True
        return False


def _fail(listed: InputObject, reason: str) -> FinishedObject:
    return FinishedObject(key=listed.key, uri=listed.uri, etag="", reason=reason)
