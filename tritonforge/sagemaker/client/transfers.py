"""Transfers: AWS's own s3transfer under a session; a file's parts go in parallel, straight from the disk."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any

from tritonforge.sagemaker.client.locations import Location
from tritonforge.sagemaker.client.session import Session

__all__ = ["Progress", "Transfers"]

#: Called with bytes as they go, by one thread at a time; with a negative number where some go again.
Progress = Callable[[int], None]


class Transfers:
    """A row of uploads that share threads and memory; a context manager, safe for use by several threads.

    Memory is bounded: files are read as they are sent, of a stream at most ``threads`` parts of ``part_size`` bytes are
    held. Leaving it by an error, also by Ctrl-C, cancels what goes on and removes its parts.
    """

    def __init__(self, session: Session, *, part_size: int, threads: int) -> None:
        # Imported here because boto3 brings it, which is an extra.
        from s3transfer.manager import (  # type: ignore[import-untyped]  # s3transfer has no types
            TransferConfig,
            TransferManager,
        )

        self._lock = threading.Lock()
        self._guard = threading.Lock()  # of what follows
        self._futures: set[Any] = set()
        self._cancelled = False
        self._manager: Any = TransferManager(
            session.client("s3"),
            TransferConfig(
                multipart_threshold=part_size + 1,
                multipart_chunksize=part_size,
                max_request_concurrency=threads,
                max_in_memory_upload_chunks=threads,
            ),
        )

    def __enter__(self) -> Transfers:
        self._manager.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._manager.__exit__(kind, error, traceback)

    def cancel(self) -> None:
        """End all that goes on and all that is begun later, by CancelledError in who waits for it; no parts are left.

        It is done transfer by transfer: s3transfer's own ``shutdown(cancel=True)`` hands its arguments on displaced,
        and fails where anything goes on.
        """
        with self._guard:
            self._cancelled = True
            futures = list(self._futures)
        for each in futures:
            each.cancel()

    def send(self, source: Any, location: Location, *, extra: dict[str, Any], progress: Progress | None) -> None:
        """Upload a file, named by a string, or a stream, and wait for it; raises botocore's errors."""
        from s3transfer.subscribers import BaseSubscriber  # type: ignore[import-untyped]  # as above

        lock = self._lock

        class Meter(BaseSubscriber):  # type: ignore[misc] # s3transfer has no types
            def on_progress(self, bytes_transferred: int, **_: Any) -> None:
                if progress is not None:
                    with lock:
                        progress(bytes_transferred)

        future = self._manager.upload(source, location.bucket, location.key, extra_args=extra, subscribers=[Meter()])
        with self._guard:
            self._futures.add(future)
            cancelled = self._cancelled
        if cancelled:
            future.cancel()
        try:
            future.result()
        finally:
            with self._guard:
                self._futures.discard(future)
