"""An emulated AWS for the deployment's tests: the control plane is real, containers are stand-ins."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.deployments import make_repository
from tests.support.fakes import FakeContainers
from tests.support.short_waits import shorten_waits
from tritonforge.emulator import Emulator
from tritonforge.sagemaker.client import Session
from tritonforge.sagemaker.endpoints import Deployment

_numbers = itertools.count()


def _reason(variant: Any) -> str | None:
    return "did not pass the ping health check." if "BROKEN" in variant.container.environment else None


@pytest.fixture(scope="module")
def emulator() -> Iterator[Emulator]:
    """SageMaker on localhost, faster than AWS, for all tests of this directory."""
    with Emulator(speed=1000.0, containers=FakeContainers(fails=_reason)) as running:
        before = {name: os.environ.get(name) for name in running.environment}
        os.environ.update(running.environment)
        yield running
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@pytest.fixture(autouse=True)
def _impatient() -> Iterator[None]:
    """An emulated resource changes in milliseconds, so its status is requested as often."""
    with shorten_waits():
        yield


@pytest.fixture(scope="module")
def session(emulator: Emulator) -> Iterator[Session]:
    """A session of the emulated account, one for a file's tests: its clients take longer to make than most tests."""
    with Session(endpoint_url=emulator.url, region_name=emulator.region) as found:
        yield found


@pytest.fixture
def name() -> str:
    """A name that no other test has."""
    return f"ship-{os.getpid()}-{next(_numbers)}"


@pytest.fixture
def wanted(emulator: Emulator, name: str) -> Deployment:
    """A deployment of the repository that is given for it."""
    return Deployment(name=name, image="24.09", execution_role_arn=emulator.role_arn, instance_type="ml.m5.xlarge")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A small model repository."""
    return make_repository(tmp_path / "repository")
