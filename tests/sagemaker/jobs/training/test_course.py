"""A training job on SageMaker from this side: created, watched with its metrics and log, read back, stopped."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import pytest

from tests.sagemaker.endpoints.running import Told
from tests.sagemaker.jobs.training.jobs import channel, job, pictures
from tests.sagemaker.jobs.training.running import create, learn, planned
from tests.sagemaker.training.conftest import IMAGE, Account
from tests.support.fakes import FakeTrainer
from tritonforge.errors import DeploymentError
from tritonforge.sagemaker.client import Session
from tritonforge.sagemaker.jobs import polling
from tritonforge.sagemaker.jobs.training import lifecycle
from tritonforge.sagemaker.plans.plan import SilentProgress
from tritonforge.training.job import Outcome, TrainingJob

LOSS = {"Name": "loss", "Regex": r"loss=([0-9.]+)"}


@pytest.fixture
def wanted(desk: Account, name: str, tmp_path: Path) -> TrainingJob:
    """A job over a folder of this machine."""
    folder = pictures(tmp_path / "data", "a.jpg", "b.jpg", f"{name}.txt")
    return job(
        name,
        channel("training", folder),
        RoleArn=desk.emulator.role_arn,
        AlgorithmSpecification={"TrainingImage": IMAGE, "TrainingInputMode": "File", "MetricDefinitions": [LOSS]},
        HyperParameters={"epochs": "3"},
        OutputDataConfig={"S3OutputPath": f"s3://{desk.bucket}/out"},
    )


def test_a_job_comes_to_its_end_and_its_model_here(
    desk: Account, session: Session, wanted: TrainingJob, tmp_path: Path
) -> None:
    """Phases, metrics and lines are told as they come; the archive is what the job left."""
    told = Told()
    phases: list[tuple[str, str]] = []
    metrics: list[tuple[str, float]] = []
    lines: list[str] = []
    learn(session, wanted, progress=told)
    ended = lifecycle.watch(
        session,
        wanted.name,
        progress=told,
        line=lines.append,
        phase=lambda status, message: phases.append((status, message)),
        metric=lambda name, value: metrics.append((name, value)),
    )
    assert (ended.name, ended.status, ended.secondary, ended.reason) == (wanted.name, "Completed", "Completed", "")
    assert ended.arn == f"arn:aws:sagemaker:us-east-1:123456789012:training-job/{wanted.name}"
    assert [status for status, _ in phases] == ["Starting", "Downloading", "Training", "Uploading", "Completed"]
    assert all(message for _, message in phases)
    assert metrics == [("loss", 0.5)] == list(ended.metrics.items())
    assert lines == list(ended.lines) == [f"a stand-in for counter trains {ended.arn}"]
    assert [each.partition(" s3://")[0] for each in told.begun] == [
        "upload data of channel training",
        f"create training job {wanted.name}",
    ]
    assert ended.artifact == f"s3://{desk.bucket}/out/{wanted.name}/output/model.tar.gz"
    path = tmp_path / "here" / "model.tar.gz"
    assert lifecycle.download(session, ended.artifact, path, progress=SilentProgress()) == (path,)
    with tarfile.open(path) as archive:
        content = archive.extractfile("model.json")
        assert content is not None
        assert json.load(content) == {"epochs": "3"}
    with pytest.raises(DeploymentError, match="the model is not there"):
        lifecycle.download(session, f"{ended.artifact}.absent", path, progress=SilentProgress())


def test_a_second_job_sends_nothing_again(session: Session, wanted: TrainingJob) -> None:
    """Only the job is new."""
    learn(session, wanted)
    assert [step.operation for step in planned(session, wanted).steps] == ["CreateTrainingJob"]


def test_a_failure_is_read_back(
    session: Session, wanted: TrainingJob, trainer: FakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FailureReason, and the log's last lines; there is no model, although AWS tells an address."""
    monkeypatch.setattr(trainer, "ends", lambda _: Outcome(state="Failed", failure="no labels", exit_code=1))
    ended = learn(session, wanted)
    assert (ended.status, ended.artifact) == ("Failed", None)
    assert "no labels" in ended.reason
    assert len(ended.lines) == 1


