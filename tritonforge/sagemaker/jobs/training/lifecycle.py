"""The course of a training job on SageMaker: checked before any call, created, watched to its end, stopped. An edge."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from tritonforge.errors import DeploymentError, TritonForgeError
from tritonforge.sagemaker.client.session import Session
from tritonforge.sagemaker.client.store import Store
from tritonforge.sagemaker.jobs import checking, creation, polling
from tritonforge.sagemaker.jobs.kinds import TRAINING
from tritonforge.sagemaker.jobs.log_tail import Lines
from tritonforge.sagemaker.jobs.training import uploading
from tritonforge.sagemaker.jobs.training.local_data import Material
from tritonforge.sagemaker.plans.executor import count_bytes, execute
from tritonforge.sagemaker.plans.plan import CheckedPlan, Plan, Progress
from tritonforge.training.job.engine import MetricReader
from tritonforge.training.job.rules import check_metric_regex
from tritonforge.training.job.training_job import MetricDefinition

__all__ = ["Ended", "check", "create", "download", "stop", "watch"]

#: Lines of the log that are kept for who asks how a job failed.
_LAST: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a job ended.

    ``status`` and ``secondary`` are AWS's, ``reason`` its words where the job did not complete. ``metrics`` are the
    last values, ``lines`` the last of the log. ``artifact`` is the model's address, None where there is none.
    ``seconds`` is how long it trained, ``billable`` what is paid for; with spot instances the second is smaller.
    """

    name: str
    arn: str
    status: str
    secondary: str
    reason: str
    metrics: Mapping[str, float]
    lines: tuple[str, ...]
    artifact: str | None
    seconds: float
    billable: float


def check(plan: Plan) -> CheckedPlan:
    """Hold every request of a plan against what AWS takes; calls nothing.

    Raises:
        RequestError: with everything that AWS would refuse, one a line.
        MissingExtraError: botocore, which carries the service models, is not installed.
    """
    return checking.check(plan, TRAINING)


def create(plan: Plan, session: Session, *, materials: Mapping[str, Material], progress: Progress) -> str:
    """Carry out a plan: the data that are missing go to S3, then the job is created; its name.

    Raises:
        RequestError: AWS would refuse a request; nothing was called.
        DeploymentError, ConnectError: AWS refused a call; what was done before it stays, and is not done again.
    """
    checked = check(plan)
    (job,) = (step for step in plan.steps if step.operation == TRAINING.create)
    execute(
        replace(checked, steps=tuple(step for step in plan.steps if step is not job)),
        session,
        upload=lambda step: uploading.upload(step, session, materials, account=plan.account, progress=progress),
        progress=progress,
    )
    progress.begin(f"create training job {job.name}")
    creation.send(session, TRAINING, job.name, job.request, late=lambda error: False)
    return job.name


def watch(
    session: Session,
    name: str,
    *,
    progress: Progress,
    line: Callable[[str], None] = lambda text: None,
    phase: Callable[[str, str], None] = lambda status, message: None,
    metric: Callable[[str, float], None] = lambda name, value: None,
) -> Ended:
    """Look at a job until it has ended.

    ``line`` is given the lines of its log as they come, ``phase`` its secondary status with AWS's message whenever one
    of the two changes, ``metric`` each new value: read off the log by the job's own definitions, and as AWS tells it.

    Raises:
        DeploymentError, ConnectError: AWS does not tell how the job is.
    """
    watched = _Watched(line, phase, metric)
    found = polling.until_ended(
        session,
        TRAINING,
        name,
        progress=progress,
        phase=watched.described,
        lines=Lines(session, TRAINING.group, name),
        line=watched.line,
        all_lines=True,
    )
    watched.told(found)
    status, secondary = str(found["TrainingJobStatus"]), str(found.get("SecondaryStatus", ""))
    return Ended(
        name=name,
        arn=str(found["TrainingJobArn"]),
        status=status,
        secondary=secondary,
        reason=_reason(found, status, secondary),
        metrics=dict(watched.metrics),
        lines=tuple(watched.lines),
        artifact=_artifact(session, found, status),
        seconds=float(found.get("TrainingTimeInSeconds") or 0.0),
        billable=float(found.get("BillableTimeInSeconds") or 0.0),
    )


def stop(session: Session, name: str) -> bool:
    """Ask SageMaker to stop a job; False where it had ended already.

    Raises:
        DeploymentError, ConnectError: AWS refused the call.
    """
    return polling.stop(session, TRAINING, name)


