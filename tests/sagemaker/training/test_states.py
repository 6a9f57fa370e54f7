"""The life of a training job, and of what is validated, as values: which status follows which."""

from __future__ import annotations

import itertools

import pytest

from tritonforge.emulator.control import job_runner, model_registry, training_states
from tritonforge.emulator.control.api_errors import ApiError
from tritonforge.emulator.control.records import RegistryEntry, TrainingRecord, from_json, to_json


def job(*, began: float | None = None) -> TrainingRecord:
    """A job as it was created, at 100."""
    made = training_states.create("j", "arn", 100.0, request={"a": 1}, image="i", algorithm={}, tags=(("k", "v"),))
    return (
        made if began is None else training_states.enter_phase(job_runner.mark_started(made, began), "Training", began)
    )


def test_secondary_statuses_follow_one_another() -> None:
    """Each ends when the next begins; one that is there already is not begun twice."""
    found = training_states.enter_phase(training_states.enter_phase(job(), "Downloading", 101.0), "Downloading", 102.0)
    found = training_states.complete(training_states.enter_phase(found, "Training", 103.0), 109.0)
    assert [phase.status for phase in found.phases] == ["Starting", "Downloading", "Training", "Completed"]
    assert all(one.until == other.since for one, other in itertools.pairwise(found.phases))
    assert found.phases[-1].until == 109.0
    assert (found.status, found.secondary, found.ended, found.modified) == ("Completed", "Completed", 109.0, 109.0)


def test_a_clock_that_goes_back_gives_no_negative_phase() -> None:
    """The clock of a machine may be set back while a job is under way."""
    found = training_states.enter_phase(job(), "Training", 90.0)
    assert found.phases[0].until == 100.0


def test_a_stopping_job_has_no_further_phase() -> None:
    found = training_states.enter_phase(training_states.begin_stop(job(began=101.0), 102.0), "Uploading", 103.0)
    assert (found.status, found.secondary) == ("Stopping", "Stopping")
    found = training_states.stop(found, 104.0)
    assert (found.status, found.secondary) == ("Stopped", "Stopped")


@pytest.mark.parametrize("end", ["Completed", "Failed", "Stopped"])
def test_an_ended_job_does_not_change(end: str) -> None:
    """It cannot be stopped any more, nor end twice."""
    to = {
        "Completed": training_states.complete,
        "Failed": lambda found, now: training_states.fail(found, "r", now),
        "Stopped": training_states.stop,
    }
    ended = to[end](job(), 101.0)
    with pytest.raises(ApiError, match=f"the training job is in status {end}"):
        training_states.begin_stop(ended, 102.0)
    for value in to.values():
        with pytest.raises(ValueError, match="does not go from"):
            value(ended, 102.0)


def test_what_is_billed_is_the_time_at_work() -> None:
    """Training time runs from the start of work to the end; what was interrupted and started again is not billed."""
    found = training_states.mark_restarted(job(began=101.0), 110.0)
    assert [phase.status for phase in found.phases] == ["Starting", "Training", "Interrupted", "Starting"]
    found = training_states.complete(
        training_states.enter_phase(job_runner.mark_started(found, 130.0), "Training", 130.0), 140.0
    )
    assert training_states.count_seconds(found) == (39, 19)
    assert training_states.count_seconds(job(began=101.0)) is None
    assert training_states.count_seconds(training_states.fail(job(), "r", 140.0)) is None
    assert training_states.count_seconds(training_states.complete(job(began=101.0), 101.1)) == (1, 1)


def test_a_job_that_did_not_begin_is_not_interrupted() -> None:
    """After a restart it is Starting as before."""
    assert training_states.mark_restarted(job(), 110.0) == job()
    stopping = training_states.begin_stop(job(began=101.0), 102.0)
    assert training_states.mark_restarted(stopping, 110.0) == stopping


def test_the_last_value_of_a_metric_is_kept() -> None:
    """FinalMetricDataList has one entry a metric."""
    found = training_states.record_metric(
        training_states.record_metric(training_states.record_metric(job(), "a", 1.0, 101.0), "b", 2.0, 102.0),
        "a",
        3.0,
        103.0,
    )
    assert {metric["MetricName"]: metric["Value"] for metric in found.metrics} == {"a": 3.0, "b": 2.0}
    assert len(found.metrics) == 2


def test_a_long_reason_is_cut() -> None:
    """FailureReason has 1024 characters at most."""
    reason = training_states.fail(job(), "x" * 2000, 101.0).failure
    assert (len(reason), reason[-5:]) == (1024, "x ...")


def test_documents_come_back_as_they_were() -> None:
    """What the store writes is what it reads."""
    found = training_states.record_metric(job(began=101.0), "a", 1.0, 101.0)
    assert from_json(TrainingRecord, to_json(found)) == found
    made = RegistryEntry(
        name="g/1", arn="a", created=1.0, modified=1.0, status="Pending", request={}, group="g", version=1
    )
    assert from_json(RegistryEntry, to_json(made)) == made


def test_the_life_of_a_validation() -> None:
    """Pending, InProgress, then Completed or Failed with the reason of its profile."""
    request = {"ValidationSpecification": {"ValidationProfiles": [{"ProfileName": "p"}]}}
    made = RegistryEntry(
        name="a",
        arn="a",
        created=1.0,
        modified=1.0,
        status="Pending",
        request=request,
        validations=model_registry.list_validations(request),
    )
    assert made.validations == ({"Name": "p", "Status": "NotStarted"},)
    begun = model_registry.begin_validation(made, {"training": "t"}, 2.0)
    assert (begun.status, begun.jobs) == ("InProgress", {"training": "t"})
    assert begun.validations == ({"Name": "p", "Status": "InProgress"},)
    assert model_registry.complete_validation(begun, 3.0).validations == ({"Name": "p", "Status": "Completed"},)
    failed = model_registry.fail_validation(begun, "why", 3.0)
    assert failed.validations == ({"Name": "p", "Status": "Failed", "FailureReason": "why"},)
    with pytest.raises(ValueError, match="does not go from Failed to Completed"):
        model_registry.complete_validation(failed, 4.0)


def test_a_validation_that_is_skipped() -> None:
    """SkipModelValidation All leaves the profile out."""
    request = {"ValidationSpecification": {"ValidationProfiles": [{"ProfileName": "p"}]}, "SkipModelValidation": "All"}
    assert model_registry.find_profile(request) is None
    assert model_registry.list_validations(request) == ()
