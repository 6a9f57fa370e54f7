r"""The lifecycle of a job on SageMaker: plan, submit, watch, result. The command line adds the question and the output.

    with TrainingRun(job, session=session, settings=SageMakerSettings(role="SageMakerRole")) as run:
        print("\n".join(render(run.plan())))
        run.submit()
        run.watch(on_line=print)
        print(run.result().status)

`tests/sagemaker/jobs/test_lifecycle.py` runs such programs against the emulator.

Watching polls the status, often at first and then rarely, and reads the lines of the log from CloudWatch Logs as they
are written. It only reads; a poll that fails for a passing reason is repeated.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from types import TracebackType
from typing import Any, ClassVar, Final, Generic, TypeVar

from tritonforge.errors import ConnectError, DeploymentError, TritonForgeError
from tritonforge.sagemaker.client.errors import AwsError
from tritonforge.sagemaker.client.session import Session
from tritonforge.sagemaker.jobs.kinds import JobKind, find_difference
from tritonforge.sagemaker.plans.executor import check_plan, execute
from tritonforge.sagemaker.plans.plan import CheckedPlan, Plan, Progress, SilentProgress, Step

__all__ = ["LogTail", "SageMakerJob", "describe_job"]

_Result = TypeVar("_Result")
_Job = TypeVar("_Job", bound="SageMakerJob[Any]")

#: Seconds before a request that refers to a new resource is sent again: SageMaker reads its tables late.
_PAUSES: Final = (1.0, 2.0, 4.0, 8.0, 16.0)

#: How SageMaker reports that a name is taken. Source: service model, errors of CreateTransformJob, CreateTrainingJob
#: and CreateModelPackage; other operations have no error of their own for it.
_NAME_TAKEN: Final = frozenset({"ResourceInUse", "ConflictException"})


class SageMakerJob(ABC, Generic[_Result]):
    """A job on SageMaker; a context manager that keeps local files open between its plan and its submission.

    `plan` and `watch` change nothing on AWS, `submit` does. What was uploaded or created before an error stays and is
    not repeated by the next run.
    """

    kind: ClassVar[JobKind]

    #: Whether `watch` waits for the log's last lines after a job that has not failed.
    _waits_for_log: ClassVar[bool] = False

    def __init__(self, session: Session, *, progress: Progress | None = None) -> None:
        self.session = session
        self.progress: Progress = SilentProgress() if progress is None else progress
        self._files = ExitStack()
        self._plan: CheckedPlan | None = None
        self._identifier = ""
        self._description: Mapping[str, Any] | None = None
        #: What the validation of a local repository reports, available after `plan`.
        self.findings: tuple[str, ...] = ()

    def __enter__(self: _Job) -> _Job:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._files.close()

    @property
    def name(self) -> str:
        """The name of the job."""
        plan = self.plan()
        return plan.steps[-1].name if plan.steps else plan.name

    @property
    def identifier(self) -> str:
        """The name or, if AWS has returned it, the ARN by which the job is watched."""
        return self._identifier or self.name

    def plan(self) -> CheckedPlan:
        """Return the requests that the job requires, checked against AWS's service model and documented limits.

        Raises:
            DefinitionError, RequestError: the job is invalid, or AWS would reject a request.
            DeploymentError, ConnectError: AWS rejected a call that reads its state.
            MissingExtraError: boto3 is not installed.
        """
        if self._plan is None:
            self._plan = check_plan(self._build_plan())
        return self._plan

    def submit(self) -> str:
        """Send the requests of the plan and return the identifier of the job; an empty plan sends none.

        If the name is taken by a job that has everything that is requested, an earlier call whose response was lost
        has created it.

        Raises:
            DeploymentError, ConnectError: AWS rejected a call.
        """
        plan = self.plan()
        if not plan.steps:
            return self.identifier
        *preparations, creation = plan.steps
        execute(replace(plan, steps=preparations), self.session, upload=self._upload, progress=self.progress)
        self.progress.begin(f"create {self.kind.noun} {creation.name}")
        deletes = any(step.action == "delete" and step.kind == self.kind.noun for step in preparations)
        response = self._create(creation, deletes=deletes)
        self._identifier = self._read_identifier(creation.name, response)
        return self._identifier

    def watch(
        self,
        *,
        on_line: Callable[[str], None] = lambda text: None,
        on_phase: Callable[[str, str], None] = lambda phase, message: None,
    ) -> None:
        """Wait until the job has ended.

        Args:
            on_line: called with the lines of the job's log.
            on_phase: called with a part of the job and its status or message whenever one of them changes.

        Raises:
            DeploymentError, ConnectError: AWS does not return the job's status.
        """

        def take_line(line: str) -> None:
            self._read_line(line)
            on_line(line)

        self._description = _poll_until_ended(
            self.session,
            self.kind,
            self.identifier,
            progress=self.progress,
            format_phase=lambda description: self._read_description(description, on_phase),
            on_line=take_line,
            all_lines=self._waits_for_log,
        )

    def result(self) -> _Result:
        """Return how the job ended; wait for its end if it was not watched. Raises as `watch` does."""
        if self._description is None:
            self.watch()
        assert self._description is not None
        return self._read_result(self._description)

    def stop(self) -> bool:
        """Ask SageMaker to stop the job. Return False if it had ended already.

        Raises:
            DeploymentError, ConnectError: AWS rejected the call.
        """
        try:
            self.session.call("sagemaker", self.kind.stop, **{self.kind.name: self.identifier})
        except AwsError as error:
            if error.code == "ValidationException" and "is in status" in error.message:
                return False
            raise
        return True

    @abstractmethod
    def _build_plan(self) -> Plan:
        """Return the plan; its last step creates the job."""

    @abstractmethod
    def _upload(self, step: Step) -> None:
        """Send an upload of the plan."""

    @abstractmethod
    def _read_result(self, description: Mapping[str, Any]) -> _Result:
        """Return the result of a job that has ended."""

    def _read_identifier(self, name: str, response: Mapping[str, Any]) -> str:
        return name

    def _read_description(self, description: Mapping[str, Any], on_phase: Callable[[str, str], None]) -> str:
        """Take a description of the job and return what is shown after its status."""
        return ""

    def _read_line(self, line: str) -> None:
        """Take a line of the log."""

    def _create(self, step: Step, *, deletes: bool) -> Mapping[str, Any]:
        """Send the request that creates the job; repeat it while AWS does not see what was just created or deleted."""
        pauses = iter(_PAUSES)
        while True:
            try:
                return self.session.call("sagemaker", self.kind.create, resource=step.name, **step.request)
            except AwsError as error:
                is_taken = _is_name_taken(error)
                if is_taken and (existing := self._find_equal(step)) is not None:
                    return existing
                is_passing = (is_taken and deletes) or (self.kind.not_visible or "\0") in error.message
                if not is_passing or (pause := next(pauses, None)) is None:
                    raise
            self.session.sleep(pause)

    def _find_equal(self, step: Step) -> Mapping[str, Any] | None:
        """Return the existing job of this name if it is the requested one and is not being deleted."""
        if self.kind.name not in step.request:
            return None
        existing = self.session.call("sagemaker", self.kind.describe, **{self.kind.name: step.name})
        is_equal = not find_difference(existing, step.request) and existing.get(self.kind.status) != "Deleting"
        return existing if is_equal else None


def _is_name_taken(error: AwsError) -> bool:
    return error.code in _NAME_TAKEN or (error.code == "ValidationException" and "already exist" in error.message)


#: Seconds between two polls: short at first, then longer.
_FIRST_PAUSE: Final = 0.25
_MAX_PAUSE: Final = 10.0
_PAUSE_FACTOR: Final = 1.3
#: Polls that may fail in a row, in addition to botocore's own retries.
_MAX_FAILURES: Final = 5
_SERVER_ERROR: Final = 500

#: The last lines of a log come seconds after the status: how often they are read, and the seconds before each time.
_LAST_READS: Final = 3
_LAST_PAUSE: Final = 1.0

#: Lines that are read of a stream at a time: a busy container writes more than anyone reads.
_MAX_LINES: Final = 1000


class LogTail:
    """The lines of a job's log that were not read yet.

    Logs only supplement a job's status: if they cannot be read, there are no lines.
    """

    def __init__(self, session: Session, kind: JobKind, job: str) -> None:
        self._session = session
        self._kind = kind
        self._job = job
        self._tokens: dict[str, str] = {}

    def read_new(self) -> Iterator[str]:
        """Yield the lines since the last call, those of a stream together and in order."""
        if not self._kind.log_group:
            return
        try:
            for stream in self._list_streams():
                yield from self._read_stream(stream)
        except (TritonForgeError, KeyError):
            return

    def _list_streams(self) -> list[str]:
        group = self._kind.log_group
        pages = self._session.paginate(
            "logs", "DescribeLogStreams", resource=group, logGroupName=group, logStreamNamePrefix=f"{self._job}/"
        )
        names = [str(stream["logStreamName"]) for page in pages for stream in page.get("logStreams", ())]
        return [name for name in names if name.endswith(self._kind.log_suffix)]

    def _read_stream(self, stream: str) -> Iterator[str]:
        count = 0
        while count < _MAX_LINES:
            token = self._tokens.get(stream)
            position: dict[str, Any] = {} if token is None else {"nextToken": token}
            page = self._session.call(
                "logs",
                "GetLogEvents",
                resource=self._kind.log_group,
                logGroupName=self._kind.log_group,
                logStreamName=stream,
                startFromHead=True,
                **position,
            )
            events = page.get("events", ())
            for event in events:
                yield str(event.get("message", "")).rstrip()
            count += len(events)
            following = str(page.get("nextForwardToken", ""))
            if following:
                self._tokens[stream] = following
            if not events or following in ("", token):  # API GetLogEvents: at the end the same token comes back
                return


def _poll_until_ended(
    session: Session,
    kind: JobKind,
    name: str,
    *,
    progress: Progress,
    format_phase: Callable[[Mapping[str, Any]], str],
    on_line: Callable[[str], None] = lambda text: None,
    all_lines: bool = False,
) -> dict[str, Any]:
    """Poll a job until it has ended and return its last description.

    Args:
        session: calls AWS.
        kind: the kind of the job.
        name: the job's name or ARN.
        progress: shows the status.
        format_phase: called with every description; returns what is shown after the status.
        on_line: called with the lines of the log.
        all_lines: wait for the lines that come after the end, which otherwise is done for a failed job only.

    Raises:
        DeploymentError, ConnectError: AWS does not return the job's status.
    """
    log = LogTail(session, kind, name)
    started, pause = time.monotonic(), _FIRST_PAUSE
    while True:
        description = describe_job(session, kind, name, progress)
        phase = format_phase(description)
        for line in log.read_new():
            on_line(line)
        if kind.has_ended(description):
            break
        progress.detail(f"{description[kind.status]}{phase}, {time.monotonic() - started:.0f} s")
        session.sleep(pause)
        pause = min(_MAX_PAUSE, pause * _PAUSE_FACTOR)
    has_failed = description[kind.status] == "Failed"
    if kind.log_group and (all_lines or has_failed):
        _read_last_lines(session, log, on_line, wait=has_failed)
    return description


def describe_job(session: Session, kind: JobKind, name: str, progress: Progress) -> dict[str, Any]:
    """Return the description of a job; repeat a call that fails for a passing reason.

    Raises:
        DeploymentError: AWS does not return it.
    """
    failures = 0
    while True:
        try:
            return session.call("sagemaker", kind.describe, **{kind.name: name})
        except (AwsError, ConnectError) as error:
            is_passing = isinstance(error, ConnectError) or error.throttled or error.status >= _SERVER_ERROR
            if failures == _MAX_FAILURES or not is_passing:
                raise DeploymentError(
                    f"cannot read the status of {kind.noun} {name}; it may still be running: {error}"
                ) from error
            progress.detail(f"no response: {error}")
        session.sleep(_FIRST_PAUSE * 2**failures)
        failures += 1


def _read_last_lines(session: Session, log: LogTail, on_line: Callable[[str], None], *, wait: bool) -> None:
    """Read the lines that come after the end, until there are no more; with ``wait`` the first ones may be late."""
    have_come = not wait
    for _ in range(_LAST_READS):
        session.sleep(_LAST_PAUSE)
        lines = list(log.read_new())
        for line in lines:
            on_line(line)
        if have_come and not lines:
            return
        have_come = have_come or bool(lines)
