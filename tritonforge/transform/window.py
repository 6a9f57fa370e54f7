"""The window: how many records are on their way at once, from when they are read until their answers are in order."""

from __future__ import annotations

import threading

__all__ = ["Window"]


class Window:
    """Room for so many records, and so many bytes of them; one record goes in whatever its size, so that all can."""

    def __init__(self, *, records: int, size: int) -> None:
        self._records = records
        self._size = size
        self._changed = threading.Condition()
        self._held_records = 0
        self._held_size = 0
        self._closed = False

    def enter(self, size: int) -> bool:
        """Wait until a record of so many bytes has room; False once the window is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._has_room(size))
            if self._closed:
                return False
            self._held_records += 1
            self._held_size += size
            return True

    def leave(self, size: int) -> None:
        """A record is where it belongs."""
        with self._changed:
            self._held_records -= 1
            self._held_size -= size
            self._changed.notify_all()

    def close(self) -> None:
        """Let nothing in any more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _has_room(self, size: int) -> bool:
        if self._held_records == 0:
            return True
        return self._held_records < self._records and self._held_size + size <= self._size
