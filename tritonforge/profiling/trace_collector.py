"""Collect the traces of a running tritonserver in one file, which is complete after every request.

tritonserver alone keeps traces in memory until its trace settings change and loses them when it is stopped by a signal;
with ``log-frequency`` it writes numbered files instead (seen on 2.51; server/src/tracer.cc, SaveTraces). The collector
has it write one such file for every traced request, in a folder of its own, and appends them to one JSON array.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Final

from tritonforge.errors import TritonForgeError
from tritonforge.files import describe_error
from tritonforge.profiling.trace_records import BOUNDARY, RecordReader, render_records
from tritonforge.serving.server_process import make_folder
from tritonforge.temporary import build_prefix

__all__ = ["TraceCollector"]

#: Seconds between two looks at the folder.
_INTERVAL: Final = 0.5

_NAME: Final = "trace"


class TraceCollector:
    """A thread that appends the traces of servers to ``path``, until the context ends.

    ``path`` is overwritten. ``rate`` N traces every N-th request. A server is started with the arguments of
    `prepare_server`; of several, each starts after the one before it has ended.

    Raises:
        TritonForgeError: the file cannot be written, at the start or at the end of the context.
    """

    def __init__(self, path: Path, *, rate: int = 1) -> None:
        self._path = path
        self._rate = rate
        self._servers = 0
        self._folder: Path | None = None
        self._end = threading.Event()
        self._lock = threading.Lock()
        self._error: OSError | None = None
        self._is_empty = True
        self._thread = threading.Thread(target=self._run, name="trace collector", daemon=True)
        #: Requests in the file.
        self.count = 0

    def __enter__(self) -> TraceCollector:
        try:
            self._file: IO[bytes] = self._path.open("wb", buffering=0)
            self._file.write(b"[]\n")
        except OSError as error:
            raise TritonForgeError(f"{self._path}: cannot write: {describe_error(error)}") from error
        self._root = make_folder(build_prefix("trace"))
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end.set()
        self._thread.join()
        self.collect(is_complete=True)
        self._file.close()
        shutil.rmtree(self._root, ignore_errors=True)
        if self._error is not None and kind is None:
            raise TritonForgeError(
                f"{self._path}: cannot write: {describe_error(self._error)}; the file has the first {self.count} "
                "traces. Free space there, or trace fewer requests with --trace-rate"
            ) from self._error

    def prepare_server(self) -> list[str]:
        """Return the arguments of tritonserver for the next server."""
        self.collect(is_complete=True)
        with self._lock:
            self._servers += 1
            folder = self._folder = self._root / str(self._servers)
            folder.mkdir()
        return [
            f"--trace-config=triton,file={folder / _NAME}",
            "--trace-config=triton,log-frequency=1",
            "--trace-config=level=TIMESTAMPS",
            f"--trace-config=rate={self._rate}",
        ]

    def _run(self) -> None:
        while not self._end.wait(_INTERVAL):
            self.collect()

    def collect(self, *, is_complete: bool = False) -> None:
        """Append the files of the current server; ``is_complete``: the server has ended, so that no file grows."""
        with self._lock:
            if self._folder is None:
                return
            for path in _list_files(self._folder):
                if not self._take_file(path, is_complete=is_complete):
                    return

    def _take_file(self, path: Path, *, is_complete: bool) -> bool:
        """Append a file and remove it; return False if the server still writes it."""
        try:
            content = path.read_bytes()
            if not is_complete and not content.endswith(b"]"):
                return False
            if self._error is None:
                self._append(_read_content(content))
        except OSError as error:  # the files are still removed, so that they do not fill the disk
            self._error = self._error or error
        with contextlib.suppress(OSError):
            path.unlink()
        return True

    def _append(self, records: bytes) -> None:
        if not records:
            return
        separator = b"" if self._is_empty else BOUNDARY.encode()
        self._file.seek(-2, os.SEEK_END)  # the array's end, which the text replaces
        begin = self._file.tell()
        text = separator + records + b"]\n"
        try:
            if self._file.write(text) != len(text):
                raise OSError(28, os.strerror(28))  # a full disk may take a part of the text
        except OSError:
            with contextlib.suppress(OSError):
                self._file.truncate(begin)
                self._file.seek(begin)
                self._file.write(b"]\n")
            raise
        self._is_empty = False
        self.count += 1


def _list_files(folder: Path) -> Iterator[Path]:
    """Yield the files that a server has written, in the order in which requests ended."""
    numbers = sorted(int(entry.name.rpartition(".")[2]) for entry in folder.iterdir() if "." in entry.name)
    return (folder / f"{_NAME}.{number}" for number in numbers)


def _read_content(content: bytes) -> bytes:
    """Return the records of a file without the brackets around them; Triton does not escape request ids."""
    try:
        json.loads(content)
    except ValueError:
        text = content.decode(errors="replace")
        return render_records(RecordReader([text])).encode() if text.startswith("[") else b""
    return content.strip()[1:-1]
