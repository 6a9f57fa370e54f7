"""An emulated AWS for training jobs: its control plane is real, programs are only stated to run, unless a file asks."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.accounts import TrainingAccount, open_training_account
from tests.support.fakes import FakeContainers, FakeTrainer
from tritonforge.emulator.control import cloudwatch
from tritonforge.sagemaker.client import Session
from tritonforge.sagemaker.jobs import polling

_numbers = itertools.count()


@pytest.fixture(scope="module")
def trainer() -> FakeTrainer:
    """What is in for programs in `desk`."""
    return FakeTrainer()


@pytest.fixture(scope="module")
def desk(trainer: FakeTrainer) -> Iterator[TrainingAccount]:
    """An emulator whose jobs run nothing; boto3 finds it by the environment."""
    with open_training_account(containers=FakeContainers(), trainer=trainer) as account:
        yield account


@pytest.fixture
def session(desk: TrainingAccount) -> Iterator[Session]:
    """A session of the emulated account."""
    with Session(region_name="us-east-1", endpoint_url=desk.emulator.url) as made:
        yield made


@pytest.fixture
def name() -> str:
    """A name that no other test has."""
    return f"learn-{os.getpid()}-{next(_numbers)}"


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """An emulated job changes in milliseconds, so it is looked at as often."""
    monkeypatch.setattr(polling, "_FIRST_PAUSE", 0.02)
    monkeypatch.setattr(polling, "_LAST_PAUSE", 0.1)
    monkeypatch.setattr(cloudwatch, "_PERIOD", 0.02)  # the log is written within such a pause


@pytest.fixture
def gate(trainer: FakeTrainer) -> Iterator[Any]:
    """Jobs do not end while this is clear."""
    yield trainer.gate
    trainer.gate.set()
