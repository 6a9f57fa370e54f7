"""A training job on SageMaker: planned, submitted, watched with its metrics and log, its result and model read."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest

from tests.support.accounts import COUNTER_IMAGE, TrainingAccount
from tests.support.fakes import FakeTrainer
from tests.support.recorded_progress import RecordedProgress
from tests.support.training_requests import channel, job, pictures
from tests.support.training_runs import plan, train
from tritonforge.errors import DeploymentError
from tritonforge.sagemaker.client import Session
from tritonforge.sagemaker.jobs import lifecycle
from tritonforge.sagemaker.jobs.training import TrainingRun, _JobLog
from tritonforge.training.job import Outcome, TrainingJob

pytestmark = pytest.mark.process

LOSS = {"Name": "loss", "Regex": r"loss=([0-9.]+)"}


@pytest.fixture
def local_job(desk: TrainingAccount, name: str, tmp_path: Path) -> TrainingJob:
    """A job over a directory of this machine."""
    folder = pictures(tmp_path / "data", "a.jpg", "b.jpg", f"{name}.txt")
    return job(
        name,
        channel("training", folder),
        RoleArn=desk.emulator.role_arn,
        AlgorithmSpecification={
            "TrainingImage": COUNTER_IMAGE,
            "TrainingInputMode": "File",
            "MetricDefinitions": [LOSS],
        },
        HyperParameters={"epochs": "3"},
        OutputDataConfig={"S3OutputPath": f"s3://{desk.bucket}/out"},
    )


def test_a_job_is_planned_submitted_watched_and_its_model_downloaded(
    desk: TrainingAccount, session: Session, local_job: TrainingJob, tmp_path: Path
) -> None:
    progress = RecordedProgress()
    phases: list[tuple[str, str]] = []
    lines: list[str] = []
    target = tmp_path / "model"
    wanted = replace(local_job, output=replace(local_job.output, uri=str(target)))
    with TrainingRun(wanted, session=session, progress=progress) as run:
        assert [step.operation for step in run.plan().steps] == ["PutObject", "CreateTrainingJob"]
        assert run.submit() == run.name == local_job.name
        run.watch(on_line=lines.append, on_phase=lambda *phase: phases.append(phase))
        result = run.result()
        assert run.download() == target / "model.tar.gz"
    assert (result.name, result.status, result.secondary_status) == (local_job.name, "Completed", "Completed")
    assert (result.reason, result.has_exceeded_time) == ("", False)
    assert result.arn == f"arn:aws:sagemaker:us-east-1:123456789012:training-job/{local_job.name}"
    assert [status for status, _ in phases] == ["Starting", "Downloading", "Training", "Uploading", "Completed"]
    assert all(message for _, message in phases)
    assert result.metrics == {"loss": 0.5}
    assert lines == list(result.lines) == [f"a stand-in for counter trains {result.arn}"]
    assert [step.partition(" s3://")[0] for step in progress.steps] == [
        "read the local data",
        "read the state on AWS",
        "upload data of channel training",
        f"create training job {local_job.name}",
        "download",
    ]
    with tarfile.open(target / "model.tar.gz") as archive:
        content = archive.extractfile("model.json")
        assert content is not None
        assert json.load(content) == {"epochs": "3"}


def test_a_model_that_was_removed_is_an_error(
    desk: TrainingAccount, session: Session, local_job: TrainingJob, tmp_path: Path
) -> None:
    with TrainingRun(local_job, session=session) as run:
        run.submit()
        artifact = run.result().artifact
        assert artifact is not None
        desk.s3.delete_object(Bucket=desk.bucket, Key=artifact.removeprefix(f"s3://{desk.bucket}/"))
        run.target = tmp_path / "here"
        with pytest.raises(DeploymentError, match="no such object"):
            run.download()


def test_a_second_job_uploads_nothing(session: Session, local_job: TrainingJob) -> None:
    train(session, local_job)
    assert [step.operation for step in plan(session, local_job).steps] == ["CreateTrainingJob"]


def test_a_failed_job_has_a_reason_and_no_model(
    session: Session, local_job: TrainingJob, trainer: FakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "ends", lambda _: Outcome(state="Failed", failure="no labels", exit_code=1))
    result = train(session, local_job)
    assert (result.status, result.artifact) == ("Failed", None)
    assert "no labels" in result.reason
    assert len(result.lines) == 1


def patch_log(monkeypatch: pytest.MonkeyPatch, reads: Iterator[list[str]]) -> None:
    """Let the log have these lines, one list for each time it is read."""
    monkeypatch.setattr(lifecycle.LogTail, "read_new", lambda _: next(reads))


def test_lines_after_the_end_are_read_with_their_metrics(
    session: Session, local_job: TrainingJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CloudWatch has the last lines later than DescribeTrainingJob has the end; AWS's own metrics override them."""
    train(session, local_job)
    patch_log(monkeypatch, iter([[], ["epoch 1 loss=0.25"], ["loss=0.125"], []]))
    with TrainingRun(local_job, session=session) as run:
        run.watch()
        assert run._log.metrics == {"loss": 0.125}
        result = run.result()
    assert result.lines == ("epoch 1 loss=0.25", "loss=0.125")
    assert result.metrics == {"loss": 0.5}


