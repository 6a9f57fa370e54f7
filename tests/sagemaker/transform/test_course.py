"""A job on SageMaker from this side: planned and checked without a call, created, watched, read back, stopped."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tritonforge.errors import DefinitionError, DeploymentError, RequestError
from tritonforge.sagemaker.client import Session
from tritonforge.sagemaker.endpoints import Deployment
from tritonforge.sagemaker.endpoints.local_repository import open_repository
from tritonforge.sagemaker.endpoints.observation import observe
from tritonforge.sagemaker.jobs import creation, naming, polling
from tritonforge.sagemaker.jobs.transform import lifecycle, planning
from tritonforge.sagemaker.limits import check_limits
from tritonforge.sagemaker.plans.plan import SilentProgress
from tritonforge.transform import Resources, TransformInput, TransformJob, TransformOutput

CONFIG = """
name: "echo"
backend: "python"
input { name: "x" data_type: TYPE_FP32 dims: [ 1 ] }
output { name: "y" data_type: TYPE_FP32 dims: [ 1 ] }
"""


class Told(SilentProgress):
    """What progress was told."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.details: list[str] = []

    def begin(self, what: str) -> None:
        """A step."""
        self.begun.append(what)

    def detail(self, text: str) -> None:
        """Where it is at."""
        self.details.append(text)


@pytest.fixture
def session(account: Any) -> Iterator[Session]:
    """A session with the emulator."""
    with Session(region_name="us-east-1", endpoint_url=account.emulator.url) as made:
        yield made


def job(account: Any, name: str, **changes: Any) -> TransformJob:
    """A job NAME from NAME/in/ to NAME/out."""
    return TransformJob.from_request(account.request(name, **changes))


def created(account: Any, session: Session, name: str, objects: dict[str, bytes], **changes: Any) -> Told:
    """A job of a model that is there, created."""
    account.put({f"{name}/in/{key}": body for key, body in objects.items()})
    account.model(name)
    plan = planning.plan_existing(job(account, name, **changes), region="us-east-1", account="123456789012")
    told = Told()
    assert lifecycle.create(plan, session, materials={}, progress=told) == name
    return told


def test_a_job_comes_to_its_end(account: Any, session: Session) -> None:
    """Status and seconds are told, and the lines of SageMaker's own log as they come."""
    told = created(account, session, "watched", {"a": b"x"}, MaxPayloadInMB=2)
    lines: list[str] = []
    ended = lifecycle.watch(session, "watched", progress=told, line=lines.append)
    assert (ended.name, ended.status, ended.reason) == ("watched", "Completed", "")
    assert ended.arn == "arn:aws:sagemaker:us-east-1:123456789012:transform-job/watched"
    assert ended.seconds >= 0.0
    assert account.keys("watched/out/") == ["a.out"]
    assert told.begun == ["create transform job watched"]
    assert all(detail.startswith("InProgress") for detail in told.details)


def test_a_failure_is_read_back_with_its_lines(account: Any, session: Session) -> None:
    """FailureReason and the log's last lines, although they come after the status."""
    created(account, session, "failed", {"a": b"x", "b": b"refuse"}, ModelClientConfig={"InvocationsMaxRetries": 0})
    lines: list[str] = []
    ended = lifecycle.watch(session, "failed", progress=SilentProgress(), line=lines.append)
    assert ended.status == "Failed"
    assert ended.reason.startswith("ClientError: See job logs for more information")
    assert sum("MaxConcurrentTransforms=1" in line for line in lines) == 1
    assert sum("this is no record" in line for line in lines) == 1


