"""Synchronisation of a directory with an address in S3: only files that changed are uploaded.

A tree is not uploaded atomically: run `upload_tree` again after a failure, it sends only what is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from tritonforge.errors import EncodeError
from tritonforge.files import describe_error
from tritonforge.sagemaker.client.transfers import (
    Location,
    OnTransfer,
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
    """The difference between local files and objects: keys below the address, each sorted.

    ``missing`` objects do not exist or differ, ``unchanged`` ones have the same digest and size, ``stale`` ones have no
    file.
    """

    missing: tuple[str, ...]
    unchanged: tuple[str, ...]
    stale: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadedTree:
    """The result of uploading a tree: the `Difference` before it, the bytes sent, and the stale keys removed."""

    difference: Difference
    sent: int
    removed: tuple[str, ...]


def compare_tree(
    store: Store, files: Mapping[str, Path], uri: str, *, digests: Mapping[str, str] | None = None
) -> Difference:
    """Compare files, by their keys below the address, with its objects. Read-only; one HeadObject per candidate.

    ``digests`` are the files' own (``sha256:...``) if they are known.
    """
    folder = Location.parse(uri).folder
    stored_sizes = {
        folder.relative(Location.parse(stored.uri).key): stored.size for stored in store.list_objects(str(folder))
    }
    candidates = [key for key in sorted(files) if stored_sizes.get(key) == _read_size(files[key])]

    def is_unchanged(key: str) -> bool:
        return store.exists(str(folder / key), _find_digest(key, files, digests), size=stored_sizes[key])

    results = _run_in_threads(store, is_unchanged, candidates)
    unchanged = tuple(key for key, is_same in zip(candidates, results, strict=True) if is_same)
    return Difference(
        missing=tuple(sorted(set(files) - set(unchanged))),
        unchanged=unchanged,
        stale=tuple(sorted(set(stored_sizes) - set(files) - {""})),
    )


def upload_tree(
    store: Store,
    files: Mapping[str, Path],
    uri: str,
    *,
    digests: Mapping[str, str] | None = None,
    prune: bool = False,
    on_progress: OnTransfer | None = None,
) -> UploadedTree:
    """Upload the files that are missing; ``prune`` removes stale objects afterwards. See `Store.upload_tree`."""
    folder = Location.parse(uri).folder
    comparison = compare_tree(store, files, uri, digests=digests)
    if on_progress is not None:
        on_progress(sum(_read_size(files[key]) for key in comparison.unchanged))
    with Transfers(store.session, part_size=store.part_size, threads=store.threads) as transfers:

        def send(key: str) -> int:
            size = _read_size(files[key])
            store.upload_content(
                str(files[key]),
                folder / key,
                size=size,
                checksum=compute_crc32(read_pieces(files[key])),
                digest=_find_digest(key, files, digests),
                on_progress=on_progress,
                transfers=transfers,
            )
            return size

        sent = sum(_run_in_threads(store, send, comparison.missing, cancel=transfers.cancel))
    removed = comparison.stale if prune else ()
    store.delete_all([str(folder / key) for key in removed])
    store.remove_incomplete_uploads(str(folder), below=True)
    return UploadedTree(difference=comparison, sent=sent, removed=removed)


def _find_digest(key: str, files: Mapping[str, Path], digests: Mapping[str, str] | None) -> str:
    return (digests or {}).get(key) or compute_digest(files[key])


def _read_size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise EncodeError(f"{path}: cannot read: {describe_error(error)}") from error


def _run_in_threads(
    store: Store,
    function: Callable[[_Item], _Result],
    items: Sequence[_Item],
    *,
    cancel: Callable[[], None] = lambda: None,
) -> list[_Result]:
    """Return the results in order; the first error, or Ctrl-C, stops what has not begun, ``cancel`` what has."""
    with ThreadPoolExecutor(max_workers=store.threads) as pool:
        futures = [pool.submit(function, item) for item in items]
        try:
            return [future.result() for future in futures]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            cancel()
            raise
