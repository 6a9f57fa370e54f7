"""Faults on the way to AWS: they are got over, or end in one clear error, and nothing is left half done."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.accounts import COUNTER_IMAGE, TrainingAccount
from tests.support.aws_faults import FAULTS, Faults, fresh, shorten_retries
from tests.support.small_parts import PART
from tests.support.stopped_runs import small_parts
from tests.support.training_requests import channel, job, pictures
from tests.support.training_runs import list_bucket_contents, plan, train
from tritonforge.errors import ConnectError, DeploymentError
from tritonforge.sagemaker.client import Session
from tritonforge.sagemaker.jobs.training_plan import DATA
from tritonforge.training.job import TrainingJob

pytestmark = pytest.mark.process


@pytest.fixture(autouse=True)
def _no_pauses() -> Iterator[None]:
    with shorten_retries():
        yield


@pytest.fixture(scope="module", autouse=True)
def _parts() -> Iterator[None]:
    """Uploads go in small parts."""
    with small_parts():
        yield


@pytest.fixture
def wanted(desk: TrainingAccount, name: str, tmp_path: Path) -> TrainingJob:
    """A job over data that go up in parts."""
    folder = pictures(tmp_path / "data", "a.jpg", name)
    (folder / "large").write_bytes(name.encode() * ((PART + 1000) // len(name) + 1))
    return job(
        name,
        channel("training", folder),
        RoleArn=desk.emulator.role_arn,
        AlgorithmSpecification={"TrainingImage": COUNTER_IMAGE, "TrainingInputMode": "File"},
        OutputDataConfig={"S3OutputPath": f"s3://{desk.bucket}/out"},
    )


@pytest.mark.parametrize("kind", sorted(FAULTS))
def test_one_fault_at_each_third_call_is_got_over(session: Session, wanted: TrainingJob, kind: str) -> None:
    """The run is the same as without."""
    with fresh(session) as faulty:
        faults = Faults(faulty, kind, every=3)
        assert train(faulty, wanted).status == "Completed"
        assert faults.sent > 15
    made = plan(session, wanted)
    assert [step.operation for step in made.steps] == ["CreateTrainingJob"]
    left = list_bucket_contents(session, f"{DATA}channels/{made.digests['training']}/")
    assert (len(left["objects"]), len(left["uploads"])) == (3, 0)


@pytest.mark.parametrize(
    ("operation", "kind", "reported"),
    [
        ("PutObject", "internal error", "PutObject"),
        ("UploadPart", "reset", "PutObject"),
        ("CompleteMultipartUpload", "timed out", "PutObject"),
        ("CreateTrainingJob", "throttled", "CreateTrainingJob"),
        ("CreateTrainingJob", "internal error", "CreateTrainingJob"),
        ("ListObjectsV2", "no connection", "ListObjectsV2"),
        ("DescribeTrainingJob", "internal error", "it may still be running"),
    ],
)
def test_a_call_that_always_fails_is_one_error_and_the_next_run_goes_on(
    session: Session, wanted: TrainingJob, operation: str, kind: str, reported: str
) -> None:
    """The error names the call; no half upload is left; another run ends well."""
    with fresh(session) as faulty:
        Faults(faulty, kind, always=operation)
        with pytest.raises((DeploymentError, ConnectError), match=reported):
            train(faulty, wanted)
    assert list_bucket_contents(session, DATA)["uploads"] == []
    assert train(session, wanted).status == "Completed"


def test_a_log_that_cannot_be_read_costs_the_job_nothing(session: Session, wanted: TrainingJob) -> None:
    """It is a help beside the status."""
    with fresh(session) as faulty:
        Faults(faulty, "throttled", always="DescribeLogStreams")
        ended = train(faulty, wanted)
    assert (ended.status, ended.lines) == ("Completed", ())
