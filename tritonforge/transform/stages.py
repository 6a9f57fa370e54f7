"""Stages: where the answers of one object gather, in order, until it is whole. Small ones in memory, others in a file.

The file lies in the work folder; what the journal knows of it survives a crash, what comes after is cut off by the next
run.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Final

from tritonforge.errors import TritonForgeError

__all__ = ["Stage", "StageError"]

#: Bytes that are kept in memory.
_IN_MEMORY: Final = 256 * 1024


class StageError(TritonForgeError):
    """The work folder cannot be written."""


class Stage:
    """The output of one object as far as it is there; for use by one thread at a time. All methods raise StageError."""

    def __init__(self, folder: Path, key: str) -> None:
        self.path = folder / hashlib.sha256(os.fsencode(key)).hexdigest()
        self._pieces: list[bytes] = []
        self._file: BinaryIO | None = None
        self.length = 0

    def resume(self, length: int) -> bool:
        """Go on behind the first ``length`` bytes of what an earlier run left; False where that is not there."""
        with self._mapped():
            if not length or not self.path.exists() or self.path.stat().st_size < length:
                self.path.unlink(missing_ok=True)
                return False
            self._file = self.path.open("r+b")
            self._file.truncate(length)
            self._file.seek(length)
            self.length = length
            return True

    def append(self, pieces: Sequence[bytes]) -> None:
        """Add bytes at the end."""
        size = sum(map(len, pieces))
        self.length += size
        if self._file is None and self.length <= _IN_MEMORY:
            self._pieces += pieces
            return
        with self._mapped():
            self._to_file().writelines(pieces)

    def sync(self) -> int:
        """Bring everything to the disk; how many bytes there are now."""
        with self._mapped():
            file = self._to_file()
            file.flush()
            os.fsync(file.fileno())
        return self.length

    def finish(self) -> bytes | Path:
        """All of it: bytes, or a file that whoever takes it may move away."""
        if self._file is None:
            return b"".join(self._pieces)
        with self._mapped():
            self._file.close()
        return self.path

    def discard(self) -> None:
        """Forget all of it."""
        self._pieces = []
        with contextlib.suppress(OSError):
            if self._file is not None:
                self._file.close()
            self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of the file, and leave it for the next run."""
        with contextlib.suppress(OSError):
            if self._file is not None:
                self._file.close()

    def _to_file(self) -> BinaryIO:
        if self._file is None:
            self._file = self.path.open("wb")
            self._file.writelines(self._pieces)
            self._pieces = []
        return self._file

    @contextlib.contextmanager
    def _mapped(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StageError(
                f"{self.path.parent}: the answers cannot be kept there: {error.strerror or error}"
            ) from error
