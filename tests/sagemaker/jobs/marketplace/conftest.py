"""An emulator that validates with the real program, and short ways to a session of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sagemaker.training.conftest import Account, served
from tests.support.declared_program import declared
from tests.support.fakes import FakeContainers, FakeTrainer
from tritonforge.sagemaker.client import Session
from tritonforge.sagemaker.jobs import polling


@pytest.fixture(scope="module")
def account() -> Iterator[Account]:
    """An emulator that runs real programs."""
    yield from served()


@pytest.fixture(scope="module")
def desk() -> Iterator[Account]:
    """An emulator whose jobs run nothing."""
    yield from served(containers=FakeContainers(), trainer=FakeTrainer())


@pytest.fixture
def session(desk: Account) -> Iterator[Session]:
    """A session of the emulated account."""
    with Session(region_name="us-east-1", endpoint_url=desk.emulator.url) as made:
        yield made


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program folder with its declaration."""
    return declared(tmp_path_factory.mktemp("programs") / "counter")


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """An emulated validation changes in milliseconds, so it is looked at as often."""
    monkeypatch.setattr(polling, "_FIRST_PAUSE", 0.02)
