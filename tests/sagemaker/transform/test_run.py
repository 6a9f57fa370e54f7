"""A transform job on SageMaker: planned and checked without a call, submitted, watched, its result read, stopped."""

from __future__ import annotations

import datetime as dt
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.recorded_progress import RecordedProgress
from tritonforge.errors import DefinitionError, DeploymentError, RequestError
from tritonforge.sagemaker.client import Session
from tritonforge.sagemaker.endpoints import Deployment
from tritonforge.sagemaker.jobs import kinds, lifecycle
from tritonforge.sagemaker.jobs.transform import TransformRun, plan_transform
from tritonforge.sagemaker.limits import check_limits
from tritonforge.sagemaker.plans.plan import Progress
from tritonforge.transform import Resources, TransformInput, TransformJob, TransformOutput

pytestmark = pytest.mark.process

CONFIG = """
name: "echo"
backend: "python"
input { name: "x" data_type: TYPE_FP32 dims: [ 1 ] }
output { name: "y" data_type: TYPE_FP32 dims: [ 1 ] }
"""


@pytest.fixture
def session(account: Any) -> Iterator[Session]:
    """A session with the emulator."""
    with Session(region_name="us-east-1", endpoint_url=account.emulator.url) as made:
        yield made


def prepare(
    account: Any,
    session: Session,
    name: str,
    objects: dict[str, bytes],
    *,
    progress: Progress | None = None,
    **changes: Any,
) -> TransformRun:
    """Return a job NAME from NAME/in/ to NAME/out with a model that exists."""
    account.put({f"{name}/in/{key}": body for key, body in objects.items()})
    account.create_model(name)
    job = TransformJob.from_request(account.build_request(name, **changes))
    return TransformRun(job, name, session=session, progress=progress)


def test_a_job_is_planned_submitted_and_watched(account: Any, session: Session) -> None:
    """Status and seconds are shown, and the lines of SageMaker's own log."""
    progress = RecordedProgress()
    lines: list[str] = []
    with prepare(account, session, "watched", {"a": b"x"}, progress=progress, MaxPayloadInMB=2) as run:
        assert [step.operation for step in run.plan().steps] == ["CreateTransformJob"]
        assert run.submit() == "watched"
        run.watch(on_line=lines.append)
        result = run.result()
    assert (result.name, result.status, result.reason) == ("watched", "Completed", "")
    assert result.arn == "arn:aws:sagemaker:us-east-1:123456789012:transform-job/watched"
    assert result.seconds >= 0.0
    assert account.keys("watched/out/") == ["a.out"]
    assert progress.steps == ["look for model watched", "create transform job watched"]
    assert all(detail.startswith("InProgress") for detail in progress.details)


def test_a_failed_job_has_a_reason_and_its_last_lines(account: Any, session: Session) -> None:
    """The lines come after the status."""
    objects, client = {"a": b"x", "b": b"refuse"}, {"InvocationsMaxRetries": 0}
    lines: list[str] = []
    with prepare(account, session, "failed", objects, ModelClientConfig=client) as run:
        run.submit()
        run.watch(on_line=lines.append)
        result = run.result()
    assert result.status == "Failed"
    assert result.reason.startswith("ClientError: See job logs for more information")
    assert sum("MaxConcurrentTransforms=1" in line for line in lines) == 1
    assert sum("this is not a record" in line for line in lines) == 1