def test_lines_that_come_after_the_end_are_waited_for(
    session: Session, wanted: TrainingJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CloudWatch has the last lines later than DescribeTrainingJob has the end; their metrics count."""
    looks = iter([[], ["epoch 1 loss=0.25"], ["loss=0.125"], []])

    class Late:
        def __init__(self, *_: Any, **__: Any) -> None:
            """As `Lines`."""

        def new(self) -> list[str]:
            """Nothing at first."""
            return next(looks)

    learn(session, wanted)
    monkeypatch.setattr(lifecycle, "Lines", Late)
    monkeypatch.setattr(polling, "_LAST_PAUSE", 0.0)
    metrics: list[float] = []
    ended = lifecycle.watch(
        session, wanted.name, progress=SilentProgress(), metric=lambda _, value: metrics.append(value)
    )
    assert ended.lines == ("epoch 1 loss=0.25", "loss=0.125")
    assert metrics == [0.5, 0.25, 0.125, 0.5]  # the first and the last are AWS's own


@pytest.mark.parametrize(("state", "told"), [("Failed", ("why it failed",)), ("Completed", ())])
def test_the_last_lines_of_a_failure_are_waited_for_longer(
    session: Session,
    wanted: TrainingJob,
    trainer: FakeTrainer,
    monkeypatch: pytest.MonkeyPatch,
    state: Literal["Failed", "Completed"],
    told: tuple[str, ...],
) -> None:
    """They say why it failed; a job that completed has nothing so important to tell."""
    looks = iter([[], [], ["why it failed"], []])
    late = SimpleNamespace(new=lambda: next(looks))
    monkeypatch.setattr(trainer, "ends", lambda _: Outcome(state=state, failure="", exit_code=int(state == "Failed")))
    learn(session, wanted)
    monkeypatch.setattr(lifecycle, "Lines", lambda *_: late)
    monkeypatch.setattr(polling, "_LAST_PAUSE", 0.0)
    assert lifecycle.watch(session, wanted.name, progress=SilentProgress()).lines == told


def test_a_job_is_stopped_once(desk: Account, session: Session, wanted: TrainingJob, gate: Any) -> None:
    """Stopping a job that has ended is no error; one that was stopped may have left a model."""
    gate.clear()
    create(session, wanted, progress=SilentProgress())
    desk.until(wanted.name, lambda found: found["SecondaryStatus"] == "Training")
    assert lifecycle.stop(session, wanted.name) is True
    ended = lifecycle.watch(session, wanted.name, progress=SilentProgress())
    assert (ended.status, ended.reason) == ("Stopped", "")
    assert ended.artifact is not None
    assert lifecycle.stop(session, wanted.name) is False
    with pytest.raises(DeploymentError, match="not found"):
        lifecycle.stop(session, "never-there")


def test_a_job_that_was_stopped_by_its_own_limit_says_so(
    session: Session, wanted: TrainingJob, trainer: FakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The status is Stopped as well; the secondary one tells them apart, and nothing was left."""
    monkeypatch.setattr(trainer, "ends", lambda _: Outcome(state="Stopped", stop_reason="MaxRuntimeExceeded"))
    ended = learn(session, wanted)
    assert (ended.status, ended.secondary) == ("Stopped", "MaxRuntimeExceeded")
    assert ended.reason.startswith("MaxRuntimeExceeded: ")
    assert ended.artifact is None


def test_a_job_whose_answer_was_lost_is_found_again(session: Session, wanted: TrainingJob) -> None:
    """The name is taken by the very job that was asked for; a job that differs is not taken for it."""
    first = learn(session, wanted)
    assert learn(session, wanted).arn == first.arn
    request = {**wanted.to_request(), "HyperParameters": {"epochs": "4"}}
    with pytest.raises(DeploymentError, match="ResourceInUse"):
        learn(session, TrainingJob.from_request(request))


def test_a_file_that_changes_under_the_plan_is_noticed(session: Session, wanted: TrainingJob, tmp_path: Path) -> None:
    """What goes up is what was planned, or nothing."""

    class Change(Told):
        def begin(self, what: str) -> None:
            """Change a file when the upload begins."""
            super().begin(what)
            (tmp_path / "data" / "a.jpg").write_bytes(b"other")

    with pytest.raises(DeploymentError, match="it has changed since the plan was made"):
        learn(session, wanted, progress=Change())


def test_a_model_of_files_comes_as_a_folder(desk: Account, session: Session, tmp_path: Path) -> None:
    """OutputDataConfig.CompressionType NONE leaves files below a prefix."""
    desk.put({"plain/model/a": b"1", "plain/model/b/c": b"2"})
    found = lifecycle.download(session, f"s3://{desk.bucket}/plain/model/", tmp_path / "m", progress=SilentProgress())
    assert sorted(found) == [tmp_path / "m/a", tmp_path / "m/b/c"]
    assert (tmp_path / "m/b/c").read_bytes() == b"2"
    with pytest.raises(DeploymentError, match="there are no files of the model"):
        lifecycle.download(session, f"s3://{desk.bucket}/plain/none/", tmp_path / "m", progress=SilentProgress())


def test_spot_instances_that_are_taken_away_and_given_again() -> None:
    """Every transition is told, also a status that comes twice; so are messages that change in place."""
    phases: list[tuple[str, str]] = []
    watched = lifecycle._Watched(lambda _: None, lambda *now: phases.append(now), lambda *_: None)

    def seen(*transitions: tuple[str, str]) -> Mapping[str, Any]:
        told = [{"Status": status, "StatusMessage": message} for status, message in transitions]
        return {"SecondaryStatus": transitions[-1][0], "SecondaryStatusTransitions": told}

    starting, training, interrupted = ("Starting", "a"), ("Training", "b"), ("Interrupted", "taken away")
    assert watched.described(seen(starting)) == ", Starting"
    watched.described(seen(("Starting", "a, still")))
    watched.described(seen(starting, training, interrupted, starting, training))
    assert phases == [starting, ("Starting", "a, still"), starting, training, interrupted, starting, training]


def test_metrics_of_an_algorithm_without_definitions_are_those_that_aws_tells() -> None:
    """AWS's own algorithms log in ways of theirs; FinalMetricDataList has the values as they come."""
    metrics: list[tuple[str, float]] = []
    watched = lifecycle._Watched(lambda _: None, lambda *_: None, lambda *now: metrics.append(now))
    for value in (0.5, 0.5, 0.25):
        shown = watched.described(
            {"SecondaryStatus": "Training", "FinalMetricDataList": [{"MetricName": "mAP", "Value": value}]}
        )
    assert metrics == [("mAP", 0.5), ("mAP", 0.25)]
    assert shown == ", Training, mAP 0.25"
