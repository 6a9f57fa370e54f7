"""A channel as a training program reads it: files in File and FastFile mode, one stream an epoch in Pipe mode. An edge.

In Pipe mode SageMaker makes one FIFO an epoch, ``<channel>_0``, ``<channel>_1``, ...; the next is there only after the
one before was closed, which may be before its end. With RecordIO each record is one object, or one attribute of a line
of an augmented manifest, in the order of AttributeNames; without, all follow each other unmarked.
Source: SageMaker developer guide, "How Amazon SageMaker Provides Training Information", "Augmented Manifest Files".

The folders and files that a container of SageMaker finds below /opt/ml. An edge.

    input/config/{hyperparameters,inputdataconfig,resourceconfig}.json    what the job says
    input/data/<channel>/, input/data/<channel>_<epoch>                   its data: `channels`
    model/  output/data/  output/failure  checkpoints/                    what training leaves

Nothing is read before it is asked for, so that a program needs only the files that it uses. Source: SageMaker developer
guide, "How Amazon SageMaker Provides Training Information" and "... Processes Training Output"; the toolkit's
``SAGEMAKER_BASE_DIR``.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import json
import os
import select
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from tritonforge.errors import InputError
from tritonforge.records import RecordError, split
from tritonforge.training.algorithm.termination import POLL_SECONDS, Stopping

__all__ = ["OPT_ML", "ChannelInput", "Container", "Epoch", "Resources"]

#: Bytes of one read, and of the FIFO where the kernel gives it so many. Source: pipe(7), /proc/sys/fs/pipe-max-size.
_CHUNK: Final = 2**20

#: The largest record: what one part of RecordIO can say. Source: dmlc-core, include/dmlc/recordio.h.
_LARGEST: Final = 2**29 - 1

#: Linux's F_SETPIPE_SZ (fcntl(2)); Python's name for it depends on what it was built with.
_SET_PIPE_SIZE: Final = 1031


@dataclass(frozen=True, slots=True)
class ChannelInput:
    """One channel of a job: its name, where its data are, how they come, and what they are."""

    name: str
    _: KW_ONLY
    folder: Path
    mode: str = "File"
    content_type: str = ""
    record_wrapper: str = "None"
    distribution: str = "FullyReplicated"
    stopping: Stopping = field(default_factory=Stopping, compare=False, repr=False)

    def files(self) -> tuple[Path, ...]:
        """Every file below the folder, in the order of S3's keys; hidden files and folders are left out.

        Raises:
            InputError: the channel comes in Pipe mode, its folder is not there, or nothing is in it.
        """
        if self.mode == "Pipe":
            raise InputError(f"channel {self.name} comes in Pipe mode, which has no files; read its epochs")
        if not self.folder.is_dir():
            raise InputError(f"channel {self.name} has no folder {self.folder}; the job gave it no data")
        found: list[Path] = []
        for folder, folders, names in os.walk(self.folder, followlinks=True):
            folders[:] = [each for each in folders if not each.startswith(".")]
            found += [Path(folder, each) for each in names if not each.startswith(".")]
        if not found:
            raise InputError(f"channel {self.name}: {self.folder} holds no file")
        # S3 lists keys by the bytes of their UTF-8, where "a-b" comes before "a/b".
        return tuple(sorted(found, key=lambda each: os.fsencode(each.relative_to(self.folder))))

    def epoch(self, number: int) -> Epoch:
        """The stream of an epoch, counted from 0, opened when its context is entered.

        Raises:
            InputError: the channel does not come in Pipe mode.
        """
        if self.mode != "Pipe":
            raise InputError(f"channel {self.name} comes in {self.mode} mode, which has no epochs; read its files")
        return Epoch(self, number)


class Epoch:
    """One pass over a channel in Pipe mode: a context, and an iterator of bytes.

    Iterated, it gives records without their framing where the job wraps them, and the stream as it comes, in chunks,
    where it does not. Nothing is held but the record at hand. Left early, the rest is not read, which is allowed.

    Raises:
        StoppedError: the program is told to stop while there is nothing to read.
        InputError: the stream is no RecordIO, or ends in the middle of a record or a sample.
    """

    def __init__(self, channel: ChannelInput, number: int) -> None:
        self.channel = channel
        self.number = number
        self.path = channel.folder.with_name(f"{channel.name}_{number}")
        self._opened: int | None = None

    def __enter__(self) -> Epoch:
        while True:
            try:
                # Does not wait for a writer, so that SIGTERM is heard at once.
                self._opened = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
                break
            except FileNotFoundError:
                self.channel.stopping.raise_if_set()
                self.channel.stopping.wait(POLL_SECONDS)
            except OSError as error:
                raise InputError(f"{self._where}: {self.path} cannot be opened: {error.strerror}") from error
        with contextlib.suppress(OSError):  # a regular file, or a kernel that gives no more
            fcntl.fcntl(self._opened, _SET_PIPE_SIZE, _CHUNK)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._opened is not None:
            os.close(self._opened)
            self._opened = None

    def __iter__(self) -> Iterator[bytes]:
        return self.records() if self.channel.record_wrapper == "RecordIO" else self.chunks()

    def chunks(self) -> Iterator[bytes]:
        """The bytes of the stream as they come, framing and all."""
        if self._opened is None:
            raise InputError(f"{self._where} is not open; read it inside of `with`")
        poll = select.poll()
        poll.register(self._opened, select.POLLIN)
        begun = not stat.S_ISFIFO(os.fstat(self._opened).st_mode)  # a regular file is all there
        while self._opened is not None:
            try:
                chunk = os.read(self._opened, _CHUNK)
            except BlockingIOError:
                chunk = None
            except OSError as error:
                raise InputError(f"{self._where} cannot be read: {error.strerror}") from error
            if chunk:
                begun = True
                yield chunk
                continue
            # Nothing, and nobody who writes: the end, or nobody has opened it yet. Poll alone tells these apart: it
            # reports a hang-up only after somebody was there (Linux, fs/pipe.c `pipe_poll`), who may have come, written
            # and gone since the read.
            if chunk == b"" and (begun or [event for _, event in poll.poll(0)] == [select.POLLHUP]):
                return
            self.channel.stopping.raise_if_set()
            poll.poll(POLL_SECONDS * 1000)

    def records(self) -> Iterator[bytes]:
        """The records of a stream that is wrapped in RecordIO, without their framing."""
        try:
            for record in split(self.chunks(), "RecordIO", max_record=_LARGEST):
                yield bytes(record.payload)
        except RecordError as error:
            raise InputError(f"{self._where}: {error}") from error

    def samples(self, attributes: int) -> Iterator[tuple[bytes, ...]]:
        """Records in groups of so many: one line of an augmented manifest each, in the order of its AttributeNames."""
        if self.channel.record_wrapper != "RecordIO":
            raise InputError(
                f"{self._where} is not wrapped, so nothing tells where a value ends; "
                "give the channel RecordWrapperType RecordIO"
            )
        records = self.records()
        for number in itertools.count():
            sample = tuple(itertools.islice(records, attributes))
            if not sample:
                return
            if len(sample) < attributes:
                raise InputError(
                    f"{self._where}: the stream ends in sample {number}: after record "
                    f"{number * attributes + len(sample) - 1} it has {len(sample)} of {attributes} attributes; "
                    "does the job name all of them in AttributeNames?"
                )
            yield sample

    @property
    def _where(self) -> str:
        return f"channel {self.channel.name}, epoch {self.number}"


#: Where SageMaker puts everything.
OPT_ML: Final = Path("/opt/ml")


@dataclass(frozen=True, slots=True)
class Resources:
    """Which machines train, and which of them this is; ``hosts`` are sorted, as SageMaker gives them."""

    current_host: str
    hosts: tuple[str, ...]
    current_instance_type: str = ""
    current_group_name: str = ""
    network_interface_name: str = ""
    instance_groups: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Container:
    """What SageMaker lays out for a program, below ``base``."""

    base: Path
    job_name: str = ""
    stopping: Stopping = field(default_factory=Stopping, compare=False, repr=False)

    @classmethod
    def here(cls, base: Path | None = None, *, stopping: Stopping | None = None) -> Container:
        """The container that this process runs in: below ``base``, else SAGEMAKER_BASE_DIR, else /opt/ml.

        ``job_name`` is TRAINING_JOB_NAME, "" outside a training job. What waits for data ends when ``stopping`` is set.
        """
        found = base or Path(os.environ.get("SAGEMAKER_BASE_DIR") or OPT_ML)
        return cls(found, os.environ.get("TRAINING_JOB_NAME", ""), Stopping() if stopping is None else stopping)

    @property
    def config_dir(self) -> Path:
        """Where the job's settings are."""
        return self.base / "input" / "config"

    @property
    def data_dir(self) -> Path:
        """Where the channels are."""
        return self.base / "input" / "data"

    @property
    def model_dir(self) -> Path:
        """What lies here at the end of training is packed as model.tar.gz; here serving finds it again."""
        return self.base / "model"

    @property
    def output_data_dir(self) -> Path:
        """What lies here at the end of training is packed as output.tar.gz."""
        return self.base / "output" / "data"

    @property
    def checkpoint_dir(self) -> Path:
        """What lies here is copied to S3 as it changes, and is there again when the job is started anew."""
        return self.base / "checkpoints"

    @property
    def failure_file(self) -> Path:
        """Its first 1024 characters are the FailureReason of a job that fails."""
        return self.base / "output" / "failure"

    @property
    def hyperparameters(self) -> Mapping[str, str]:
        """The job's hyperparameters, unread strings. Raises InputError."""
        found = self._document("hyperparameters.json")
        for name, value in found.items():
            if not isinstance(value, str):
                raise InputError(
                    f"{self.config_dir / 'hyperparameters.json'}: {name} is {json.dumps(value)}; "
                    "SageMaker gives every value as a string, so put it in quotes"
                )
        return found

    @property
    def has_channels(self) -> bool:
        """Whether the job says anything of channels."""
        return (self.config_dir / "inputdataconfig.json").exists()

    @property
    def channels(self) -> Mapping[str, ChannelInput]:
        """The job's channels by name. Raises InputError."""
        path = self.config_dir / "inputdataconfig.json"
        found: dict[str, ChannelInput] = {}
        for name, each in self._document(path.name).items():
            if not isinstance(each, dict):
                raise InputError(f"{path}: channel {name} is {json.dumps(each)}; write an object")
            text: dict[str, str] = {}
            for key, known in _CHANNEL.items():
                value = each.get(key)
                if isinstance(value, str) and value in (known or (value,)):
                    text[key] = value
                elif value is not None:
                    wanted = " or ".join(known) or "a string"
                    raise InputError(f"{path}: {key} of channel {name} is {json.dumps(value)}; write {wanted}")
            found[name] = ChannelInput(
                name,
                folder=self.data_dir / name,
                mode=text.get("TrainingInputMode", "File"),
                content_type=text.get("ContentType", ""),
                record_wrapper=text.get("RecordWrapperType", "None"),
                distribution=text.get("S3DistributionType", "FullyReplicated"),
                stopping=self.stopping,
            )
        return found

    @property
    def resources(self) -> Resources:
        """The machines of the job. Raises InputError."""
        # AWS Marketplace's guide spells the file resourceConfig.json, the developer guide and the platform otherwise.
        other = self.config_dir / "resourceConfig.json"
        path = other if other.exists() else self.config_dir / "resourceconfig.json"
        found = self._document(path.name)
        hosts, host = found.get("hosts"), found.get("current_host")
        if not isinstance(hosts, list) or not hosts or not all(isinstance(each, str) for each in hosts):
            raise InputError(f"{path}: hosts is {json.dumps(hosts)}; write the names of the machines")
        if not isinstance(host, str) or host not in hosts:
            raise InputError(f"{path}: current_host is {json.dumps(host)}, which is not one of {', '.join(hosts)}")
        groups = found.get("instance_groups")
        return Resources(
            current_host=host,
            hosts=tuple(sorted(hosts)),
            current_instance_type=str(found.get("current_instance_type") or ""),
            current_group_name=str(found.get("current_group_name") or ""),
            network_interface_name=str(found.get("network_interface_name") or ""),
            instance_groups=tuple(groups) if isinstance(groups, list) else (),
        )

    def make_folders(self) -> None:
        """Make the folders that training writes to, where the platform did not. Raises OSError."""
        for each in (self.model_dir, self.output_data_dir, self.checkpoint_dir):
            each.mkdir(parents=True, exist_ok=True)

    def _document(self, name: str) -> dict[str, Any]:
        path = self.config_dir / name
        try:
            found = json.loads(path.read_bytes())
        except FileNotFoundError as error:
            raise InputError(
                f"{path} is missing; SageMaker writes it, and outside it set SAGEMAKER_BASE_DIR to a folder that has it"
            ) from error
        except OSError as error:
            raise InputError(f"{path} cannot be read: {error.strerror}") from error
        except ValueError as error:  # UnicodeDecodeError too
            raise InputError(f"{path} is not JSON: {error}") from error
        except RecursionError as error:
            raise InputError(f"{path} is not JSON: it is nested too deep") from error
        if not isinstance(found, dict):
            raise InputError(f"{path} holds {json.dumps(found)[:60]}; write an object")
        return found


#: What of a channel is read, and which values it may have; any where there are none.
_CHANNEL: Final[Mapping[str, Sequence[str]]] = {
    "TrainingInputMode": ("File", "FastFile", "Pipe"),
    "ContentType": (),
    "RecordWrapperType": ("None", "RecordIO"),
    "S3DistributionType": ("FullyReplicated", "ShardedByS3Key"),
}
