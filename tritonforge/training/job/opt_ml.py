"""The folder /opt/ml of a job on this machine: its settings, its checkpoints, and its outputs. An edge.

A program may replace any file or directory by a symbolic link, also while the host reads. A link may point to any path
of the host, where this process may have more rights than the program. So no part of a path below the program's
directory is followed if it is a link, and only regular files are opened (open(2), O_NOFOLLOW; a FIFO could block).

A checkpoint file is copied when two checks find it unchanged, so that it is not copied while it is written; the last
check copies everything. Files that a program removes are kept in the store. Source: SageMaker developer guide, "How
Amazon SageMaker Provides Training Information", "Use Checkpoints in Amazon SageMaker".
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, Final, TypeAlias

from tritonforge.errors import TritonForgeError
from tritonforge.training.algorithm.termination import FAILURE_LENGTH
from tritonforge.training.job.objects import copy_objects, list_objects
from tritonforge.training.job.training_job import CHECKPOINT_DIR, S3Data, TrainingJob
from tritonforge.training.sandbox import PROGRAM, Bind
from tritonforge.transform.object_store import ObjectStore

__all__ = [
    "HOST", "CheckpointSync", "JobFolders", "Pack", "build_command", "build_environment", "build_hyperparameters",
    "build_input_data", "build_resources", "copy_file", "list_regular_files", "open_directory", "read_start",
    "upload_outputs",
]  # fmt: skip

_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

#: The longest path in bytes that is read (limits.h, PATH_MAX), so that a chain of directories has an end.
_MAX_PATH: Final = 4096


def open_directory(base: Path, path: str | PurePosixPath = "") -> int:
    """Open a directory below ``base``, or ``base`` itself; return the descriptor.

    Raises FileNotFoundError, NotADirectoryError (also for a link), or another OSError.
    """
    if len(os.fsencode(str(path))) > _MAX_PATH:
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), str(path)[:80])
    directory = os.open(base, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    for name in PurePosixPath(path).parts:
        try:
            below = os.open(name, _FLAGS | os.O_DIRECTORY, dir_fd=directory)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(path)) from error
        finally:
            os.close(directory)
        directory = below
    return directory


def _open_file(base: Path, path: str | PurePosixPath) -> int:
    """Open a regular file below ``base`` for reading; return the descriptor. Raises OSError, also for a link."""
    relative = PurePosixPath(path)
    directory = open_directory(base, relative.parent)
    try:
        descriptor = os.open(relative.name, _FLAGS, dir_fd=directory)
    finally:
        os.close(directory)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return descriptor


def read_start(base: Path, path: str | PurePosixPath, size: int) -> bytes:
    """Return up to ``size`` bytes of a regular file below ``base``, b"" if it cannot be read."""
    try:
        descriptor = _open_file(base, path)
    except OSError:
        return b""
    with os.fdopen(descriptor, "rb") as file:
        return file.read(size)


def copy_file(base: Path, path: str | PurePosixPath, target: Path) -> tuple[os.stat_result, os.stat_result]:
    """Copy a regular file below ``base`` to a path; return its status before and after. Raises OSError."""
    with os.fdopen(_open_file(base, path), "rb") as source, target.open("wb") as copied:
        before = os.fstat(source.fileno())
        shutil.copyfileobj(source, copied, 1 << 20)
        return before, os.fstat(source.fileno())


def list_regular_files(base: Path, folder: str | PurePosixPath = "") -> Iterator[tuple[str, os.stat_result]]:
    """Yield the regular files below a folder of ``base``: their paths relative to the folder, sorted, and their status.

    Links are left out, and so are directories that disappear. Raises NotADirectoryError if the folder, or a part of its
    path, is not a directory or is a link; OSError.
    """
    files = []
    waiting = [PurePosixPath()]
    while waiting:
        relative = waiting.pop()
        try:
            directory = open_directory(base, folder / relative)
        except FileNotFoundError:
            continue
        except NotADirectoryError:
            if relative.parts:  # it was a directory when it was listed
                continue
            raise
        try:
            with os.scandir(directory) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(relative / entry.name)
                    elif entry.is_file(follow_symlinks=False):
                        with contextlib.suppress(FileNotFoundError):
                            status = entry.stat(follow_symlinks=False)
                            files.append(((relative / entry.name).as_posix(), status))
        finally:
            os.close(directory)
    yield from sorted(files)


#: The one host of a job on this machine, named as SageMaker names its first.
HOST: Final = "algo-1"

#: SageMaker's name for the group of a cluster of equal instances.
_GROUP: Final = "homogeneousCluster"

#: The instance type of a job that sets none, as in SageMaker's local mode.
_LOCAL: Final = "local"

_BASE: Final = PurePosixPath("/opt/ml")
_FAILURE: Final = PurePosixPath("output/failure")

#: Seconds between two checks of the checkpoints.
_PERIOD: Final = 2.0

#: Writes a folder's content as a .tar.gz.
Pack: TypeAlias = Callable[[Path, Path], object]

#: The properties of a file that change with it: its inode, size in bytes, and time of change.
_FileState: TypeAlias = tuple[int, int, int]


def build_hyperparameters(job: TrainingJob) -> dict[str, str]:
    """Build hyperparameters.json: every value is a string."""
    return dict(job.hyperparameters or {})


def build_input_data(job: TrainingJob) -> dict[str, dict[str, str]]:
    """Build inputdataconfig.json: the channels by name, without content types that the request leaves out."""
    channels = {}
    for channel in job.channels or ():
        members = {} if channel.content_type is None else {"ContentType": channel.content_type}
        members["TrainingInputMode"] = job.mode(channel)
        if channel.data is not None:
            members["S3DistributionType"] = channel.data.distribution or "FullyReplicated"
        members["RecordWrapperType"] = channel.record_wrapper_type or "None"
        channels[channel.name] = members
    return channels


def build_resources(job: TrainingJob) -> dict[str, Any]:
    """Build resourceconfig.json: this host alone."""
    group, instance_type = _GROUP, (job.resources and job.resources.instance_type) or _LOCAL
    if job.resources is not None and job.resources.instance_groups:
        first = job.resources.instance_groups[0]
        group, instance_type = first.instance_group_name, first.instance_type
    return {
        "current_host": HOST,
        "current_instance_type": instance_type,
        "current_group_name": group,
        "hosts": [HOST],
        "instance_groups": [{"instance_group_name": group, "instance_type": instance_type, "hosts": [HOST]}],
        "network_interface_name": "eth0",
    }


def build_environment(job: TrainingJob, arn: str) -> dict[str, str]:
    """Build the variables of the container: the request's, and the job's name and ARN."""
    return {**(job.environment or {}), "TRAINING_JOB_NAME": job.name, "TRAINING_JOB_ARN": arn}


def build_command(job: TrainingJob) -> tuple[str, ...]:
    """Build the container's command: the request's entry point, ``train`` by default, and its arguments.

    Source: API_AlgorithmSpecification, `ContainerEntrypoint`: it takes precedence over the default instructions, which
    are ``docker run image train``.
    """
    algorithm = job.algorithm
    entrypoint = None if algorithm is None else algorithm.container_entrypoint
    arguments = () if algorithm is None else algorithm.container_arguments or ()
    return (*(entrypoint or ("train",)), *arguments)


class JobFolders:
    """The folders of one run below ``work``, /opt/ml among them; `create` makes them."""

    def __init__(self, work: Path, job: TrainingJob) -> None:
        self._job = job
        self.base = work / "ml"
        self.scratch = work / "scratch"
        self.data = self.base / "input" / "data"
        self.model = self.base / "model"
        self.output_data = self.base / "output" / "data"
        config = job.checkpoint_config
        local = PurePosixPath(CHECKPOINT_DIR if config is None else config.local_path or CHECKPOINT_DIR)
        self._checkpoint_target = None if local.is_relative_to(_BASE) else str(local)
        #: The checkpoints, and the mount that they are in, which the program cannot replace.
        self.checkpoints, self.checkpoint_base = (
            (self.base / local.relative_to(_BASE), self.base)
            if self._checkpoint_target is None
            else (work / "checkpoints", work / "checkpoints")
        )

    def create(self) -> None:
        """Create the folders and write the settings. Raises OSError."""
        config = self.base / "input" / "config"
        for folder in (config, self.data, self.model, self.output_data, self.checkpoints, self.scratch):
            folder.mkdir(parents=True, exist_ok=True)
        resources = build_resources(self._job)
        for name, document in (
            ("hyperparameters.json", build_hyperparameters(self._job)),
            ("inputdataconfig.json", build_input_data(self._job)),
            ("resourceconfig.json", resources),
            ("resourceConfig.json", resources),  # the spelling of AWS Marketplace's guide, which some programs follow
        ):
            (config / name).write_text(json.dumps(document), encoding="utf-8")

    def list_binds(self, program: Path) -> list[Bind]:
        """List the binds of the container: these folders, and the program."""
        binds = [Bind(self.base, str(_BASE)), Bind(program, PROGRAM, read_only=True)]
        if self._checkpoint_target is not None:
            binds.append(Bind(self.checkpoints, self._checkpoint_target))
        return binds

    def read_failure(self) -> str:
        """Read the failure file's first 1024 characters, "" if the program wrote none."""
        start = read_start(self.base, _FAILURE, 4 * FAILURE_LENGTH)  # a character has 4 bytes of UTF-8 at most
        return start.decode(errors="replace")[:FAILURE_LENGTH].strip()

    def write_failure(self, sentence: str) -> None:
        """Replace the program's failure file by the job's failure, if possible."""
        with contextlib.suppress(OSError):
            directory = open_directory(self.base, _FAILURE.parent)
            try:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(_FAILURE.name, dir_fd=directory)
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
                descriptor = os.open(_FAILURE.name, flags, 0o644, dir_fd=directory)
            finally:
                os.close(directory)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(sentence)

    def has_entries(self, folder: Path) -> bool:
        """Return True if the program left something in a folder. Raises OSError, also if it replaced it by a link."""
        relative = PurePosixPath(folder.relative_to(self.base))
        try:
            directory = open_directory(self.base, relative)
        except NotADirectoryError as error:
            raise NotADirectoryError(
                error.errno, "not a directory (links are not followed)", str(_BASE / relative)
            ) from error
        try:
            with os.scandir(directory) as entries:
                return any(entries)
        finally:
            os.close(directory)


