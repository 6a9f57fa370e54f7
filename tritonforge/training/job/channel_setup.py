"""Channels made ready before the program starts: copied (File), bound (FastFile), or written to pipes (Pipe). An edge.

In Pipe mode every epoch has a FIFO. ``<channel>_0`` and the next one exist before the program starts; a FIFO is removed
when its epoch ends. A reader may close it early; its next read is then the next epoch. Source: SageMaker developer
guide, "How Amazon SageMaker Provides Training Information"; pipe(7), fifo(7).

The program may replace a FIFO, or its directory, by a link to a file of the host. So the writer keeps a descriptor of
the directory and one of each FIFO that it created, and never opens a FIFO by its path.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import stat
import sys
import termios
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tritonforge.errors import TritonForgeError
from tritonforge.files import describe_error
from tritonforge.records import Buffer
from tritonforge.training.job.objects import (
    THREADS,
    Ahead,
    ChannelError,
    EpochStreams,
    JobStoppedError,
    build_index,
    copy_objects,
    find_local_folder,
    list_objects,
)
from tritonforge.training.job.opt_ml import JobFolders
from tritonforge.training.job.training_job import Channel, S3Data, TrainingJob
from tritonforge.training.sandbox import Bind
from tritonforge.transform.object_store import LocalStore, ObjectStore

__all__ = ["PipeWriter", "PreparedChannels", "stop_writers"]

#: Bytes of the FIFO if the kernel allows it (pipe(7), /proc/sys/fs/pipe-max-size), and F_SETPIPE_SZ.
_SIZE: Final = 1 << 20
_SET_PIPE_SIZE: Final = 1031

#: Bytes of entries that are written together.
_MIN_WRITE: Final = 1 << 17

#: Buffers that one call may write (limits.h, IOV_MAX).
_MAX_VECTORS: Final = 1024

#: Seconds between two checks whether a pipe is empty.
_DRAIN_PERIOD: Final = 0.01

#: Seconds that a pipe stays open after an error, so that the program receives SIGTERM before the end of its data.
_ERROR_DELAY: Final = 0.3


class PipeWriter:
    """Writes the epochs of one channel until `end`; ``on_error`` is called with the sentence of a fatal error."""

    def __init__(self, epochs: EpochStreams, folder: Path, *, on_error: Callable[[str], None], ahead: bool) -> None:
        self.name = epochs.channel.name
        self._epochs = epochs
        self._folder = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._fifos: dict[int, int] = {}  # by epoch: descriptors that identify a FIFO (open(2), O_PATH)
        self._lock = threading.Lock()  # of `_fifos`, which both threads use
        self._on_error = on_error
        self._pool = ThreadPoolExecutor(THREADS, f"training-{self.name}") if ahead else None
        self._number = 0
        self._make_fifo(0)
        self._make_fifo(1)
        self._thread = threading.Thread(target=self._write_epochs, name=f"training-feeder-{self.name}", daemon=True)

    def start(self) -> None:
        """Start writing."""
        self._thread.start()

    def end(self) -> None:
        """Stop the thread; the event ``ended`` of its epochs must be set before."""
        while self._thread.is_alive():
            # The thread may wait in open(2) for a reader, now or a moment later; so open the pipe until it ends.
            with contextlib.suppress(OSError, KeyError):
                with self._lock:
                    reader = self._open_fifo(self._number, os.O_RDONLY | os.O_NONBLOCK)
                self._thread.join(0.05)
                os.close(reader)
            self._thread.join(0.01)
        for descriptor in (*self._fifos.values(), self._folder):
            os.close(descriptor)
        self._fifos.clear()
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def _write_epochs(self) -> None:
        try:
            while not self._epochs.ended.is_set():
                self._write_epoch(self._number)
                self._make_fifo(self._number + 2)
                self._number += 1
        except JobStoppedError:
            pass
        except TritonForgeError as error:
            self._on_error(f"channel {self.name}: {error}")
        except OSError as error:
            self._on_error(f"channel {self.name}: cannot write to its pipe: {describe_error(error)}")
        except BaseException as error:
            self._on_error(f"channel {self.name}: {type(error).__name__}: {error}")
            raise

    def _write_epoch(self, number: int) -> None:
        pipe = self._open_fifo(number, os.O_WRONLY)
        try:
            with contextlib.suppress(OSError):  # the limit of the user's pipes is reached
                fcntl.fcntl(pipe, _SET_PIPE_SIZE, _SIZE)
            with contextlib.closing(self._epochs.stream(number, self._pool)) as stream:
                _write_stream(stream, pipe)
        except BrokenPipeError:
            pass  # the reader closed the epoch before its end
        except TritonForgeError as error:
            if self._is_read_up(pipe):
                self._on_error(f"channel {self.name}: {error}")
                self._epochs.ended.wait(_ERROR_DELAY)
                raise JobStoppedError from error
        finally:
            os.close(pipe)
            with self._lock:
                os.close(self._fifos.pop(number))
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._name_fifo(number), dir_fd=self._folder)

    def _is_read_up(self, pipe: int) -> bool:
        """Wait until the reader has read everything; return False if it closes the pipe before, and needs no more."""
        hang_up = select.poll()
        hang_up.register(pipe, 0)  # POLLERR is always reported once there is no reader (poll(2))
        while not self._epochs.ended.is_set():
            if hang_up.poll(0):
                return False
            if not int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder):
                return True
            self._epochs.ended.wait(_DRAIN_PERIOD)
        return False

    def _make_fifo(self, number: int) -> None:
        name = self._name_fifo(number)
        with contextlib.suppress(FileExistsError):
            os.mkfifo(name, 0o666, dir_fd=self._folder)
        descriptor = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._folder)
        if not stat.S_ISFIFO(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise ChannelError(f"the program replaced its pipe {name}")
        with self._lock:
            self._fifos[number] = descriptor

    def _open_fifo(self, number: int, flags: int) -> int:
        return os.open(f"/proc/self/fd/{self._fifos[number]}", flags | os.O_CLOEXEC)

    def _name_fifo(self, number: int) -> str:
        return f"{self.name}_{number}"


def _write_stream(stream: Iterable[Ahead], pipe: int) -> None:
    """Write a stream; small entries that are already available are written with one call."""
    gathered: list[Buffer] = []
    size = 0
    try:
        for pieces, rest, is_followed in stream:
            gathered += pieces
            size += sum(map(len, pieces))
            if is_followed and size < _MIN_WRITE:
                continue
            _write(pipe, gathered)
            gathered, size = [], 0
            if rest is not None:
                with contextlib.closing(rest):
                    for piece in rest:
                        _write(pipe, [piece])
    except TritonForgeError:
        _write(pipe, gathered)  # everything before the error
        raise
    _write(pipe, gathered)


def _write(pipe: int, pieces: Sequence[Buffer]) -> None:
    left = [memoryview(piece).cast("B") for piece in pieces if len(piece)]
    while left:
        written = os.writev(pipe, left[:_MAX_VECTORS])
        while left and written >= len(left[0]):
            written -= len(left.pop(0))
        if written:
            left[0] = left[0][written:]


@dataclass(slots=True)
class PreparedChannels:
    """The channels of a job: the binds of its container besides /opt/ml, the writers of its pipes, and notes."""

    binds: list[Bind] = field(default_factory=list)
    writers: list[PipeWriter] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def prepare(
        self,
        job: TrainingJob,
        folders: JobFolders,
        store: ObjectStore,
        *,
        stop: threading.Event,
        ended: threading.Event,
        on_error: Callable[[str], None],
    ) -> None:
        """Prepare every channel.

        Args:
            job: the job.
            folders: its folders.
            store: where its data are.
            stop: cancels the preparation.
            ended: ends the writers.
            on_error: called with the sentence of an error of a writer.

        Raises ChannelError, which names the channel; JobStoppedError; OSError.
        """
        for channel in job.channels or ():
            data = channel.data
            if data is None:
                continue  # rejected by `find_unsupported`
            try:
                if job.mode(channel) == "Pipe":
                    path = folders.scratch / f"entries-{len(self.writers)}"
                    index = build_index(channel, data, store, path, stop)
                    epochs = EpochStreams(channel, data, index, store, ended)
                    # Files of this machine are read faster without threads.
                    ahead = index.is_remote or not isinstance(store, LocalStore)
                    self.writers.append(PipeWriter(epochs, folders.data, on_error=on_error, ahead=ahead))
                else:
                    self._prepare_files(job, channel, data, folders, store, stop)
            except ChannelError as error:
                raise ChannelError(f"channel {channel.name}: {error}") from error

    def _prepare_files(
        self,
        job: TrainingJob,
        channel: Channel,
        data: S3Data,
        folders: JobFolders,
        store: ObjectStore,
        stop: threading.Event,
    ) -> None:
        is_fast = job.mode(channel) == "FastFile"
        target = folders.data / channel.name
        target.mkdir()
        source = find_local_folder(store, data.uri) if is_fast else None
        if source:
            has_data = any(source.iterdir())
        else:
            has_data = copy_objects(list_objects(data, store, stop), store, target, stop) > 0
        if not has_data:
            raise ChannelError(f"{data.uri}: it is empty")
        if is_fast:
            self.binds.append(Bind(source or target, f"/opt/ml/input/data/{channel.name}", read_only=True))
            if source is None:
                self.notes.append(f"channel {channel.name}: FastFile was copied before the program started")


def stop_writers(writers: Sequence[PipeWriter], ended: threading.Event) -> None:
    """Stop all writers."""
    ended.set()
    for writer in writers:
        writer.end()
