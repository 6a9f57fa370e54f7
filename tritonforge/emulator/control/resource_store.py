"""The resources of an account by kind, region and name, written to a folder if one is given.

Every change is on disk before the caller continues, one file for each resource, replaced as a whole: a process that is
killed at any moment leaves each resource as it was before a change or after it.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, TypeVar

from tritonforge.emulator.control.records import Record, StatusRecord, from_json, to_json
from tritonforge.emulator.control.resources import AnyKind, ResourceKind
from tritonforge.emulator.emulated_s3 import make_private_folder, open_private
from tritonforge.errors import LaunchError

__all__ = ["ResourceStore"]

RecordT = TypeVar("RecordT", bound=Record)
StatusT = TypeVar("StatusT", bound=StatusRecord)

_UNFINISHED: Final = ".new"


class ResourceStore:
    """The resources of one account. Hold `lock` around a reading and the change that follows from it.

    ``kinds`` are those that the store holds; `kind` finds one by the word in ARNs.
    """

    def __init__(
        self, kinds: Iterable[AnyKind], folder: Path | None = None, *, clock: Callable[[], float] = time.time
    ) -> None:
        self.lock = threading.RLock()
        self.kinds = {kind.name: kind for kind in kinds}
        self._folder = folder
        self._clock = clock
        self._records: dict[str, dict[tuple[str, str], Record]] = {name: {} for name in self.kinds}
        if folder is not None:
            for path in folder.glob(f"*/*/*{_UNFINISHED}"):  # a process was killed while it wrote
                path.unlink()
            for path in sorted(folder.glob("*/*/*.json")):
                self._read(path)

    def now(self, after: float = 0.0) -> float:
        """Return seconds since 1970, to the millisecond, as AWS gives them; never less than ``after``.

        ``after`` is the time of the resource's last change: its history stays in order, however the clock is set.
        """
        return max(round(self._clock(), 3), after)

    def find(self, kind: ResourceKind[RecordT], region: str, name: str) -> RecordT | None:
        """Return the resource of a name, in whatever case; None if it does not exist."""
        with self.lock:
            record = self._records[kind.name].get((region, name.lower()))
        assert record is None or isinstance(record, kind.record)
        return record

    def list_region(self, kind: ResourceKind[RecordT], region: str) -> list[RecordT]:
        """Return the resources of a kind in a region."""
        return [record for place, record in self.list_all(kind) if place == region]

    def list_all(self, kind: ResourceKind[RecordT]) -> list[tuple[str, RecordT]]:
        """Return the resources of a kind in all regions, each with its region."""
        with self.lock:
            pairs = [(region, record) for (region, _), record in self._records[kind.name].items()]
        return [(region, record) for region, record in pairs if isinstance(record, kind.record)]

    def put(self, kind: ResourceKind[RecordT], region: str, record: RecordT) -> None:
        """Write a resource, new or changed."""
        with self.lock:
            path = self._path(kind, region, record.name)
            if path is not None:
                make_private_folder(path.parent)
                unfinished = path.with_suffix(_UNFINISHED)
                with open_private(unfinished, "w", encoding="utf-8") as file:
                    json.dump(to_json(record), file, indent=1)
                unfinished.replace(path)
            self._records[kind.name][region, record.name.lower()] = record

    def change(
        self, kind: ResourceKind[StatusT], region: str, name: str, change: Callable[[StatusT, float], StatusT]
    ) -> StatusT:
        """Write what a function makes of an existing resource and the time of the change; return it."""
        with self.lock:
            record = self.find(kind, region, name)
            assert record is not None
            changed = change(record, self.now(record.modified))
            self.put(kind, region, changed)
        return changed

    def remove(self, kind: AnyKind, region: str, name: str) -> None:
        """Remove a resource; it may be missing."""
        with self.lock:
            path = self._path(kind, region, name)
            if path is not None:
                path.unlink(missing_ok=True)
            self._records[kind.name].pop((region, name.lower()), None)

    def _read(self, path: Path) -> None:
        region, name = path.parts[-3], path.parts[-2]
        try:
            record: Record = from_json(self.kinds[name].record, json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError, LookupError) as error:
            raise LaunchError(
                f"{path}: not a resource that an emulator wrote: {error}. Remove the file to do without it."
            ) from error
        self._records[name][region, record.name.lower()] = record

    def _path(self, kind: AnyKind, region: str, name: str) -> Path | None:
        # The name of a version of a model package is "group/version".
        file = f"{name.lower().replace('/', '.')}.json"
        return None if self._folder is None else self._folder / region / kind.name / file
