"""The container of a program: the files that SageMaker provides below /opt/ml, and the data channels. An edge.

    input/config/{hyperparameters,inputdataconfig,resourceconfig}.json    the settings of the job
    input/data/<channel>/, input/data/<channel>_<epoch>                   its data
    model/  output/data/  output/failure  checkpoints/                    what training writes

Nothing is read before it is used, so a program needs only the files that it uses.

In Pipe mode SageMaker creates one FIFO per epoch, ``<channel>_0``, ``<channel>_1``, ...; the next one exists only after
the one before was closed, which may be before its end. With RecordIO each record is one object, or one attribute of a
line of an augmented manifest, in the order of AttributeNames; without it, they follow each other without a separator.

Sources: SageMaker developer guide, "How Amazon SageMaker Provides Training Information", "... Processes Training
Output" and "Augmented Manifest Files"; the toolkit's ``SAGEMAKER_BASE_DIR``.
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
from tritonforge.files import describe_error
from tritonforge.records import RecordError, split
from tritonforge.training.algorithm.termination import POLL_SECONDS, Stopping

__all__ = ["OPT_ML", "ChannelInput", "Container", "Epoch", "Resources"]

#: Where SageMaker puts everything.
OPT_ML: Final = Path("/opt/ml")

#: Bytes of one read, and of the FIFO if the kernel allows it. Source: pipe(7), /proc/sys/fs/pipe-max-size.
_CHUNK: Final = 2**20

#: The largest record: the limit of one part of RecordIO. Source: dmlc-core, include/dmlc/recordio.h.
_MAX_RECORD: Final = 2**29 - 1

#: Linux's F_SETPIPE_SZ (fcntl(2)); Python's name for it depends on how it was built.
_SET_PIPE_SIZE: Final = 1031

#: The members of a channel in inputdataconfig.json, and their values; any value if empty.
_CHANNEL_MEMBERS: Final[Mapping[str, Sequence[str]]] = {
    "TrainingInputMode": ("File", "FastFile", "Pipe"),
    "ContentType": (),
    "RecordWrapperType": ("None", "RecordIO"),
    "S3DistributionType": ("FullyReplicated", "ShardedByS3Key"),
}


@dataclass(frozen=True, slots=True)
class ChannelInput:
    """One channel of a job: its name, the folder of its data, its input mode, and the format of its data."""

    name: str
    _: KW_ONLY
    folder: Path
    mode: str = "File"
    content_type: str = ""
    record_wrapper: str = "None"
    distribution: str = "FullyReplicated"
    stopping: Stopping = field(default_factory=Stopping, compare=False, repr=False)

    def files(self) -> tuple[Path, ...]:
        """Return every file below the folder, in the order of S3's keys, without hidden files and folders.

        Raises:
            InputError: the channel is in Pipe mode, or its folder is missing or empty.
        """
        if self.mode == "Pipe":
            raise InputError(f"channel {self.name} comes in Pipe mode, which has no files; read its epochs")
        if not self.folder.is_dir():
            raise InputError(f"channel {self.name} has no folder {self.folder}; the job gave it no data")
        files: list[Path] = []
        for folder, folders, names in os.walk(self.folder, followlinks=True):
            folders[:] = [name for name in folders if not name.startswith(".")]
            files += [Path(folder, name) for name in names if not name.startswith(".")]
        if not files:
            raise InputError(f"channel {self.name}: {self.folder} holds no file")
        # S3 lists keys by the bytes of their UTF-8: "a-b" before "a/b".
        return tuple(sorted(files, key=lambda path: os.fsencode(path.relative_to(self.folder))))

    def epoch(self, number: int) -> Epoch:
        """Return the stream of an epoch, counted from 0; it is opened when its context is entered.

        Raises:
            InputError: the channel is not in Pipe mode.
        """
        if self.mode != "Pipe":
            raise InputError(f"channel {self.name} comes in {self.mode} mode, which has no epochs; read its files")
        return Epoch(self, number)


class Epoch:
    """One pass over a channel in Pipe mode: a context, and an iterator of bytes.

    Iteration yields records without their framing if the job wraps them, else the stream in chunks of any size. Only
    the current record is in memory. Iteration may end early; the rest is then not read.

    Raises:
        StoppedError: a stop is requested during a wait for data.
        InputError: the stream is not RecordIO, or ends in the middle of a record or a sample.
    """

    def __init__(self, channel: ChannelInput, number: int) -> None:
        self.channel = channel
        self.number = number
        self.path = channel.folder.with_name(f"{channel.name}_{number}")
        self._descriptor: int | None = None

    def __enter__(self) -> Epoch:
        while True:
            try:
                # Without waiting for a writer, so that SIGTERM is handled at once.
                self._descriptor = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
                break
            except FileNotFoundError:
                self.channel.stopping.raise_if_set()
                self.channel.stopping.wait(POLL_SECONDS)
            except OSError as error:
                raise InputError(f"{self._where}: {self.path}: cannot read: {describe_error(error)}") from error
        with contextlib.suppress(OSError):  # a regular file, or the limit of the kernel
            fcntl.fcntl(self._descriptor, _SET_PIPE_SIZE, _CHUNK)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __iter__(self) -> Iterator[bytes]:
        return self.records() if self.channel.record_wrapper == "RecordIO" else self.chunks()

    def chunks(self) -> Iterator[bytes]:
        """Yield the bytes of the stream as they arrive, framing included."""
        if self._descriptor is None:
            raise InputError(f"{self._where} is not open; read it inside of `with`")
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN)
        has_begun = not stat.S_ISFIFO(os.fstat(self._descriptor).st_mode)  # a regular file is complete
        while self._descriptor is not None:
            try:
                chunk = os.read(self._descriptor, _CHUNK)
            except BlockingIOError:
                chunk = None
            except OSError as error:
                raise InputError(f"{self._where}: cannot read: {describe_error(error)}") from error
            if chunk:
                has_begun = True
                yield chunk
                continue
            # No data and no writer: either the end, or no writer has opened it yet. Only poll distinguishes the two: it
            # reports a hang-up only after there was a writer (Linux, fs/pipe.c `pipe_poll`), which may have opened,
            # written and closed it since the read.
            if chunk == b"" and (has_begun or [event for _, event in poll.poll(0)] == [select.POLLHUP]):
                return
            self.channel.stopping.raise_if_set()
            poll.poll(POLL_SECONDS * 1000)

    def records(self) -> Iterator[bytes]:
        """Yield the records of a stream that is wrapped in RecordIO, without their framing."""
        try:
            for record in split(self.chunks(), "RecordIO", max_record=_MAX_RECORD):
                yield bytes(record.payload)
        except RecordError as error:
            raise InputError(f"{self._where}: {error}") from error

    def samples(self, attributes: int) -> Iterator[tuple[bytes, ...]]:
        """Yield records in groups, one for each line of an augmented manifest, in the order of its AttributeNames."""
        if self.channel.record_wrapper != "RecordIO":
            raise InputError(
                f"{self._where} is not wrapped, so the end of a value is unknown; "
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


@dataclass(frozen=True, slots=True)
class Resources:
    """The machines of a training job, and the current one; ``hosts`` are sorted."""

    current_host: str
    hosts: tuple[str, ...]
    current_instance_type: str = ""
    current_group_name: str = ""
    network_interface_name: str = ""
    instance_groups: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Container:
    """The files that SageMaker provides for a program, below ``base``."""

    base: Path
    job_name: str = ""
    stopping: Stopping = field(default_factory=Stopping, compare=False, repr=False)

    @classmethod
    def here(cls, base: Path | None = None, *, stopping: Stopping | None = None) -> Container:
        """Return the container of this process: ``base``, else SAGEMAKER_BASE_DIR, else /opt/ml.

        ``job_name`` is TRAINING_JOB_NAME, "" outside a training job. Waits for data end once ``stopping`` is set.
        """
        path = base or Path(os.environ.get("SAGEMAKER_BASE_DIR") or OPT_ML)
        return cls(path, os.environ.get("TRAINING_JOB_NAME", ""), Stopping() if stopping is None else stopping)

    @property
    def config_dir(self) -> Path:
        """The settings of the job."""
        return self.base / "input" / "config"

    @property
    def data_dir(self) -> Path:
        """The channels."""
        return self.base / "input" / "data"

    @property
    def model_dir(self) -> Path:
        """The model: packed as model.tar.gz at the end of training, and unpacked here for serving."""
        return self.base / "model"

    @property
    def output_data_dir(self) -> Path:
        """Other output, packed as output.tar.gz at the end of training."""
        return self.base / "output" / "data"

    @property
    def checkpoint_dir(self) -> Path:
        """Checkpoints: copied to S3 as they change, and restored when the job restarts."""
        return self.base / "checkpoints"

    @property
    def failure_file(self) -> Path:
        """The file whose first 1024 characters are the FailureReason of a failed job."""
        return self.base / "output" / "failure"

    @property
    def hyperparameters(self) -> Mapping[str, str]:
        """The job's hyperparameters as strings. Raises InputError."""
        values = self._read_document("hyperparameters.json")
        for name, value in values.items():
            if not isinstance(value, str):
                raise InputError(
                    f"{self.config_dir / 'hyperparameters.json'}: {name} is {json.dumps(value)}; "
                    "SageMaker gives every value as a string, so put it in quotes"
                )
        return values

    @property
    def has_channels(self) -> bool:
        """True if the job configures channels."""
        return (self.config_dir / "inputdataconfig.json").exists()

    @property
    def channels(self) -> Mapping[str, ChannelInput]:
        """The job's channels by name. Raises InputError."""
        path = self.config_dir / "inputdataconfig.json"
        channels: dict[str, ChannelInput] = {}
        for name, members in self._read_document(path.name).items():
            if not isinstance(members, dict):
                raise InputError(f"{path}: channel {name} is {json.dumps(members)}; write an object")
            text: dict[str, str] = {}
            for key, allowed in _CHANNEL_MEMBERS.items():
                value = members.get(key)
                if isinstance(value, str) and value in (allowed or (value,)):
                    text[key] = value
                elif value is not None:
                    expected = " or ".join(allowed) or "a string"
                    raise InputError(f"{path}: {key} of channel {name} is {json.dumps(value)}; write {expected}")
            channels[name] = ChannelInput(
                name,
                folder=self.data_dir / name,
                mode=text.get("TrainingInputMode", "File"),
                content_type=text.get("ContentType", ""),
                record_wrapper=text.get("RecordWrapperType", "None"),
                distribution=text.get("S3DistributionType", "FullyReplicated"),
                stopping=self.stopping,
            )
        return channels

    @property
    def resources(self) -> Resources:
        """The machines of the job. Raises InputError."""
        # AWS Marketplace's guide spells the file resourceConfig.json, the developer guide and the platform otherwise.
        other = self.config_dir / "resourceConfig.json"
        path = other if other.exists() else self.config_dir / "resourceconfig.json"
        members = self._read_document(path.name)
        hosts, current = members.get("hosts"), members.get("current_host")
        if not isinstance(hosts, list) or not hosts or not all(isinstance(host, str) for host in hosts):
            raise InputError(f"{path}: hosts is {json.dumps(hosts)}; write the names of the machines")
        if not isinstance(current, str) or current not in hosts:
            raise InputError(f"{path}: current_host is {json.dumps(current)}, which is not one of {', '.join(hosts)}")
        groups = members.get("instance_groups")
        return Resources(
            current_host=current,
            hosts=tuple(sorted(hosts)),
            current_instance_type=str(members.get("current_instance_type") or ""),
            current_group_name=str(members.get("current_group_name") or ""),
            network_interface_name=str(members.get("network_interface_name") or ""),
            instance_groups=tuple(groups) if isinstance(groups, list) else (),
        )

    def make_folders(self) -> None:
        """Create the folders that training writes to, unless the platform did. Raises OSError."""
        for folder in (self.model_dir, self.output_data_dir, self.checkpoint_dir):
            folder.mkdir(parents=True, exist_ok=True)

    def _read_document(self, name: str) -> dict[str, Any]:
        path = self.config_dir / name
        try:
            document = json.loads(path.read_bytes())
        except FileNotFoundError as error:
            raise InputError(
                f"{path} is missing; SageMaker writes it, and outside it set SAGEMAKER_BASE_DIR to a folder that has it"
            ) from error
        except OSError as error:
            raise InputError(f"{path}: cannot read: {describe_error(error)}") from error
        except ValueError as error:  # UnicodeDecodeError too
            raise InputError(f"{path} is not JSON: {error}") from error
        except RecursionError as error:
            raise InputError(f"{path} is not JSON: it is nested too deep") from error
        if not isinstance(document, dict):
            raise InputError(f"{path} holds {json.dumps(document)[:60]}; write an object")
        return document