def test_lines_that_come_after_the_status_are_waited_for(
    account: Any, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CloudWatch has the lines of a failure later than DescribeTransformJob has its reason."""
    reads = iter([[], ["the cause"], ["its last line"], []])
    lines: list[str] = []
    client = {"InvocationsMaxRetries": 0}
    with prepare(account, session, "late-lines", {"a": b"break"}, ModelClientConfig=client) as run:
        run.submit()
        account.wait_for_end("late-lines")
        monkeypatch.setattr(lifecycle.LogTail, "read_new", lambda _: next(reads))
        monkeypatch.setattr(session, "sleep", lambda seconds: None)
        run.watch(on_line=lines.append)
    assert lines == ["the cause", "its last line"]


def test_a_job_is_stopped_once(account: Any, session: Session) -> None:
    account.containers.gate.clear()
    with prepare(account, session, "interrupted", {"a": b"wait"}) as run:
        try:
            run.submit()
            assert run.stop() is True
        finally:
            account.containers.gate.set()
        assert run.result().status == "Stopped"
        assert run.stop() is False
    other = prepare(account, session, "never-submitted", {"a": b"x"})
    with other, pytest.raises(DeploymentError, match="Requested resource not found"):
        other.stop()


def test_every_field_is_checked_before_the_job_is_created(account: Any, session: Session) -> None:
    """The service model's constraints and the documented limits, all at once."""
    account.create_model("wrong-job")
    wrong = TransformJob(
        name="a_b",
        input=TransformInput(uri="s3://b/in/"),
        output=TransformOutput(uri="s3://b/out", accept="x" * 257),
        max_payload_in_mb=50,
        max_concurrent_transforms=3,
        environment={f"A{number}": "" for number in range(17)},
        resources=Resources(instance_type="ml.none.large", instance_count=101),
    )
    with TransformRun(wrong, "wrong-job", session=session) as run, pytest.raises(RequestError) as caught:
        run.plan()
    text = str(caught.value)
    for place in ("TransformJobName", "Accept", "InstanceType", "InstanceCount", "Environment", "= 150"):
        assert place in text
    assert text.count("\n") == 6


def test_a_job_whose_response_was_lost_is_recognized(account: Any, session: Session) -> None:
    """A second call reports that the name is taken: by the requested job, or by another one."""
    run = prepare(account, session, "lost", {"a": b"x"})
    for job in (run.job, run.job):
        assert TransformRun(job, "lost", session=session).submit() == "lost"
    other = TransformRun(replace(run.job, max_payload_in_mb=3), "lost", session=session)
    with other, pytest.raises(DeploymentError, match="ResourceInUse"):
        other.submit()


def test_a_model_that_appears_late(account: Any, session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """SageMaker reads its tables late: the job is created again until its model is visible."""
    monkeypatch.setattr(session, "sleep", lambda seconds: time.sleep(min(seconds / 10, 0.5)))
    with prepare(account, session, "late", {"a": b"x"}) as run:
        run.plan()
        account.sagemaker.delete_model(ModelName="late")
        timer = threading.Timer(0.3, account.create_model, ["late"])
        timer.start()
        assert run.submit() == "late"
        timer.join()
    with prepare(account, session, "never", {"a": b"x"}) as run:
        run.plan()
        account.sagemaker.delete_model(ModelName="never")
        with pytest.raises(DeploymentError, match="Could not find model"):
            run.submit()


def test_a_repository_becomes_archive_model_and_job(account: Any, session: Session, tmp_path: Path) -> None:
    """A first plan uploads and creates, a second one only creates its job; neither creates an endpoint."""
    repository = tmp_path / "echo-repository"
    (repository / "echo" / "1").mkdir(parents=True)
    (repository / "echo" / "config.pbtxt").write_text(CONFIG)
    (repository / "echo" / "1" / "model.py").write_text("# a model\n")
    account.put({"planned/in/a": b"x"})
    job = TransformJob(
        input=TransformInput(uri=f"s3://{account.bucket}/planned/in/"),
        output=TransformOutput(uri=f"s3://{account.bucket}/planned/out"),
    )
    deployment = Deployment(name="planned", image="24.09", execution_role_arn=account.emulator.role_arn)
    models = set()
    for name, operations in (
        ("planned-1", ["PutObject", "CreateModel", "CreateTransformJob"]),
        ("planned-2", ["CreateTransformJob"]),
    ):
        run = TransformRun(
            replace(job, name=name),
            repository,
            session=session,
            deployment=deployment,
            instance_type="ml.c5.2xlarge",
            instance_count=2,
        )
        with run:
            assert [step.operation for step in run.plan().steps] == operations
            run.submit()
            assert run.result().status == "Completed"
        models.add(run.job.model_name)
        description = account.sagemaker.describe_transform_job(TransformJobName=name)
        assert description["TransformResources"] == {"InstanceType": "ml.c5.2xlarge", "InstanceCount": 2}
    (model_name,) = models
    assert model_name.startswith("planned-")
    model = account.sagemaker.describe_model(ModelName=model_name)
    assert model["PrimaryContainer"]["Image"].endswith("sagemaker-tritonserver:24.09-py3-cpu")
    assert account.sagemaker.list_endpoints()["Endpoints"] == []
    assert account.sagemaker.list_endpoint_configs()["EndpointConfigs"] == []


def test_local_data_and_multi_model_deployments_are_rejected(account: Any, session: Session) -> None:
    local = TransformJob(input=TransformInput(uri="pictures/"), output=TransformOutput(uri="s3://b/out"))
    with pytest.raises(DefinitionError, match="input pictures/: SageMaker reads and writes S3"):
        TransformRun(local, "model", session=session)
    several = Deployment(name="several", multi_model=True)
    job = TransformJob.from_request(account.build_request("n"))
    with pytest.raises(DefinitionError, match="one archive"):
        plan_transform(job, several, {}, None)  # type: ignore[arg-type]  # it is not read


def test_names_of_jobs() -> None:
    """A name has up to 63 characters that SageMaker accepts."""
    now = dt.datetime(2026, 1, 2, 3, 4, 5, 6000)
    assert kinds.build_job_name("a" * 80, now) == "a" * 39 + "-2026-01-02-03-04-05-006"
    assert kinds.build_job_name("_x__y_", now) == "x-y-2026-01-02-03-04-05-006"
    assert kinds.build_job_name("___", now) == "transform-2026-01-02-03-04-05-006"


@pytest.mark.parametrize("count", [100, 101])
def test_instances_have_a_limit(account: Any, count: int) -> None:
    request = account.build_request("n", TransformResources={"InstanceType": "ml.m5.xlarge", "InstanceCount": count})
    violations = check_limits("CreateTransformJob", request)
    assert [violation.place for violation in violations] == ["TransformResources.InstanceCount"] * (count > 100)
