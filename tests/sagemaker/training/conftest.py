"""An emulator that trains and serves a program folder of these tests, and short ways to its jobs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.accounts import TrainingAccount, open_training_account
from tests.support.fakes import FakeContainers, FakeTrainer


@pytest.fixture(scope="module")
def account() -> Iterator[TrainingAccount]:
    """An emulator that runs real programs, one for a file's tests: every test uses names of its own."""
    with open_training_account() as account:
        yield account


@pytest.fixture(scope="module")
def trainer() -> FakeTrainer:
    """What is in for the engine in `fake_account`."""
    return FakeTrainer()


@pytest.fixture(scope="module")
def fake_account(trainer: FakeTrainer) -> Iterator[TrainingAccount]:
    """An emulator whose jobs and containers run nothing."""
    with open_training_account(containers=FakeContainers(), trainer=trainer, limits={"ml.c5.xlarge": 1}) as account:
        yield account
