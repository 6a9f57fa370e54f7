"""A job on SageMaker in the terminal: what an interruption of the question does."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any, cast

import click
import pytest

from tritonforge.cli import job_monitor
from tritonforge.cli.terminal import steps
from tritonforge.sagemaker.jobs.kinds import TRAINING
from tritonforge.sagemaker.jobs.lifecycle import SageMakerJob


def test_a_second_interruption_reports_that_the_job_is_still_running(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The job costs money, so its state is always reported."""

    def interrupt(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    def abort(*_: Any, **__: Any) -> Any:
        raise click.Abort

    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    monkeypatch.setattr(click, "confirm", abort)
    job = SimpleNamespace(kind=TRAINING, name="a-job", watch=interrupt)
    with steps() as progress:
        assert job_monitor.watch(cast("SageMakerJob[Any]", job), progress) is None
    assert "the training job a-job is still running" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("state", "has_exceeded_time", "code"),
    [("Completed", False, 0), ("Failed", False, 1), ("Stopped", False, 130), ("Stopped", True, 1)],
)
def test_exit_codes(state: str, has_exceeded_time: bool, code: int) -> None:
    assert job_monitor.choose_exit_code({"state": state}, has_exceeded_time=has_exceeded_time) == code
