"""An emulator with stand-in containers, unmodified boto3 clients, and what a test needs to have a model in place."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.accounts import EndpointAccount, open_account
from tests.support.fakes import FakeContainers
from tritonforge.emulator.hosting import Variant
from tritonforge.sagemaker import service_model


def reason(variant: Variant) -> str | None:
    """A variant whose model has FAILS in its environment does not start, for that reason."""
    return variant.container.environment.get("FAILS")


@pytest.fixture(scope="module")
def account() -> Iterator[EndpointAccount]:
    """One emulator for a file's tests: every test uses names of its own."""
    containers = FakeContainers(fails=reason)
    with open_account(EndpointAccount, containers=containers, speed=200.0) as account:
        yield account
    assert containers.running == []


@pytest.fixture(scope="session")
def outputs() -> Any:
    """The service model's operations, by name."""
    return lambda name: service_model.find_operation("sagemaker", name)
