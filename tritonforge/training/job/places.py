"""A place of two kinds of addresses: paths are this machine's, ``s3://`` is handed in. An edge."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from tritonforge.records import Buffer
from tritonforge.transform.places import Folders, Found, Place

__all__ = ["ByScheme"]


class ByScheme(Folders):
    """Folders of this machine, and a store for what begins with ``s3://``, opened when it is first asked for."""

    def __init__(self, store: Callable[[], Place]) -> None:
        super().__init__()
        self._store = store
        self._opened: Place | None = None
        self._lock = threading.Lock()

    def list(self, prefix: str) -> Iterator[Found]:
        """As `Place.list`."""
        return self._far().list(prefix) if _is_far(prefix) else super().list(prefix)

    def find(self, uri: str) -> Found | None:
        """As `Place.find`."""
        return self._far().find(uri) if _is_far(uri) else super().find(uri)

    def open(self, uri: str, offset: int = 0) -> Iterator[Buffer]:
        """As `Place.open`."""
        return self._far().open(uri, offset) if _is_far(uri) else super().open(uri, offset)

    def put(self, content: Path | bytes, uri: str) -> None:
        """As `Place.put`."""
        return self._far().put(content, uri) if _is_far(uri) else super().put(content, uri)

    def check(self, uri: str) -> None:
        """As `Place.check`."""
        return self._far().check(uri) if _is_far(uri) else super().check(uri)

    def _far(self) -> Place:
        with self._lock:
            if self._opened is None:
                self._opened = self._store()
            return self._opened


def _is_far(uri: str) -> bool:
    return uri.startswith("s3://")
