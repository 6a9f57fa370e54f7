"""What a container of SageMaker finds below /opt/ml/input/config, and in its environment. This module does no I/O.

Source: SageMaker developer guide, "How Amazon SageMaker Provides Training Information".

The folders of a job on this machine: /opt/ml below the work folder, and what a program left in it. An edge.

What a program leaves is read with care: links are not followed, and only regular files are opened.

What a job leaves: the model and the output data, packed and put at their addresses. An edge.

Checkpoints: there again at the start, and copied to their place as they appear and at the end. An edge.

A file is copied when two looks found it the same, so that one which is being written is not; the last look takes all.
What a program removes stays where it was copied to. Source: SageMaker developer guide, "Use Checkpoints in Amazon
SageMaker".
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, Final, TypeAlias

from tritonforge.errors import TritonForgeError
from tritonforge.training.job.epochs import list_objects
from tritonforge.training.job.objects import copy_objects
from tritonforge.training.job.training_job import CHECKPOINT_DIR, FAILURE_LENGTH, S3Data, TrainingJob
from tritonforge.training.sandbox import PROGRAM, Bind
from tritonforge.transform.object_store import ObjectStore

__all__ = [
    "HOST",
    "CheckpointSync",
    "JobFolders",
    "Pack",
    "build_command",
    "build_environment",
    "build_hyperparameters",
    "build_input_data",
    "build_resources",
    "list_regular_files",
    "upload_outputs",
]

#: The one host of a job on this machine, called as SageMaker calls its first.
HOST: Final = "algo-1"

#: As SageMaker calls the group of a cluster of equal instances.
_GROUP: Final = "homogeneousCluster"

#: The instance type of a job that names none, as SageMaker's local mode has it.
_HERE: Final = "local"


def build_hyperparameters(job: TrainingJob) -> dict[str, str]:
    """hyperparameters.json: every value is a string."""
    return dict(job.hyperparameters or {})


def build_input_data(job: TrainingJob) -> dict[str, dict[str, str]]:
    """inputdataconfig.json: the channels by name. A content type that the request leaves out is left out here too."""
    found = {}
    for channel in job.channels or ():
        told = {} if channel.content_type is None else {"ContentType": channel.content_type}
        told["TrainingInputMode"] = job.mode(channel)
        if channel.data is not None:
            told["S3DistributionType"] = channel.data.distribution or "FullyReplicated"
        told["RecordWrapperType"] = channel.record_wrapper_type or "None"
        found[channel.name] = told
    return found


def build_resources(job: TrainingJob) -> dict[str, Any]:
    """resourceconfig.json: this host, and that there is no other."""
    group, kind = _GROUP, (job.resources and job.resources.instance_type) or _HERE
    if job.resources is not None and job.resources.instance_groups:
        first = job.resources.instance_groups[0]
        group, kind = first.instance_group_name, first.instance_type
    return {
        "current_host": HOST,
        "current_instance_type": kind,
        "current_group_name": group,
        "hosts": [HOST],
        "instance_groups": [{"instance_group_name": group, "instance_type": kind, "hosts": [HOST]}],
        "network_interface_name": "eth0",
    }


def build_environment(job: TrainingJob, arn: str) -> dict[str, str]:
    """The variables of the container: the request's, and the job's name and ARN."""
    return {**(job.environment or {}), "TRAINING_JOB_NAME": job.name, "TRAINING_JOB_ARN": arn}


def build_command(job: TrainingJob) -> tuple[str, ...]:
    """What is run: the entry point and the arguments of the request; ``train`` where it names no entry point.

    Source: API_AlgorithmSpecification, `ContainerEntrypoint`: it takes precedence over the default instructions, which
    are ``docker run image train``.
    """
    algorithm = job.algorithm
    entrypoint = None if algorithm is None else algorithm.container_entrypoint
    arguments = () if algorithm is None else algorithm.container_arguments or ()
    return (*(entrypoint or ("train",)), *arguments)


_BASE: Final = PurePosixPath("/opt/ml")


class JobFolders:
    """/opt/ml of one run below ``work``; `lay` makes it."""

    def __init__(self, work: Path, job: TrainingJob) -> None:
        self._job = job
        self.base = work / "ml"
        self.scratch = work / "scratch"
        self.data = self.base / "input" / "data"
        self.model = self.base / "model"
        self.output_data = self.base / "output" / "data"
        self.failure_file = self.base / "output" / "failure"
        config = job.checkpoint_config
        local = PurePosixPath(CHECKPOINT_DIR if config is None else config.local_path or CHECKPOINT_DIR)
        self._checkpoints_elsewhere = None if local.is_relative_to(_BASE) else str(local)
        self.checkpoints = (
            self.base / local.relative_to(_BASE) if self._checkpoints_elsewhere is None else work / "checkpoints"
        )

    def lay(self) -> None:
        """Make the folders and write the configuration. Raises OSError."""
        config = self.base / "input" / "config"
        for each in (config, self.data, self.model, self.output_data, self.checkpoints, self.scratch):
            each.mkdir(parents=True, exist_ok=True)
        resources = build_resources(self._job)
        for name, document in (
            ("hyperparameters.json", build_hyperparameters(self._job)),
            ("inputdataconfig.json", build_input_data(self._job)),
            ("resourceconfig.json", resources),
            # AWS Marketplace's guide spells it so, and programs that were written after it look for it.
            ("resourceConfig.json", resources),
        ):
            (config / name).write_text(json.dumps(document), encoding="utf-8")

    def binds(self, program: Path) -> list[Bind]:
        """What the container has of them, and the program."""
        found = [Bind(self.base, str(_BASE)), Bind(program, PROGRAM, read_only=True)]
        if self._checkpoints_elsewhere is not None:
            found.append(Bind(self.checkpoints, self._checkpoints_elsewhere))
        return found

    def failure(self) -> str:
        """The failure file's first 1024 characters, empty where a program left none."""
        try:
            opened = os.open(self.failure_file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return ""
        try:
            if not stat.S_ISREG(os.fstat(opened).st_mode):
                return ""
            text = os.read(opened, 4 * FAILURE_LENGTH).decode(errors="replace")  # a character has 4 bytes at most
        finally:
            os.close(opened)
        return text[:FAILURE_LENGTH].strip()

    def fail(self, sentence: str) -> None:
        """Write the failure file, where it can be: the job's sentence in place of the program's own."""
        with contextlib.suppress(OSError):
            self.failure_file.unlink(missing_ok=True)
            self.failure_file.write_text(sentence, encoding="utf-8")


def list_regular_files(folder: Path) -> Iterator[tuple[str, Path]]:
    """The regular files below a folder, each with its path from there on, sorted; links are left out."""
    waiting = [folder]
    found = []
    while waiting:
        with contextlib.suppress(FileNotFoundError), os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(Path(entry.path))
                elif entry.is_file(follow_symlinks=False):
                    found.append(Path(entry.path))
    for path in sorted(found):
        yield path.relative_to(folder).as_posix(), path


#: Writes a folder's content as a .tar.gz.
Pack = Callable[[Path, Path], object]


def upload_outputs(
    job: TrainingJob, folders: JobFolders, place: ObjectStore, pack: Pack
) -> tuple[str | None, str | None]:
    """Put the model and the output data at their addresses, None where there is none.

    Raises OSError, and TritonForgeError: of ``place``, or of ``pack``.
    """
    artifact = output = None
    if any(folders.model.iterdir()):
        artifact = job.artifact_uri
        if job.output.compression_type == "NONE":
            for path, file in list_regular_files(folders.model):
                copied = folders.scratch / "file"
                shutil.copyfile(file, copied, follow_symlinks=False)
                place.put(copied, artifact + path)
        else:
            _packed(folders.model, folders.scratch / "model.tar.gz", artifact, place, pack)
    if any(folders.output_data.iterdir()):
        output = f"{job.output_folder}/output.tar.gz"
        _packed(folders.output_data, folders.scratch / "output.tar.gz", output, place, pack)
    return artifact, output


def _packed(folder: Path, archive: Path, uri: str, place: ObjectStore, pack: Pack) -> None:
    pack(folder, archive)
    place.put(archive, uri)
    archive.unlink(missing_ok=True)


#: Seconds between two looks.
_PERIOD: Final = 2.0

#: What changes when a file does: its inode, size in bytes, and time of change.
_Seen: TypeAlias = tuple[int, int, int]


class CheckpointSync:
    """Keeps a folder of this machine and an address alike; a context manager is around the program's run."""

    def __init__(self, folder: Path, uri: str, place: ObjectStore, scratch: Path, *, period: float = _PERIOD) -> None:
        self._folder = folder
        self._uri = uri if uri.endswith("/") else f"{uri}/"
        self._place = place
        self._scratch = scratch
        self._period = period
        self._over = threading.Event()
        self._before: dict[str, _Seen] = {}
        self._kept: dict[str, _Seen] = {}
        self._thread = threading.Thread(target=self._watch, name="training-checkpoints", daemon=True)
        self.problem = ""

    def restore(self, ended: threading.Event) -> int:
        """Copy what is kept into the folder: how many files. Raises ChannelError, StoppedError, OSError, PlaceError."""
        self._place.check(self._uri)
        count = copy_objects(list_objects(S3Data(uri=self._uri), self._place, ended), self._place, self._folder, ended)
        self._kept = {path: _seen(file) for path, file in list_regular_files(self._folder)}
        return count

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def end(self) -> None:
        """End, whatever is new."""
        self._over.set()

    def finish(self) -> None:
        """Copy everything that is new, and end; ``problem`` says what could not be kept."""
        self._over.set()
        self._thread.join()
        self._look(last=True)

    def _watch(self) -> None:
        while not self._over.wait(self._period):
            self._look(last=False)

    def _look(self, *, last: bool) -> None:
        try:
            found = {path: _seen(file) for path, file in list_regular_files(self._folder)}
            for path, seen in found.items():
                if self._kept.get(path) != seen and (last or self._before.get(path) == seen):
                    self._keep(path, seen)
            self._before = found
            self.problem = ""
        except (OSError, TritonForgeError) as error:  # it may be there again at the next look
            self.problem = f"checkpoints cannot be kept: {error}"

    def _keep(self, path: str, seen: _Seen) -> None:
        file, copied = self._folder / path, self._scratch / "checkpoint"
        try:
            shutil.copyfile(file, copied, follow_symlinks=False)
            if _seen(file) == seen:  # else it was written meanwhile
                self._place.put(copied, self._uri + path)
                self._kept[path] = seen
        except FileNotFoundError:  # the program removed it
            pass
        finally:
            copied.unlink(missing_ok=True)


def _seen(path: Path) -> _Seen:
    try:
        status = path.lstat()
    except FileNotFoundError:
        return 0, 0, 0
    return status.st_ino, status.st_size, status.st_mtime_ns
