"""The directory of a training job on this machine: what is kept between two runs, and where a run works."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from tritonforge.errors import DefinitionError
from tritonforge.files import describe_error
from tritonforge.training.job import CheckpointConfig, Outcome, TrainingJob

__all__ = ["JobDirectory"]

#: What may differ between two runs of which the second continues from the checkpoints of the first.
_CHANGEABLE: Final = (
    "CheckpointConfig", "OutputDataConfig", "RetryStrategy", "StoppingCondition", "Tags", "TrainingJobName",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class JobDirectory:
    """The directory of one job: its description and its checkpoints, and the directories of the current run."""

    path: Path

    @property
    def run(self) -> Path:
        """Where the current run works."""
        return self.path / "run"

    @property
    def out(self) -> Path:
        """Where the current run puts its outputs."""
        return self.path / "out"

    @property
    def checkpoints(self) -> Path:
        """Where checkpoints are kept."""
        return self.path / "checkpoints"

    @property
    def has_checkpoints(self) -> bool:
        """True if an earlier run has left a checkpoint."""
        return self.checkpoints.is_dir() and any(self.checkpoints.iterdir())

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other runs out; the kernel releases the lock when this process ends.

        Raises:
            DefinitionError: the directory cannot be created, or another run is in progress.
        """
        try:
            # Only for this user: a program may set set-user-ID bits in it, which are removed only after it has ended.
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise DefinitionError(f"{self.path}: cannot write: {describe_error(error)}") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(lock)
            raise DefinitionError(f"{self.path}: another run of this job is in progress") from error
        try:
            yield
        finally:
            if {path.name for path in self.path.iterdir()} == {"lock"}:
                shutil.rmtree(self.path)
            os.close(lock)

    def run_job(
        self,
        job: TrainingJob,
        *,
        program: Path,
        target: Path | None,
        run: Callable[[TrainingJob, Path], Outcome],
        starts_again: bool = False,
    ) -> Outcome:
        """Run a job, or continue it from the checkpoints of an earlier run, and keep what the next run needs.

        Args:
            job: the job.
            program: the program folder.
            target: the local directory of its outputs, None if they go to the job's own address.
            run: called with the job, whose addresses are then in this directory, and an empty directory to work in.
            starts_again: remove the checkpoints of an earlier run first.

        Raises:
            DefinitionError: another run is in progress, or the checkpoints belong to another job.
        """
        with self.lock():
            if starts_again:
                self.discard()
            self.begin(job, program)
            outcome = run(self.place_job(job, keeps_output=target is not None), self.run)
            if target is not None and outcome.state != "Failed":
                outcome = self.deliver(outcome, target)
            if outcome.state == "Completed" or not self.has_checkpoints:
                self.discard()
            else:
                self.clear()
        return outcome

    def begin(self, job: TrainingJob, program: Path) -> None:
        """Prepare a run. Raises DefinitionError if the checkpoints belong to another job."""
        self.clear()
        self.run.mkdir()
        request = {name: value for name, value in job.to_request().items() if name not in _CHANGEABLE}
        description = {"Program": str(program.resolve()), **request}
        file = self.path / "job.json"
        if self.has_checkpoints and file.exists():
            before = json.loads(file.read_text(encoding="utf-8"))
            names = sorted({*before, *description})
            if changed := [name for name in names if before.get(name) != description.get(name)]:
                raise DefinitionError(
                    f"{self.checkpoints}: holds checkpoints of another job (expected {changed[0]} "
                    f"{json.dumps(before.get(changed[0]))}, got {json.dumps(description.get(changed[0]))}). Start "
                    "again (--afresh), or name another directory (--work)"
                )
        file.write_text(json.dumps(description), encoding="utf-8")

    def place_job(self, job: TrainingJob, *, keeps_output: bool) -> TrainingJob:
        """Return the job with its checkpoints, and with ``keeps_output`` its output, in this directory."""
        return replace(
            job,
            output=replace(job.output, uri=str(self.out)) if keeps_output else job.output,
            checkpoint_config=job.checkpoint_config or CheckpointConfig(uri=str(self.checkpoints)),
        )

    def deliver(self, outcome: Outcome, target: Path) -> Outcome:
        """Move what the job left to a directory, each file complete, replacing existing ones."""
        target.mkdir(parents=True, exist_ok=True)
        placed: list[str | None] = []
        for uri in (outcome.artifact, outcome.output_data):
            if uri is not None and Path(uri).is_file():  # otherwise it is the model's directory, which follows
                _replace(Path(uri), target / Path(uri).name)
            placed.append(None if uri is None else str(target / Path(uri).name))
        if outcome.artifact is not None:
            _replace(self.run / "ml" / "model", target / "model")
        return replace(outcome, artifact=placed[0], output_data=placed[1])

    def clear(self) -> None:
        """Remove the directories of a run."""
        for path in (self.run, self.out):
            shutil.rmtree(path, ignore_errors=True)

    def discard(self) -> None:
        """Remove everything that was kept."""
        self.clear()
        shutil.rmtree(self.checkpoints, ignore_errors=True)
        (self.path / "job.json").unlink(missing_ok=True)


def _replace(source: Path, target: Path) -> None:
    """Move a file or a directory to a path, replacing what is there."""
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.move(source, partial)
    if target.is_dir() and not target.is_symlink():
        shutil.rmtree(target)
    partial.replace(target)
