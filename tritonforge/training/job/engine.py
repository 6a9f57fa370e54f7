"""Metrics: values that are read off the lines of a program's log. This module does no I/O.

The engine: a training job run to its end on this machine, on any place, used by the command line and the emulator.

    Starting -> Downloading (channels, checkpoints) -> Training (the program, its pipes fed) -> Uploading (the model)

What is wrong with the data ends the job with their sentence: it is known before the program hears of it, so that what
the program says of the pipe that broke is never taken for the cause.
"""

from __future__ import annotations

import contextlib
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from tritonforge.errors import DefinitionError, TritonForgeError
from tritonforge.training.job.channel_setup import PreparedChannels, has_train_program, stop_writers
from tritonforge.training.job.objects import ChannelError, JobStoppedError
from tritonforge.training.job.opt_ml import (
    HOST,
    CheckpointSync,
    JobFolders,
    Pack,
    build_command,
    build_environment,
    upload_outputs,
)
from tritonforge.training.job.rules import find_unsupported
from tritonforge.training.job.training_job import (
    FAILURE_LENGTH,
    MetricDefinition,
    MetricValue,
    Outcome,
    Phase,
    State,
    StopReason,
    TrainingJob,
)
from tritonforge.training.sandbox import NO_LIMITS, Limits, Process, start_container
from tritonforge.transform.object_store import ObjectStore, StoreError

__all__ = ["STOP_SECONDS", "MetricReader", "run_training_job"]


class MetricReader:
    """A job's metric definitions, and the last value of each; what a definition finds in a line is its first group."""

    def __init__(self, definitions: Sequence[MetricDefinition]) -> None:
        self._expressions = [(each.name, re.compile(each.regex)) for each in definitions]
        self.last: dict[str, MetricValue] = {}

    def read(self, line: str, seconds: float) -> Iterator[MetricValue]:
        """The values in a line that was read at ``seconds`` since 1970; what is no number is passed over.

        >>> metrics = Metrics([MetricDefinition(name="loss", regex="loss=([0-9.]+)")])
        >>> [each.value for each in metrics.read("epoch 1 loss=0.5", 0.0)]
        [0.5]
        """
        for name, expression in self._expressions:
            for match in expression.finditer(line):
                try:
                    value = float(match[1])
                except (TypeError, ValueError):  # a group that took no part, or text
                    continue
                self.last[name] = measured = MetricValue(name, value, seconds)
                yield measured


#: Seconds between SIGTERM and SIGKILL. Source: API_StoppingCondition.
STOP_SECONDS: Final = 120.0

#: Seconds until a stop, the end of the job's time, or an error in its data is seen.
_PERIOD: Final = 0.1

_KILLED: Final = 128 + signal.SIGKILL


def run_training_job(
    job: TrainingJob,
    *,
    program: Path,
    place: ObjectStore,
    work: Path,
    pack: Pack,
    line: Callable[[str], None] | None = None,
    metric: Callable[[MetricValue], None] | None = None,
    phase: Callable[[Phase], None] | None = None,
    stop: threading.Event | None = None,
    kill: threading.Event | None = None,
    arn: str = "",
    network: bool = False,
    grace: float = STOP_SECONDS,
    limit: Limits = NO_LIMITS,
    limited: Callable[[str], None] | None = None,
) -> Outcome:
    """Run a training job: lay out /opt/ml below ``work``, feed its channels from ``place``, run ``program``'s train.

    ``pack(folder, archive)`` writes a folder's content as a .tar.gz. ``line`` is told every line of the program's log,
    ``metric`` every value in one, ``phase`` where the job is; they are called from several threads, one call at a
    time. ``stop`` ends the job once it is set: SIGTERM, and SIGKILL after ``grace`` seconds; ``kill``, set after it,
    cuts that short, and nothing but checkpoints is kept. ``arn`` is the job's, for its environment. With ``network``
    the program has this machine's network, unless the job isolates it; else loopback alone. ``limit`` is of its memory,
    CPU and processes; ``limited`` is called with what enforces each, in a sentence. ``work`` is an empty folder
    of this run only, which the caller removes; /opt/ml is ``work/ml``.

    What fails in the job is told in the outcome. Raises DefinitionError where the job itself is wrong, or asks for
    what cannot be done on this machine; SandboxError where programs cannot be isolated here.
    """
    if problems := (*job.problems(), *find_unsupported(job)):
        raise DefinitionError("; ".join(problems))
    if not (job.algorithm and job.algorithm.container_entrypoint) and not has_train_program(program):
        raise DefinitionError(f"{program} has no executable named train, which a program folder has (chmod +x train)")
    course = _Course(job, place, work, line, metric, phase, stop or threading.Event(), kill or threading.Event())
    return course.run(program.resolve(), pack, arn=arn, network=network, grace=grace, limit=limit, limited=limited)


