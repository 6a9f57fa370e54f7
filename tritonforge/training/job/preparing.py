"""Channels made ready: copied (File), shown (FastFile), or with a feeder (Pipe), before the program starts. An edge."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tritonforge.training.job.channel import Channel, S3Data
from tritonforge.training.job.contents import ChannelError
from tritonforge.training.job.copying import copy, local_folder
from tritonforge.training.job.entries import collect, listing
from tritonforge.training.job.epochs import Epochs
from tritonforge.training.job.feeding import Feeder
from tritonforge.training.job.folders import Folders
from tritonforge.training.job.job import TrainingJob
from tritonforge.training.sandbox import Bind
from tritonforge.transform.places import Folders as LocalFolders
from tritonforge.transform.places import Place

__all__ = ["Prepared", "end", "has_program", "refusals"]


def refusals(job: TrainingJob) -> tuple[str, ...]:
    """What SageMaker may do and this machine does not, a sentence each."""
    found = []
    resources = job.resources
    count = (resources and resources.instance_count) or 1
    for group in (resources and resources.instance_groups) or ():
        count = max(count, group.instance_count, len((resources and resources.instance_groups) or ()))
    if count > 1:
        found.append(f"the job asks for {count} instances; on this machine it has one, so set InstanceCount to 1")
    names = {each.name for each in job.channels or ()}
    for channel in job.channels or ():
        name, _, number = channel.name.rpartition("_")
        if number.isdigit() and name in names:
            found.append(f"channel {channel.name}: its folder would be where epoch {number} of {name} is; rename it")
        if channel.data is None:
            found.append(f"channel {channel.name}: only S3DataSource can be read on this machine")
        elif channel.data.data_type == "AugmentedManifestFile" and channel.compression_type == "Gzip":
            found.append(
                f"channel {channel.name}: what CompressionType Gzip means for an augmented manifest is not documented; "
                "leave it unset"
            )
    return tuple(found)


@dataclass(slots=True)
class Prepared:
    """The channels of a job, ready: what the container has bound besides /opt/ml, and the feeders of its pipes."""

    binds: list[Bind] = field(default_factory=list)
    feeders: list[Feeder] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def prepare(
        self,
        job: TrainingJob,
        folders: Folders,
        place: Place,
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
                    entries = collect(channel, data, place, path, stop)
                    epochs = Epochs(channel, data, entries, place, ended)
                    # Files of this machine are read faster than a thread is asked for one.
                    ahead = entries.is_far or not isinstance(place, LocalFolders)
                    self.feeders.append(Feeder(epochs, folders.data, failed=failed, ahead=ahead))
                else:
                    self._files(channel, data, folders, place, stop=stop, shown=job.mode(channel) == "FastFile")
            except ChannelError as error:
                raise ChannelError(f"channel {channel.name}: {error}") from error

    def _files(
        self, channel: Channel, data: S3Data, folders: Folders, place: Place, *, stop: threading.Event, shown: bool
    ) -> None:
        target = folders.data / channel.name
        target.mkdir()
        source = local_folder(place, data.uri) if shown else None
        found = any(source.iterdir()) if source else copy(listing(data, place, stop), place, target, stop)
        if not found:
            raise ChannelError(f"{data.uri}: there is nothing in it")
        if shown:
            self.binds.append(Bind(source or target, f"/opt/ml/input/data/{channel.name}", read_only=True))
            if source is None:
                self.notes.append(f"channel {channel.name}: FastFile was copied before the program started")


def end(feeders: Sequence[Feeder], ended: threading.Event) -> None:
    """End all feeders."""
    ended.set()
    for each in feeders:
        each.end()


def has_program(program: Path) -> bool:
    """Whether a program folder has an executable train."""
    path = program / "train"
    return path.is_file() and bool(path.stat().st_mode & 0o111)
