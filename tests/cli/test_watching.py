"""What an interruption does to a job on SageMaker, where the question about it is interrupted as well."""

from __future__ import annotations

import sys
from typing import Any, cast

import click
import pytest

from tritonforge.cli import watching
from tritonforge.cli.terminal import steps
from tritonforge.sagemaker.client import Session
from tritonforge.sagemaker.jobs.kinds import TRAINING


def test_a_second_interruption_tells_that_the_job_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is paid for, so nobody leaves without having been document."""

    def interrupted(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    def aborted(*_: Any, **__: Any) -> Any:
        raise click.Abort

    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    monkeypatch.setattr(click, "confirm", aborted)
    with steps() as progress:
        assert watching.watched(cast("Session", None), TRAINING, "a-job", progress, interrupted) is None
    assert "the training job a-job goes on without us" in capsys.readouterr().err
