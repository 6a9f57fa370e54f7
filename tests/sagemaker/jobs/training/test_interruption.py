"""Runs that are stopped before and after their calls to AWS: the next run ends as if nothing had happened.

TRITONFORGE_KILLS=all stops them at every call instead of at every twelfth.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.accounts import COUNTER_IMAGE, TrainingAccount
from tests.support.small_parts import PART
from tests.support.stopped_runs import Stopper, small_parts, stop_at_calls
from tests.support.training_requests import channel, job, pictures
from tests.support.training_runs import create, list_bucket_contents, plan
from tritonforge.sagemaker.client import Session
from tritonforge.sagemaker.jobs.training_plan import DATA

pytestmark = pytest.mark.process

#: The calls that a run makes at least; were there fewer, the test would have stopped none of the writing ones.
LEAST = 11


@pytest.mark.parametrize("before", [True, False], ids=["before calls", "after calls"])
def test_a_run_that_is_stopped_anywhere(
    desk: TrainingAccount, session: Session, name: str, tmp_path: Path, before: bool
) -> None:
    """The data are there once and whole, no half upload is left, and there is one job of the name, Completed."""
    with small_parts(), Stopper() as stopper:

        def attempt(call: int) -> int | None:
            folder = pictures(tmp_path / f"{call}", "a.jpg", f"{name}-{call}")
            (folder / "large").write_bytes(bytes([call]) * (PART + 1000))
            wanted = job(
                f"{name}-{call}",
                channel("training", folder),
                RoleArn=desk.emulator.role_arn,
                AlgorithmSpecification={"TrainingImage": COUNTER_IMAGE, "TrainingInputMode": "File"},
                OutputDataConfig={"S3OutputPath": f"s3://{desk.bucket}/out"},
            )
            calls = stopper.run("train", wanted, call=call, before=before)
            create(session, wanted)
            assert desk.wait_for_end(wanted.name)["TrainingJobStatus"] == "Completed"
            made = plan(session, wanted)
            assert [step.operation for step in made.steps] == ["CreateTrainingJob"]
            below = f"{DATA}channels/{made.digests['training']}/"
            left = list_bucket_contents(session, below)
            assert sorted(left["objects"]) == sorted(below + item for item in ("a.jpg", "large", f"{name}-{call}"))
            assert left["uploads"] == []
            jobs = desk.sagemaker.list_training_jobs(NameContains=f"{name}-{call}")["TrainingJobSummaries"]
            assert [item["TrainingJobName"] for item in jobs].count(wanted.name) == 1
            return calls

        stop_at_calls(attempt, before=before, least=LEAST)
