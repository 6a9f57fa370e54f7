"""The objects of a job, in the order of the listing, and a thread that counts them."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator
from contextlib import closing

from tritonforge.errors import DecodeError, TritonForgeError
from tritonforge.records.manifest import read_manifest_uris
from tritonforge.transform.job import TransformJob
from tritonforge.transform.object_store import ObjectStore, OutputNaming, build_relative_key
from tritonforge.transform.run_state import InputObject

__all__ = ["Listing", "TotalCounter"]


class Listing:
    """The objects of a job, in the order of the listing. ``count`` is how many were listed so far.

    ``share`` (i, n) is every n-th object from the i-th on. Iterating raises StoreError, and DecodeError for an invalid
    manifest.
    """

    def __init__(
        self,
        job: TransformJob,
        source: ObjectStore,
        naming: OutputNaming = "relative",
        share: tuple[int, int] = (0, 1),
    ) -> None:
        self._job = job
        self._source = source
        self._naming = naming
        self._share = share
        self.count = 0

    def __iter__(self) -> Generator[InputObject, None, None]:
        index, instances = self._share
        for number, listed in enumerate(self._list_all()):
            self.count += 1
            if number % instances == index:
                yield listed

    def _list_all(self) -> Iterator[InputObject]:
        uri = self._job.input.uri
        if self._job.input.data_type == "ManifestFile":
            try:
                for listed, prefix in read_manifest_uris(self._source.open(uri)):
                    yield InputObject(listed, build_relative_key(listed, prefix, self._naming), None)
            except DecodeError as error:
                raise DecodeError(f"{uri}: {error}") from error
            return
        for stored in self._source.list(uri):
            if not (stored.uri.endswith("/") and not stored.size):  # S3's mark of an empty folder
                yield InputObject(stored.uri, build_relative_key(stored.uri, uri, self._naming), stored)


class TotalCounter:
    """Counts the objects of a listing and their sizes in a thread of its own, until ``ended`` is set."""

    def __init__(self, listing: Listing, ended: threading.Event) -> None:
        self.objects: int | None = None
        self.size: int | None = None
        self._listing = listing
        self._ended = ended
        threading.Thread(target=self._count, name="transform-total", daemon=True).start()

    def _count(self) -> None:
        objects, size, is_known = 0, 0, True
        try:
            with closing(iter(self._listing)) as listing:
                for listed in listing:
                    objects += 1
                    is_known = is_known and listed.stored is not None
                    size += 0 if listed.stored is None else listed.stored.size
                    if self._ended.is_set():
                        return
        except TritonForgeError:
            return  # the readers meet it too, and report it
        self.objects, self.size = objects, size if is_known else None