def upload_outputs(
    job: TrainingJob, folders: JobFolders, store: ObjectStore, pack: Pack
) -> tuple[str | None, str | None]:
    """Upload the model and the output data; return their two addresses, None for an empty folder.

    The program has ended, so that what was checked here does not change. Raises OSError, and TritonForgeError of
    ``store`` or ``pack``.
    """
    artifact = output = None
    if folders.has_entries(folders.model):
        artifact = job.artifact_uri
        if job.output.compression_type == "NONE":
            for path, _ in list_regular_files(folders.model):
                copied = folders.scratch / "file"
                copy_file(folders.model, path, copied)
                store.put(copied, artifact + path)
        else:
            _upload_archive(folders.model, folders.scratch / "model.tar.gz", artifact, store, pack)
    if folders.has_entries(folders.output_data):
        output = f"{job.output_folder}/output.tar.gz"
        _upload_archive(folders.output_data, folders.scratch / "output.tar.gz", output, store, pack)
    return artifact, output


def _upload_archive(folder: Path, archive: Path, uri: str, store: ObjectStore, pack: Pack) -> None:
    pack(folder, archive)
    store.put(archive, uri)
    archive.unlink(missing_ok=True)


class CheckpointSync:
    """Copies the checkpoints of a running program to an address, and restores them before it starts.

    ``base`` is the directory at or above ``folder`` that the program cannot replace, by default ``folder`` itself.
    ``problem`` is the reason that the last check failed, "" if it succeeded.
    """

    def __init__(
        self,
        folder: Path,
        uri: str,
        store: ObjectStore,
        scratch: Path,
        *,
        base: Path | None = None,
        period: float = _PERIOD,
    ) -> None:
        self._folder = folder
        self._base = base or folder
        self._relative = PurePosixPath(folder.relative_to(self._base))
        self._uri = uri if uri.endswith("/") else f"{uri}/"
        self._store = store
        self._scratch = scratch
        self._period = period
        self._ended = threading.Event()
        self._previous: dict[str, _FileState] = {}
        self._uploaded: dict[str, _FileState] = {}
        self._thread = threading.Thread(target=self._watch, name="training-checkpoints", daemon=True)
        self.problem = ""

    def restore(self, ended: threading.Event) -> int:
        """Copy the checkpoints at the address into the folder; return the number of files.

        Raises ChannelError, JobStoppedError, OSError, StoreError.
        """
        self._store.check(self._uri)
        objects = list_objects(S3Data(uri=self._uri), self._store, ended)
        count = copy_objects(objects, self._store, self._folder, ended)
        self._uploaded = self._read_states()
        return count

    def start(self) -> None:
        """Start copying."""
        self._thread.start()

    def cancel(self) -> None:
        """Stop copying, without a last check."""
        self._ended.set()

    def finish(self) -> None:
        """Copy everything that is new, and stop; ``problem`` says what could not be copied."""
        self._ended.set()
        self._thread.join()
        self._upload_changes(is_last=True)

    def _watch(self) -> None:
        while not self._ended.wait(self._period):
            self._upload_changes(is_last=False)

    def _upload_changes(self, *, is_last: bool) -> None:
        try:
            states = self._read_states()
            for path, state in states.items():
                if self._uploaded.get(path) != state and (is_last or self._previous.get(path) == state):
                    self._upload(path, state)
            self._previous = states
            self.problem = ""
        except (OSError, TritonForgeError) as error:  # the next check retries
            self.problem = f"checkpoints cannot be kept: {error}"

    def _read_states(self) -> dict[str, _FileState]:
        return {path: _to_state(status) for path, status in list_regular_files(self._base, self._relative)}

    def _upload(self, path: str, state: _FileState) -> None:
        copied = self._scratch / "checkpoint"
        try:
            before, after = copy_file(self._base, self._relative / path, copied)
            if _to_state(before) == _to_state(after) == state:  # else it was written meanwhile
                self._store.put(copied, self._uri + path)
                self._uploaded[path] = state
        except FileNotFoundError:  # the program removed it
            pass
        finally:
            copied.unlink(missing_ok=True)


def _to_state(status: os.stat_result) -> _FileState:
    return status.st_ino, status.st_size, status.st_mtime_ns