class _Course:
    """One run of a job: where it is, and what is known of its end."""

    def __init__(
        self,
        job: TrainingJob,
        place: ObjectStore,
        work: Path,
        line: Callable[[str], None] | None,
        metric: Callable[[MetricValue], None] | None,
        phase: Callable[[Phase], None] | None,
        stop: threading.Event,
        kill: threading.Event,
    ) -> None:
        self._job = job
        self._place = place
        self._folders = JobFolders(work, job)
        self._line = line
        self._metric = metric
        self._phase = phase
        self._stop = stop
        self._kill = kill
        self._ended = threading.Event()  # for everything that serves the program
        self._telling = threading.RLock()
        self._wrong: list[str] = []  # sentences of the data
        self._last = ""  # line of the log that says something
        definitions = () if job.algorithm is None else job.algorithm.metric_definitions or ()
        self._metrics = MetricReader(definitions)
        config = job.checkpoint_config
        self._checkpoints = (
            None
            if config is None
            else CheckpointSync(self._folders.checkpoints, config.uri, place, self._folders.scratch)
        )
        self._exit_code: int | None = None
        self._seconds = 0.0

    def run(
        self,
        program: Path,
        pack: Pack,
        *,
        arn: str,
        network: bool,
        grace: float,
        limit: Limits,
        limited: Callable[[str], None] | None,
    ) -> Outcome:
        prepared = PreparedChannels()
        self._tell("Starting")
        try:
            try:
                self._place.check(self._job.output.uri)
                self._folders.lay()
                self._tell("Downloading")
                prepared.prepare(
                    self._job,
                    self._folders,
                    self._place,
                    stop=self._stop,
                    ended=self._ended,
                    failed=self._wrong.append,
                )
                if self._checkpoints is not None:
                    self._checkpoints.restore(self._stop)
                if self._stop.is_set():
                    raise JobStoppedError
            except JobStoppedError:
                return self._outcome("Stopped", why="stop")
            except (ChannelError, StoreError) as error:
                return self._failed(f"ClientError: {error}")
            except OSError as error:
                return self._failed(f"ClientError: the input cannot be kept on this machine: {_told(error)}")
            self._tell("Training")
            why = self._train(program, prepared, arn=arn, network=network, grace=grace, limit=limit, limited=limited)
        finally:
            stop_writers(prepared.feeders, self._ended)
            if self._checkpoints is not None:
                self._checkpoints.end()
        notes = tuple(prepared.notes)
        if self._checkpoints is not None:
            self._checkpoints.finish()
            notes += (self._checkpoints.problem,) if self._checkpoints.problem else ()
        if self._kill.is_set():
            return self._outcome("Stopped", why="stop", notes=notes)
        if self._wrong:
            return self._failed(f"ClientError: {self._wrong[0]}", notes=notes)
        if self._exit_code and not why:
            return self._failed(self._folders.failure() or self._unsaid(), notes=notes)
        self._tell("Uploading")
        try:
            artifact, output = upload_outputs(self._job, self._folders, self._place, pack)
        except TritonForgeError as error:
            return self._failed(f"ClientError: the model cannot be uploaded: {error}", notes=notes)
        except OSError as error:
            return self._failed(f"ClientError: the model cannot be uploaded: {_told(error)}", notes=notes)
        if artifact is None and not why:
            notes += ("the program left nothing in /opt/ml/model, so there is no model",)
        return self._outcome("Stopped" if why else "Completed", why=why, artifact=artifact, output=output, notes=notes)

    def _train(
        self,
        program: Path,
        prepared: PreparedChannels,
        *,
        arn: str,
        network: bool,
        grace: float,
        limit: Limits,
        limited: Callable[[str], None] | None,
    ) -> StopReason:
        """Run the program to its end; why it was stopped, "" where it ended by itself."""
        began = time.monotonic()
        with start_container(
            build_command(self._job),
            binds=[*self._folders.binds(program), *prepared.binds],
            environment=build_environment(self._job, arn),
            network=network and not self._job.enable_network_isolation,
            hostname=HOST,
            limit=limit,
            log=self._read,
        ) as process:
            if limited is not None:
                for sentence in process.limited:
                    limited(sentence)
            for feeder in prepared.feeders:
                feeder.start()
            if self._checkpoints is not None:
                self._checkpoints.start()
            why = self._watch(process, began + self._job.max_runtime, grace)
            self._exit_code = process.wait()
        self._seconds = time.monotonic() - began
        return why

    def _watch(self, process: Process, deadline: float, grace: float) -> StopReason:
        while True:
            with contextlib.suppress(TimeoutError):
                process.wait(_PERIOD)
                return ""
            why: StopReason = (
                "stop" if self._stop.is_set() else "MaxRuntimeExceeded" if time.monotonic() > deadline else ""
            )
            if why or self._wrong:
                self._tell("Stopping")
                self._terminate(process, grace)
                return why

    def _terminate(self, process: Process, grace: float) -> None:
        ending = threading.Thread(target=process.terminate, args=(grace,), daemon=True)
        ending.start()
        while not self._kill.is_set():
            with contextlib.suppress(TimeoutError):
                process.wait(_PERIOD)
                break
        else:
            process.kill()
        ending.join()

    def _read(self, line: str) -> None:
        """Take a line of the program's log."""
        now = time.time()
        with self._telling:
            self._last = line.strip() or self._last
            if self._line is not None:
                self._line(line)
            for measured in self._metrics.read(line, now):
                if self._metric is not None:
                    self._metric(measured)

    def _tell(self, phase: Phase) -> None:
        with self._telling:
            if self._phase is not None:
                self._phase(phase)

    def _unsaid(self) -> str:
        """Why a program failed that does not say it."""
        code = self._exit_code
        how = f"ended with exit code {code}"
        if code == _KILLED:
            how = "was killed (SIGKILL), as happens where memory runs out,"
        last = f"; the last line of its log is: {self._last}" if self._last else ", nor a line in its log"
        return f"the program {how} and left no sentence in /opt/ml/output/failure{last}"[:FAILURE_LENGTH]

    def _failed(self, sentence: str, *, notes: tuple[str, ...] = ()) -> Outcome:
        self._folders.fail(sentence)
        return self._outcome("Failed", failure=sentence[:FAILURE_LENGTH], notes=notes)

    def _outcome(
        self,
        state: State,
        *,
        failure: str = "",
        why: StopReason = "",
        artifact: str | None = None,
        output: str | None = None,
        notes: tuple[str, ...] = (),
    ) -> Outcome:
        return Outcome(
            state=state,
            failure=failure,
            why_stopped=why,
            exit_code=self._exit_code,
            seconds=self._seconds,
            metrics=dict(self._metrics.last),
            artifact=artifact,
            output_data=output,
            notes=notes,
        )


def _told(error: OSError) -> str:
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror or error}"
