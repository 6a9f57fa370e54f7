"""An emulator whose containers echo, refuse, fail or wait as a record asks, and short ways to a transform job."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.accounts import TransformAccount, open_account
from tests.support.echo_containers import Echoes


@pytest.fixture(scope="module")
def account() -> Iterator[TransformAccount]:
    """One emulator for a file's tests: every test uses names of its own."""
    containers = Echoes()
    with open_account(TransformAccount, containers=containers, limits={"ml.c5.xlarge": 3}) as account:
        yield account
    assert containers.running == []
