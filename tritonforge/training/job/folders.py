"""The folders of a job on this machine: /opt/ml below the work folder, and what a program left in it. An edge.

What a program leaves is read with care: links are not followed, and only regular files are opened.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Final

from tritonforge.training.job import configuration
from tritonforge.training.job.job import CHECKPOINTS, TrainingJob
from tritonforge.training.job.outcomes import FAILURE_LENGTH
from tritonforge.training.sandbox import PROGRAM, Bind

__all__ = ["Folders", "plain_files"]

_BASE: Final = PurePosixPath("/opt/ml")


class Folders:
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
        local = PurePosixPath(CHECKPOINTS if config is None else config.local_path or CHECKPOINTS)
        self._checkpoints_elsewhere = None if local.is_relative_to(_BASE) else str(local)
        self.checkpoints = (
            self.base / local.relative_to(_BASE) if self._checkpoints_elsewhere is None else work / "checkpoints"
        )

    def lay(self) -> None:
        """Make the folders and write the configuration. Raises OSError."""
        config = self.base / "input" / "config"
        for each in (config, self.data, self.model, self.output_data, self.checkpoints, self.scratch):
            each.mkdir(parents=True, exist_ok=True)
        resources = configuration.resources(self._job)
        for name, document in (
            ("hyperparameters.json", configuration.hyperparameters(self._job)),
            ("inputdataconfig.json", configuration.input_data(self._job)),
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


def plain_files(folder: Path) -> Iterator[tuple[str, Path]]:
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