@pytest.mark.parametrize(("state", "lines"), [("Failed", ("why it failed",)), ("Completed", ())])
def test_the_last_lines_of_a_failure_may_come_later(
    session: Session,
    local_job: TrainingJob,
    trainer: FakeTrainer,
    monkeypatch: pytest.MonkeyPatch,
    state: Literal["Failed", "Completed"],
    lines: tuple[str, ...],
) -> None:
    monkeypatch.setattr(trainer, "ends", lambda _: Outcome(state=state, failure="", exit_code=int(state == "Failed")))
    train(session, local_job)
    patch_log(monkeypatch, iter([[], [], ["why it failed"], []]))
    with TrainingRun(local_job, session=session) as run:
        assert run.result().lines == lines


def test_a_job_is_stopped_once(desk: TrainingAccount, session: Session, local_job: TrainingJob, gate: Any) -> None:
    gate.clear()
    with TrainingRun(local_job, session=session) as run:
        run.submit()
        desk.wait_for_job(local_job.name, lambda description: description["SecondaryStatus"] == "Training")
        assert run.stop() is True
        result = run.result()
        assert (result.status, result.reason, result.has_exceeded_time) == ("Stopped", "", False)
        assert result.artifact is not None
        assert run.stop() is False
    other = TrainingRun(replace(local_job, name="never-there"), session=session)
    with other, pytest.raises(DeploymentError, match="not found"):
        other.stop()


def test_a_job_that_exceeded_its_time_has_a_reason(
    session: Session, local_job: TrainingJob, trainer: FakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "ends", lambda _: Outcome(state="Stopped", stop_reason="MaxRuntimeExceeded"))
    result = train(session, local_job)
    assert (result.status, result.secondary_status, result.has_exceeded_time) == ("Stopped", "MaxRuntimeExceeded", True)
    assert result.reason.startswith("MaxRuntimeExceeded: ")
    assert result.artifact is None


def test_a_job_whose_response_was_lost_is_recognized(session: Session, local_job: TrainingJob) -> None:
    """The name is taken by the requested job; a job that differs is not recognized."""
    first = train(session, local_job)
    assert train(session, local_job).arn == first.arn
    request = {**local_job.to_request(), "HyperParameters": {"epochs": "4"}}
    with pytest.raises(DeploymentError, match="ResourceInUse"):
        train(session, TrainingJob.from_request(request))


def test_a_file_that_changes_after_the_plan_is_an_error(
    session: Session, local_job: TrainingJob, tmp_path: Path
) -> None:
    with TrainingRun(local_job, session=session) as run:
        run.plan()
        (tmp_path / "data" / "a.jpg").write_bytes(b"other")
        with pytest.raises(DeploymentError, match="changed since the plan was made"):
            run.submit()


def test_a_model_of_files_is_downloaded_as_a_directory(
    desk: TrainingAccount, session: Session, local_job: TrainingJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OutputDataConfig.CompressionType NONE leaves files below a prefix."""
    desk.put({"plain/model/a": b"1", "plain/model/b/c": b"2"})
    with TrainingRun(local_job, session=session) as run:
        run.submit()
        result = run.result()
        run.target = tmp_path / "m"
        monkeypatch.setattr(run, "result", lambda: replace(result, artifact=f"s3://{desk.bucket}/plain/model/"))
        assert run.download() == tmp_path / "m"
        assert (tmp_path / "m/a").read_bytes() == b"1"
        assert (tmp_path / "m/b/c").read_bytes() == b"2"
        monkeypatch.setattr(run, "result", lambda: replace(result, artifact=f"s3://{desk.bucket}/plain/none/"))
        with pytest.raises(DeploymentError, match="no objects"):
            run.download()


def describe(*transitions: tuple[str, str]) -> Mapping[str, Any]:
    """Return a description with these transitions."""
    members = [{"Status": status, "StatusMessage": message} for status, message in transitions]
    return {"SecondaryStatus": transitions[-1][0], "SecondaryStatusTransitions": members}


def test_every_transition_of_spot_instances_is_reported() -> None:
    """Also a status that comes twice and a message that changes."""
    phases: list[tuple[str, str]] = []
    log = _JobLog()

    def read(*transitions: tuple[str, str]) -> str:
        return log.read_description(describe(*transitions), lambda *phase: phases.append(phase))

    starting, training, interrupted = ("Starting", "a"), ("Training", "b"), ("Interrupted", "reclaimed")
    assert read(starting) == ", Starting"
    read(("Starting", "a, still"))
    read(starting, training, interrupted, starting, training)
    assert phases == [starting, ("Starting", "a, still"), starting, training, interrupted, starting, training]


def test_metrics_of_an_algorithm_without_definitions_are_those_of_aws() -> None:
    log = _JobLog()
    for value in (0.5, 0.25):
        description = {"SecondaryStatus": "Training", "FinalMetricDataList": [{"MetricName": "mAP", "Value": value}]}
        assert log.read_description(description, lambda *_: None) == f", Training, mAP {value}"
