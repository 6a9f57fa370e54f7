"""Pipe mode: a feeder for each channel, which makes a FIFO for every epoch and writes the epoch into it. An edge.

``<channel>_0`` and the one after it are there before the program starts; a FIFO goes when its epoch is over. A reader
may close before the end: then the next epoch is its next one. Source: SageMaker developer guide, "How Amazon SageMaker
Provides Training Information"; pipe(7), fifo(7).

Channels made ready: copied (File), shown (FastFile), or with a feeder (Pipe), before the program starts. An edge.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import sys
import termios
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tritonforge.errors import TritonForgeError
from tritonforge.records import Buffer
from tritonforge.training.job.epochs import THREADS, Ahead, EpochStreams, build_index, list_objects
from tritonforge.training.job.objects import ChannelError, JobStoppedError, copy_objects, find_local_folder
from tritonforge.training.job.opt_ml import JobFolders
from tritonforge.training.job.training_job import Channel, S3Data, TrainingJob
from tritonforge.training.sandbox import Bind
from tritonforge.transform.object_store import LocalStore, ObjectStore

__all__ = ["PipeWriter", "PreparedChannels", "has_train_program", "stop_writers"]

#: Bytes of the FIFO where the kernel gives it so many (pipe(7), /proc/sys/fs/pipe-max-size), and F_SETPIPE_SZ.
_SIZE: Final = 1 << 20
_SET_PIPE_SIZE: Final = 1031

#: Bytes of entries that are written together.
_TOGETHER: Final = 1 << 17

#: Buffers that one call may write (limits.h, IOV_MAX).
_VECTORS: Final = 1024

#: Seconds between two looks whether a pipe was read up.
_DRAINING: Final = 0.01

#: Seconds that a broken channel stays open, in which the program is told to stop by its signal first.
_LAST: Final = 0.3


class PipeWriter:
    """Feeds one channel until `end`; ``failed`` is told in one sentence why it cannot go on."""

    def __init__(self, epochs: EpochStreams, folder: Path, *, failed: Callable[[str], None], ahead: bool) -> None:
        self.name = epochs.channel.name
        self._epochs = epochs
        self._folder = folder
        self._failed = failed
        self._pool = ThreadPoolExecutor(THREADS, f"training-{self.name}") if ahead else None
        self._number = 0
        self._make(0)
        self._make(1)
        self._thread = threading.Thread(target=self._work, name=f"training-feeder-{self.name}", daemon=True)

    def start(self) -> None:
        """Begin to feed."""
        self._thread.start()

    def end(self) -> None:
        """Have the feeder end, wherever it is; its ``ended`` is set before this is called."""
        while self._thread.is_alive():
            # It may wait in open(2) for a reader: this is one. It may come to wait there after this, so once more.
            with contextlib.suppress(OSError):
                reader = os.open(self._path(self._number), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
                self._thread.join(0.05)
                os.close(reader)
            self._thread.join(0.01)
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def _work(self) -> None:
        try:
            while not self._epochs.ended.is_set():
                self._feed(self._number)
                self._make(self._number + 2)
                self._number += 1
        except JobStoppedError:
            pass
        except TritonForgeError as error:
            self._failed(f"channel {self.name}: {error}")
        except OSError as error:
            self._failed(f"channel {self.name}: its pipe cannot be fed: {error.strerror or error}")
        except BaseException as error:
            self._failed(f"channel {self.name}: {type(error).__name__}: {error}")
            raise

    def _feed(self, number: int) -> None:
        path = self._path(number)
        pipe = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            with contextlib.suppress(OSError):  # the user has pipes of so many bytes already
                fcntl.fcntl(pipe, _SET_PIPE_SIZE, _SIZE)
            with contextlib.closing(self._epochs.stream(number, self._pool)) as stream:
                _pour(stream, pipe)
        except BrokenPipeError:
            pass  # the reader has enough of this epoch
        except TritonForgeError as error:
            if self._is_wanted(pipe):
                self._failed(f"channel {self.name}: {error}")
                self._epochs.ended.wait(_LAST)
                raise JobStoppedError from error
        finally:
            os.close(pipe)
            path.unlink(missing_ok=True)

    def _is_wanted(self, pipe: int) -> bool:
        """Whether the reader reads everything up to here; False where it closes before, and never misses the rest."""
        gone = select.poll()
        gone.register(pipe, 0)  # POLLERR is reported all the same, once nobody reads (poll(2))
        while not self._epochs.ended.is_set():
            if gone.poll(0):
                return False
            if not int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder):
                return True
            self._epochs.ended.wait(_DRAINING)
        return False

    def _make(self, number: int) -> None:
        with contextlib.suppress(FileExistsError):
            os.mkfifo(self._path(number), 0o666)

    def _path(self, number: int) -> Path:
        return self._folder / f"{self.name}_{number}"


def _pour(stream: Iterable[Ahead], pipe: int) -> None:
    """Write a stream; entries that are there already go together, so that small ones cost no call each."""
    gathered: list[Buffer] = []
    size = 0
    try:
        for pieces, rest, is_followed in stream:
            gathered += pieces
            size += sum(map(len, pieces))
            if is_followed and size < _TOGETHER:
                continue
            _write(pipe, gathered)
            gathered, size = [], 0
            if rest is not None:
                with contextlib.closing(rest):
                    for piece in rest:
                        _write(pipe, [piece])
    except TritonForgeError:
        _write(pipe, gathered)  # what is wrong comes after everything before it
        raise
    _write(pipe, gathered)


def _write(pipe: int, pieces: Sequence[Buffer]) -> None:
    """Write all of the pieces, in as few calls as may be."""
    left = [memoryview(each).cast("B") for each in pieces if len(each)]
    while left:
        written = os.writev(pipe, left[:_VECTORS])
        while left and written >= len(left[0]):
            written -= len(left.pop(0))
        if written:
            left[0] = left[0][written:]


@dataclass(slots=True)
class PreparedChannels:
    """The channels of a job, ready: what the container has bound besides /opt/ml, and the feeders of its pipes."""

    binds: list[Bind] = field(default_factory=list)
    feeders: list[PipeWriter] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def prepare(
        self,
        job: TrainingJob,
        folders: JobFolders,
        place: ObjectStore,
        *,
        stop: threading.Event,
        ended: threading.Event,
        failed: Callable[[str], None],
    ) -> None:
        """Make every channel ready; ``stop`` gives that up, ``ended`` ends the feeders, ``failed`` is told of theirs.

        Raises ChannelError, which names the channel; StoppedError; OSError.
        """
        for channel in job.channels or ():
            data = channel.data
            if data is None:
                continue  # `refusals` says so
            try:
                if job.mode(channel) == "Pipe":
                    path = folders.scratch / f"entries-{len(self.feeders)}"
                    entries = build_index(channel, data, place, path, stop)
                    epochs = EpochStreams(channel, data, entries, place, ended)
                    # Files of this machine are read faster than a thread is asked for one.
                    ahead = entries.is_far or not isinstance(place, LocalStore)
                    self.feeders.append(PipeWriter(epochs, folders.data, failed=failed, ahead=ahead))
                else:
                    self._files(channel, data, folders, place, stop=stop, shown=job.mode(channel) == "FastFile")
            except ChannelError as error:
                raise ChannelError(f"channel {channel.name}: {error}") from error

    def _files(
        self,
        channel: Channel,
        data: S3Data,
        folders: JobFolders,
        place: ObjectStore,
        *,
        stop: threading.Event,
        shown: bool,
    ) -> None:
        target = folders.data / channel.name
        target.mkdir()
        source = find_local_folder(place, data.uri) if shown else None
        found = any(source.iterdir()) if source else copy_objects(list_objects(data, place, stop), place, target, stop)
        if not found:
            raise ChannelError(f"{data.uri}: there is nothing in it")
        if shown:
            self.binds.append(Bind(source or target, f"/opt/ml/input/data/{channel.name}", read_only=True))
            if source is None:
                self.notes.append(f"channel {channel.name}: FastFile was copied before the program started")


def stop_writers(feeders: Sequence[PipeWriter], ended: threading.Event) -> None:
    """End all feeders."""
    ended.set()
    for each in feeders:
        each.end()


def has_train_program(program: Path) -> bool:
    """Whether a program folder has an executable train."""
    path = program / "train"
    return path.is_file() and bool(path.stat().st_mode & 0o111)