def download(session: Session, artifact: str, target: Path, *, progress: Progress) -> tuple[Path, ...]:
    """Bring the model here: an archive as the file ``target``, files that were left uncompressed below it.

    Raises:
        DeploymentError: there is nothing at the address.
        ConnectError, EncodeError: it cannot be read, or not be written here; a file appears when it is whole.
    """
    store = Store(session)
    if not artifact.endswith("/"):
        found = store.find(artifact)
        if found is None:
            raise DeploymentError(
                f"{artifact}: the model is not there; the program left none in /opt/ml/model, or it was removed since"
            )
        store.download(artifact, target, on_progress=count_bytes(progress, found.size))
        return (target,)
    objects = [each for each in store.list_objects(artifact) if not each.uri.endswith("/")]
    if not objects:
        raise DeploymentError(
            f"{artifact}: there are no files of the model; the program left none, or they were removed since"
        )
    told = count_bytes(progress, sum(each.size for each in objects))
    paths = [target / each.uri.removeprefix(artifact) for each in objects]
    for each, path in zip(objects, paths, strict=True):
        if ".." in path.parts:
            raise DeploymentError(f"{each.uri}: the file would lie outside of {target}; it is not fetched")
        store.download(each.uri, path, on_progress=told)
    return tuple(paths)


def _artifact(session: Session, found: Mapping[str, Any], status: str) -> str | None:
    """Where the model is. AWS tells it from the start; a job that was stopped may have left a model, or none."""
    uri = str((found.get("ModelArtifacts") or {}).get("S3ModelArtifacts") or "")
    if status == "Failed" or not uri:
        return None
    if status == "Stopped":
        with contextlib.suppress(TritonForgeError):  # who may not look there is told the address of what may be there
            if next(iter(Store(session).list_objects(uri)), None) is None:
                return None
    return uri


def _reason(found: Mapping[str, Any], status: str, secondary: str) -> str:
    """Why a job did not complete; of one that was stopped by its own limits the last message says it."""
    if status == "Failed":
        return str(found.get("FailureReason", ""))
    if status == "Stopped" and secondary != "Stopped":
        last: Mapping[str, Any] = (found.get("SecondaryStatusTransitions") or ({},))[-1]
        return f"{secondary}: {last.get('StatusMessage', '')}".rstrip(": ")
    return ""


class _Watched:
    """What was told of a job so far."""

    def __init__(
        self,
        line: Callable[[str], None],
        phase: Callable[[str, str], None],
        metric: Callable[[str, float], None],
    ) -> None:
        self._line, self._phase, self._metric = line, phase, metric
        self._transitions: dict[int, tuple[str, str]] = {}
        self._reader: MetricReader | None = None
        self.metrics: dict[str, float] = {}
        self.lines: deque[str] = deque(maxlen=_LAST)

    def line(self, text: str) -> None:
        """A line of the log, and the values in it."""
        self.lines.append(text)
        for each in () if self._reader is None else self._reader.read(text, 0.0):
            self._tell(each.name, each.value)
        self._line(text)

    def described(self, found: Mapping[str, Any]) -> str:
        """The job as it is now; what is shown behind its status."""
        if self._reader is None:
            self._reader = _reader(found)
        for index, each in enumerate(found.get("SecondaryStatusTransitions") or ()):
            now = (str(each.get("Status", "")), str(each.get("StatusMessage", "")))
            if self._transitions.get(index) != now:
                self._transitions[index] = now
                self._phase(*now)
        if not self._reader.last:  # its log tells nothing, as that of AWS's own algorithms: AWS does
            self.told(found)
        values = ", ".join(f"{name} {value:g}" for name, value in self.metrics.items())
        return "".join(f", {each}" for each in (str(found.get("SecondaryStatus", "")), values) if each)

    def told(self, found: Mapping[str, Any]) -> None:
        """The last values as AWS keeps them, which win over those that were read off the log."""
        for each in found.get("FinalMetricDataList") or ():
            self._tell(str(each.get("MetricName", "")), float(each.get("Value", 0.0)))

    def _tell(self, name: str, value: float) -> None:
        if self.metrics.get(name) != value:
            self.metrics[name] = value
            self._metric(name, value)


def _reader(found: Mapping[str, Any]) -> MetricReader:
    definitions = (found.get("AlgorithmSpecification") or {}).get("MetricDefinitions") or ()
    return MetricReader(
        [
            MetricDefinition(name=str(each["Name"]), regex=str(each["Regex"]))
            for each in definitions
            if not check_metric_regex(str(each["Regex"]))
        ]
    )
