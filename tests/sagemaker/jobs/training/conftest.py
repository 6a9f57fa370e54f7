"""An emulated AWS for training jobs: its control plane is real, programs are only stated to run, unless a file asks."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.accounts import TrainingAccount, open_training_account
from tests.support.fakes import FakeContainers, FakeTrainer
from tests.support.short_waits import shorten_waits
from tritonforge.sagemaker.client import Session

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
def _impatient() -> Iterator[None]:
    """An emulated resource changes in milliseconds, so its status is requested as often."""
    with shorten_waits():
        yield


@pytest.fixture
def gate(trainer: FakeTrainer) -> Iterator[Any]:
    """Jobs do not end while this is clear."""
    yield trainer.gate
    trainer.gate.set()
