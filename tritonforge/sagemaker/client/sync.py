"""Trees: a folder's files under one address in S3, of which only what changed goes up.

A tree is not uploaded atomically: run `upload_tree` again after a failure, it sends only what is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from tritonforge.errors import EncodeError
from tritonforge.sagemaker.client.transfers import (
    Location,
    OnBytes,
    Transfers,
    compute_crc32,
    compute_digest,
    read_pieces,
)

if TYPE_CHECKING:
    from tritonforge.sagemaker.client.store import Store

__all__ = ["Difference", "UploadedTree", "compare_tree", "upload_tree"]

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """What tells files here from objects there: keys below the address, each sorted.

    ``missing`` is not there or is another, ``unchanged`` has the same digest and size, ``stale`` is there only.
    """

    missing: tuple[str, ...]
    unchanged: tuple[str, ...]
    stale: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadedTree:
    """What an upload of a tree did: the `Difference` before it, the bytes sent, and the stale keys removed."""

    difference: Difference
    sent: int
    removed: tuple[str, ...]


def compare_tree(
    store: Store, files: Mapping[str, Path], uri: str, *, digests: Mapping[str, str] | None = None
) -> Difference:
    """Compare files, by their keys below the address, with what is there. Read-only; one HeadObject for each candidate.

    ``digests`` are the files' (``sha256:...``) where they are known already.
    """
    folder = Location.parse(uri).folder
    there = {folder.relative(Location.parse(stored.uri).key): stored.size for stored in store.list_objects(str(folder))}
    candidates = [key for key in sorted(files) if there.get(key) == _size(files[key])]

    def same(key: str) -> bool:
        return store.exists(str(folder / key), _digest(key, files, digests), size=there[key])

    unchanged = tuple(key for key, found in zip(candidates, _at_once(store, same, candidates), strict=True) if found)
    return Difference(
        missing=tuple(sorted(set(files) - set(unchanged))),
        unchanged=unchanged,
        stale=tuple(sorted(set(there) - set(files) - {""})),
    )


def upload_tree(
    store: Store,
    files: Mapping[str, Path],
    uri: str,
    *,
    digests: Mapping[str, str] | None = None,
    prune: bool = False,
    on_progress: OnBytes | None = None,
) -> UploadedTree:
    """Put the files that are missing; ``prune`` removes stale objects once all is there. See `Store.upload_tree`."""
    folder = Location.parse(uri).folder
    found = compare_tree(store, files, uri, digests=digests)
    if on_progress is not None:
        on_progress(sum(_size(files[key]) for key in found.unchanged))
    with Transfers(store.session, part_size=store.part_size, threads=store.threads) as transfers:

        def send(key: str) -> int:
            size = _size(files[key])
            store.upload_content(
                str(files[key]),
                folder / key,
                size=size,
                checksum=compute_crc32(read_pieces(files[key])),
                digest=_digest(key, files, digests),
                on_progress=on_progress,
                transfers=transfers,
            )
            return size

        sent = sum(_at_once(store, send, found.missing, give_up=transfers.cancel))
    removed = found.stale if prune else ()
    store.delete_all([str(folder / key) for key in removed])
    store.remove_incomplete_uploads(str(folder), below=True)
    return UploadedTree(difference=found, sent=sent, removed=removed)


def _digest(key: str, files: Mapping[str, Path], digests: Mapping[str, str] | None) -> str:
    told = (digests or {}).get(key)
    return compute_digest(files[key]) if told is None else told


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise EncodeError(f"{path}: {error.strerror}") from error


def _at_once(
    store: Store,
    function: Callable[[_Item], _Result],
    items: Sequence[_Item],
    *,
    give_up: Callable[[], None] = lambda: None,
) -> list[_Result]:
    """The results in order; the first error, or Ctrl-C, ends what has not begun, and ``give_up`` what has."""
    with ThreadPoolExecutor(max_workers=store.threads) as pool:
        futures = [pool.submit(function, item) for item in items]
        try:
            return [future.result() for future in futures]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            give_up()
            raise
