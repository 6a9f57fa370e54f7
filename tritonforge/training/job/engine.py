"""The engine that runs a training job on this machine, for the command line and the emulator. An edge.

    Starting -> Downloading (channels, checkpoints) -> Training (the program, its pipes) -> Uploading (the model)

An error in the data is the failure of the job: it is known before the program can fail because of it, so a message of
the program about its broken pipe is never reported as the cause.
"""

from __future__ import annotations

import contextlib
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tritonforge.errors import DefinitionError, TritonForgeError
from tritonforge.training.algorithm.termination import FAILURE_LENGTH
from tritonforge.training.job.channel_setup import PreparedChannels, stop_writers
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
from tritonforge.training.job.request import find_unsupported
from tritonforge.training.job.training_job import (
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

#: Seconds between SIGTERM and SIGKILL. Source: API_StoppingCondition.
STOP_SECONDS: Final = 120.0

#: Seconds between two checks for a stop, the end of the job's time, or an error in its data.
_PERIOD: Final = 0.1

_KILLED: Final = 128 + signal.SIGKILL


class MetricReader:
    """Reads metrics from the lines of a log: a value is the first group of a definition's regex."""

    def __init__(self, definitions: Sequence[MetricDefinition]) -> None:
        self._expressions = [(definition.name, re.compile(definition.regex)) for definition in definitions]
        self.last: dict[str, MetricValue] = {}

    def read(self, line: str, seconds: float) -> Iterator[MetricValue]:
        """Yield the numbers in a line that was read at ``seconds`` since 1970.

        >>> reader = MetricReader([MetricDefinition(name="loss", regex="loss=([0-9.]+)")])
        >>> [metric.value for metric in reader.read("epoch 1 loss=0.5", 0.0)]
        [0.5]
        """
        for name, expression in self._expressions:
            for match in expression.finditer(line):
                try:
                    value = float(match[1])
                except (TypeError, ValueError):  # a group that did not match, or text
                    continue
                self.last[name] = metric = MetricValue(name, value, seconds)
                yield metric


def run_training_job(
    job: TrainingJob,
    *,
    program: Path,
    store: ObjectStore,
    work: Path,
    pack: Pack,
    on_line: Callable[[str], None] | None = None,
    on_metric: Callable[[MetricValue], None] | None = None,
    on_phase: Callable[[Phase], None] | None = None,
    on_limit: Callable[[str], None] | None = None,
    stop: threading.Event | None = None,
    kill: threading.Event | None = None,
    arn: str = "",
    network: bool = False,
    stop_seconds: float = STOP_SECONDS,
    limits: Limits = NO_LIMITS,
) -> Outcome:
    """Run a training job: create /opt/ml below ``work``, provide its channels, and run ``program``'s train.

    The callbacks are called from several threads, one call at a time.

    Args:
        job: the job.
        program: the program folder.
        store: where the channels are, and where the outputs go.
        work: an empty folder for this run only, which the caller removes; /opt/ml is ``work/ml``.
        pack: ``pack(folder, archive)`` writes a folder's content as a .tar.gz.
        on_line: called with every line of the program's log.
        on_metric: called with every metric in a line.
        on_phase: called when the job enters a phase.
        on_limit: called with a sentence for each limit that says what enforces it.
        stop: ends the job once it is set: SIGTERM, and SIGKILL after ``stop_seconds``.
        kill: set after ``stop``, kills the program at once; only its checkpoints are kept.
        arn: the job's ARN, for its environment.
        network: give the program this machine's network, unless the job isolates it; else loopback alone.
        stop_seconds: seconds between SIGTERM and SIGKILL.
        limits: of memory, CPU and processes.

    A failure of the job is reported in the outcome. Raises DefinitionError if the job is invalid or not supported on
    this machine; SandboxError if programs cannot be isolated on it.
    """
    if problems := (*job.problems(), *find_unsupported(job)):
        raise DefinitionError("; ".join(problems))
    train = program / "train"
    is_executable = train.is_file() and bool(train.stat().st_mode & 0o111)
    if not (job.algorithm and job.algorithm.container_entrypoint) and not is_executable:
        raise DefinitionError(f"{program} has no executable named train, which a program folder has (chmod +x train)")
    return _JobRun(
        job=job,
        store=store,
        work=work,
        program=program.resolve(),
        pack=pack,
        on_line=on_line,
        on_metric=on_metric,
        on_phase=on_phase,
        on_limit=on_limit,
        stop=stop or threading.Event(),
        kill=kill or threading.Event(),
        arn=arn,
        network=network,
        stop_seconds=stop_seconds,
        limits=limits,
    ).run()


@dataclass(kw_only=True)
class _JobRun:
    """One run of a job: the arguments of `run_training_job`, and its state."""

    job: TrainingJob
    store: ObjectStore
    work: Path
    program: Path
    pack: Pack
    on_line: Callable[[str], None] | None
    on_metric: Callable[[MetricValue], None] | None
    on_phase: Callable[[Phase], None] | None
    on_limit: Callable[[str], None] | None
    stop: threading.Event
    kill: threading.Event
    arn: str
    network: bool
    stop_seconds: float
    limits: Limits

    def __post_init__(self) -> None:
        self._folders = JobFolders(self.work, self.job)
        self._ended = threading.Event()  # for all threads that serve the program
        self._callbacks = threading.RLock()
        self._errors: list[str] = []  # sentences about the data
        self._last_line = ""  # the last line of the log that is not blank
        self._metrics = MetricReader((self.job.algorithm and self.job.algorithm.metric_definitions) or ())
        config, folders = self.job.checkpoint_config, self._folders
        self._checkpoints = (
            CheckpointSync(folders.checkpoints, config.uri, self.store, folders.scratch, base=folders.checkpoint_base)
            if config
            else None
        )
        self._exit_code: int | None = None
        self._seconds = 0.0

    def run(self) -> Outcome:
        channels = PreparedChannels()
        self._enter("Starting")
        try:
            try:
                self.store.check(self.job.output.uri)
                self._folders.create()
                self._enter("Downloading")
                channels.prepare(
                    self.job,
                    self._folders,
                    self.store,
                    stop=self.stop,
                    ended=self._ended,
                    on_error=self._errors.append,
                )
                if self._checkpoints is not None:
                    self._checkpoints.restore(self.stop)
                if self.stop.is_set():
                    raise JobStoppedError
            except JobStoppedError:
                return self._build_outcome("Stopped", reason="stop")
            except (ChannelError, StoreError) as error:
                return self._fail(f"ClientError: {error}")
            except OSError as error:
                return self._fail(f"ClientError: the input cannot be kept on this machine: {_describe(error)}")
            self._enter("Training")
            reason = self._train(channels)
        finally:
            stop_writers(channels.writers, self._ended)
            if self._checkpoints is not None:
                self._checkpoints.cancel()
        notes = tuple(channels.notes)
        if self._checkpoints is not None:
            self._checkpoints.finish()
            notes += (self._checkpoints.problem,) if self._checkpoints.problem else ()
        if self.kill.is_set():
            return self._build_outcome("Stopped", reason="stop", notes=notes)
        if self._errors:
            return self._fail(f"ClientError: {self._errors[0]}", notes=notes)
        if self._exit_code and not reason:
            return self._fail(self._folders.read_failure() or self._describe_exit(), notes=notes)
        self._enter("Uploading")
        try:
            artifact, output = upload_outputs(self.job, self._folders, self.store, self.pack)
        except TritonForgeError as error:
            return self._fail(f"ClientError: the model cannot be uploaded: {error}", notes=notes)
        except OSError as error:
            return self._fail(f"ClientError: the model cannot be uploaded: {_describe(error)}", notes=notes)
        if artifact is None and not reason:
            notes += ("the program left nothing in /opt/ml/model, so there is no model",)
        state: State = "Stopped" if reason else "Completed"
        return self._build_outcome(state, reason=reason, artifact=artifact, output=output, notes=notes)

    def _train(self, channels: PreparedChannels) -> StopReason:
        """Run the program to its end; return why it was stopped, "" if it ended by itself."""
        began = time.monotonic()
        with start_container(
            build_command(self.job),
            binds=[*self._folders.list_binds(self.program), *channels.binds],
            environment=build_environment(self.job, self.arn),
            network=self.network and not self.job.enable_network_isolation,
            hostname=HOST,
            limit=self.limits,
            log=self._read_line,
        ) as process:
            if self.on_limit is not None:
                for sentence in process.limited:
                    self.on_limit(sentence)
            for writer in channels.writers:
                writer.start()
            if self._checkpoints is not None:
                self._checkpoints.start()
            reason = self._watch(process, began + self.job.max_runtime)
            self._exit_code = process.wait()
        self._seconds = time.monotonic() - began
        return reason

    def _watch(self, process: Process, deadline: float) -> StopReason:
        while True:
            with contextlib.suppress(TimeoutError):
                process.wait(_PERIOD)
                return ""
            reason: StopReason = ""
            if self.stop.is_set():
                reason = "stop"
            elif time.monotonic() > deadline:
                reason = "MaxRuntimeExceeded"
            if reason or self._errors:
                self._enter("Stopping")
                self._terminate(process)
                return reason

    def _terminate(self, process: Process) -> None:
        ending = threading.Thread(target=process.terminate, args=(self.stop_seconds,), daemon=True)
        ending.start()
        while not self.kill.is_set():
            with contextlib.suppress(TimeoutError):
                process.wait(_PERIOD)
                break
        else:
            process.kill()
        ending.join()

    def _read_line(self, line: str) -> None:
        now = time.time()
        with self._callbacks:
            self._last_line = line.strip() or self._last_line
            if self.on_line is not None:
                self.on_line(line)
            for metric in self._metrics.read(line, now):
                if self.on_metric is not None:
                    self.on_metric(metric)

    def _enter(self, phase: Phase) -> None:
        with self._callbacks:
            if self.on_phase is not None:
                self.on_phase(phase)

    def _describe_exit(self) -> str:
        """Describe the end of a program that failed without a failure file."""
        code = self._exit_code
        how = f"ended with exit code {code}"
        if code == _KILLED:
            how = "was killed (SIGKILL), as happens where memory runs out,"
        last = f"; the last line of its log is: {self._last_line}" if self._last_line else ", nor a line in its log"
        return f"the program {how} and left no sentence in /opt/ml/output/failure{last}"[:FAILURE_LENGTH]

    def _fail(self, sentence: str, *, notes: tuple[str, ...] = ()) -> Outcome:
        self._folders.write_failure(sentence)
        return self._build_outcome("Failed", failure=sentence[:FAILURE_LENGTH], notes=notes)

    def _build_outcome(
        self,
        state: State,
        *,
        failure: str = "",
        reason: StopReason = "",
        artifact: str | None = None,
        output: str | None = None,
        notes: tuple[str, ...] = (),
    ) -> Outcome:
        return Outcome(
            state=state,
            failure=failure,
            stop_reason=reason,
            exit_code=self._exit_code,
            seconds=self._seconds,
            metrics=dict(self._metrics.last),
            artifact=artifact,
            output_data=output,
            notes=notes,
        )


def _describe(error: OSError) -> str:
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror or error}"
