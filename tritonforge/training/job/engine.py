"""The engine: a training job run to its end on this machine, on any place."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from tritonforge.inference.transform.places import Place
from tritonforge.training.job.job import TrainingJob
from tritonforge.training.job.outcomes import Measured, Outcome, Phase

__all__ = ["run"]


def run(
    job: TrainingJob,
    *,
    program: Path,
    place: Place,
    work: Path,
    pack: Callable[[Path, Path], None],
    line: Callable[[str], None] | None = None,
    metric: Callable[[Measured], None] | None = None,
    phase: Callable[[Phase], None] | None = None,
    stop: threading.Event | None = None,
    arn: str = "",
    grace: float = 120.0,
) -> Outcome:
    """Run a training job: lay out /opt/ml below ``work``, feed its channels from ``place``, run ``program``'s train.

    ``pack(folder, archive)`` writes a folder's content as a .tar.gz. ``line`` is told every line of the program's log,
    ``metric`` every value in one, ``phase`` where the job is; they are called from several threads, one call at a
    time. ``stop`` ends the job once it is set: SIGTERM, and SIGKILL after ``grace`` seconds. ``arn`` is the job's, for
    its environment. ``work`` is a folder of this run only, which the caller removes.

    What fails in the job is told in the outcome. Raises DefinitionError where the job itself is wrong, or asks for
    what cannot be done on this machine; IsolationError where programs cannot be isolated here.
    """
    raise NotImplementedError
