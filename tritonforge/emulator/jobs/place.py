"""The emulated S3 as a place of transform jobs, which remembers what a job has put there."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tritonforge.emulator.objects import ObjectMissingError, ObjectStore, StoredObject
from tritonforge.emulator.private_files import open_private
from tritonforge.errors import RequestError
from tritonforge.records import Buffer
from tritonforge.transform.places import CHUNK, Found, PlaceError

__all__ = ["EmulatedPlace"]

#: The file in a job's folder that has the address of each of its outputs, a line of JSON each.
_OUTPUTS: Final = "outputs.jsonl"


class EmulatedPlace:
    """S3 for one job, whose files of its own lie in ``folder``; for use by many threads."""

    def __init__(self, objects: ObjectStore, folder: Path) -> None:
        self._objects = objects
        self._outputs = folder / _OUTPUTS
        self._lock = threading.Lock()

    def list(self, prefix: str) -> Iterator[Found]:
        """The objects whose address begins with the prefix."""
        for each in self._objects.list(prefix):
            yield _found(each)

    def find(self, uri: str) -> Found | None:
        """The object at an address."""
        try:
            return _found(self._objects.head(uri))
        except (ObjectMissingError, RequestError):
            return None

    def open(self, uri: str, offset: int = 0) -> Iterator[Buffer]:
        """The content of an object from a byte on."""
        try:
            with self._objects.get(uri, offset) as stream:
                while piece := stream.read(CHUNK):
                    yield piece
        except (ObjectMissingError, RequestError, OSError) as error:
            raise PlaceError(f"{uri}: it cannot be read: {error}") from error

    def put(self, content: Path | bytes, uri: str) -> None:
        """Put an output, after its address is known to be this job's."""
        body = content if isinstance(content, bytes) else content.read_bytes()
        with self._lock:
            with open_private(self._outputs, "a", encoding="utf-8") as file:
                file.write(f"\n{json.dumps(uri)}")  # in front: what a killed process left stays a line of its own
            try:
                self._objects.put(uri, body)
            except (ObjectMissingError, RequestError) as error:
                raise PlaceError(f"{uri}: the output cannot be written: {error}", hopeless=True) from error
        if isinstance(content, Path):
            content.unlink()

    def check(self, uri: str) -> None:
        """The bucket is there."""
        try:
            there = self._objects.has_bucket(uri)
        except RequestError as error:
            raise PlaceError(str(error), hopeless=True) from error
        if not there:
            raise PlaceError(f"{uri}: outputs cannot be written there: there is no such bucket", hopeless=True)

    def outputs(self) -> tuple[str, ...]:
        """The addresses of what the job has put, by earlier runs too; each once."""
        try:
            lines = self._outputs.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return ()
        return tuple(dict.fromkeys(address for line in lines if (address := _address(line))))

    def withdraw(self) -> None:
        """Remove every output of the job."""
        for uri in self.outputs():
            self._objects.delete(uri)


def _found(stored: StoredObject) -> Found:
    return Found(stored.uri, stored.size, stored.etag)


def _address(line: str) -> str:
    try:
        return str(json.loads(line)) if line else ""
    except ValueError:
        return ""  # a process was killed while it wrote the line: nothing was put by then
