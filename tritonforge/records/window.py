"""A window on a stream of chunks: the next bytes in one piece, copied only where they lie in two chunks. No I/O here.

At most one chunk and the bytes of one record are held; a size that the stream cannot fill asks for no memory.
"""

from __future__ import annotations

from collections.abc import Iterable

from tritonforge.records.record import Buffer

__all__ = ["Window", "as_bytes_view"]


def as_bytes_view(chunk: Buffer) -> memoryview:
    """The chunk as a view whose items are bytes."""
    view = memoryview(chunk)
    return view if view.format == "B" and view.ndim == 1 else view.cast("B")


class Window:
    """The bytes of a stream from a position on.

    ``reach`` brings bytes into the window, ``view[at:]`` shows them, ``advance`` moves on. ``offset`` is the position
    in the stream.
    """

    __slots__ = ("_chunks", "_gathered", "_rest", "at", "offset", "view")

    def __init__(self, chunks: Iterable[Buffer], *, offset: int) -> None:
        self.view = memoryview(b"")
        self.at = 0
        self.offset = offset
        self._chunks = iter(chunks)
        self._rest = memoryview(b"")  # of the chunk at hand, what comes after `view`
        self._gathered: bytearray | None = None  # the memory of `view` where it is not a chunk's own

    def reach(self, size: int) -> int:
        """Make the next ``size`` bytes one piece, ``view[at : at + size]``; fewer than that only where the stream ends.

        Views that were taken before since the last ``advance`` are invalid.
        """
        if len(self.view) - self.at < size:
            self._gather(size)
        return min(size, len(self.view) - self.at)

    def advance(self, size: int) -> None:
        """Move on by bytes that were reached."""
        self.at += size
        self.offset += size

    def _gather(self, size: int) -> None:
        if self.at == len(self.view) and not self._next():
            return
        if len(self.view) - self.at >= size:
            return
        gathered = self._gathered  # at its start: more of the same record is asked for, and nothing is copied twice
        if gathered is None or self.at:
            gathered = bytearray(self.view[self.at :])
        # Lets go of the chunk, and of what is gathered already, which cannot grow while a view shows it.
        self.view, self.at = memoryview(b""), 0
        # Only what this record needs is copied; the rest of its last chunk stays where it is.
        while (missing := size - len(gathered)) > 0:
            if not self._rest and not self._pull():
                break
            gathered += self._rest[:missing]
            self._rest = self._rest[missing:]
        self._gathered, self.view = gathered, memoryview(gathered)

    def _next(self) -> bool:
        """Show the next bytes that are in memory, or the next chunk; False at the end of the stream."""
        self.view, self.at, self._gathered = memoryview(b""), 0, None
        if not self._rest and not self._pull():
            return False
        self.view, self._rest = self._rest, memoryview(b"")
        return True

    def _pull(self) -> bool:
        """Fetch the next chunk that is not empty; False at the end of the stream."""
        self._rest = memoryview(b"")
        for chunk in self._chunks:
            if len(chunk):
                self._rest = as_bytes_view(chunk)
                return True
        return False
