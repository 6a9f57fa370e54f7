"""Jobs for these tests: small programs in real namespaces, and stores that fail."""

from __future__ import annotations

import tarfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from tritonforge.cli.train import train
from tritonforge.errors import TritonForgeError
from tritonforge.records import split
from tritonforge.training.job import (
    AlgorithmSpecification,
    Channel,
    MetricValue,
    Outcome,
    Output,
    S3Data,
    ShuffleConfig,
    Source,
    TrainingJob,
    run_training_job,
)
from tritonforge.transform import LocalStore, StoredObject, StoreError


def pack(folder: Path, archive: Path) -> None:
    """A folder as a .tar.gz."""
    with tarfile.open(archive, "w:gz") as file:
        file.add(folder, ".")


def program(folder: Path, script: str) -> Path:
    """A program folder whose `train` is a shell script; /opt/ml is where it starts."""
    made = folder / "program"
    made.mkdir(exist_ok=True)
    (made / "train").write_text(f"#!/bin/sh\ncd /opt/ml\n{script}\n")
    (made / "train").chmod(0o755)
    return made


def channel(
    uri: str | Path,
    name: str = "train",
    *,
    mode: Any = "Pipe",
    names: Sequence[str] = (),
    seed: int | None = None,
    data_type: Any = None,
    **members: Any,
) -> Channel:
    """A channel; with ``names`` of an augmented manifest."""
    kind = data_type or ("AugmentedManifestFile" if names else "S3Prefix")
    return Channel(
        name=name,
        source=Source(s3=S3Data(uri=str(uri), data_type=kind, attribute_names=tuple(names) or None)),
        input_mode=mode,
        shuffle=None if seed is None else ShuffleConfig(seed=seed),
        **members,
    )


@dataclass
class Ran:
    """A job that ran, or runs: how it ended, and everything that was reported."""

    outcome: Outcome
    model: Path
    lines: list[str] = field(default_factory=list)
    measured: list[MetricValue] = field(default_factory=list)
    phases: list[str] = field(default_factory=list)

    def records(self, name: str) -> list[bytes]:
        """The records of a RecordIO file that the program left."""
        return [bytes(record.payload) for record in split([(self.model / name).read_bytes()], "RecordIO")]


def run_job(
    folder: Path,
    script: str,
    *channels: Channel,
    store: Any = None,
    job: dict[str, Any] | None = None,
    algorithm: dict[str, Any] | None = None,
    **given: Any,
) -> Ran:
    """Run a shell script as a training job over the channels; its model folder is left as it is."""
    specification = AlgorithmSpecification(
        training_input_mode="File", **{"training_image": "local", **(algorithm or {})}
    )
    described: dict[str, Any] = {
        "name": "job",
        "algorithm": specification,
        "channels": channels or None,
        "output": Output(uri=str(folder / "out")),
        **(job or {}),
    }
    work = folder / "work"
    work.mkdir()
    ran = Ran(Outcome(state="Failed"), work / "ml" / "model")
    ran.outcome = run_training_job(
        TrainingJob(**described),
        program=program(folder, script),
        store=LocalStore() if store is None else store,
        work=work,
        on_metric=ran.measured.append,
        **{"on_line": ran.lines.append, "on_phase": ran.phases.append, "pack": pack, "stop_seconds": 5.0, **given},
    )
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("training-feeder")]
    return ran


class Memory:
    """A store like S3, in memory: addresses are ``s3://``, and what it does wrong is asked of `fault`."""

    def __init__(self, objects: dict[str, bytes]) -> None:
        self.objects = dict(objects)
        self.lock = threading.Lock()
        self.asked: list[str] = []

    def fault(self, uri: str, chunk: int) -> None:
        """Called before each chunk of an object."""

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """As S3 lists."""
        for uri in sorted(self.objects):
            if uri.startswith(prefix):
                yield StoredObject(uri, len(self.objects[uri]), "e")

    def find(self, uri: str) -> StoredObject | None:
        """As S3's HEAD."""
        return StoredObject(uri, len(self.objects[uri]), "e") if uri in self.objects else None

    def open(self, uri: str, offset: int = 0, *, size: int = 1 << 16) -> Iterator[bytes]:
        """An object in chunks."""
        with self.lock:
            self.asked.append(uri)
        if uri not in self.objects:
            raise StoreError(f"{uri}: it cannot be read: 404")
        content = self.objects[uri]
        for number, start in enumerate(range(offset, len(content), size)):
            self.fault(uri, number)
            yield content[start : start + size]

    def put(self, content: Path | bytes, uri: str) -> None:
        """Take an output."""
        self.objects[uri] = content.read_bytes() if isinstance(content, Path) else content

    def check(self, uri: str) -> None:
        """Every output is welcome."""


#: Adds numbers step by step, with a checkpoint after each.
COUNTING = """
trap 'exit 0' TERM
step=$(cat checkpoints/step 2>/dev/null || echo 0); sum=$(cat checkpoints/sum 2>/dev/null || echo 0)
while [ $step -lt 6 ]; do
    step=$((step + 1)); sum=$((sum + step))
    echo $sum > checkpoints/sum; echo $step > checkpoints/step
    echo step $step
    sleep 0.1
done
echo $sum > model/sum
"""


def run_command(*arguments: Any) -> tuple[int, str, str]:
    """The command in this process: its exit code, what it printed, and its errors."""
    done = CliRunner().invoke(train, list(map(str, arguments)), standalone_mode=False)
    if isinstance(done.exception, TritonForgeError):
        return done.exception.exit_code, done.stdout, str(done.exception)
    if done.exception is not None:
        raise done.exception
    return done.return_value, done.stdout, done.stderr
