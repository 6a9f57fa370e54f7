"""What the control plane knows, by region, kind and name; written through to a folder where one is given.

Every change is on disk before the caller hears of it, one file a resource, replaced as a whole: a process that is
killed at any moment leaves each resource as it was before a change or after it.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias

from tritonforge.emulator.control.records import (
    Endpoint,
    RegistryEntry,
    Resource,
    TrainingRecord,
    TransformRecord,
    from_json,
    to_json,
)
from tritonforge.emulator.emulated_s3 import make_private_folder, open_private
from tritonforge.errors import LaunchError

__all__ = ["Record", "ResourceStore"]

Record: TypeAlias = Resource | Endpoint | TransformRecord | TrainingRecord | RegistryEntry

_UNFINISHED: Final = ".new"


class ResourceStore:
    """The resources of one account. Hold `lock` around a reading and the change that follows from it."""

    def __init__(self, folder: Path | None = None, *, clock: Callable[[], float] = time.time) -> None:
        self.lock = threading.RLock()
        self._folder = folder
        self._clock = clock
        self._found: dict[tuple[str, str, str], Record] = {}
        if folder is not None:
            for path in folder.glob(f"*/*/*{_UNFINISHED}"):  # a process was killed while it wrote
                path.unlink()
            for path in sorted(folder.glob("*/*/*.json")):
                region, kind = path.parts[-3], path.parts[-2]
                try:
                    kept = _read_record(kind, json.loads(path.read_text(encoding="utf-8")))
                except (ValueError, TypeError, LookupError) as error:
                    raise LaunchError(
                        f"{path}: not a resource that an emulator wrote: {error}. Remove the file to do without it."
                    ) from error
                self._found[region, kind, kept.name.lower()] = kept

    def now(self, after: float = 0.0) -> float:
        """Seconds since 1970, to the millisecond, as AWS gives them; never before ``after``, however the clock is set.

        ``after`` is when the resource was changed before: its history stays in order.
        """
        return max(round(self._clock(), 3), after)

    def get(self, region: str, kind: str, name: str) -> Record | None:
        """The resource of a name, in whatever case; None where there is none."""
        with self.lock:
            return self._found.get((region, kind, name.lower()))

    def endpoint(self, region: str, name: str) -> Endpoint | None:
        """The endpoint of a name."""
        found = self.get(region, "endpoint", name)
        assert found is None or isinstance(found, Endpoint)
        return found

    def resource(self, region: str, kind: str, name: str) -> Resource | None:
        """The model or the endpoint configuration of a name."""
        found = self.get(region, kind, name)
        assert found is None or isinstance(found, Resource)
        return found

    def transform(self, region: str, name: str) -> TransformRecord | None:
        """The transform job of a name."""
        found = self.get(region, "transform-job", name)
        assert found is None or isinstance(found, TransformRecord)
        return found

    def transforms(self, region: str | None = None) -> Iterator[tuple[str, TransformRecord]]:
        """Every transform job with its region; those of one region where it is given."""
        with self.lock:
            found = list(self._found.items())
        for (place, _, _), kept in found:
            if isinstance(kept, TransformRecord) and region in (None, place):
                yield place, kept

    def training(self, region: str, name: str) -> TrainingRecord | None:
        """The training job of a name."""
        found = self.get(region, "training-job", name)
        assert found is None or isinstance(found, TrainingRecord)
        return found

    def trainings(self, region: str | None = None) -> Iterator[tuple[str, TrainingRecord]]:
        """Every training job with its region; those of one region where it is given."""
        with self.lock:
            found = list(self._found.items())
        for (place, _, _), kept in found:
            if isinstance(kept, TrainingRecord) and region in (None, place):
                yield place, kept

    def registered(self, region: str, kind: str, name: str) -> RegistryEntry | None:
        """The algorithm or the model package of a name."""
        found = self.get(region, kind, name)
        assert found is None or isinstance(found, RegistryEntry)
        return found

    def registrations(self, kind: str, region: str | None = None) -> Iterator[tuple[str, RegistryEntry]]:
        """Every algorithm or model package with its region; those of one region where it is given."""
        with self.lock:
            found = list(self._found.items())
        for (place, what, _), kept in found:
            if what == kind and isinstance(kept, RegistryEntry) and region in (None, place):
                yield place, kept

    def all(self, region: str, kind: str) -> list[Record]:
        """The resources of a kind in a region."""
        with self.lock:
            return [kept for (place, what, _), kept in self._found.items() if (place, what) == (region, kind)]

    def endpoints(self, region: str | None = None) -> Iterator[tuple[str, Endpoint]]:
        """Every endpoint with its region; those of one region where it is given."""
        with self.lock:
            found = list(self._found.items())
        for (place, _, _), kept in found:
            if isinstance(kept, Endpoint) and region in (None, place):
                yield place, kept

    def put(self, region: str, kind: str, kept: Record) -> None:
        """Write a resource, new or changed."""
        with self.lock:
            path = self._path(region, kind, kept.name)
            if path is not None:
                make_private_folder(path.parent)
                unfinished = path.with_suffix(_UNFINISHED)
                with open_private(unfinished, "w", encoding="utf-8") as file:
                    json.dump(to_json(kept), file, indent=1)
                unfinished.replace(path)
            self._found[region, kind, kept.name.lower()] = kept

    def remove(self, region: str, kind: str, name: str) -> None:
        """Forget a resource."""
        with self.lock:
            path = self._path(region, kind, name)
            if path is not None:
                path.unlink(missing_ok=True)
            self._found.pop((region, kind, name.lower()), None)

    def _path(self, region: str, kind: str, name: str) -> Path | None:
        # The name of a version of a model package is "group/version".
        file = f"{name.lower().replace('/', '.')}.json"
        return None if self._folder is None else self._folder / region / kind / file


def _read_record(kind: str, document: Mapping[str, Any]) -> Record:
    if kind == "endpoint":
        return from_json(Endpoint, document)
    if kind == "transform-job":
        return from_json(TransformRecord, document)
    if kind == "training-job":
        return from_json(TrainingRecord, document)
    if kind in ("algorithm", "model-package"):
        return from_json(RegistryEntry, document)
    return from_json(Resource, document)
