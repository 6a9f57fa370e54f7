"""An emulator that validates with the real program, and short ways to a session of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.accounts import TrainingAccount, open_training_account
from tests.support.declared_program import write_declared_program
from tests.support.fakes import FakeContainers, FakeTrainer
from tests.support.short_waits import shorten_waits
from tritonforge.sagemaker.client import Session


@pytest.fixture(scope="module")
def account() -> Iterator[TrainingAccount]:
    """An emulator that runs real programs."""
    with open_training_account() as account:
        yield account


@pytest.fixture(scope="module")
def desk() -> Iterator[TrainingAccount]:
    """An emulator whose jobs run nothing."""
    with open_training_account(containers=FakeContainers(), trainer=FakeTrainer()) as account:
        yield account


@pytest.fixture
def session(desk: TrainingAccount) -> Iterator[Session]:
    """A session of the emulated account."""
    with Session(region_name="us-east-1", endpoint_url=desk.emulator.url) as made:
        yield made


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program folder with its declaration."""
    return write_declared_program(tmp_path_factory.mktemp("programs") / "counter")


@pytest.fixture(autouse=True)
def _impatient() -> Iterator[None]:
    """An emulated resource changes in milliseconds, so its status is requested as often."""
    with shorten_waits():
        yield