def test_lines_that_come_after_the_status_are_waited_for(
    account: Any, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CloudWatch has the lines of a failure later than DescribeTransformJob has its reason."""
    looks = iter([[], ["the cause"], ["its last line"], []])

    class Late:
        def __init__(self, *_: Any, **__: Any) -> None:
            """As `Lines`."""

        def new(self) -> list[str]:
            """Nothing at first."""
            return next(looks)

    created(account, session, "late-lines", {"a": b"break"}, ModelClientConfig={"InvocationsMaxRetries": 0})
    account.ended("late-lines")
    monkeypatch.setattr(lifecycle, "Lines", Late)
    monkeypatch.setattr(polling, "_LAST_PAUSE", 0.0)
    lines: list[str] = []
    lifecycle.watch(session, "late-lines", progress=SilentProgress(), line=lines.append)
    assert lines == ["the cause", "its last line"]


def test_a_job_is_stopped_once(account: Any, session: Session) -> None:
    """Stopping a job that has ended is no error."""
    account.containers.gate.clear()
    try:
        created(account, session, "interrupted", {"a": b"wait"})
        assert lifecycle.stop(session, "interrupted") is True
    finally:
        account.containers.gate.set()
    assert lifecycle.watch(session, "interrupted", progress=SilentProgress()).status == "Stopped"
    assert lifecycle.stop(session, "interrupted") is False
    with pytest.raises(DeploymentError, match="Requested resource not found"):
        lifecycle.stop(session, "never-there")


def test_every_field_is_checked_before_any_call(account: Any) -> None:
    """The service model's constraints and the documented limits, all at once, with no session at all."""
    wrong = TransformJob(
        name="a_b",
        model_name="m",
        input=TransformInput(uri="s3://b/in/"),
        output=TransformOutput(uri="s3://b/out", accept="x" * 257),
        max_payload_in_mb=50,
        max_concurrent_transforms=3,
        environment={f"A{number}": "" for number in range(17)},
        resources=Resources(instance_type="ml.none.large", instance_count=101),
    )
    with pytest.raises(RequestError) as caught:
        lifecycle.check(planning.plan_existing(wrong, region="us-east-1", account="123456789012"))
    text = str(caught.value)
    for place in ("TransformJobName", "Accept", "InstanceType", "InstanceCount", "Environment", "= 150"):
        assert place in text
    assert text.count("\n") == 6


def test_the_other_requests_of_a_plan_are_checked_too(account: Any) -> None:
    """A model that AWS would refuse is told before anything is uploaded for it."""
    plan = planning.plan_existing(job(account, "n"), region="us-east-1", account="123456789012")
    request = {"ModelName": "a_b", "PrimaryContainer": {"Image": "i"}}
    model = replace(plan.steps[0], operation="CreateModel", kind="model", name="a_b", request=request)
    with pytest.raises(RequestError, match="CreateModel a_b: ModelName is 'a_b'"):
        lifecycle.check(replace(plan, steps=(model, *plan.steps)))


def test_a_job_whose_answer_was_lost_is_found_again(
    account: Any, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second call says that the name is taken: by the very job that was asked for; not by another one."""
    created(account, session, "lost", {"a": b"x"})
    again = planning.plan_existing(job(account, "lost"), region="us-east-1", account="123456789012")
    assert lifecycle.create(again, session, materials={}, progress=SilentProgress()) == "lost"
    other = planning.plan_existing(job(account, "lost", MaxPayloadInMB=3), region="us-east-1", account="123456789012")
    with pytest.raises(DeploymentError, match="ResourceInUse"):
        lifecycle.create(other, session, materials={}, progress=SilentProgress())


def test_a_model_that_appears_late(account: Any, session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """SageMaker reads its tables late: the job is tried again until its model is found."""
    monkeypatch.setattr(creation, "_PAUSES", (0.1, 0.3, 0.6, 1.0))
    account.put({"late/in/a": b"x"})
    timer = threading.Timer(0.3, account.model, ["late"])
    timer.start()
    plan = planning.plan_existing(job(account, "late"), region="us-east-1", account="123456789012")
    assert lifecycle.create(plan, session, materials={}, progress=SilentProgress()) == "late"
    timer.join()
    with pytest.raises(DeploymentError, match="Could not find model"):
        lifecycle.create(
            planning.plan_existing(job(account, "never"), region="us-east-1", account="123456789012"),
            session,
            materials={},
            progress=SilentProgress(),
        )


def test_a_repository_becomes_archive_model_and_job(account: Any, session: Session, tmp_path: Path) -> None:
    """A first plan uploads and creates, a second one only creates its job; no endpoint is made by either."""
    repository = tmp_path / "echo-repository"
    (repository / "echo" / "1").mkdir(parents=True)
    (repository / "echo" / "config.pbtxt").write_text(CONFIG)
    (repository / "echo" / "1" / "model.py").write_text("# a model\n")
    account.put({"planned/in/a": b"x"})
    wanted = planning.fleet_job(
        TransformJob(
            input=TransformInput(uri=f"s3://{account.bucket}/planned/in/"),
            output=TransformOutput(uri=f"s3://{account.bucket}/planned/out"),
        ),
        name="planned-1",
        instance_type="ml.c5.2xlarge",
        instance_count=2,
    )
    deployment = Deployment(name="planned", image="24.09", execution_role_arn=account.emulator.role_arn)
    with open_repository(repository) as material:

        def planned(one: TransformJob) -> tuple[Any, TransformJob]:
            seen = observe(session, name="planned", bucket=None, folder=deployment.folder)
            return planning.plan(one, deployment, {"": material.content}, seen)

        first, named = planned(wanted)
        assert [step.operation for step in first.steps] == ["PutObject", "CreateModel", "CreateTransformJob"]
        assert named.model_name.startswith("planned-")
        lifecycle.create(first, session, materials={"": material}, progress=SilentProgress())
        second, again = planned(TransformJob.from_request({**wanted.to_request(), "TransformJobName": "planned-2"}))
        assert [step.operation for step in second.steps] == ["CreateTransformJob"]
        assert again.model_name == named.model_name
        lifecycle.create(second, session, materials={"": material}, progress=SilentProgress())
    for name in ("planned-1", "planned-2"):
        assert lifecycle.watch(session, name, progress=SilentProgress()).status == "Completed"
        described = account.sagemaker.describe_transform_job(TransformJobName=name)
        assert described["TransformResources"] == {"InstanceType": "ml.c5.2xlarge", "InstanceCount": 2}
    model = account.sagemaker.describe_model(ModelName=named.model_name)
    assert model["PrimaryContainer"]["Image"].endswith("sagemaker-tritonserver:24.09-py3-cpu")
    assert account.sagemaker.list_endpoints()["Endpoints"] == []
    assert account.sagemaker.list_endpoint_configs()["EndpointConfigs"] == []


def test_what_cannot_be_planned(account: Any) -> None:
    """SageMaker reads S3 only, and takes one archive."""
    here = TransformJob(input=TransformInput(uri="pictures/"), output=TransformOutput(uri="s3://b/out"))
    with pytest.raises(DefinitionError, match="input pictures/: SageMaker reads and writes S3"):
        planning.fleet_job(here, name="n", instance_type="ml.m5.xlarge")
    several = Deployment(name="several", multi_model=True)
    with pytest.raises(DefinitionError, match="one archive"):
        planning.plan(job(account, "n"), several, {}, None)  # type: ignore[arg-type]  # it is not looked at


def test_names_of_jobs() -> None:
    """A name has 63 characters at most, of those that SageMaker takes."""
    now = dt.datetime(2026, 1, 2, 3, 4, 5, 6000)
    assert naming.job_name("a" * 80, now) == "a" * 39 + "-2026-01-02-03-04-05-006"
    assert naming.job_name("_x__y_", now) == "x-y-2026-01-02-03-04-05-006"
    assert naming.job_name("___", now) == "transform-2026-01-02-03-04-05-006"


@pytest.mark.parametrize("count", [100, 101])
def test_instances_have_a_limit(account: Any, count: int) -> None:
    """A hundred, and not one more."""
    request = account.request("n", TransformResources={"InstanceType": "ml.m5.xlarge", "InstanceCount": count})
    found = check_limits("CreateTransformJob", request)
    assert [each.place for each in found] == ["TransformResources.InstanceCount"] * (count > 100)
